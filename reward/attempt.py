"""What the reward sees: the attempts of a group, and one repeat of an attempt, which is what a term reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reward.settings import RewardSettings
from sandbox.records import Run
from workflow.problem import Problem
from workflow.program import Workflow


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sibling of a group, as the reward sees it."""

    workflow: Workflow | None
    """None for a refusal."""
    runs: tuple[Run, ...]
    """Its executions with their verdicts; empty for a refusal."""
    others: tuple[tuple[Run, ...], ...] = ()
    """Executions of the episode's other rounds. Place k of each belongs to place k of ``runs``: they count in what the
    attempt spent, not in what it reached."""
    texts: tuple[str, ...] = ()
    """What the policy wrote, round by round; empty for a fixed workflow."""
    tokens: int = 0
    """Tokens that the policy sampled, all rounds together; 0 for a fixed workflow."""

    @property
    def repeats(self) -> int:
        """Times that the workflows of its rounds were run."""
        return max(len(runs) for runs in (self.runs, *self.others))

    def spent(self, repeat: int) -> tuple[Run, ...]:
        """What all rounds executed in one repeat; the judged round's run comes first, where it has one."""
        return tuple(runs[repeat] for runs in (self.runs, *self.others) if repeat < len(runs))


@dataclass(frozen=True, slots=True)
class Repeat:
    """One repeat of an attempt with all that a term of the reward may look at."""

    attempt: Attempt
    run: Run | None
    """The judged round's run; None where that round has no workflow."""
    spent: tuple[Run, ...]
    """What the workflows of all rounds executed in this repeat, the judged run first."""
    siblings: Sequence[Attempt]
    """All attempts of the group, this one among them."""
    problem: Problem
    settings: RewardSettings

    @property
    def is_answered(self) -> bool:
        """True where the workflow ran to an answer that was judged and counts; elsewhere the floor stands for the performance."""
        if self.run is None or self.run.verdict is None:
            return False
        return not (self.settings.require_worker and self.run.execution.own_answer)


def repeats_of(siblings: Sequence[Attempt], attempt: Attempt, problem: Problem, settings: RewardSettings) -> Iterator[Repeat]:
    """Each repeat of one of the siblings; a round without a workflow has no run to judge, and one repeat at least."""
    refused = attempt.workflow is None
    for number in range(max(attempt.repeats, 1) if refused else len(attempt.runs)):
        run = None if refused else attempt.runs[number]
        yield Repeat(attempt, run, attempt.spent(number), siblings, problem, settings)
