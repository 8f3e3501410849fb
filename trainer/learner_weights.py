"""The learner's weights as the fleet asks for them: a handle that holds no tensor."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import ray
import torch

from rollout.buckets import Bucket, tensor_of
from rollout.publishing import WeightsGoneError

ALL_AT_ONCE = 2**62


class LearnerWeights:
    """The weights that the learner had when this was made; ``rollout.publishing.WeightsSource``.

    Buckets are gathered when they are asked for, so nothing is copied before. The learner does not change its weights while they are
    on their way; after it has, this handle has nothing more to send.
    """

    def __init__(
        self,
        still: Callable[[], AbstractAsyncContextManager[int]],
        next_bucket: Callable[[int, bool], Awaitable[Bucket | None]],
        changes: int,
    ) -> None:
        """
        Args:
            still: keeps the weights as they are and tells how often they changed so far.
            next_bucket: (bytes, whether it is the first) -> the next bucket, None after the last.
            changes: how often the weights had changed when this was made.
        """
        self._still = still
        self._next_bucket = next_bucket
        self._changes = changes

    async def buckets(self, max_bytes: int) -> AsyncIterator[Bucket]:
        """See ``WeightsSource``."""
        async with self._still() as changes:
            if changes != self._changes:
                raise WeightsGoneError("The learner has changed its weights since; publish those that it has now.")
            bucket = await self._next_bucket(max_bytes, True)
            while bucket is not None:
                yield bucket
                bucket = await self._next_bucket(max_bytes, False)

    async def tensors(self) -> dict[str, torch.Tensor]:
        """All weights by their Hugging Face names, in this process: for tests and small models."""
        found: dict[str, torch.Tensor] = {}
        async for bucket in self.buckets(ALL_AT_ONCE):
            payload = ray.get(bucket.payload)
            found |= {told.name: tensor_of(torch.tensor(data), told) for told, data in zip(bucket.tensors, payload, strict=True)}
        return found
