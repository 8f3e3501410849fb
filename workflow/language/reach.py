"""What a workflow may reach by way of what it names: attributes of values, and the public names of the modules that it may import.

A module is more than what it is for: ``typing.sys`` leads to every builtin, ``typing.get_type_hints`` evaluates texts. Behind such a way
a workflow could keep code in a text, where neither the reward's complexity nor anybody who reads it would see it.
"""

import ast
import importlib
import types
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from workflow.operators import OPERATORS

ALLOWED_ASYNCIO = frozenset(
    {
        *("gather", "wait", "wait_for", "as_completed", "create_task", "ensure_future", "shield", "sleep", "timeout", "TaskGroup"),
        *("Semaphore", "Lock", "Event", "Queue", "Task", "Future", "get_event_loop", "get_running_loop"),
        *("FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED", "TimeoutError", "CancelledError"),
    }
)

READS_TEXTS_AS_CODE = frozenset({"get_type_hints", "ForwardRef", "singledispatch", "singledispatchmethod", "Formatter"})
"""Public names of allowed modules that evaluate a text, or follow the attributes that a text names."""

EVALUATES = frozenset({"exec", "eval", "compile", "getattr", "setattr", "delattr", "globals", "locals", "vars", "breakpoint"})
"""Builtins for which no variable of their name is fine: in another scope the name would be the builtin again."""

FRAME_ATTRIBUTES = frozenset(
    {
        *(
            "f_back",
            "f_builtins",
            "f_code",
            "f_globals",
            "f_locals",
            "f_trace",
            "tb_frame",
            "tb_next",
            "gi_code",
            "gi_frame",
            "gi_yieldfrom",
        ),
        *("cr_await", "cr_code", "cr_frame", "cr_origin", "ag_await", "ag_code", "ag_frame", "co_code", "co_consts", "func_globals", "mro"),
    }
)

ABC = "collections.abc"
OF_NAMED_TUPLES = frozenset({"_replace", "_asdict", "_fields", "_make", "_field_defaults"})


class Fault(NamedTuple):
    """One forbidden construct."""

    line: int
    message: str


def is_dunder(name: str) -> bool:
    """True for names such as ``__class__``."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")


def find_reached(tree: ast.Module, allowed: frozenset[str]) -> Iterator[Fault]:
    """Attributes and names that lead out of the language.

    Args:
        allowed: modules that may be imported; of others nothing is asked here, and none is ever loaded.
    """
    modules = {name: module for name, module in _module_names(tree).items() if module in {*allowed, ABC}}
    receivers = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                yield from _attribute(node, modules)
            case ast.ImportFrom(module=str(module), level=0, names=names) if module in {*allowed, ABC}:
                for alias in names:
                    if alias.name == "*" or not _is_public(module, alias.name):
                        yield Fault(node.lineno, f"`from {module} import {alias.name}` is not allowed")
            case ast.Name(id=name, ctx=ast.Load()) if name in modules and id(node) not in receivers:
                yield Fault(node.lineno, f"the module `{name}` can only be used for its functions, as in `{name}.NAME`")
            case ast.Name(id=name, ctx=ast.Load()) if name in EVALUATES:
                yield Fault(node.lineno, f"`{name}` is not allowed")
            case ast.MatchClass(kwd_attrs=names):
                for name in names:
                    if name.startswith("_") or name in FRAME_ATTRIBUTES or name in OPERATORS:
                        yield Fault(node.lineno, f"the attribute `.{name}` is not allowed")


def _attribute(node: ast.Attribute, modules: dict[str, str]) -> Iterator[Fault]:
    module = _module_of(node.value, modules)
    if is_dunder(node.attr) or node.attr in FRAME_ATTRIBUTES:
        yield Fault(node.lineno, f"the attribute `.{node.attr}` is not allowed")
    elif module and not _is_public(module, node.attr):
        yield Fault(node.lineno, f"`{module}.{node.attr}` is not allowed")
    elif node.attr.startswith("_") and not _is_own(node.value) and node.attr not in OF_NAMED_TUPLES:
        yield Fault(node.lineno, f"the attribute `.{node.attr}` is private to what it belongs to")


def _is_own(receiver: ast.expr) -> bool:
    return isinstance(receiver, ast.Name) and receiver.id in ("self", "Workflow")


def _module_names(tree: ast.Module) -> dict[str, str]:
    """Module by the name that it has in the source, wherever it is imported."""
    names = {"asyncio": "asyncio"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (node.module, alias.name) == ("collections", "abc"):
                    names[alias.asname or alias.name] = ABC
    return names


def _module_of(receiver: ast.expr, modules: dict[str, str]) -> str:
    """The module that an expression is; empty where it is none."""
    match receiver:
        case ast.Name(id=name):
            return modules.get(name, "")
        case ast.Attribute(value=ast.Name(id=name), attr="abc") if modules.get(name) == "collections":
            return ABC
    return ""


def _is_public(module: str, name: str) -> bool:
    if module == "asyncio":
        return name in ALLOWED_ASYNCIO
    return name in _public_names(module)


@cache
def _public_names(module: str) -> frozenset[str]:
    """What a module is for: what it exports, without the modules that it uses itself."""
    loaded = importlib.import_module(module)
    names = [name for name in getattr(loaded, "__all__", dir(loaded)) if not name.startswith("_")]
    public = {name for name in names if not isinstance(getattr(loaded, name, None), types.ModuleType)} - READS_TEXTS_AS_CODE
    return frozenset(public | {"abc"} if module == "collections" else public)
