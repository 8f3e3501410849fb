"""Why a request to an endpoint failed, whether another try can help, and how long to wait before it."""

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time

import aiohttp

from workflow.chat_request import MalformedReply
from workflow.endpoint import StatusError

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 60.0

_TRANSIENT = (408, 409, 425, 429)
_PROMPT_CODES = ("context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try."""

    reason: str
    """What happened, to follow "failed with"."""
    retry: bool
    remedy: str = ""
    """A sentence, where the user can do something."""
    wait_s: float | None = None
    """What the endpoint asks to wait."""
    is_connection: bool = False
    """True where there was no whole HTTP exchange."""
    is_prompt: bool = False
    """True where the endpoint refuses this prompt and would take another."""


def failure_of(error: Exception, *, timeout_s: float, api_key_env: str) -> Failure | None:
    """What a failed request means; None for an error that is no endpoint's."""
    if isinstance(error, TimeoutError):
        return Failure(f"no reply within {timeout_s:g} s", retry=True)
    if isinstance(error, MalformedReply):
        return Failure(str(error), retry=True)
    if isinstance(error, aiohttp.ClientError):
        return _connection_failure(error, timeout_s)
    if isinstance(error, StatusError):
        return _status_failure(error, api_key_env)
    return None


def _connection_failure(error: aiohttp.ClientError, timeout_s: float) -> Failure:
    cause: BaseException = error
    while cause.__cause__ is not None:  # only the first cause tells
        cause = cause.__cause__
    if isinstance(cause, TimeoutError):
        return Failure(f"no reply within {timeout_s:g} s", retry=True)
    text = " ".join(str(cause).split())[:160]
    return Failure(f"no connection ({type(cause).__name__}{': ' if text else ''}{text})", retry=True, is_connection=True)


def _status_failure(error: StatusError, api_key_env: str) -> Failure:
    status = error.status
    reason = f"HTTP {status} ({' '.join(error.message.split())[:200]})"
    if status in (401, 403):
        return Failure(reason, retry=False, remedy=f"Put a valid key into the environment variable {api_key_env} (worker.api_key_env).")
    if error.code == "insufficient_quota":
        return Failure(
            reason, retry=False, remedy="Add credit to the account, or set worker.base_url and worker.model to another endpoint."
        )
    if status == 404:
        return Failure(reason, retry=False, remedy="Set worker.model to a model of this endpoint, or correct worker.base_url.")
    if status in _TRANSIENT or status >= 500:
        return Failure(reason, retry=True, wait_s=_asked_wait_s(error))
    is_prompt = status == 413 or error.code in _PROMPT_CODES or "context length" in error.message.lower()
    return Failure(reason, retry=False, remedy="" if is_prompt else "Check worker.max_tokens and worker.temperature.", is_prompt=is_prompt)


def _asked_wait_s(error: StatusError) -> float | None:
    """``Retry-After`` in seconds or as a date, or OpenAI's ``retry-after-ms``."""
    headers = {name.lower(): value for name, value in error.headers.items()}
    try:
        if "retry-after-ms" in headers:
            return float(headers["retry-after-ms"]) / 1000
        text = headers.get("retry-after", "")
        return float(text) if text.replace(".", "", 1).isdigit() else parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, TypeError, IndexError):
        return None


def wait_before_retry_s(tries: int, failure: Failure) -> float:
    """Exponential backoff with jitter, at least what the endpoint asks for, at most a minute.

    Args:
        tries: failed tries so far, at least 1.
    """
    backoff = min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
    return min(max(backoff, failure.wait_s or 0.0), LONGEST_WAIT_S)
