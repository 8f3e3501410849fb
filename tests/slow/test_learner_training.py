"""One real verl rank on CPU: it learns, and its weights arrive where they are sent."""

import asyncio
import os
import random
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rollout.nano.policy import make_nano_policy
from rollout.weights.buckets import digest, sums
from rollout.weights.source import WeightsGoneError
from trainer.algorithm.batch import PolicyBatch
from trainer.cluster.session import start_ray, stop_ray
from trainer.engines.token_rows import TokenRows
from trainer.learner.handle import Learner
from trainer.settings import GRPOSettings, LearnerSettings, OptimizerSettings, RunSettings

pytestmark = pytest.mark.timeout(300)

TEXTS = ["Write f(xs) that drops the odd numbers.", "class Workflow:\n    async def __call__(self, problem):\n        return problem"]
FAST = OptimizerSettings(lr=5e-3, warmup_steps=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_nano_policy(tmp_path_factory.mktemp("policy"), TEXTS * 4, seed=0)


@pytest.fixture(scope="module")
def shared_learner(folder, tmp_path_factory):
    """One learner for all tests, with the weights that it started from in a checkpoint."""
    temp = start_ray(RunSettings())
    learner = Learner(folder, LearnerSettings(ranks=1), device="cpu", seed=0)
    start = tmp_path_factory.mktemp("start")

    async def begin() -> None:
        await learner.start()
        await learner.configure_optimizer(FAST, 1)
        await learner.save(start)

    try:
        asyncio.run(begin())
        yield learner, start
    finally:
        asyncio.run(learner.close())
        stop_ray(temp)


@pytest.fixture
async def learner(shared_learner) -> Learner:
    """The shared learner as it started, whatever the tests before did to it."""
    learner, start = shared_learner
    torch.manual_seed(0)
    await learner.configure_optimizer(FAST, 1)
    await learner.load(start)
    return learner


def random_rows(count: int, *, siblings: int = 1, seed: int = 0) -> TokenRows:
    """Rows of random tokens, neighbours sharing their prompt."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(4, 250) for _ in range(rng.randint(low, high)))

    return TokenRows.of([(prompt, ids(3, 8)) for prompt in [ids(3, 9) for _ in range(count // siblings)] for _ in range(siblings)])


async def on_policy(learner: Learner, rows: TokenRows, advantages_B: torch.Tensor) -> PolicyBatch:
    """A batch as if the learner's own weights had sampled it."""
    advantages_BT = advantages_B[:, None] * rows.loss_mask_BT
    return PolicyBatch(rows, await learner.logprobs(rows), advantages_BT, advantages_B, torch.arange(len(rows)), 1.0, 0, 0)


async def test_sft_drives_the_loss_down(learner):
    await learner.configure_optimizer(FAST, 40)
    rows = random_rows(16)
    losses = [(await learner.sft(rows))["sft/loss"] for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


async def test_rewarded_responses_become_likelier_and_punished_ones_less_likely(learner):
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=0), 10)
    rows = random_rows(16, siblings=4, seed=1)
    advantages_B = torch.tensor([1.0, -1.0, 1.0, -1.0] * 4)
    before_B = (await learner.logprobs(rows)).sum(1)
    for _ in range(5):
        metrics = await learner.update(await on_policy(learner, rows, advantages_B), GRPOSettings(kl_coef=0.0))
    change_B = (await learner.logprobs(rows)).sum(1) - before_B
    assert (change_B[advantages_B > 0] > 0).all()
    assert change_B[advantages_B < 0].mean() < 0
    assert metrics["actor/rollout_gap_max"] < 1e-5
    assert metrics["batch/rows"] == 16


async def test_the_kl_term_is_zero_at_the_reference_and_grows_with_the_distance(learner):
    await learner.set_reference()
    await learner.configure_optimizer(OptimizerSettings(lr=2e-4, warmup_steps=0), 10)
    batch = await on_policy(learner, random_rows(12, siblings=3, seed=2), torch.randn(12))
    distances = [(await learner.update(batch, GRPOSettings(kl_coef=0.02)))["actor/kl"] for _ in range(3)]
    assert distances[0] == pytest.approx(0.0, abs=1e-9)
    assert distances[2] > distances[1] > 1e-6


