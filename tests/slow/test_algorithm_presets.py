"""The presets of conf/algorithm: the constants of each paper, in force in what verl is given."""

from dataclasses import fields

import pytest

from launch.compose import CONF, compose_settings
from trainer.algorithm.losses import actor_config
from trainer.algorithm.names import KL_KINDS, LOSS_ARGS
from trainer.settings import GRPOSettings

IN_FORCE = {
    # (loss, low, high, c, aggregation, constant, KL in the loss, its kind)
    "grpo": ("vanilla", 0.2, 0.2, 1e6, "seq-mean-token-mean", None, 0.04, "k3"),
    "dr_grpo": ("vanilla", 0.2, 0.2, 1e6, "seq-mean-token-sum-norm", 640, None, "k3+"),
    "dapo": ("vanilla", 0.2, 0.28, 10.0, "token-mean", None, None, "k3+"),
    "gspo": ("gspo", 3e-4, 4e-4, 3.0, "seq-mean-token-mean", None, None, "k3+"),
    "cispo": ("cispo", 1.0, 0.2, 3.0, "token-mean", None, None, "k3+"),
    "dppo": ("dppo_tv", 0.15, 0.15, 20.0, "seq-mean-token-sum-norm", 640, None, "k3+"),
    "rloo": ("vanilla", 0.2, 0.28, 3.0, "seq-mean-token-sum", None, None, "k1"),
    "gdpo": ("vanilla", 0.2, 0.2, 1e6, "token-mean", None, None, "k3+"),
}
ESTIMATORS = {"rloo": ("rloo", False), "gdpo": ("gdpo", False), "dr_grpo": ("grpo", False), "dppo": ("grpo", False)}
"""Advantage, and whether a group's deviation is divided by, where it is not plain GRPO."""


def test_every_preset_is_checked():
    assert {file.stem for file in (CONF / "algorithm").glob("*.yaml")} == set(IN_FORCE)


@pytest.mark.parametrize("name", IN_FORCE)
def test_a_papers_constants_are_in_force_in_verls_configuration(name: str):
    settings = compose_settings([f"algorithm={name}"]).trainer.grpo
    config = actor_config(settings, 640)
    found = (
        config.policy_loss.loss_mode,
        config.clip_ratio_low,
        config.clip_ratio_high,
        config.clip_ratio_c,
        config.loss_agg_mode,
        config.loss_scale_factor,
        config.kl_loss_coef if config.use_kl_loss else None,
        config.kl_loss_type,
    )
    assert found == IN_FORCE[name]
    estimator = settings.advantage, settings.norm_by_std and settings.advantage == "grpo"
    assert estimator == ESTIMATORS.get(name, ("grpo", True))
    assert (settings.kl_in, settings.kl_coef) == ("reward", 0.03) if name == "rloo" else settings.kl_in == "loss"


def test_dapo_replaces_flat_groups_and_shapes_overlong_completions():
    settings = compose_settings(["algorithm=dapo"]).trainer.grpo
    assert (settings.flat_by, settings.flat_groups, settings.overlong, settings.overlong_buffer) == ("performance", "drop", "shape", 0.2)
    assert settings.refill > 0


@pytest.mark.parametrize("name", LOSS_ARGS)
def test_an_argument_of_the_loss_reaches_verls_configuration(name: str):
    from verl.workers.config import ActorConfig, PolicyLossConfig

    config = actor_config(GRPOSettings(loss_args={name: 7.5}), 1)
    assert getattr(config.policy_loss if hasattr(config.policy_loss, name) else config, name) == 7.5
    numbers = {field.name for kind in (PolicyLossConfig, ActorConfig) for field in fields(kind)}
    assert name in numbers


def test_every_number_of_verls_policy_loss_can_be_given():
    from verl.workers.config import PolicyLossConfig

    assert {field.name for field in fields(PolicyLossConfig)} - {"_target_", "loss_mode", "rollout_correction"} <= set(LOSS_ARGS)


@pytest.mark.parametrize(("kind", "right"), [("k1", False), ("k2", True), ("k3", False), ("k1+", True), ("k3+", True)])
def test_which_estimators_of_the_kl_have_its_gradient_in_the_loss(kind: str, right: bool):
    """Over all tokens of a small vocabulary, weighed by their probability, as many samples would be."""
    import torch
    from verl.trainer.ppo.core_algos import kl_penalty

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, requires_grad=True)
    reference = torch.log_softmax(2 * torch.randn(6, generator=generator), 0)
    logprobs = torch.log_softmax(logits, 0)
    shares = logprobs.exp().detach()

    def gradient(value: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    exact = gradient((logprobs.exp() * (logprobs - reference)).sum())
    estimated = gradient((shares * kl_penalty(logprobs, reference, kind)).sum())  # pyright: ignore[reportArgumentType]
    assert torch.allclose(estimated, exact, atol=1e-5) is right
    assert kind == "k1" or kind in KL_KINDS["loss"]
    if kind == "k1":
        assert estimated.abs().max() < 1e-6, "it would do nothing"
    if kind == "k3":
        backward = gradient((reference.exp() * (reference - logprobs)).sum())
        assert torch.allclose(estimated, backward, atol=1e-5), "that of the KL from reference to policy"
    assert GRPOSettings().kl_kind == "k3+"
    in_reward = gradient((shares * logprobs * (logprobs - reference).detach()).sum())
    assert torch.allclose(in_reward, exact, atol=1e-5), "k1 taken off the reward has the right gradient"
