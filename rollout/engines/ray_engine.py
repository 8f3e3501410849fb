"""A rollout engine's actor as the driver sees it, whatever samples in it."""

from collections.abc import Callable, Mapping
from typing import Any

import ray

from rollout.engines.actor import PolicyEngine
from rollout.engines.interface import EngineBackend, EngineSpec
from rollout.records import Completion
from rollout.weights.buckets import Bucket
from rollout.weights.link import Address
from sandbox.supervise import RayActor

RemoteEngine = ray.remote(PolicyEngine)


class RayEngine(RayActor):
    """A ``PolicyEngine`` in a Ray actor of its own."""

    def __init__(
        self,
        spec: EngineSpec,
        backend: type[EngineBackend],
        *,
        place: Mapping[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            backend: what samples; its module can be imported on every node.
            place: Ray actor options that say where it runs.
            say: prints one line, of what the engine that came up does at once.
        """
        on_gpu = spec.device == "cuda"
        options = RemoteEngine.options(
            num_gpus=spec.rollout.tensor_parallel if on_gpu else 0,
            num_cpus=1 if on_gpu else spec.rollout.cpus_per_engine,
            max_concurrency=1000,
            max_restarts=0,  # the fleet restarts it, since a fresh engine lacks the current weights
            runtime_env={"env_vars": backend.environment(spec)},
            **(place or {}),
        )
        super().__init__(lambda: options.remote(backend, spec))
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