async def test_a_kl_in_the_reward_is_no_term_of_the_loss_and_the_reference_can_be_asked(learner):
    await learner.set_reference()
    await learner.configure_optimizer(FAST, 10)
    rows = random_rows(6, siblings=2, seed=8)
    before_BT = await learner.logprobs(rows)
    batch = await on_policy(learner, rows, torch.randn(6))
    metrics = await learner.update(replace(batch, kl=0.25), GRPOSettings(kl_coef=0.1, kl_in="reward", kl_kind="k1"))
    assert metrics["actor/kl"] == 0.25
    torch.testing.assert_close(await learner.logprobs(rows, reference=True), before_BT, rtol=1e-5, atol=1e-6)
    assert (await learner.logprobs(rows) - before_BT).abs().max() > 1e-3


async def test_the_kl_term_alone_pulls_back_to_the_reference(learner):
    await learner.set_reference()
    await learner.configure_optimizer(FAST, 100)
    rows = random_rows(12, siblings=3, seed=3)
    await learner.update(await on_policy(learner, rows, torch.randn(12)), GRPOSettings(kl_coef=0.0))
    flat = torch.zeros(12)
    distances = [(await learner.update(await on_policy(learner, rows, flat), GRPOSettings(kl_coef=1.0)))["actor/kl"] for _ in range(8)]
    assert distances[-1] < 0.5 * distances[0]


async def test_a_kl_term_without_a_reference_is_refused(folder, learner):
    other = Learner(folder, LearnerSettings(ranks=1), device="cpu", seed=0)
    try:
        await other.start()
        await other.configure_optimizer(FAST, 1)
        batch = await on_policy(other, random_rows(4), torch.zeros(4))
        with pytest.raises(ValueError, match=r"kl_coef=0.02 needs a reference policy"):
            await other.update(batch, GRPOSettings(kl_coef=0.02))
        pids = [rank.pid for rank in await other.describe()]
    finally:
        await other.close()
    assert not any(psutil.pid_exists(pid) for pid in pids), "a closed learner leaves no process"


async def test_rows_without_loss_change_nothing(learner, tmp_path):
    await learner.configure_optimizer(FAST, 10)
    (tmp_path / "start").mkdir()
    await learner.save(tmp_path / "start")
    more = random_rows(12, siblings=2, seed=4)
    rows = more.select(torch.arange(8))
    advantages_B = torch.randn(8)
    alone = await learner.update(await on_policy(learner, rows, advantages_B), GRPOSettings(kl_coef=0.0))
    await learner.load(tmp_path / "start")
    more.loss_mask_BT[8:] = 0
    among = await learner.update(await on_policy(learner, more, torch.cat([advantages_B, torch.ones(4)])), GRPOSettings(kl_coef=0.0))
    assert among["actor/loss"] == pytest.approx(alone["actor/loss"], abs=1e-6)
    assert among["actor/grad_norm"] == pytest.approx(alone["actor/grad_norm"], rel=1e-5)


async def test_recomputed_log_probabilities_make_the_first_ratio_one_whatever_the_rollout_said(learner):
    await learner.configure_optimizer(FAST, 10)
    rows = random_rows(8, seed=5)
    batch = await on_policy(learner, rows, torch.randn(8))
    off = PolicyBatch(rows, batch.rollout_logprobs_BT - 0.5, batch.advantages_BT, batch.rewards_B, batch.group_B, 1.0, 0, 0)
    metrics = await learner.update(off, GRPOSettings(kl_coef=0.0, old_logprobs="recompute"))
    assert metrics["actor/ppo_kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["actor/rollout_gap_mean"] == pytest.approx(0.5, abs=1e-4)


async def test_an_entropy_bonus_raises_the_entropy(learner):
    await learner.configure_optimizer(FAST, 40)
    rows = random_rows(8, seed=6)
    for _ in range(15):
        await learner.sft(rows)
    settings = GRPOSettings(kl_coef=0.0, entropy_coef=1.0)
    entropies = [(await learner.update(await on_policy(learner, rows, torch.zeros(8)), settings))["actor/entropy"] for _ in range(6)]
    assert entropies[-1] > entropies[0] + 0.1


async def test_several_updates_per_step_are_several_optimizer_steps(learner):
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=9), 10)
    batch = await on_policy(learner, random_rows(8, siblings=2, seed=7), torch.randn(8))
    metrics = await learner.update(batch, GRPOSettings(kl_coef=0.0, updates_per_step=4))
    assert metrics["actor/lr"] == pytest.approx(1e-3 * (1 + 2 + 3 + 4) / 4 / 10)


