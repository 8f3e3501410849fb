"""The skeleton of a workflow: which operators it calls, in which order and under which control flow. Nothing else.

Texts, other constants, names and what is done with texts between the calls are left out, so that a hint more or a variable less
makes no other workflow. These are one skeleton, too: a value that is named before it is returned, a helper and its lines in
place, a condition and its negation, ``if``/``else`` and a jump with the rest after it. What can be seen never to run counts nothing:
what stands after a jump, under a constant condition, in a helper that is never used. What only a run shows (``if len(text) < 0``)
does count: ``reward.terms.diversity`` also compares what ran.
"""

import ast
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from workflow.operators import OPERATORS


class Part(NamedTuple):
    """A jump, a loop, a choice, an attempt."""

    kind: str
    inside: tuple[tuple["str | Part", ...], ...] = ()
    """The branches of a choice; the body of a loop; what is tried, then the handlers."""


Items = tuple[str | Part, ...]
"""Names of operators and what stands between them."""

MAX_NODES = 20_000
"""Syntax nodes that are looked at, each helper as often as it is used."""
MAX_CALLS = 8
"""Helpers within helpers that are followed."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_JUMPS: dict[type[ast.stmt], str] = {ast.Return: "return", ast.Raise: "raise", ast.Break: "break", ast.Continue: "continue"}
_PARALLEL = frozenset({"gather", "wait", "as_completed", "create_task", "ensure_future", "TaskGroup"})


def skeleton(tree: ast.Module) -> str:
    """First 16 hex digits of the SHA-256 of the skeleton; comparable within one Python version."""
    return hashlib.sha256(repr(_Reader(tree).read()).encode()).hexdigest()[:16]


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Workflow"]
        self._methods = {node.name: node for body in bodies for node in body if isinstance(node, _FUNCTIONS)}
        self._functions = {node.name: node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)}
        self._entered: list[ast.AST] = []
        self._nodes = 0
        self._parallel = False

    def read(self) -> Items:
        entry = self._methods.get("__call__")
        items = self._function(entry) if entry is not None else ()
        return (*(("parallel",) if self._parallel else ()), *items)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Items:
        if node in self._entered or len(self._entered) == MAX_CALLS or self._nodes > MAX_NODES:
            return (Part("again"),)
        self._entered.append(node)
        items = self._block(node.body)
        self._entered.pop()
        return _without_last(items, "return")

    def _block(self, statements: Sequence[ast.stmt]) -> Items:
        items: list[str | Part] = []
        for index, statement in enumerate(statements):
            if isinstance(statement, ast.If) and not isinstance(statement.test, ast.Constant):
                rest = statements[index + 1 :]
                jumps, other_jumps = _ends(statement.body), _ends(statement.orelse)
                body = self._block([*statement.body, *(rest if other_jumps and not jumps else ())])
                other = self._block([*statement.orelse, *(rest if jumps and not other_jumps else ())])
                items += (*self._within(statement.test), *_choice(body, other))
                if jumps or other_jumps:
                    break
            else:
                items += self._statement(statement)
                if _ends([statement]):
                    break
        return tuple(items)

    def _statement(self, node: ast.stmt) -> Items:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return ()
            case ast.If(test=ast.Constant(value=value)):
                return self._block(node.body if value else node.orelse)
            case ast.While(test=ast.Constant(value=value)) if not value:
                return self._block(node.orelse)
            case ast.For() | ast.AsyncFor():
                body = () if _is_empty(node.iter) else self._block(node.body)
                return (*self._within(node.iter), *_loop(body), *self._block(node.orelse))
            case ast.While():
                return (*_loop((*self._within(node.test), *self._block(node.body))), *self._block(node.orelse))
            case ast.With() | ast.AsyncWith():
                return (*(item for part in node.items for item in self._within(part.context_expr)), *self._block(node.body))
            case ast.Try() | ast.TryStar():
                handlers = [items for handler in node.handlers if _calls(items := self._block(handler.body))]
                tried = self._block([*node.body, *node.orelse])
                return (*((Part("try", (tried, *handlers)),) if handlers else tried), *self._block(node.finalbody))
            case ast.Match():
                return (*self._within(node.subject), *_choice(*(self._block(case.body) for case in node.cases)))
        items = tuple(item for child in ast.iter_child_nodes(node) for item in self._within(child))
        return (*items, Part(_JUMPS[type(node)])) if type(node) in _JUMPS else items

    def _within(self, node: ast.AST) -> Items:
        """What an expression calls, in the order in which it does."""
        self._nodes += 1
        match node:
            case ast.IfExp(test=ast.Constant(value=value)):
                return self._within(node.body if value else node.orelse)
            case ast.IfExp():
                return (*self._within(node.test), *_choice(self._within(node.body), self._within(node.orelse)))
            case ast.BoolOp(values=[first, *others]):
                rest = tuple(item for value in others for item in self._within(value))
                return (*self._within(first), *_choice(rest, ()))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                sources = tuple(item for part in node.generators for item in self._within(part.iter))
                made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                conditions = [condition for part in node.generators for condition in part.ifs]
                inner = tuple(item for part in (*conditions, *made) for item in self._within(part))
                return (*sources, *_loop(() if any(_is_empty(part.iter) for part in node.generators) else inner))
            case ast.Call():
                called = (*node.args, *node.keywords, node.func)
                return tuple(item for part in called for item in self._within(part))
            case ast.Attribute(value=value, attr=name):
                self._parallel |= name in _PARALLEL
                own = self._methods.get(name) if isinstance(value, ast.Name) and value.id in ("self", "Workflow") else None
                return (*self._within(value), *((name,) if name in OPERATORS else self._function(own) if own is not None else ()))
            case ast.Name(id=name, ctx=ast.Load()) if name in self._functions:
                return self._function(self._functions[name])
        return tuple(item for child in ast.iter_child_nodes(node) for item in self._within(child))


def _calls(items: Items) -> bool:
    """True where an operator stands in it, at any depth."""
    return any(isinstance(item, str) or any(map(_calls, item.inside)) for item in items)


def _choice(*branches: Items) -> Items:
    """One of several ways; equal ones are one."""
    different = {repr(branch): branch for branch in branches}
    ways = tuple(different[key] for key in sorted(different))
    return ways[0] if len(ways) == 1 else (Part("if", ways),)


def _loop(body: Items) -> Items:
    body = _without_last(body, "continue")
    return (Part("loop", (body,)),) if _calls(body) else ()


def _without_last(items: Items, jump: str) -> Items:
    """Without the jumps at its end that only say what would happen anyway."""
    match items:
        case (*before, Part(kind=kind)) if kind == jump:
            return _without_last(tuple(before), jump)
        case (*before, Part(kind="if", inside=branches)):
            return (*before, *_choice(*(_without_last(branch, jump) for branch in branches)))
    return items


def _ends(statements: Sequence[ast.stmt]) -> bool:
    """True where nothing that stands after these statements runs."""
    for statement in statements:
        match statement:
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                return True
            case ast.If(test=ast.Constant(value=value)):
                if _ends(statement.body if value else statement.orelse):
                    return True
            case ast.If() if _ends(statement.body) and _ends(statement.orelse):
                return True
            case ast.With() | ast.AsyncWith() if _ends(statement.body):
                return True
    return False


def _is_empty(iterated: ast.expr) -> bool:
    """True for a literal without elements and for ``range(0)``."""
    match iterated:
        case ast.List(elts=[]) | ast.Tuple(elts=[]) | ast.Constant(value="") | ast.Dict(keys=[]):
            return True
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=0)]):
            return True
    return False
