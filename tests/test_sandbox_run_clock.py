"""Whose time a run takes: the workflow answers for its own, the worker and the machine for what it waits."""

import asyncio

import pytest

from sandbox.run_clock import RunClock
from sandbox.settings import LimitSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from tests.virtual_time import VirtualTimeLoop
from workflow.outcome import Outcome


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


def test_all_waiting_of_a_run_together_is_bounded():
    async def go() -> list[float]:
        given_up: list[float] = []
        async with (one := clock(wait_s=250.0, given_up=given_up)):
            for _ in range(3):
                await asyncio.sleep(1)
                await ask(one, 100.0)
        return given_up

    assert run_virtually(go()) == [pytest.approx(253.0, abs=0.5)]


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
