"""What leaves a batch before it is learnt (flat groups, completions that were cut off), and what is taken off rewards."""

from typing import Any

import pytest
import torch

from reward.score import Score
from rollout.records import Completion, Episode, Group, Round
from tests.scripted_parts import problem
from trainer.algorithm.batch import BatchRules, policy_batch, scored_episodes, token_rows
from trainer.algorithm.losses import actor_config
from trainer.algorithm.rewards import episode_kl, shaped_reward, terms_of
from trainer.settings import GRPOSettings

LIMIT = 10


def settings(**changes: Any) -> GRPOSettings:
    return GRPOSettings(**{"advantage": "grpo", "kl_coef": 0.0} | changes)


def episode(reward: float, *, tokens: int = 3, cut_off: bool = False, performance: float | None = None, **terms: float) -> Episode:
    completion = Completion("", (7,) * tokens, (-0.5,) * tokens, 0, "length" if cut_off else "stop")
    score = Score(reward, {"performance": reward if performance is None else performance, **terms}, False)
    return Episode("e", (Round(completion, None, None, ()),), 0, score)


def group(*episodes: Episode) -> Group:
    return Group(problem(), (1, 2), episodes)


FLAT, DIFFERENT = group(episode(1.0), episode(1.0, tokens=8)), group(episode(1.0), episode(0.0))


def test_a_flat_group_leaves_the_batch_and_its_means():
    batch = policy_batch([FLAT, DIFFERENT], settings())
    alone = policy_batch([DIFFERENT], settings())
    assert batch is not None and alone is not None
    assert len(batch.rows) == 2 and batch.group_B.tolist() == [1, 1] and batch.flat_groups == 1
    assert int(batch.rows.loss_mask_BT.sum()) == int(alone.rows.loss_mask_BT.sum()) == 6
    assert batch.advantages_BT[:, :3].tolist() == alone.advantages_BT.tolist() == [[0.5] * 3, [-0.5] * 3]


def test_a_flat_group_may_be_kept_with_advantage_0():
    batch = policy_batch([FLAT, DIFFERENT], settings(flat_groups="keep"))
    assert batch is not None and batch.advantages_BT[:, 0].tolist() == [0, 0, 0.5, -0.5] and batch.flat_groups == 1


def test_where_every_group_is_flat_there_is_nothing_to_learn():
    assert policy_batch([FLAT, FLAT], settings()) is None
    kept = policy_batch([FLAT, FLAT], settings(flat_groups="keep"))
    assert kept is not None and not kept.advantages_BT.any()


@pytest.mark.parametrize("rule", [{"flat_by": "performance"}, {"flat_tolerance": 0.02}])
def test_a_group_that_differs_in_latency_alone_is_flat_by_performance_or_by_a_tolerance(rule: dict):
    by_latency = group(episode(0.995, performance=1.0), episode(0.985, performance=1.0))
    batch = policy_batch([by_latency, DIFFERENT], settings(**rule))
    assert batch is not None and batch.group_B.tolist() == [1, 1]
    batch = policy_batch([by_latency, DIFFERENT], settings())
    assert batch is not None and batch.group_B.tolist() == [0, 0, 1, 1]


def test_an_episode_that_was_cut_off_carries_no_loss_and_stays_in_its_groups_baseline():
    one = group(episode(1.0), episode(0.5), episode(0.0, cut_off=True))
    batch = policy_batch([one], settings(overlong="mask"))
    assert batch is not None and len(batch.rows) == 2 and batch.cut_off_episodes == 1
    assert batch.advantages_BT[:, 0].tolist() == [0.5, 0.0]
    kept = policy_batch([one], settings())
    assert kept is not None and kept.advantages_BT[:, 0].tolist() == [0.5, 0.0, -0.5] and kept.cut_off_episodes == 0


@pytest.mark.parametrize(("tokens", "taken"), [(1, 0.0), (6, 0.0), (7, 0.25), (8, 0.5), (10, 1.0)])
def test_near_the_limit_a_completion_loses_up_to_1(tokens: int, taken: float):
    asked = settings(overlong="shape", overlong_buffer=0.4)
    assert shaped_reward(episode(0.5, tokens=tokens), asked, LIMIT) == pytest.approx(0.5 - taken)
    assert shaped_reward(episode(0.5, tokens=tokens), settings(), LIMIT) == 0.5


def test_the_longest_completion_of_an_episode_counts_and_not_their_sum():
    first, second = episode(0.0, tokens=6), episode(0.0, tokens=8)
    both = Episode("e", first.rounds + second.rounds, 1, second.score)
    assert shaped_reward(both, settings(overlong="shape", overlong_buffer=0.4), LIMIT) == pytest.approx(-0.5)


