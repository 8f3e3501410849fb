"""The sender's end of an update: cuts weights into buckets and sends them one by one."""

from collections import deque
from collections.abc import Generator

import ray
import torch

from rollout.weights.buckets import Bucket, TensorSum, Weights, arrays, in_buckets, sums
from rollout.weights.link import Address, Link


class WeightsSender:
    """What one process sends, at most two buckets at a time."""

    def __init__(self) -> None:
        self._buckets: Generator[list[tuple[str, torch.Tensor]]] = in_buckets([], 1)
        self._announced: deque[tuple[list[tuple[str, torch.Tensor]], tuple[TensorSum, ...]]] = deque()
        self._link: Link | None = None

    def begin(self, weights: Weights, max_bytes: int) -> None:
        """From here on ``next_bucket`` gives these weights; each is gathered when its turn comes."""
        self.end()
        self._buckets = in_buckets(weights, max_bytes)

    def next_bucket(self, *, linked: bool, announced: bool = True) -> Bucket | None:
        """The next bucket, None after the last.

        Args:
            linked: its bytes wait for ``send``; else they go into Ray's object store.
            announced: False on ranks that only help to gather: always None.
        """
        tensors = next(self._buckets, None)
        if tensors is None or not announced:
            return None
        about = sums(tensors)
        if not linked:
            return Bucket(about, ray.put(arrays(tensors)))
        self._announced.append((tensors, about))
        return Bucket(about, None)

    def end(self) -> None:
        """Drops what was not asked for or not sent."""
        self._buckets.close()
        self._announced.clear()

    def join(self, address: Address, device: torch.device) -> None:
        """Joins a new link as its sender; blocks until all members are there."""
        self._link = None
        self._link = Link(address, 0, device)

    def send(self) -> None:
        """Broadcasts the oldest bucket that was announced."""
        assert self._link is not None
        self._link.send(*self._announced.popleft())
