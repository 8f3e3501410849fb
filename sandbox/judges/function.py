"""The split judge: the candidate in one process, the trusted tests in another, each in the box.

A pass needs the judge's frame for every test, its final count and its clean exit. Whatever the candidate's process
does, it can only answer calls with plain values.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from sandbox.backend import Backend
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError, encode_frame
from sandbox.process import CPU_SIGNALS, Process
from sandbox.settings import LimitSettings

CALL_SHARE = 0.5
"""Share of the judgement's deadline that one call of the candidate may take; half of that after each replacement."""
SPARES = 2
"""Fresh processes that a candidate gets after it hung or died in a test, so that the other tests still count."""
MAX_MESSAGE_CHARACTERS = 400


async def examine(
    backend: Backend, limits: LimitSettings, source: str, entry_point: str, tests: Sequence[str], setup: str
) -> list[str | None]:
    """What is wrong with the candidate ``source``, test by test; None where it passes.

    Raises BackendError, FrameError or OSError for faults of our own.
    """
    judgement = Judgement(backend, source, entry_point)
    try:
        await judgement.begin(tests, setup, limits.wall_s * CALL_SHARE)
        await judgement.collect(len(tests), limits.wall_s)
    finally:
        await judgement.close()
    return judgement.results


class Judgement:
    """One answer before the judge: its processes, sockets and what was reported so far."""

    def __init__(self, backend: Backend, source: str, entry_point: str) -> None:
        self.results: list[str | None] = []
        self._backend = backend
        self._entry_point = entry_point
        self._source = source
        self._channel: Channel | None = None
        self._candidate: Process | None = None
        self._judge: Process | None = None
        self._pairs = [socket.socketpair() for _ in range(1 + SPARES)]
        """Ends of the candidate and of the judge, for the first process and its replacements."""

    async def begin(self, tests: Sequence[str], setup: str, call_timeout_s: float) -> None:
        """Starts both processes. Raises BackendError, or FrameError where the tests are too large to send."""
        ours, theirs = socket.socketpair()
        self._channel = await Channel.open(ours)
        await self._start_candidate(0)
        self._judge = await self._backend.spawn("judge", [theirs, *(mine for _, mine in self._pairs)])
        start = {"setup": setup, "tests": list(tests), "entry_point": self._entry_point, "call_timeout_s": call_timeout_s}
        await self._channel.send(start)

    async def _start_candidate(self, number: int) -> None:
        if self._candidate is not None:
            self._candidate.kill()
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            self._candidate = await self._backend.spawn("candidate", [theirs, self._pairs[number][0]])
            with contextlib.suppress(FrameError, ConnectionError, TimeoutError):  # too large to send: fails like one that does not load
                frame = encode_frame({"source": self._source, "entry_point": self._entry_point})
                async with asyncio.timeout(10):
                    await asyncio.get_running_loop().sock_sendall(ours, frame)

    async def collect(self, count: int, wall_s: float) -> None:
        """Receives one result a test until all are there or the deadline passed.

        Raises FrameError where the judge ended early without a deadline: that is our fault, not the candidate's.
        """
        try:
            async with asyncio.timeout(wall_s):
                await self._receive(count)
        except TimeoutError:
            self._fail_rest(count, f"no answer within {wall_s:g} s")

    async def _receive(self, count: int) -> None:
        assert self._channel is not None and self._judge is not None
        while (frame := await self._channel.receive()) is not None:
            if "done" in frame:
                status = await self._judge.wait()
                if status != 0 or not frame["done"] == count == len(self.results):
                    raise FrameError(f"the judge counted {frame['done']} of {count} tests and ended with status {status}")
                return
            if "broken" in frame:  # the task set's fault, not the candidate's
                raise FrameError(str(frame["broken"])[:MAX_MESSAGE_CHARACTERS])
            if "replace" in frame:
                if frame["replace"] not in range(1, 1 + SPARES):
                    raise FrameError("the judge asks for more processes than there are")
                await self._start_candidate(frame["replace"])
                continue
            if frame.get("test") != len(self.results) or not isinstance(frame.get("passed"), bool):
                raise FrameError("the judge's frames are out of order")
            self.results.append(None if frame["passed"] else str(frame.get("message", ""))[:MAX_MESSAGE_CHARACTERS])
        status = await self._judge.wait()
        if status not in CPU_SIGNALS:
            raise FrameError(f"the judge ended without its count (exit status {status})")
        self._fail_rest(count, "its values took the tests too long to compare")

    def _fail_rest(self, count: int, message: str) -> None:
        self.results += [message] * (count - len(self.results))

    async def close(self) -> None:
        """Ends both processes."""
        for process in (self._candidate, self._judge):
            if process is not None:
                process.kill()
        if self._channel is not None:
            await self._channel.close()
        for pair in self._pairs:
            for sock in pair:
                sock.close()
