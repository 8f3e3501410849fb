"""One update of the weights, from their source to the engines.

Buckets are gathered one ahead of the engines, and all engines load a bucket at the same time, each fetching it for itself: what is on
its way at any moment is two buckets, whatever the size of the model and the number of engines. The driver passes references on and
holds no weights.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import ray
import torch
from ray.exceptions import RayError

from rollout.buckets import Bucket, TensorSum, WeightsMismatchError, arrays, digest, in_buckets, sums
from rollout.engine_handle import Engine

T = TypeVar("T")


class WeightsGoneError(RuntimeError):
    """The source has moved on and can no longer send the weights of this version."""


class WeightsSource(Protocol):
    """Where weights come from; ``trainer.learner_weights.LearnerWeights`` is the real one."""

    def buckets(self, max_bytes: int) -> AsyncIterator[Bucket]:
        """All tensors of the weights, from the first; raises WeightsGoneError where the source no longer has them."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """How an update of the weights went."""

    version: int
    bytes: int
    """Size of the weights; each engine got as much."""
    buckets: int
    seconds: float
    """Until every engine held them."""
    engine_s: tuple[float, ...]
    """Seconds of each engine from stopping to sampling again; those of an engine that failed are missing."""
    replaced: tuple[str, ...]
    """Why engines failed during the update; each was replaced by a new one with the new weights."""


class HeldWeights:
    """Weights that the driver itself has: for tests and benchmarks, and policies loaded from disk."""

    def __init__(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        self._tensors = list(tensors)

    async def buckets(self, max_bytes: int) -> AsyncIterator[Bucket]:
        """See ``WeightsSource``."""
        for tensors in in_buckets(self._tensors, max_bytes):
            yield Bucket(sums(tensors), ray.put(arrays(tensors)))


class Update:
    """The way of one version to the engines, as often as needed."""

    def __init__(self, version: int, source: WeightsSource, *, max_bytes: int, keep: bool, timeout_s: float) -> None:
        """
        Args:
            keep: holds the buckets for engines that come later; else the source is asked again.
            timeout_s: for each step of an engine.
        """
        self.version = version
        self._source = source
        self._max_bytes = max_bytes
        self._keep = keep
        self._timeout_s = timeout_s
        self._kept: list[Bucket] = []
        self.tensors: tuple[TensorSum, ...] = ()
        """What was sent, once all of it is on its way."""
        self.buckets = 0

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(tensor.nbytes for tensor in self.tensors)

    async def send(self, engines: Sequence[Engine]) -> list[float | str]:
        """Sends to all engines; the seconds of each, or why it failed.

        Raises:
            Exception: the source's, where it fails.
        """
        deliveries = [_Delivery(engine, self._timeout_s) for engine in engines]
        sent = await self._deliver(self._source.buckets(self._max_bytes), deliveries, self._kept if self._keep else None)
        self.tensors = tuple(one for bucket in sent for one in bucket)
        self.buckets = len(sent)
        await asyncio.gather(*(delivery.finish(self.version, digest(self.tensors)) for delivery in deliveries))
        return [delivery.failure or delivery.seconds for delivery in deliveries]

    async def resend(self, engine: Engine) -> None:
        """Brings a new engine to this version.

        Raises:
            RuntimeError: the engine does not take it.
            WeightsGoneError: nothing was kept and the source has moved on; the engine was not touched.
        """
        delivery = _Delivery(engine, self._timeout_s)
        await self._deliver(self._kept_buckets() if self._keep else self._source.buckets(self._max_bytes), [delivery], None)
        await delivery.finish(self.version, digest(self.tensors))
        if delivery.failure:
            raise RuntimeError(f"A new rollout engine does not take weights version {self.version}: {delivery.failure}")

    async def _deliver(
        self, source: AsyncIterator[Bucket], deliveries: Sequence["_Delivery"], kept: list[Bucket] | None
    ) -> list[tuple[TensorSum, ...]]:
        """Loads every bucket into every engine; the tensors of each bucket."""
        sent: list[tuple[TensorSum, ...]] = []
        async with aclosing(_one_ahead(source)) as buckets:
            async for bucket in buckets:
                if not sent:  # not before: the first bucket is gathered while the engines still sample
                    await asyncio.gather(*(delivery.start(self.version) for delivery in deliveries))
                await asyncio.gather(*(delivery.load(bucket) for delivery in deliveries))
                sent.append(bucket.tensors)
                if kept is not None:
                    kept.append(bucket)
        return sent

    async def _kept_buckets(self) -> AsyncIterator[Bucket]:
        for bucket in self._kept:
            yield bucket


class _Delivery:
    """One engine's part of an update; after its first failure it is left alone."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._began = 0.0
        self.seconds = 0.0
        self.failure = ""

    async def start(self, version: int) -> None:
        self._began = time.monotonic()
        await self._step(self._engine.start_update(version))

    async def load(self, bucket: Bucket) -> None:
        await self._step(self._engine.load_bucket(bucket))

    async def finish(self, version: int, expected: int) -> None:
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


async def _one_ahead(items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same items, the next one already on its way while one is used."""
    following = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await following) is not None:
            following = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        if (close := getattr(items, "aclose", None)) is not None:
            await close()


def reason(error: BaseException) -> str:
    """An engine's failure in one line."""
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.strip().startswith("For further information")]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no answer in time'}"[:400]
