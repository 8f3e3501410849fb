"""Role S: holds the candidate solution and answers calls with plain values. Hostile by assumption; owns nothing."""

import builtins
import contextlib
import random
import socket
from typing import Any

from sandbox.guest.codec import CodecError, decode, encode
from sandbox.guest.frames import receive, send

FIXED = frozenset((type(None), bool, int, float, complex, str, bytes))
"""Types whose values no call can change."""


def serve(judge: socket.socket) -> None:
    """Loads the candidate from the first frame, which the host wrote, then answers the judge until it closes."""
    start = receive(judge)
    assert start is not None
    random.seed(0)  # the same answer has the same verdict in every box
    namespace: dict[str, Any] = {"__name__": "candidate", "__builtins__": builtins}
    run_preamble(start["preamble"], namespace)
    try:
        exec(compile(start["source"], "<candidate>", "exec", dont_inherit=True), namespace)
        function = namespace[start["entry_point"]]
    except BaseException as error:
        send(judge, {"loaded": False, "raise": type(error).__name__, "message": _text(error)})
        return
    send(judge, {"loaded": True})
    held: list[Any] = []
    while (call := receive(judge)) is not None:
        send(judge, _answer(namespace[call["name"]] if call.get("name") in namespace else function, call, held))


def run_preamble(statements: list[str], namespace: dict[str, Any]) -> None:
    """Runs the problem's own imports and helpers; one that fails is left out, since the candidate may not need it."""
    for statement in statements:
        with contextlib.suppress(Exception):
            exec(compile(statement, "<problem>", "exec", dont_inherit=True), namespace)


def _answer(function: Any, call: dict[str, Any], held: list[Any]) -> dict[str, Any]:
    """One call's frame; ``held`` are the objects of the candidate's own types that the judge may refer to."""
    try:
        args = decode(call["args"], held)
        kwargs = decode(call["kwargs"], held)
        if all(type(value) in FIXED for value in args):
            return {"value": encode(function(*args, **kwargs), held)}
        before = encode(args, list(held))
        value = function(*args, **kwargs)
        after = encode(args, list(held))
        return {"value": encode(value, held), "args": after if after != before else None}
    except CodecError as error:
        return {"raise": "ValueError", "message": str(error)}
    except BaseException as error:
        return {"raise": _builtin_name(error), "message": _text(error)}


def _builtin_name(error: BaseException) -> str:
    """Name of the nearest builtin exception type."""
    for kind in type(error).__mro__:
        if getattr(builtins, kind.__name__, None) is kind:
            return kind.__name__
    return "Exception"


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""
