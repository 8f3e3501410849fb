"""What a run may spend: reserved before it is sent, settled after, exact under concurrency."""

import asyncio
from collections.abc import Sequence

import pytest

from sandbox.budget import Budget
from sandbox.host import ENDED_FIRST
from sandbox.records import Execution
from sandbox.settings import BudgetSettings, LimitSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from workflow.operators.context import BudgetExceeded
from workflow.outcome import Outcome
from workflow.worker.interface import Message, PromptRefused, Reply

HELLO: list[Message] = [{"role": "user", "content": "x" * 84}]
"""A prompt that may use 100 tokens."""
GATHER = """drafts = await asyncio.gather(*[self.generate(problem) for _ in range(20)], return_exceptions=True)
return str(sum(isinstance(draft, str) for draft in drafts))"""


async def execute(body: str, worker: ScriptedWorker, budget: BudgetSettings) -> Execution:
    async with box("landlock", SandboxSettings(budget=budget), worker) as sandbox:
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


async def test_replies_that_were_cut_off_are_counted_call_by_call():
    done = await execute("return await self.generate(problem)", ScriptedWorker(finish_reason="length"), BudgetSettings())
    assert [call.truncated for call in done.trace] == [1]
    done = await execute("return await self.generate(problem)", ScriptedWorker(finish_reason="stop"), BudgetSettings())
    assert [call.truncated for call in done.trace] == [0]


REFUSED_AGAIN_AND_AGAIN = """for i in range(30):
    try:
        await self.generate(problem, str(i))
    except OperatorError:
        pass
return "x"
"""


async def test_a_reply_that_was_generated_and_refused_is_billed_like_any_other():
    worker = ScriptedWorker(fails=PromptRefused("filtered", 900, 4000, 0.01))
    done = await execute(REFUSED_AGAIN_AND_AGAIN, worker, BudgetSettings(calls=100, tokens=10**6, dollars=100.0))
    assert (done.outcome, done.worker_calls, len(worker.seeds)) == (Outcome.ANSWERED, 30, 30), done.error
    assert done.cost_dollars == pytest.approx(0.3) and {call.completion_tokens for call in done.trace} == {4000}
    done = await execute(REFUSED_AGAIN_AND_AGAIN, worker, BudgetSettings(calls=100, tokens=60_000))
    assert done.outcome is Outcome.BUDGET_EXCEEDED or done.worker_calls < 30


async def test_a_prompt_that_was_refused_before_anything_was_generated_costs_nothing():
    done = await execute(REFUSED_AGAIN_AND_AGAIN, ScriptedWorker(fails=PromptRefused("too long")), BudgetSettings(calls=100))
    assert (done.outcome, done.worker_calls, done.cost_dollars) == (Outcome.ANSWERED, 0, 0.0)


async def test_thinking_that_left_no_room_for_an_answer_is_told_and_no_answer():
    worker = ScriptedWorker("", finish_reason="length")
    done = await execute("return await self.generate(problem)", worker, BudgetSettings())
    assert done.outcome is Outcome.CRASHED and "spent all its tokens on thinking" in done.error
    (call,) = done.trace
    assert (call.worker_calls, call.truncated, call.refused, call.cost_dollars) == (1, 1, 1, 0.001)


async def test_an_exhausted_budget_that_ends_the_run_is_named():
    execution = await execute("while True:\n    await self.generate(problem)", ScriptedWorker(), BudgetSettings(calls=3))
    assert execution.outcome is Outcome.BUDGET_EXCEEDED and execution.worker_calls == 3


async def test_a_failed_call_gives_its_reservation_back():
    budget = Budget(BudgetSettings(tokens=200))
    reserved = await budget.reserve(HELLO, 100)
    assert budget.tokens == reserved.tokens == 200
    budget.settle(reserved, 0, 0.0)
    assert budget.tokens == 0


async def test_a_call_waits_for_what_calls_in_flight_may_give_back():
    budget = Budget(BudgetSettings(tokens=300))
    first = await budget.reserve(HELLO, 100)
    second = asyncio.ensure_future(budget.reserve(HELLO, 100))
    await asyncio.sleep(0.01)
    assert not second.done()
    budget.settle(first, 50, 0.0)
    assert (await second).tokens == 200 and budget.tokens == 250 and not budget.refused


