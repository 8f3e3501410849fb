"""Why a request to an endpoint failed, whether another try can help, and how long to wait before it."""

import random
import re
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Literal

import aiohttp

from workflow.worker.endpoint import StatusError
from workflow.worker.redact import with_shown_urls
from workflow.worker.request import MalformedReply

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 60.0

_TRANSIENT = (408, 409, 424, 425, 429)
_BUSY_STATUSES = (429, 503, 529)
_REFUSALS = (400, 403, 422)
"""Statuses with which gateways say all sorts of things."""
_PROMPT_CODES = re.compile(
    r"context_length_exceeded|string_above_max_length|exceed_context_size|content_filter|content_policy|data_inspection_failed|sensitive"
)
_LONG = r"(?:tokens?|length|context|characters?|长度)"
_OVER_CONTEXT = re.compile(
    r"(?:maximum|available|exceed\w*)[^\n]{0,60}context[ _](?:length|size|window|limit)"
    r"|context[ _](?:length|size|window|limit)[^\n]{0,60}exceed|prompt is too long"
)
_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window|limit)|when context the overflows|reduce the length|too many (?:input )?tokens|model token limit"
    r"|input[ _]tokens? count|range of input length|`inputs`|request too large|max(?:imum)? (?:prompt|input) (?:length|size)"
    r"|\b(?:prompt|inputs?|messages?)\b(?:(?!max_|parameter|took|tak|wait|idle)[^:\n]){0,60}?"
    r"(?:too (?:long|large)|(?:longer|larger) than|超长)"
    rf"|\b(?:prompt|inputs?|messages?)\b(?=[^\n]{{0,120}}{_LONG})(?:(?!max_|parameter)[^:\n]){{0,60}}?(?:exceed|超限)"
)
_FILTERED = re.compile(
    r"content[ _](?:filter|policy|management|moderation)|content exists risk|inappropriate content|moderation system|safety system"
    r"|(?:input|prompt|content|message|request|text)s?\b[^\n]{0,40}\b(?:flagged|unsafe)|responsible ai|(?:unsafe|prohibited) content"
    r"|sensitive (?:content|word|information)|violat\w+ [^\n]{0,60}(?:polic|terms|guideline|safety|standard)|敏感|违规|不安全"
)
_NO_MODEL = re.compile(
    r"model_not_found|(?:unknown|invalid|no such|unsupported) model|no model"
    r"|model\b.{0,80}?(?:not found|not exist|n't exist|not a valid|not available|unavailable|not supported|no such|unknown|invalid)"
)
_NO_CREDIT = re.compile(
    r"insufficient[_ ](?:\w+ )?(?:quota|balance|credit|fund)|credit balance is too low|out of credit|arrear|余额不足|欠费|over budget"
    r"|billing[_ ](?:\w+[_ ])?(?:limit|not[_ ]active)|(?:spend\w*|budget|credit)[_ ](?:limit|cap|quota)|exceeded ?budget"
    r"|monthly[ _](?:\w+ )?(?:limit|quota)|budget[_ ](?:has been )?exceeded"
)
"""Said with any status."""
_UNPAID = re.compile(r"billing|\bspend|\bpayment|\bcredits?\b|subscription(?! key)|\bmonthly\b|\binvoice|\bprepaid|\busage limit")
"""Said with a status that no wait helps; with others it may be a hint."""
_BUSY = re.compile(
    r"queue|concurren|\brates?\b|quota|too many requests|overload|\bbusy\b|capacity|throttl|temporar|\bper[ _](?:second|minute|hour|day)\b"
    r"|please (?:retry|wait)|wait before|(?:retry|try)(?: again| it| your request)? (?:later|after|in (?:\d|a (?:few|moment|minute|while)))"
    r"|\bmemory\b|\boom\b|\bcuda\b|time(?:d)? ?out|deadline|service unavailable|internal (?:server )?error"
    r"|并发|频率|限流|配额|繁忙|请求过多"
)
_PLACES = r"(?:countr(?:y|ies)|regions?|territor(?:y|ies)|location)"
_PLACE = re.compile(
    rf"\b{_PLACES}\b[^\n]{{0,40}}(?:\bnot |n't |unsupport|unavailab|restrict|block|denied|prohibit)|unsupported_country"
    rf"|(?:not|n't|unsupported|unavailable|restricted|blocked|denied) [^\n]{{0,40}}\b{_PLACES}\b"
)
_ACCOUNT = re.compile(
    r"account|organi[sz]ation|subscri|\btiers?\b|\bplans?\b|\bcountr(?:y|ies)\b|\bregions?\b|territor|licen[cs]e|workspace|tenant|\bproject\b"
    r"|api[ _-]?key|your key|(?:access|auth\w*|bearer) token|suspend|\bbanned\b|\bip\b|\btraffic\b|\bbots?\b|automated|abuse|firewall"
    r"|账户|账号|额度"
)
"""Where an error speaks of these it is no prompt that it refuses; nor where it speaks of money, of a load or of a place."""
_MACHINE = (_NO_CREDIT, _UNPAID, _BUSY, _PLACE, _ACCOUNT)
_URLS = re.compile(r"https?://\S+")
_THOUGHT_ONLY = re.compile(r"could not finish the message because max_tokens")
_SEARCHED = 2000
"""Characters of an error that are searched."""

