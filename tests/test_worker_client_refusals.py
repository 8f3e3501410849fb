"""Whose fault a refused request is, in the words of many vendors: the prompt's, the machine's or the account's."""

import pytest

from tests.scripted_endpoint import completion, endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from workflow.worker.interface import PromptRefused, WorkerError

GOOD = completion("good")

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
    "anthropic_sum": error(400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length"),
    "vllm": error(400, "The decoder prompt (length 9000) is longer than the maximum model length of 4096."),
    "ollama": error(400, "prompt too long; exceeded max context length by 5 tokens"),
    "zhipu": error(400, "Prompt 超长", "1261"),
    "groq": error(
        413, "Request too large in organization o service tier x on tokens per minute. Upgrade at https://x/settings/billing", "rate_limit"
    ),
    "url": error(400, "prompt is too long: 9000 tokens. See https://x/settings/billing/plan"),
    "filter_azure_bare": error(
        400,
        "The response was filtered due to the prompt triggering Azure's content management policy. Please modify your prompt and retry.",
    ),
    "filter_openai": error(
        400, "Your prompt was flagged as potentially violating our usage policy. Please try again with a different prompt."
    ),
    "filter_xai": error(403, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
    "coded": error(400, "The project's quota queue says no", "Context_Length_Exceeded"),
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


MACHINE = {
    "time": error(500, "The request exceeded the time limit"),
    "messages": error(503, "too many messages: capacity exceeded"),
    "rate": error(429, "Requests exceed the rate limit"),
    "flagged_account": error(403, "Your account has been flagged for a violation of our terms"),
    "key": error(401, "the prompt is too long a story: bad key"),
    "unpaid": error(402, "Insufficient Balance"),
    "memory": error(500, "CUDA out of memory while exceeding the available context window"),
    "flagged_key": error(403, "This API key was disabled for violating our terms"),
    "organization": error(400, "Your organization has been disabled for violating our usage policy"),
    "traffic": error(403, "Your request was flagged as automated traffic"),
    "schema": error(400, "The request violates the schema: top_p must be a number"),
    "plan": error(400, "The input exceeds the token allowance of your plan"),
    "subscription": error(400, "input length exceeds what your subscription tier allows"),
}


@pytest.mark.parametrize("fault", MACHINE.values(), ids=MACHINE)
async def test_no_fault_of_the_machine_or_the_account_is_the_workflows_doing(fault: bytes):
    async with endpoint(fault) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(WorkerError) as caught:
            await client.complete(ASK, seed=1)
    assert not isinstance(caught.value, PromptRefused)


@pytest.mark.parametrize(
    "fault",
    [
        error(400, "The server had an error processing your request. Message: backend input queue exceeded"),
        error(400, "number of messages exceeds the concurrency limit, please retry"),
        error(400, "prompt exceeded rate limits for tier"),
        error(422, "input tokens exceed the quota per minute, try again in 20 s"),
        error(400, "error on input, context deadline exceeded"),
        error(403, "too many tokens, please wait before trying again"),
        error(400, "content moderation failed: service unavailable"),
        error(400, "并发请求超限: input tokens 超限"),
    ],
)
async def test_a_load_is_waited_for_with_whatever_status_and_words_it_comes(fault: bytes):
    async with endpoint(fault, GOOD) as server, client_of(server) as client:
        assert (await client.complete(ASK, seed=1)).text == "good"


OTHER = r"worker\.base_url and worker\.model to another endpoint"


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (error(400, "Your organization's input exceeds the monthly spending limit"), "Add credit"),
        (error(400, "Billing hard limit has been reached", "billing_hard_limit_reached"), "Add credit"),
        (error(400, code="billing_hard_limit_reached"), "Add credit"),
        (error(429, "Your account is not active, please check your billing details", "billing_not_active"), "Add credit"),
        (error(400, "Budget has been exceeded! Current cost: 1, max budget: 0.5", "budget_exceeded"), "Add credit"),
        (error(400, "You have reached your specified API usage limits. You will regain access on 2030-01-01"), "Add credit"),
        (error(403, "Country, region, or territory not supported: request violates our terms"), f"Set {OTHER}"),
        (error(400, "User location is not supported for the API use."), f"Set {OTHER}"),
    ],
)
async def test_what_only_money_or_another_endpoint_can_help_says_so_at_once(fault: bytes, remedy: str):
    async with endpoint(fault) as server, client_of(server) as client:
        with pytest.raises(WorkerError, match=remedy) as caught:
            await client.complete(ASK, seed=1)
    assert len(server.requests) == 1 and not isinstance(caught.value, PromptRefused)


async def test_a_rate_limit_that_points_to_the_bill_is_waited_for():
    limit = error(429, "You exceeded your current quota, please check your plan and billing details. Please retry in 0.1 s.")
    async with endpoint(limit, GOOD) as server, client_of(server) as client:
        assert (await client.complete(ASK, seed=1)).text == "good"
