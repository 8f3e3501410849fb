"""A policy loss and an advantage estimator, with the signatures of verl's."""

from typing import Any

import torch
from verl.trainer.ppo.core_algos import agg_loss

from trainer.algorithm.names import ESTIMATORS, POLICY_LOSSES


@ESTIMATORS.register("reward_itself")
def reward_itself(token_level_rewards: torch.Tensor, response_mask: torch.Tensor, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """REINFORCE without a baseline. ``more`` has ``index``, the group of each row, and ``config``."""
    advantages_BT = token_level_rewards.sum(dim=1, keepdim=True) * response_mask
    return advantages_BT, advantages_BT


@POLICY_LOSSES.register("mild_likelihood")
def mild_likelihood(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Log-likelihood weighed by the advantages; what did badly counts half."""
    loss_BT = -torch.where(advantages > 0, advantages, 0.5 * advantages) * log_prob
    metrics = {"actor/did_badly": (advantages < 0).float().mean().item()}
    return agg_loss(loss_BT, response_mask, loss_agg_mode, **config.global_batch_info), metrics
