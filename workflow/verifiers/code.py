"""Answers that are Python code: functions, functions beside their tests, whole programs."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from workflow.code import extract_code
from workflow.problem import Problem
from workflow.verifiers.runner import Examined, Runner
from workflow.verifiers.verifier import Verifier

CONSTANTS = ("True", "False", "0", "1", "''", "[]")
EQUAL = """class Equal:
    __hash__ = None
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
    def __len__(self): return 1
    def __contains__(self, item): return True
    def __iter__(self): return iter(())
    def __getitem__(self, item): return self
    __abs__ = __sub__ = __rsub__ = __neg__ = lambda self, *other: self
    __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
"""
SHOWN_CHARACTERS = 200


class FunctionVerifier(Verifier):
    """Tests are Python snippets that ``assert`` on ``candidate`` (also bound to ``entry_point``)."""

    form = "Answer with the complete function in one ```python code block."
    answer = "the final solution as a text of Python code that defines `{entry_point}`"
    trust = "split"
    is_code = True
    assert_as_test = "{test}"

    def read_solution(self, text: str, problem: Problem) -> str:
        return extract_code(text, problem.entry_point)

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        return await runner.test_apart(self.read_solution(answer, problem), tests)

    def controls(self, problem: Problem) -> Mapping[str, str]:
        function = f"def {problem.entry_point}(*args, **kwargs):\n    return "
        controls = {"return None": function + "None", "the always-equal object": EQUAL + function + "Equal()"}
        return controls | {f"the constant {constant}": function + constant for constant in CONSTANTS}


class UnittestVerifier(FunctionVerifier):
    """Each test is the source of a TestCase with one test method, run beside the solution."""

    form = "Answer with the complete function and its imports in one ```python code block."
    answer = f"{FunctionVerifier.answer}, with its imports"
    trust = "shared"
    assert_as_test = "import unittest\nclass Test(unittest.TestCase):\n    def test(self):\n        {test}\n"

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        return await runner.test_beside(self.read_solution(answer, problem), tests)


class StdioVerifier(FunctionVerifier):
    """Tests are JSON objects with the texts ``stdin`` and ``stdout``; the output is compared in the trusted process.

    Compared as LiveCodeBench's harness does: lines without blanks around them, numbers by their values.
    """

    form = "Answer with a complete program that reads standard input and writes standard output, in one ```python code block."
    answer = "the final solution as a text: a whole Python program that reads standard input and writes standard output"
    trust = "parent"
    assert_as_test = ""

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        cases = [json.loads(test) for test in tests]
        longest = max((len(case["stdout"].encode("utf-8", "replace")) for case in cases), default=0)
        source, inputs = self.read_solution(answer, problem), [case["stdin"] for case in cases]
        runs, late = await runner.run_programs(source, inputs, output_bytes=2 * longest)
        results: list[str | None] = []
        for case, run in zip(cases, runs, strict=True):
            if not run.ok:
                results.append(f"the program failed: {run.output[:SHOWN_CHARACTERS]}")
            elif not is_same_output(run.output, case["stdout"]):
                shown = f"for the input {case['stdin'][:SHOWN_CHARACTERS]!r} it wrote {run.output[:SHOWN_CHARACTERS]!r}"
                results.append(shown)
            else:
                results.append(None)
        return Examined(results, late)

    def controls(self, problem: Problem) -> Mapping[str, str]:
        return {"a program that writes nothing": "pass", "the constant 0": "print(0)"}


def is_same_output(found: str, expected: str) -> bool:
    """True where the lines are equal but for blanks around them, or hold the same numbers (``0.50`` and ``0.5``)."""
    lines, others = split_lines(found), split_lines(expected)
    if len(lines) != len(others):
        return False
    differing = [(_numbers(line), _numbers(other)) for line, other in zip(lines, others, strict=True) if line != other]
    return all(numbers is not None and numbers == others for numbers, others in differing)


def split_lines(text: str) -> list[str]:
    """The lines that are compared: no blanks around them, no blank ones at either end."""
    return [line.strip() for line in text.strip().splitlines()]


def _numbers(line: str) -> list[Decimal] | None:
    """The numbers that a line consists of; None where it holds anything else."""
    try:
        numbers = [Decimal(word) for word in line.split()]
    except InvalidOperation:
        return None
    return numbers if all(number.is_finite() for number in numbers) else None
