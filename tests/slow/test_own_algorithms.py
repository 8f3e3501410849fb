"""A user's advantage estimator and policy loss: found, tried before anything is paid for, and used by driver and ranks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.schema import load
from rollout.nano.policy import make_nano_policy
from tests.demo import demo_values
from tests.slow.test_learner_training import FAST, TEXTS, on_policy, random_rows
from trainer.algorithm.advantage import advantages
from trainer.algorithm.names import POLICY_LOSSES
from trainer.cluster.session import start_ray, stop_ray
from trainer.engines.platform import select_platform, verl_environment
from trainer.learner.handle import Learner
from trainer.settings import GRPOSettings, LearnerSettings, RunSettings

MODULE = "tests.plugin.flowreasoner_extras.loss"


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


def with_names(**names: str) -> dict:
    return demo_values({"trainer": {"imports": [MODULE], "grpo": names}})


@pytest.mark.parametrize(
    "names",
    [
        {"advantage": "reward_itself"},
        {"advantage": f"{MODULE}:reward_itself"},
        {"policy_loss": "mild_likelihood"},
        {"policy_loss": f"{MODULE}:mild_likelihood", "loss_aggregation": "seq-mean-token-mean"},
    ],
)
def test_ones_own_is_accepted_by_registered_name_and_by_module_and_name(names: dict):
    load(with_names(**names))


def test_what_a_plug_in_registers_with_verls_own_decorator_is_known():
    select_platform()
    from verl.trainer.ppo.core_algos import register_adv_est

    def doubled(token_level_rewards: torch.Tensor, response_mask: torch.Tensor, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        assert set(more) >= {"index", "config"}
        advantages_BT = 2 * token_level_rewards.sum(dim=1, keepdim=True) * response_mask
        return advantages_BT, advantages_BT

    register_adv_est("tests_doubled")(doubled)
    load(with_names(advantage="tests_doubled"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"advantage": "reward_itsel"}, "advantage=reward_itsel is unknown; the nearest is reward_itself"),
        (
            {"advantage": f"{__name__}:in_two_arguments"},
            r"in_two_arguments does not work on 4 made-up .*TypeError: .*signature of verl",
        ),
        ({"policy_loss": f"{__name__}:without_mask"}, r"without_mask does not work on 4 made-up responses \(TypeError"),
        ({"policy_loss": "tests_mean_of_micro_batch"}, "would depend on learner.micro_batch_tokens .*: aggregate .* by .*agg_loss"),
        ({"policy_loss": "no_such_module:loss"}, "policy_loss=no_such_module:loss cannot be imported"),
    ],
)
def test_what_would_not_work_is_refused_with_a_sentence(names: dict, said: str):
    with pytest.raises(ValueError, match=said):
        load(with_names(**names))


def test_ones_own_estimator_gets_the_rewards_as_they_are():
    load(with_names(advantage="reward_itself"))
    mask_BT = torch.tensor([[1, 1, 0], [1, 1, 1]])
    found_BT = advantages(torch.tensor([-0.5, 2.0]), [0, 0], mask_BT, GRPOSettings(advantage="reward_itself"))
    assert found_BT.tolist() == [[-0.5, -0.5, 0.0], [2.0, 2.0, 2.0]]


@pytest.mark.timeout(300)
async def test_every_rank_of_a_learner_learns_by_ones_own_loss_however_its_micro_batches_are_cut(tmp_path: Path):
    folder = make_nano_policy(tmp_path / "policy", TEXTS * 4, seed=0)
    rows, advantages_B = random_rows(8, seed=1), torch.full((8,), -1.0)
    temp = start_ray(RunSettings())
    norms = []
    try:
        for name, tokens in (("mild_likelihood", 16_384), ("mild_likelihood", 64), ("gpg", 16_384)):
            settings = LearnerSettings(ranks=1, micro_batch_tokens=tokens, threads=1)
            learner = Learner(folder, settings, device="cpu", seed=0, imports=(MODULE,))
            try:
                await learner.start()
                await learner.configure_optimizer(FAST, 1)
                batch = await on_policy(learner, rows, advantages_B)
                metrics = await learner.update(batch, GRPOSettings(kl_coef=0.0, policy_loss=name))
            finally:
                await learner.close()
            norms.append(metrics["actor/grad_norm"])
            assert ("actor/did_badly" in metrics) is (name != "gpg")
    finally:
        stop_ray(temp)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4) == pytest.approx(norms[2] / 2, rel=1e-4)


def test_what_a_user_has_verl_import_is_added_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "theirs.one,theirs.two")
    environment = verl_environment("cpu")["VERL_USE_EXTERNAL_MODULES"]
    assert environment == "trainer.engines.cpu_platform,theirs.one,theirs.two"
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", environment)
    assert verl_environment("cpu")["VERL_USE_EXTERNAL_MODULES"] == environment


def test_a_plug_in_that_imports_verl_meets_the_platform_of_this_machine():
    code = (
        "from conf.schema import load\n"
        f"load({with_names(policy_loss='mild_likelihood')!r})\n"
        "from verl.utils.device import get_device_name\n"
        "print(get_device_name())"
    )
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=hidden | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["cpu"]
