"""One sentence for each problem that pydantic finds in the settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from workflow.registry import nearest

KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "string_type": "a text (put it in quotes)",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a group of settings",
    "model_attributes_type": "a group of settings",
    "none_required": "null",
    "finite_number": "a finite number",
}


def sentence(error: Any, described: Mapping[str, str]) -> str:
    """What is wrong with one setting, and what would be right.

    Args:
        error: one item of ``ValidationError.errors()``.
        described: dotted name -> description of every setting.
    """
    name = ".".join(str(part) for part in error["loc"])
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown(name, value, list(described))
    given = f"{name}={show(value)}"
    if kind in KINDS:
        return f"{given} has the wrong type: it must be {KINDS[kind]}."
    if kind == "literal_error":
        hint = nearest(str(value), [part.strip("' ") for part in context["expected"].replace(" or ", ", ").split(",")])
        return f"{given} is not one of {context['expected']}{f'; the nearest is {hint}' if hint else ''}."
    if kind.startswith(("greater_than", "less_than")):
        why = f" ({described[name].rstrip('.')})" if described.get(name) else ""
        bound = next(iter(context.values()))
        words = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most", "less_than": "less than"}[
            kind
        ]
        return f"{given} must be {words} {bound:g}{why}."
    if kind in ("missing", "too_short", "too_long"):
        return f"{name.rpartition('.')[0] or name} has too {'many' if kind == 'too_long' else 'few'} entries (given: {show(value)})."
    return f"{given} is not accepted: {error['msg'][:1].lower()}{error['msg'][1:]}."


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
    siblings = {other.rpartition(".")[2]: other for other in names if other.rpartition(".")[0] == parent}
    close = nearest(leaf, list(siblings))
    if close:
        return siblings[close]
    same_leaf = [other for other in names if other.rpartition(".")[2] == leaf]
    if same_leaf:
        return nearest(name, same_leaf, cutoff=0.0)
    groups = sorted({other.rpartition(".")[0] for other in names} | {other.split(".")[0] for other in names})
    close = nearest(name, [*names, *groups])
    if close:
        return close
    leaves = {other.rpartition(".")[2]: other for other in names}
    close = nearest(leaf, list(leaves))
    return leaves[close] if close else None


def show(value: Any) -> str:
    """A value as one would write it, bounded."""
    text = {True: "true", False: "false", None: "null"}.get(value, repr(value)) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