async def test_log_probabilities_follow_the_temperature(learner):
    rows = random_rows(4, seed=8)
    cold, warm = await learner.logprobs(rows, temperature=0.5), await learner.logprobs(rows, temperature=2.0)
    assert not torch.allclose(cold, warm)
    uniform = await learner.logprobs(rows, temperature=1e6)
    size = len(AutoTokenizer.from_pretrained(learner.spec.model_path))
    torch.testing.assert_close(
        uniform[rows.loss_mask_BT > 0], -torch.log(torch.tensor(float(size))).expand(int(rows.loss_mask_BT.sum())), rtol=1e-3, atol=1e-3
    )


async def test_the_exported_folder_is_the_policy_for_transformers_too(learner, tmp_path):
    await learner.export(tmp_path / "out")
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    rows = random_rows(3, seed=9)
    expected_BT = await learner.logprobs(rows)
    for row in range(3):
        prompt = rows.prompt_ids_BP[row, : rows.prompt_lengths_B[row]]
        response = rows.response_ids_BT[row, : rows.response_lengths_B[row]]
        logits = policy(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1).gather(1, response[:, None])[:, 0]
        torch.testing.assert_close(logprobs, expected_BT[row, : len(response)], rtol=1e-4, atol=1e-4)
    tokenizer, original = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(learner.spec.model_path)
    assert tokenizer(TEXTS)["input_ids"] == original(TEXTS)["input_ids"]
    assert tokenizer.chat_template == original.chat_template
    assert not list(tmp_path.glob("*.partial"))


async def test_published_weights_have_hugging_face_names_and_the_exported_values(learner, tmp_path):
    published = await (await learner.weights()).tensors()
    await learner.export(tmp_path / "out")
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert set(published) == {name for name, _ in policy.named_parameters()}, "a tied output layer appears once"
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(published[name], parameter.detach())


async def test_weights_come_in_buckets_until_the_learner_changes_them(learner):
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=0), 10)
    handle = await learner.weights()
    whole = await handle.tensors()
    buckets = [bucket async for bucket in handle.buckets(200_000)]
    assert len(buckets) > 3 and all(len(bucket.tensors) == 1 or bucket.nbytes <= 200_000 for bucket in buckets)
    assert sorted(one.name for bucket in buckets for one in bucket.tensors) == sorted(whole)
    assert digest(one for bucket in buckets for one in bucket.tensors) == digest(sums(whole.items()))
    await learner.sft(random_rows(4, seed=11))
    with pytest.raises(WeightsGoneError, match="has changed its weights"):
        await handle.tensors()
    changed = await (await learner.weights()).tensors()
    assert digest(sums(changed.items())) != digest(sums(whole.items()))


async def test_the_learner_does_not_change_its_weights_while_they_are_on_their_way(learner):
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=0), 10)
    whole = digest(sums((await (await learner.weights()).tensors()).items()))
    async with aclosing((await learner.weights()).buckets(200_000)) as buckets:
        told = [*(await anext(buckets)).tensors]
        training = asyncio.create_task(learner.sft(random_rows(4, seed=12)))
        await asyncio.sleep(0.3)
        assert not training.done()
        told += [one async for bucket in buckets for one in bucket.tensors]
    assert digest(told) == whole
    await training
    async with aclosing((await learner.weights()).buckets(200_000)) as buckets:
        await anext(buckets)
    await learner.sft(random_rows(4, seed=13))


async def test_a_checkpoint_goes_on_exactly_where_it_was_saved(learner, tmp_path):
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=5), 10)
    batch = await on_policy(learner, random_rows(8, seed=10), torch.randn(8))
    settings = GRPOSettings(kl_coef=0.0)
    await learner.update(batch, settings)
    (tmp_path / "saved").mkdir()
    await learner.save(tmp_path / "saved")
    first = [await learner.update(batch, settings) for _ in range(2)]
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=5), 10)
    await learner.load(tmp_path / "saved")
    again = [await learner.update(batch, settings) for _ in range(2)]
    for name in ("actor/loss", "actor/grad_norm", "actor/lr"):
        assert [metrics[name] for metrics in again] == [metrics[name] for metrics in first]


async def test_a_folder_that_is_no_checkpoint_is_refused(learner, tmp_path):
    with pytest.raises(ValueError, match=r"learner\.json is missing"):
        await learner.load(tmp_path)


async def test_a_checkpoint_of_another_topology_is_refused(learner, tmp_path):
    (tmp_path / "learner.json").write_text('{"engine": "fsdp2", "ranks": 7}')
    with pytest.raises(ValueError, match=r"'ranks': 7.*'ranks': 1"):
        await learner.load(tmp_path)


async def test_foreign_files_are_not_overwritten(learner, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="will not be overwritten"):
        await learner.export(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]
