"""What the simulated worker knows of one problem: right and wrong programs, and what is wrong with a given one."""

import random
from collections.abc import Hashable, Iterable
from typing import NamedTuple, Protocol


class Bug(NamedTuple):
    """One place of the right program with something else written there."""

    site: int
    """Number of the place, from 0."""
    change: Hashable
    """What is written instead; its meaning is the puzzle's own."""


class Puzzle(Protocol):
    """A problem with the programs that a worker might write for it. Foreign text is read, never executed."""

    @property
    def key(self) -> str:
        """Identity of the problem: what its per-problem skill shift and favourite misreading hang on."""
        ...

    @property
    def level(self) -> int:
        """Difficulty, 1 to 6."""
        ...

    @property
    def sites(self) -> int:
        """Number of places that can be wrong, at least 1."""
        ...

    def describe(self, site: int) -> str:
        """What belongs at a place, for a review note."""
        ...

    def program(self, bugs: Iterable[Bug]) -> str:
        """The program with these bugs; the right one where there are none."""
        ...

    def bugs(self, candidate: str) -> tuple[Bug, ...] | None:
        """What is wrong with a candidate; nothing where it behaves rightly, None where it is no program known here."""
        ...

    def behaviour(self, candidate: str) -> Hashable:
        """Equal for candidates that do the same as far as this puzzle can tell; None where it is no program known here."""
        ...

    def mistake(self, rng: random.Random, present: tuple[Bug, ...] = ()) -> tuple[Bug, ...]:
        """``present`` and one more bug at a free place, such that the program is still wrong; ``present`` where none fits."""
        ...

    def write_test(self, rng: random.Random, right: bool) -> str:
        """An assert on the function: a right one, or one that the right program fails."""
        ...

    def accepts(self, tests: str) -> bool:
        """False where the right program would fail one of the asserts in this text."""
        ...
