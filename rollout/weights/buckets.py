"""Weights on their way: named tensors in buckets, each tensor with a checksum of its bytes.

Neither Ray nor vLLM: both ends of a transfer use it.
"""

import hashlib
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

WORD_BYTES = 8
ROW_WORDS = 1024
MASK = 2**64 - 1

Weights = Iterable[tuple[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class TensorSum:
    """One tensor as it was sent."""

    name: str
    """Hugging Face name."""
    dtype: str
    """``float32``, ``bfloat16`` ..."""
    shape: tuple[int, ...]
    checksum: int
    """See ``checksum``."""

    @property
    def nbytes(self) -> int:
        """Size on the way."""
        return math.prod(self.shape) * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some tensors of one version of the weights."""

    tensors: tuple[TensorSum, ...]
    payload: Any
    """An awaitable (a Ray reference) of one uint8 array a tensor; None where the bytes come over a link."""

    @property
    def nbytes(self) -> int:
        """Size on the way."""
        return sum(tensor.nbytes for tensor in self.tensors)


class WeightsMismatchError(RuntimeError):
    """An engine does not hold the weights that were sent to it."""


def checksum(tensor: torch.Tensor) -> int:
    """64 bits of a tensor's bytes, computed on its device at the speed of its memory.

    From the sums of the rows and of the columns of a table of 8-byte words, weighted by their places: any single changed word changes
    the sum, and swapped words almost always do.
    """
    data = as_bytes(tensor)
    row_bytes = WORD_BYTES * ROW_WORDS
    whole = data.numel() // row_bytes * row_bytes
    tail = torch.zeros(row_bytes, dtype=torch.uint8, device=data.device)
    tail[: data.numel() - whole] = data[whole:]
    by_row, by_column, first = 0, 0, 0
    for piece in (data[:whole], tail):
        words = piece.view(torch.int64).view(-1, ROW_WORDS)
        rows = torch.arange(first, first + words.shape[0], device=data.device) * 2 + 1
        by_row += int((words.sum(1) * rows).sum())
        by_column += int((words.sum(0) * torch.arange(1, ROW_WORDS + 1, device=data.device)).sum())
        first += words.shape[0]
    return hash_of(f"{data.numel()} {by_row & MASK} {by_column & MASK}")


def hash_of(line: str) -> int:
    """64 bits of a line."""
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "little")


def digest(tensors: Iterable[TensorSum]) -> int:
    """64 bits of a whole version, whatever the order and the buckets in which its tensors travel."""
    total = 0
    for tensor in tensors:
        total += hash_of(f"{tensor.name} {tensor.dtype} {tensor.shape} {tensor.checksum}")
    return total & MASK


def in_buckets(weights: Weights, max_bytes: int) -> Generator[list[tuple[str, torch.Tensor]]]:
    """Consecutive tensors of at most ``max_bytes`` together; a larger tensor travels alone."""
    bucket: list[tuple[str, torch.Tensor]] = []
    size = 0
    for name, tensor in weights:
        if bucket and size + tensor.nbytes > max_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append((name, tensor))
        size += tensor.nbytes
    if bucket:
        yield bucket


def sums(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[TensorSum, ...]:
    """What is said about tensors that are sent."""
    return tuple(TensorSum(name, str(one.dtype).removeprefix("torch."), tuple(one.shape), checksum(one)) for name, one in tensors)


def arrays(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[np.ndarray]:
    """The bytes of each tensor; they share its memory where it is contiguous and on the CPU."""
    return [as_bytes(tensor.cpu()).numpy() for _, tensor in tensors]


def tensor_of(data: torch.Tensor, expected: TensorSum) -> torch.Tensor:
    """A tensor over received bytes, without a copy.

    Raises:
        WeightsMismatchError: the bytes are not those that were sent.
    """
    received = data.view(getattr(torch, expected.dtype)).view(expected.shape)
    found = checksum(received)
    if found != expected.checksum:
        raise WeightsMismatchError(
            f"{expected.name} {expected.shape} arrived with checksum {found:016x} and was sent with {expected.checksum:016x}."
        )
    return received


def offsets(tensors: Sequence[TensorSum], align: int = 64) -> tuple[list[int], int]:
    """Where each tensor begins in one buffer, and the buffer's size in bytes."""
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.nbytes // align) * align
    return starts, end


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A flat uint8 view; a copy where the tensor is not contiguous."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
