"""One rollout engine as the driver sees it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ray

from rollout.engine import PolicyEngine, engine_environment
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.buckets import Bucket
from rollout.weights.link import Address

RemoteEngine = ray.remote(PolicyEngine)


class Engine(Protocol):
    """One engine as the fleet sees it; ``RayEngine`` is the real one. Its failures are RayError."""

    async def ready(self) -> list[int]:
        """Process ids, once the engine is up."""
        ...

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

    async def close(self) -> None:
        """Ends the engine's own processes."""
        ...

    def kill(self) -> None:
        """Ends the engine at once."""
        ...


class RayEngine:
    """A ``PolicyEngine`` in a Ray actor of its own."""

    def __init__(
        self, policy: str | Path, model: ModelSettings, rollout: RolloutSettings, device: str, placed: Mapping[str, Any] | None = None
    ) -> None:
        """
        Args:
            policy: path or URL of a Hugging Face folder, or a hub id.
            placed: Ray actor options that say where it runs.
        """
        on_gpu = device == "cuda"
        actor = RemoteEngine.options(
            num_gpus=rollout.tensor_parallel if on_gpu else 0,
            num_cpus=1 if on_gpu else rollout.cpus_per_engine,
            max_concurrency=1000,
            max_restarts=0,  # the fleet restarts it, since a fresh engine lacks the current weights
            runtime_env={"env_vars": engine_environment(device)},
            **(placed or {}),
        )
        self._actor: Any = actor.remote(policy, model, rollout, device)

    async def ready(self) -> list[int]:
        """Process ids of the actor and its children, once the engine is up."""
        return await self._actor.ready.remote()

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """See ``PolicyEngine.sample``."""
        return await self._actor.sample.remote(prompt_ids, n, temperature, seed)

    async def connect(self, address: Address, first: int) -> None:
        """See ``PolicyEngine.connect``."""
        await self._actor.connect.remote(address, first)

    async def start_update(self, version: int) -> None:
        """See ``PolicyEngine.start_update``."""
        await self._actor.start_update.remote(version)

    async def load_bucket(self, bucket: Bucket) -> None:
        """See ``PolicyEngine.load_bucket``; the actor fetches the bucket's payload itself."""
        await self._actor.load_bucket.remote(bucket)

    async def finish_update(self, version: int) -> int:
        """See ``PolicyEngine.finish_update``."""
        return await self._actor.finish_update.remote(version)

    async def close(self) -> None:
        """See ``PolicyEngine.close``."""
        await self._actor.close.remote()

    def kill(self) -> None:
        """Kills the actor; the engine's processes notice and end."""
        ray.kill(self._actor)
