"""LiveCodeBench (Jain et al. 2024, arXiv 2403.07974) as Problems: contest problems with dates, so that a model can be held to newer ones.

Problems of LeetCode call a function, the others read standard input. Public tests are the published examples.
"""

import ast
import base64
import io
import json
import pickle
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from workflow.problem import Problem
from workflow.tasks.left_out import LeftOut

_OPENED = "string re datetime collections heapq bisect copy math random statistics itertools functools operator builtins typing".split()  # noqa: SIM905
IMPORTS = (
    "; ".join(f"from {name} import *" for name in _OPENED) + f"\nimport {', '.join(name for name in _OPENED if name != 'builtins')}, sys"
)
"""What LiveCodeBench's own harness puts before every answer; its query shows them, so that they hold for solutions here, too."""
LISTED = "def listed(value):\n    return list(value) if isinstance(value, tuple) else value"
"""Its harness takes a tuple for a list."""
LEVELS = {"easy": 1, "medium": 2, "hard": 3}


def to_problem(row: Mapping[str, Any]) -> Problem:
    """One row of ``code_generation_lite``. Raises LeftOut where its contest is not between ``tasks.since`` and ``tasks.until``."""
    date = str(row["contest_date"])[:10]
    if not (row["since"] or "") <= date <= (row["until"] or "9999"):
        raise LeftOut(f"its contest was on {date}, outside of tasks.since and tasks.until")
    public, private = read_cases(row["public_test_cases"]), read_cases(row["private_test_cases"])
    if not private:
        raise LeftOut("it has no private test")
    name = json.loads(row["metadata"] or "{}").get("func_name", "")
    is_function = private[0]["testtype"] == "functional"
    signature = (
        f"\n\nWrite this function:\n```python\n{IMPORTS}\n\n{read_signature(row['starter_code'], name)}\n```\n" if is_function else ""
    )
    return Problem(
        id=f"LiveCodeBench/{row['question_id']}",
        query=row["question_content"].rstrip() + signature,
        entry_point=name if is_function else "",
        public_tests=tuple(_tests(public)),
        hidden_tests=tuple(_tests(private)),
        test_setup=LISTED if is_function else "",
        level=LEVELS.get(row["difficulty"]),
        verifier="function" if is_function else "stdio",
        source="livecodebench",
    )


def read_cases(text: str) -> list[dict[str, str]]:
    """Test cases from JSON, or from JSON that was pickled, compressed and coded in base64, as the private ones are."""
    try:
        return json.loads(text)
    except ValueError:
        packed = zlib.decompress(base64.b64decode(text))
        return json.loads(_TextUnpickler(io.BytesIO(packed)).load())


class _TextUnpickler(pickle.Unpickler):
    """For one text: a downloaded pickle must not name anything to call."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"its private tests name {module}.{name}")


def read_signature(starter: str, name: str) -> str:
    """``class Solution`` with a method that is to be written, as a plain function without a body."""
    for node in ast.walk(ast.parse(starter.rstrip() + " ...")):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
            return ast.unparse(node)
    raise ValueError(f"its starter code does not define {name}")


def _tests(cases: Iterable[Mapping[str, str]]) -> Iterable[str]:
    for case in cases:
        if case["testtype"] == "functional":
            values = ", ".join(repr(json.loads(line)) for line in case["input"].splitlines() if line.strip())
            expected, call = json.loads(case["output"]), f"candidate({values})"
            yield f"assert {f'listed({call})' if isinstance(expected, list) else call} == {expected!r}"
        else:
            yield json.dumps({"stdin": case["input"], "stdout": case["output"]})
