"""Requests that an endpoint does not take as they are, in the words of many vendors: what is left out."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_endpoint import completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from workflow.worker.interface import PromptRefused, WorkerError

GOOD = completion("good")


def fields(name: str, kind: str = "extra_forbidden", text: str = "Extra inputs are not permitted") -> list[dict[str, Any]]:
    return [{"type": kind, "loc": ["body", name], "msg": text, "input": 3}]


SEED = {
    "openai": error(400, "Unrecognized request argument supplied: seed"),
    "param": error(400, "property 'seed' is unsupported", param="seed"),
    "mistral": http(422, {"detail": fields("seed")}),
    "mistral_wrapped": http(422, {"object": "error", "message": {"detail": fields("seed")}, "type": "invalid_request_error"}),
    "gemini": http(400, [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}]),
    "anthropic": http(
        400, {"type": "error", "error": {"type": "invalid_request_error", "message": "seed: Extra inputs are not permitted"}}
    ),
    "litellm": error(400, "litellm.UnsupportedParamsError: x does not support parameters: ['seed'], for model=m."),
    "schema": error(400, "Additional properties are not allowed ('seed' was unexpected)"),
    "python": error(400, "create() got an unexpected keyword argument 'seed'"),
    "serde": error(422, "Failed to deserialize the JSON body: unknown field `seed`, expected one of `model`, `messages`"),
    "plain": http(400, {"message": "The parameter seed is not supported by this model."}),
    "text": http(400, b"seed is not allowed"),
    "string": http(400, {"error": "`seed` is not currently supported"}),
    "inside_200": http(200, {"error": {"code": 400, "message": "Unknown parameter: 'seed'."}}),
    "provider": http(
        400, {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": '{"detail":"unsupported field: seed"}'}}}
    ),
}
OTHERS = {
    "max_tokens": error(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
    "temperature": error(
        400, "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported."
    ),
    "temperature_kimi": error(400, "invalid temperature: only 1 is allowed for this model"),
    "temperature_claude": error(400, "`temperature` may only be set to 1 when thinking is enabled"),
}
SYSTEM = {
    "o1": error(
        400, "Unsupported value: 'messages[0].role' does not support 'system' with this model.", "unsupported_value", "messages[0].role"
    ),
    "template": error(400, "System role not supported"),
    "mistral": error(400, "Only user, assistant and tool roles are supported, got system."),
    "alternate": error(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "gemma": http(400, [{"error": {"code": 400, "message": "Developer instruction is not enabled for models/gemma-3-27b-it"}}]),
    "anthropic": error(400, 'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter'),
}


def refusing(has: Callable[[dict[str, Any]], bool], refusal: bytes) -> Callable[[dict[str, Any]], bytes]:
    return lambda body: refusal if has(body) else GOOD


@pytest.mark.parametrize("refusal", SEED.values(), ids=SEED)
async def test_a_seed_that_is_refused_is_left_out_from_then_on(refusal: bytes):
    async with endpoint() as server, client_of(server) as client:
        server.answer = refusing(lambda body: "seed" in body, refusal)
        for seed in (1, 2):
            assert (await client.complete(ASK, seed=seed)).text == "good"
    assert ["seed" in request for request in server.requests] == [True, False, False]
    assert all("temperature" in request and "max_tokens" in request for request in server.requests)


@pytest.mark.parametrize(("name", "refusal"), [(name.partition("_k")[0].partition("_c")[0], said) for name, said in OTHERS.items()])
async def test_sampling_parameters_that_are_refused_are_left_out(name: str, refusal: bytes):
    async with endpoint() as server, client_of(server) as client:
        server.answer = refusing(lambda body: name in body, refusal)
        assert (await client.complete(ASK, seed=1)).text == "good"
    assert len(server.requests) == 2 and "seed" in server.requests[1]
    assert name != "max_tokens" or server.requests[1]["max_completion_tokens"] == 1024


@pytest.mark.parametrize("refusal", SYSTEM.values(), ids=SYSTEM)
async def test_a_system_message_that_is_refused_goes_in_front_of_the_users(refusal: bytes):
    async with endpoint() as server, client_of(server) as client:
        server.answer = refusing(lambda body: body["messages"][0]["role"] == "system", refusal)
        assert (await client.complete(ASK, seed=1)).text == "good"
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nSay hello."}]


async def test_a_reasoning_model_gets_requests_in_its_own_dialect():
    def strict(body: dict) -> bytes:
        for name in ("max_tokens", "temperature", "seed"):
            if name in body:
                return error(400, code="unsupported_parameter", param=name)
        if body["messages"][0]["role"] == "system":
            return error(400, code="unsupported_value", param="messages[0].role")
        return GOOD

    async with endpoint() as server, client_of(server) as client:
        server.answer = strict
        assert (await client.complete(ASK, seed=1)).text == "good"
        before = len(server.requests)
        await client.complete(ASK, seed=2)
    assert before == 5 and len(server.requests) == 6, "the dialect is learned once"
    assert server.requests[-1]["max_completion_tokens"] == 1024
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nSay hello."}]


@pytest.mark.parametrize(
    "echo",
    [
        error(400, "Bad request: could not parse 'the unknown seed is not supported here'"),
        http(400, {"detail": [{"loc": ["body", "messages"], "msg": "Invalid", "input": "the unknown seed is not supported here"}]}),
        error(400, "Bad request near: unsupported seed", param="messages"),
    ],
    ids=["quoted", "pydantic", "unlike"],
)
async def test_a_prompt_that_speaks_of_seeds_costs_the_endpoint_no_seed(echo: bytes):
    async with endpoint() as server, client_of(server) as client:
        server.answer = refusing(lambda body: "unknown seed" in body["messages"][0]["content"], echo)
        with pytest.raises(WorkerError):
            await client.complete([{"role": "user", "content": "the unknown seed is not supported here"}], seed=1)
        await client.complete(ASK, seed=1)
    assert "seed" in server.requests[-1] and len(server.requests) <= 3


async def test_an_endpoint_that_refuses_a_part_that_is_gone_is_given_up():
    async with endpoint(SEED["openai"]) as server, client_of(server) as client:
        with pytest.raises(WorkerError, match="supplied: seed"):
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "max_tokens is too large: 1024. This model supports at most 512 completion tokens.", "invalid_value", "max_tokens"),
        error(400, "Invalid value for temperature: must be at most 1", "invalid_value", "temperature"),
        error(400, "Input validation error: `max_new_tokens` must be <= 512"),
        error(422, "The input parameter max_tokens exceeds the limit of 512"),
    ],
)
async def test_a_value_out_of_range_is_the_users_to_correct(refusal: bytes):
    async with endpoint(refusal) as server, client_of(server) as client:
        with pytest.raises(WorkerError, match=r"Check worker\.max_tokens and worker\.temperature") as caught:
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 1 and not isinstance(caught.value, PromptRefused)
