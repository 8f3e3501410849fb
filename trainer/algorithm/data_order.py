"""Which query stands at which position of the training stream, and how far ahead the stream may collect."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from rollout.groups.flat import FlatHistory, is_flat
from rollout.groups.stream import StreamLimits
from rollout.records import Group
from trainer.settings import GRPOSettings, TrainerSettings
from workflow.problem import Problem


def problem_at(position: int, problems: Sequence[Problem], seed: int) -> Problem:
    """The query at one position: every epoch is a fresh permutation, and any position can be computed alone (resume).

    An epoch holds each problem as often as its weight says: whole times, and of a fraction those whose turn it is (0.5: every other epoch).
    """
    classes = _classes(problems)
    epoch, offset = divmod(position, sum(quota for _, quota in classes))
    drawn: list[int] = []
    for number, (members, quota) in enumerate(classes):
        whole, rest = divmod(quota, len(members))
        drawn += members * whole + [members[_turn(at, len(members), [seed, number])] for at in range(epoch * rest, (epoch + 1) * rest)]
    return problems[drawn[np.random.default_rng([seed, epoch]).permutation(len(drawn))[offset]]]


def _classes(problems: Sequence[Problem]) -> list[tuple[list[int], int]]:
    """Numbers of the problems of each weight, and how many of them an epoch holds."""
    by_weight: dict[float, list[int]] = {}
    for number, problem in enumerate(problems):
        by_weight.setdefault(problem.weight, []).append(number)
    return [(members, max(1, round(weight * len(members)))) for weight, members in by_weight.items()]


def _turn(at: int, count: int, seeds: list[int]) -> int:
    """Whose turn it is at a place of an endless row of permutations."""
    lap, offset = divmod(at, count)
    return int(np.random.default_rng([*seeds, lap]).permutation(count)[offset])


def tag_at(position: int, problems: Sequence[Problem], per_step: int) -> str:
    """Names a position in episode ids and seeds: by the step that it belongs to in order, and from the second epoch on by the epoch
    too, since a step on the border of two epochs may hold one problem twice; with weights, any step may."""
    if any(problem.weight != 1 for problem in problems):
        return f"train-{position // per_step}-{position % per_step}"
    epoch = position // len(problems)
    return f"train-{position // per_step}" + (f"-epoch-{epoch}" if epoch else "")


def stream_limits(settings: TrainerSettings) -> StreamLimits:
    """The stream's bounds as the settings give them."""
    return StreamLimits(settings.grpo.problems_per_step, settings.max_staleness, settings.late_share, settings.grpo.refill)


def flat_rule(settings: GRPOSettings) -> Callable[[Group], bool]:
    """Which groups are flat."""
    return partial(is_flat, by=settings.flat_by, tolerance=settings.flat_tolerance)


def flat_history(settings: TrainerSettings, problems: Sequence[Problem], in_a_row: Mapping[str, int] | None) -> FlatHistory | None:
    """Which problems to skip; None where the settings skip none."""
    if not settings.grpo.skip_flat:
        return None
    return FlatHistory(lambda position: problem_at(position, problems, settings.seed).id, settings.grpo.skip_flat, settings.seed, in_a_row)
