"""Answers of mathematics, compared as expressions by math-verify, in a process of the box: simplifying may take for ever."""

import json
from collections.abc import Mapping, Sequence

from workflow.problem import Problem
from workflow.verifiers.runner import Examined, Runner
from workflow.verifiers.verifier import Verifier

MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
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
        return text[-MAX_CHARACTERS:].rpartition("</think>")[2].strip()

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        solution = self.read_solution(answer, problem)
        if not solution:
            return Examined(["the answer is empty"] * len(tests))
        (result,), late = await runner.run_programs(COMPARE, [json.dumps({"answer": solution, "tests": list(tests)})])
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


def _fault(found: bool, equal: bool) -> str | None:
    if equal:
        return None
    return "the value is not the right one" if found else "the answer holds no value"
