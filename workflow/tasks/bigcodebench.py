"""BigCodeBench (Zhuo et al. 2024, arXiv 2406.15877) as Problems, from its complete or its instruct prompts.

Its unittest cases mock, patch and write files, so they run beside the solution (verifier ``unittest``, trust ``shared``). Each
test method becomes a test of its own; imports, helpers and constants of the test module become the setup. Nothing is public but
what ``tasks.public=share`` makes so.
"""

import ast
import copy
import sys
from collections.abc import Mapping
from typing import Any

from workflow.problem import Problem
from workflow.tasks.left_out import LeftOut


def to_complete_problem(row: Mapping[str, Any]) -> Problem:
    """One row, asked with its docstring. Raises LeftOut where it needs more than the standard library
    and its ``libraries``."""
    return _problem(row, "complete_prompt")


def to_instruct_problem(row: Mapping[str, Any]) -> Problem:
    """One row, asked in natural language. Raises LeftOut where it needs more than the standard library
    and its ``libraries``."""
    return _problem(row, "instruct_prompt")


def _problem(row: Mapping[str, Any], prompt: str) -> Problem:
    reference = row["complete_prompt"] + row["canonical_solution"]
    module = ast.parse(row["test"])
    hidden = tuple(test for node in module.body if isinstance(node, ast.ClassDef) for test in _tests(node))
    setup = "\n".join(ast.unparse(node) for node in module.body if not _is_case(node) and not isinstance(node, ast.If))
    if missing := sorted(_packages(reference, row["test"]) - set(row["libraries"])):
        raise LeftOut(f"needs {', '.join(missing)}")
    if not hidden:
        raise ValueError("its test module has no test method")
    return Problem(
        id=row["task_id"],
        query=row[prompt],
        entry_point=row["entry_point"],
        public_tests=(),
        hidden_tests=hidden,
        test_setup=setup,
        reference=reference,
        verifier="unittest",
        source="bigcodebench",
    )


def _is_case(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and any(_is_test(part) for part in node.body)


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _tests(case: ast.ClassDef) -> list[str]:
    """The class once for each of its test methods, with the other ones taken out."""
    tests = []
    for method in (node for node in case.body if _is_test(node)):
        alone = copy.copy(case)
        alone.body = [node for node in case.body if node is method or not _is_test(node)]
        tests.append(ast.unparse(alone))
    return tests


def _packages(*sources: str) -> set[str]:
    """Top-level modules that the sources import from outside the standard library."""
    names: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)
