"""Correction for what separates the policy that sampled from the one that learns: verl's importance weights and rejection.

The two differ by numerics (another engine, another precision) and by staleness. ``old_log_probs`` are the learner's own at the
start of the step, ``rollout_log_probs`` those of the engine that sampled; the PPO ratio is against the former, the weights and
the rejection are about the quotient of the two.
"""

from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_rejection_mask

from trainer.engines.verl_data import set_response_mask
from trainer.settings import GRPOSettings

REJECTION = {"token": "token_k1", "sequence": "seq_sum_k1", "geometric": "seq_mean_k1"}
"""verl's names: k1 is the logarithm of the ratio itself, of a token, summed over a response, or its mean."""
REPORTED = (
    "kl",
    "k3_kl",
    "ppl_ratio",
    "chi2_token",
    "chi2_seq",
    "rollout_is_mean",
    "rollout_is_max",
    "rollout_is_min",
    "rollout_is_eff_sample_size",
    "rollout_is_ratio_fraction_high",
    "rollout_is_ratio_fraction_low",
    "rollout_rs_masked_fraction",
    "rollout_rs_seq_masked_fraction",
)
"""Of verl's metrics, as ``rollout_corr/...``; ``fraction_high`` is the share of weights that were cut off."""


def correct(data: TensorDict, settings: GRPOSettings) -> dict[str, float]:
    """Adds ``rollout_is_weights`` to this rank's share of a mini-batch and takes rejected tokens out of its masks.

    Every rank calls this together. As in verl, a rejected token no longer counts where the loss is a mean over tokens, and a
    rejected response still counts where it is a mean over responses.

    Args:
        data: with ``old_log_probs``, ``rollout_log_probs`` and ``response_mask``, all (rows, T).

    Returns:
        ``rollout_corr/*`` metrics of the whole mini-batch.
    """
    mask_BT = data["response_mask"]
    tokens, metrics = int(mask_BT.sum()), {}
    weights_BT, kept_BT = mask_BT.float(), mask_BT
    if tokens:
        old_BT = data["old_log_probs"]
        weights, kept_BT, metrics = compute_rollout_correction_and_rejection_mask(
            old_log_prob=old_BT,
            rollout_log_prob=torch.where(mask_BT.bool(), data["rollout_log_probs"], old_BT),
            response_mask=mask_BT,
            rollout_is=None if settings.rollout_is == "none" else settings.rollout_is,
            rollout_is_threshold=settings.rollout_is_threshold,
            rollout_rs=REJECTION.get(settings.rollout_rs),
            rollout_rs_threshold=settings.rollout_rs_threshold,
        )
        weights_BT = weights.batch["rollout_is_weights"] if weights is not None else weights_BT
    if settings.rollout_is != "none":
        data["rollout_is_weights"] = weights_BT
    if settings.rollout_rs != "none":
        set_response_mask(data, kept_BT)
    return _over_ranks(metrics, tokens)


def _over_ranks(metrics: dict[str, float], tokens: int) -> dict[str, float]:
    """Largest of maxima, smallest of minima, otherwise the mean weighted by tokens."""
    shares: list[Any] = [(metrics, tokens)]
    if dist.is_initialized():
        shares = [None] * dist.get_world_size()
        dist.all_gather_object(shares, (metrics, tokens))
    present = [(share, count) for share, count in shares if share]
    total = sum(count for _, count in present)
    combined: dict[str, float] = {}
    for name in (f"rollout_corr/{name}" for name in REPORTED):
        values = [(share[name], count) for share, count in present if name in share]
        if not values:
            continue
        figures = [value for value, _ in values]
        mean = sum(value * count for value, count in values) / total
        combined[name] = max(figures) if name.endswith("_max") else min(figures) if name.endswith("_min") else mean
    return combined
