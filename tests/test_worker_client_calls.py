"""The worker client: what it sends, what it returns, what it keeps and what it shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.scripted_endpoint import HANG, Endpoint, completion, endpoint, http
from workflow.settings import WorkerSettings
from workflow.worker.client import WorkerClient
from workflow.worker.interface import Message, WorkerError

ASK: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]


@asynccontextmanager
async def client_of(server: Endpoint, **settings: Any) -> AsyncIterator[WorkerClient]:
    client = WorkerClient(WorkerSettings(**({"model": "scripted-worker", "base_url": server.base_url, "max_tokens": 1024} | settings)))
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_reply_carries_text_tokens_and_price():
    async with endpoint(completion("hi", 1000, 500)) as server, client_of(server) as client:
        reply = await client.complete(ASK, seed=1)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.cached) == ("hi", 1000, 500, False)
    assert reply.cost_dollars == pytest.approx(1000 * 0.15e-6 + 500 * 0.60e-6)
    assert reply.latency_s > 0


async def test_the_request_carries_model_messages_sampling_and_a_seed():
    async with endpoint() as server, client_of(server, temperature=0.3, max_tokens=77) as client:
        await client.complete(ASK, seed=1)
        await client.complete(ASK, seed=1, temperature=0.9, max_tokens=5)
    first, second = server.requests
    assert (first["model"], first["messages"], first["temperature"], first["max_tokens"]) == ("scripted-worker", ASK, 0.3, 77)
    assert (second["temperature"], second["max_tokens"]) == (0.9, 5)
    assert 0 <= first["seed"] < 2**31


async def test_the_sample_seed_depends_on_seed_and_ordinal_and_on_nothing_else():
    async def seeds() -> list[int]:
        async with endpoint() as server, client_of(server) as client:
            for seed, ordinal in ((1, 0), (1, 1), (2, 0), (11, 0), (1, 10)):
                await client.complete(ASK, seed=seed, ordinal=ordinal)
        return [request["seed"] for request in server.requests]

    first = await seeds()
    assert len(set(first)) == 5
    assert first == await seeds()


async def test_an_equal_request_is_answered_from_memory_with_the_original_bill():
    async with endpoint() as server, client_of(server) as client:
        first = await client.complete(ASK, seed=1)
        again = await client.complete([dict(message) for message in ASK], seed=1)  # type: ignore[arg-type]
    assert len(server.requests) == 1
    assert again.cached and not first.cached
    assert (again.text, again.cost_dollars, again.latency_s) == (first.text, first.cost_dollars, first.latency_s)


@pytest.mark.parametrize("change", [{"seed": 2}, {"ordinal": 1}, {"temperature": 0.1}, {"max_tokens": 9}, {"messages": ASK[1:]}])
async def test_any_other_request_is_sent(change: dict[str, Any]):
    async with endpoint() as server, client_of(server) as client:
        await client.complete(ASK, seed=1)
        await client.complete(**({"messages": ASK, "seed": 1} | change))
    assert len(server.requests) == 2


async def test_equal_requests_in_flight_are_sent_once():
    async with endpoint(delay_s=0.1) as server, client_of(server) as client:
        replies = await asyncio.gather(*(client.complete(ASK, seed=1) for _ in range(20)))
    assert len(server.requests) == 1
    assert sorted(reply.cached for reply in replies) == [False] + [True] * 19


async def test_one_cancelled_waiter_leaves_the_others_their_reply():
    async with endpoint(delay_s=0.2) as server, client_of(server) as client:
        first = asyncio.ensure_future(client.complete(ASK, seed=1))
        second = asyncio.ensure_future(client.complete(ASK, seed=1))
        await asyncio.sleep(0.05)
        first.cancel()
        assert (await second).text == "hello"
        assert first.cancelled()
    assert len(server.requests) == 1


async def test_a_request_that_nobody_waits_for_is_given_up():
    async with endpoint(HANG) as server, client_of(server) as client:
        waiting = asyncio.ensure_future(client.complete(ASK, seed=1))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.sleep(0.1)
        assert server.given_up == 1


async def test_a_new_request_after_a_cancelled_one_is_sent_anew():
    async with endpoint(HANG, completion("second")) as server, client_of(server) as client:
        waiting = asyncio.ensure_future(client.complete(ASK, seed=1))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.sleep(0.05)
        assert (await client.complete(ASK, seed=1)).text == "second"


async def test_the_least_recently_used_reply_leaves_first():
    async with endpoint() as server, client_of(server, cache_entries=2) as client:
        for seed in (1, 2, 1, 3, 1, 2):
            await client.complete(ASK, seed=seed)
    assert [len(server.requests)] == [4]  # 1, 2, 3 and, forgotten meanwhile, 2 again


async def test_no_reply_is_kept_with_zero_entries():
    async with endpoint() as server, client_of(server, cache_entries=0) as client:
        await client.complete(ASK, seed=1)
        await client.complete(ASK, seed=1)
    assert len(server.requests) == 2


async def test_no_more_requests_are_open_than_allowed():
    async with endpoint(delay_s=0.02) as server, client_of(server, max_concurrency=3) as client:
        await asyncio.gather(*(client.complete(ASK, seed=seed) for seed in range(20)))
    assert len(server.requests) == 20
    assert server.most_open_requests == 3


async def test_lone_surrogates_reach_the_endpoint_as_question_marks():
    async with endpoint() as server, client_of(server) as client:
        await client.complete([{"role": "user", "content": "a\ud800b"}], seed=1)
    assert server.requests[0]["messages"] == [{"role": "user", "content": "a?b"}]


async def test_an_endpoint_without_usage_gets_an_estimated_bill():
    payload = {"choices": [{"message": {"content": "x" * 400}}]}
    async with endpoint(http(200, payload)) as server, client_of(server) as client:
        reply = await client.complete(ASK, seed=1)
    assert reply.completion_tokens == 101
    assert reply.prompt_tokens > 0 and reply.cost_dollars > 0


async def test_an_empty_content_is_an_empty_text():
    async with endpoint(http(200, {"choices": [{"message": {"content": None}}], "usage": {}})) as server, client_of(server) as client:
        assert (await client.complete(ASK, seed=1)).text == ""


async def test_closing_ends_requests_in_flight_with_a_worker_error():
    async with endpoint(HANG) as server:
        async with client_of(server) as client:
            waiting = asyncio.ensure_future(client.complete(ASK, seed=1))
            await asyncio.sleep(0.1)
        with pytest.raises(WorkerError, match="closed"):
            await waiting


async def test_the_key_is_read_from_the_named_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCRIPTED_KEY", "secret-17")
    async with endpoint() as server, client_of(server, api_key_env="SCRIPTED_KEY") as client:
        assert client._endpoint.api_key == "secret-17"
        assert "secret-17" not in repr(client.settings)
