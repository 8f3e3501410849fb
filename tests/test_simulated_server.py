"""The simulated worker over HTTP: the OpenAI protocol, concurrency, latency, faults."""

import asyncio
import contextlib
import functools
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from workflow.nano.problems import nano_problem
from workflow.nano.simulated.server import create_app
from workflow.operators import OPERATORS
from workflow.settings import FaultSettings, LatencySettings, SimulatedWorkerSettings

PATIENCE_S = 100.0
"""For answers that take milliseconds on an idle machine."""
get = functools.partial(httpx.get, timeout=PATIENCE_S)
post = functools.partial(httpx.post, timeout=PATIENCE_S)


@contextlib.contextmanager
def served(settings: SimulatedWorkerSettings) -> Iterator[str]:
    """The server in a thread of this process; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(SimulatedWorkerSettings()) as address:
        yield address


def request(index: int = 0, **more: Any) -> dict[str, Any]:
    problem = nano_problem(0, "train", index)
    user = f"<problem>\n{problem.query}\n</problem>"
    messages = [{"role": "system", "content": OPERATORS["generate"].system}, {"role": "user", "content": user}]
    return {"model": "simulated-worker", "messages": messages, "seed": 0, **more}


def text_of(reply: httpx.Response) -> str:
    return reply.json()["choices"][0]["message"]["content"]


async def test_the_openai_client_gets_answers_with_usage(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        reply = await client.chat.completions.create(**request(temperature=0.7))
        assert "def f(xs):" in (reply.choices[0].message.content or "")
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage is not None and reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        content = reply.choices[0].message.content or ""
        assert reply.usage.completion_tokens == -(-len(content) // 4)
        assert {model.id async for model in await client.models.list()} == {"simulated-worker", "simulated-teacher"}
        assert (await client.models.retrieve("simulated-worker")).id == "simulated-worker"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")


def test_a_content_in_parts_is_the_text_of_its_parts(url: str) -> None:
    parted = request()
    text = parted["messages"][1]["content"]
    parted["messages"][1]["content"] = [{"type": "text", "text": text[:20]}, {"type": "text", "text": text[20:]}]
    assert text_of(post(f"{url}/chat/completions", json=parted)) == text_of(post(f"{url}/chat/completions", json=request()))


def test_health_answers(url: str) -> None:
    assert get(url.removesuffix("/v1") + "/health").json() == {"status": "ok"}


def test_the_teacher_answers_with_a_workflow(url: str) -> None:
    assert "class Workflow:" in text_of(post(f"{url}/chat/completions", json=request(model="simulated-teacher")))


async def test_answers_do_not_depend_on_concurrency(url: str) -> None:
    bodies = [request(index % 20, seed=index) for index in range(100)]
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        at_once = await asyncio.gather(*[client.post(f"{url}/chat/completions", json=body) for body in bodies])
        in_turn = [await client.post(f"{url}/chat/completions", json=body) for body in reversed(bodies)]
    assert [text_of(reply) for reply in at_once] == [text_of(reply) for reply in reversed(in_turn)]


def test_n_choices_are_samples_of_their_own_and_the_first_is_the_single_one(url: str) -> None:
    index = next(index for index in range(100) if nano_problem(0, "train", index).level == 5)
    many = post(f"{url}/chat/completions", json=request(index, n=8)).json()["choices"]
    assert [choice["index"] for choice in many] == list(range(8))
    texts = [choice["message"]["content"] for choice in many]
    assert len(set(texts)) > 1 and texts[0] == text_of(post(f"{url}/chat/completions", json=request(index)))


def test_requests_without_a_seed_are_new_samples_and_greedy_ones_are_not(url: str) -> None:
    index = next(index for index in range(100) if nano_problem(0, "train", index).level == 6)
    unseeded = {text_of(post(f"{url}/chat/completions", json=request(index, seed=None))) for _ in range(12)}
    greedy = {text_of(post(f"{url}/chat/completions", json=request(index, seed=seed, temperature=0))) for seed in range(12)}
    assert len(unseeded) > 1 and len(greedy) == 1


def test_max_tokens_cuts_the_reply(url: str) -> None:
    reply = post(f"{url}/chat/completions", json=request(max_tokens=5)).json()
    assert reply["choices"][0]["finish_reason"] == "length" and reply["usage"]["completion_tokens"] == 5
    assert len(reply["choices"][0]["message"]["content"]) == 20


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "gpt-4o"}, 404, "'gpt-4o' does not exist here"),
        ({"messages": []}, 400, "'messages' must be"),
        ({"messages": [{"role": "user", "content": [1]}]}, 400, "'messages' must be"),
        ({"n": 0}, 400, "'n' = 0"),
        ({"n": 10_000}, 400, "'n' = 10000"),
        ({"seed": "x"}, 400, "'seed' = 'x'"),
        ({"stream": True}, 400, "does not stream"),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(url: str, change: dict[str, Any], status: int, message: str) -> None:
    reply = post(f"{url}/chat/completions", json=request() | change)
    assert reply.status_code == status and message in reply.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_request_is_refused(url: str, body: bytes) -> None:
    assert post(f"{url}/chat/completions", content=body).status_code == 400


def faulty(**shares: float) -> SimulatedWorkerSettings:
    return SimulatedWorkerSettings(faults=FaultSettings(**shares))


def test_a_429_says_when_to_come_back() -> None:
    with served(faulty(http_429=1.0)) as url:
        reply = post(f"{url}/chat/completions", json=request())
        assert reply.status_code == 429 and int(reply.headers["Retry-After"]) >= 1


def test_a_500_is_an_api_error() -> None:
    with served(faulty(http_500=1.0)) as url:
        reply = post(f"{url}/chat/completions", json=request())
        assert reply.status_code == 500 and reply.json()["error"]["type"] == "server_error"


def test_a_hang_lasts_until_the_client_gives_up() -> None:
    with served(faulty(hang=1.0)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/chat/completions", json=request(), timeout=0.5)
        assert get(f"{url}/models").status_code == 200


def test_truncated_json_is_a_complete_response_that_does_not_parse() -> None:
    with served(faulty(truncated_json=1.0)) as url:
        reply = post(f"{url}/chat/completions", json=request())
        assert reply.status_code == 200
        with pytest.raises(ValueError):
            reply.json()


def test_a_dropped_connection_is_a_protocol_error() -> None:
    with served(faulty(dropped_connection=1.0)) as url, pytest.raises(httpx.RemoteProtocolError):
        post(f"{url}/chat/completions", json=request())


def test_faults_fall_on_their_share_of_requests_and_spare_retries() -> None:
    with served(faulty(http_500=0.2, http_429=0.2)) as url, httpx.Client(timeout=PATIENCE_S) as client:
        codes = [[client.post(f"{url}/chat/completions", json=request(seed=seed)).status_code for _ in range(6)] for seed in range(60)]
    shares = statistics.fmean(code != 200 for tries in codes for code in tries)
    assert abs(shares - 0.4) < 0.11
    assert all(200 in tries for tries in codes)


def test_latency_has_the_mean_that_was_set_and_is_slept_concurrently() -> None:
    async def measure(url: str) -> tuple[list[float], float]:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:

            async def one(seed: int) -> float:
                start = time.perf_counter()
                (await client.post(f"{url}/chat/completions", json=request(seed=seed))).raise_for_status()
                return time.perf_counter() - start

            start = time.perf_counter()
            each = await asyncio.gather(*[one(seed) for seed in range(60)])
            return list(each), time.perf_counter() - start

    with served(SimulatedWorkerSettings(latency=LatencySettings(mean_s=1.0, sigma=0.5))) as url:
        each, together = asyncio.run(measure(url))
        drawn = [spent["latency_s"] for spent in get(url.removesuffix("/v1") + "/spent").json().values()]
    assert len(drawn) == 60 and 0.75 < statistics.fmean(drawn) < 1.25
    assert min(each) >= min(drawn) and sum(each) >= sum(drawn), "it is slept for real"
    assert together < 0.75 * sum(drawn), "in turn they would take all of that"
