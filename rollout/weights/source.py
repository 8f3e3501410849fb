"""Where weights come from, as the fleet sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, runtime_checkable

import ray
import torch

from rollout.weights.buckets import Bucket
from rollout.weights.link import Address, new_address
from rollout.weights.sender import WeightsSender


class WeightsGoneError(RuntimeError):
    """The source has moved on and can no longer send the weights of this version."""


class WeightsSource(Protocol):
    """Where weights come from; ``trainer.learner.weights.LearnerWeights`` is the real one."""

    def buckets(self, max_bytes: int) -> AsyncIterator[Bucket]:
        """All tensors of the weights, from the first; raises WeightsGoneError where the source no longer has them."""
        ...


@runtime_checkable
class LinkedSource(Protocol):
    """A source that can broadcast its buckets; they carry no payload then."""

    def buckets(self, max_bytes: int, *, linked: bool = False) -> AsyncIterator[Bucket]:
        """See ``WeightsSource``."""
        ...

    def sender(self) -> object:
        """Identifies the link: two sources with equal senders share one."""
        ...

    async def link_address(self, members: int) -> Address:
        """Where the members of a new link meet."""
        ...

    async def join_link(self, address: Address) -> None:
        """Joins as its sender, in place of an earlier one; waits for all members."""
        ...

    async def send_bucket(self) -> None:
        """Broadcasts the oldest bucket that was announced and not sent yet."""
        ...


class HeldWeights:
    """Weights that this process has: for tests and benchmarks, and policies loaded from disk."""

    def __init__(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        self._tensors = list(tensors)
        self._outgoing = WeightsSender()
        self._sending = asyncio.Lock()
        self._sender = ThreadPoolExecutor(1, "weights-sender")
        """One thread: as in a learner's rank the last bucket of one sending leaves before the next sending begins."""

    async def _in_order(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._sender, call, *args)

    async def buckets(self, max_bytes: int, *, linked: bool = False) -> AsyncIterator[Bucket]:
        """See ``LinkedSource``."""
        async with self._sending:
            await self._in_order(self._outgoing.begin, self._tensors, max_bytes)
            while (bucket := await self._in_order(partial(self._outgoing.next_bucket, linked=linked))) is not None:
                yield bucket

    def sender(self) -> object:
        """See ``LinkedSource``."""
        return self._outgoing

    async def link_address(self, members: int) -> Address:
        """See ``LinkedSource``."""
        return new_address(ray.util.get_node_ip_address(), members)

    async def join_link(self, address: Address) -> None:
        """See ``LinkedSource``."""
        await self._in_order(self._outgoing.join, address, self._tensors[0][1].device)

    async def send_bucket(self) -> None:
        """See ``LinkedSource``."""
        await self._in_order(self._outgoing.send)
