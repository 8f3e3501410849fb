"""Flat groups: those whose episodes do not differ in what they are compared by, so that nothing can be learnt from them."""

from collections.abc import Callable, Iterable, Mapping
from random import Random

from reward.score import Score
from reward.terms import PERFORMANCE
from rollout.records import Group

FLAT_SPREAD = 1e-4
"""Rewards of a group that lie no further apart do not differ, where a solved problem is worth about 1: what the clock or the last cent
of a bill makes of equal workflows teaches nothing."""
MOST_SKIPPED = 0.95
"""Probability of skipping a problem at most, however often its groups were flat: the policy changes."""


def is_flat(group: Group, by: str = "reward", tolerance: float = FLAT_SPREAD) -> bool:
    """True where no two scored episodes of the group lie further apart than ``tolerance``, no round of theirs that earns credit of its
    own does, and no edit tells what a call is worth.

    Args:
        by: ``reward``, or ``performance``: the share of hidden tests passed alone.
    """

    def lie_apart(scores: Iterable[Score | None]) -> bool:
        values = [score.total if by == "reward" else score.terms[PERFORMANCE] for score in scores if score is not None]
        return bool(values) and max(values) - min(values) > tolerance

    scored = [episode for episode in group.episodes if episode.score is not None]
    most = max((len(episode.rounds) for episode in scored), default=0)
    rounds = ([episode.rounds[number].score for episode in scored if number < len(episode.rounds)] for number in range(most))
    worth = [edit.difference if by == "reward" else edit.performance for edit in group.edits if edit.spans]
    told = any(one is not None and abs(one) > tolerance for one in worth)
    return not (told or lie_apart(episode.score for episode in scored) or any(map(lie_apart, rounds)))


class FlatHistory:
    """Which problems to skip before anything is sampled: those whose last groups were flat (GRESO, arXiv 2506.02177).

    A problem is skipped with probability 1 - (1 - skip_flat)^z after z flat groups in a row. What is drawn follows from the seed, the
    position and what was taken before, so a resumed stream skips the same.
    """

    def __init__(self, problem_at: Callable[[int], str], skip_flat: float, seed: int, in_a_row: Mapping[str, int] | None = None) -> None:
        """
        Args:
            problem_at: the id of the problem at a position of the stream.
            skip_flat: ``trainer.grpo.skip_flat``.
            in_a_row: flat groups in a row by problem id, of an earlier session.
        """
        self.in_a_row = dict(in_a_row or {})
        self._problem_at = problem_at
        self._skip_flat = skip_flat
        self._seed = seed

    def skips(self, position: int) -> bool:
        """Whether the group at this position is not worth its worker calls."""
        if not self.in_a_row:
            return False
        chance = 1 - (1 - self._skip_flat) ** self.in_a_row.get(self._problem_at(position), 0)
        return Random(f"{self._seed}/{position}").random() < min(chance, MOST_SKIPPED)

    def note(self, group: Group, flat: bool) -> None:
        """A group was taken; one of which machines left nothing to compare says nothing of its problem."""
        if sum(episode.score is not None for episode in group.episodes) < 2:
            return
        if flat:
            self.in_a_row[group.problem.id] = self.in_a_row.get(group.problem.id, 0) + 1
        else:
            self.in_a_row.pop(group.problem.id, None)
