"""A line from the learner's first rank to the worker processes of all engines: NCCL between GPUs, gloo between CPUs.

A broadcast is one step of all members: where one of them is gone, the others fail after ``STEP_TIMEOUT_S`` at the latest.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed

from rollout.weights.buckets import TensorSum, as_bytes, offsets

dist = cast(Any, torch.distributed)  # its stubs leave out the process groups

STEP_TIMEOUT_S = 120.0
"""For joining, and for each broadcast."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the members meet."""

    host: str
    port: int
    members: int
    """The sender, number 0, and every worker process of every engine."""


def new_address(host: str, members: int) -> Address:
    """An address with a port that is free at the moment."""
    with socket.socket() as found:
        found.bind(("", 0))
        return Address(host, found.getsockname()[1], members)


class Link:
    """One member's end."""

    def __init__(self, address: Address, member: int, device: torch.device) -> None:
        """Blocks until all members are there.

        Raises:
            dist.DistError: they do not come in time.
        """
        limit = timedelta(seconds=STEP_TIMEOUT_S)
        self._device = device
        store = dist.TCPStore(address.host, address.port, address.members, is_master=member == 0, timeout=limit)
        if device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = limit
            self._group = dist.ProcessGroupNCCL(store, member, address.members, options)
        else:
            self._group = dist.ProcessGroupGloo(store, member, address.members, limit)
        self._broadcast(torch.zeros(1, dtype=torch.uint8, device=device))  # NCCL connects at the first step only

    def send(self, tensors: Sequence[tuple[str, torch.Tensor]], expected: Sequence[TensorSum]) -> None:
        """Sends a bucket to all other members."""
        starts, size = offsets(expected)
        buffer = torch.zeros(size, dtype=torch.uint8, device=self._device)
        for (_, tensor), start in zip(tensors, starts, strict=True):
            buffer[start : start + tensor.nbytes] = as_bytes(tensor)
        self._broadcast(buffer)

    def receive(self, expected: Sequence[TensorSum]) -> torch.Tensor:
        """The bytes of a bucket, laid out as ``offsets`` says."""
        buffer = torch.empty(offsets(expected)[1], dtype=torch.uint8, device=self._device)
        self._broadcast(buffer)
        return buffer

    def _broadcast(self, buffer: torch.Tensor) -> None:
        options = dist.BroadcastOptions()
        options.rootRank = 0
        options.timeout = timedelta(seconds=STEP_TIMEOUT_S)
        self._group.broadcast([buffer], options).wait()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
