"""Problems with a numeric answer (GSM8K) as puzzles: a mistake in a step changes the number that comes out."""

import random
import re
from collections.abc import Hashable, Iterable
from fractions import Fraction

from workflow.nano.simulated.puzzle import Bug
from workflow.number import read_number
from workflow.problem import Problem

_STEP = re.compile(r"<<.*?>>")
MAX_LEVEL = 6


class NumberPuzzle:
    """One problem with a number; raises ValueError where its test is none."""

    def __init__(self, problem: Problem) -> None:
        number = read_number(problem.hidden_tests[0] if problem.hidden_tests else problem.reference or "")
        if number is None:
            raise ValueError(f"The answer of problem {problem.id!r} is no number: correct it in the file.")
        self._right = number
        self.key = problem.query
        self.sites = max(1, len(_STEP.findall(problem.reference or "")))
        self.level = problem.level or min(self.sites, MAX_LEVEL)
        self._known: dict[Fraction, tuple[Bug, ...]] = {number: ()}

    def describe(self, site: int) -> str:
        return f"step {site + 1} of the calculation is not right"

    def program(self, bugs: Iterable[Bug]) -> str:
        """A worked answer; mistakes add what they changed."""
        bugs = tuple(sorted(bugs, key=lambda bug: bug.site))
        number = self._right + sum(int(str(bug.change)) for bug in bugs)
        self._known.setdefault(number, bugs)
        return f"Worked out in {self.sites} steps.\n#### {write_number(number)}"

    def bugs(self, candidate: str) -> tuple[Bug, ...] | None:
        number = read_number(candidate)
        return None if number is None else self._known.get(number)

    def behaviour(self, candidate: str) -> Hashable:
        return read_number(candidate)

    def mistake(self, rng: random.Random, present: tuple[Bug, ...] = ()) -> tuple[Bug, ...]:
        free = sorted(set(range(self.sites)) - {bug.site for bug in present})
        return tuple(sorted((*present, Bug(rng.choice(free), rng.randint(1, 12))), key=lambda bug: bug.site)) if free else present

    def write_test(self, rng: random.Random, right: bool) -> str:
        return "There is nothing to assert: the answer is a number."

    def accepts(self, tests: str) -> bool:
        return True


def write_number(number: Fraction) -> str:
    """A number as GSM8K writes it."""
    return str(number) if number.denominator == 1 else str(float(number))
