"""Parts of a chat request that some models do not take, recognised by the words with which vendors refuse them.

A refusal is believed only on trial: the client leaves the part out, and remembers that only once the endpoint answered without it.
"""

import re
from collections.abc import Iterable, Sequence

from workflow.worker.endpoint import StatusError
from workflow.worker.interface import Message
from workflow.worker.request import REFUSED_REPLY

NOTES = {
    "max_tokens": "the limit as max_completion_tokens",
    "temperature": "no temperature (worker.temperature has no effect)",
    "seed": "no seed (samples are not repeatable, and siblings do not meet the same ones)",
    "system": "no system message (it is put in front of the user's)",
}
"""Each part that may be left out, and what the endpoint takes instead."""

_STATUSES = (400, 404, 405, 415, 422, 501)
_REFUSED = (
    r"(?:unsupported|not (?:\w+ )?(?:be )?(?:support\w*|permitted|allowed|accepted|available|recogni[sz]ed|implemented|known|expected|valid"
    r"|enabled)|n't support|unknown|unrecogni[sz]ed|unexpected|extra\b|forbidden|deprecated|only the default|no such"
    r"|(?:may|can|must) only be|only 1\b|invalid (?:parameter|argument|field|property|key|name))"
)
_NEAR = r"[^.;\n]{0,60}?"
_SHOWN = 1000
"""Characters of an error that are searched."""
_PARTS = {
    name: re.compile(rf"{_REFUSED}{_NEAR}(?<![\w-]){name}(?![\w-])|(?<![\w-]){name}(?![\w-]){_NEAR}{_REFUSED}")
    for name in ("max_tokens", "temperature", "seed")
}
_OF_SYSTEM = r"(?:[\"'`]system[\"'`]|\bsystem[- ](?:role|message|prompt|instruction)s?\b)"
_SYSTEM = re.compile(
    rf"{_REFUSED}{_NEAR}{_OF_SYSTEM}|{_OF_SYSTEM}{_NEAR}{_REFUSED}|developer instruction is not enabled|roles must alternate"
    r"|only user(?:,| and)[^.\n]{0,60}\broles?\b|input should be '?user'? or '?assistant"
)
_MIN_ECHO = 8
"""Length from which a line of the prompt is taken out of an error that quotes it."""


def find_refused_part(error: StatusError, messages: Sequence[Message], sent: Iterable[str]) -> str | None:
    """The part of a request that the model does not take; None for any other failure.

    Args:
        messages: of the request; an error that quotes them is read without the quotation.
        sent: names of the parts that were in the request.
    """
    if error.status not in _STATUSES or error.body.code == REFUSED_REPLY:  # the model's words are no vendor's
        return None
    words = _without_echo(error.body.message, messages).lower()[:_SHOWN]
    param = error.body.param.lower()
    coded = "unsupported_parameter" in error.body.code or "unsupported_value" in error.body.code
    for name in sent:
        if name == "system":
            of_role = coded and param.startswith("messages") and param.endswith("role")
            if any(message["role"] == "system" for message in messages) and (of_role or _SYSTEM.search(words)):
                return name
        elif (param.rpartition(".")[2] == name and (coded or re.search(_REFUSED, words))) or _PARTS[name].search(words):
            return name
    return None


def parts_to_try(words: str) -> tuple[str, ...]:
    """What may be left out after an error that no vendor is known for; not a number that it names, which the user can correct."""
    return tuple(part for part in ("seed", "temperature", "max_tokens", "system") if part in ("seed", "system") or part not in words)


def _without_echo(text: str, messages: Sequence[Message]) -> str:
    for message in messages:
        for line in message["content"].splitlines():
            if len(line.strip()) >= _MIN_ECHO:
                text = text.replace(line.strip(), " ")
    return text


def note(dialect: Iterable[str]) -> str:
    """What an endpoint of this dialect takes, as the end of a sentence; empty where it takes everything."""
    return ", ".join(NOTES[name] for name in NOTES if name in dialect)
