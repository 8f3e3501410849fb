"""Finds the workers that a workflow asks by names that do not exist."""

import ast
from collections.abc import Collection, Iterator

from workflow.operators import OPERATORS
from workflow.worker.crew import problem_of_worker


def find_unknown_workers(workflow: ast.ClassDef, known: Collection[str]) -> Iterator[tuple[int, str]]:
    """Line and problem of each ``self.OPERATOR(..., worker="name")`` whose name is written out and no worker's.

    Args:
        known: names of the run's workers; empty where it has one, without a name.
    """
    for call in ast.walk(workflow):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in OPERATORS):
            continue
        for keyword in call.keywords:
            written = keyword.value if keyword.arg == "worker" and isinstance(keyword.value, ast.Constant) else None
            if written is not None and (problem := problem_of_worker(written.value, known)):
                yield written.lineno, problem
