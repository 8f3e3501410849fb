"""The pool of sandboxes under Ray: retries elsewhere, bounded work in flight, nothing left behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psutil
import pytest
import ray

from sandbox.pool import SandboxPool
from sandbox.settings import SandboxSettings
from tests.scripted_endpoint import Endpoint, completion, endpoint, error
from tests.test_sandbox_runs import PROBLEM, raw
from trainer.cluster.session import start_ray, stop_ray
from trainer.settings import RunSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.settings import WorkerSettings

RIGHT = completion("def f(xs):\n    return sum(xs)")
GENERATE = raw("return await self.generate(problem)")


@pytest.fixture(scope="module", autouse=True)
def a_ray_of_our_own() -> Iterator[None]:
    folder = start_ray(RunSettings())
    yield
    stop_ray(folder)


@asynccontextmanager
async def pool(
    settings: SandboxSettings,
    *script: bytes,
    delay_s: float = 0.0,
    say: Callable[[str], None] = print,
    imports: tuple[str, ...] = (),
) -> AsyncIterator[tuple[SandboxPool, Endpoint]]:
    async with endpoint(*(script or (RIGHT,)), delay_s=delay_s) as scripted:
        worker = WorkerSettings(model="scripted-worker", base_url=scripted.base_url, max_retries=0)
        one = SandboxPool(settings, worker, imports=imports, say=say)
        try:
            await one.start()
            yield one, scripted
        finally:
            await one.close()


async def reached(scripted: Endpoint, requests: int) -> None:
    async with asyncio.timeout(30):
        while scripted.open_requests < requests:
            await asyncio.sleep(0.02)


async def test_a_run_whose_actor_is_killed_is_run_again_and_succeeds():
    async with pool(SandboxSettings(actors=2), delay_s=1.0) as (sandboxes, scripted):
        running = asyncio.ensure_future(sandboxes.run(GENERATE, PROBLEM, 1))
        await reached(scripted, 1)
        for place in sandboxes._places:
            if place.load:
                ray.kill(place.actor.handle)
        run = await running
        assert run.outcome is Outcome.PASSED and len(scripted.requests) == 2
        again = await asyncio.gather(*(sandboxes.run(GENERATE, PROBLEM, seed) for seed in range(2, 8)))
        assert {run.outcome for run in again} == {Outcome.PASSED}


async def test_all_actors_share_one_budget_of_a_minute():
    async with endpoint(RIGHT) as scripted:
        worker = WorkerSettings(model="m", base_url=scripted.base_url, requests_per_minute=3)
        one = SandboxPool(SandboxSettings(actors=2), worker, others={"large": worker.model_copy(update={"requests_per_minute": None})})
        try:
            await one.start()
            asks = "await asyncio.gather(*(self.generate(problem, str(i), worker='large') for i in range(5)))\n"
            for seed in range(5):
                assert (await one.run(raw(f"{asks}return 'x'"), PROBLEM, seed)).execution.worker_calls == 5, "another worker's is its own"
            before = len(scripted.requests)
            running = [asyncio.ensure_future(one.run(GENERATE, replace(PROBLEM, id=f"t/{seed}"), seed)) for seed in range(8)]
            while sum(task.done() for task in running) < 3:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            assert len(scripted.requests) - before == 3 == sum(task.done() for task in running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        finally:
            await one.close()


async def test_all_actors_share_the_judges_budget_of_a_minute():
    problem = Problem("j", "Write a haiku.", "", (), ("It rhymes.",), verifier="rubric")
    async with endpoint(completion("1: YES")) as scripted:
        worker = WorkerSettings(model="m", base_url=scripted.base_url)
        one = SandboxPool(SandboxSettings(actors=2), worker, judge=worker.model_copy(update={"requests_per_minute": 4}))
        try:
            await one.start()
            running = [asyncio.ensure_future(one.judge(replace(problem, id=f"j/{n}"), f"Poem {n}")) for n in range(8)]
            async with asyncio.timeout(30):
                while len(scripted.requests) < 4:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            assert len(scripted.requests) == 4
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        finally:
            await one.close()


async def test_operators_and_verifiers_of_a_package_are_known_in_every_actor():
    problem = Problem("t/0", "Which?", "", (), ("Lima",), verifier="exact")
    workflow = raw("return await self.vote(problem, ['Lima', 'Paris', 'Lima'])")
    async with pool(
        SandboxSettings(actors=2),
        completion("LIMA"),
        imports=("tests.plugin.flowreasoner_extras.operator", "tests.plugin.flowreasoner_extras.verifier"),
    ) as (sandboxes, _):
        runs = await asyncio.gather(*(sandboxes.run(workflow, problem, seed) for seed in range(4)))
    assert {run.outcome for run in runs} == {Outcome.PASSED}
    assert {call.operator for run in runs for call in run.execution.trace} == {"vote"}


async def test_an_import_that_does_not_exist_ends_the_start_with_a_sentence():
    with pytest.raises(ValueError, match=r"'no_such_package', named by trainer.imports, cannot be imported"):
        async with pool(SandboxSettings(actors=1), imports=("no_such_package",)):
            pass


async def test_while_no_actor_is_up_runs_wait_and_none_is_masked():
    said: list[str] = []
    async with pool(SandboxSettings(actors=2, retries=1), say=said.append) as (sandboxes, _):
        for place in sandboxes._places:
            ray.kill(place.actor.handle)
        runs = await asyncio.gather(*(sandboxes.run(GENERATE, PROBLEM, seed) for seed in range(6)))
        assert {run.outcome for run in runs} == {Outcome.PASSED}
        assert said and "it gets no runs until it is up again" in said[0]


async def test_an_actor_that_hangs_is_killed_and_comes_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sandbox.pool.GRACE_S", 1.0)
    limits = {"limits": {"workflow_wall_s": 2.0, "wall_s": 1.0}}
    async with pool(SandboxSettings.model_validate({"actors": 1, "retries": 3} | limits)) as (sandboxes, _):
        assert (await sandboxes.run(GENERATE, PROBLEM, 1)).outcome is Outcome.PASSED
        ours = psutil.Process().children(recursive=True)
        alive = [process for process in ours if process.status() != psutil.STATUS_ZOMBIE]
        (actor,) = [process for process in alive if "SandboxActor" in " ".join(process.cmdline())]
        actor.suspend()
        assert (await sandboxes.run(GENERATE, PROBLEM, 2)).outcome is Outcome.PASSED
        await asyncio.to_thread(actor.wait, 60)


async def test_a_dead_endpoint_is_an_infrastructure_error_after_all_retries():
    async with pool(SandboxSettings(actors=2, retries=2), error(500)) as (sandboxes, scripted):
        run = await sandboxes.run(GENERATE, PROBLEM, 1)
        assert run.outcome is Outcome.INFRA_ERROR and run.verdict is None and run.execution.error
        assert len(scripted.requests) == 3


async def test_a_workflows_own_failure_is_not_retried():
    async with pool(SandboxSettings(actors=2)) as (sandboxes, scripted):
        run = await sandboxes.run(raw("await self.generate(problem)\nraise ValueError('mine')"), PROBLEM, 1)
        assert run.outcome is Outcome.CRASHED and "mine" in run.execution.error and len(scripted.requests) == 1


async def test_no_more_runs_are_in_flight_than_there_are_slots():
    async with pool(SandboxSettings(actors=2, slots_per_actor=3), delay_s=0.3) as (sandboxes, scripted):
        runs = await asyncio.gather(*(sandboxes.run(GENERATE, PROBLEM, seed) for seed in range(20)))
        assert {run.outcome for run in runs} == {Outcome.PASSED} and scripted.most_open_requests == 6


async def test_a_cancelled_run_gives_its_slot_back_and_ends_in_its_actor():
    async with pool(SandboxSettings(actors=1, slots_per_actor=1), delay_s=20.0) as (sandboxes, scripted):
        running = asyncio.ensure_future(sandboxes.run(GENERATE, PROBLEM, 1))
        await reached(scripted, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(10):
            while not scripted.given_up:
                await asyncio.sleep(0.02)
        scripted.delay_s = 0.0
        assert (await sandboxes.run(GENERATE, PROBLEM, 2)).outcome is Outcome.PASSED


async def test_answers_are_judged_without_a_run():
    async with pool(SandboxSettings(actors=1)) as (sandboxes, scripted):
        right, wrong = await asyncio.gather(
            sandboxes.judge(PROBLEM, "def f(xs):\n    return sum(xs)"), sandboxes.judge(PROBLEM, "def f(xs):\n    return 0")
        )
        assert (right.outcome, wrong.outcome) == (Outcome.PASSED, Outcome.WRONG_ANSWER) and not scripted.requests
        assert right.isolation == sandboxes.level


async def test_a_closed_pool_leaves_no_box():
    async with pool(SandboxSettings(actors=2)) as (sandboxes, _):
        await sandboxes.run(GENERATE, PROBLEM, 1)
        assert boxes()
    deadline = time.monotonic() + 10
    while boxes() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not boxes()


def boxes() -> list[int]:
    """Zygotes below this process, Ray's workers included."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any("sandbox.guest.zygote" in part for part in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found
