"""A workflow's source as blocks to draw: operator calls, loops, branches, ends. No drawing here."""

import ast
import copy
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One operator call site."""

    operator: str
    repeat: str
    """``""`` for a single call, ``×3`` or ``×n`` for calls made side by side."""


@dataclass(frozen=True, slots=True)
class End:
    """Where a path leaves: ``return``, ``break`` or ``continue``."""

    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Loop:
    """Statements that repeat."""

    label: str
    body: "tuple[Block, ...]"


@dataclass(frozen=True, slots=True)
class Branch:
    """A decision."""

    condition: str
    yes: "tuple[Block, ...]"
    no: "tuple[Block, ...]"


Block = Call | End | Loop | Branch


def workflow_blocks(source: str) -> tuple[Block, ...]:
    """The blocks of ``Workflow.__call__``; empty where the source has none or is not Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ()
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == "__call__":
            return _statements(node.body)
    return ()


def _statements(body: list[ast.stmt]) -> tuple[Block, ...]:
    return tuple(block for statement in body for block in _statement(statement))


def _statement(node: ast.stmt) -> list[Block]:
    match node:
        case ast.Return():
            value = node.value
            calls = _calls(value) if value is not None else []
            named = value is not None and not calls
            return [*calls, End("return", f"return {_short(value)}" if named and value is not None else "return")]
        case ast.Break():
            return [End("break", "leave the loop")]
        case ast.Continue():
            return [End("continue", "next round")]
        case ast.If():
            return [*_calls(node.test), Branch(_short(node.test), _statements(node.body), _statements(node.orelse))]
        case ast.For() | ast.AsyncFor():
            return [*_calls(node.iter), Loop(_for_label(node), _statements(node.body)), *_statements(node.orelse)]
        case ast.While():
            return [Loop(f"while {_short(node.test)}", (*_calls(node.test), *_statements(node.body)))]
        case ast.Try():
            return [*_statements(node.body), *_statements(node.finalbody)]
        case ast.With() | ast.AsyncWith():
            return list(_statements(node.body))
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return []
    return _calls(node)


def _for_label(node: ast.For | ast.AsyncFor) -> str:
    leaves = any(isinstance(inner, ast.Break | ast.Return) for statement in node.body for inner in ast.walk(statement))
    count = _range_count(node.iter)
    if count is not None:
        return f"{'up to ' if leaves else ''}{count} {'time' if count == '1' else 'times'}"
    return f"for each {_short(node.target)} in {_short(node.iter)}"


def _range_count(node: ast.expr) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(count))]):
            return str(count)
    return None


def _calls(node: ast.AST, repeat: str = "") -> list[Block]:
    """Operator calls inside an expression or simple statement, arguments before the call that takes them."""
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
        repeat = f"×{_range_count(node.generators[0].iter) or 'n'}"
    found: list[Block] = []
    for child in ast.iter_child_nodes(node):
        found += _calls(child, repeat)
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)):
            found.append(Call(name, repeat))
    return _side_by_side(found) if isinstance(node, ast.Call) else found


def _side_by_side(calls: list[Block]) -> list[Block]:
    """Equal neighbours among the arguments of one call (asyncio.gather) become one call with a count."""
    out: list[Block] = []
    for call in calls:
        last = out[-1] if out else None
        if isinstance(call, Call) and isinstance(last, Call) and call.operator == last.operator and "n" not in call.repeat + last.repeat:
            count = int(last.repeat[1:] or 1) + int(call.repeat[1:] or 1)
            out[-1] = Call(call.operator, f"×{count}")
        else:
            out.append(call)
    return out


class _Plain(ast.NodeTransformer):
    """Operator calls within a condition by their names alone: the call itself is drawn as a node."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return ast.Name(name, ast.Load())
        return node


def _short(node: ast.AST, limit: int = 30) -> str:
    text = " ".join(ast.unparse(_Plain().visit(copy.deepcopy(node))).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
