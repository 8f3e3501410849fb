"""What one may tell the client of an endpoint: headers, what to leave out, whether to check; and what it finds out by asking."""

from typing import Any

import pytest

from conf.schema import load
from rollout.settings import DistilSettings
from tests.demo import demo_values
from tests.scripted_endpoint import completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from workflow.settings import WorkerSettings
from workflow.worker.client import WorkerClient
from workflow.worker.interface import WorkerError
from workflow.worker.providers import check_worker, open_worker


def sentences(**worker: Any) -> str:
    with pytest.raises(ValueError) as caught:
        load(demo_values({"worker": {"provider": "endpoint", "base_url": "http://x/v1", "model": "m"} | worker}))
    return str(caught.value)


async def test_further_headers_reach_the_endpoint_with_the_environments_values(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATEWAY_KEY", "hidden")
    headers = {"api-key": "$GATEWAY_KEY", "Authorization": "Key ${GATEWAY_KEY}", "X-Title": "flow"}
    async with endpoint() as server, client_of(server, headers=headers) as client:
        await client.complete(ASK, seed=1)
    (head,) = server.heads
    assert "api-key: hidden" in head and "x-title: flow" in head
    assert head.count("authorization:") == 1 and "authorization: key hidden" in head


@pytest.mark.parametrize("header", ["$GATEWAY_KEY", "Bearer $GATEWAY_KEY"])
async def test_a_key_that_an_error_repeats_is_not_shown(monkeypatch: pytest.MonkeyPatch, header: str):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-live-0123456789")
    monkeypatch.setenv("GATEWAY_KEY", "gate-0123456789")
    said = error(400, "Invalid: sk-live-0123456789, gate-0123456789")
    async with endpoint(said) as server, client_of(server, headers={"api-key": header}) as client:
        with pytest.raises(WorkerError, match=r"Invalid: \*\*\*, \*\*\*"):
            await client.complete(ASK, seed=1)


def test_a_header_whose_variable_is_missing_is_told_by_its_name():
    with pytest.raises(ValueError, match=r"worker\.headers names the environment variable NOT_THERE, which is not set"):
        WorkerClient(WorkerSettings(base_url="http://x/v1", headers={"api-key": "$NOT_THERE"}))


def test_a_key_is_never_a_setting_that_the_run_folder_keeps():
    said = sentences(headers={"Api-Key": "sk-live-123", "X-Title": "flow"})
    assert "worker.headers" in said and "Api-Key" in said and "sk-live-123" not in said and "X-Title" not in said
    load(demo_values({"worker": {"headers": {"Api-Key": "$AZURE_KEY"}}}))


async def test_what_is_said_to_be_left_out_is_never_sent():
    async with endpoint() as server, client_of(server, leave_out=("seed", "max_tokens", "system")) as client:
        assert await client.check() == "", "what the user says is no news"
        await client.complete(ASK, seed=1)
    body = server.requests[1]
    assert "seed" not in body and body["max_completion_tokens"] == 1024 and [message["role"] for message in body["messages"]] == ["user"]


def test_the_teachers_endpoint_is_described_like_the_workers():
    asked = {"headers": {"X": "1"}, "leave_out": ("seed",), "check": "off", "requests_per_minute": 9, "tokens_per_minute": 50_000}
    teacher = DistilSettings.model_validate(asked).worker()
    assert {name: getattr(teacher, name) for name in asked} == asked


async def test_a_check_that_is_off_sends_nothing():
    async with endpoint(error(401)) as server, open_worker(WorkerSettings(base_url=server.base_url, model="m", check="off"), print):
        pass
    assert not server.requests


UNKNOWN_WORDS = (error(400, "Nope."), http(422, {"oops": 7}), error(400, "Kann das nicht."))


@pytest.mark.parametrize("refusal", UNKNOWN_WORDS)
@pytest.mark.parametrize("part", ["seed", "temperature", "max_tokens"])
async def test_a_part_that_is_refused_in_words_that_nobody_knows_is_found_by_leaving_it_out(refusal: bytes, part: str):
    async with endpoint() as server:
        server.answer = lambda body: refusal if part in body else completion("good")
        said: list[str] = []
        settings = await check_worker(WorkerSettings(base_url=server.base_url, model="m"), said.append)
        assert settings.leave_out == (part,) and said
        before = len(server.requests)
        async with client_of(server, **settings.model_dump(include={"model", "leave_out"})) as client:  # of another process
            assert (await client.complete(ASK, seed=1)).text == "good"
    assert len(server.requests) == before + 1


async def test_several_parts_that_are_refused_together_are_found_too():
    async with endpoint() as server, client_of(server) as client:
        server.answer = lambda body: error(400, "Nope.") if "seed" in body or "temperature" in body else completion()
        await client.check()
    assert {"seed", "temperature"} <= set(client.left_out)


async def test_a_fault_that_passes_meanwhile_costs_the_endpoint_no_part():
    async with endpoint(error(400, "upstream connect error"), completion()) as server, client_of(server) as client:
        assert await client.check() == "" and client.left_out == ()


async def test_an_endpoint_that_takes_no_form_of_a_request_is_refused_with_its_first_reason():
    async with endpoint(error(400, "Nope.")) as server, client_of(server) as client:
        with pytest.raises(ValueError, match="Nope"):
            await client.check()
    assert len(server.requests) <= 6


async def test_a_value_out_of_range_is_not_left_out():
    async with endpoint() as server, client_of(server, temperature=1.5) as client:
        server.answer = lambda body: error(400, "temperature must be <= 1") if body.get("temperature", 0) > 1 else completion()
        with pytest.raises(ValueError, match=r"Check worker\.max_tokens and worker\.temperature"):
            await client.check()


async def test_a_redirect_is_followed_on_the_same_server_and_takes_no_key_to_another():
    async with endpoint() as target, endpoint() as server, client_of(server) as client:
        elsewhere = target.base_url.replace("/v1", "/v2/chat/completions")
        server.script = [http(307, {}, location="/v2/chat/completions"), completion("good"), http(308, {}, location=elsewhere)]
        assert (await client.complete(ASK, seed=1)).text == "good"
        with pytest.raises(WorkerError, match="moved to"):
            await client.complete(ASK, seed=2)
    assert server.paths == ["/v1/chat/completions", "/v2/chat/completions", "/v1/chat/completions"] and not target.requests
