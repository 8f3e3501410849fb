"""The names of models that an endpoint lists: a hint for spelling, never a proof of what it serves."""

import difflib

from workflow.worker.error_body import parse_json


def parse_listing(payload: bytes) -> list[str]:
    """Names in the answer to ``GET /models``, whether in ``data``, in ``models`` or in a bare list; empty where there are none."""
    try:
        value = parse_json(payload)
    except ValueError:
        return []
    if isinstance(value, dict):
        value = value.get("data") or value.get("models")
    entries = value if isinstance(value, list) else []
    names = [entry.get("id") or entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    return [name for name in names if isinstance(name, str)]


def nearest(model: str, names: list[str]) -> list[str]:
    """The listed names that look most like ``model``; the first ones where none does."""
    return difflib.get_close_matches(model, names, n=3, cutoff=0.4) or sorted(names)[:5]
