"""Advantages by name."""

import pytest
import torch

from trainer.advantage import advantages, check_names, estimator_names, policy_loss_names
from trainer.settings import GRPOSettings

MASK_BT = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
GROUPS = [0, 0, 1, 1]


def of(name: str, rewards: list[float], *, mask_BT: torch.Tensor = MASK_BT, groups: list[int] = GROUPS, norm_by_std: bool = False):
    return advantages(torch.tensor(rewards), groups, mask_BT, GRPOSettings(advantage=name, norm_by_std=norm_by_std))


def test_the_default_subtracts_the_group_mean_and_whitens_over_the_batch():
    mask_BT = torch.ones(4, 2, dtype=torch.long)
    advantages_BT = of("reinforce_plus_plus_baseline", [1.0, 0.0, 10.1, 10.0], mask_BT=mask_BT)
    assert advantages_BT.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert advantages_BT.std().item() == pytest.approx(1.0, abs=1e-3)
    large, small = advantages_BT[0, 0].item(), advantages_BT[2, 0].item()
    assert large / small == pytest.approx(10.0, rel=1e-3), "a group's own deviation must not be divided out"


def test_a_group_that_differs_in_costs_alone_learns_little_by_default_but_as_much_as_any_with_group_deviations():
    rewards, mask_BT = [1.0, 0.0, 0.51, 0.5], torch.ones(4, 2, dtype=torch.long)
    by_batch = of("reinforce_plus_plus_baseline", rewards, mask_BT=mask_BT)
    by_group = of("grpo", rewards, mask_BT=mask_BT, norm_by_std=True)
    assert by_batch[2, 0] < 0.02 * by_batch[0, 0]
    assert by_group[2, 0].item() == pytest.approx(by_group[0, 0].item(), rel=1e-2)


def test_dr_grpo_subtracts_the_group_mean_only():
    assert of("grpo", [1.0, 0.0, 0.4, 0.2])[:, 0].tolist() == pytest.approx([0.5, -0.5, 0.1, -0.1])


def test_rloo_compares_each_episode_with_its_siblings():
    advantages_BT = of("rloo", [3.0, 0.0, 0.0], mask_BT=MASK_BT[:3], groups=[0, 0, 0])
    assert advantages_BT[:, 0].tolist() == pytest.approx([3.0, -1.5, -1.5])


def test_pass_at_k_rewards_the_best_of_a_group_only():
    assert of("grpo_passk", [3.0, 1.0, 0.2, 0.4])[:, 0].tolist() == pytest.approx([2.0, 0.0, 0.0, 0.2])


@pytest.mark.parametrize("name", estimator_names())
def test_every_known_estimator_gives_finite_advantages_on_sampled_tokens_only(name):
    advantages_BT = of(name, [1.0, 0.0, 0.3, 0.9])
    assert advantages_BT.shape == MASK_BT.shape
    assert torch.isfinite(advantages_BT).all()
    assert (advantages_BT[MASK_BT == 0] == 0).all()
    assert advantages_BT[0, 0] > advantages_BT[1, 0]


def test_equal_rewards_everywhere_teach_nothing():
    assert of("reinforce_plus_plus_baseline", [0.5] * 4).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("setting", "name", "near"),
    [
        ("advantage", "reinforce_plus_plus_base", "reinforce_plus_plus_baseline"),
        ("advantage", "gpro", "grpo"),
        ("policy_loss", "gsppo", "gspo"),
        ("loss_aggregation", "token_mean", "token-mean"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(setting, name, near):
    with pytest.raises(ValueError, match=rf"{setting}={name} is unknown: did you mean .*\b{near}\b"):
        check_names(GRPOSettings(**{setting: name}))


@pytest.mark.parametrize(("name", "needs"), [("gae", "values"), ("remax", "reward_baselines")])
def test_an_estimator_that_needs_more_than_rewards_is_refused_with_what_it_needs(name, needs):
    with pytest.raises(ValueError, match=f"{name} needs .*{needs}"):
        check_names(GRPOSettings(advantage=name))


def test_the_names_of_the_issue_are_known():
    assert {"grpo", "reinforce_plus_plus_baseline", "rloo", "grpo_passk"} <= set(estimator_names())
    assert {"vanilla", "gspo", "cispo"} <= set(policy_loss_names())
    check_names(GRPOSettings())
