"""Advantages by name."""

import inspect
import random
from typing import Any

import numpy as np
import pytest
import torch

from trainer.algorithm.advantage import Terms, advantages
from trainer.algorithm.names import (
    ESTIMATORS,
    OUR_ESTIMATORS,
    OUR_LOSSES,
    POLICY_LOSSES,
    REFUSED_ESTIMATORS,
    REFUSED_LOSSES,
    VERL_ESTIMATORS,
    VERL_LOSSES,
    check_names,
)
from trainer.settings import GRPOSettings

MASK_BT = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
GROUPS = [0, 0, 1, 1]


def of(name: str, rewards: list[float], *, mask_BT: torch.Tensor = MASK_BT, groups: list[int] = GROUPS, norm_by_std: bool = False):
    return advantages(torch.tensor(rewards), groups, mask_BT, GRPOSettings(advantage=name, norm_by_std=norm_by_std))


def test_the_default_subtracts_the_group_mean_and_divides_by_the_deviation_in_the_batch():
    mask_BT = torch.ones(4, 2, dtype=torch.long)
    advantages_BT = of("reinforce_plus_plus_baseline", [1.0, 0.0, 10.1, 10.0], mask_BT=mask_BT)
    assert advantages_BT.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert advantages_BT[:, 0].std(correction=0).item() == pytest.approx(1.0, abs=1e-3)
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


OFFERED = [*VERL_ESTIMATORS, *OUR_ESTIMATORS]


@pytest.mark.parametrize("name", OFFERED)
def test_every_known_estimator_gives_finite_advantages_on_sampled_tokens_only(name):
    advantages_BT = of(name, [1.0, 0.0, 0.3, 0.9])
    assert advantages_BT.shape == MASK_BT.shape
    assert torch.isfinite(advantages_BT).all()
    assert (advantages_BT[MASK_BT == 0] == 0).all()
    assert advantages_BT[0, 0] > advantages_BT[1, 0]


def test_equal_rewards_everywhere_teach_nothing():
    assert of("reinforce_plus_plus_baseline", [0.5] * 4).abs().max() < 1e-3


def lengths(*tokens: int) -> torch.Tensor:
    """The loss mask of responses of these lengths."""
    return (torch.arange(max(tokens))[None] < torch.tensor(tokens)[:, None]).long()


@pytest.mark.parametrize("norm_by_std", [False, True])
@pytest.mark.parametrize("apart", [0.0, 1e-7, 5e-5])
@pytest.mark.parametrize("name", OFFERED)
def test_a_group_whose_rewards_do_not_differ_has_no_advantage_and_changes_no_other(name, apart, norm_by_std):
    mask_BT, rewards = lengths(50, 50, 50, 50, 40, 40, 120, 120), [1.0, 0.9, 0.0, 0.1]
    for solved in (-0.2, 0.0, 1.0):
        flat = [solved, solved + apart, solved, solved - apart / 2]
        advantages_BT = of(name, flat + rewards, mask_BT=mask_BT, groups=[0] * 4 + [1] * 4, norm_by_std=norm_by_std)
        assert (advantages_BT[:4] == 0).all()
        alone_BT = of(name, rewards, mask_BT=mask_BT[4:], groups=[1] * 4, norm_by_std=norm_by_std)
        factor = 2 if name == "gpg" else 1  # it divides by the share of episodes that teach
        torch.testing.assert_close(advantages_BT[4:], factor * alone_BT)


