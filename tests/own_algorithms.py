"""A user's module: an advantage estimator and policy losses with verl's signatures, registered in each of the ways that there are."""

from typing import Any

import torch
from verl.trainer.ppo.core_algos import agg_loss, register_adv_est, register_policy_loss

from trainer.algorithm.names import POLICY_LOSSES


@register_adv_est("tests_reward_itself")
def reward_itself(token_level_rewards: torch.Tensor, response_mask: torch.Tensor, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """REINFORCE: no baseline."""
    assert set(more) >= {"index", "config"}
    advantages_BT = token_level_rewards.sum(dim=1, keepdim=True) * response_mask
    return advantages_BT, advantages_BT


@register_policy_loss("tests_likelihood")
def likelihood(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Log-likelihood weighed by the advantages; half of it, to be told from verl's ``gpg``."""
    loss_BT = -0.5 * advantages * log_prob
    metrics = {"actor/tests_rows": float(len(log_prob))}
    return agg_loss(loss_BT, response_mask, loss_agg_mode, **config.global_batch_info), metrics


@POLICY_LOSSES.register("tests_mean_of_micro_batch")
def mean_of_micro_batch(old_log_prob: Any, log_prob: Any, advantages: Any, response_mask: Any, **more: Any) -> tuple[torch.Tensor, dict]:
    """The mistake that dynamic micro-batches punish."""
    return -(advantages * log_prob * response_mask).sum() / response_mask.sum(), {}


def without_mask(old_log_prob: torch.Tensor, log_prob: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """Not verl's signature."""
    return -(advantages * log_prob).mean()


def in_two_arguments(rewards: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Not verl's signature."""
    return rewards
