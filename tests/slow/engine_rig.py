"""Real vLLM engines under Ray, with a policy of random weights and transformers' own forward pass beside it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rollout.engines.interface import Engine, EngineSpec
from rollout.engines.ray_engine import RayEngine
from rollout.engines.vllm.backend import VLLMBackend
from rollout.fleet.fleet import Fleet
from rollout.nano.policy import make_nano_policy
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.buckets import Bucket
from tests.demo import demo_model
from trainer.cluster.session import start_ray, stop_ray
from trainer.settings import RunSettings
from workflow.nano.simulated.teacher import corpus
from workflow.settings import TaskSettings
from workflow.tasks import load_tasks

MODEL = demo_model(max_response_tokens=64)
TOLERANCE = 1e-3
Weights = list[tuple[str, torch.Tensor]]


class FaultyEngine(RayEngine):
    """A real engine; the machine fails it where ``corrupt_at`` or ``die_at`` name a bucket of the next update."""

    corrupt_at = -1
    die_at = -1
    buckets = 0
    killed = False

    async def load_bucket(self, bucket: Bucket) -> None:
        if self.buckets == self.die_at:
            os.kill((await self.ready())[0], signal.SIGKILL)
        if self.buckets == self.corrupt_at:
            payload = [data.copy() for data in ray.get(bucket.payload)]
            payload[-1][len(payload[-1]) // 2] ^= 1
            bucket = Bucket(bucket.tensors, ray.put(payload))
        self.buckets += 1
        await super().load_bucket(bucket)

    def kill(self) -> None:
        self.killed = True
        super().kill()

    async def digest(self) -> int:
        """Digest of the weights that the workers hold, asked anew."""
        return await self.handle.held_digest.remote()


class Rig:
    """A fleet, its policy and some prompts."""

    def __init__(self, folder: Path, rollout: RolloutSettings, *, model: ModelSettings = MODEL, made: bool = False) -> None:
        """
        Args:
            made: the folder has a policy; otherwise one is made there.
        """
        problems = load_tasks(TaskSettings(name="nano")).train[:16]
        self.folder = folder if made else make_nano_policy(folder, corpus() + [problem.query for problem in problems], seed=3)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        prompt = MetaPrompt(self.tokenizer, model)
        self.prompts = [prompt.render(problem) for problem in problems]
        self.engines: list[FaultyEngine] = []
        """All that were started, the first ones first."""
        self.fleet = Fleet(model, rollout, self.folder, device="cpu", engine=lambda index: self._engine(model, rollout), say=print)

    def _engine(self, model: ModelSettings, rollout: RolloutSettings) -> Engine:
        self.engines.append(FaultyEngine(EngineSpec(self.folder, model, rollout, "cpu"), VLLMBackend))
        return self.engines[-1]

    def alive(self) -> list[FaultyEngine]:
        """Engines of the fleet, in the order in which they were started."""
        return [engine for engine in self.engines if not engine.killed]

    async def mended(self) -> None:
        """Waits until no engine is being replaced."""
        async with asyncio.timeout(900):  # engines start slowly on busy cores
            while any(slot.repair is not None for slot in self.fleet._slots):
                await asyncio.sleep(0.05)

    def weights(self, seed: int) -> Weights:
        """The policy's weights with noise that is large enough to change what it says; seed 0: as they are."""
        generator = torch.Generator().manual_seed(seed)
        state = AutoModelForCausalLM.from_pretrained(self.folder).state_dict()
        scale = 0.1 if seed else 0.0
        return [
            (name, value + scale * torch.randn(value.shape, generator=generator))
            for name, value in state.items()
            if name != "lm_head.weight"
        ]

    def true_logprobs(self, weights: Weights, prompt: Sequence[int], completion: Completion, temperature: float = 1.0) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(self.folder)
        model.load_state_dict(dict(weights), strict=False)
        ids = torch.tensor([[*prompt, *completion.token_ids]])
        with torch.no_grad():
            table = (model(ids).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
        return table.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]

    def gap(self, weights: Weights, prompt: Sequence[int], completions: Sequence[Completion], temperature: float = 1.0) -> float:
        """Largest difference between the engine's log-probabilities and the true ones."""
        return max(
            float((self.true_logprobs(weights, prompt, one, temperature) - torch.tensor(one.logprobs)).abs().max()) for one in completions
        )


@asynccontextmanager
async def rig_up(rig: Rig) -> AsyncIterator[Rig]:
    """Ray and the rig's fleet, up; afterwards no process is left."""
    temp = start_ray(RunSettings())
    try:
        await rig.fleet.start()
        yield rig
        pids = await rig.engines[-1].ready()
        await rig.fleet.close()
        assert len(pids) >= 2 and await gone(pids), "closing the fleet left processes of the engine behind"
    finally:
        stop_ray(temp)


async def gone(pids: Sequence[int], within_s: float = 15.0) -> bool:
    """True once none of the processes runs any more."""
    for _ in range(int(within_s / 0.1)):
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        await asyncio.sleep(0.1)
    return False
