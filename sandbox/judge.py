"""The split judge: the candidate in one process, the trusted tests in another, each in the box.

A pass needs the judge's frame for every test, its final count and its clean exit. Whatever the candidate's process
does, it can only answer calls with plain values.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence

from sandbox.backend import Backend
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError
from sandbox.process import BackendError, Process
from sandbox.records import Verdict
from sandbox.settings import LimitSettings
from workflow.outcome import Outcome

CALL_SHARE = 0.6
"""Share of the judgement's deadline that one call of the candidate may take."""


async def judge(
    backend: Backend, limits: LimitSettings, *, source: str, entry_point: str, tests: Sequence[str], setup: str = ""
) -> Verdict:
    """Runs ``tests`` on the candidate ``source``; one entry of ``passed`` a test.

    A candidate that does not load, crashes or hangs fails the tests that it did not answer. Only faults of our own
    (no process, a judge that breaks off) give INFRA_ERROR.
    """
    started = time.monotonic()
    host_candidate, candidate_host = socket.socketpair()
    host_judge, judge_host = socket.socketpair()
    candidate_judge, judge_candidate = socket.socketpair()
    processes: list[Process] = []
    channels: list[Channel] = []
    try:
        channels = [await Channel.open(host_candidate), await Channel.open(host_judge)]
        processes.append(await backend.spawn("candidate", [candidate_host, candidate_judge]))
        processes.append(await backend.spawn("judge", [judge_host, judge_candidate]))
        await _start(channels, source, entry_point, tests, setup, limits)
        passed, failures, complete = await _collect(channels[1], processes[1], len(tests), limits.wall_s)
    except (BackendError, FrameError, OSError) as error:
        return Verdict(Outcome.INFRA_ERROR, (), (f"sandbox: {error}"[:300],), time.monotonic() - started, backend.level)
    finally:
        for process in processes:
            process.kill()
        for channel in channels:
            await channel.close()
        for sock in (host_candidate, candidate_host, host_judge, judge_host, candidate_judge, judge_candidate):
            sock.close()
    outcome = Outcome.PASSED if complete and passed and all(passed) else Outcome.WRONG_ANSWER
    return Verdict(outcome, tuple(passed), tuple(failures), time.monotonic() - started, backend.level)


async def _start(
    channels: Sequence[Channel], source: str, entry_point: str, tests: Sequence[str], setup: str, limits: LimitSettings
) -> None:
    with contextlib.suppress(FrameError):  # a candidate too large to send fails like one that does not load
        await channels[0].send({"source": source, "entry_point": entry_point})
    call_timeout_s = limits.wall_s * CALL_SHARE
    await channels[1].send({"setup": setup, "tests": list(tests), "entry_point": entry_point, "call_timeout_s": call_timeout_s})


async def _collect(channel: Channel, process: Process, count: int, wall_s: float) -> tuple[list[bool], list[str], bool]:
    """Per-test results, messages of the failed ones, and whether the judge closed in order.

    Raises FrameError where the judge ended early without a deadline: that is our fault, not the candidate's.
    """
    passed: list[bool] = []
    failures: list[str] = []
    try:
        async with asyncio.timeout(wall_s):
            while (frame := await channel.receive()) is not None:
                if "done" in frame:
                    complete = frame["done"] == count == len(passed) and await process.wait(5.0) == 0
                    return passed, failures, complete
                if frame.get("test") != len(passed) or not isinstance(frame.get("passed"), bool):
                    raise FrameError("the judge's frames are out of order")
                passed.append(frame["passed"])
                if not frame["passed"]:
                    failures.append(str(frame.get("message", ""))[:400])
            status = await process.wait(1.0)
            raise FrameError(f"the judge ended without its count (exit status {status})")
    except TimeoutError:
        missing = count - len(passed)
        return passed + [False] * missing, [*failures, f"no answer within {wall_s:g} s"], False
