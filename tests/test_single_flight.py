"""Equal keys that are asked for at once are computed once, whoever gives up meanwhile."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from sandbox.process import BackendError, Process
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from tests.sandbox_parts import PROBLEM
from workflow.outcome import Outcome
from workflow.single_flight import SingleFlight


class Work:
    """Computes slowly; counts how often it began."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.go_on.wait()
        return number


def flights(entries: int = 2) -> SingleFlight[int]:
    return SingleFlight(entries, lambda: BackendError("closed"), keeps=lambda value: value < 9)


async def begin(*askers: asyncio.Task) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(asker.done() for asker in askers)


async def test_who_asks_at_once_shares_one_computation_and_later_askers_get_the_kept_value():
    work, once = Work(), flights()
    askers = [asyncio.ensure_future(once.get(b"k", work)) for _ in range(3)]
    await begin(*askers)
    work.go_on.set()
    assert sorted(await asyncio.gather(*askers)) == [(1, False), (1, True), (1, True)]
    assert await once.get(b"k", work) == (1, True) and work.begun == 1


async def test_one_who_gives_up_leaves_the_others_alone():
    work, once = Work(), flights()
    first, second = (asyncio.ensure_future(once.get(b"k", work)) for _ in range(2))
    await begin(first, second)
    first.cancel()
    work.go_on.set()
    assert await second == (1, True) and first.cancelled()


async def test_who_asks_right_after_the_last_one_gave_up_begins_anew():
    work, once = Work(), flights()
    first = asyncio.ensure_future(once.get(b"k", work))
    await begin(first)
    first.cancel()
    await asyncio.sleep(0)  # it has left; what it began is told to end and has not ended
    work.go_on.set()
    assert await once.get(b"k", work) == (2, False)


async def test_values_are_kept_up_to_a_number_and_only_where_they_may_be():
    async def value(number: int) -> int:
        return number

    once = flights(entries=2)
    for number in (1, 2, 3, 9):
        await once.get(bytes([number]), lambda number=number: value(number))
    assert [(await once.get(bytes([number]), lambda: value(0)))[0] for number in (2, 3, 9)] == [2, 3, 0]
    assert len(once) == 2


async def test_failures_reach_all_who_wait_and_are_not_kept():
    async def fail() -> int:
        raise ValueError("no")

    once = flights()
    assert [str(error) for error in await asyncio.gather(*(once.get(b"k", fail) for _ in range(2)), return_exceptions=True)] == ["no"] * 2
    assert len(once) == 0


async def test_who_waits_while_it_is_closed_gets_an_error_and_no_cancellation():
    work, once = Work(), flights()
    asker = asyncio.ensure_future(once.get(b"k", work))
    await begin(asker)
    await once.aclose()
    with pytest.raises(BackendError, match="closed"):
        await asker


class SlowBackend:
    """Starts nothing: the first process is waited for in vain, every other one fails."""

    level = "scripted"

    def __init__(self) -> None:
        self.asked = 0

    async def start(self) -> None: ...

    async def spawn(self, role: str, sockets: Sequence[socket.socket]) -> Process:
        self.asked += 1
        if self.asked == 1:
            await asyncio.Event().wait()
        for one in sockets:
            one.close()
        raise BackendError("no process")

    async def close(self) -> None: ...


async def test_an_answer_is_judged_anew_right_after_all_who_waited_for_its_verdict_gave_up():
    backend = SlowBackend()
    async with Sandbox(SandboxSettings(), backend=backend) as sandbox:
        first = asyncio.ensure_future(sandbox.judge(PROBLEM, "def f(xs):\n    return sum(xs)"))
        while not backend.asked:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert (await sandbox.judge(PROBLEM, "def f(xs):\n    return sum(xs)")).outcome is Outcome.INFRA_ERROR
