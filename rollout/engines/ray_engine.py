"""A rollout engine's actor as the driver sees it, whatever samples in it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorDiedError

from rollout.engines.actor import PolicyEngine
from rollout.engines.interface import EngineBackend, EngineSpec
from rollout.records import Completion
from rollout.weights.buckets import Bucket
from rollout.weights.link import Address

RemoteEngine = ray.remote(PolicyEngine)
T = TypeVar("T")
NEVER_RAN = "The actor never ran"
"""In Ray's words for an actor that had no process yet when its node died."""
AGAIN_S = 1.0
"""Before such an actor is asked for anew."""


class RayEngine:
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
        self._new_actor = lambda: options.remote(backend, spec)
        self._actor: Any = self._new_actor()
        self._killed = False
        self._say = say

    async def placed(self) -> None:
        """See ``Engine.placed``."""
        await self._once_it_runs(lambda actor: actor.placed.remote())

    async def ready(self) -> list[int]:
        """Process ids of the actor and its children, once the engine is up."""
        pids = await self._once_it_runs(lambda actor: actor.ready.remote())
        if self._say is not None:
            self._say(f"Limits of a rollout engine: {await self._actor.limits.remote()}.")
        return pids

    async def _once_it_runs(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """The answer of an actor that is being started.

        A replacement is often asked for before Ray knows that the whole node died. Ray then gives the actor up and moves its bundle:
        another actor is asked for, which waits for the bundle's next node.
        """
        while True:
            try:
                return await call(self._actor)
            except ActorDiedError as error:
                if self._killed or NEVER_RAN not in str(error):
                    raise
                await asyncio.sleep(AGAIN_S)
                self._actor = self._new_actor()

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
        self._killed = True
        ray.kill(self._actor)
