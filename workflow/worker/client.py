"""The worker LLM over HTTP: any OpenAI-compatible endpoint.

Retries are ours, since a cut-off JSON must be retried too. This module does not know operators, budgets or runs.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from workflow.settings import WorkerSettings
from workflow.single_flight import SingleFlight
from workflow.worker.dialect import NOTES, find_refused_part, note, parts_to_try
from workflow.worker.endpoint import Endpoint, StatusError, fill_headers
from workflow.worker.failures import LONGEST_WAIT_S, Failure, failure_of, thinking_took_all, wait_before_retry_s
from workflow.worker.interface import Message, PromptRefused, Reply, WorkerError
from workflow.worker.model_listing import nearest, parse_listing
from workflow.worker.pace import Concurrency, MinuteBudget, RequestBudget
from workflow.worker.request import ChatRequest, ReadReply, read_reply, well_formed

LISTING_TIMEOUT_S = 10.0
CHECK: tuple[Message, ...] = ({"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "Say ok."})


class WorkerClient:
    """A ``workflow.worker.interface.Worker``; one instance belongs to one event loop."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises ValueError where the settings have no ``base_url``, or a header names a variable that the environment lacks."""
        if settings.base_url is None:
            raise ValueError(f"{settings.section}.base_url is not set: give the endpoint's URL, for example http://localhost:8000/v1.")
        self.settings = settings
        self._section = settings.section
        key = os.environ.get(settings.api_key_env, "").strip() or "none"
        headers = fill_headers(settings.headers, f"{settings.section}.headers")
        self._endpoint = Endpoint(settings.base_url, key, settings.max_concurrency, headers)
        self._concurrency = Concurrency(settings.max_concurrency)
        limits = settings.requests_per_minute, settings.tokens_per_minute
        self._budget: RequestBudget | None = MinuteBudget(*limits) if any(limits) else None
        self._replies = SingleFlight[Reply](settings.cache_entries, lambda: WorkerError("The worker client was closed meanwhile."))
        self._dialect = frozenset[str](settings.leave_out)

    def share_budget(self, budget: RequestBudget) -> None:
        """Takes turns with other processes from now on."""
        self._budget = budget

    @property
    def allowed(self) -> int:
        """Requests that may be open now: fewer than ``worker.max_concurrency`` where the endpoint refused some for its load."""
        return self._concurrency.allowed

    @property
    def left_out(self) -> tuple[str, ...]:
        """Parts of a request that the endpoint is known not to take, for ``worker.leave_out`` of other processes."""
        return tuple(name for name in NOTES if name in self._dialect)

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        """See ``workflow.worker.interface.Worker``. Equal requests get one reply, whether kept or still in flight.

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
        reply, cached = await self._replies.get(request.key, lambda: self._fetch(request))
        return replace(reply, cached=True) if cached else reply

    async def check(self) -> str:
        """Asks for one short completion in the form of a run's own requests; meant for the start of a run.

        Nothing else tells whether the endpoint serves this model with this key: lists of models have other names, need other
        rights or do not exist. The list is read only for a better sentence where the completion fails.

        Returns:
            what a run should know (what the endpoint does not take of a request, that ``max_tokens`` is far too small), as a sentence;
            empty where there is nothing.

        Raises:
            ValueError: there is no completion; a sentence with the remedy.
        """
        settings, start = self.settings, time.monotonic()

        def patient(failure: Failure, tries: int) -> bool:
            if failure.kind in ("unreachable", "timeout"):
                return failure.kind == "timeout" and tries == 1  # a model that is loaded by the first request
            return tries <= settings.max_retries or (failure.kind == "loading" and time.monotonic() - start < settings.timeout_s)

        request = ChatRequest(settings.model, CHECK, settings.temperature, settings.max_tokens, seed=0, ordinal=0)
        reply, _ = await self._ask(request, patient)
        if isinstance(reply, Failure) and reply.kind == "request":
            reply = await self._ask_without(request, reply) or reply
        if isinstance(reply, Failure):
            raise ValueError(await self._why(reply))
        takes = note(self._dialect - set(settings.leave_out))
        notes = [f"The endpoint {self._endpoint.shown} takes {takes}."] if takes else []
        if reply.truncated:
            notes.append(f"It was cut off even while saying ok: raise {self._section}.max_tokens={settings.max_tokens}.")
        return " ".join(notes)

    async def aclose(self) -> None:
        """Ends requests in flight and closes the connections."""
        await self._replies.aclose()
        await self._endpoint.aclose()

    async def _ask_without(self, request: ChatRequest, failure: Failure) -> Reply | None:
        """A reply to the request without what the endpoint turns out not to take; None where it takes it in no form.

        Without one part at a time, then without any. That the part was the reason is believed where the whole request fails once more.
        """
        before, parts = self._dialect, parts_to_try(failure.reason)
        for left_out in (*map(frozenset, zip(parts, strict=True)), frozenset(parts)):
            self._dialect = before | left_out
            reply, _ = await self._ask(request, lambda failure, tries: False)
            if isinstance(reply, Reply):
                learned, self._dialect = self._dialect, before
                again, _ = await self._ask(request, lambda failure, tries: False)
                self._dialect = before if isinstance(again, Reply) else learned
                return again if isinstance(again, Reply) else reply
        self._dialect = before
        return None

    async def _why(self, failure: Failure) -> str:
        """The sentence with which a check ends."""
        url, section, model = self._endpoint.shown, self._section, self.settings.model
        names: list[str] = []
        if failure.kind == "model":
            try:
                async with asyncio.timeout(LISTING_TIMEOUT_S):
                    names = parse_listing(await self._endpoint.get("/models"))
            except Exception as error:
                self._failure_of(error)
        if names and model not in names:
            return (
                f"The endpoint {url} serves no model {model!r} ({failure.reason}): set {section}.model to one of its models, such as "
                f"{', '.join(nearest(model, names))}."
            )
        if failure.kind == "prompt":
            return (
                f"The endpoint {url} refuses a prompt of six words: {failure.reason}. Lower {section}.max_tokens, or ask another endpoint."
            )
        remedy = failure.remedy or f"Start the endpoint, or correct {section}.base_url."
        return f"The {'teacher' if section == 'distil' else 'worker'} endpoint {url} failed with {failure.reason}. {remedy}"

    def _failure_of(self, error: Exception) -> Failure:
        settings = self.settings
        failure = failure_of(error, timeout_s=settings.timeout_s, api_key_env=settings.api_key_env, section=self._section)
        if failure is None:
            raise error
        return replace(failure, reason=self._endpoint.hide_secrets(failure.reason))

    async def _fetch(self, request: ChatRequest) -> Reply:
        reply, tries = await self._ask(request, lambda failure, tries: tries <= self.settings.max_retries)
        if isinstance(reply, Failure):
            raise self._error(reply, tries)
        return reply

    async def _ask(self, request: ChatRequest, go_on: Callable[[Failure, int], bool]) -> tuple[Reply | Failure, int]:
        """The reply or the last failure, and how many tries failed.

        Args:
            go_on: whether another try may follow, from a failure that one can help and the number of failed tries.
        """
        tries, dialect = 0, self._dialect
        while True:
            began_at = 0.0
            try:
                async with self._concurrency as began_at:
                    reply = await self._send(request, dialect)
                self._dialect |= dialect  # only now: what was left out was the reason
                self._concurrency.raise_after_reply()
                return reply, tries
            except Exception as error:
                sent = [part for part in NOTES if part not in dialect]
                part = find_refused_part(error, request.messages, sent) if isinstance(error, StatusError) else None
                if part is not None:
                    dialect |= {part}
                    continue
                failure = self._failure_of(error)
            if failure.busy:
                pause_s = 0.0 if failure.kind == "loading" else failure.wait_s or 0.0  # 503 may be one of many machines
                self._concurrency.cut_after_refusal(began_at, min(pause_s, LONGEST_WAIT_S))
            tries += 1
            if not failure.retry or not go_on(failure, tries):
                return failure, tries
            await asyncio.sleep(wait_before_retry_s(tries, failure))

    async def _send(self, request: ChatRequest, dialect: frozenset[str]) -> Reply:
        settings, number, used = self.settings, 0, request.prompt_tokens + request.max_tokens
        if self._budget is not None:
            number = await self._budget.take(used)
        start = time.monotonic()
        try:
            async with asyncio.timeout(settings.timeout_s):
                payload = await self._endpoint.post("/chat/completions", request.body(dialect))
            read = read_reply(payload, request)
            used = read.prompt_tokens + read.completion_tokens
        except StatusError as error:
            used = error.prompt_tokens + error.completion_tokens
            if not thinking_took_all(error):
                raise
            read = ReadReply("", request.prompt_tokens, request.max_tokens, finish_reason="length")
        finally:
            if self._budget is not None:
                self._budget.settle(number, used)
        return Reply(
            text=read.text,
            prompt_tokens=read.prompt_tokens,
            completion_tokens=read.completion_tokens,
            cost_dollars=self._dollars(read.prompt_tokens, read.completion_tokens),
            latency_s=time.monotonic() - start,
            reasoning=read.reasoning,
            finish_reason=read.finish_reason,
        )

    def _error(self, failure: Failure, tries: int) -> WorkerError:
        times = "1 try" if tries == 1 else f"{tries} tries"
        message = (
            f"The endpoint {self._endpoint.shown} (model {self.settings.model}) gave no reply in {times}; "
            f"the last failed with {failure.reason}."
        )
        if failure.kind == "prompt":
            used = failure.prompt_tokens, failure.completion_tokens
            return PromptRefused(message, *used, self._dollars(*used))
        return WorkerError(f"{message} {failure.remedy}".strip())

    def _dollars(self, prompt_tokens: int, completion_tokens: int) -> float:
        settings = self.settings
        return (prompt_tokens * settings.prompt_dollars_per_million + completion_tokens * settings.completion_dollars_per_million) / 1e6