@pytest.mark.parametrize(("kind", "of_a_token"), [("k1", 0.25), ("k2", 0.25**2 / 2)])
def test_a_kl_in_the_reward_is_taken_off_before_episodes_are_compared(kind: str, of_a_token: float):
    groups = [group(episode(1.0, tokens=4), episode(0.0, tokens=2))]
    asked = settings(kl_coef=0.1, kl_in="reward", kl_kind=kind)
    scored = scored_episodes(groups)
    rows = token_rows(scored)
    reference_BT = torch.full(rows.loss_mask_BT.shape, -0.75)
    kl_B = episode_kl([one for _, _, one in scored], reference_BT, rows.loss_mask_BT, kind)
    assert kl_B.tolist() == pytest.approx([4 * of_a_token, 2 * of_a_token])
    batch = policy_batch(groups, asked, kl_B=kl_B)
    assert batch is not None and batch.kl == pytest.approx(of_a_token)
    assert batch.rewards_B.tolist() == pytest.approx([1 - 0.4 * of_a_token, -0.2 * of_a_token])
    assert batch.advantages_BT[:, 0].tolist() == pytest.approx([0.5 - 0.1 * of_a_token, -0.5 + 0.1 * of_a_token])
    assert not actor_config(asked, 1).use_kl_loss and actor_config(settings(kl_coef=0.1), 1).use_kl_loss


def test_gdpo_gets_the_runs_terms_and_weights_and_the_floor_counts_as_performance():
    one = group(
        episode(1.0 - 0.1, performance=1.0, calls=1.0, cost=3.0),
        episode(0.0 - 0.0, performance=0.0, calls=0.0, cost=7.0),
        episode(-0.2 - 0.2, performance=0.0, calls=2.0, cost=5.0),
    )
    rules = BatchRules(weights={"performance": 1.0, "calls": -0.1, "cost": 0.0})
    batch = policy_batch([one], settings(advantage="gdpo"), rules)
    assert batch is not None
    performance, calls = torch.tensor([1.0, 0.0, -0.2]), torch.tensor([1.0, 0.0, 2.0])
    total = (performance - performance.mean()) / performance.std() - 0.1 * (calls - calls.mean()) / calls.std()
    torch.testing.assert_close(batch.advantages_BT[:, 0], total / total.square().mean().sqrt())


def test_dr_grpo_divides_by_what_an_episode_may_have_and_not_by_what_one_has():
    asked = settings(loss_aggregation="seq-mean-token-sum-norm")
    for longest in (4, 9):
        batch = policy_batch([group(episode(1.0), episode(0.0, tokens=longest))], asked, BatchRules(max_response_tokens=LIMIT, rounds=3))
        assert batch is not None and actor_config(asked, batch.most_tokens).loss_scale_factor == 30


def test_what_length_or_the_kl_takes_off_teaches_where_plain_rewards_are_equal():
    equal = group(episode(1.0, tokens=LIMIT, cut_off=True), episode(1.0, tokens=2))
    shaped = settings(overlong="shape", overlong_buffer=0.5, flat_groups="keep")
    batch = policy_batch([equal], shaped, BatchRules(max_response_tokens=LIMIT))
    assert batch is not None and batch.advantages_BT[0, 0] < 0 < batch.advantages_BT[1, 0]
    in_reward = settings(kl_coef=1.0, kl_in="reward", kl_kind="k1", flat_groups="keep")
    with_kl = policy_batch([equal], in_reward, BatchRules(), torch.tensor([0.0, 1.5]))
    assert with_kl is not None and with_kl.advantages_BT[1, 0] < 0 < with_kl.advantages_BT[0, 0]
    by_performance = settings(overlong="shape", overlong_buffer=0.5, flat_groups="keep", flat_by="performance")
    flat = policy_batch([equal], by_performance, BatchRules(max_response_tokens=LIMIT))
    assert flat is not None and not flat.advantages_BT.any()


def test_gpg_divides_by_the_share_of_all_groups_that_are_kept():
    kept = policy_batch([FLAT, FLAT, FLAT, DIFFERENT], settings(advantage="gpg", flat_groups="keep"))
    alone = policy_batch([DIFFERENT], settings(advantage="gpg"))
    assert kept is not None and alone is not None
    assert kept.advantages_BT[-2:, 0].tolist() == pytest.approx((4 * alone.advantages_BT[:, 0]).tolist())


def test_a_term_of_ones_own_is_known_to_gdpo_by_the_name_under_which_it_is_logged():
    episodes = [episode(2.0, performance=1.0, own=2.0), episode(0.0, performance=0.0, own=0.0)]
    terms = terms_of(episodes, torch.tensor([2.0, 0.0]), {"performance": 1.0, "my.module:own": 0.5})
    assert terms is not None
    assert {name: value.tolist() for name, value in terms.values.items()} == {"my.module:own": [2.0, 0.0], "performance": [1.0, 0.0]}
