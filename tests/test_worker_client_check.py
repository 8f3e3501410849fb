"""What a client establishes before a run: that the endpoint answers this model with this key, and nothing else."""

import re
import time

import pytest

from tests.scripted_endpoint import HANG, completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of

NO_MODEL = error(404, "The model does not exist")
LISTS = {
    "ollama_tag": {"data": [{"id": "scripted-worker:latest"}]},
    "gemini_prefix": {"data": [{"id": "models/scripted-worker"}]},
    "bare_list": [{"id": "scripted-worker"}],
    "list_of_names": ["scripted-worker"],
    "models_key": {"models": [{"name": "scripted-worker"}]},
    "variant": {"data": [{"id": "scripted-worker:free"}]},
    "deployment": {"data": [{"id": "gpt-4o-2024-08-06"}]},
    "null": {"object": "list", "data": None},
    "empty": {"data": []},
    "text": "none",
}


@pytest.mark.parametrize("listing", LISTS.values(), ids=LISTS)
async def test_no_list_of_models_stops_a_run_whose_endpoint_answers(listing: object):
    async with endpoint(models=http(200, listing)) as server, client_of(server) as client:
        assert await client.check() == ""


@pytest.mark.parametrize("models", [*(error(status) for status in (400, 401, 403, 404, 405, 500, 501, 503)), http(200, b"<html>"), HANG])
async def test_no_failure_to_list_stops_a_run_whose_endpoint_answers(models: bytes):
    async with endpoint(models=models) as server, client_of(server) as client:
        assert await client.check() == ""


async def test_the_check_is_one_request_in_the_form_of_a_runs_own():
    async with endpoint() as server, client_of(server, temperature=0.3, max_tokens=77) as client:
        await client.check()
        await client.complete(ASK, seed=1)
    checked, ran = server.requests
    assert checked.keys() == ran.keys()
    assert (checked["model"], checked["temperature"], checked["max_tokens"]) == ("scripted-worker", 0.3, 77)
    assert [message["role"] for message in checked["messages"]] == ["system", "user"]


@pytest.mark.parametrize(("finish_reason", "told"), [("length", r"worker\.max_tokens=8"), ("stop", "^$")])
async def test_a_reply_without_text_is_an_answer_too(finish_reason: str, told: str):
    empty = http(200, {"choices": [{"finish_reason": finish_reason, "message": {"content": None}}]})
    async with endpoint(empty) as server, client_of(server, max_tokens=8) as client:
        assert re.search(told, await client.check())


@pytest.mark.parametrize(
    "refusal", [NO_MODEL, error(400, "Model Not Exist"), error(400, "invalid model ID"), error(403, code="model_not_found")]
)
@pytest.mark.parametrize("listing", [{"data": [{"id": "scripted-worker"}]}, [{"id": "scripted-worker"}], {"models": ["scripted-worker"]}])
async def test_a_model_that_is_not_served_is_refused_with_the_nearest_names(refusal: bytes, listing: object):
    async with endpoint(refusal, models=http(200, listing)) as server, client_of(server, model="scripted-wroker") as client:
        with pytest.raises(ValueError, match=r"'scripted-wroker'.*worker\.model.*scripted-worker"):
            await client.check()
    assert len(server.requests) == 1


@pytest.mark.parametrize("models", [error(404), error(401), http(200, b"<html>"), http(200, {"data": [{"id": "scripted-worker"}]})])
async def test_without_a_hint_from_the_list_both_remedies_are_named(models: bytes):
    async with endpoint(NO_MODEL, models=models) as server, client_of(server) as client:
        with pytest.raises(ValueError, match=r"HTTP 404.*worker\.model.*worker\.base_url"):
            await client.check()


async def test_check_says_at_once_that_nothing_answers():
    async with endpoint() as server:
        pass
    async with client_of(server, max_retries=20) as client:
        start = time.monotonic()
        with pytest.raises(ValueError, match=r"no connection.*worker\.base_url"):
            await client.check()
    assert time.monotonic() - start < 30, "twenty tries take minutes"


@pytest.mark.parametrize("refusal", [error(401, "bad key"), http(200, {"error": {"message": "No auth credentials found", "code": 401}})])
async def test_check_names_the_variable_of_a_refused_key(refusal: bytes):
    async with endpoint(refusal) as server, client_of(server, api_key_env="MY_KEY") as client:
        with pytest.raises(ValueError, match="MY_KEY"):
            await client.check()
    assert len(server.requests) == 1


async def test_check_refuses_a_page_that_is_no_api():
    async with endpoint(http(200, b"<html>")) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(ValueError, match=r"no chat completion.*<html>.*worker\.base_url"):
            await client.check()


async def test_a_model_that_is_still_being_loaded_is_waited_for():
    loading = error(503, "Loading model")
    async with endpoint(loading, loading, completion()) as server, client_of(server, max_retries=0) as client:
        assert await client.check() == ""


async def test_a_first_request_that_only_loads_the_model_is_asked_once_more():
    async with endpoint(HANG, completion()) as server, client_of(server, timeout_s=1.0, max_retries=0) as client:
        assert await client.check() == ""


async def test_an_endpoint_that_hangs_ends_the_check():
    async with endpoint(HANG) as server, client_of(server, timeout_s=0.2) as client:
        with pytest.raises(ValueError, match=r"no reply within 0\.2 s"):
            await client.check()
    assert len(server.requests) == 2


async def test_max_tokens_beyond_the_context_is_found_before_the_run():
    refusal = error(400, "'max_tokens' is too large: 100000. This model's maximum context length is 4096 tokens")
    async with endpoint(refusal) as server, client_of(server, max_tokens=100_000) as client:
        with pytest.raises(ValueError, match=r"Lower worker\.max_tokens"):
            await client.check()


async def test_what_the_endpoint_does_not_take_is_told():
    async with endpoint() as server, client_of(server) as client:
        server.answer = lambda body: error(400, "Unrecognized request argument supplied: seed") if "seed" in body else completion()
        assert "takes no seed" in await client.check()
