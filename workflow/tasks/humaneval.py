"""HumanEval (Chen et al. 2021, arXiv 2107.03374) as Problems, from its original JSONL or its public home.

Public tests are the examples of the prompt. Hidden tests are the asserts of ``check``, one test each, without those
that the examples show and those that test nothing; statements between them stay in front of the next assert.
"""

import ast
from collections.abc import Mapping
from typing import Any

from workflow.problem import Problem
from workflow.tasks.examples import asserted, find_examples
from workflow.tasks.public import hide_both_answers, without_shown

WRONG_EXAMPLES = frozenset(
    {
        ("HumanEval/47", "assert median([-10, 4, 6, 1000, 10, 20]) == 15.0"),
        ("HumanEval/116", "assert sort_array([1, 5, 2, 3, 4]) == [1, 2, 3, 4, 5]"),
        ("HumanEval/116", "assert sort_array([-2, -3, -4, -5, -6]) == [-6, -5, -4, -3, -2]"),
        ("HumanEval/130", "assert tri(1) == 3"),
        ("HumanEval/130", "assert tri(4) == 3"),
        ("HumanEval/148", "assert bf('Earth', 'Mercury') == 'Venus'"),
    }
)
"""Examples of the original that its own solution fails."""


def to_problem(row: Mapping[str, Any]) -> Problem:
    """One row of the original file (task_id, prompt, entry_point, canonical_solution, test)."""
    entry_point = row["entry_point"]
    public = [test for test in find_examples(row["prompt"], entry_point) if (row["task_id"], test) not in WRONG_EXAMPLES]
    hidden, setup = split_check(row["test"], {asserted(test, entry_point) for test in public}, entry_point)
    if not hidden:  # the examples show every test
        tests, setup = split_check(row["test"], set(), entry_point)
        if not tests:
            raise ValueError("its check function asserts nothing")
        public, hidden = without_shown(public, tests, entry_point)
    problem = Problem(
        id=row["task_id"],
        query=row["prompt"],
        entry_point=entry_point,
        public_tests=tuple(public),
        hidden_tests=tuple(hidden),
        test_setup="\n".join([*_helpers(row["prompt"], entry_point), *setup]),
        reference=row["prompt"] + row["canonical_solution"],
        source="humaneval",
    )
    return hide_both_answers(problem)


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
            if not tells or asserted(ast.unparse(node), entry_point) in shown:
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
