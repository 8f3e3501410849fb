"""MBPP (Austin et al. 2021, arXiv 2108.07732), full and sanitized, as Problems.

The first assert is public, as in AFlow and FlowReasoner; the other asserts and the challenge tests are hidden, without those
that repeat the public one. The query ends on the signature of the function, which the text alone does not tell.
"""

import ast
from collections.abc import Mapping
from typing import Any

from workflow.problem import Problem
from workflow.tasks.left_out import LeftOut
from workflow.tasks.public import hide_both_answers, without_shown


def to_problem(row: Mapping[str, Any]) -> Problem:
    """One row: ``task_id``, ``text`` or ``prompt``, ``code``, ``test_list`` and where there are such ``challenge_test_list``,
    ``test_setup_code``, ``test_imports``.

    Raises:
        LeftOut: no test calls a function of the reference, or their setup needs one of its classes.
    """
    text = row.get("text") or row["prompt"]
    reference = row["code"].replace("\r\n", "\n").expandtabs(4)
    tests = list(dict.fromkeys(_clean(test) for test in [*row["test_list"], *row.get("challenge_test_list", [])]))
    module = ast.parse(reference)
    function = _function(module, tests)
    if function is None:
        raise LeftOut("its tests call no function of its reference")
    public, hidden = without_shown(tests[:1], tests, function.name)
    given = [*row.get("test_imports", []), row.get("test_setup_code", "").replace("\r\n", "\n")]
    setup = "\n".join([*(ast.unparse(node) for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)), *given]).strip()
    if own := sorted(_find_names_read(ast.parse(setup)) & {node.name for node in module.body if isinstance(node, ast.ClassDef)}):
        raise LeftOut(f"its tests are set up with {own[0]}, which only its reference defines")
    signature = f"def {function.name}({ast.unparse(function.args)}):"
    problem = Problem(
        id=f"MBPP/{row['task_id']}",
        query=f"{text.split(chr(10) + chr(10) + 'def ')[0].strip()}\n\n{signature}",
        entry_point=function.name,
        public_tests=public,
        hidden_tests=hidden,
        test_setup=setup,
        reference=reference,
        source="mbpp",
    )
    return hide_both_answers(problem)


def _clean(test: str) -> str:
    return test.replace("\r\n", "\n").strip()


def _find_names_read(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _function(reference: ast.Module, tests: list[str]) -> ast.FunctionDef | None:
    """The reference's function that the tests call; the last one defined where they call several."""
    called = {
        node.func.id
        for test in tests
        for node in ast.walk(ast.parse(test))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    functions = [node for node in reference.body if isinstance(node, ast.FunctionDef) and node.name in called]
    return functions[-1] if functions else None
