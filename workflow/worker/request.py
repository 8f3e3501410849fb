"""A chat request as the endpoint takes it, and a reply as we take it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from workflow.worker.endpoint import StatusError
from workflow.worker.error_body import ErrorBody, error_in, is_error, parse_json
from workflow.worker.interface import Message

CHARACTERS_PER_TOKEN = 4
"""For endpoints that report no usage."""
MOST_TOKENS = 2**31
"""A usage from here on is no number of tokens."""
REFUSED_REPLY = "content_filter"
"""The code under which a reply that is nothing but a refusal is handed on; its message may be the model's own words."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields in which vendors give the chain of thought beside the content."""
_FINISH_REASONS = {
    "length": ("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "model_context_window_exceeded"),
    "content_filter": (
        *("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        *("refusal", "sensitive", "guardrail_intervened"),
    ),
    "error": ("error", "failed", "abort", "aborted", "insufficient_system_resource", "network_error", "timeout"),
}
"""The API's word for how a generation ended -> what vendors say for it."""


class MalformedReply(Exception):
    """The endpoint's answer is cut off or is no chat completion."""


class ReadReply(NamedTuple):
    """What a chat completion says."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    reasoning: str = ""
    finish_reason: str = ""


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

    @property
    def prompt_tokens(self) -> int:
        """An estimate."""
        return sum(len(message["content"]) for message in self.messages) // CHARACTERS_PER_TOKEN + 1

    def body(self, dialect: frozenset[str]) -> dict[str, Any]:
        """The request's JSON.

        Args:
            dialect: what the endpoint's model does not take (see ``workflow.worker.dialect``).
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


def read_reply(payload: bytes, request: ChatRequest) -> ReadReply:
    """What a chat completion says. Only a content that is no text makes it none: a field that may be left out is ignored where it is odd.

    Raises:
        StatusError: it is an error inside HTTP 200, a generation that failed on the endpoint's side, or nothing but a refusal.
        MalformedReply: the payload is cut off or has another shape.
    """
    try:
        value = parse_json(payload)
        choices = value.get("choices") if isinstance(value, dict) else None
        prompt, completion = _usage(value)
        reported = (prompt or 0, completion or 0)
        failure = error_in({"error": value["error"]}) if choices and value.get("error") else None
        if failure is None and not choices and is_error(value):
            failure = error_in(value)
        if failure is not None:
            raise StatusError(failure.status, failure, inside=True, used=reported)
        choice = value["choices"][0]
        finish_reason = _finish_reason(choice.get("finish_reason"))
        _refuse_failed(choice, finish_reason, reported)
        may_lack = finish_reason in ("length", "content_filter")  # Gemini leaves the message out where thinking took all tokens
        message: dict[str, Any] = (choice.get("message") or {}) if may_lack else choice["message"]
        text, thoughts = _texts(message.get("content"))
        fields = (_optional_text(message.get(name)) for name in _REASONING)
        reasoning = next((field for field in fields if field), thoughts)
        refusal = _optional_text(message.get("refusal"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        start = payload[:60].decode("utf-8", "replace")
        raise MalformedReply(
            f"a reply that is no chat completion ({type(error).__name__}, {len(payload)} bytes, it begins {start!r})"
        ) from None
    if prompt is None:
        prompt = request.prompt_tokens
    if completion is None:
        completion = len(text + reasoning + refusal) // CHARACTERS_PER_TOKEN + 1
    if not text.strip() and (finish_reason == "content_filter" or refusal):
        raise StatusError(400, ErrorBody(refusal or "the reply was filtered", REFUSED_REPLY), inside=True, used=(prompt, completion))
    return ReadReply(text, prompt, completion, reasoning, finish_reason)


def _usage(value: Any) -> tuple[int | None, int | None]:
    """Prompt and completion tokens that a reply reports; None for what it reports not, or not as a number of tokens."""
    usage = value.get("usage") if isinstance(value, dict) else None
    reported = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, dict) else (None, None)
    prompt, completion = (
        int(count) if isinstance(count, int | float) and not isinstance(count, bool) and 0 <= count < MOST_TOKENS else None
        for count in reported
    )
    return prompt, completion


def _finish_reason(word: object) -> str:
    """The endpoint's word in the API's own terms; an unknown one in small letters."""
    if not isinstance(word, str):
        return ""
    known = word.lower()
    return next((reason for reason, words in _FINISH_REASONS.items() if known in words), known)


def _refuse_failed(choice: Mapping[str, Any], finish_reason: str, used: tuple[int, int]) -> None:
    """Raises StatusError where the endpoint says that it did not finish the generation."""
    failure = error_in({"error": choice["error"]}) if choice.get("error") else None
    if failure is not None or finish_reason == "error":
        failure = failure or ErrorBody(f"the generation ended with finish_reason {choice.get('finish_reason')!r}")
        raise StatusError(failure.status, failure, inside=True, used=used)


def _texts(content: object) -> tuple[str, str]:
    """Text and thoughts of a message's content: a text, or a list of parts.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(content, dict):
        content = [content]
    if content is None or isinstance(content, str):
        return _encodable(content or ""), ""
    if not isinstance(content, list):
        raise TypeError("content is no text")
    text = thoughts = ""
    for part in content:
        if isinstance(part, str):
            text += part
        elif not isinstance(part, dict):
            continue
        elif "think" in str(part.get("type")) or "reason" in str(part.get("type")):
            thoughts += _optional_text(part.get("thinking") or part.get("text"))
        else:
            text += _texts(part.get("text"))[0]
    return _encodable(text), _encodable(thoughts)


def _optional_text(content: object) -> str:
    """A text that a reply may lack; empty where it is something else."""
    try:
        return "".join(_texts(content))
    except TypeError:
        return ""


def _encodable(text: str) -> str:
    """With question marks in place of lone surrogates, which no file and no JSON can carry."""
    return text.encode("utf-8", "replace").decode()
