"""What operators need of a worker LLM: the Protocol and its records. The real client is ``workflow.worker.client``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict


class Message(TypedDict):
    """One chat message, as the OpenAI API has it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the worker LLM with its bill."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_dollars: float
    latency_s: float
    """Seconds in which the endpoint served it, without waiting in line; a cached reply keeps the latency of the original. What a run
    took, and so the reward's ``latency``, is counted by it."""
    cached: bool = False
    """True where the reply came from the client's cache; it is billed like the original."""
    reasoning: str = ""
    """The chain of thought, where the endpoint gives it apart from the text; empty where it gives none."""
    finish_reason: str = ""
    """How the generation ended: ``stop``, ``length``, ``content_filter`` or another word of the endpoint; empty where it gives none."""

    @property
    def truncated(self) -> bool:
        """True where ``max_tokens`` cut the reply off; the text may be empty, since thinking counts."""
        return self.finish_reason == "length"


class WorkerError(Exception):
    """The endpoint failed after all retries: an infrastructure error, never the workflow's fault."""


class PromptRefused(WorkerError):
    """The endpoint takes no such prompt (too long, or filtered): another workflow would have got an answer."""

    def __init__(self, message: str, prompt_tokens: int = 0, completion_tokens: int = 0, cost_dollars: float = 0.0) -> None:
        """
        Args:
            prompt_tokens, completion_tokens, cost_dollars: the bill of a reply that was generated, then filtered or nothing but a
                refusal; 0 where the prompt was refused before anything was generated.
        """
        super().__init__(message)  # pickling carries the attributes beside it
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cost_dollars = cost_dollars


class Worker(Protocol):
    """Answers chat requests."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        """One completion.

        Args:
            messages: the chat so far.
            seed: seed of the run; with ``ordinal`` it determines the sample, so a rerun repeats.
            ordinal: how many identical requests this run made before, so that an ensemble of
                identical prompts still gets distinct samples.
            temperature, max_tokens: override the settings for this call.

        Raises:
            WorkerError: the endpoint failed after all retries.
        """
        ...


class FixedWorker:
    """Answers every request at once with the same text, for runs without an endpoint."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        prompt_tokens = sum(len(message["content"]) for message in messages) // 4
        return Reply(self._text, prompt_tokens, len(self._text) // 4, 0.0, 0.0)
