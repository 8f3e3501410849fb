"""How a batch is cut into mini-batches and ranks' shares, and what becomes of schedules and metrics."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.algorithm.losses import actor_config, geo_mean, learning_rate_factor, policy_loss
from trainer.algorithm.names import LOSS_AGGREGATIONS, ONE_AGGREGATION, OUR_LOSSES, VERL_LOSSES
from trainer.engines.token_rows import TokenRows
from trainer.engines.verl_data import mini_batches, share_of_rank, to_tensordict
from trainer.learner.metrics import mean_over_steps, step_metrics
from trainer.settings import GRPOSettings, OptimizerSettings


@st.composite
def batches(draw) -> TokenRows:
    groups = draw(st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 30), min_size=1, max_size=5)), min_size=1, max_size=8))
    return TokenRows.of([((number + 1,) * prompt, (9,) * length) for number, (prompt, lengths) in enumerate(groups) for length in lengths])


@given(batches(), st.integers(1, 4))
def test_every_row_is_on_exactly_one_rank_and_all_ranks_have_equally_many(rows, ranks):
    shares = [share_of_rank(rows, rank, ranks).tolist() for rank in range(ranks)]
    assert sorted(index for share in shares for index in share if index >= 0) == list(range(len(rows)))
    assert len({len(share) for share in shares}) == 1


@given(batches(), st.integers(2, 4))
def test_siblings_stay_together_where_there_are_prompts_enough(rows, ranks):
    prompts = [tuple(prompt) for prompt in rows.prompt_ids_BP.tolist()]
    if len(set(prompts)) < ranks:
        return
    owners: dict[tuple[int, ...], set[int]] = {}
    for rank in range(ranks):
        for index in share_of_rank(rows, rank, ranks).tolist():
            if index >= 0:
                owners.setdefault(prompts[index], set()).add(rank)
    assert all(len(ranks_of_prompt) == 1 for ranks_of_prompt in owners.values())


def test_shares_are_balanced_by_tokens():
    rows = TokenRows.of([((1 + index,), (5,) * length) for index, length in enumerate([100, 10, 10, 10, 40, 30])])
    loads = [int(rows.lengths_B[share[share >= 0]].sum()) for share in (share_of_rank(rows, 0, 2), share_of_rank(rows, 1, 2))]
    assert max(loads) - min(loads) <= 10


def test_mini_batches_cover_the_rows_in_order():
    assert [part.tolist() for part in mini_batches(5, 2)] == [[0, 1, 2], [3, 4]]
    assert [part.tolist() for part in mini_batches(2, 4)] == [[0], [1]]


def test_verl_gets_the_tokens_of_each_row_without_padding():
    rows = TokenRows.of([((1, 2), (3, 4, 5)), ((6,), (7,))])
    data = to_tensordict(rows, {"advantages": torch.ones(2, 3)}, {"global_batch_size": 2})
    assert [row.tolist() for row in data["input_ids"].unbind()] == [[1, 2, 3, 4, 5], [6, 7]]
    assert [row.tolist() for row in data["position_ids"].unbind()] == [[0, 1, 2, 3, 4], [0, 1]]
    assert [row.tolist() for row in data["loss_mask"].unbind()] == [[0, 0, 1, 1, 1], [0, 1]]


def test_the_learning_rate_warms_up_from_the_first_step_and_falls_along_a_cosine():
    settings = OptimizerSettings(warmup_steps=4, schedule="cosine", min_lr_ratio=0.1)
    factors = [learning_rate_factor(step, 24, settings) for step in range(25)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert factors[14] == pytest.approx(0.55)
    assert factors[24] == pytest.approx(0.1)
    assert learning_rate_factor(1000, 24, settings) == pytest.approx(0.1)


def test_a_constant_schedule_stays_after_the_warm_up():
    settings = OptimizerSettings(warmup_steps=0, schedule="constant")
    assert {learning_rate_factor(step, 10, settings) for step in range(10)} == {1.0}


def test_metrics_of_ranks_and_micro_batches_become_one_figure_each():
    from verl.utils.metric import Metric

    def of_two_ranks(kind: str, *ranks: list[float]) -> list[Metric]:
        metrics = [Metric(kind) for _ in ranks]
        for metric, values in zip(metrics, ranks, strict=True):
            metric.extend(values)
        return metrics

    raw = {
        "actor/ppo_kl": of_two_ranks("mean", [1.0, 3.0], [2.0, 2.0]),
        "kl_loss": of_two_ranks("sum", [1.0, 3.0], [2.0, 2.0]),
        "gap_max": of_two_ranks("max", [1.0, 3.0], [2.0, 7.0]),
        "surprisal": of_two_ranks("sum", [0.5], [0.7]),
        "kl_coef": [[0.02], [0.02]],
        "loss": 0.5,
        "perf/cpu_memory_used_gb": 3.0,
    }
    assert step_metrics(raw, "actor") == pytest.approx(
        {"actor/ppo_kl": 2.0, "actor/kl": 4.0, "actor/rollout_gap_max": 7.0, "actor/entropy": 0.6, "actor/loss": 0.5}
    )


def test_the_gap_to_the_rollouts_is_that_of_the_first_mini_batch():
    steps = [{"actor/rollout_gap_mean": 0.0, "actor/loss": 1.0}, {"actor/rollout_gap_mean": 5.0, "actor/loss": 3.0}]
    assert mean_over_steps(steps) == {"actor/rollout_gap_mean": 0.0, "actor/loss": 2.0}


ROWS = 12
LOSSES = [*VERL_LOSSES, *OUR_LOSSES]


def with_loss(name: str, **settings) -> GRPOSettings:
    return GRPOSettings(policy_loss=name, loss_args={"dro_beta": 0.1} if name == "dro" else {}, **settings)


def policy_gradient(name: str, aggregation: str, shares: list[list[list[int]]]) -> torch.Tensor:
    """Gradient on the log-probabilities (rows, T) of one mini-batch, KL included, whose rows lie on ranks in micro-batches.

    The learner's own figures go with each micro-batch: tokens and responses of the mini-batch, and the number of ranks, over whose
    gradients the engine takes the mean. Row 0 was rejected: it has no loss.
    """
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 31, (ROWS,), generator=generator).tolist()
    masks = [[int(row > 0)] * length for row, length in enumerate(lengths)]
    rows = TokenRows.of([((1, 2), (3,) * length) for length in lengths], masks=masks)
    width = rows.response_ids_BT.shape[1]
    old_BT = -2 * torch.rand(ROWS, width, generator=generator)
    dense = {
        "old_log_probs": old_BT,
        "rollout_log_probs": old_BT,
        "ref_log_prob": old_BT + 0.1,
        "advantages": torch.randn(ROWS, 1, generator=generator) * rows.loss_mask_BT,
        "rollout_is_weights": 0.5 + torch.rand(ROWS, width, generator=generator),
    }
    new_BT = (old_BT + 0.5 * torch.randn(ROWS, width, generator=generator)).requires_grad_()
    figures = {"global_batch_size": ROWS - 1, "batch_num_tokens": int(rows.loss_mask_BT.sum()), "dp_size": len(shares)}
    config = actor_config(with_loss(name, loss_aggregation=aggregation, kl_coef=0.1), width)
    for micro_batch in (micro_batch for share in shares for micro_batch in share):
        index = torch.tensor(micro_batch)
        data = to_tensordict(rows.select(index), {field: tensor[index] for field, tensor in dense.items()}, figures)
        # Each token is predicted by the one before it: two prompt tokens, then the response without its last place.
        values = [torch.cat([torch.zeros(1), new_BT[row, : lengths[row]], torch.zeros(1)]) for row in micro_batch]
        output = {"log_probs": torch.nested.nested_tensor_from_jagged(torch.cat(values), data["input_ids"].offsets())}
        loss, _ = policy_loss(config, output, data)
        (loss / len(shares)).backward()
    assert new_BT.grad is not None
    return new_BT.grad


WHOLE = [[list(range(ROWS))]]
CUTS = {
    "micro-batches of equal size": [[[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]],
    "micro-batches of unequal size": [[[0], [1, 2, 3, 4, 5, 6, 7, 8], [9, 10], [11]]],
    "ranks": [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9, 10, 11]]],
    "ranks and micro-batches": [[[0, 1, 2, 3], [4]], [[5], [6, 7, 8, 9]], [[10], [11]]],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_gradient_does_not_depend_on_how_its_mini_batch_is_cut(name, aggregation, cut):
    whole = policy_gradient(name, aggregation, WHOLE)
    assert whole[0].eq(0).all() and whole[1:].abs().max() > 0
    torch.testing.assert_close(policy_gradient(name, aggregation, CUTS[cut]), whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


@pytest.mark.parametrize("aggregation", ["seq-mean-token-mean", "token-mean"])
def test_geo_mean_is_verls_over_the_mini_batch(aggregation):
    from verl.trainer.ppo.core_algos import compute_policy_loss_geo_mean

    generator = torch.Generator().manual_seed(0)
    old_BT, advantages_BT = -torch.rand(ROWS, 9, generator=generator), torch.randn(ROWS, 1, generator=generator).expand(ROWS, 9)
    new_BT = old_BT + 0.3 * torch.randn(ROWS, 9, generator=generator)
    config = actor_config(with_loss("geo_mean", loss_aggregation=aggregation), 9)
    config.global_batch_info.update(dp_size=1, batch_num_tokens=9 * ROWS, global_batch_size=ROWS, loss_scale_factor=None)
    arguments = (old_BT, new_BT, advantages_BT, torch.ones(ROWS, 9), aggregation, config, None)
    torch.testing.assert_close(geo_mean(*arguments)[0], compute_policy_loss_geo_mean(*arguments)[0])


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_a_loss_that_is_refused_for_its_cuts_still_depends_on_them(name):
    torch.manual_seed(0)
    name = f"verl.trainer.ppo.core_algos:compute_policy_loss_{name}"
    whole, cut = (policy_gradient(name, "seq-mean-token-mean", shares) for shares in (WHOLE, CUTS["micro-batches of unequal size"]))
    assert (whole - cut).abs().max() > 0.01 * whole.abs().max(), "it may be offered again"


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_aggregated_as_the_settings_say_unless_they_are_refused(name):
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    def value(aggregation: str) -> float:
        config = actor_config(with_loss(name, loss_aggregation=aggregation), 4)
        config.global_batch_info.update(dp_size=1, batch_num_tokens=5, global_batch_size=2, loss_scale_factor=config.loss_scale_factor)
        loss, _ = get_policy_loss_fn(name)(
            old_log_prob=torch.full((2, 4), -1.0),
            log_prob=torch.full((2, 4), -1.0),
            advantages=torch.tensor([[1.0] * 4, [3.0] * 4]),
            response_mask=torch.tensor([[1.0, 0, 0, 0], [1.0] * 4]),
            loss_agg_mode=aggregation,
            config=config,
            rollout_is_weights=None,
        )
        return round(float(loss), 5)

    values = {aggregation: value(aggregation) for aggregation in LOSS_AGGREGATIONS}
    if name in ONE_AGGREGATION:
        assert set(values.values()) == {values[ONE_AGGREGATION[name]]}
    else:
        assert len(set(values.values())) == len(LOSS_AGGREGATIONS)


@pytest.mark.parametrize("name", ["dppo_tv", "dppo_kl"])
def test_dppo_cuts_ratios_off_where_its_authors_do_and_not_where_ppo_does(name):
    assert actor_config(GRPOSettings(policy_loss=name), 1).clip_ratio_c == 20
    assert actor_config(GRPOSettings(), 1).clip_ratio_c == 3


@pytest.mark.parametrize("name", LOSSES)
def test_every_known_policy_loss_pushes_towards_rewarded_tokens(name):
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    config = actor_config(with_loss(name), 2)
    config.global_batch_info.update(dp_size=1, batch_num_tokens=4, global_batch_size=2, loss_scale_factor=None)
    logprobs_BT = torch.full((2, 2), -1.0, requires_grad=True)
    loss, _ = get_policy_loss_fn(name)(
        old_log_prob=torch.full((2, 2), -1.0),
        log_prob=logprobs_BT,
        advantages=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]),
        response_mask=torch.ones(2, 2),
        loss_agg_mode="token-mean",
        config=config,
        rollout_is_weights=None,
    )
    loss.backward()
    assert logprobs_BT.grad is not None
    assert (logprobs_BT.grad[0] < 0).all()
    assert (logprobs_BT.grad[1] > 0).all()
