"""Advantages by name: verl's registered estimators on one reward per episode.

Pure tensors: no model, no Ray. Names are checked by ``check_names``, which a launch command calls before anything starts.
"""

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from trainer.settings import GRPOSettings
from trainer.verl_platform import select_platform

select_platform()

from verl.trainer.config import AlgoConfig  # noqa: E402
from verl.trainer.ppo import core_algos  # noqa: E402

LOSS_AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
"""What verl's ``agg_loss`` knows."""
GIVEN = {"token_level_rewards", "response_mask", "index"}
"""What an estimator may require: groups of episodes with one reward each offer no more."""


def estimator_names() -> list[str]:
    """Registered estimators that need only a reward per episode and the groups."""
    return sorted(name for name, function in core_algos.ADV_ESTIMATOR_REGISTRY.items() if _required(function) <= GIVEN)


def policy_loss_names() -> list[str]:
    """Registered policy losses that need no settings of their own without a default."""
    return sorted(set(core_algos.POLICY_LOSS_REGISTRY) - {"bypass_mode", "dro"})


def check_names(settings: GRPOSettings) -> None:
    """Refuses names that verl does not know, before anything has started.

    Raises:
        ValueError: an unknown estimator, policy loss or aggregation; the message has the nearest known names.
    """
    registered = core_algos.ADV_ESTIMATOR_REGISTRY
    if settings.advantage in registered and settings.advantage not in estimator_names():
        missing = ", ".join(sorted(_required(registered[settings.advantage]) - GIVEN))
        raise ValueError(
            f"trainer.grpo.advantage={settings.advantage} needs {missing}, which groups with one reward per episode "
            f"do not have: use one of {', '.join(estimator_names())}."
        )
    _check("advantage", settings.advantage, estimator_names())
    _check("policy_loss", settings.policy_loss, policy_loss_names())
    _check("loss_aggregation", settings.loss_aggregation, LOSS_AGGREGATIONS)


def advantages(rewards_B: torch.Tensor, group_of_row: Sequence[int], loss_mask_BT: torch.Tensor, settings: GRPOSettings) -> torch.Tensor:
    """Advantages of every sampled token.

    Args:
        rewards_B: one reward per episode, shape (B,).
        group_of_row: index of each episode's group; every group has at least 2 episodes.
        loss_mask_BT: 1 on sampled tokens, shape (B, T).
        settings: names the estimator.

    Returns:
        advantages_BT: shape (B, T), 0 where the mask is 0.

    Raises:
        ValueError: the estimator is unknown.
    """
    check_names(settings)
    function = core_algos.get_adv_estimator_fn(settings.advantage)
    mask_BT = loss_mask_BT.to(torch.float32)
    last_B = loss_mask_BT.shape[1] - 1 - loss_mask_BT.flip(1).argmax(dim=1)
    token_rewards_BT = torch.zeros_like(mask_BT)
    token_rewards_BT[torch.arange(len(rewards_B)), last_B] = rewards_B.to(torch.float32)
    arguments: dict[str, Any] = {
        "token_level_rewards": token_rewards_BT,
        "response_mask": mask_BT,
        "index": np.asarray(group_of_row),
        "config": AlgoConfig(adv_estimator=settings.advantage, norm_adv_by_std_in_grpo=settings.norm_by_std),
        "norm_adv_by_std_in_grpo": settings.norm_by_std,
    }
    known = inspect.signature(function).parameters
    advantages_BT, _ = function(**{name: value for name, value in arguments.items() if name in known})
    return advantages_BT * mask_BT


def _required(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _check(setting: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
    raise ValueError(f"trainer.grpo.{setting}={name} is unknown: did you mean {' or '.join(near)}?")
