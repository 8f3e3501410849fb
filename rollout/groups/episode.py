"""One conversation with the policy, or with its teacher: it writes a workflow, reads what the public tests say of it, and writes the
next one (paper sections 3.2 and 3.3).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rollout.prompt.feedback import feedback_text, is_settled
from rollout.records import Completion, Round
from rollout.settings import RolloutSettings
from sandbox.records import Run
from workflow.language.parse import parse_workflow
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow


class Renderer(Protocol):
    """Writes the policy's prompts; ``rollout.prompt.meta_prompt.MetaPrompt`` is the real one."""

    @property
    def opened(self) -> str:
        """The tag of the thoughts inside which the prompts end; empty where they end outside."""
        ...

    def render(self, problem: Problem) -> tuple[int, ...]:
        """The problem as prompt token ids."""
        ...

    def feedback(self, text: str, *, ended: bool) -> tuple[int, ...]:
        """The token ids between two completions; ``cancel_all``: the first one sampled its own end."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of sampled tokens, without special ones, as ``Completion.text`` has it."""
        ...


@dataclass(frozen=True, slots=True)
class Conversation:
    """The rounds of one episode."""

    rounds: tuple[Round, ...]
    judged: int
    """Index of the round whose workflow is the result."""
    broken: bool
    """True where a machine failed before a further round could be asked for: nothing is known of the episode's worth."""


async def converse(
    first: Completion,
    ask: RolloutSettings,
    *,
    opened: str = "",
    answer: Callable[[int, Completion, str], Awaitable[tuple[Completion, tuple[int, ...]]]],
    run: Callable[[int, Workflow], Awaitable[tuple[Run, ...]]],
    workers: tuple[str, ...] = (),
) -> Conversation:
    """Up to ``ask.rounds`` rounds, the first of which has been sampled.

    Args:
        opened: the tag of the thoughts inside which the prompts end, as ``Renderer.opened``.
        answer: (round from 0, completion before, feedback on it) -> the next completion, and the tokens between the two.
        run: (round from 0, workflow) -> its executions.
        workers: whom operators may ask by name.
    """
    rounds: list[Round] = []
    completion, feedback, feedback_ids = first, "", ()
    while True:
        number = len(rounds)
        parsed = parse_workflow(opened + completion.text, workers)
        workflow, refusal = (parsed, None) if isinstance(parsed, Workflow) else (None, parsed)
        runs = await run(number, workflow) if workflow is not None else ()
        rounds.append(Round(completion, workflow, refusal, runs, feedback, feedback_ids))
        if len(rounds) == ask.rounds or (ask.stop_when_settled and is_settled(runs)):
            return Conversation(tuple(rounds), choose_round(rounds, ask), broken=False)
        if runs and runs[0].outcome is Outcome.INFRA_ERROR:
            return Conversation(tuple(rounds), number, broken=True)
        feedback = feedback_text(number + 1, ask.rounds, refusal, runs[0] if runs else None, ask.feedback_reply_characters)
        completion, feedback_ids = await answer(number + 1, completion, feedback)


def choose_round(rounds: Sequence[Round], ask: RolloutSettings) -> int:
    """Index of the round whose workflow is the episode's result; public tests alone decide, hidden ones never."""
    if ask.judged_round == "last":
        return len(rounds) - 1
    return max(range(len(rounds)), key=lambda index: (rounds[index].workflow is not None, rounds[index].public_performance, index))
