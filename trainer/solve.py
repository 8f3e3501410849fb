"""One query from end to end: what the policy reasons and writes, what its workflow does, what comes out."""

from dataclasses import dataclass

from rollout.records import Episode
from sandbox.records import Verdict
from trainer.settings import RunSettings
from trainer.system import System
from workflow.problem import Problem


@dataclass(frozen=True, slots=True)
class Solution:
    """The episode of one query and the verdict of the tests that came with it."""

    episode: Episode
    public_verdict: Verdict | None
    """The answer against the query's own tests; None where it has none or there is no answer."""

    @property
    def answer(self) -> str | None:
        """The text that the workflow returned."""
        return self.episode.runs[0].execution.answer if self.episode.runs else None


def query_problem(query: str, entry_point: str, tests: tuple[str, ...]) -> Problem:
    """A problem from the command line: only public tests, nothing hidden.

    Raises:
        ValueError: the query is empty or a test is not Python.
    """
    if not query.strip():
        raise ValueError("The query is empty: give the text of the problem to solve.")
    for test in tests:
        try:
            compile(test, "<test>", "exec")
        except SyntaxError as error:
            raise ValueError(f'The test {test!r} is not Python ({error.msg}): write it like "assert {entry_point}([1, 2]) == 3".') from None
    return Problem(id="query", query=query, entry_point=entry_point, public_tests=tests, hidden_tests=(), source="query")


async def solve(system: System, settings: RunSettings, problem: Problem, *, temperature: float = 0.0) -> Solution:
    """Samples one completion for the query, runs its workflow once and judges the answer by the query's own tests."""
    collector = await system.collector()
    (group,) = await collector.collect([problem], tag="solve", n=1, temperature=temperature, runs=1)
    episode = group.episodes[0]
    solution = Solution(episode, None)
    if problem.public_tests and solution.answer is not None:
        open_tests = Problem("query", problem.query, problem.entry_point, (), problem.public_tests)
        solution = Solution(episode, await (await system.sandbox()).judge(open_tests, solution.answer))
    return solution
