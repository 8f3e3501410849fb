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
    """The query at one position: every epoch is a fresh permutation, and any position can be computed alone (resume)."""
    epoch, offset = divmod(position, len(problems))
    return problems[np.random.default_rng([seed, epoch]).permutation(len(problems))[offset]]


def tag_at(position: int, problems: Sequence[Problem], per_step: int) -> str:
    """Names a position in episode ids and seeds: by the step that it belongs to in order, and from the second epoch on by the epoch
    too, since a step on the border of two epochs may hold one problem twice."""
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
