"""Which algorithms a run may name: those of verl's that are here what their names say, with the reasons against the others, and any
of one's own.

Imports nothing of verl, so that a command checks verl's names before anything starts. One's own are functions with verl's signature,
registered here or with verl's decorators (``register_adv_est``, ``register_policy_loss``) by a module of ``trainer.imports``, or named
as ``module:name``. They are tried before anything is paid for (``trainer.algorithm.trial``).
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from trainer.engines.platform import select_platform
from trainer.settings import GRPOSettings
from workflow.registry import Registry, load_plugins, nearest

_VERL = "verl.trainer.ppo.core_algos"
DEFAULT_ESTIMATOR = "reinforce_plus_plus_baseline"
VERL_ESTIMATORS = {
    "gpg": f"{_VERL}:compute_gpg_outcome_advantage",
    "grpo": f"{_VERL}:compute_grpo_outcome_advantage",
    "grpo_passk": f"{_VERL}:compute_grpo_passk_outcome_advantage",
    "grpo_vectorized": f"{_VERL}:compute_grpo_vectorized_outcome_advantage",
    "opo": f"{_VERL}:compute_opo_outcome_advantage",
    "reinforce_plus_plus": f"{_VERL}:compute_reinforce_plus_plus_outcome_advantage",
    DEFAULT_ESTIMATOR: f"{_VERL}:compute_reinforce_plus_plus_baseline_outcome_advantage",
    "rloo": f"{_VERL}:compute_rloo_outcome_advantage",
    "rloo_vectorized": f"{_VERL}:compute_rloo_vectorized_outcome_advantage",
}
"""Advantage estimators that need no more than one reward per episode and the groups."""
VERL_LOSSES = {name: f"{_VERL}:compute_policy_loss_{name}" for name in ("cispo", "dppo_kl", "dppo_tv", "gpg", "gspo", "sapo", "vanilla")}
"""Policy losses whose gradient is the same however a mini-batch is cut into micro-batches and over ranks."""
ESTIMATORS: Registry[Callable[..., Any]] = Registry("trainer.grpo.advantage", VERL_ESTIMATORS)
POLICY_LOSSES: Registry[Callable[..., Any]] = Registry("trainer.grpo.policy_loss", VERL_LOSSES)
LOSS_AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
"""What verl's ``agg_loss`` knows."""
ONE_AGGREGATION = {"sapo": "seq-mean-token-mean"}
"""Policy losses that are always aggregated in one way, whatever ``loss_aggregation`` says."""

_ANY = f"use one of {', '.join(VERL_ESTIMATORS)}"
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
    "dro": f"needs dro_beta, for which there is no setting: use one of {', '.join(VERL_LOSSES)}",
    "bypass_mode": "is verl's way to do what trainer.grpo.old_logprobs=rollout does: set that and use vanilla",
}
"""verl's other policy losses, and what stands in the way."""


def adopt_from_verl() -> None:
    """Adds what plug-ins have registered with verl's own decorators, if one has imported verl."""
    load_plugins()
    verl = sys.modules.get(_VERL)  # where no plug-in has imported it, none has registered anything with it
    for registry, theirs, refused in (
        (ESTIMATORS, "ADV_ESTIMATOR_REGISTRY", REFUSED_ESTIMATORS),
        (POLICY_LOSSES, "POLICY_LOSS_REGISTRY", REFUSED_LOSSES),
    ):
        for name, function in getattr(verl, theirs, {}).items():
            if name not in registry and name not in refused:
                registry.add(name, function)


def problems_of_names(settings: GRPOSettings) -> Iterator[str]:
    """A sentence for each name that is unknown, that cannot be what it says here, or that does not go with the others."""
    yield from _problem("advantage", settings.advantage, ESTIMATORS, REFUSED_ESTIMATORS)
    yield from _problem("policy_loss", settings.policy_loss, POLICY_LOSSES, REFUSED_LOSSES)
    if settings.loss_aggregation not in LOSS_AGGREGATIONS:
        near = nearest(settings.loss_aggregation, LOSS_AGGREGATIONS, cutoff=0.4) or " or ".join(LOSS_AGGREGATIONS)
        yield f"trainer.grpo.loss_aggregation={settings.loss_aggregation} is unknown: did you mean {near}?"
    only = ONE_AGGREGATION.get(settings.policy_loss, settings.loss_aggregation)
    if only != settings.loss_aggregation:
        yield (
            f"trainer.grpo.policy_loss={settings.policy_loss} is always aggregated as {only}, not by "
            f"trainer.grpo.loss_aggregation={settings.loss_aggregation}: set loss_aggregation={only}."
        )


def names_of_own(settings: GRPOSettings) -> bool:
    """True where an estimator or a loss is not verl's."""
    return settings.advantage not in VERL_ESTIMATORS or settings.policy_loss not in VERL_LOSSES


def check_names(settings: GRPOSettings) -> None:
    """Refuses what ``problems_of_names`` finds.

    Raises:
        ValueError: one sentence per problem, one a line.
    """
    if problems := list(problems_of_names(settings)):
        raise ValueError("\n".join(problems))


def _problem(setting: str, name: str, registry: Registry[Callable[..., Any]], refused: dict[str, str]) -> Iterator[str]:
    if name in refused:
        yield f"trainer.grpo.{setting}={name} {refused[name]}."
        return
    if ":" in name:
        select_platform()  # its module may import verl
    adopt_from_verl()
    if problem := registry.problem(name):
        yield problem