async def test_a_call_that_can_never_fit_is_refused():
    budget = Budget(BudgetSettings(tokens=199))
    with pytest.raises(BudgetExceeded):
        await budget.reserve(HELLO, 100)
    assert budget.refused == 1 and budget.tokens == 0


PRICES = {"prompt_dollars_per_million": 1.0, "completion_dollars_per_million": 10.0}


async def test_dollars_are_set_aside_at_the_workers_prices_and_settled_by_its_bill():
    budget = Budget(BudgetSettings(dollars=0.0025, **PRICES))
    reserved = await budget.reserve(HELLO, 200)
    assert reserved.dollars == pytest.approx((100 * 1 + 200 * 10) / 1e6)
    waiting = asyncio.ensure_future(budget.reserve(HELLO, 200))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    budget.settle(reserved, 30, 0.001)
    with pytest.raises(BudgetExceeded, match=r"0\.0025 dollars"):
        await waiting
    assert budget.dollars == pytest.approx(0.001)


async def test_a_run_never_costs_more_than_its_dollars():
    worker = ScriptedWorker(latency_s=0.01)  # 0.001 dollars a reply
    settings = BudgetSettings(dollars=0.0055, reserved_completion_tokens=100, completion_dollars_per_million=10.0)
    execution = await execute(GATHER, worker, settings)
    assert execution.answer == "5" and execution.cost_dollars == pytest.approx(0.005)


class UnevenWorker(ScriptedWorker):
    """Answers its first request at once and the others only after a very long time; notes who got an answer."""

    answered = 0

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        self.latency_s = 3600.0 if self.seeds else 0.2
        reply = await super().complete(messages, seed=seed, ordinal=ordinal, temperature=temperature, max_tokens=max_tokens)
        self.answered += 1
        return reply


RACE = """tasks = [asyncio.ensure_future(self.generate(problem)) for _ in range({calls})]
done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
{end}"""
ENDS = {
    "its answer": "return 'first'",
    "an exception": "raise ValueError('no')",
    "its exit": "os._exit(0)",
    "the end of all patience with the worker": "await asyncio.sleep(3600)",
}


@pytest.mark.parametrize("end", ENDS)
async def test_requests_under_way_when_a_run_ends_are_in_its_trace_and_on_its_bill(end: str):
    worker = UnevenWorker()
    budget = BudgetSettings(reserved_completion_tokens=500, **PRICES)
    settings = SandboxSettings(budget=budget, limits=LimitSettings(worker_wait_s=5.0))
    async with box("landlock", settings, worker) as sandbox:
        execution = await sandbox.execute(raw(RACE.format(calls=8, end=ENDS[end])), PROBLEM, 7)
    cut = [call for call in execution.trace if call.error == ENDED_FIRST]
    assert len(worker.seeds) == execution.worker_calls == len(execution.trace) == 8 and len(cut) == 8 - worker.answered
    assert all(call.completion_tokens == 500 and call.prompt_tokens > 100 for call in cut)
    expected = 0.001 * worker.answered + sum((call.prompt_tokens + 10 * call.completion_tokens) / 1e6 for call in cut)
    assert execution.cost_dollars == pytest.approx(expected)


@pytest.mark.parametrize(
    "limits", [BudgetSettings(concurrent_calls=2), BudgetSettings(tokens=2500, reserved_completion_tokens=1000), BudgetSettings(calls=3)]
)
async def test_calls_that_never_reached_the_worker_are_in_the_trace_and_cost_nothing(limits: BudgetSettings):
    worker = UnevenWorker()
    execution = await execute(RACE.format(calls=8, end="return 'first'"), worker, limits)
    unsent = [call for call in execution.trace if not call.worker_calls]
    assert execution.worker_calls == len(worker.seeds) < 8 == len(execution.trace)
    assert unsent and all((call.prompt_tokens, call.completion_tokens, call.cost_dollars) == (0, 0, 0.0) and call.error for call in unsent)
