"""Finds the puzzle that a prompt is about."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from workflow.nano.problems import find_query
from workflow.nano.simulated.nano_puzzle import nano_puzzle
from workflow.nano.simulated.number_puzzle import NumberPuzzle
from workflow.nano.simulated.puzzle import Puzzle
from workflow.nano.simulated.reference_puzzle import ReferencePuzzle
from workflow.problem import Problem
from workflow.verifiers import find_verifier


class Known(NamedTuple):
    """A recognised problem."""

    puzzle: Puzzle
    has_examples: bool
    """True where the query comes with public tests."""


class Book:
    """Every nano problem, read from its query, and the problems with references that it was given."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        """Raises ValueError where none of the given problems has a reference, or one is not Python."""
        given = list(problems)
        with_reference = [problem for problem in given if problem.reference is not None]
        if given and not with_reference:
            raise ValueError(
                "No problem of the task set has a reference solution, so the simulated worker cannot play: set worker.base_url."
            )
        self._problems = {problem.query.strip(): problem for problem in with_reference}
        self._puzzles: dict[str, ReferencePuzzle | NumberPuzzle] = {}
        self.find = lru_cache(maxsize=20_000)(self._find)

    def _find(self, text: str) -> Known | None:
        """The problem in a text, which may hold more than the query; None where no problem is known."""
        problem = self._problems.get(text.strip()) or next((known for query, known in self._problems.items() if query in text), None)
        if problem is not None:
            if problem.id not in self._puzzles:
                puzzle = ReferencePuzzle if find_verifier(problem.verifier).is_code else NumberPuzzle
                self._puzzles[problem.id] = puzzle(problem)
            return Known(self._puzzles[problem.id], problem.has_examples)
        found = find_query(text)
        return None if found is None else Known(nano_puzzle(*found), "Example: f(" in text)
