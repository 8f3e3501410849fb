"""How fast an endpoint is asked: a budget of a minute, and fewer requests at once where it refuses some for its load."""

import asyncio

import pytest

from tests.virtual_time import VirtualTimePolicy
from workflow.worker.pace import Concurrency, MinuteBudget


@pytest.fixture
def event_loop_policy() -> VirtualTimePolicy:
    return VirtualTimePolicy()


def now() -> float:
    return asyncio.get_running_loop().time()


async def send_times(budget: MinuteBudget, requests: int, tokens: int = 10) -> list[float]:
    async def send() -> float:
        await budget.take(tokens)
        return now()

    return await asyncio.gather(*(send() for _ in range(requests)))


async def test_no_minute_holds_more_requests_than_allowed():
    times = await send_times(MinuteBudget(5, None), 12)
    assert times == [0.0] * 5 + [60.0] * 5 + [120.0] * 2


async def test_no_minute_holds_more_tokens_than_allowed():
    assert await send_times(MinuteBudget(None, 100), 5, tokens=40) == [0.0, 0.0, 60.0, 60.0, 120.0]


async def test_tokens_that_a_request_did_not_use_are_free_for_the_next_at_once():
    budget = MinuteBudget(None, 100)
    first = await budget.take(90)
    second = asyncio.ensure_future(budget.take(90))
    await asyncio.sleep(3)
    assert not second.done()
    budget.settle(first, 10)
    await second
    assert now() == 3.0


async def test_a_request_larger_than_the_budget_goes_alone():
    budget = MinuteBudget(None, 100)
    await budget.take(1)
    await budget.take(1000)
    assert now() == 60.0


async def test_requests_take_their_turns_in_the_order_in_which_they_came():
    budget, order = MinuteBudget(1, None), list[int]()

    async def send(number: int) -> None:
        await budget.take(1)
        order.append(number)

    await asyncio.gather(*(send(number) for number in range(4)))
    assert order == [0, 1, 2, 3]


async def test_one_that_gives_up_waiting_leaves_its_turn_to_the_others():
    budget = MinuteBudget(1, None)
    await budget.take(1)
    leaver, stayer = asyncio.ensure_future(budget.take(1)), asyncio.ensure_future(budget.take(1))
    await asyncio.sleep(1)
    leaver.cancel()
    await stayer
    assert now() == 60.0


async def most_open(concurrency: Concurrency, requests: int) -> int:
    inside = most = 0

    async def send() -> None:
        nonlocal inside, most
        async with concurrency:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(1)
            inside -= 1

    await asyncio.gather(*(send() for _ in range(requests)))
    return most


async def test_a_refusal_for_load_halves_what_is_open_and_replies_bring_it_back_step_by_step():
    concurrency = Concurrency(8)
    assert await most_open(concurrency, 20) == 8
    tasks = [asyncio.ensure_future(most_open(concurrency, 1)) for _ in range(7)]
    await asyncio.sleep(0.5)
    concurrency.cut_after_refusal(now(), 0.0)
    await asyncio.gather(*tasks)
    assert concurrency.allowed == 4 and await most_open(concurrency, 20) == 4
    for _ in range(5):
        concurrency.raise_after_reply()
    assert concurrency.allowed == 5 and await most_open(concurrency, 20) == 5
    for _ in range(100):
        concurrency.raise_after_reply()
    assert concurrency.allowed == 8 and await most_open(concurrency, 20) == 8


async def test_refusals_of_requests_that_were_sent_together_count_once_and_one_is_always_allowed():
    concurrency = Concurrency(8)
    tasks = [asyncio.ensure_future(most_open(concurrency, 1)) for _ in range(7)]
    await asyncio.sleep(0.5)
    for _ in range(7):
        concurrency.cut_after_refusal(0.0, 0.0)
    await asyncio.gather(*tasks)
    assert concurrency.allowed == 4
    for _ in range(9):
        await asyncio.sleep(1)
        concurrency.cut_after_refusal(now(), 0.0)
    assert concurrency.allowed == 1 and await most_open(concurrency, 3) == 1


async def test_no_request_begins_while_the_endpoint_asks_to_wait():
    concurrency = Concurrency(8)
    concurrency.cut_after_refusal(0.0, 30.0)
    async with concurrency as began_at:
        assert began_at == 30.0


async def test_a_waiter_that_is_cancelled_takes_no_place():
    concurrency = Concurrency(1)
    async with concurrency:
        waiting = [asyncio.ensure_future(most_open(concurrency, 1)) for _ in range(3)]
        await asyncio.sleep(1)
        waiting[0].cancel()
    waiting[1].cancel()
    assert await waiting[2] == 1
