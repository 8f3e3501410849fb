"""Advantages by name: verl's estimators, ours and one's own, on one reward per row of tokens.

Pure tensors: no model, no Ray. ``trainer.algorithm.names`` says which names there are.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rollout.groups.flat import FLAT_SPREAD
from trainer.algorithm.names import DEFAULT_ESTIMATOR, ESTIMATORS, VERL_ESTIMATORS, check_names
from trainer.engines.platform import select_platform
from trainer.settings import GRPOSettings

select_platform()

from verl.trainer.config import AlgoConfig  # noqa: E402


@dataclass(frozen=True, slots=True)
class Terms:
    """What rewards are made of, for estimators that look at each term by itself."""

    weights: Mapping[str, float]
    """Of the terms that count, by name."""
    values: Mapping[str, torch.Tensor]
    """Of each of these terms, unweighted, shape (B,); weighted they add up to the rewards."""


def advantages(
    rewards_B: torch.Tensor,
    group_of_row: Sequence[int],
    loss_mask_BT: torch.Tensor,
    settings: GRPOSettings,
    terms: Terms | None = None,
    of_rows: int = 0,
) -> torch.Tensor:
    """Advantages of every sampled token: the one place where rewards become advantages.

    Whatever the estimator, a group whose rewards do not differ (``rollout.groups.flat.FLAT_SPREAD``) teaches nothing: its
    advantages are 0, and it has no part in what the estimator computes of the batch as a whole.

    Args:
        rewards_B: one reward per row, shape (B,): of an episode, or of whatever part of it the mask covers.
        group_of_row: index of the group in which each row is compared; every group has at least 2 rows.
        loss_mask_BT: 1 on the sampled tokens that the reward is given to, shape (B, T).
        settings: names the estimator.
        terms: what the rewards are made of; left out: one term, the reward itself.
        of_rows: rows that the loss is over, where there are others whose groups are flat; 0: these.

    Returns:
        advantages_BT: shape (B, T), 0 where the mask is 0.

    Raises:
        ValueError: the estimator is unknown, or cannot be computed from rewards and groups.
    """
    check_names(settings)
    terms = terms or Terms({"reward": 1.0}, {"reward": rewards_B})
    rewards_B, mask_BT = rewards_B.to(torch.float32), loss_mask_BT.to(torch.float32)
    group_B = torch.as_tensor(np.unique(np.asarray(group_of_row), return_inverse=True)[1])
    centred_B, differs_B = _compare(rewards_B, group_B)
    advantages_BT = torch.zeros_like(mask_BT)
    if not differs_B.any():
        return advantages_BT
    if settings.advantage == DEFAULT_ESTIMATOR:
        advantages_BT[differs_B] = _over_deviation(centred_B[differs_B], mask_BT[differs_B], settings.min_deviation)
    else:
        share = int(differs_B.sum()) / max(of_rows, len(rewards_B))
        left = Terms(terms.weights, {name: values_B[differs_B] for name, values_B in terms.values.items()})
        advantages_BT[differs_B] = _by_name(rewards_B[differs_B], group_B[differs_B], mask_BT[differs_B], share, settings, left)
    return advantages_BT * mask_BT


def _compare(rewards_B: torch.Tensor, group_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each reward less the mean of its group, and True for the rows of groups whose rewards differ."""

    def of_group(reduction: str) -> torch.Tensor:
        return torch.zeros(len(rewards_B)).scatter_reduce(0, group_B, rewards_B, reduction, include_self=False)[group_B]

    return rewards_B - of_group("mean"), of_group("amax") - of_group("amin") > FLAT_SPREAD


def _by_name(
    rewards_B: torch.Tensor, group_B: torch.Tensor, mask_BT: torch.Tensor, share: float, settings: GRPOSettings, terms: Terms
) -> torch.Tensor:
    """What an estimator of verl's signature makes of the rows whose groups are not flat, shape (B, T).

    It gets those of these arguments that it names: ``token_level_rewards`` (B, T), each episode's reward at its last token;
    ``response_mask`` (B, T); ``index`` (B,), the number of each row's group; ``config``, verl's AlgoConfig;
    ``norm_adv_by_std_in_grpo``; ``terms``, by name each term of the reward, unweighted, (B,); ``term_weights``, their weights by name; and
    ``min_deviation``. It returns (advantages, returns); returns have no use here.

    verl's own compare rewards with each other, so that adding the same to all of them changes nothing, but its GPG counts rewards of
    exactly 0: it is given none. What GPG (arXiv 2504.02546) divides by is ``share``, that of the rows that are left.
    """
    function = ESTIMATORS.find(settings.advantage)
    if settings.advantage in VERL_ESTIMATORS:
        rewards_B = rewards_B - rewards_B.min() + 1
    last_B = mask_BT.shape[1] - 1 - mask_BT.flip(1).argmax(dim=1)
    token_rewards_BT = torch.zeros_like(mask_BT)
    token_rewards_BT[torch.arange(len(last_B)), last_B] = rewards_B
    arguments: dict[str, Any] = {
        "token_level_rewards": token_rewards_BT,
        "response_mask": mask_BT,
        "index": group_B.numpy(),
        "config": AlgoConfig(adv_estimator=settings.advantage, norm_adv_by_std_in_grpo=settings.norm_by_std),
        "norm_adv_by_std_in_grpo": settings.norm_by_std,
        "f_norm": share,
        "terms": terms.values,
        "term_weights": terms.weights,
        "min_deviation": settings.min_deviation,
    }
    known = inspect.signature(function).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    return function(**{name: value for name, value in arguments.items() if takes_any or name in known})[0]


def _over_deviation(centred_B: torch.Tensor, mask_BT: torch.Tensor, min_deviation: float) -> torch.Tensor:
    """REINFORCE++ with the group's mean as baseline (arXiv 2501.03262): the difference to it, over the deviation in the batch.

    Mean and deviation are those over episodes: that mean is 0. verl's function takes them over tokens, so where long episodes are the
    bad ones it moves all others up, some across 0, and long episodes alone decide by what is divided.
    """
    deviation = centred_B.square().mean().sqrt().clamp_min(max(min_deviation, 1e-6))
    return (centred_B / deviation)[:, None] * mask_BT
