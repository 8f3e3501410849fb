"""One rollout engine as the driver sees it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import ray

from rollout.engines.vllm.arguments import engine_environment
from rollout.engines.vllm.engine import PolicyEngine
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.buckets import Bucket
from rollout.weights.link import Address
from sandbox.supervise import RayActor, Replaceable

RemoteEngine = ray.remote(PolicyEngine)


class Engine(Replaceable, Protocol):
    """One engine as the fleet sees it; ``RayEngine`` is the real one. Its failures are RayError."""

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt."""
        ...

    async def connect(self, address: Address, first: int) -> None:
        """Joins the link over which buckets without a payload come."""
        ...

    async def start_update(self, version: int) -> None:
        """From now on no request samples until ``finish_update``."""
        ...

    async def load_bucket(self, bucket: Bucket) -> None:
        """Checks and loads some tensors."""
        ...

    async def finish_update(self, version: int) -> int:
        """Checks what was loaded; the digest of the weights that the engine holds."""
        ...


class RayEngine(RayActor):
    """A ``PolicyEngine`` in a Ray actor of its own."""

    def __init__(
        self,
        policy: str | Path,
        model: ModelSettings,
        rollout: RolloutSettings,
        device: str,
        *,
        deterministic: bool = False,
        place: Mapping[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            policy: path or URL of a Hugging Face folder, or a hub id.
            deterministic: a completion depends on its request and the weights alone, to the last bit; slow on CPU.
            place: Ray actor options that say where it runs.
            say: prints one line, of what the engine that came up does at once.
        """
        on_gpu = device == "cuda"
        options = RemoteEngine.options(
            num_gpus=rollout.tensor_parallel if on_gpu else 0,
            num_cpus=1 if on_gpu else rollout.cpus_per_engine,
            max_concurrency=1000,
            max_restarts=0,  # the fleet restarts it, since a fresh engine lacks the current weights
            runtime_env={"env_vars": engine_environment(device, deterministic)},
            **(place or {}),
        )
        super().__init__(lambda: options.remote(policy, model, rollout, device, deterministic))
        self._say = say

    async def ready(self) -> list[int]:
        """Process ids of the actor and its children, once the engine is up."""
        pids = await self.once_it_runs(lambda actor: actor.ready.remote())
        if self._say is not None:
            self._say(f"Limits of a rollout engine: {await self.handle.limits.remote()}.")
        return pids

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """See ``PolicyEngine.sample``."""
        return await self.handle.sample.remote(prompt_ids, n, temperature, seed)

    async def connect(self, address: Address, first: int) -> None:
        """See ``PolicyEngine.connect``."""
        await self.handle.connect.remote(address, first)

    async def start_update(self, version: int) -> None:
        """See ``PolicyEngine.start_update``."""
        await self.handle.start_update.remote(version)

    async def load_bucket(self, bucket: Bucket) -> None:
        """See ``PolicyEngine.load_bucket``; the actor fetches the bucket's payload itself."""
        await self.handle.load_bucket.remote(bucket)

    async def finish_update(self, version: int) -> int:
        """See ``PolicyEngine.finish_update``."""
        return await self.handle.finish_update.remote(version)
