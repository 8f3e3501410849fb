"""Which of verl's algorithms a run may name, and why it may not name the others. Imports nothing of verl, so that a command checks
the names before anything starts."""

import difflib
from collections.abc import Collection, Iterator

from trainer.settings import GRPOSettings

DEFAULT_ESTIMATOR = "reinforce_plus_plus_baseline"
ESTIMATORS = (
    "gpg",
    "grpo",
    "grpo_passk",
    "grpo_vectorized",
    "opo",
    "reinforce_plus_plus",
    DEFAULT_ESTIMATOR,
    "rloo",
    "rloo_vectorized",
)
"""Advantage estimators that need no more than one reward per episode and the groups."""
POLICY_LOSSES = ("cispo", "dppo_kl", "dppo_tv", "gpg", "gspo", "sapo", "vanilla")
"""Policy losses whose gradient is the same however a mini-batch is cut into micro-batches and over ranks."""
LOSS_AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
"""What verl's ``agg_loss`` knows."""
ONE_AGGREGATION = {"sapo": "seq-mean-token-mean"}
"""Policy losses that are always aggregated in one way, whatever ``loss_aggregation`` says."""

_ANY = f"use one of {', '.join(ESTIMATORS)}"
_PER_MICRO_BATCH = "so the result would depend on learner.micro_batch_tokens and learner.ranks"
REFUSED_ESTIMATORS = {
    "gae": f"needs values, which a critic estimates and this project has none: {_ANY}",
    "remax": f"needs reward_baselines, the reward of a greedy episode for each problem, which is not collected: {_ANY}",
    "optimal_token_baseline": f"needs sum_pi_squared, a sum over the vocabulary at each token, which engines do not report: {_ANY}",
    "tir_optimal_token_baseline": f"needs sum_pi_squared, a sum over the vocabulary at each token, which engines do not report: {_ANY}",
    "gdpo": "normalises each term of the reward by itself and needs the terms of each episode, but estimators are given the weighted sum, "
    "of which verl's function would silently make plain GRPO, whitened: use grpo with norm_by_std=true, and balance the "
    "terms by reward.weights",
}
"""verl's other estimators, and what stands in the way."""
REFUSED_LOSSES = {
    "geo_mean": f"is averaged over each micro-batch by itself, {_PER_MICRO_BATCH}: use gspo, whose ratio is a geometric mean too",
    "clip_cov": f"chooses tokens among those of each micro-batch, {_PER_MICRO_BATCH}: use vanilla with a larger clip_high against the loss "
    "of entropy",
    "kl_cov": f"chooses tokens among those of each micro-batch, {_PER_MICRO_BATCH}: use vanilla with a larger clip_high against the loss "
    "of entropy",
    "dro": f"needs dro_beta, for which there is no setting: use one of {', '.join(POLICY_LOSSES)}",
    "bypass_mode": "is verl's way to do what trainer.grpo.old_logprobs=rollout does: set that and use vanilla",
}
"""verl's other policy losses, and what stands in the way."""


def estimator_names() -> list[str]:
    """Estimators that ``trainer.grpo.advantage`` may name."""
    return sorted(ESTIMATORS)


def policy_loss_names() -> list[str]:
    """Losses that ``trainer.grpo.policy_loss`` may name."""
    return sorted(POLICY_LOSSES)


def problems_of_names(settings: GRPOSettings) -> Iterator[str]:
    """A sentence for each name that is unknown, that cannot be what it says here, or that does not go with the others."""
    yield from _problem("advantage", settings.advantage, ESTIMATORS, REFUSED_ESTIMATORS)
    yield from _problem("policy_loss", settings.policy_loss, POLICY_LOSSES, REFUSED_LOSSES)
    yield from _problem("loss_aggregation", settings.loss_aggregation, LOSS_AGGREGATIONS, {})
    only = ONE_AGGREGATION.get(settings.policy_loss, settings.loss_aggregation)
    if only != settings.loss_aggregation:
        yield (
            f"trainer.grpo.policy_loss={settings.policy_loss} is always aggregated as {only}, not by "
            f"trainer.grpo.loss_aggregation={settings.loss_aggregation}: set loss_aggregation={only}."
        )


def check_names(settings: GRPOSettings) -> None:
    """Refuses what ``problems_of_names`` finds.

    Raises:
        ValueError: one sentence per problem, one a line.
    """
    if problems := list(problems_of_names(settings)):
        raise ValueError("\n".join(problems))


def _problem(setting: str, name: str, offered: Collection[str], refused: dict[str, str]) -> Iterator[str]:
    if name in refused:
        yield f"trainer.grpo.{setting}={name} {refused[name]}."
    elif name not in offered:
        near = difflib.get_close_matches(name, offered, n=3, cutoff=0.4) or list(offered)
        yield f"trainer.grpo.{setting}={name} is unknown: did you mean {' or '.join(near)}?"
