"""The learner's weights as the fleet asks for them: a handle that holds no tensor."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import ray
import torch

from rollout.weights.buckets import Bucket, tensor_of
from rollout.weights.link import Address
from rollout.weights.source import WeightsGoneError

ALL_AT_ONCE = 2**62


@dataclass(frozen=True, slots=True)
class LinkCalls:
    """What the sender's process does about a link; see ``rollout.weights.source.LinkedSource``."""

    address: Callable[[int], Awaitable[Address]]
    join: Callable[[Address], Awaitable[Any]]
    send: Callable[[], Awaitable[Any]]


class LearnerWeights:
    """The weights that the learner had when this was made; ``rollout.weights.source.LinkedSource``.

    Buckets are gathered when they are asked for, so nothing is copied before. The learner does not change its weights while they are
    on their way; after it has, this handle has nothing more to send.
    """

    def __init__(
        self,
        still: Callable[[], AbstractAsyncContextManager[int]],
        next_bucket: Callable[[int, bool, bool], Awaitable[Bucket | None]],
        changes: int,
        link: LinkCalls | None = None,
    ) -> None:
        """
        Args:
            still: keeps the weights as they are and tells how often they changed so far.
            next_bucket: (bytes, whether it is the first, whether it is to go over the link) -> the next bucket, None after the last.
            changes: how often the weights had changed when this was made.
            link: what the sender's process does about a link; None: it can have none.
        """
        self._still = still
        self._next_bucket = next_bucket
        self._changes = changes
        self._link = link

    async def buckets(self, max_bytes: int, *, linked: bool = False) -> AsyncIterator[Bucket]:
        """See ``LinkedSource``."""
        async with self._still() as changes:
            if changes != self._changes:
                raise WeightsGoneError("The learner has changed its weights since; publish those that it has now.")
            bucket = await self._next_bucket(max_bytes, True, linked)
            while bucket is not None:
                yield bucket
                bucket = await self._next_bucket(max_bytes, False, linked)

    def sender(self) -> object:
        """See ``LinkedSource``."""
        return self._link

    async def link_address(self, members: int) -> Address:
        """See ``LinkedSource``."""
        assert self._link is not None
        return await self._link.address(members)

    async def join_link(self, address: Address) -> None:
        """See ``LinkedSource``."""
        assert self._link is not None
        await self._link.join(address)

    async def send_bucket(self) -> None:
        """See ``LinkedSource``."""
        assert self._link is not None
        await self._link.send()

    async def tensors(self) -> dict[str, torch.Tensor]:
        """All weights by their Hugging Face names, in this process: for tests and small models."""
        found: dict[str, torch.Tensor] = {}
        async for bucket in self.buckets(ALL_AT_ONCE):
            payload = ray.get(bucket.payload)
            found |= {
                expected.name: tensor_of(torch.tensor(data), expected) for expected, data in zip(bucket.tensors, payload, strict=True)
            }
        return found
