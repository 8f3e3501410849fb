"""What a client reads from a reply with status 200: text, reasoning, how it ended, and faults that are no answers."""

import json
import pickle
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_endpoint import completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from workflow.worker.endpoint import StatusError
from workflow.worker.error_body import ErrorBody
from workflow.worker.interface import PromptRefused, Reply, WorkerError

GOOD = completion("good")


def choice(finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **message}}]}


async def reply_to(payload: bytes) -> Reply:
    async with endpoint(payload) as server, client_of(server, max_retries=0) as client:
        return await client.complete(ASK, seed=1)


FAULTS = {
    "finish_reason": http(200, choice("error", content="half an ans")),
    "choice_error": http(
        200, {"choices": [{"finish_reason": None, "error": {"code": 502, "message": "died"}, "message": {"content": ""}}]}
    ),
    "deepseek": http(200, choice("insufficient_system_resource", content="")),
    "aborted": http(200, choice("abort", content="half")),
    "error": http(200, {"error": {"message": "Provider returned error", "code": 429}}),
    "string_code": http(200, {"error": {"message": "overloaded", "code": "503"}}),
    "word": http(200, {"error": {"message": "slow down", "type": "rate_limit_error"}}),
    "text": http(200, {"error": "model is loading"}),
    "beside_choices": http(200, choice("stop", content="") | {"error": {"message": "upstream died"}}),
    "vllm_object": http(200, {"object": "error", "message": "engine died", "code": 500}),
    "minimax": http(200, {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}),
    "list": http(200, [{"error": {"code": 503, "message": "overloaded"}}]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_inside_http_200_is_tried_again_and_never_an_answer(fault: bytes):
    async with endpoint(fault, GOOD) as server, client_of(server) as client:
        assert (await client.complete(ASK, seed=1)).text == "good"
    async with endpoint(fault) as server, client_of(server, max_retries=1) as client:
        with pytest.raises(WorkerError, match="an error inside HTTP 200"):
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (http(200, {"error": {"message": "No auth credentials found", "code": 401}}), "No auth credentials.*OPENAI_API_KEY"),
        (http(200, {"error": {"message": "bad key", "code": "invalid_api_key"}}), "bad key.*OPENAI_API_KEY"),
        (http(200, {"error": {"message": "no", "code": "402"}}), "credit"),
        (http(200, {"error": {"message": "gone", "code": "model_not_found"}}), "worker.model"),
    ],
)
async def test_a_refusal_inside_http_200_is_given_up_at_once_with_its_reason(fault: bytes, said: str):
    async with endpoint(fault) as server, client_of(server) as client:
        with pytest.raises(WorkerError, match=said):
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("word", "known"), [("stop", "stop"), ("STOP", "stop"), ("MAX_TOKENS", "length"), ("model_length", "length"), (None, ""), (7, "")]
)
async def test_how_a_reply_ended_is_kept_in_the_apis_own_words(word: Any, known: str):
    reply = await reply_to(http(200, choice(word, content="text")))
    assert (reply.finish_reason, reply.truncated) == (known, known == "length")


@pytest.mark.parametrize(
    "payload",
    [
        http(200, choice("length", content=None, reasoning_content="hm " * 900)),
        http(200, {"choices": [{"finish_reason": "length", "index": 0}]}),
        error(400, "Could not finish the message because max_tokens or model output limit was reached. Please try again."),
    ],
    ids=["null", "no_message", "openai"],
)
async def test_thinking_that_took_all_tokens_is_a_truncated_reply(payload: bytes):
    reply = await reply_to(payload)
    assert reply.truncated and reply.text == "" and reply.completion_tokens > 0


async def test_an_empty_reply_that_just_stopped_is_data():
    reply = await reply_to(http(200, choice("stop", content="")))
    assert (reply.text, reply.truncated) == ("", False)


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "h"}, {"type": "text", "text": "i"}]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "hi", "reasoning_content": "hm"},
        {"content": "hi", "reasoning": "hm"},
        {"content": "hi", "reasoning": None, "reasoning_content": "", "thinking": "hm"},
        {"content": PARTS},
    ],
    ids=["deepseek", "vllm", "ollama", "mistral"],
)
async def test_reasoning_is_kept_apart_from_the_text(message: dict[str, Any]):
    reply = await reply_to(http(200, choice(**message)))
    assert (reply.text, reply.reasoning) == ("hi", "hm")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\xef\xbb\xbf" + json.dumps(choice(content="hi")).encode(), "hi"),
        (json.dumps(choice(content="hi") | {"score": float("nan")}).encode(), "hi"),
        (json.dumps(choice(content="hi \ud83d")).encode(), "hi ?"),
    ],
    ids=["bom", "nan", "surrogate"],
)
async def test_a_reply_that_can_be_read_is_read(payload: bytes, text: str):
    assert (await reply_to(http(200, payload))).text == text


ODD = (True, False, 7, 1.5, "", "odd", [], [7, None, {"type": 3}], {}, {"a": [None]}, [[]])
"""Values in the place of an optional field."""


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking", "refusal", "tool_calls", "role", "annotations"])
async def test_no_odd_field_beside_the_content_costs_a_reply(name: str, odd: Any):
    assert (await reply_to(http(200, choice(**({"content": "hi"} | {name: odd}))))).text == "hi"


