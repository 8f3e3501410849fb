"""Deadlines count the time in which the sandbox itself goes on, and what a deadline decided is not kept."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence

import pytest

from sandbox.backend import ZygoteBackend
from sandbox.channel import Channel
from sandbox.deadline import STEP_S, Countdown, Deadline, longest_s
from sandbox.guest.frames import encode_frame
from sandbox.process import Process
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, box, raw
from tests.virtual_time import VirtualTimeLoop
from workflow.outcome import Outcome
from workflow.problem import Problem

SLOW_ANSWER: dict[str, tuple[str, str]] = {
    "function": ("import time\ndef f(x):\n    time.sleep({seconds})\n    return x", "assert f({n}) == {n}"),
    "stdio": ("import time\ntime.sleep({seconds})\nprint(input())", json.dumps({"stdin": "{n}", "stdout": "{n}"})),
    "unittest": (
        "import time\ndef f(x):\n    time.sleep({seconds})\n    return x",
        "import unittest\nclass T{n}(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f({n}), {n})",
    ),
}
"""By verifier: an answer that takes its time, and a test."""


def slow(verifier: str, seconds: float, tests: int) -> tuple[Problem, str]:
    answer, test = SLOW_ANSWER[verifier]
    hidden = tuple(test.replace("{n}", str(n)) for n in range(tests))
    return Problem("slow/0", "q", "f", (), hidden, verifier=verifier), answer.replace("{seconds}", str(seconds))


class Counting(ZygoteBackend):
    """Counts the processes that it starts."""

    count = 0

    async def spawn(self, role: str, sockets: Sequence[socket.socket]) -> Process:
        self.count += 1
        return await super().spawn(role, sockets)


@pytest.mark.slow
async def test_what_stops_the_sandbox_counts_against_no_run():
    settings = SandboxSettings(limits=LimitSettings(wall_s=4, workflow_wall_s=4))
    async with box("namespace", settings) as sandbox:
        judging = [asyncio.ensure_future(sandbox.judge(*slow(verifier, 0.2, 4))) for verifier in SLOW_ANSWER]
        running = asyncio.ensure_future(sandbox.execute(raw("for _ in range(4):\n    await asyncio.sleep(0.2)\nreturn 'done'"), PROBLEM, 1))
        await asyncio.sleep(0.3)
        time.sleep(6)  # nothing of this process goes on, as with a text that takes long to read
        verdicts, execution = await asyncio.gather(*judging), await running
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASSED] * 3, verdicts
    assert execution.answer == "done", execution


@pytest.mark.parametrize("verifier", SLOW_ANSWER)
async def test_a_verdict_of_the_clock_is_not_kept_and_others_are(verifier: str):
    settings = SandboxSettings(limits=LimitSettings(wall_s=0.5))
    backend = Counting(settings)
    async with Sandbox(settings, None, backend) as sandbox:
        for seconds, kept in ((60.0, False), (0.0, True)):
            problem, answer = slow(verifier, seconds, 1)
            if kept:
                answer = answer.replace("return x", "return -1").replace("input()", "-1")
            first = await sandbox.judge(problem, answer)
            before = backend.count
            second = await sandbox.judge(problem, answer)
            assert first.outcome is second.outcome is Outcome.WRONG_ANSWER
            if not first.late or kept is False:  # a fast answer, too, is late on a machine that has no time for it
                assert (backend.count == before) is kept, (first, second)


class Jumping(asyncio.SelectorEventLoop):
    """A loop that is always late: a second passes whenever it looks at the clock."""

    def time(self) -> float:
        self.now = getattr(self, "now", 0.0) + 1.0
        return self.now


def test_a_deadline_ends_even_where_every_step_of_it_is_late():
    async def spend() -> None:
        async with Deadline(2.0):
            await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=Jumping) as runner, pytest.raises(TimeoutError):
        runner.run(spend())


async def test_a_deadline_goes_on_with_what_is_left_of_it():
    deadline = Deadline(1.0)
    async with deadline:
        await asyncio.sleep(0.05)
    assert 0 < deadline.left_s < 1
    with pytest.raises(TimeoutError):
        async with deadline:
            await asyncio.sleep(60)
    assert deadline.left_s <= 0


async def test_a_countdown_that_is_stopped_ends_nothing():
    ended: list[int] = []
    countdown = Countdown(0.05, lambda: ended.append(1))
    countdown.start()
    countdown.stop()
    await asyncio.sleep(0.2)
    assert not ended


async def test_a_frame_may_be_completed_after_the_sandbox_stood_still():
    ours, theirs = socket.socketpair()
    channel = Channel(ours, timeout_s=1.5)
    data = encode_frame({"text": "x" * 2_000_000})
    theirs.setblocking(False)
    sent = theirs.send(data)
    reading = asyncio.ensure_future(channel.receive())
    await asyncio.sleep(0.1)
    time.sleep(2)
    await asyncio.sleep(0)
    await asyncio.get_running_loop().sock_sendall(theirs, data[sent:])
    assert await reading == {"text": "x" * 2_000_000}
    channel.close()
    theirs.close()


@pytest.mark.parametrize(("late_s", "lasts_s"), [(0.0, 10.0), (0.2, 18.0), (0.3, 30.0), (3.0, 30.0)])
def test_a_deadline_ends_within_a_bound_however_late_the_loop_always_is(late_s: float, lasts_s: float):
    loop = VirtualTimeLoop(late_s)

    async def wait() -> float:
        with pytest.raises(TimeoutError):
            async with Deadline(10.0):
                await asyncio.Event().wait()
        return loop.time()

    try:
        took_s = loop.run_until_complete(wait())
    finally:
        loop.close()
    assert lasts_s - 0.1 <= took_s <= longest_s(10.0) + STEP_S + late_s
