"""verl's metrics of an optimizer step as one flat dict in our names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from verl.utils.metric import Metric

from trainer.algorithm.batch import PolicyBatch

NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "lr": "lr",
    "kl_loss": "kl",
    "actor/pg_loss": "policy_loss",
    "actor/ppo_kl": "ppo_kl",
    "actor/pg_clipfrac": "clip_fraction",
    "actor/pg_clipfrac_lower": "dual_clip_fraction",
    "actor/entropy_loss": "entropy",
    "gap_mean": "rollout_gap_mean",
    "gap_max": "rollout_gap_max",
    "rollout_kl": "rollout_kl",
}
"""Ours for each of verl's; others of the form ``actor/...`` keep their name, the rest is dropped."""
FIRST_ONLY = {"rollout_gap_mean", "rollout_gap_max", "rollout_kl"}
"""Taken from the first mini-batch: later ones are computed with weights that have moved."""


def step_metrics(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Metrics of one optimizer step, gathered over ranks and micro-batches, as ``prefix/name``.

    Without an exact entropy, ``entropy`` is the mean surprisal of the sampled tokens, an unbiased estimate of it.
    """
    values = {name: _number(value) for name, value in metrics.items()}
    if "surprisal" in values:
        values.setdefault("actor/entropy_loss", values["surprisal"])
    named = {NAMES.get(name, name.removeprefix("actor/")): value for name, value in values.items() if name in NAMES or name[:6] == "actor/"}
    return {f"{prefix}/{name}": value for name, value in named.items()}


def mean_over_steps(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over a step's mini-batches, except those that only the first one can tell."""
    return {
        name: steps[0][name] if name.split("/")[-1] in FIRST_ONLY else float(np.mean([step[name] for step in steps if name in step]))
        for name in steps[0]
    }


def batch_metrics(batch: PolicyBatch) -> dict[str, float]:
    """Sizes of a step's batch, and what was left out of it."""
    return {
        "batch/rows": float(len(batch.rows)),
        "batch/loss_tokens": float(batch.rows.loss_mask_BT.sum()),
        "batch/tokens": float(batch.rows.lengths_B.sum()),
        "batch/masked_episodes": float(batch.masked_episodes),
        "batch/dropped_groups": float(batch.dropped_groups),
        "batch/flat_groups": float(batch.flat_groups),
        "batch/cut_off_episodes": float(batch.cut_off_episodes),
    } | ({"actor/kl": batch.kl} if batch.kl is not None else {})


def _number(value: Any) -> float:
    """verl leaves a number, or a list over ranks of Metric objects or of lists over micro-batches."""
    if isinstance(value, list):
        return float(Metric.aggregate_dp(value)) if isinstance(value[0], Metric) else float(np.mean(value))
    return float(value)