@pytest.mark.parametrize("name", OFFERED)
def test_what_all_rewards_have_in_common_changes_no_advantage(name):
    """A reward of exactly 0 is worth no more and no less than its neighbours."""
    rewards, mask_BT = [1.0, 0.5, 0.0, 0.0, 0.25, 0.0], lengths(5, 3, 8, 2, 6, 6)
    shifted = [reward + 0.375 for reward in rewards]
    groups = [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(of(name, rewards, mask_BT=mask_BT, groups=groups), of(name, shifted, mask_BT=mask_BT, groups=groups))


@pytest.mark.parametrize("name", ["reinforce_plus_plus_baseline", "gdpo"])
def test_whitening_counts_every_episode_once_however_long_it_is(name):
    rewards, groups = [1.0, 0.9, 0.2, 0.1, 1.0, 0.0], [0] * 4 + [1] * 2
    short, long = (of(name, rewards, mask_BT=lengths(*tokens), groups=groups)[:, 0] for tokens in ([9] * 6, [9, 9, 9, 9, 900, 900]))
    torch.testing.assert_close(short, long)
    assert short.mean().item() == pytest.approx(0, abs=1e-6) and short.square().mean().item() == pytest.approx(1)


def gdpo(terms: dict[str, list[float]], weights: dict[str, float], groups: list[int], mask_BT: torch.Tensor) -> torch.Tensor:
    values = {name: torch.tensor(numbers) for name, numbers in terms.items()}
    rewards_B = sum(weight * values[name] for name, weight in weights.items())
    assert isinstance(rewards_B, torch.Tensor)
    return advantages(rewards_B, groups, mask_BT, GRPOSettings(advantage="gdpo"), Terms(weights, values))[:, 0]


def test_gdpo_tells_apart_what_the_sum_of_rewards_does_not():
    """The paper's example (section 3.1): of two rewards one or both are earned; plain GRPO makes the same advantages of either."""
    groups, mask_BT = [0, 0, 1, 1], torch.ones(4, 3)
    terms = {"right": [0.0, 1.0, 0.0, 1.0], "format": [0.0, 0.0, 0.0, 1.0]}
    found_B = gdpo(terms, {"right": 1.0, "format": 1.0}, groups, mask_BT)
    assert (found_B[3] / found_B[1]).item() == pytest.approx(2.0)
    summed = of("grpo", [0.0, 1.0, 0.0, 2.0], mask_BT=mask_BT.long(), groups=groups, norm_by_std=True)[:, 0]
    assert (summed[3] / summed[1]).item() == pytest.approx(1.0, rel=1e-4)


def test_gdpo_is_verls_over_episodes_of_one_length():

    from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage

    generator = torch.Generator().manual_seed(0)
    terms = {name: torch.rand(12, generator=generator) for name in ("performance", "calls")}
    weights, groups, mask_BT = {"performance": 1.0, "calls": -0.3}, [0] * 4 + [1] * 8, torch.ones(12, 5)
    config: Any = {"gdpo_reward_keys": list(terms), "gdpo_reward_weights": list(weights.values())}
    theirs_BT, _ = compute_gdpo_outcome_advantage(
        token_level_rewards=torch.zeros(12, 5),
        response_mask=mask_BT,
        index=np.array(groups),
        config=config,
        non_tensor_batch={name: values.numpy() for name, values in terms.items()},
        batch={"prompts": torch.ones(12, 2), "attention_mask": torch.ones(12, 7, dtype=torch.long)},
    )
    ours = gdpo({name: values.tolist() for name, values in terms.items()}, weights, groups, mask_BT)
    torch.testing.assert_close(ours / ours.norm(), theirs_BT[:, 0] / theirs_BT[:, 0].norm(), rtol=1e-4, atol=1e-5)


def test_a_term_that_is_the_same_for_all_siblings_says_nothing_to_gdpo():
    groups, mask_BT = [0, 0, 0, 0], torch.ones(4, 2)
    with_noise = {"performance": [1.0, 0.0, 1.0, 0.0], "latency": [0.401, 0.402, 0.401, 0.4]}
    found_B = gdpo(with_noise, {"performance": 1.0, "latency": -0.01}, groups, mask_BT)
    assert found_B.tolist() == pytest.approx([1.0, -1.0, 1.0, -1.0])


def test_an_estimator_of_ones_own_may_ask_for_the_terms():
    def by_term(token_level_rewards: torch.Tensor, response_mask: torch.Tensor, terms: Any, term_weights: Any):
        assert term_weights == {"a": 2.0, "b": 1.0}
        return terms["b"][:, None] * response_mask, None

    ESTIMATORS.add("tests_by_term", by_term)
    terms = Terms({"a": 2.0, "b": 1.0}, {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])})
    found_BT = advantages(torch.tensor([5.0, 8.0]), [0, 0], torch.ones(2, 1), GRPOSettings(advantage="tests_by_term"), terms)
    assert found_BT.tolist() == [[3.0], [4.0]]