Kind = Literal["unreachable", "timeout", "loading", "prompt", "model", "request", "other"]


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
    prompt_tokens: int = 0
    """What a reply that is a refusal is billed for, as are the completion tokens."""
    completion_tokens: int = 0
    kind: Kind = "other"
    """``unreachable``: nothing was connected. ``prompt``: the endpoint refuses this prompt and would take another. ``request``: it takes
    no such request, and does not say why in words that are known."""
    busy: bool = False
    """True where the endpoint refuses the request for its load or for a limit of its own."""


def failure_of(error: Exception, *, timeout_s: float, api_key_env: str, section: str) -> Failure | None:
    """What a failed request means; None for an error that is no endpoint's.

    Args:
        section: the settings that name the endpoint, for remedies: ``worker`` or ``distil``.
    """
    if isinstance(error, TimeoutError):
        return Failure(f"no reply within {timeout_s:g} s", retry=True, kind="timeout")
    if isinstance(error, MalformedReply):
        return Failure(str(error), retry=True, remedy=_wrong_url(section))
    if isinstance(error, aiohttp.ClientError):
        return _connection_failure(error, timeout_s)
    if isinstance(error, StatusError):
        return _status_failure(error, api_key_env, section)
    return None


def thinking_took_all(error: StatusError) -> bool:
    """True where an endpoint says by an error that a reply was cut off before its first word (OpenAI's reasoning models)."""
    return error.status == 400 and _THOUGHT_ONLY.search(error.body.message.lower()) is not None


def _wrong_url(section: str) -> str:
    return f"Correct {section}.base_url: it must end where /chat/completions follows, mostly with /v1."


def _connection_failure(error: aiohttp.ClientError, timeout_s: float) -> Failure:
    cause: BaseException = error
    while cause.__cause__ is not None:  # only the first cause tells
        cause = cause.__cause__
    if isinstance(cause, TimeoutError):
        return Failure(f"no reply within {timeout_s:g} s", retry=True, kind="timeout")
    text = " ".join(with_shown_urls(str(cause)).split())[:160]
    remedy = "Name the file of its certificate authority in SSL_CERT_FILE." if isinstance(cause, ssl.SSLCertVerificationError) else ""
    reason = f"no connection ({type(cause).__name__}{': ' if text else ''}{text})"
    unreachable = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
    return Failure(reason, retry=True, remedy=remedy, kind="unreachable" if unreachable else "other")


def _status_failure(error: StatusError, api_key_env: str, section: str) -> Failure:
    status, body = error.status, error.body
    code, words = body.code.lower(), _URLS.sub(" ", f"{body.code} {body.message}".lower()[:_SEARCHED])
    shown = " ".join(body.message.split())[:200]
    reason = f"an error inside HTTP 200 ({shown})" if error.inside else f"HTTP {status} ({shown})"
    other = f"set {section}.base_url and {section}.model to another endpoint"
    if _refuses_prompt(status, code, words):
        return Failure(reason, False, kind="prompt", prompt_tokens=error.prompt_tokens, completion_tokens=error.completion_tokens)
    busy = _BUSY.search(words) is not None
    if status == 402 or _NO_CREDIT.search(words) or (status in _REFUSALS and not busy and _UNPAID.search(words)):
        return Failure(reason, retry=False, remedy=f"Add credit to the account, or {other}.")
    if status in _TRANSIENT or status >= 500 or (status in _REFUSALS and busy):
        kind: Kind = "loading" if status == 503 else "other"
        return Failure(reason, retry=True, wait_s=_read_wait_s(error), kind=kind, busy=status in (*_BUSY_STATUSES, *_REFUSALS))
    no_model: Kind = "model" if _NO_MODEL.search(words) else "other"
    if status in _REFUSALS and _PLACE.search(words):
        return Failure(reason, retry=False, remedy=f"{other[0].upper()}{other[1:]}: this one does not serve this place.", kind=no_model)
    if status in (401, 403):
        remedy = f"Put a valid key into the environment variable {api_key_env} ({section}.api_key_env)."
        return Failure(reason, retry=False, remedy=remedy, kind=no_model)
    if 300 <= status < 400:
        return Failure(reason, retry=False, remedy=_wrong_url(section))
    if status == 404 or (status in (400, 422) and no_model == "model"):
        remedy = f"Set {section}.model to a model of this endpoint. {_wrong_url(section).replace('Correct', 'Or correct')}"
        return Failure(reason, retry=False, remedy=remedy, kind="model")
    return Failure(reason, retry=False, remedy=f"Check {section}.max_tokens and {section}.temperature.", kind="request")


def _refuses_prompt(status: int, code: str, words: str) -> bool:
    """True for prompts that are too long or filtered, in the words of many vendors."""
    if status in (401, 402, 404, 408):
        return False
    if status == 429:
        return "request too large" in words  # more tokens than a minute allows: no wait helps
    if status == 413 or _PROMPT_CODES.search(code):
        return True
    if any(spoken.search(words) for spoken in _MACHINE):
        return False
    if status >= 500:
        return _OVER_CONTEXT.search(words) is not None
    return _FILTERED.search(words) is not None or (status != 403 and _TOO_LONG.search(words) is not None)


def _read_wait_s(error: StatusError) -> float | None:
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
