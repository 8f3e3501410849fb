"""What a verifier may have run for it in the sandbox, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Examined(NamedTuple):
    """What was found of an answer, test by test."""

    results: list[str | None]
    """What is wrong; None where the test passed."""
    late: bool = False
    """True where a deadline of the clock ended a test: on a machine with less to do it might have ended otherwise."""
    grades: list[float] | None = None
    """How much of each test is reached, in [0, 1], where that is more than passed or not."""


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What a program that a worker wrote left behind."""

    ok: bool
    """True where it ran to its end."""
    output: str
    """Its standard output; where it failed, the limit that ended it or the last line of its error."""


class JudgeError(Exception):
    """The LLM that judges failed: a fault of the machine."""


class Runner(Protocol):
    """Runs foreign code in the box, within the limits of one judgement. What it raises is a fault of ours: let it pass."""

    async def test_apart(self, source: str, tests: Sequence[str]) -> Examined:
        """Tests that call the problem's function, in a process apart from the solution ``source``: it never sees what they expect."""
        ...

    async def test_beside(self, source: str, tests: Sequence[str]) -> Examined:
        """unittest cases in the process of the solution, each also with wrong expectations, which must fail."""
        ...

    async def run_programs(self, source: str, inputs: Sequence[str], output_bytes: int = 0) -> tuple[list[ProgramResult], bool]:
        """The program once for each standard input, in fresh processes, each with its own deadline; True beside the results where one
        of them passed.

        Args:
            output_bytes: kept of each output, where that is more than ``sandbox.limits.output_kib``.
        """
        ...

    async def ask(self, system: str, prompt: str, ordinal: int = 0) -> str:
        """The judge's reply, of ``settings.judge``; the same for the same request with the same ``ordinal``. Empty where its endpoint
        does not take the request, which is the answer's doing."""
        ...
