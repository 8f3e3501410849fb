"""Requests that an endpoint does not take as they are, in the words of many vendors: what is left out, what is the prompt's fault."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_endpoint import completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from workflow.worker import PromptRefused, WorkerError

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


REFUSED_PROMPTS = {
    "openai": error(400, "This model's maximum context length is 4096 tokens. However, your messages resulted in 9000 tokens."),
    "llama.cpp": http(400, {"error": {"code": 400, "message": "the request exceeds the available context size. try increasing it"}}),
    "llama.cpp_500": error(500, "the request exceeds the available context size"),
    "anthropic": error(400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "gemini": http(
        400, [{"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}]
    ),
    "tgi": http(422, {"error": "Input validation error: `inputs` must have less than 4095 tokens. Given: 9000"}),
    "tgi_sum": http(422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs`"}),
    "dashscope": error(400, "Range of input length should be [1, 30720]"),
    "mistral": http(
        400, {"message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"}
    ),
    "xai": error(400, "This model's maximum prompt length is 131072 but the request contains 150000 tokens."),
    "moonshot": error(400, "Invalid request: Your request exceeded model token limit: 8192"),
    "bedrock": http(400, {"message": "Input is too long for requested model."}),
    "cohere": http(400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}),
    "sglang": http(400, {"object": "error", "message": "Input length (9000 tokens) exceeds the maximum allowed length (4096)."}),
    "tpm": error(429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 54000.", "rate_limit_exceeded"),
    "inside_200": http(200, {"error": {"code": 400, "message": "This model's maximum context length is 4096 tokens"}}),
    "filter_azure": error(400, "The response was filtered due to the prompt triggering a content management policy.", "content_filter"),
    "filter_dashscope": error(400, "Input data may contain inappropriate content.", "data_inspection_failed"),
    "filter_deepseek": error(400, "Content Exists Risk"),
    "filter_openrouter": error(403, "Your chosen model requires moderation and your input was flagged for violence"),
    "filter_zhipu": http(400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    "reply_filtered": http(200, {"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]}),
    "reply_filtered_gemini": http(200, {"choices": [{"finish_reason": "SAFETY", "index": 0}]}),
    "refusal": http(200, {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot help"}}]}),
}


@pytest.mark.parametrize("refusal", REFUSED_PROMPTS.values(), ids=REFUSED_PROMPTS)
async def test_a_prompt_that_is_too_long_or_filtered_is_the_workflows_doing(refusal: bytes):
    async with endpoint(refusal) as server, client_of(server) as client:
        with pytest.raises(PromptRefused):
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        error(500, "The request exceeded the time limit"),
        error(503, "too many messages: capacity exceeded"),
        error(429, "Requests exceed the rate limit"),
        error(403, "Your account has been flagged for a violation of our terms"),
        error(401, "the prompt is too long a story: bad key"),
        error(402, "Insufficient Balance"),
    ],
)
async def test_no_fault_of_the_machine_or_the_account_is_the_workflows_doing(fault: bytes):
    async with endpoint(fault) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(WorkerError) as caught:
            await client.complete(ASK, seed=1)
    assert not isinstance(caught.value, PromptRefused)
