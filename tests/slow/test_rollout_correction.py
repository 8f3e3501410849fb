"""Off-policy correction: weights are cut off at their bound, and what is rejected has no gradient."""

import math

import pytest
import torch
from verl.utils import tensordict_utils as tu

from trainer.algorithm.losses import actor_config, policy_loss
from trainer.algorithm.rollout_correction import correct
from trainer.engines.token_rows import TokenRows
from trainer.engines.verl_data import to_tensordict
from trainer.settings import GRPOSettings

ROWS = [((1, 2), (3, 4, 5)), ((6,), (7, 8)), ((9, 9), (10, 11, 12))]
LOG_RATIOS = [[math.log(4), math.log(1.5), math.log(0.5)], [0.0, 0.0, 0.0], [math.log(1.4), math.log(9.0), math.log(1.4)]]
"""Learner against rollout; the second token of the last row is a hole in its loss mask."""


def batch():
    """Rows whose learner and rollout disagree by ``LOG_RATIOS``; also the rows' tokens and the hole."""
    rows = TokenRows.of(ROWS)
    rows.loss_mask_BT[2, 1] = 0
    dense = {name: torch.full((3, 3), -1.0) for name in ("old_log_probs", "rollout_log_probs")}
    dense["rollout_log_probs"] = dense["old_log_probs"] - torch.tensor(LOG_RATIOS)
    dense["rollout_log_probs"][2, 1] = 0.0  # the rollout has no figure for a token that it was given
    dense["advantages"] = torch.ones(3, 3)
    return to_tensordict(rows, dense, {"global_batch_size": 3, "dp_size": 1, "batch_num_tokens": int(rows.loss_mask_BT.sum())})


def settings(**corrections) -> GRPOSettings:
    return GRPOSettings(kl_coef=0.0, old_logprobs="recompute", **corrections)


def gradients(data, grpo: GRPOSettings) -> list[list[float]]:
    """Of the loss with respect to each row's response tokens, on-policy."""
    offsets = data["input_ids"].offsets()
    logprobs = torch.full((int(offsets[-1]),), -1.0, requires_grad=True)
    tu.assign_non_tensor(data, batch_num_tokens=int(data["loss_mask"].values().sum()))
    loss, _ = policy_loss(actor_config(grpo, 3), {"log_probs": torch.nested.nested_tensor_from_jagged(logprobs, offsets)}, data)
    loss.backward()
    assert logprobs.grad is not None
    ends, counts = offsets[1:].tolist(), data["responses"].offsets().diff().tolist()
    return [logprobs.grad[end - count - 1 : end - 1].tolist() for end, count in zip(ends, counts, strict=True)]


def test_without_correction_only_the_figures_are_reported():
    data = batch()
    metrics = correct(data, settings())
    assert "rollout_is_weights" not in data
    assert metrics["rollout_corr/kl"] == pytest.approx(-sum(map(sum, LOG_RATIOS[:2])) / 7 - 2 * math.log(1.4) / 7)
    flat = [figure for row in gradients(data, settings()) for figure in row]
    assert flat == pytest.approx([-1 / 7] * 3 + [-1 / 7] * 2 + [-1 / 7, 0, -1 / 7])


def test_token_weights_are_the_ratios_cut_off_at_the_threshold():
    data, grpo = batch(), settings(rollout_is="token", rollout_is_threshold=2.0)
    metrics = correct(data, grpo)
    assert data["rollout_is_weights"].tolist() == [pytest.approx([2.0, 1.5, 0.5]), [1, 1, 0], pytest.approx([1.4, 0, 1.4])]
    assert metrics["rollout_corr/rollout_is_ratio_fraction_high"] == pytest.approx(1 / 7)
    assert gradients(data, grpo)[0] == pytest.approx([-2 / 7, -1.5 / 7, -0.5 / 7])


def test_a_responses_weight_is_the_product_of_its_tokens_ratios_cut_off():
    data = batch()
    correct(data, settings(rollout_is="sequence", rollout_is_threshold=2.5))
    assert data["rollout_is_weights"].tolist() == [pytest.approx([2.5] * 3), [1, 1, 0], pytest.approx([1.96, 0, 1.96])]


def test_a_rejected_token_has_no_gradient_and_the_mean_is_over_the_others():
    data, grpo = batch(), settings(rollout_rs="token", rollout_rs_threshold=3.0)
    metrics = correct(data, grpo)
    assert gradients(data, grpo)[0] == pytest.approx([0, -1 / 6, -1 / 6])
    assert metrics["rollout_corr/rollout_rs_masked_fraction"] == pytest.approx(1 / 7)


@pytest.mark.parametrize(("kind", "threshold"), [("sequence", 2.5), ("geometric", 1.41)])
def test_a_rejected_response_has_no_gradient(kind, threshold):
    data, grpo = batch(), settings(rollout_rs=kind, rollout_rs_threshold=threshold)
    metrics = correct(data, grpo)
    assert gradients(data, grpo)[0] == [0, 0, 0]
    assert gradients(data, grpo)[2] == pytest.approx([-1 / 4, 0, -1 / 4])
    assert metrics["rollout_corr/rollout_rs_seq_masked_fraction"] == pytest.approx(1 / 3)


def test_where_all_is_rejected_the_loss_is_zero_and_finite():
    data, grpo = batch(), settings(rollout_rs="token", rollout_rs_threshold=1.0001)
    data["response_mask"][1:] = 0
    correct(data, grpo)
    assert data["loss_mask"].values().sum() == 0
    assert all(figure == 0 for row in gradients(data, grpo) for figure in row)


def test_a_share_without_loss_tokens_takes_part_and_reports_nothing():
    data = batch()
    data["response_mask"] = torch.zeros(3, 3, dtype=torch.long)
    assert correct(data, settings(rollout_is="token", rollout_rs="sequence")) == {}
    assert data["rollout_is_weights"].sum() == 0


@pytest.mark.parametrize("corrections", [{"rollout_is": "token"}, {"rollout_is": "sequence"}, {"rollout_rs": "geometric"}])
def test_on_policy_nothing_changes(corrections):
    plain, corrected = batch(), batch()
    for data in (plain, corrected):
        data["rollout_log_probs"] = data["old_log_probs"]
    grpo = settings(**corrections)
    correct(corrected, grpo)
    assert gradients(corrected, grpo) == gradients(plain, settings())
