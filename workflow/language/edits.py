"""Edits of a workflow that take one operator call away: what counterfactual runs execute (``rollout.groups.counterfactual``).

What stands in a call's place is the least that the rest of the workflow can go on with:

- ``input``: what the call would have worked on, where it returns a text: the solution of ``revise``, the first candidate of ``ensemble``;
- ``quiet``: a report with nothing to say, where it returns one: every flag true, every text empty, as if the check had been left out;
- ``plain``: a bare ``generate``, where it works on the problem alone and is more than that (an instruction, another operator);
- ``empty``: no text, where it is a bare ``generate`` itself.
"""

import ast
import inspect
from dataclasses import dataclass, replace
from typing import Literal, get_origin, get_type_hints, is_typeddict

from workflow.language.parse import parse_source
from workflow.language.shape import measure
from workflow.operators import OPERATORS
from workflow.program import Workflow

EditKind = Literal["input", "quiet", "plain", "empty"]
PLAIN = "generate"
"""The operator that a ``plain`` edit puts in place of another call."""


@dataclass(frozen=True, slots=True)
class CallEdit:
    """A workflow in which one operator call is gone."""

    operator: str
    """The operator that is no longer called."""
    kind: EditKind
    workflow: Workflow
    """The program without the call; its size is that of the program as one would write it."""


def call_lines(source: str) -> list[tuple[int, int]]:
    """First and last line (from 1) of each operator call, in the order in which the calls end. Equal fingerprints have equal orders."""
    return [(call.lineno, call.end_lineno or call.lineno) for call in _calls(ast.parse(source))]


def _calls(tree: ast.AST) -> list[ast.Call]:
    """``self.operator(...)``, inner calls before those that take their results."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _operator(node)]
    return sorted(calls, key=lambda call: (call.end_lineno or 0, call.end_col_offset or 0))


def _operator(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in OPERATORS:
            return name
    return ""


def edit_call(workflow: Workflow, number: int) -> CallEdit | None:
    """The workflow without the call of that number in ``call_lines``; None where the call cannot be taken away.

    That is so where no other call writes anything (then there is no workflow left to compare with), where its arguments are unpacked
    from a collection, and where the edited program would be no workflow.
    """
    tree = ast.parse(workflow.source)
    call = _calls(tree)[number]
    operator, names = _operator(call), {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    given, namedtuple = _free_name("given", names), _free_name("namedtuple", names)
    found = _replacement(call, namedtuple)
    if found is None:
        return None
    kind, value = found
    call.func = ast.Attribute(ast.Name("self", ast.Load()), PLAIN, ast.Load()) if kind == "plain" else ast.Name(given, ast.Load())
    call.args, call.keywords = [value], []
    shape = measure(tree)
    if not any(map(_writes, shape.operators)):
        return None
    helpers = f"from collections import namedtuple as {namedtuple}\nasync def {given}(value):\n    return value\n"
    edited = parse_source(helpers + ast.unparse(ast.fix_missing_locations(tree)))
    return CallEdit(operator, kind, replace(edited, units=shape.units)) if isinstance(edited, Workflow) else None


def _free_name(stem: str, taken: set[str]) -> str:
    return next(name for number in range(len(taken) + 1) if (name := f"{stem}{number or ''}") not in taken)


def _writes(operator: str) -> bool:
    """True where the operator writes a text, other than a report or a choice among given texts."""
    types = get_type_hints(OPERATORS[operator].__call__)
    return types["return"] is str and all(get_origin(kind) is not list for kind in types.values())


def _replacement(call: ast.Call, namedtuple: str) -> tuple[EditKind, ast.expr] | None:
    """How the call is taken away, and what an awaitable in its place gives (for ``plain``: the problem that is asked)."""
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(keyword.arg is None for keyword in call.keywords):
        return None
    function = OPERATORS[_operator(call)].__call__
    types, parameters = get_type_hints(function), list(inspect.signature(function).parameters.values())[1:]
    if is_typeddict(types["return"]):
        fields = get_type_hints(types["return"])
        values = ", ".join(repr(True if kind is bool else kind()) for kind in fields.values())
        return "quiet", ast.parse(f"{namedtuple}('Report', {list(fields)!r})({values})", mode="eval").body
    arguments = dict(zip((parameter.name for parameter in parameters), call.args, strict=False))
    arguments |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for parameter in parameters:
        if parameter.name != "problem" and parameter.default is parameter.empty:
            value = arguments.get(parameter.name)
            if value is None:
                return None
            is_list = get_origin(types[parameter.name]) is list
            return "input", ast.Subscript(value, ast.Constant(0), ast.Load()) if is_list else value
    if "problem" not in arguments:
        return None
    if _operator(call) == PLAIN and len(arguments) == 1:
        return "empty", ast.Constant("")
    return "plain", arguments["problem"]
