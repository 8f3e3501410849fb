"""The split judge: the candidate in one process, the trusted tests in another, each in the box.

A pass needs the judge's frame for every test, its final count, and that it goes on or exits in order. Whatever the candidate's
process does, it can only answer calls with plain values.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from sandbox.backend import Backend
from sandbox.deadline import Deadline
from sandbox.guest.frames import FrameError, encode_frame
from sandbox.guest.jail import CPU_LIMIT_STATUS
from sandbox.judges.bench import Bench, Judge
from sandbox.process import Process
from sandbox.settings import LimitSettings
from workflow.verifiers.runner import Examined

CALL_SHARE = 0.5
"""Share of the judgement's deadline that one call of the candidate may take; half of that after each replacement."""
SPARES = 2
"""Fresh processes that a candidate gets after it hung or died in a test, so that the other tests still count."""
MAX_MESSAGE_CHARACTERS = 400
SLOW_TO_COMPARE = "its values took the tests too long to compare"
SEND_TIMEOUT_S = 10.0
"""Seconds in which a candidate's process must read its own source."""


async def examine_apart(
    bench: Bench,
    limits: LimitSettings,
    source: str,
    entry_point: str,
    tests: Sequence[str],
    setup: str,
    preamble: Sequence[str],
    *,
    own: bool,
) -> Examined:
    """The candidate ``source``, test by test.

    Args:
        preamble: statements that hold for the candidate, such as the imports of the problem's prompt.
        own: the tests are the task set's; others, such as a worker's, run in a process of their own.

    Raises:
        BackendError, FrameError, OSError: faults of our own.
    """
    start = {"setup": setup, "tests": list(tests), "entry_point": entry_point, "spares": SPARES}
    start |= {"call_timeout_s": limits.wall_s * CALL_SHARE, "cpu_s": limits.cpu_s}
    candidate = Candidate(bench.backend, source, entry_point, preamble)
    try:
        async with bench.judge(standing=own) as judge:
            judgement = Judgement(judge, candidate, len(tests))
            await candidate.start(judge, start)
            await judgement.collect(limits.wall_s)
            return Examined(judgement.results, judgement.late)
    finally:
        candidate.close()


class Candidate:
    """The answer's process, and the fresh ones that take its place."""

    def __init__(self, backend: Backend, source: str, entry_point: str, preamble: Sequence[str]) -> None:
        self._backend = backend
        self._process: Process | None = None
        try:
            self._frame = encode_frame({"source": source, "entry_point": entry_point, "preamble": list(preamble)})
        except FrameError as error:  # does not load, then
            self._frame = encode_frame({"source": f"raise ValueError({str(error)!r})", "entry_point": entry_point, "preamble": []})

    async def start(self, judge: Judge, message: dict[str, Any]) -> None:
        """Starts a fresh process that loads the source, and hands the judge its socket with ``message``.

        Raises BackendError, or FrameError where the judge cannot take it.
        """
        self.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            sent = ours.send(self._frame)
            self._process = await self._backend.spawn("candidate", [theirs])
            if sent < len(self._frame):
                with contextlib.suppress(OSError, TimeoutError):  # it does not load, then
                    async with Deadline(SEND_TIMEOUT_S):
                        await asyncio.get_running_loop().sock_sendall(ours, self._frame[sent:])
            await judge.channel.send(message, [ours])

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()


class Judgement:
    """What a judge reports of one answer."""

    def __init__(self, judge: Judge, candidate: Candidate, count: int) -> None:
        """
        Args:
            count: tests to report.
        """
        self.results: list[str | None] = []
        self.late = False
        """True once a deadline of the clock ended a test, here or in the judge."""
        self._judge = judge
        self._candidate = candidate
        self._count = count

    async def collect(self, wall_s: float) -> None:
        """Receives one result a test until all are there or the deadline passed.

        Raises FrameError where the judge ended early and not at its limit of CPU time: that is our fault, not the candidate's.
        """
        try:
            async with Deadline(wall_s):
                await self._receive()
        except TimeoutError:
            self.late = True
            self._fail_rest(f"no answer within {wall_s:g} s")

    async def _receive(self) -> None:
        while (frame := await self._judge.channel.receive()) is not None:
            if "done" in frame:
                await self._finish(frame)
                return
            if "broken" in frame:  # the task set's fault, not the candidate's
                raise FrameError(str(frame["broken"])[:MAX_MESSAGE_CHARACTERS])
            if "replace" in frame:
                if frame["replace"] not in range(1, 1 + SPARES):
                    raise FrameError("the judge asks for more processes than there are")
                await self._candidate.start(self._judge, {"replaced": frame["replace"]})
                continue
            if frame.get("test") != len(self.results) or not isinstance(frame.get("passed"), bool):
                raise FrameError("the judge's frames are out of order")
            self.late = self.late or frame.get("late") is True
            self.results.append(None if frame["passed"] else str(frame.get("message", ""))[:MAX_MESSAGE_CHARACTERS])
        status = await self._judge.process.wait()
        if status != CPU_LIMIT_STATUS:  # killed, by whomever: says nothing of the answer
            raise FrameError(f"the judge ended without its count (exit status {status})")
        self._fail_rest(SLOW_TO_COMPARE)

    async def _finish(self, frame: dict[str, Any]) -> None:
        """The count must be right, and a judge that does not stay must end in order."""
        if not frame["done"] == self._count == len(self.results):
            raise FrameError(f"the judge counted {frame['done']} of {self._count} tests, and reported {len(self.results)}")
        if frame.get("stays") is True:
            self._judge.stays = True
        elif (status := await self._judge.process.wait()) != 0:
            raise FrameError(f"the judge ended with status {status}")

    def _fail_rest(self, message: str) -> None:
        self.results += [message] * (self._count - len(self.results))
