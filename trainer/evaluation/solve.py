"""One query from end to end: what the policy reasons and writes, what its workflow does, what comes out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rollout.records import Episode
from sandbox.records import Verdict
from trainer.settings import RunSettings
from workflow.outcome import Outcome
from workflow.problem import Problem

if TYPE_CHECKING:
    from trainer.system import System


@dataclass(frozen=True, slots=True)
class Solution:
    """The episode of one query and the verdict of the tests that came with it."""

    episode: Episode
    public_verdict: Verdict | None
    """The answer against the query's own tests; None where it has none or there is no answer."""

    @property
    def outcome(self) -> Outcome:
        """PASSED where an answer passes all of the query's own tests, ANSWERED where it has none; INFRA_ERROR where a machine failed."""
        if self.episode.refusal is not None:
            return self.episode.refusal.outcome
        if not self.episode.runs:
            return Outcome.INFRA_ERROR
        execution = self.episode.runs[0].execution
        return execution.outcome if self.public_verdict is None else self.public_verdict.outcome

    @property
    def answer(self) -> str | None:
        """The text that the workflow returned."""
        return self.episode.runs[0].execution.answer if self.episode.runs else None


async def solve(system: "System", settings: RunSettings, problem: Problem, *, temperature: float = 0.0) -> Solution:
    """Samples one completion for the query, runs its workflow once and judges the answer by the query's own tests."""
    collector = await system.collector()
    (group,) = await collector.collect([problem], tag="solve", n=1, temperature=temperature, runs=1)
    episode = group.episodes[0]
    solution = Solution(episode, None)
    if problem.public_tests and solution.answer is not None:
        open_tests = Problem("query", problem.query, problem.entry_point, (), problem.public_tests)
        solution = Solution(episode, await (await system.sandbox()).judge(open_tests, solution.answer))
    return solution
