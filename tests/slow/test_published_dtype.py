"""Weights travel in the type in which the engines hold them: from a real learner to a real engine in bfloat16."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rollout.fleet.fleet import Fleet
from rollout.nano.policy import make_nano_policy
from rollout.settings import RolloutSettings, weights_dtype
from tests.demo import demo_model
from tests.slow.test_learner_training import TEXTS, random_rows
from trainer.cluster.session import start_ray, stop_ray
from trainer.learner.handle import Learner
from trainer.settings import ClusterSettings, LearnerSettings, OptimizerSettings, RunSettings

pytestmark = pytest.mark.timeout(300)

MODEL = demo_model(dtype="bfloat16")
ROLLOUT = RolloutSettings(publish_bucket_mib=0.5)


@pytest.fixture(scope="module", autouse=True)
def running_ray():
    temp = start_ray(RunSettings(learner=LearnerSettings(ranks=2), cluster=ClusterSettings(object_store_mib=128)))
    yield
    stop_ray(temp)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_nano_policy(tmp_path_factory.mktemp("policy") / "nano", TEXTS * 4, seed=0)


@asynccontextmanager
async def trained(folder: Path, **settings: Any) -> AsyncIterator[Learner]:
    """A learner of bfloat16 engines whose float32 weights are no bfloat16 any more."""
    learner = Learner(folder, LearnerSettings(**settings, threads=1), device="cpu", seed=0, weights_dtype=weights_dtype(MODEL, ROLLOUT))
    try:
        await learner.start()
        await learner.configure_optimizer(OptimizerSettings(lr=1e-2, warmup_steps=0), 10)
        await learner.sft(random_rows(8, seed=0))
        yield learner
    finally:
        await learner.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"ranks": 2},
        {"ranks": 2, "lora_rank": 4},
        {"ranks": 1, "engine": "deepspeed", "zero_stage": 2},
        {"ranks": 2, "engine": "deepspeed", "zero_stage": 3, "lora_rank": 4},
    ],
    ids=["fsdp2", "fsdp2, adapters", "zero 2", "zero 3, adapters"],
)
async def test_every_tensor_is_the_float32_one_rounded_once_with_its_adapter_in_it(
    folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with trained(folder, **settings) as learner:
        sent = await (await learner.weights()).tensors()
        await learner.export(tmp_path / "exported")
    full = load_file(tmp_path / "exported" / "model.safetensors")  # the policy came in float32 and is exported in it
    assert {tensor.dtype for tensor in full.values()} == {torch.float32} and sent.keys() <= full.keys()
    for name, tensor in sent.items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, full[name].to(torch.bfloat16)), name
    assert any(not torch.equal(tensor.float(), full[name]) for name, tensor in sent.items()), "nothing was rounded"


async def test_an_engine_in_bfloat16_gets_half_the_bytes_and_holds_them_bit_for_bit(folder: Path) -> None:
    fleet = Fleet(MODEL, ROLLOUT, folder, device="cpu")
    async with trained(folder, ranks=1) as learner:
        try:
            await fleet.start()
            published = await fleet.publish(1, await learner.weights())
            assert not published.replaced, "an engine that reads back something else than it was sent is replaced"
            elements = sum(tensor.numel() for tensor in (await (await learner.weights()).tensors()).values())
            assert published.bytes == 2 * elements
            (completion,) = await fleet.sample([5, 6, 7], 1, temperature=1.0, seed=0)
            assert completion.weights_version == 1
        finally:
            await fleet.close()
