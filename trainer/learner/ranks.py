"""Calls to all ranks of the learner at once, and the end of their processes."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import psutil
from ray.exceptions import RayError, RayTaskError

from rollout.fleet.delivery import reason
from trainer.failures import LearnerLostError

END_TIMEOUT_S = 10.0
"""Seconds for killed ranks of this machine to be gone; then their processes are killed directly."""


async def all_ranks(references: Sequence[Awaitable[Any]], timeout_s: float) -> list[Any]:
    """Results of all ranks; a rank's ValueError is raised as it was.

    Raises:
        LearnerLostError: a rank died, does not answer in time, lacks memory, or failed with a RuntimeError, as it does where another one
            died.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return list(await asyncio.gather(*references))
    except TimeoutError:
        raise LearnerLostError(f"no answer within learner.timeout_s={timeout_s:g}") from None
    except RayTaskError as failure:
        cause = getattr(failure, "cause", None)
        if isinstance(cause, ValueError):
            raise cause from None
        if isinstance(cause, RuntimeError | MemoryError):
            raise LearnerLostError(reason(cause)) from failure
        raise
    except RayError as failure:
        raise LearnerLostError(reason(failure)) from failure


def end_processes(pids: Sequence[int]) -> None:
    """Waits until processes of this machine, which Ray was told to kill, are gone; blocks."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # a stopped process does not hear Ray
