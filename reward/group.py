"""Scoring a group: the siblings are scored together, since diversity needs them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from reward import terms
from reward.score import Score
from reward.settings import RewardSettings
from sandbox.records import Run
from workflow.outcome import Outcome
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

    @property
    def repeats(self) -> int:
        """Times that the workflows of its rounds were run."""
        return max(len(runs) for runs in (self.runs, *self.others))

    def spent(self, repeat: int) -> tuple[Run, ...]:
        """What all rounds executed in one repeat; the judged round's run comes first, where it has one."""
        return tuple(runs[repeat] for runs in (self.runs, *self.others) if repeat < len(runs))


UNKNOWN = (Outcome.INFRA_ERROR, Outcome.ANSWERED)
"""Ends of a run that say nothing of its worth: a machine failed, or nobody judged it."""


def score_group(attempts: Sequence[Attempt], settings: RewardSettings) -> list[Score | None]:
    """A Score for each attempt, in order; None where nothing is known of it.

    Nothing is known of a run that infrastructure failed, nor of an answer that nobody judged (a query without hidden
    tests). An attempt's total is the mean over its other runs. A run that was judged is worth
    ``sum_k weight_k * term_k``. One that crashed, timed out or exhausted its budget, and a round without a workflow, is worth the
    floor in place of its performance, and less for whatever it cost: giving up makes nothing free, and a crash is never worth
    more than a wrong answer of the same workflow.
    """
    shares = terms.diversity([attempt.workflow.fingerprint if attempt.workflow else None for attempt in attempts])
    return [_score(attempt, share, settings) for attempt, share in zip(attempts, shares, strict=True)]


def _score(attempt: Attempt, diversity: float, settings: RewardSettings) -> Score | None:
    complexity = terms.complexity(attempt.workflow.units, settings) if attempt.workflow is not None else 0.0
    per_run = [
        _score_run(run, spent, complexity, diversity, settings)
        for run, spent in _repeats(attempt)
        if (run is None or run.outcome not in UNKNOWN) and all(one.outcome is not Outcome.INFRA_ERROR for one in spent)
    ]
    if not per_run:
        return None
    return Score(
        total=fmean(score.total for score in per_run),
        performance=fmean(score.performance for score in per_run),
        complexity=complexity,
        diversity=diversity,
        calls=fmean(score.calls for score in per_run),
        cost=fmean(score.cost for score in per_run),
        latency=fmean(score.latency for score in per_run),
        floored=any(score.floored for score in per_run),
    )


def _repeats(attempt: Attempt) -> list[tuple[Run | None, tuple[Run, ...]]]:
    """(the judged run, all that was spent beside it) of each repeat; a round without a workflow has no run to judge."""
    if attempt.workflow is None:
        return [(None, attempt.spent(repeat)) for repeat in range(max(attempt.repeats, 1))]
    return [(run, attempt.spent(repeat)) for repeat, run in enumerate(attempt.runs)]


def _score_run(run: Run | None, spent: Sequence[Run], complexity: float, diversity: float, settings: RewardSettings) -> Score:
    floored = run is None or run.verdict is None
    values = {
        "performance": terms.performance(run) if run is not None else 0.0,
        "complexity": complexity,
        "diversity": diversity,
        "calls": terms.calls(spent, settings),
        "cost": terms.cost(spent),
        "latency": terms.latency(spent),
    }
    weighted = {name: getattr(settings.weights, name) * value for name, value in values.items()}
    if floored:
        total = settings.floor + sum(min(value, 0.0) for name, value in weighted.items() if name != "performance")
    else:
        total = sum(weighted.values())
    return Score(total=total, floored=floored, **values)