def test_by_default_an_advantage_has_the_sign_of_its_reward_against_its_group_whatever_the_lengths():
    rng = random.Random(0)
    for _ in range(50):
        rewards, tokens, groups = [], [], []
        for number in range(6):
            level = rng.random()
            for _ in range(8):
                long = rng.random() < 0.5
                tokens.append(rng.randint(60, 96) if long else rng.randint(3, 30))
                rewards.append(float(rng.random() < level * (0.3 if long else 1)) - 0.1 * long)
                groups.append(number)
        advantages_B = of("reinforce_plus_plus_baseline", rewards, mask_BT=lengths(*tokens), groups=groups)[:, 0]
        group_B = torch.tensor(groups)
        means_B = torch.stack([torch.tensor(rewards)[group_B == number].mean() for number in groups])
        centred_B = torch.tensor(rewards) - means_B
        assert (torch.sign(advantages_B)[centred_B.abs() > 1e-5] == torch.sign(centred_B)[centred_B.abs() > 1e-5]).all()


def test_by_default_a_batch_that_differs_by_an_ast_unit_is_not_blown_up_to_one_that_differs_by_solved_problems():
    rewards, groups, mask_BT = [0.9, 0.9, 0.9, 0.8933] * 4, [number for number in range(4) for _ in range(4)], torch.ones(16, 5)
    assert of("reinforce_plus_plus_baseline", rewards, mask_BT=mask_BT, groups=groups).abs().max() < 0.11
    anything = GRPOSettings(min_deviation=0.0)
    assert advantages(torch.tensor(rewards), groups, mask_BT, anything).abs().max() == pytest.approx(1.7, abs=0.1)


def test_estimators_in_two_forms_agree():
    rewards, mask_BT, groups = [1.0, 0.2, 0.0, 0.5, 0.4], lengths(3, 4, 5, 6, 7), [0, 0, 0, 1, 1]
    for name, norm_by_std in (("grpo", True), ("grpo", False), ("rloo", False)):
        plain, vectorized = (
            of(one, rewards, mask_BT=mask_BT, groups=groups, norm_by_std=norm_by_std) for one in (name, f"{name}_vectorized")
        )
        torch.testing.assert_close(plain, vectorized, rtol=1e-4, atol=1e-6)


def test_every_algorithm_of_verls_is_offered_or_refused_with_a_reason():
    """An upgrade that brings a new one fails here, until someone has looked what it needs."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    def of_verl(registry: dict[str, Any]) -> set[str]:
        """Its names, without those that other tests' plug-ins registered."""
        return {name for name, function in registry.items() if function.__module__.startswith("verl.")}

    assert {*VERL_ESTIMATORS, *REFUSED_ESTIMATORS} == of_verl(ADV_ESTIMATOR_REGISTRY) - {*OUR_ESTIMATORS}
    assert {*VERL_LOSSES, *REFUSED_LOSSES} == of_verl(POLICY_LOSS_REGISTRY) - {*OUR_LOSSES}
    assert not {*VERL_ESTIMATORS} & {*REFUSED_ESTIMATORS} and not {*VERL_LOSSES} & {*REFUSED_LOSSES}
    assert all(ESTIMATORS.find(name) is ADV_ESTIMATOR_REGISTRY[name] for name in VERL_ESTIMATORS)
    assert all(POLICY_LOSSES.find(name) is POLICY_LOSS_REGISTRY[name] for name in VERL_LOSSES)


@pytest.mark.parametrize("name", VERL_ESTIMATORS)
def test_an_offered_estimator_has_no_input_that_it_would_silently_do_without(name):
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    given = {"token_level_rewards", "response_mask", "index", "config", "norm_adv_by_std_in_grpo", "f_norm", "epsilon", "alpha", "kwargs"}
    assert set(inspect.signature(get_adv_estimator_fn(name)).parameters) <= given


def test_the_names_of_the_issue_are_known():
    assert {"grpo", "reinforce_plus_plus_baseline", "rloo", "grpo_passk"} <= set(VERL_ESTIMATORS)
    assert {"vanilla", "gspo", "cispo"} <= set(VERL_LOSSES)
    check_names(GRPOSettings())
