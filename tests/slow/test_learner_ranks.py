"""Two ranks compute what one computes, and failures to start end in one sentence."""

import asyncio

import psutil
import pytest
import ray
import torch

from rollout.nano.policy import make_nano_policy
from tests.slow.test_learner_training import TEXTS, on_policy, random_rows
from trainer.cluster.placement import learner_groups
from trainer.cluster.session import start_ray, stop_ray
from trainer.learner.handle import Learner
from trainer.settings import ClusterSettings, GRPOSettings, LearnerSettings, OptimizerSettings, RunSettings

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_nano_policy(tmp_path_factory.mktemp("policy"), TEXTS * 4, seed=0)


@pytest.fixture(scope="module")
def running_ray():
    temp = start_ray(RunSettings(learner=LearnerSettings(ranks=2), cluster=ClusterSettings(object_store_mib=128)))
    yield
    stop_ray(temp)


@pytest.fixture(scope="module")
def pair(folder, running_ray):
    """One rank that computes all rows at once, and two ranks that cut them into many micro-batches."""
    one = Learner(folder, LearnerSettings(ranks=1, micro_batch_tokens=16_384, threads=1), device="cpu", seed=0)
    two = Learner(folder, LearnerSettings(ranks=2, micro_batch_tokens=64, threads=1), device="cpu", seed=0)

    async def start() -> None:
        await asyncio.gather(one.start(), two.start())

    async def close() -> None:
        await asyncio.gather(one.close(), two.close())

    try:
        asyncio.run(start())
        yield one, two
    finally:
        asyncio.run(close())


async def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return await (await learner.weights()).tensors()


async def assert_equal_weights(one: Learner, two: Learner, *, steps_of_lr: float) -> None:
    """Equal but for a few elements whose gradient is 0 within rounding: AdamW's first steps take them a whole ``lr`` either way.

    Args:
        steps_of_lr: the learning rate times the optimizer steps since the weights were the same.
    """
    expected, actual = await weights_of(one), await weights_of(two)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=1e-5 + 2 * steps_of_lr)
    apart = sum(int((~torch.isclose(actual[name], tensor, rtol=1e-3, atol=1e-5)).sum()) for name, tensor in expected.items())
    assert apart <= 1e-4 * sum(tensor.numel() for tensor in expected.values()), f"{apart} elements differ"


@pytest.mark.parametrize("rows", [16, 13, 1])
async def test_an_sft_step_on_two_ranks_is_that_on_one(pair, rows):
    """SGD-like comparison by loss and gradient norm: Adam would hide a wrong scale."""
    one, two = pair
    batch = random_rows(rows, seed=rows)
    for learner in pair:
        await learner.configure_optimizer(OptimizerSettings(lr=1e-6, warmup_steps=0), 10)
    expected, actual = [await learner.sft(batch) for learner in pair]
    assert actual["sft/loss"] == pytest.approx(expected["sft/loss"], rel=1e-5)
    assert actual["sft/grad_norm"] == pytest.approx(expected["sft/grad_norm"], rel=1e-4)
    await assert_equal_weights(one, two, steps_of_lr=0.0)


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
async def test_a_policy_update_with_masked_tokens_and_uneven_rows_is_the_same_on_two_ranks(pair, aggregation):
    one, two = pair
    rows = random_rows(22, siblings=2, seed=3)
    rows.loss_mask_BT[0] = 0
    rows.loss_mask_BT[5, :2] = 0
    settings = GRPOSettings(loss_aggregation=aggregation, kl_coef=0.02, updates_per_step=3)
    torch.manual_seed(0)
    batch = await on_policy(one, rows, torch.randn(22))
    for learner in pair:
        await learner.set_reference()
        await learner.configure_optimizer(OptimizerSettings(lr=1e-4, warmup_steps=0), 10)
    expected, actual = [await learner.update(batch, settings) for learner in pair]
    for name in ("actor/loss", "actor/kl", "actor/grad_norm", "actor/entropy", "actor/rollout_gap_mean", "actor/rollout_gap_max"):
        rounding = (
            1e-5 if name == "actor/rollout_gap_max" else 2e-6
        )  # the largest difference of single log-probabilities of about 7, in fp32
        assert actual[name] == pytest.approx(expected[name], rel=1e-3, abs=rounding), name
    await assert_equal_weights(one, two, steps_of_lr=9 * 1e-4)  # three cases of three steps on the same pair


async def test_log_probabilities_come_back_in_the_order_of_the_rows(pair):
    one, two = pair
    rows = random_rows(21, siblings=3, seed=4)
    torch.testing.assert_close(await two.logprobs(rows), await one.logprobs(rows), rtol=1e-4, atol=1e-4)


async def test_ranks_in_a_group_for_each_machine_compute_the_same(pair, tmp_path):
    one, _ = pair
    await one.export(tmp_path / "now")  # other tests have trained it
    apart = Learner(tmp_path / "now", LearnerSettings(ranks=2, nodes=2, threads=1), device="cpu", seed=0)
    try:
        await apart.start()
        rows = random_rows(9, siblings=3, seed=5)
        torch.testing.assert_close(await apart.logprobs(rows), await one.logprobs(rows), rtol=1e-4, atol=1e-4)
    finally:
        await apart.close()


async def test_a_model_that_does_not_exist_is_one_sentence(running_ray, tmp_path):
    learner = Learner(tmp_path / "nowhere", LearnerSettings(), device="cpu", seed=0)
    try:
        with pytest.raises(ValueError, match=r"policy .*nowhere cannot be loaded"):
            await learner.start()
        pids = [rank.pid for rank in await learner.describe()]
    finally:
        await learner.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_an_engine_argument_that_verl_does_not_know_is_named(running_ray, folder):
    learner = Learner(folder, LearnerSettings(engine_args={"ofload": True}), device="cpu", seed=0)
    try:
        with pytest.raises(ValueError, match=r"engine_args has ofload"):
            await learner.start()
    finally:
        await learner.close()


async def test_more_ranks_than_the_cluster_has_cpus_are_refused(running_ray, folder):
    settings = LearnerSettings(ranks=64)
    learner = Learner(folder, settings, device="cpu", seed=0, place=lambda: learner_groups(settings, "cpu", timeout_s=1.0))
    with pytest.raises(ValueError, match=r"no room within 1 s for learner.ranks=64 ranks: 64 x \{CPU: 1\}.*lower learner.ranks"):
        await learner.start()
    await learner.close()


async def test_a_start_that_is_cancelled_leaves_nothing_behind(running_ray, folder):
    before = ray.available_resources().get("CPU", 0)
    learner = Learner(folder, LearnerSettings(), device="cpu", seed=0)
    starting = asyncio.ensure_future(learner.start())
    await asyncio.sleep(2.0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await learner.close()
    for _ in range(100):
        if ray.available_resources().get("CPU", 0) == before:
            break
        await asyncio.sleep(0.1)
    assert ray.available_resources().get("CPU", 0) == before
