"""What a run may spend: reserved before it is sent, settled after, exact under concurrency."""

import asyncio

import pytest

from sandbox.host import Budget
from sandbox.records import Execution
from sandbox.settings import BudgetSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from workflow.operators.context import BudgetExceeded
from workflow.outcome import Outcome
from workflow.worker import Message

HELLO: list[Message] = [{"role": "user", "content": "x" * 84}]
"""A prompt that may use 100 tokens."""
GATHER = """drafts = await asyncio.gather(*[self.generate(problem) for _ in range(20)], return_exceptions=True)
return str(sum(isinstance(draft, str) for draft in drafts))"""


async def execute(body: str, worker: ScriptedWorker, budget: BudgetSettings) -> Execution:
    async with box("process", SandboxSettings(budget=budget), worker) as sandbox:
        return await sandbox.execute(raw(body), PROBLEM, seed=7)


async def test_concurrent_calls_never_exceed_the_budget():
    worker = ScriptedWorker(latency_s=0.01)
    execution = await execute(GATHER, worker, BudgetSettings(calls=5))
    assert execution.answer == "5" and len(worker.seeds) == 5 == execution.worker_calls


async def test_tokens_are_spent_to_the_last_call_that_fits_and_never_beyond():
    worker = ScriptedWorker(latency_s=0.01, tokens=(300, 700))
    execution = await execute(GATHER, worker, BudgetSettings(tokens=10_000, reserved_completion_tokens=700))
    used = sum(call.prompt_tokens + call.completion_tokens for call in execution.trace)
    assert used == 1000 * len(worker.seeds) and 8_000 <= used <= 10_000, execution.answer


async def test_an_exhausted_budget_that_ends_the_run_is_named():
    execution = await execute("while True:\n    await self.generate(problem)", ScriptedWorker(), BudgetSettings(calls=3))
    assert execution.outcome is Outcome.BUDGET_EXCEEDED and execution.worker_calls == 3


async def test_a_failed_call_gives_its_reservation_back():
    budget = Budget(BudgetSettings(tokens=200))
    reserved = await budget.reserve(HELLO, 100)
    assert budget.tokens == reserved == 200
    await budget.settle(reserved, 0)
    assert budget.tokens == 0


async def test_a_call_waits_for_what_calls_in_flight_may_give_back():
    budget = Budget(BudgetSettings(tokens=300))
    first = await budget.reserve(HELLO, 100)
    second = asyncio.ensure_future(budget.reserve(HELLO, 100))
    await asyncio.sleep(0.01)
    assert not second.done()
    await budget.settle(first, 50)
    assert await second == 200 and budget.tokens == 250 and not budget.refused


async def test_a_call_that_can_never_fit_is_refused():
    budget = Budget(BudgetSettings(tokens=199))
    with pytest.raises(BudgetExceeded):
        await budget.reserve(HELLO, 100)
    assert budget.refused == 1 and budget.tokens == 0
