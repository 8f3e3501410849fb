"""What an operator may use while it runs on the trusted side. The sandbox host implements it and meters every use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workflow.problem import Problem
from workflow.verifiers.runner import ProgramResult
from workflow.worker.interface import Message


@dataclass(frozen=True, slots=True)
class TestReport:
    """Result of running tests on a solution, as a workflow sees it."""

    passed: bool
    feedback: str
    """What failed, test by test; empty where all passed."""

    __test__ = False  # not a pytest class


class OperatorContext(Protocol):
    """One operator call's view of its run."""

    @property
    def problem(self) -> Problem:
        """The public view of the run's problem."""
        ...

    async def ask(self, messages: Sequence[Message], *, temperature: float | None = None, max_tokens: int | None = None) -> str:
        """One worker call, charged to the run's budget. Raises BudgetExceeded or WorkerError."""
        ...

    async def run_tests(self, solution: str, tests: Sequence[str]) -> TestReport:
        """Runs public (or worker-written) tests on a solution in the box, charged as one test run."""
        ...

    async def run_program(self, source: str) -> ProgramResult:
        """Runs a whole program in the box."""
        ...


class BudgetExceeded(Exception):
    """The run's calls or tokens are spent; reaches the workflow as an error that it may handle."""
