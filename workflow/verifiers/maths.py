"""Answers of mathematics, compared as expressions by math-verify, in a process of the box: simplifying may take for ever."""

import json
import re
from collections.abc import Mapping, Sequence

from workflow.problem import Problem
from workflow.verifiers.answer_text import read_end
from workflow.verifiers.runner import Examined, Runner
from workflow.verifiers.verifier import Verifier

_REPEATING = re.compile(r"(?<![\d.])(\d{0,20})\.(\d{0,20})\\(?:overline|bar)\s?(?:\{\s?(\d{1,20})\s?\}|(\d))")
"""A repeating decimal, of which math-verify reads the part in front of the line alone."""
COMPARE = """import json, logging, sys
logging.disable(logging.CRITICAL)
from math_verify import parse, verify
given = json.load(sys.stdin)
found = parse(given["answer"], parsing_timeout=None)
for test in given["tests"]:
    expected = parse(f"${test}$", parsing_timeout=None)
    print(json.dumps([bool(expected), bool(found), verify(expected, found, timeout_seconds=None)]), flush=True)
"""


class MathVerifier(Verifier):
    """The test is the expected value in LaTeX; equal values pass, however they are written."""

    form = "Work it out step by step and end with the final answer in \\boxed{}."
    answer = "the final answer as a text that ends on the value in \\boxed{}, for example `\\boxed{\\frac{1}{2}}`"
    libraries = ("math_verify",)

    def read_solution(self, text: str, problem: Problem) -> str:
        return read_end(text).strip()

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        solution = self.read_solution(answer, problem)
        if not solution:
            return Examined(["the answer is empty"] * len(tests))
        given = {"answer": write_fractions(solution), "tests": [write_fractions(test) for test in tests]}
        (result,), late = await runner.run_programs(COMPARE, [json.dumps(given)])
        compared = [json.loads(line) for line in result.output.splitlines()] if result.ok else []
        if result.ok and len(compared) != len(tests):
            raise ValueError(f"math-verify compared {len(compared)} of {len(tests)} answers")
        if not result.ok and "ModuleNotFoundError" in result.output:
            raise ValueError(f"{result.output}: add it to sandbox.libraries")
        if not result.ok:
            return Examined([f"the answer cannot be compared ({result.output[:200]})"] * len(tests), late)
        if unread := [test for test, (read, _, _) in zip(tests, compared, strict=True) if not read]:
            raise ValueError(f"{unread[0]!r} is no value in LaTeX: correct the problem's tests")
        return Examined([_fault(found, equal) for _, found, equal in compared], late)

    def controls(self, problem: Problem) -> Mapping[str, str]:
        return {"an empty answer": "", "a list of numbers": " ".join(map(str, range(-50, 200)))}


def write_fractions(latex: str) -> str:
    """The text with repeating decimals as fractions."""

    def write(found: re.Match[str]) -> str:
        whole, fixed, repeated = found[1] or "0", found[2], found[3] or found[4]
        numerator = int(whole + fixed + repeated) - int(whole + fixed)
        return f"\\frac{{{numerator}}}{{{10 ** len(fixed) * (10 ** len(repeated) - 1)}}}"

    return _REPEATING.sub(write, latex)


def _fault(found: bool, equal: bool) -> str | None:
    if equal:
        return None
    return "the value is not the right one" if found else "the answer holds no value"
