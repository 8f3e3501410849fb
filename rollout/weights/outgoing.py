"""The sender's end of an update: cuts weights into buckets and lets them go one by one."""

from collections import deque
from collections.abc import Generator

import ray
import torch

from rollout.weights.buckets import Bucket, TensorSum, Weights, arrays, in_buckets, sums
from rollout.weights.link import Address, Link


class Outgoing:
    """What one process sends, at most two buckets at a time."""

    def __init__(self) -> None:
        self._buckets: Generator[list[tuple[str, torch.Tensor]]] = in_buckets([], 1)
        self._told: deque[tuple[list[tuple[str, torch.Tensor]], tuple[TensorSum, ...]]] = deque()
        self._link: Link | None = None

    def begin(self, weights: Weights, max_bytes: int) -> None:
        """From here on ``next_bucket`` tells of these weights; each is asked for when its turn comes."""
        self.end()
        self._buckets = in_buckets(weights, max_bytes)

    def next_bucket(self, *, linked: bool, told: bool = True) -> Bucket | None:
        """The next bucket, None after the last.

        Args:
            linked: its bytes wait for ``send``; else they go into Ray's object store.
            told: False on ranks that only help to gather: always None.
        """
        tensors = next(self._buckets, None)
        if tensors is None or not told:
            return None
        about = sums(tensors)
        if not linked:
            return Bucket(about, ray.put(arrays(tensors)))
        self._told.append((tensors, about))
        return Bucket(about, None)

    def end(self) -> None:
        """Lets go of what was not asked for or not sent."""
        self._buckets.close()
        self._told.clear()

    def join(self, address: Address, device: torch.device) -> None:
        """Joins a new link as its sender; blocks until all members are there."""
        self._link = None
        self._link = Link(address, 0, device)

    def send(self) -> None:
        """Broadcasts the oldest bucket that was told of."""
        assert self._link is not None
        self._link.send(*self._told.popleft())
