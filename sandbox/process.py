"""One process in the box, seen from the trusted side."""

import asyncio
import contextlib
import os
import signal

from sandbox.deadline import Deadline

CPU_SIGNALS = (-signal.SIGXCPU, -signal.SIGKILL)
"""Exit statuses of a process over its CPU limit; a process that was killed, or killed itself, may have the second one, too."""
LEAST_SHARE = 0.5
"""Of its CPU limit that a process must have spent to have ended at it. The kernel counts towards the limit in ticks, and on a busy core
charges whole ones to a process that ran for a part of each, so what was really spent may be well below."""
EXIT_TIMEOUT_S = 10.0
"""Seconds in which the exit of a process that closed its channel must be known."""


class BackendError(Exception):
    """The backend failed, not the code in it: the caller retries and, if it persists, records INFRA_ERROR."""


class Process:
    """One run's process, killed with all it started; ``exited`` holds its exit status once it ended."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.cpu_s = 0.0
        """CPU seconds, known once it ended."""
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = pidfd

    def kill(self) -> None:
        """Ends the process now; on level namespace its whole pid namespace goes with it."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1

    def spent(self, cpu_limit_s: float) -> bool:
        """True where it ended at its limit of CPU time, and not by another signal's doing."""
        return self.exited.done() and self.exited.result() in CPU_SIGNALS and self.cpu_s >= LEAST_SHARE * cpu_limit_s

    async def wait(self, timeout_s: float = EXIT_TIMEOUT_S) -> int | None:
        """Exit status (negative: the signal that ended it), or None where it has not ended in time.

        Raises BackendError where the zygote died, so that nobody knows.
        """
        try:
            async with Deadline(timeout_s):
                return await asyncio.shield(self.exited)
        except TimeoutError:
            return None
