"""A chat request as the endpoint takes it, and a reply as we take it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from workflow.endpoint import StatusError
from workflow.worker import Message

CHARACTERS_PER_TOKEN = 4
"""For endpoints that report no usage."""


class MalformedReply(Exception):
    """The endpoint's answer is cut off or is no chat completion."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What determines one sample."""

    model: str
    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    seed: int
    ordinal: int

    @property
    def key(self) -> bytes:
        """Equal for requests that ask for the same sample."""
        return hashlib.blake2b(
            orjson.dumps((self.model, self.messages, self.temperature, self.max_tokens, self.seed, self.ordinal)), digest_size=16
        ).digest()

    def body(self, dialect: frozenset[str]) -> dict[str, Any]:
        """The request's JSON.

        Args:
            dialect: what the endpoint's model does not take (see ``unsupported``).
        """
        body: dict[str, Any] = {"model": self.model, "messages": self.messages}
        if "system" in dialect:
            body["messages"] = _without_system(self.messages)
        if "temperature" not in dialect:
            body["temperature"] = self.temperature
        if "seed" not in dialect:
            body["seed"] = sample_seed(self.seed, self.ordinal)
        body["max_completion_tokens" if "max_tokens" in dialect else "max_tokens"] = self.max_tokens
        return body


def sample_seed(seed: int, ordinal: int) -> int:
    """A request's own seed, 31 bits, from the run's seed and the ordinal."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{ordinal}".encode(), digest_size=4).digest(), "big") >> 1


def well_formed(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with lone surrogates (which no JSON can carry) replaced by question marks."""
    kept = tuple(messages)
    try:
        for message in kept:
            message["content"].encode()
    except UnicodeEncodeError:
        return tuple({"role": message["role"], "content": message["content"].encode("utf-8", "replace").decode()} for message in kept)
    return kept


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """System messages in front of the first user message instead (reasoning models such as o1-mini take none)."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    rest = [message for message in messages if message["role"] != "system"]
    if system and rest:
        rest[0] = {"role": rest[0]["role"], "content": f"{system}\n\n{rest[0]['content']}"}
    return rest or [{"role": "user", "content": system}]


def unsupported(error: StatusError) -> str | None:
    """The part of a request that the model does not take, by the endpoint's own words; None for any other failure.

    ``max_tokens`` (the model wants ``max_completion_tokens``), ``temperature``, ``seed`` or ``system``.
    """
    if error.code not in ("unsupported_parameter", "unsupported_value") or not isinstance(error.param, str):
        return None
    if error.param in ("max_tokens", "temperature", "seed"):
        return error.param
    return "system" if error.param.startswith("messages") and error.param.endswith("role") else None


def read_reply(payload: bytes, request: ChatRequest) -> tuple[str, int, int]:
    """Text, prompt tokens and completion tokens of a chat completion.

    Raises:
        MalformedReply: the payload is cut off or has another shape.
    """
    try:
        reply = orjson.loads(payload)
        text = reply["choices"][0]["message"].get("content") or ""
        usage = reply.get("usage") or {}
        if not isinstance(text, str):
            raise TypeError("content is no text")
        prompt = usage.get("prompt_tokens")
        completion = usage.get("completion_tokens")
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise MalformedReply(f"a reply that is no chat completion ({type(error).__name__}, {len(payload)} bytes)") from None
    if not isinstance(prompt, int):
        prompt = sum(len(message["content"]) for message in request.messages) // CHARACTERS_PER_TOKEN + 1
    if not isinstance(completion, int):
        completion = len(text) // CHARACTERS_PER_TOKEN + 1
    return text, prompt, completion
