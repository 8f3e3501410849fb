"""One sentence for each problem that pydantic finds in the settings."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workflow.registry import nearest

WORDS = {
    "greater than or equal to": "at least",
    "greater than": "more than",
    "less than or equal to": "at most",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "a text (put it in quotes)",
    "a valid array": "a list",
    "an object": "a group of settings",
    "None": "null",
}
"""Pydantic's words, and ours for them."""


def sentence(error: Any, described: Mapping[str, str]) -> str:
    """What is wrong with one setting, and what would be right.

    Args:
        error: one item of ``ValidationError.errors()``.
        described: dotted name -> description of every setting.
    """
    name = ".".join(str(part) for part in error["loc"])
    kind, value, message = error["type"], error["input"], error["msg"]
    if kind == "extra_forbidden":
        return unknown(name, value, list(described))
    if kind in ("missing", "too_short", "too_long"):
        return f"{name.rpartition('.')[0] or name} has too {'many' if kind == 'too_long' else 'few'} entries (given: {show(value)})."
    for theirs, ours in WORDS.items():
        message = message.replace(theirs, ours)
    if hint := nearest(str(value), re.findall("'(.*?)'", message)) if kind == "literal_error" else "":
        message += f"; the nearest is {hint}"
    if described.get(name) and "than" in kind:
        message += f" ({described[name].rstrip('.')})"
    ill_typed = " has the wrong type: it" if kind.endswith(("_type", "_parsing", "_from_float")) else ""
    return f"{name}={show(value)}{ill_typed} {message.replace('Input should', 'must')}."


def unknown(name: str, value: Any, names: Sequence[str]) -> str:
    """A setting that does not exist, with the nearest that does."""
    while isinstance(value, dict) and len(value) == 1:  # the whole of a misspelt group's only setting
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    return f"{name}={show(value)}: there is no such setting; {remedy_for_unknown(name, names)}"


def remedy_for_unknown(name: str, names: Sequence[str]) -> str:
    """The nearest of the existing settings, or where all of them are listed."""
    hint = nearest_setting(name, names)
    return f"did you mean {hint}?" if hint else "conf/config.yaml tells how to list all of them."


def nearest_setting(name: str, names: Sequence[str]) -> str | None:
    """The existing setting whose dotted name is closest; siblings and equal last parts come first."""
    parent, _, leaf = name.rpartition(".")
    leaves = {other.rpartition(".")[2]: other for other in names}
    siblings = {other.rpartition(".")[2]: other for other in names if other.rpartition(".")[0] == parent}
    groups = {other.rpartition(".")[0] for other in names} | {other.split(".")[0] for other in names}
    return (
        siblings.get(nearest(leaf, siblings))
        or nearest(name, [other for other in names if other.endswith(f".{leaf}")], cutoff=0.0)
        or nearest(name, [*names, *sorted(groups)])
        or leaves.get(nearest(leaf, leaves))
    )


def show(value: Any) -> str:
    """A value as one would write it, bounded."""
    text = {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
