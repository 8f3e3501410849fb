"""The worker LLM over HTTP: any OpenAI-compatible endpoint.

Retries are ours, since a cut-off JSON must be retried too. This module does not know operators, budgets or runs.
"""

import asyncio
import difflib
import os
import time
from collections.abc import Sequence

import orjson

from workflow.chat_request import ChatRequest, read_reply, unsupported, well_formed
from workflow.endpoint import Endpoint, StatusError
from workflow.endpoint_failures import Failure, failure_of, wait_before_retry_s
from workflow.reply_cache import ReplyCache
from workflow.settings import WorkerSettings
from workflow.worker import Message, PromptRefused, Reply, WorkerError

CHECK_TIMEOUT_S = 10.0
_NO_LISTING = (404, 405, 501)


class WorkerClient:
    """A ``workflow.worker.Worker``; one instance belongs to one event loop."""

    def __init__(self, settings: WorkerSettings, base_url: str) -> None:
        """
        Args:
            base_url: the endpoint, ``settings.base_url`` or the simulated worker's.
        """
        self.settings = settings
        self.base_url = base_url
        self._endpoint = Endpoint(base_url, os.environ.get(settings.api_key_env) or "none", settings.max_concurrency)
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._cache = ReplyCache(settings.cache_entries)
        self._dialect: frozenset[str] = frozenset()

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        """See ``workflow.worker.Worker``. Equal requests get one reply, whether kept or still in flight.

        Raises:
            PromptRefused: the endpoint takes no such prompt (too long, or filtered).
            WorkerError: the endpoint failed after all retries, or refuses the key or the model.
        """
        settings = self.settings
        request = ChatRequest(
            model=settings.model,
            messages=well_formed(messages),
            temperature=settings.temperature if temperature is None else temperature,
            max_tokens=settings.max_tokens if max_tokens is None else max_tokens,
            seed=seed,
            ordinal=ordinal,
        )
        return await self._cache.get(request.key, lambda: self._fetch(request))

    async def check(self) -> None:
        """Looks whether the endpoint can be reached and serves the model; meant for the start of a run.

        Raises:
            ValueError: it cannot, or does not; a sentence with the remedy.
        """
        failure: Failure | None = None
        for tries in (1, 2, 3):
            if failure is not None:
                await asyncio.sleep(min(wait_before_retry_s(tries, failure), 2.0))
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    listing = await self._endpoint.get("/models")
                return self._check_listing(listing)
            except StatusError as error:
                if error.status in _NO_LISTING:
                    return  # the endpoint lists no models: its first request will tell
                failure = self._failure_of(error, CHECK_TIMEOUT_S)
            except Exception as error:
                failure = self._failure_of(error, CHECK_TIMEOUT_S)
            if not failure.retry or failure.is_connection:
                break
        assert failure is not None
        remedy = failure.remedy or "Start the endpoint, or correct worker.base_url."
        raise ValueError(f"The worker endpoint {self.base_url} failed with {failure.reason}. {remedy}")

    async def aclose(self) -> None:
        """Ends requests in flight and closes the connections."""
        await self._cache.aclose()
        await self._endpoint.aclose()

    def _check_listing(self, payload: bytes) -> None:
        try:
            names = [str(model["id"]) for model in orjson.loads(payload)["data"]]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise ValueError(
                f"{self.base_url} is no OpenAI-compatible endpoint (/models lists nothing): correct worker.base_url."
            ) from None
        model = self.settings.model
        if names and model not in names:
            near = difflib.get_close_matches(model, names, n=3, cutoff=0.4) or sorted(names)[:5]
            raise ValueError(
                f"The endpoint {self.base_url} serves no model {model!r}: set worker.model to one of its models, such as {', '.join(near)}."
            )

    def _failure_of(self, error: Exception, timeout_s: float) -> Failure:
        failure = failure_of(error, timeout_s=timeout_s, api_key_env=self.settings.api_key_env)
        if failure is None:
            raise error
        return failure

    async def _fetch(self, request: ChatRequest) -> Reply:
        tries = 0
        while True:
            dialect = self._dialect
            try:
                async with self._slots:
                    return await self._send(request, dialect)
            except Exception as error:
                part = unsupported(error) if isinstance(error, StatusError) else None
                if part is not None and part not in dialect:
                    self._dialect |= {part}
                    continue
                failure = self._failure_of(error, self.settings.timeout_s)
            tries += 1
            if not failure.retry or tries > self.settings.max_retries:
                raise self._error(failure, tries)
            await asyncio.sleep(wait_before_retry_s(tries, failure))

    async def _send(self, request: ChatRequest, dialect: frozenset[str]) -> Reply:
        start = time.monotonic()
        async with asyncio.timeout(self.settings.timeout_s):
            payload = await self._endpoint.post("/chat/completions", request.body(dialect))
        text, prompt_tokens, completion_tokens = read_reply(payload, request)
        dollars = (
            prompt_tokens * self.settings.prompt_dollars_per_million + completion_tokens * self.settings.completion_dollars_per_million
        )
        return Reply(text, prompt_tokens, completion_tokens, dollars / 1e6, time.monotonic() - start)

    def _error(self, failure: Failure, tries: int) -> WorkerError:
        kind = PromptRefused if failure.is_prompt else WorkerError
        times = "1 try" if tries == 1 else f"{tries} tries"
        message = (
            f"The endpoint {self.base_url} (model {self.settings.model}) gave no reply in {times}; the last failed with {failure.reason}."
        )
        return kind(f"{message} {failure.remedy}".strip())
