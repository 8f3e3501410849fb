"""Problems whose answer is no code as puzzles: a mistake in a step changes the number (GSM8K) or the text that comes out."""

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
    """One problem with a number; where its test is none, with the text of its reference."""

    def __init__(self, problem: Problem) -> None:
        number = read_number(problem.hidden_tests[0] if problem.hidden_tests else problem.reference or "")
        self._right = (problem.reference or "").strip() if number is None else number
        self.key = problem.query
        self.sites = max(1, len(_STEP.findall(problem.reference or "")))
        self.level = problem.level or min(self.sites, MAX_LEVEL)
        self._known: dict[Fraction | str, tuple[Bug, ...]] = {self._right: ()}

    def describe(self, site: int) -> str:
        return f"step {site + 1} of the calculation is not right"

    def program(self, bugs: Iterable[Bug]) -> str:
        """A worked answer; mistakes add what they changed."""
        bugs = tuple(sorted(bugs, key=lambda bug: bug.site))
        change = sum(int(str(bug.change)) for bug in bugs)
        if isinstance(self._right, str):
            text = f"not {self._right}, {change} off" if change else self._right
            self._known.setdefault(text, bugs)
            return text
        number = self._right + change
        self._known.setdefault(number, bugs)
        return f"Worked out in {self.sites} steps.\n#### {write_number(number)}"

    def bugs(self, candidate: str) -> tuple[Bug, ...] | None:
        answer = self._read(candidate)
        return None if answer is None else self._known.get(answer)

    def _read(self, candidate: str) -> Fraction | str | None:
        return candidate.strip() or None if isinstance(self._right, str) else read_number(candidate)

    def behaviour(self, candidate: str) -> Hashable:
        return self._read(candidate)

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
