"""Losses as verl's engine calls them: verl's own, with the figures that our metrics need beside them."""

import math
from dataclasses import fields
from typing import Any

import torch
from tensordict import TensorDict

from trainer.algorithm.names import POLICY_LOSSES
from trainer.engines.platform import select_platform
from trainer.settings import GRPOSettings, OptimizerSettings

select_platform()

from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY, compute_policy_loss_geo_mean, register_policy_loss  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.utils.metric import AggregationType, Metric  # noqa: E402
from verl.workers.config import ActorConfig, PolicyLossConfig  # noqa: E402
from verl.workers.utils.losses import ppo_loss  # noqa: E402
from verl.workers.utils.padding import no_padding_2_padding  # noqa: E402


def actor_config(settings: GRPOSettings, most_tokens: int, engine: str = "fsdp2") -> ActorConfig:
    """verl's description of the policy loss.

    Args:
        settings: loss, clipping, KL, entropy and aggregation by name.
        most_tokens: that an episode may have, the constant that ``seq-mean-token-sum-norm`` divides by.
        engine: ``learner.engine``.
    """
    loss = POLICY_LOSSES.find(settings.policy_loss)
    if POLICY_LOSS_REGISTRY.get(settings.policy_loss) is not loss:
        register_policy_loss(settings.policy_loss)(loss)  # verl looks it up by this name
    in_policy_loss = {field.name for field in fields(PolicyLossConfig)} & settings.loss_args.keys()
    more = {"clip_ratio_c": 20.0 if settings.policy_loss.startswith("dppo_") else 3.0}  # 20: DPPO's own, which verl has and never gets to
    more |= {name: value for name, value in settings.loss_args.items() if name not in in_policy_loss}
    return ActorConfig(
        strategy=engine,
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio=settings.clip_low,
        clip_ratio_low=settings.clip_low,
        clip_ratio_high=settings.clip_high,
        policy_loss=PolicyLossConfig(loss_mode=settings.policy_loss, **{name: settings.loss_args[name] for name in in_policy_loss}),
        loss_agg_mode=settings.loss_aggregation,
        loss_scale_factor=most_tokens if settings.loss_aggregation == "seq-mean-token-sum-norm" else None,
        entropy_coeff=settings.entropy_coef,
        use_kl_loss=settings.kl_coef > 0 and settings.kl_in == "loss",
        kl_loss_coef=settings.kl_coef,
        kl_loss_type=settings.kl_kind,
        **more,
    )


def geo_mean(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = "seq-mean-token-mean",
    config: ActorConfig | None = None,
    rollout_is_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """GMPO (arXiv 2507.20673), verl's: a mean over responses, here over those of the mini-batch and not of each micro-batch by itself."""
    assert config is not None
    mean, metrics = compute_policy_loss_geo_mean(
        old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights
    )
    figures = config.global_batch_info
    return mean * (len(log_prob) * figures["dp_size"] / figures["global_batch_size"]), metrics


def policy_loss(config: ActorConfig, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> tuple[torch.Tensor, dict]:
    """verl's ``ppo_loss`` (policy loss by name, KL, entropy), plus what the sampled tokens say of the policy.

    ``gap`` compares the trainer's log-probabilities with the rollout engine's; ``surprisal`` is the mean of
    -log p over sampled tokens, which on-policy is an unbiased estimate of the entropy. ``rollout_kl`` estimates the KL
    from the rollout policy to the trainer's (k3: never negative, low variance).
    """
    if not data["batch_num_tokens"]:  # all rejected: a sum over nothing, not a mean of nothing
        tu.assign_non_tensor(data, batch_num_tokens=1)
    loss, metrics = ppo_loss(config, model_output, data, dp_group)
    with torch.no_grad():
        logprobs_BT = no_padding_2_padding(model_output["log_probs"], data)
        mask_BT = data["response_mask"].bool()
        ratio_BT = (logprobs_BT - data["rollout_log_probs"]).masked_fill(~mask_BT, 0.0)
        gap_BT = ratio_BT.abs()
        share = data["dp_size"] / max(data["batch_num_tokens"], 1)
        metrics["gap_mean"] = Metric(AggregationType.SUM, gap_BT.sum() * share)
        metrics["gap_max"] = Metric(AggregationType.MAX, gap_BT.max())
        metrics["rollout_kl"] = Metric(AggregationType.SUM, (ratio_BT.exp() - 1 - ratio_BT).sum() * share)
        metrics["surprisal"] = Metric(AggregationType.SUM, -(logprobs_BT * mask_BT).sum() * share)
    return loss, metrics


def learning_rate_factor(step: int, total_steps: int, settings: OptimizerSettings) -> float:
    """What the learning rate is multiplied by at optimizer step ``step`` (from 0).

    Rises linearly over ``warmup_steps`` (the first step already moves), then stays, or falls along half a cosine to
    ``min_lr_ratio`` at ``total_steps``.
    """
    warmup = min(settings.warmup_steps, total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return 1.0
    progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