@pytest.mark.parametrize("odd", ODD, ids=repr)
async def test_no_odd_usage_costs_a_reply_or_is_billed(odd: Any):
    for usage in (odd, {"prompt_tokens": odd, "completion_tokens": odd}, {"prompt_tokens": -1, "completion_tokens": 1e400}):
        reply = await reply_to(http(200, choice(content="hi") | {"usage": usage}))
        assert reply.text == "hi" and reply.prompt_tokens >= 0 and reply.cost_dollars >= 0
        assert isinstance(reply.prompt_tokens, int) and not isinstance(reply.prompt_tokens, bool)


@pytest.mark.parametrize("odd", [True, 7, [], [7], {}, {"a": 1}], ids=repr)
@pytest.mark.parametrize("name", ["finish_reason", "logprobs", "index", "stop_reason"])
async def test_no_odd_field_of_a_choice_costs_a_reply(name: str, odd: Any):
    payload = choice(content="hi")
    payload["choices"][0][name] = odd
    assert (await reply_to(http(200, payload))).text == "hi"


async def test_odd_parts_of_a_content_are_passed_over():
    content = [None, 7, {"type": "thinking", "thinking": True}, {"type": "text", "text": "hi"}, {"type": "image"}]
    assert (await reply_to(http(200, choice(content=content)))).text == "hi"


REFUSALS = {
    "filtered": choice("content_filter", content=""),
    "refused": choice("stop", content=None, refusal="I cannot: insufficient_quota, temperature is not supported"),
    "failed_choice": {"choices": [{"error": {"code": 403, "message": "the reply was flagged", "type": "content_filter"}}]},
    "beside": {"error": {"code": 400, "type": "content_filter", "message": "no"}},
}


@pytest.mark.parametrize("payload", REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_that_was_generated_carries_its_bill(payload: dict[str, Any]):
    paid = http(200, payload | {"usage": {"prompt_tokens": 900, "completion_tokens": 4000}})
    async with endpoint(paid) as server, client_of(server) as client:
        with pytest.raises(PromptRefused) as caught:
            await client.complete(ASK, seed=1)
    refused = pickle.loads(pickle.dumps(caught.value))
    assert (refused.prompt_tokens, refused.completion_tokens) == (900, 4000) and str(refused) == str(caught.value)
    assert refused.cost_dollars == pytest.approx(900 * 0.15e-6 + 4000 * 0.60e-6)
    assert len(server.requests) == 1, "the model's words are no vendor's"


async def test_a_refusal_without_usage_gets_an_estimated_bill_and_a_refused_prompt_none():
    for payload, billed in ((http(200, choice("stop", content="", refusal="no " * 400)), 301), (error(400, code="content_filter"), 0)):
        async with endpoint(payload) as server, client_of(server) as client:
            with pytest.raises(PromptRefused) as caught:
                await client.complete(ASK, seed=1)
        assert caught.value.completion_tokens == billed and (caught.value.cost_dollars > 0) == (billed > 0)


def test_a_status_survives_pickling():
    failure = StatusError(400, ErrorBody("no"), {"retry-after": "1"}, inside=True, used=(3, 4))
    assert vars(pickle.loads(pickle.dumps(failure))) == vars(failure)


@pytest.mark.parametrize("form", ["{}", "{}/", " {} ", "{}/chat/completions"])
async def test_the_base_url_may_be_written_in_several_ways(form: str):
    async with endpoint() as server:
        server.base_url = form.format(server.base_url)
        async with client_of(server) as client:
            assert (await client.complete(ASK, seed=1)).text == "hello"
    assert server.paths == ["/v1/chat/completions"]


async def test_the_base_urls_query_and_credentials_reach_the_endpoint_and_no_error():
    async with endpoint(error(400, "no")) as server:
        server.base_url = server.base_url.replace("http://", "http://user:secret@") + "?api-version=2024-10-21"
        async with client_of(server) as client:
            with pytest.raises(WorkerError) as caught:
                await client.complete(ASK, seed=1)
    assert server.paths == ["/v1/chat/completions?api-version=2024-10-21"] and "secret" not in str(caught.value)


async def test_a_redirect_that_loses_the_request_is_told_with_its_target():
    async with endpoint(http(301, {}, location="/v2/chat/completions")) as server, client_of(server) as client:
        with pytest.raises(WorkerError, match=r"moved to /v2/chat/completions.*worker\.base_url"):
            await client.complete(ASK, seed=1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("named", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", ""])
async def test_an_authority_of_ones_own_is_trusted_where_the_environment_names_it(
    named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    key, authority = tmp_path / "key.pem", tmp_path / "authority.pem"
    made = "req -x509 -newkey rsa:2048 -nodes -days 3 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *made.split(), "-keyout", key, "-out", authority], check=True, capture_output=True)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(authority, key)
    if named:
        monkeypatch.setenv(named, str(authority))
    async with endpoint(tls=served) as server, client_of(server, max_retries=0) as client:
        if named:
            assert (await client.complete(ASK, seed=1)).text == "hello"
        else:
            with pytest.raises(WorkerError, match="SSL_CERT_FILE"):
                await client.complete(ASK, seed=1)
