"""Running tests on a solution: the problem's public ones, or one that the worker writes."""

import ast
from typing import TypedDict

from workflow.code import extract_code
from workflow.operators.operator import CostClass, Operator, section
from workflow.text import cut_thoughts

MAX_TEST_CHARACTERS = 2000
MAX_TEST_LINES = 200
"""Lines with an assert that are tried."""
MAX_TEST_DEPTH = 50
"""Nesting of an assert's syntax; deeper ones are beyond those who write them out again by recursion."""

CAUTION = "The test below was written by a worker and may itself be wrong."
NO_TEST = "The worker wrote no usable test, so nothing was checked."

_BUILTIN_NAMES = """abs all any bool bytes complex dict divmod enumerate filter float frozenset int isinstance len list map max min pow
range repr reversed round set sorted str sum tuple type zip"""
_BUILTINS = frozenset(_BUILTIN_NAMES.split())


class TestingReport(TypedDict):
    """What ``test`` found."""

    passed: bool
    feedback: str


class Test(Operator):
    """Runs the problem's public tests on a solution; ``feedback`` shows what failed.

    A problem without public tests gets one assert that the worker writes from ``problem``, which may be wrong.
    ``passed`` means that a test ran and passed: where the worker's reply holds no usable assert, it is False.
    """

    __test__ = False  # not a pytest class

    name = "test"
    system = "You are a test engineer. You work out by hand what a function must return and write it down as an assert."
    prompt = """<problem>
{problem}
</problem>
{entry_point}Write one short test for the function: a single line `assert {call}(...) == ...` with literal values. \
Answer with that line in one ```python code block."""
    cost = CostClass.TEST_RUN
    for_code = True

    async def __call__(self, problem: str, solution: str) -> TestingReport:
        entry_point = self.context.problem.entry_point
        code = self.verifier.read_solution(solution, self.context.problem)
        public = self.context.problem.public_tests
        if public:
            report = await self.context.run_tests(code, public)
            return {"passed": report.passed, "feedback": report.feedback}
        if not self.verifier.assert_as_test:
            return {"passed": False, "feedback": NO_TEST}
        reply = await self._ask(problem=problem, entry_point=section("entry_point", entry_point), call=entry_point)
        test = find_assert(extract_code(reply), entry_point) or find_assert(cut_thoughts(reply), entry_point)
        if test is None:
            return {"passed": False, "feedback": NO_TEST}
        report = await self.context.run_tests(code, (self.verifier.assert_as_test.format(test=test),))
        return {"passed": report.passed, "feedback": "" if report.passed else f"{CAUTION}\n{report.feedback}"}


def find_assert(text: str, entry_point: str) -> str | None:
    """The first assert in a worker's text that calls the function and needs nothing but builtins; None where there is none."""
    lines = [line.strip() for line in text.splitlines() if "assert" in line][:MAX_TEST_LINES]
    for source in (text, *lines):
        if len(source) > MAX_TEST_CHARACTERS:
            continue
        try:
            tree = ast.parse(source)
            asserts = () if _is_deep(tree) else (node for node in ast.walk(tree) if isinstance(node, ast.Assert))
            found = next((node for node in asserts if _is_usable(node, entry_point)), None)
            if found is not None:
                return ast.unparse(ast.Assert(found.test, None))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _is_deep(tree: ast.Module) -> bool:
    """Level by level and without recursion, so that no tree can exhaust the stack."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_TEST_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return False
    return True


def _is_usable(test: ast.Assert, entry_point: str) -> bool:
    nodes = list(ast.walk(test.test))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {node.arg for node in nodes if isinstance(node, ast.arg)}
    free = {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound
    private = any(isinstance(node, ast.Attribute) and node.attr.startswith("_") for node in nodes)
    return entry_point in free and free <= _BUILTINS | {entry_point} and not private
