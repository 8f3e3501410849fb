"""One engine's part of an update of the weights."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from ray.exceptions import RayError

from rollout.engines.interface import Engine
from rollout.weights.buckets import Bucket, WeightsMismatchError
from rollout.weights.link import Address
from sandbox.supervise import reason


class Delivery:
    """One engine's part of an update; after its first failure it is left alone."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._began = 0.0
        self.seconds = 0.0
        """From stopping to sampling again."""
        self.failure = ""
        """Why the engine is of no use any more."""

    async def start(self, version: int) -> None:
        """The engine stops to sample."""
        self._began = time.monotonic()
        await self._step(self._engine.start_update(version))

    async def join(self, address: Address, first: int) -> None:
        """Its workers join the link."""
        await self._step(self._engine.connect(address, first))

    async def load(self, bucket: Bucket) -> None:
        """It loads a bucket."""
        await self._step(self._engine.load_bucket(bucket))

    async def finish(self, version: int, expected: int) -> None:
        """It samples again, from weights whose digest is the expected one."""
        held = await self._step(self._engine.finish_update(version))
        self.seconds = time.monotonic() - self._began
        if held is not None and held != expected:
            self.failure = reason(WeightsMismatchError(f"it holds weights of digest {held:016x}, version {version} is {expected:016x}."))

    async def _step(self, call: Coroutine[Any, Any, Any]) -> int | None:
        if self.failure:
            call.close()
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (RayError, TimeoutError, WeightsMismatchError) as error:
            self.failure = reason(error)
            return None
