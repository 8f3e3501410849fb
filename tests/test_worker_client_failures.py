"""The worker client when the endpoint fails: what it tries again, what it gives up at once, what it says."""

import asyncio
import pickle
import time

import pytest

from tests.scripted_endpoint import DROP, HANG, completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from workflow.worker.interface import PromptRefused, WorkerError

GOOD = completion("good")
CUT_JSON = http(200, GOOD.partition(b"\r\n\r\n")[2][:60])
CUT_BODY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{"


@pytest.mark.parametrize(
    "fault",
    [
        error(500),
        error(503),
        error(429),
        error(408),
        DROP,
        CUT_JSON,
        CUT_BODY,
        http(200, {"choices": []}),
        http(200, b"[]"),
        http(200, b""),
    ],
    ids=["500", "503", "429", "408", "dropped", "cut_json", "cut_body", "no_choices", "no_object", "empty"],
)
async def test_a_passing_fault_is_tried_again(fault: bytes):
    async with endpoint(fault, fault, GOOD) as server, client_of(server) as client:
        assert (await client.complete(ASK, seed=1)).text == "good"
    assert len(server.requests) == 3
    assert len({request["seed"] for request in server.requests}) == 1, "a retry must ask for the same sample"


async def test_a_request_that_hangs_is_tried_again_after_its_deadline():
    async with endpoint(HANG, GOOD) as server, client_of(server, timeout_s=0.2) as client:
        start = time.monotonic()
        assert (await client.complete(ASK, seed=1)).text == "good"
    assert 0.2 <= time.monotonic() - start < 2


async def test_retry_after_is_obeyed():
    async with endpoint(error(429, retry_after="1"), GOOD) as server, client_of(server) as client:
        start = time.monotonic()
        await client.complete(ASK, seed=1)
    assert 1.0 <= time.monotonic() - start < 2.5


async def test_the_last_cause_is_named_when_retries_are_spent():
    async with endpoint(error(500, "out of order")) as server, client_of(server, max_retries=1) as client:
        with pytest.raises(WorkerError, match=r"2 tries.*HTTP 500.*out of order") as caught:
            await client.complete(ASK, seed=1)
    assert server.base_url in str(caught.value) and "scripted-worker" in str(caught.value)
    assert len(server.requests) == 2


async def test_a_refused_connection_is_named_as_such():
    async with endpoint() as server:
        pass
    async with client_of(server, max_retries=0) as client:
        with pytest.raises(WorkerError, match=r"1 try.*no connection \(ConnectionRefusedError"):
            await client.complete(ASK, seed=1)


async def test_a_failure_is_not_kept():
    async with endpoint(error(500), GOOD) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(WorkerError):
            await client.complete(ASK, seed=1)
        assert (await client.complete(ASK, seed=1)).text == "good"


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (error(401), "OPENAI_API_KEY"),
        (error(403), "OPENAI_API_KEY"),
        (error(404, "no such model"), "worker.model"),
        (error(429, code="insufficient_quota"), "credit"),
        (error(400, "bad top_p"), "worker.max_tokens"),
    ],
    ids=["401", "403", "404", "quota", "400"],
)
async def test_what_no_retry_can_help_is_given_up_at_once_with_a_remedy(fault: bytes, remedy: str):
    async with endpoint(fault) as server, client_of(server) as client:
        with pytest.raises(WorkerError, match=remedy):
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", [error(400, code="context_length_exceeded"), error(400, "maximum context length is 8192 tokens"), error(413)]
)
async def test_a_prompt_that_is_too_long_is_told_apart(fault: bytes):
    async with endpoint(fault) as server, client_of(server) as client:
        with pytest.raises(PromptRefused):
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 1


async def test_errors_survive_pickling():
    async with endpoint(error(401)) as server, client_of(server) as client:
        with pytest.raises(WorkerError) as caught:
            await client.complete(ASK, seed=1)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_requests_at_once_fall_to_what_the_endpoint_bears_and_every_one_is_answered():
    async with endpoint(delay_s=0.02) as server, client_of(server, max_concurrency=16, max_retries=8) as client:
        busy = error(429, "slow down", retry_after="0")
        server.answer = lambda body: busy if server.open_requests >= 4 else GOOD
        replies = await asyncio.gather(*(client.complete(ASK, seed=seed) for seed in range(60)))
    assert {reply.text for reply in replies} == {"good"} and client.allowed < 16


async def test_a_budget_of_a_minute_is_waited_for_outside_of_the_requests_own_deadline():
    async with endpoint() as server, client_of(server, requests_per_minute=2, timeout_s=5) as client:
        await asyncio.gather(client.complete(ASK, seed=1), client.complete(ASK, seed=2))
        third = asyncio.ensure_future(client.complete(ASK, seed=3))
        await asyncio.sleep(0.3)
        assert not third.done() and len(server.requests) == 2
        third.cancel()
