"""Groups of episodes as tensors."""

import pytest
import torch

from reward.score import Score
from rollout.records import Completion, Episode, Group, Round
from tests.scripted_parts import problem
from trainer.algorithm.batch import policy_batch
from trainer.engines.token_rows import TokenRows
from trainer.settings import GRPOSettings

NO_WHITENING = GRPOSettings(advantage="grpo", norm_by_std=False)


def episode(reward: float | None, tokens: int = 3) -> Episode:
    score = None if reward is None else Score(reward, {}, False)
    ids = tuple(range(10, 10 + tokens))
    completion = Completion("", ids, tuple(-0.1 * token for token in range(1, tokens + 1)), 0, "stop")
    return Episode("e", (Round(completion, None, None, ()),), 0, score)


def group(*rewards: float | None, prompt: int = 4, tokens: int = 3) -> Group:
    return Group(problem(), tuple(range(1, prompt + 1)), tuple(episode(reward, tokens) for reward in rewards))


def test_every_sampled_token_counts_in_the_loss_and_nothing_else():
    batch = policy_batch([group(0.0, 1.0, tokens=2), group(0.0, 1.0, tokens=5)], GRPOSettings())
    assert batch is not None
    assert batch.rows.loss_mask_BT.tolist() == [[1, 1, 0, 0, 0]] * 2 + [[1] * 5] * 2
    assert batch.rows.response_ids_BT[0].tolist() == [10, 11, 0, 0, 0]
    assert (batch.advantages_BT[:2, 2:] == 0).all()
    assert batch.rollout_logprobs_BT[0].tolist() == pytest.approx([-0.1, -0.2, 0, 0, 0])


def test_feedback_between_rounds_is_read_but_carries_no_loss_and_no_advantage():
    def two_rounds(reward: float) -> Episode:
        first = Round(Completion("", (10, 11), (-0.1, -0.2), 3, "stop"), None, None, ())
        second = Round(Completion("", (12,), (-0.3,), 4, "stop"), None, None, (), "Again.", (20, 21))
        return Episode("e", (first, second), 1, Score(reward, {}, False))

    batch = policy_batch([Group(problem(), (1, 2), (two_rounds(0.0), two_rounds(1.0)))], NO_WHITENING)
    assert batch is not None
    assert batch.rows.response_ids_BT.tolist() == [[10, 11, 20, 21, 12]] * 2
    assert batch.rows.loss_mask_BT.tolist() == [[1, 1, 0, 0, 1]] * 2
    assert batch.rollout_logprobs_BT[1].tolist() == pytest.approx([-0.1, -0.2, 0, 0, -0.3])
    assert batch.advantages_BT.tolist() == [[-0.5, -0.5, 0, 0, -0.5], [0.5, 0.5, 0, 0, 0.5]]


def test_prompts_of_different_length_keep_their_tokens():
    batch = policy_batch([group(0.0, 1.0, prompt=2), group(0.0, 1.0, prompt=5)], GRPOSettings())
    assert batch is not None
    assert batch.rows.prompt_ids_BP.tolist() == [[1, 2, 0, 0, 0]] * 2 + [[1, 2, 3, 4, 5]] * 2
    assert batch.rows.prompt_lengths_B.tolist() == [2, 2, 5, 5]
    assert batch.rows.lengths_B.tolist() == [5, 5, 8, 8]


def test_an_unscored_episode_is_neither_in_the_loss_nor_in_the_baseline():
    batch = policy_batch([group(1.0, None, 0.0)], NO_WHITENING)
    assert batch is not None
    assert batch.rewards_B.tolist() == [1.0, 0.0]
    assert batch.advantages_BT[:, 0].tolist() == [0.5, -0.5]
    assert batch.masked_episodes == 1
    assert batch.dropped_groups == 0


def test_a_group_with_one_scored_episode_contributes_nothing():
    batch = policy_batch([group(5.0, None), group(0.0, 1.0)], NO_WHITENING)
    assert batch is not None
    assert batch.rewards_B.tolist() == [0.0, 1.0]
    assert batch.group_B.tolist() == [1, 1]
    assert (batch.masked_episodes, batch.dropped_groups) == (1, 1)


def test_no_scored_group_gives_no_batch():
    assert policy_batch([group(None, None), group(1.0, None)], GRPOSettings()) is None
    assert policy_batch([], GRPOSettings()) is None


def test_an_empty_completion_is_left_out():
    batch = policy_batch([Group(problem(), (1, 2), (episode(1.0), episode(0.0), episode(0.5, tokens=0)))], GRPOSettings())
    assert batch is not None
    assert len(batch.rows) == 2


@pytest.mark.parametrize("pairs", [[], [((), (1,))], [((1,), ())]])
def test_rows_without_tokens_are_refused(pairs):
    with pytest.raises(ValueError, match="at least one"):
        TokenRows.of(pairs)


def test_selected_rows_keep_their_tokens():
    rows = TokenRows.of([((1,), (2, 3)), ((4, 5), (6,)), ((7,), (8,))])
    chosen = rows.select(torch.tensor([2, 0]))
    assert chosen.prompt_ids_BP.tolist() == [[7, 0], [1, 0]]
    assert chosen.loss_mask_BT.tolist() == [[1, 0], [1, 1]]
