"""FSDP2 and DeepSpeed's ZeRO stages compute the same steps on two ranks, with and without adapters."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rollout.nano.policy import make_nano_policy
from tests.slow.test_learner_training import TEXTS, on_policy, random_rows
from trainer.cluster.session import start_ray, stop_ray
from trainer.engines.token_rows import TokenRows
from trainer.learner.handle import Learner
from trainer.settings import ClusterSettings, GRPOSettings, LearnerSettings, OptimizerSettings, RunSettings

pytestmark = pytest.mark.timeout(400)

ADAM = OptimizerSettings(lr=1e-4, warmup_steps=0)
ADAPTED = {"lora_rank": 4, "lora_alpha": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_nano_policy(tmp_path_factory.mktemp("policy"), TEXTS * 4, seed=0)


@pytest.fixture(scope="module", autouse=True)
def running_ray() -> Iterator[None]:
    temp = start_ray(RunSettings(learner=LearnerSettings(ranks=4), cluster=ClusterSettings(object_store_mib=128)))
    yield
    stop_ray(temp)


@asynccontextmanager
async def started(folder: Path, **settings) -> AsyncIterator[Learner]:
    """Two ranks that cut their rows into many micro-batches."""
    defaults = {"ranks": 2, "micro_batch_tokens": 64, "threads": 1}
    learner = Learner(folder, LearnerSettings.model_validate(defaults | settings), device="cpu", seed=0)
    try:
        await learner.start()
        yield learner
    finally:
        await learner.close()


async def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return await (await learner.weights()).tensors()


def assert_close(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, atol: float = 1e-5) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def holed_rows() -> TokenRows:
    """Rows of which one has no loss, and others have none on a token in the middle, as feedback between rounds has none."""
    rows = random_rows(22, siblings=2, seed=3)
    rows.loss_mask_BT[0] = 0
    rows.loss_mask_BT[[3, 5, 8], 1] = 0
    return rows


def by_hand(folder: Path) -> dict[str, float]:
    """Loss and gradient norm of the SFT step on those rows, one row at a time by transformers and torch."""
    policy, rows = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), holed_rows()
    total = torch.zeros(())
    for row in range(len(rows)):
        prompt = rows.prompt_ids_BP[row, : rows.prompt_lengths_B[row]]
        response = rows.response_ids_BT[row, : rows.response_lengths_B[row]]
        logits = policy(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        losses = torch.nn.functional.cross_entropy(logits, response, reduction="none")
        total = total + (losses * rows.loss_mask_BT[row, : len(response)]).sum() / rows.loss_mask_BT.sum()
    total.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in policy.parameters() if parameter.grad is not None]).norm()
    return {"sft/loss": total.item(), "sft/grad_norm": norm.item()}


async def steps_of(learner: Learner, tmp_path: Path) -> dict:
    """What a learner computes: an SFT step, a policy update with everything on, a checkpoint and the way back."""
    rows = holed_rows()
    seen: dict = {"start": await weights_of(learner), "logprobs": await learner.logprobs(rows)}
    await learner.configure_optimizer(ADAM, 10)
    seen["sft"] = await learner.sft(rows)
    seen["after sft"] = await weights_of(learner)
    await learner.set_reference()
    assert_close(await weights_of(learner), seen["after sft"], atol=1e-6)
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=3, clip_grad=0.5), 10)
    torch.manual_seed(0)
    batch = await on_policy(learner, rows, torch.randn(22))
    settings = GRPOSettings(kl_coef=0.5, entropy_coef=0.01, updates_per_step=3, old_logprobs="recompute", rollout_is="token")
    seen["update"] = await learner.update(batch, settings)
    seen["after update"] = await weights_of(learner)
    (tmp_path / "saved").mkdir()
    await learner.save(tmp_path / "saved")
    first = await learner.update(batch, settings)
    if learner.spec.settings.lora_rank:
        await learner.set_reference()  # changes the frozen weights and the reference: both are in the checkpoint
    await learner.configure_optimizer(OptimizerSettings(lr=1e-3, warmup_steps=3, clip_grad=0.5), 10)
    await learner.load(tmp_path / "saved")
    again = await learner.update(batch, settings)
    for name in ("actor/loss", "actor/grad_norm", "actor/lr", "actor/kl"):
        assert again[name] == first[name], f"a checkpoint goes on exactly where it was saved: {name}"
    return seen


EXACT = ("actor/loss", "actor/kl", "actor/grad_norm", "actor/entropy", "actor/lr", "rollout_corr/rollout_is_mean")


def assert_same_steps(actual: dict, expected: dict) -> None:
    assert_close(actual["start"], expected["start"], atol=0)
    torch.testing.assert_close(actual["logprobs"], expected["logprobs"], rtol=1e-4, atol=1e-5)
    for name in ("sft/loss", "sft/grad_norm"):
        assert actual["sft"][name] == pytest.approx(expected["sft"][name], rel=1e-4), name
    assert_close(actual["after sft"], expected["after sft"])
    for name in EXACT:
        assert actual["update"][name] == pytest.approx(expected["update"][name], rel=1e-3, abs=2e-6), name
    assert_close(actual["after update"], expected["after update"], atol=1e-4)


@pytest.fixture(scope="module")
def expected(folder, running_ray, tmp_path_factory) -> dict:
    """What FSDP2 computes, without and with adapters; the former is what the steps by hand are compared with too."""

    async def run(**settings) -> dict:
        async with started(folder, **settings) as learner:
            return await steps_of(learner, tmp_path_factory.mktemp("fsdp2"))

    return {"full": asyncio.run(run()), "adapted": asyncio.run(run(**ADAPTED))}


def test_tokens_without_loss_inside_a_response_count_as_computed_by_hand(folder, expected):
    for name, figure in by_hand(folder).items():
        assert expected["full"]["sft"][name] == pytest.approx(figure, rel=1e-4), name


@pytest.mark.parametrize(("stage", "kind"), [(1, "full"), (2, "full"), (3, "full"), (1, "adapted"), (3, "adapted")])
async def test_deepspeed_computes_what_fsdp2_computes(folder, expected, tmp_path, stage, kind):
    adapters = ADAPTED if kind == "adapted" else {}
    async with started(folder, engine="deepspeed", zero_stage=stage, **adapters) as learner:
        assert_same_steps(await steps_of(learner, tmp_path), expected[kind])


@pytest.mark.parametrize("settings", [{}, {"engine": "deepspeed", "zero_stage": 3, "gradient_checkpointing": True, **ADAPTED}])
async def test_in_bfloat16_a_step_is_near_that_in_float32(folder, expected, settings):
    kind = "adapted" if settings else "full"
    async with started(folder, precision="bf16", **settings) as learner:
        await learner.configure_optimizer(ADAM, 10)
        metrics = await learner.sft(holed_rows())
    for name in ("sft/loss", "sft/grad_norm"):
        assert metrics[name] == pytest.approx(expected[kind]["sft"][name], rel=2e-2), name


async def test_an_optimizer_cannot_be_offloaded_from_a_cpu(folder):
    with pytest.raises(ValueError, match=r"learner.offload_optimizer=true .* set it to false"):
        async with started(folder, ranks=1, offload_optimizer=True):
            pass


async def test_adapters_on_layers_that_are_not_linear_are_refused(folder):
    with pytest.raises(ValueError, match=r"lora_targets=\['embed_tokens'\] reaches .* no linear layer"):
        async with started(folder, ranks=1, lora_rank=4, lora_targets=["embed_tokens"]):
            pass
