"""What many runs leave behind, and what a run may spend."""

import asyncio
import os

import psutil
import pytest

from sandbox.backend import ZygoteBackend
from sandbox.records import Execution
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, SandboxSettings
from tests.test_sandbox_runs import PROBLEM, ScriptedWorker, raw
from workflow.outcome import Outcome

GENERATE = raw("return await self.generate(problem)")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def zygote(sandbox: Sandbox) -> psutil.Process:
    """The innermost process that forks the runs."""
    assert isinstance(sandbox.backend, ZygoteBackend) and sandbox.backend.pid is not None
    outer = psutil.Process(sandbox.backend.pid)
    return (outer.children() or [outer])[0] if sandbox.backend.level == "namespace" else outer


def idle(sandbox: Sandbox, box: psutil.Process) -> bool:
    """True where nothing runs but judges that wait for an answer."""
    return len(box.children()) == sandbox.bench.idle


async def settled(condition, seconds: float = 30.0) -> bool:
    """True as soon as the condition holds."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def test_three_hundred_runs_leave_descriptors_processes_and_memory_as_they_were():
    async with Sandbox(SandboxSettings(verdict_cache_entries=0), ScriptedWorker()) as sandbox:

        async def some(count: int) -> set[Outcome]:
            runs = await asyncio.gather(*(sandbox.run(GENERATE, PROBLEM, seed) for seed in range(count)))
            return {run.outcome for run in runs}

        assert await some(30) == {Outcome.PASSED}
        box = zygote(sandbox)

        def left() -> tuple[int, int]:
            """Descriptors of both sides without those of the judges that wait: a channel and a pidfd here, a pidfd there."""
            return descriptors() - 2 * sandbox.bench.idle, box.num_fds() - sandbox.bench.idle

        assert await settled(lambda: idle(sandbox, box))
        before = *left(), box.memory_info().rss
        for _ in range(6):
            assert await some(50) == {Outcome.PASSED}
        assert await settled(lambda: idle(sandbox, box))
        assert left() == before[:2]
        assert box.memory_info().rss < before[2] + (2 << 20)


async def test_a_cancelled_run_leaves_no_process_and_no_descriptor():
    async with Sandbox(SandboxSettings(), ScriptedWorker(latency_s=60)) as sandbox:
        box, before = zygote(sandbox), descriptors()
        assert await settled(lambda: not box.children())
        runs = [asyncio.ensure_future(sandbox.run(GENERATE, PROBLEM, seed)) for seed in range(5)]
        assert await settled(lambda: len(box.children()) == 5)
        for run in runs:
            run.cancel()
        assert all(isinstance(result, asyncio.CancelledError) for result in await asyncio.gather(*runs, return_exceptions=True))
        assert await settled(lambda: not box.children() and descriptors() <= before)


async def test_a_cancellation_that_meets_the_new_process_ends_both():
    """Python 3.11's ``asyncio.wait_for`` gives the result and forgets the cancellation where both come in one turn of the loop."""
    async with Sandbox(SandboxSettings(), ScriptedWorker(latency_s=60)) as sandbox:
        backend, box, before = sandbox.backend, zygote(sandbox), descriptors()
        assert isinstance(backend, ZygoteBackend) and backend._control is not None
        assert await settled(lambda: not backend._running)
        run = asyncio.ensure_future(sandbox.run(GENERATE, PROBLEM, 1))

        def both() -> None:
            backend._on_message()
            run.cancel()

        asyncio.get_running_loop().add_reader(backend._control.fileno(), both)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 10)
        assert await settled(lambda: not box.children() and descriptors() <= before)


async def test_a_run_cancelled_while_its_process_starts_leaves_none():
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        box, before = zygote(sandbox), descriptors()
        assert await settled(lambda: not box.children())
        for steps in range(8):
            run = asyncio.ensure_future(sandbox.run(GENERATE, PROBLEM, steps))
            for _ in range(steps):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        assert await settled(lambda: idle(sandbox, box) and descriptors() <= before + 2 * sandbox.bench.idle)
        assert (await sandbox.run(GENERATE, PROBLEM, 0)).outcome is Outcome.PASSED


async def test_a_cancelled_judgement_leaves_no_process_and_no_descriptor():
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        box, before = zygote(sandbox), descriptors()
        judging = asyncio.ensure_future(sandbox.judge(PROBLEM, "def f(xs):\n    while True: pass"))
        assert await settled(lambda: len(box.children()) == 2)
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)
        assert await settled(lambda: not box.children() and descriptors() <= before)


async def execute(body: str, worker: ScriptedWorker, **budget: int) -> Execution:
    async with Sandbox(SandboxSettings(budget=BudgetSettings(**budget)), worker) as sandbox:
        return await sandbox.execute(raw(body), PROBLEM, 1)


async def test_a_workflow_may_handle_its_exhausted_budget():
    body = "answer = ''\ntry:\n    while True:\n        answer = await self.generate(problem)\nexcept BudgetExceeded as error:\n"
    execution = await execute(body + "    return f'{error} | {answer}'", ScriptedWorker(), calls=3)
    assert execution.outcome is Outcome.ANSWERED and execution.worker_calls == 3
    assert (execution.answer or "").startswith("the budget of 3 operator calls is spent | def f")


async def test_tokens_of_concurrent_calls_are_reserved_before_they_are_sent():
    """Each call reserves about 1,100 tokens and uses 30: two fit at once, and what comes back lets the others follow."""
    worker = ScriptedWorker(latency_s=0.02)
    body = "import asyncio\nreturn str(len(await asyncio.gather(*[self.generate(problem) for _ in range(10)])))"
    execution = await execute(body, worker, tokens=3000, reserved_completion_tokens=1024)
    assert execution.answer == "10" and sum(call.prompt_tokens + call.completion_tokens for call in execution.trace) == 300


async def test_a_token_budget_that_ends_the_run_is_named():
    body = "while True:\n    await self.generate(problem)"
    execution = await execute(body, ScriptedWorker(), tokens=3000, reserved_completion_tokens=1024)
    assert execution.outcome is Outcome.BUDGET_EXCEEDED
    spent = sum(call.prompt_tokens + call.completion_tokens for call in execution.trace)
    assert 0 < spent <= 3000


async def test_no_more_calls_are_in_flight_than_allowed():
    class Counting(ScriptedWorker):
        now = most = 0

        async def complete(self, messages, **options):
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await super().complete(messages, **options)
            finally:
                self.now -= 1

    worker = Counting(latency_s=0.02)
    body = "import asyncio\nreturn str(len(await asyncio.gather(*[self.generate(problem) for _ in range(12)])))"
    assert (await execute(body, worker, concurrent_calls=3)).answer == "12" and worker.most == 3
