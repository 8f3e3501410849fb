"""What an endpoint says went wrong, read from the shapes in which vendors and gateways say it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

_INNER = ("error", "errors", "detail", "message", "base_resp")
"""Keys under which an error's own object is found."""
_MESSAGES = ("message", "msg", "error_msg", "status_msg", "detail", "error", "error_message")
_NUMBERS = ("code", "status", "status_code", "http_code", "error_code")
_MEANT = (
    (401, ("invalid_api_key", "invalid api key", "incorrect api key", "authentication", "unauthenticated", "unauthorized", "login fail")),
    (403, ("permission",)),
    (404, ("model_not_found", "not_found", "not found", "does not exist")),
    (429, ("rate_limit", "rate limit", "ratelimit", "resource_exhausted", "too many requests", "insufficient_quota")),
    (400, ("invalid_request", "invalid request", "invalid_argument", "bad_request", "bad request", "badrequest", "validation")),
)
_UNKNOWN_STATUS = 502
"""For an error that names no status: another try may help."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as the endpoint words it."""

    message: str
    code: str = ""
    """The API's own names of the failure, such as ``context_length_exceeded``; empty where it gives none."""
    param: str = ""
    """The part of the request that it concerns, where it says so."""
    named_status: int | None = None
    """The HTTP status that the body itself names."""

    @property
    def status(self) -> int:
        """The status that the error stands for where HTTP said 200."""
        if self.named_status is not None:
            return self.named_status
        words = f"{self.code} {self.message}".lower()
        return next((status for status, known in _MEANT if any(word in words for word in known)), _UNKNOWN_STATUS)


def parse_json(payload: bytes) -> Any:
    """A payload's value; a byte order mark, NaN, lone surrogates and bytes that are no UTF-8 are let pass.

    Raises:
        ValueError: it is no JSON, for example cut off.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(payload.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def error_body(payload: bytes) -> ErrorBody:
    """The error in the body of a failed exchange; its first characters where it is no JSON that we know."""
    start = payload[:200].decode("utf-8", "replace")
    try:
        return error_in(parse_json(payload)) or ErrorBody(start)
    except ValueError:
        return ErrorBody(start)


def error_in(value: Any) -> ErrorBody | None:
    """The error that a reply's JSON tells of; None where it tells of none."""
    layers = list(_layers(value))
    message = next((text for layer in reversed(layers) for name in _MESSAGES if isinstance(text := layer.get(name), str) and text), "")
    message = _validation(value) or message
    codes = [layer.get(name) for layer in reversed(layers) for name in ("code", "type", "status", "error_type", "error_code")]
    code = " ".join(dict.fromkeys(str(item) for item in codes if isinstance(item, str | int) and item))
    if not message and not code:
        return None
    for layer in layers:  # OpenRouter: the provider's own words
        metadata = layer.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
            message = f"{message}: {metadata['raw']}"
    params = [layer.get("param") for layer in reversed(layers)]
    return ErrorBody(message or code, code, next((item for item in params if isinstance(item, str)), ""), _find_status(layers))


def is_error(value: Any) -> bool:
    """True where a JSON object without choices is an error and no other thing."""
    if isinstance(value, list):
        return any(is_error(item) for item in value)
    if not isinstance(value, dict):
        return False
    return value.get("object") == "error" or any(value.get(name) for name in (*_INNER, "error_code", "error_msg", "msg"))


def _layers(value: Any) -> Iterator[dict[str, Any]]:
    """The objects that wrap an error, from outside to inside; of a list its first object."""
    for _ in range(6):
        if isinstance(value, list):
            value = next((item for item in value if isinstance(item, dict)), None)
        if not isinstance(value, dict):
            return
        yield value
        value = next((value[name] for name in _INNER if isinstance(value.get(name), dict | list) and value[name]), None)


def _validation(value: Any) -> str:
    """A list of refused fields (``detail`` of FastAPI and pydantic) as text, without the input that it quotes."""
    for layer in _layers(value):
        details = layer.get("detail") or layer.get("errors")
        if isinstance(details, list):
            fields = [item for item in details if isinstance(item, dict) and isinstance(item.get("loc"), list)]
            if fields:
                return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item.get('msg') or item.get('type')}" for item in fields)
    return ""


def _find_status(layers: list[dict[str, Any]]) -> int | None:
    for layer in layers:
        for name in _NUMBERS:
            number = layer.get(name)
            if isinstance(number, str) and number.strip().isdecimal():
                number = int(number)
            if isinstance(number, int) and 400 <= number <= 599:
                return number
    return None
