"""Whose time a run takes: the workflow answers for its own, the worker and the machine for what it waits."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sandbox.run_clock import RunClock
from sandbox.settings import LimitSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from tests.virtual_time import VirtualTimeLoop
from workflow.outcome import Outcome
from workflow.worker.interface import Reply


def run_virtually(coroutine):
    """The result, on a clock that jumps."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def clock(own_s: float = 10.0, wait_s: float = 1000.0, given_up: list[float] | None = None) -> RunClock:
    said = [] if given_up is None else given_up
    return RunClock(LimitSettings(workflow_wall_s=own_s, worker_wait_s=wait_s), lambda: said.append(asyncio.get_running_loop().time()))


async def ask(one: RunClock, takes_s: float, served_s: float | None = None) -> None:
    with one.waiting() as wait:
        await asyncio.sleep(takes_s)
        wait.served_s = takes_s if served_s is None else served_s


def test_waiting_for_the_worker_counts_against_no_deadline():
    async def go() -> float:
        async with (one := clock()):
            for _ in range(5):
                await asyncio.sleep(1.5)
                await asyncio.gather(ask(one, 100.0), ask(one, 60.0))
        return asyncio.get_running_loop().time()

    assert run_virtually(go()) == pytest.approx(507.5, abs=0.1)


def test_a_workflow_that_takes_its_own_time_ends_at_its_deadline_whenever_it_asks():
    async def go() -> float:
        with pytest.raises(TimeoutError):
            async with (one := clock()):
                await asyncio.sleep(6)
                await ask(one, 100.0)
                await asyncio.sleep(6)
        return asyncio.get_running_loop().time()

    assert run_virtually(go()) == pytest.approx(110.0, abs=0.5)


@pytest.mark.parametrize(
    ("served_s", "given_up"), [(0.0, [253.0]), (20.0, [293.0]), (100.0, [])], ids=["in line", "in line, then served", "served"]
)
def test_waiting_without_being_served_is_bounded_and_being_served_is_not(served_s: float, given_up: list[float]):
    async def go() -> list[float]:
        found: list[float] = []
        async with (one := clock(wait_s=250.0, given_up=found)):
            for _ in range(4):
                await asyncio.sleep(1)
                await ask(one, 100.0, served_s)
        return found

    assert run_virtually(go())[:1] == [pytest.approx(at_s, abs=0.6) for at_s in given_up]


def test_chains_of_requests_side_by_side_are_served_as_long_as_the_longest_and_kept_replies_give_no_time_to_wait():
    async def go(served_s: float, takes_s: float) -> list[float]:
        given_up: list[float] = []

        async def chain(first_s: float) -> None:
            await asyncio.sleep(first_s)
            for _ in range(6):
                await ask(one, takes_s, served_s)

        async with (one := clock(wait_s=250.0, given_up=given_up)):
            await asyncio.gather(*(chain(start_s) for start_s in (0.0, 3.0, 5.0)))
            await ask(one, 400.0, 0.0)
        return given_up

    assert len(run_virtually(go(100.0, 100.0))) == 1, "the wait at the end"
    assert run_virtually(go(100.0, 0.0)) == [pytest.approx(5.0 + 250.0, abs=0.6)]


STALL = """for n in range(30):
    try:
        await self.custom(str(n), 'Write 4000 random words.')
    except OperatorError:
        pass
return 'def f(xs): return 0'"""


class LongWinded(ScriptedWorker):
    """Replies that take their time to be written."""

    async def complete(self, *args: Any, **kwargs: Any) -> Reply:
        return replace(await super().complete(*args, **kwargs), latency_s=self.latency_s)


@pytest.mark.parametrize(("text", "finish_reason"), [("bla", "stop"), ("<think>bla", "length")], ids=["replies", "thoughts alone"])
async def test_a_workflow_cannot_have_itself_masked_by_asking_for_many_long_replies(text: str, finish_reason: str):
    settings = SandboxSettings(limits=LimitSettings(workflow_wall_s=5.0, worker_wait_s=0.5))
    async with box("landlock", settings, LongWinded(text, latency_s=0.05, finish_reason=finish_reason)) as sandbox:
        run = await sandbox.run(raw(STALL), PROBLEM, 1)
    assert run.outcome is Outcome.WRONG_ANSWER and run.execution.wall_s > 1.5, run


@pytest.mark.parametrize(
    ("side_by_side", "asked", "takes_s"),
    [
        (False, [(100.0, 4.0), (0.0, 4.0)], 2 + 8),
        (True, [(100.0, 4.0), (50.0, 3.0)], 2 + 4),
        (False, [(100.0, 0.0)], 2),
    ],
    ids=["one after the other, one from the cache", "side by side", "never served"],
)
def test_a_run_takes_its_own_time_and_that_of_serving_it_however_long_it_stood_in_line(side_by_side, asked, takes_s: float):
    async def go() -> float:
        async with (one := clock()):
            await asyncio.sleep(1)
            requests = [ask(one, *each) for each in asked]
            if side_by_side:
                await asyncio.gather(*requests)
            else:
                for request in requests:
                    await request
            await asyncio.sleep(1)
        return one.run_s

    assert run_virtually(go()) == pytest.approx(takes_s, abs=0.01)


@pytest.mark.parametrize(("wait_s", "outcome"), [(60.0, Outcome.PASSED), (0.5, Outcome.INFRA_ERROR)])
async def test_a_run_behind_others_requests_is_judged_or_masked_and_never_timed_out(wait_s: float, outcome: Outcome):
    settings = SandboxSettings(limits=LimitSettings(workflow_wall_s=3.0, worker_wait_s=wait_s))
    async with box("landlock", settings, ScriptedWorker(latency_s=4.0)) as sandbox:
        run = await sandbox.run(raw("return await self.generate(problem)"), PROBLEM, 1)
    assert run.outcome is outcome, run
    assert "worker_wait_s" in run.fault or outcome is Outcome.PASSED
    assert run.execution.worker_calls == 1, "billed, whoever is to blame"
