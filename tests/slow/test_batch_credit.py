"""Advantages by round and by span, by hand."""

from dataclasses import replace

import pytest
import torch

from reward.score import Score
from rollout.records import Completion, Edit, Episode, Group, Round, Span
from tests.scripted_parts import problem
from trainer.algorithm.batch import policy_batch
from trainer.settings import GRPOSettings

BY_ROUND = GRPOSettings(credit="round", advantage="grpo", norm_by_std=False)
BY_SPAN = GRPOSettings(credit="span", advantage="grpo", norm_by_std=False)


def part(own: float | None, ids: tuple[int, ...], feedback: tuple[int, ...] = ()) -> Round:
    completion = Completion("", ids, (-0.1,) * len(ids), 0, "stop")
    return Round(completion, None, None, (), "Again." if feedback else "", feedback, None if own is None else Score(own, {}, False))


def talk(total: float | None, *own: float) -> Episode:
    """An episode whose rounds, worth ``own`` each, have two tokens; two tokens of feedback stand between them."""
    rounds = tuple(part(one, (10, 11), (20, 21) if number else ()) for number, one in enumerate(own))
    return Episode("e", rounds, len(rounds) - 1, None if total is None else Score(total, {}, False))


def advantages(settings: GRPOSettings, *groups: Group) -> torch.Tensor:
    batch = policy_batch(groups, settings)
    assert batch is not None
    return batch.advantages_BT


def siblings(*episodes: Episode) -> Group:
    return Group(problem(), (1, 2), episodes)


THREE = siblings(talk(1.0, 0.0, 1.0), talk(0.5, 0.5, 0.5), talk(1.0, 1.0))
"""Round 1 earns (0 + 1) / 2, (0.5 + 0.5) / 2 and (1 + 1) / 2; round 2 earns 1 and 0.5, and the third episode has none."""


def test_each_round_of_three_siblings_is_compared_with_the_same_round():
    assert advantages(BY_ROUND, THREE).tolist() == [
        pytest.approx([-1 / 6, -1 / 6, 0, 0, 0.25, 0.25]),
        pytest.approx([-1 / 6, -1 / 6, 0, 0, -0.25, -0.25]),
        pytest.approx([1 / 3, 1 / 3, 0, 0, 0, 0]),
    ]


def test_the_estimator_is_the_one_that_is_named():
    rloo = advantages(replace_advantage(BY_ROUND, "rloo"), THREE)
    assert rloo[:, 0].tolist() == pytest.approx([-0.25, -0.25, 0.5]) and rloo[:2, 4].tolist() == pytest.approx([0.5, -0.5])
    whitened = advantages(replace_advantage(BY_ROUND, GRPOSettings().advantage), THREE)
    plain = advantages(BY_ROUND, THREE)
    ratios = (whitened / plain)[plain != 0]
    assert ratios.min() > 1 and torch.allclose(ratios, ratios[0].expand_as(ratios)), "one deviation for the batch"


def replace_advantage(settings: GRPOSettings, name: str) -> GRPOSettings:
    return settings.model_copy(update={"advantage": name})


def test_a_round_without_a_sibling_is_compared_with_nothing():
    alone = siblings(talk(1.0, 0.0, 1.0), talk(0.5, 0.5), talk(1.0, 1.0))
    assert advantages(BY_ROUND, alone)[0].tolist() == pytest.approx([-1 / 6, -1 / 6, 0, 0, 0, 0])


def test_rounds_of_a_masked_episode_are_in_no_baseline():
    masked = siblings(*THREE.episodes, talk(None, 0.25, 0.25))
    assert advantages(BY_ROUND, masked).tolist() == advantages(BY_ROUND, THREE).tolist()


@pytest.mark.parametrize("name", ["grpo", "rloo", GRPOSettings().advantage])
def test_with_one_round_credit_by_round_is_credit_by_episode(name: str):
    groups = [siblings(talk(0.2, 0.2), talk(0.9, 0.9)), siblings(talk(0.1, 0.1), talk(0.4, 0.4), talk(0.7, 0.7))]
    by_episode = replace_advantage(GRPOSettings(norm_by_std=True), name)
    assert torch.equal(
        advantages(by_episode.model_copy(update={"credit": "round"}), *groups),
        advantages(by_episode, *groups),
    )


PAIR = siblings(talk(0.0, 0.0), talk(1.0, 1.0))
REVISE = Edit("revise", "input", 0.4, (Span(1, 1, 2),), 0, 1, 0, 0.001)


def test_a_calls_worth_is_added_on_its_tokens_alone():
    assert advantages(BY_SPAN, replace(PAIR, edits=(REVISE,))).tolist() == [[-0.5, -0.5], [0.5, pytest.approx(0.9)]]
    assert advantages(BY_SPAN, PAIR).tolist() == [[-0.5, -0.5], [0.5, 0.5]]


def test_a_calls_worth_is_in_the_unit_of_the_estimators_advantages():
    rloo = advantages(replace_advantage(BY_SPAN, "rloo"), replace(PAIR, edits=(REVISE,)))
    assert rloo.tolist() == [[-1, -1], [1, pytest.approx(1 + 2 * 0.4)]]
    whitened = advantages(replace_advantage(BY_SPAN, GRPOSettings().advantage), replace(PAIR, edits=(REVISE,)))
    assert whitened[1, 1].item() == pytest.approx(whitened[1, 0].item() * (0.5 + 0.4) / 0.5)


def test_in_a_batch_of_flat_groups_the_calls_alone_teach():
    flat = siblings(talk(1.0, 1.0), talk(1.0, 1.0))
    lost = replace(REVISE, difference=None)
    assert advantages(BY_SPAN, replace(flat, edits=(REVISE, lost))).tolist() == [[0, 0], [0, pytest.approx(0.4)]]


def test_edits_teach_nothing_where_credit_is_not_by_span():
    assert advantages(BY_SPAN.model_copy(update={"credit": "episode"}), replace(PAIR, edits=(REVISE,))).tolist() == [[-0.5] * 2, [0.5] * 2]


def test_a_call_is_worth_no_more_than_the_largest_advantage_where_groups_differ_by_next_to_nothing():
    """GRPO divides by a group's own deviation, so that there a unit of reward is worth hundreds of advantages."""
    by_group = GRPOSettings(credit="span", advantage="grpo", norm_by_std=True)
    tiny = [siblings(talk(1.0, 1.0), talk(0.993, 0.993)) for _ in range(30)]
    told = replace(tiny[0], edits=(replace(REVISE, difference=1.0),))
    found = advantages(by_group, told, *tiny[1:])
    assert float(found.abs().max()) <= 2 * float(advantages(by_group, *tiny).abs().max()) + 1e-6
