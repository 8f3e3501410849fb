"""What every verifier is: what is asked for, how an answer is read and judged, and which answers must never pass."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from workflow.problem import Problem
from workflow.verifiers.runner import Examined, Runner

Trust = Literal["parent", "split", "shared", "judge"]
"""Where a verdict is made: ``parent``, compared in the trusted process; ``split``, by tests in a process apart from the
candidate; ``shared``, by tests in the candidate's own process, with negative controls (never the only reward); ``judge``, by an LLM
that reads the answer and may be talked into it."""


class Verifier:
    """How answers of one kind are asked for and judged. It has no state: one object judges all answers.

    A subclass sets ``form`` and ``answer`` and writes ``compare``; or ``examine``, where something must run to judge. It judges by the
    tests and by what a workflow may see of the problem. Where it raises, the answer is not scored: the run counts as lost to
    infrastructure.
    """

    form: ClassVar[str]
    """What a worker reads about the form of a solution."""
    answer: ClassVar[str]
    """What a workflow returns, as the policy reads it; ``{entry_point}`` stands for the problem's."""
    trust: ClassVar[Trust] = "parent"
    is_code: ClassVar[bool] = False
    """True where a solution is Python code."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Installed packages that it needs in the box; a run adds them to ``sandbox.libraries``."""
    assert_as_test: ClassVar[str] = ""
    """A test made of an assert, which stands at ``{test}``; empty where an assert cannot judge a solution."""

    def __init_subclass__(cls) -> None:
        missing = [name for name in ("form", "answer") if not isinstance(getattr(cls, name, None), str)]
        if cls.compare is Verifier.compare and cls.examine is Verifier.examine:
            missing.append("compare")
        if missing:
            raise TypeError(f"the verifier {cls.__name__} has no {' and no '.join(missing)}")

    def read_solution(self, text: str, problem: Problem) -> str:
        """The solution in a worker's reply or in a workflow's answer."""
        return text.strip()

    def compare(self, solution: str, test: str) -> str | None:
        """What is wrong with a solution; None where it passes the test."""
        raise NotImplementedError

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        """One result a test, in order.

        Args:
            problem: without its hidden tests and its reference.
            tests: the problem's hidden or public ones, or such as a worker wrote.
        """
        solution = self.read_solution(answer, problem)
        return Examined([self.compare(solution, test) for test in tests])

    def controls(self, problem: Problem) -> Mapping[str, str]:
        """Answers that know nothing, by name: a problem that one of them passes is not trained on."""
        return {"an empty answer": "", "the query": problem.query}
