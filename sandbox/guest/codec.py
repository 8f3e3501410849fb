"""The closed codec between candidate and judge: plain values of exact builtin types, nothing else.

Objects with behaviour cannot cross: what is not exactly one of the types below becomes an opaque handle, except
that subclasses of the standard library (Counter, defaultdict, namedtuple, IntEnum ...) cross as the builtin value
that they hold, because they equal it. An encoded value is ``[tag, payload]``; the decoder re-validates everything,
since the candidate's side is hostile; None, booleans, integers up to 2**53, floats and text stand for themselves, as JSON has
them (Python writes and reads floats exactly). The encoder gives the candidate no power that writing its own frames would not.
"""

import re
import reprlib
from typing import Any

MAX_DEPTH = 60
MAX_ITEMS = 200_000
MAX_NUMBER = 2**53
"""Largest integer that crosses as a JSON number."""


class CodecError(Exception):
    """The value cannot be encoded, or what arrived is not an encoded value."""


class Opaque:
    """Stands in the judge for an object that lives on the candidate's side; it equals nothing."""

    __slots__ = ("handle", "kind", "truthy")

    def __init__(self, kind: str, handle: int = -1, truthy: bool = False) -> None:
        self.kind = kind
        self.handle = handle
        """Its number on the candidate's side; -1 where it cannot be given back."""
        self.truthy = truthy
        """True for a match of a regular expression, which tests use as a truth value."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError(f"the candidate returned an object of its own type {self.kind!r}, which cannot be compared")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        if self.truthy:
            return True
        raise AssertionError(f"the candidate returned an object of its own type {self.kind!r}, which is neither true nor false here")

    def __repr__(self) -> str:
        return f"<{self.kind} object of the candidate>"


def encode(value: Any, held: list[Any] | None = None) -> Any:
    """A value as JSON. Raises CodecError where it is too deep or too large.

    Args:
        held: on the candidate's side, where objects of its own types stay; a reference to them crosses.
    """
    return _encode(value, MAX_DEPTH, [MAX_ITEMS], held)


def _spend(budget: list[int], depth: int) -> None:
    budget[0] -= 1
    if depth <= 0 or budget[0] < 0:
        raise CodecError("the value is too deep or too large")


def _encode(value: Any, depth: int, budget: list[int], held: list[Any] | None) -> Any:
    _spend(budget, depth)
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if -MAX_NUMBER <= value <= MAX_NUMBER else ["i", hex(value)]
    if kind is str:
        return ["s", value.encode("utf-8", "surrogatepass").hex()] if _has_surrogate(value) else value
    if kind is complex:
        return ["c", [value.real, value.imag]]
    if kind is bytes:
        return ["y", value.hex()]
    if kind in SEQUENCES:
        return [SEQUENCES[kind], [_encode(item, depth - 1, budget, held) for item in list(value)]]
    if kind is dict:
        return ["d", [[_encode(key, depth - 1, budget, held), _encode(item, depth - 1, budget, held)] for key, item in list(value.items())]]
    if kind is Opaque:
        return ["r", value.handle]
    if kind is type and value in TYPES.values():
        return ["T", value.__name__]
    if kind is re.Match:
        return ["m", None]
    for base, copy in COPIES.items():
        if isinstance(value, base):
            return _encode(copy(value), depth, budget, held)
    if held is None:
        return ["o", [str(kind.__name__)[:80], -1]]
    held.append(value)
    return ["o", [str(kind.__name__)[:80], len(held) - 1]]


TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, type(None))
}
"""Types that cross as values, for functions such as ``remove(xs, str)``."""


COPIES: dict[type, Any] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes(bytes.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    list: lambda value: list(list.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
"""How an instance of a subclass becomes the builtin value that it holds, without running its own methods."""


def _has_surrogate(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "e", frozenset: "z"}
_SCALARS = frozenset((type(None), bool, int, float, str))
_BUILD: dict[str, type] = {tag: kind for kind, tag in SEQUENCES.items()}


def decode(data: Any, held: list[Any] | None = None) -> Any:
    """The value that ``data`` encodes; ``held`` as in ``encode``. Raises CodecError for anything else."""
    try:
        return _decode(data, MAX_DEPTH, [MAX_ITEMS], held)
    except (TypeError, ValueError, LookupError, OverflowError, RecursionError) as error:
        raise CodecError(f"not an encoded value: {error}") from None


def _decode(data: Any, depth: int, budget: list[int], held: list[Any] | None) -> Any:
    _spend(budget, depth)
    if type(data) in _SCALARS:
        return data
    if type(data) is not list or len(data) != 2:
        raise CodecError("not an encoded value")
    tag, payload = data
    if tag == "i":
        return int(_exact(payload, str), 16)
    if tag == "c":
        real, imag = _exact(payload, list)
        return complex(_exact(real, float), _exact(imag, float))
    if tag == "s":
        return bytes.fromhex(_exact(payload, str)).decode("utf-8", "surrogatepass")
    if tag == "y":
        return bytes.fromhex(_exact(payload, str))
    if tag in _BUILD:
        return _BUILD[tag](_decode(item, depth - 1, budget, held) for item in _exact(payload, list))
    if tag == "d":
        pairs = [_exact(pair, list) for pair in _exact(payload, list)]
        return {_decode(key, depth - 1, budget, held): _decode(item, depth - 1, budget, held) for key, item in pairs}
    if tag == "o":
        kind, handle = _exact(payload, list)
        return Opaque(_exact(kind, str)[:80], _exact(handle, int))
    if tag == "m":
        return Opaque("Match", truthy=True)
    if tag == "T":
        return TYPES[_exact(payload, str)]
    if tag == "r" and held is not None:
        return held[_exact(payload, int)]
    raise CodecError("unknown tag")


def _exact(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise CodecError(f"expected {kind.__name__}")
    return value


_MUTABLE = (list, dict, set)


def show(value: Any) -> str:
    """A short text of a plain value, cheap and without failure also for huge ones."""
    try:
        return _SHORT.repr(value)[:300]
    except Exception:
        return f"a {type(value).__name__} too large to show"


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdict = 30
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120


def mirror(original: Any, after: Any) -> None:
    """Copies an in-place change of a mutable argument back into the judge's own object."""
    if type(original) is list and type(after) is list:
        for index, (mine, theirs) in enumerate(zip(original, after, strict=False)):
            if type(mine) in _MUTABLE and type(mine) is type(theirs):
                mirror(mine, theirs)
                after[index] = mine
        original[:] = after
    elif type(original) is dict and type(after) is dict:
        for key, theirs in after.items():
            mine = original.get(key)
            if type(mine) in _MUTABLE and type(mine) is type(theirs):
                mirror(mine, theirs)
                after[key] = mine
        original.clear()
        original.update(after)
    elif type(original) is set and type(after) is set:
        original.clear()
        original.update(after)
