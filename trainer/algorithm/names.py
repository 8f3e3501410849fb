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
OUR_ESTIMATORS = {"gdpo": "trainer.algorithm.gdpo:gdpo"}
"""In place of verl's of that name, which would make plain GRPO of the weighted sum, whitened over tokens."""
VERL_LOSSES = {
    name: f"{_VERL}:compute_policy_loss_{name}" for name in ("cispo", "dppo_kl", "dppo_tv", "dro", "gpg", "gspo", "sapo", "vanilla")
}
"""Policy losses whose gradient is the same however a mini-batch is cut into micro-batches and over ranks."""
OUR_LOSSES = {"geo_mean": "trainer.algorithm.losses:geo_mean"}
"""In place of verl's of that name, which takes the mean over each micro-batch by itself."""
ESTIMATORS: Registry[Callable[..., Any]] = Registry("trainer.grpo.advantage", VERL_ESTIMATORS | OUR_ESTIMATORS)
POLICY_LOSSES: Registry[Callable[..., Any]] = Registry("trainer.grpo.policy_loss", VERL_LOSSES | OUR_LOSSES)
LOSS_AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
"""What verl's ``agg_loss`` knows."""
ONE_AGGREGATION = {"sapo": "seq-mean-token-mean", "geo_mean": "seq-mean-token-mean"}
"""Policy losses that are always aggregated in one way, whatever ``loss_aggregation`` says."""
LOSS_ARGS = {
    "clip_ratio_c": ("vanilla", "dppo_tv", "dppo_kl"),
    "tau_pos": ("sapo",),
    "tau_neg": ("sapo",),
    "dro_beta": ("dro",),
    "clip_cov_ratio": ("clip_cov",),
    "clip_cov_lb": ("clip_cov",),
    "clip_cov_ub": ("clip_cov",),
    "kl_cov_ratio": ("kl_cov",),
    "ppo_kl_coef": ("kl_cov",),
}
"""``trainer.grpo.loss_args``: fields of verl's configuration, and which of verl's losses read each; one of one's own may read any."""
KL_KINDS = {"loss": ("k2", "k1+", "k3+", "k3"), "reward": ("k1", "k2", "k3")}
"""Estimators of the KL by where it counts. In a loss the gradient of k1 is 0 in expectation; in a reward the "+" changes nothing."""

_ANY = f"use one of {', '.join(VERL_ESTIMATORS)}"
_PER_MICRO_BATCH = "so the result would depend on learner.micro_batch_tokens and learner.ranks"
REFUSED_ESTIMATORS = {
    "gae": f"needs values, which a critic estimates and this project has none: {_ANY}",
    "remax": f"needs reward_baselines, the reward of a greedy episode for each problem, which is not collected: {_ANY}",
    "optimal_token_baseline": f"needs sum_pi_squared, a sum over the vocabulary at each token, which engines do not report: {_ANY}",
    "tir_optimal_token_baseline": f"needs sum_pi_squared, a sum over the vocabulary at each token, which engines do not report: {_ANY}",
}
"""verl's other estimators, and what stands in the way."""
REFUSED_LOSSES = {
    "clip_cov": f"chooses tokens among those of each micro-batch, {_PER_MICRO_BATCH}: use vanilla with a larger clip_high against the loss "
    "of entropy",
    "kl_cov": f"chooses tokens among those of each micro-batch, {_PER_MICRO_BATCH}: use vanilla with a larger clip_high against the loss "
    "of entropy",
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
    yield from _problems_of_loss_args(settings)
    if settings.kl_coef and settings.kl_kind not in (kinds := KL_KINDS[settings.kl_in]):
        yield (
            f"trainer.grpo.kl_kind={settings.kl_kind} is no estimator for trainer.grpo.kl_in={settings.kl_in}: choose one of "
            f"{', '.join(kinds)}; the gradient of {kinds[0]} is that of the KL."
        )


def _problems_of_loss_args(settings: GRPOSettings) -> Iterator[str]:
    loss, args = settings.policy_loss, settings.loss_args
    for name, value in args.items():
        readers = LOSS_ARGS.get(name)
        if readers is None:
            near = nearest(name, LOSS_ARGS, cutoff=0.4) or " or ".join(LOSS_ARGS)
            yield f"trainer.grpo.loss_args.{name} is unknown: did you mean {near}?"
        elif loss in VERL_LOSSES | OUR_LOSSES and loss not in readers:
            yield f"trainer.grpo.loss_args.{name} is read by {' and '.join(readers)}, not by trainer.grpo.policy_loss={loss}: leave it out."
        elif not value > (least := 1 if name == "clip_ratio_c" else 0):
            yield f"trainer.grpo.loss_args.{name}={value:g} must be more than {least}: choose a larger one."
    if loss == "dro" and "dro_beta" not in args:
        yield "trainer.grpo.policy_loss=dro needs trainer.grpo.loss_args.dro_beta, the weight of its penalty: give it a value above 0."


def names_of_own(settings: GRPOSettings) -> bool:
    """True where an estimator or a loss is the user's own."""
    return is_own_estimator(settings.advantage) or is_own_loss(settings.policy_loss)


def is_own_estimator(name: str) -> bool:
    """True for an advantage estimator that does not come with the product."""
    return name not in VERL_ESTIMATORS | OUR_ESTIMATORS


def is_own_loss(name: str) -> bool:
    """True for a policy loss that does not come with the product."""
    return name not in VERL_LOSSES | OUR_LOSSES


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
