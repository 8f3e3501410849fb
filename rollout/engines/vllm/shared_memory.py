"""A bucket in memory that other processes of this machine can map.

The file has no name in any file system and ends with its last user, so that a killed process leaves nothing behind.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from rollout.weights.buckets import TensorSum, offsets


@contextmanager
def in_memory(tensors: Sequence[TensorSum], payload: Sequence[np.ndarray]) -> Iterator[str]:
    """A path under which processes of this user can map the arrays, laid out as ``offsets`` says."""
    starts, size = offsets(tensors)
    handle = os.memfd_create("weights-bucket")
    try:
        os.ftruncate(handle, max(size, mmap.PAGESIZE))
        with mmap.mmap(handle, 0) as mapped:
            whole = np.frombuffer(mapped, dtype=np.uint8)
            for start, array in zip(starts, payload, strict=True):
                whole[start : start + array.nbytes] = array
            del whole
        yield f"/proc/{os.getpid()}/fd/{handle}"
    finally:
        os.close(handle)
