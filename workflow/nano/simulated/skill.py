"""How well the simulated worker does each job: the probabilities of ``SimulatedWorkerSettings`` put to work.

Pure functions of (puzzle, texts, random stream). What follows from no setting is said here: an unsolved problem that is
not the favourite misreading gets one wrong step, and with probability ``FURTHER_MISTAKE`` each, more; a review
names the first bug that it finds; a worker-written test is right as often as the worker solves the problem;
instructions such as "think step by step" change nothing.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from workflow.nano.simulated.puzzle import Bug, Puzzle
from workflow.settings import SimulatedWorkerSettings

FURTHER_MISTAKE = 0.3

_NOTE = re.compile(r"Point (\d+): ")
_ASSERT = re.compile(r"\bassert\b.*")


def stream(*key: object) -> random.Random:
    """A random stream that depends on its key alone."""
    digest = blake2b("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


@dataclass(frozen=True, slots=True)
class Review:
    """What a reviewer says."""

    approved: bool
    notes: str
    """One line a point; empty where approved."""


class Skill:
    """The worker's abilities under one setting."""

    def __init__(self, settings: SimulatedWorkerSettings, above: float = 0.0) -> None:
        """
        Args:
            above: how much higher the logit of ``solve`` is than the settings'.
        """
        self.settings = settings
        self._above = above
        self._favourites: dict[str, tuple[Bug, ...]] = {}
        self._solve: dict[str, float] = {}

    def solve_probability(self, puzzle: Puzzle) -> float:
        """Chance of a right program at the first try."""
        found = self._solve.get(puzzle.key)
        if found is None:
            base = min(max(_at(self.settings.solve, puzzle.level), 1e-6), 1 - 1e-6)
            shift = stream(self.settings.seed, "shift", puzzle.key).gauss(0, self.settings.problem_shift_sigma) + self._above
            found = self._solve[puzzle.key] = 1 / (1 + math.exp(-math.log(base / (1 - base)) - shift))
        return found

    def favourite(self, puzzle: Puzzle) -> tuple[Bug, ...]:
        """The problem's own misreading: the same wrong program each time."""
        if puzzle.key not in self._favourites:
            self._favourites[puzzle.key] = puzzle.mistake(stream(self.settings.seed, "favourite", puzzle.key))
        return self._favourites[puzzle.key]

    def generate(self, puzzle: Puzzle, rng: random.Random) -> str:
        """A program for the problem."""
        if rng.random() < self.solve_probability(puzzle):
            return puzzle.program(())
        if rng.random() < self.settings.favourite_misreading:
            return puzzle.program(self.favourite(puzzle))
        bugs = puzzle.mistake(rng)
        while len(bugs) < puzzle.sites and rng.random() < FURTHER_MISTAKE:
            bugs = puzzle.mistake(rng, bugs)
        return puzzle.program(bugs)

    def review(self, puzzle: Puzzle, candidate: str, rng: random.Random) -> Review:
        """Notes on the bugs found, or a false alarm, or approval."""
        bugs = puzzle.bugs(candidate)
        if bugs is None:
            return Review(False, "This is not a complete program for the problem.")
        finds = _at(self.settings.review_finds, puzzle.level)
        found = [bug.site for bug in bugs if rng.random() < finds][:1]
        if not found and rng.random() < self.settings.review_false_alarm:
            wrong = {bug.site for bug in bugs}
            sound = [site for site in range(puzzle.sites) if site not in wrong]
            found = [rng.choice(sound)] if sound else []
        return Review(not found, "\n".join(f"Point {site + 1}: {puzzle.describe(site)}." for site in found))

    def revise(self, puzzle: Puzzle, candidate: str, feedback: str, rng: random.Random) -> str:
        """The candidate after acting on feedback; a new program where the candidate is none."""
        bugs = puzzle.bugs(candidate)
        if bugs is None:
            return self.generate(puzzle, rng)
        settings, level = self.settings, puzzle.level
        noted = {int(number) - 1 for number in _NOTE.findall(feedback)}
        failing = bool(_ASSERT.search(feedback)) and puzzle.accepts(feedback)
        misled = bool(noted - {bug.site for bug in bugs}) or (bool(_ASSERT.search(feedback)) and not (failing and bugs))
        favourite = self.favourite(puzzle)
        kept: list[Bug] = []
        for bug in bugs:
            chance = settings.revise_blind
            if failing:
                chance = max(chance, _at(settings.revise_with_test, level))
            if bug.site in noted:
                chance = max(chance, _at(settings.revise_with_review, level))
            if bug in favourite:
                chance /= 2
            if rng.random() >= chance:
                kept.append(bug)
        left = tuple(kept)
        if misled and rng.random() < settings.false_alarm_breaks:
            left = puzzle.mistake(rng, left)
        return candidate if left == bugs else puzzle.program(left)

    def vote(self, puzzle: Puzzle, candidates: Sequence[str]) -> int:
        """Position of the first candidate that does what most candidates do; unreadable ones have no vote."""
        ways = [puzzle.behaviour(candidate) for candidate in candidates]
        counts = Counter(way for way in ways if way is not None)
        return ways.index(max(counts, key=lambda way: counts[way])) if counts else 0

    def write_test(self, puzzle: Puzzle, rng: random.Random) -> str:
        """An assert for the problem, right as often as the worker solves it."""
        return puzzle.write_test(rng, right=rng.random() < self.solve_probability(puzzle))


def _at(table: Sequence[float], level: int) -> float:
    return table[min(level, len(table)) - 1]
