"""One update of the weights, from their source to the engines.

Buckets are gathered one ahead of the engines, and all engines load a bucket at the same time, each fetching it for itself: what is on
its way at any moment is two buckets, whatever the size of the model and the number of engines. The driver passes references on and
holds no weights.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from ray.exceptions import RayError

from rollout.engines.interface import Engine
from rollout.fleet.delivery import Delivery
from rollout.weights.buckets import Bucket, TensorSum, digest
from rollout.weights.source import LinkedSource, WeightsSource
from sandbox.supervise import reason

T = TypeVar("T")
GONE = ("OwnerDiedError", "ObjectLostError", "ObjectFetchTimedOutError", "ReferenceCountingAssertionError")
"""Ray's errors about a kept bucket whose holder died: from then on the source is asked."""


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
    """Why engines failed during the update; a new one with the new weights takes the place of each."""


class EngineRefusedError(RuntimeError):
    """An engine does not take the weights that it is sent."""


class Update:
    """The way of one version to the engines, as often as needed."""

    def __init__(
        self, version: int, source: WeightsSource, *, max_bytes: int, keep: bool, timeout_s: float, workers: int | None = None
    ) -> None:
        """
        Args:
            keep: holds the buckets for engines that come later; else the source is asked again.
            timeout_s: for each step of an engine.
            workers: processes of an engine, where the buckets go over a link to all of them; None: through Ray's object store.
        """
        if workers is not None and not isinstance(source, LinkedSource):
            raise ValueError(f"{type(source).__name__} sends no weights over a link: use rollout.weights_via=object_store.")
        self.version = version
        self._source = source
        self._max_bytes = max_bytes
        self._keep = keep and workers is None
        self._workers = workers
        self._on_link: list[Delivery] = []
        self._timeout_s = timeout_s
        self._kept: list[Bucket] = []
        self.tensors: tuple[TensorSum, ...] = ()
        """What was sent, once all of it is on its way."""
        self.buckets = 0

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(tensor.nbytes for tensor in self.tensors)

    async def send(self, engines: Sequence[Engine], *, joined: bool = False) -> list[float | str]:
        """Sends to all engines; the seconds of each, or why it failed.

        Args:
            joined: exactly these engines are on the source's link from an earlier update.

        Raises:
            Exception: the source's, where it fails.
        """
        deliveries = [Delivery(engine, self._timeout_s) for engine in engines]
        self._on_link = deliveries
        sent = await self._deliver(self._ask(), deliveries, self._kept if self._keep else None, joined=joined)
        self.tensors = tuple(one for bucket in sent for one in bucket)
        self.buckets = len(sent)
        await asyncio.gather(*(delivery.finish(self.version, digest(self.tensors)) for delivery in deliveries))
        return [delivery.failure or delivery.seconds for delivery in deliveries]

    async def resend(self, engine: Engine) -> None:
        """Brings a new engine to this version.

        Raises:
            EngineRefusedError: the engine does not take it, or what was kept is gone with the process that held it.
            Exception: the source's, for example a WeightsGoneError where it has moved on; the engine is to be used no more.
        """
        delivery = Delivery(engine, self._timeout_s)
        sent = await self._deliver(self._send_kept() if self._keep else self._ask(), [delivery], None)
        await delivery.finish(self.version, digest(one for bucket in sent for one in bucket))
        if delivery.failure:
            self._keep = self._keep and not any(name in delivery.failure for name in GONE)
            raise EngineRefusedError(f"A new rollout engine does not take weights version {self.version}: {delivery.failure}")

    def _ask(self) -> AsyncIterator[Bucket]:
        source = self._source
        if self._workers is None or not isinstance(source, LinkedSource):
            return source.buckets(self._max_bytes)
        return source.buckets(self._max_bytes, linked=True)

    async def _deliver(
        self, source: AsyncIterator[Bucket], deliveries: Sequence[Delivery], kept: list[Bucket] | None, *, joined: bool = False
    ) -> list[tuple[TensorSum, ...]]:
        """Loads every bucket into every engine; the tensors of each bucket."""
        sent: list[tuple[TensorSum, ...]] = []
        async with aclosing(_one_ahead(source)) as buckets:
            async for bucket in buckets:
                if not sent:  # not before: the first bucket is gathered while the engines still sample
                    await asyncio.gather(*(delivery.start(self.version) for delivery in deliveries))
                    if not joined or any(delivery.failure for delivery in deliveries):
                        await self._join([delivery for delivery in deliveries if not delivery.failure])
                await asyncio.gather(self._broadcast(), *(delivery.load(bucket) for delivery in deliveries))
                sent.append(bucket.tensors)
                if kept is not None:
                    kept.append(bucket)
        return sent

    async def _join(self, deliveries: Sequence[Delivery]) -> None:
        """Makes a new link from the source to these engines, where there is to be one."""
        if self._workers is None or not isinstance(self._source, LinkedSource):
            return
        address = await self._source.link_address(1 + len(deliveries) * self._workers)
        members = [delivery.join(address, 1 + index * self._workers) for index, delivery in enumerate(deliveries)]
        await asyncio.gather(self._over_link(self._source.join_link(address), deliveries), *members)
        self._on_link = list(deliveries)

    async def _broadcast(self) -> None:
        """The source's part of a step over the link. Once an engine has failed, no other can be reached over it any more."""
        if self._workers is None or not isinstance(self._source, LinkedSource):
            return
        if failed := [delivery.failure for delivery in self._on_link if delivery.failure]:
            for delivery in self._on_link:
                delivery.failure = delivery.failure or f"the link broke, since another engine failed: {failed[0]}"
            return
        await self._over_link(self._source.send_bucket(), self._on_link)

    async def _over_link(self, step: Awaitable[None], deliveries: Sequence[Delivery]) -> None:
        try:
            await step
        except (RayError, RuntimeError) as error:  # torch's DistError is a RuntimeError
            for delivery in deliveries:
                delivery.failure = delivery.failure or f"the link broke: {reason(error)}"

    async def _send_kept(self) -> AsyncIterator[Bucket]:
        for bucket in self._kept:
            yield bucket


async def _one_ahead(items: AsyncIterator[T]) -> AsyncGenerator[T]:
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
