"""What a rank of the learner holds while it learns, besides its own part of weights, gradients and optimizer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from torch.distributed.fsdp import FSDPModule

from benchmarks.model_shapes import Shape, make_policy
from tests.slow.test_learner_training import random_rows
from trainer.cluster.session import start_ray, stop_ray
from trainer.learner.handle import Learner
from trainer.settings import ClusterSettings, LearnerSettings, OptimizerSettings, RunSettings

pytestmark = pytest.mark.timeout(300)

UNTIED = Shape(hidden=64, layers=2, heads=4, kv_heads=2, intermediate=128, vocabulary=1024, tied=False)
BETWEEN_MICRO_BATCHES: list[int] = []
"""In a rank's process: bytes of unsharded gradients each time a forward pass begins."""


def watch(worker: Any) -> None:
    """Begins to look, before every forward pass of this rank."""
    worker.engine.module.register_forward_pre_hook(lambda module, args: BETWEEN_MICRO_BATCHES.append(unsharded_gradients(module)))


def seen(worker: Any) -> list[int]:
    """What was seen since ``watch``."""
    return list(BETWEEN_MICRO_BATCHES)


def unsharded_gradients(module: Any) -> int:
    """Bytes of the gradients of whole parameters that FSDP2 holds."""
    states = [part._get_fsdp_state() for part in module.modules() if isinstance(part, FSDPModule)]
    parameters = [one for state in states for group in state._fsdp_param_groups for one in group.fsdp_params]
    held = [one.unsharded_accumulated_grad for one in parameters]
    held += [one.unsharded_param.grad for one in parameters if hasattr(one, "_unsharded_param")]
    return sum(gradient.nbytes for gradient in held if gradient is not None)


def elements(worker: Any) -> int:
    """Trainable elements of the whole model."""
    return sum(parameter.numel() for parameter in worker.engine.module.parameters() if parameter.requires_grad)


async def on_ranks(learner: Learner, function: Any) -> list[Any]:
    """A function of the worker, called in the process of every rank."""
    return ray.get([worker.__ray_call__.remote(function) for worker in learner._group.workers])


@pytest.fixture(scope="module", autouse=True)
def running_ray():
    temp = start_ray(RunSettings(learner=LearnerSettings(ranks=2), cluster=ClusterSettings(object_store_mib=128)))
    yield
    stop_ray(temp)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy") / "untied", UNTIED, "bfloat16")


@asynccontextmanager
async def two_ranks(folder: Path, **settings: Any) -> AsyncIterator[Learner]:
    """A learner whose steps take several micro-batches."""
    common = {"ranks": 2, "threads": 1, "micro_batch_tokens": 64, "precision": "bf16"}
    learner = Learner(folder, LearnerSettings(**common | settings), device="cpu", seed=0)
    try:
        await learner.start()
        await learner.configure_optimizer(OptimizerSettings(lr=1e-5), 10)
        await on_ranks(learner, watch)
        yield learner
    finally:
        await learner.close()


@pytest.mark.parametrize("settings", [{"gradient_checkpointing": True}, {"lora_rank": 4}], ids=["all weights", "adapters"])
async def test_no_rank_holds_gradients_of_the_whole_model_between_micro_batches(folder: Path, settings: dict[str, Any]) -> None:
    async with two_ranks(folder, **settings) as learner:
        rows = random_rows(48, seed=0)
        await learner.sft(rows)
        await learner.sft(rows)
        for forwards in await on_ranks(learner, seen):
            assert len(forwards) >= 8 and set(forwards) == {0}, forwards


async def test_the_look_between_micro_batches_sees_such_gradients_where_there_are_some(folder: Path) -> None:
    async with two_ranks(folder, engine_args={"use_no_sync_for_gradient_accumulation": True}) as learner:
        await learner.sft(random_rows(48, seed=0))
        (expected, _) = await on_ranks(learner, elements)
        for forwards in await on_ranks(learner, seen):
            assert forwards[0] == 0 and set(forwards[1:]) == {4 * expected}, "one float32 for every element of the model"
