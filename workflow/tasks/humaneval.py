"""HumanEval (Chen et al. 2021, arXiv 2107.03374) as Problems, from its original JSONL or its public home.

Public tests are the doctests of the prompt. Hidden tests are the asserts of ``check``, one test each, without those
that the doctests show and those that test nothing; statements between them stay in front of the next assert.
"""

import ast
import doctest
from collections.abc import Mapping
from typing import Any

from workflow.problem import Problem

WRONG_DOCTESTS = frozenset({("HumanEval/47", "assert median([-10, 4, 6, 1000, 10, 20]) == 15.0")})
"""Doctests of the original that its own solution fails."""


def to_problem(row: Mapping[str, Any]) -> Problem:
    """One row of the original file (task_id, prompt, entry_point, canonical_solution, test)."""
    entry_point = row["entry_point"]
    public = [test for test in _doctests(row["prompt"], entry_point) if (row["task_id"], test) not in WRONG_DOCTESTS]
    hidden, setup = split_check(row["test"], {_normal(test, entry_point) for test in public}, entry_point)
    if not hidden:  # the doctests show every test: then they stay hidden
        public = []
        hidden, setup = split_check(row["test"], set(), entry_point)
    if not hidden:
        raise ValueError("its check function asserts nothing")
    return Problem(
        id=row["task_id"],
        query=row["prompt"],
        entry_point=entry_point,
        public_tests=tuple(public),
        hidden_tests=tuple(hidden),
        test_setup="\n".join([*_helpers(row["prompt"], entry_point), *setup]),
        reference=row["prompt"] + row["canonical_solution"],
        source="humaneval",
    )


def _doctests(prompt: str, entry_point: str) -> list[str]:
    function = next(node for node in ast.parse(prompt).body if isinstance(node, ast.FunctionDef) and node.name == entry_point)
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function) or "")
    except ValueError:  # a prompt sign in running text
        return []
    asserts = (_as_assert(example, entry_point) for example in examples)
    return list(dict.fromkeys(test for test in asserts if test is not None))


def _as_assert(example: doctest.Example, entry_point: str) -> str | None:
    """``>>> f(1)`` with the result ``2`` as ``assert f(1) == 2``; None where call or result is not an expression."""
    try:
        call, want = ast.parse(example.source.strip(), mode="eval").body, ast.parse(example.want.strip(), mode="eval").body
        ast.literal_eval(want)
    except (SyntaxError, ValueError):
        return None
    calls = [node.func.id for node in ast.walk(call) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return f"assert {ast.unparse(call)} == {ast.unparse(want)}" if entry_point in calls else None


class _Rename(ast.NodeTransformer):
    def __init__(self, entry_point: str) -> None:
        self.entry_point = entry_point

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("candidate", node.ctx) if node.id == self.entry_point else node


def _normal(test: str, entry_point: str) -> str:
    """The asserted expression, whatever the function is called and without the message."""
    statement = ast.parse(test).body[-1]
    assert isinstance(statement, ast.Assert)
    return ast.dump(_Rename(entry_point).visit(statement.test))


def split_check(test: str, shown: set[str], entry_point: str) -> tuple[list[str], list[str]]:
    """(hidden tests, setup statements) of a test module that defines ``check(candidate)``."""
    module = ast.parse(test)
    setup = [ast.unparse(node) for node in module.body if not _is_named(node, "check") and not _is_named(node, "METADATA")]
    check = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "check")
    tests: list[str] = []
    before: list[str] = []
    for node in check.body:
        if isinstance(node, ast.Assert):
            tells = any(isinstance(part, ast.Name) and part.id in ("candidate", entry_point) for part in ast.walk(node.test)) or before
            if not tells or _normal(ast.unparse(node), entry_point) in shown:
                continue
            node.msg = None
        before.append(ast.unparse(node))
        if any(isinstance(part, ast.Assert) for part in ast.walk(node)):
            tests.append("\n".join(before))
            before = []
    return tests, setup


def _is_named(node: ast.stmt, name: str) -> bool:
    targets = [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
    return name in targets or (isinstance(node, ast.FunctionDef) and node.name == name)


def _helpers(prompt: str, entry_point: str) -> list[str]:
    """Imports and helper functions of the prompt, which some checks call."""
    return [ast.unparse(node) for node in ast.parse(prompt).body if not _is_named(node, entry_point)]
