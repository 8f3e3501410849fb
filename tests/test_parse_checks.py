"""What the language refuses, and how it says so."""

import re
import textwrap

import pytest

from workflow.language.parse import MAX_SOURCE_BYTES, parse_source
from workflow.nano.simulated.teacher import PLANS
from workflow.outcome import Outcome
from workflow.program import Refusal, Workflow
from workflow.reference import FOLDER, load_reference_workflows


def call(*lines: str, before: str = "", methods: str = "") -> str:
    """A workflow whose ``__call__`` has these lines and a return."""
    body = textwrap.indent("\n".join([*lines, "return answer"] if lines else ["return ''"]), " " * 8)
    return f"{before}class Workflow:\n    async def __call__(self, problem):\n{body}\n{textwrap.indent(methods, '    ')}"


GENERATE = "answer = await self.generate(problem)"


def refused(source: str, outcome: Outcome = Outcome.FORBIDDEN) -> Refusal:
    refusal = parse_source(source)
    assert isinstance(refusal, Refusal), "the workflow was accepted"
    assert refusal.outcome is outcome, refusal.message
    return refusal


ALLOWED = {
    "gather": call("drafts = await asyncio.gather(self.generate(problem), self.custom(problem, 'x'))", "answer = drafts[0]"),
    "gather_comprehension": call("answer = (await asyncio.gather(*[self.generate(problem) for _ in range(3)]))[0]"),
    "import_asyncio": call(GENERATE, before="import asyncio\n"),
    "harmless_imports": call(GENERATE, before="import re, math, json, random\nfrom collections import Counter\nfrom typing import List\n"),
    "import_inside": call("import itertools", GENERATE),
    "tasks": call("tasks = [self.generate(problem) for _ in range(3)]", "for task in tasks:", "    answer = await task"),
    "task_list": call("tasks = []", "tasks.append(self.generate(problem))", "answer, = await asyncio.gather(*tasks)"),
    "named_coroutine": call("draft = self.generate(problem)", "answer = await draft"),
    "create_task": call("task = asyncio.create_task(self.generate(problem))", "answer = await task"),
    "task_group": call(
        "async with asyncio.TaskGroup() as group:", "    task = group.create_task(self.generate(problem))", "answer = task.result()"
    ),
    "wait_for": call("answer = await asyncio.wait_for(self.generate(problem), 10)"),
    "ternary": call("answer = await (self.generate(problem) if problem.public_tests else self.custom(problem, 'x'))"),
    "helper_method": call(
        "answer = await self.draft(problem)", methods="async def draft(self, problem):\n    return await self.generate(problem)"
    ),
    "sync_helper_returns_coroutine": call(
        "answer = await self.draft(problem)", methods="def draft(self, problem):\n    return self.generate(problem)"
    ),
    "helper_function": call("answer = clean(await self.generate(problem))", before="def clean(text):\n    return text.strip()\n\n"),
    "static_method": call(
        "answer = self.clean(await self.generate(problem))", methods="@staticmethod\ndef clean(text):\n    return text.strip()"
    ),
    "init": call("answer = self.seen", methods="def __init__(self):\n    self.seen = ''"),
    "class_constant": "class Workflow:\n    ROUNDS = 2\n    async def __call__(self, problem):\n        return str(self.ROUNDS)",
    "attribute": call("self.draft = await self.generate(problem)", "answer = self.draft"),
    "docstrings": call('"""Text."""', GENERATE, before='"""Text."""\n').replace("Workflow:", 'Workflow:\n    """Text."""\n'),
    "annotations": "class Workflow(object):\n    async def __call__(self, problem: str) -> str:\n        x: int = 2\n        return str(x)",
    "own_name_like_a_builtin": call("input = await self.generate(problem)", "answer = input"),
    "caught_errors": call(
        "try:", "    answer = await self.generate(problem)", "except (OperatorError, BudgetExceeded):", "    answer = ''"
    ),
    "print": call(GENERATE, "print(answer)"),
    "lambda": call("draft = lambda: self.generate(problem)", "answer = await draft()"),
    "match": call("match 3:", "    case 3:", "        answer = ''", "    case other:", "        answer = str(other)"),
    "keywords": call("answer = await self.revise(problem=problem, solution='', feedback='')"),
}


@pytest.mark.parametrize("source", ALLOWED.values(), ids=ALLOWED.keys())
def test_honest_code_is_accepted(source: str):
    parsed = parse_source(source)
    assert isinstance(parsed, Workflow), parsed


REFUSED = {
    "import_os": (call("import os", "answer = os.name"), 3, "import os"),
    "import_submodule": (call(GENERATE, before="import asyncio.subprocess\n"), 1, "import asyncio.subprocess"),
    "from_os": (call("answer = path", before="from os import path\n"), 1, "from os import"),
    "from_asyncio": (call(GENERATE, before="from asyncio import create_subprocess_shell\n"), 1, "create_subprocess_shell"),
    "star_import": (call(GENERATE, before="from math import *\n"), 1, "import *"),
    "relative_import": (call(GENERATE, before="from . import x\n"), 1, "from . import"),
    "exec": (call("exec('1')", GENERATE), 3, "exec"),
    "eval": (call("answer = eval('1')"), 3, "eval"),
    "open": (call("answer = open('/etc/passwd').read()"), 3, "open"),
    "dunder_import": (call("answer = __import__('os')"), 3, "__import__"),
    "getattr": (call("answer = getattr(self, problem.query)"), 3, "getattr"),
    "globals": (call("answer = globals()"), 3, "globals"),
    "builtins": (call("answer = __builtins__"), 3, "__builtins__"),
    "dunder_attribute": (call("answer = self.__class__"), 3, ".__class__"),
    "subclasses": (call("answer = ().__class__.__bases__[0].__subclasses__()"), 3, "__"),
    "frame": (call("answer = self.generate(problem).cr_frame"), 3, "cr_frame"),
    "asyncio_subprocess": (call("answer = await asyncio.create_subprocess_shell('ls')"), 3, "asyncio.create_subprocess_shell"),
    "unknown_operator": (call("answer = await self.solve(problem)"), 3, "self.solve does not exist; the operators are generate, custom"),
    "unknown_operator_in_helper": (call(GENERATE, methods="async def more(self):\n    return await self.vote()"), 6, "self.vote"),
    "replaced_operator": (call("self.generate = 1", GENERATE), 3, "self.generate is an operator"),
    "method_named_like_an_operator": (call(GENERATE, methods="async def test(self):\n    return 1"), 5, "method test"),
    "second_class": (call(GENERATE, before="class Tool:\n    pass\n\n\n"), 1, "class Tool"),
    "nested_class": (call("class Tool:", "    pass", GENERATE), 3, "class Tool"),
    "base_class": (call(GENERATE).replace("Workflow:", "Workflow(str):"), 1, "base classes"),
    "metaclass": (call(GENERATE).replace("Workflow:", "Workflow(metaclass=type):"), 1, "keywords"),
    "class_decorator": ("@staticmethod\n" + call(GENERATE), 2, "decorators"),
    "method_decorator": (call(GENERATE, methods="@classmethod\ndef draft(self):\n    return 1"), 6, "decorator"),
    "special_method": (call(GENERATE, methods="def __getattr__(self, name):\n    return 1"), 5, "__getattr__"),
    "init_with_parameters": (call(GENERATE, methods="def __init__(self, llm):\n    self.llm = llm"), 5, "__init__"),
    "no_self": (call(GENERATE, methods="def clean(text):\n    return text"), 5, "self"),
    "no_call": ("class Workflow:\n    pass", 1, "no method __call__"),
    "two_calls": (call(GENERATE, methods="async def __call__(self, problem):\n    return ''"), 1, "2 methods __call__"),
    "sync_call": ("class Workflow:\n    def __call__(self, problem):\n        return ''", 2, "async def __call__(self, problem)"),
    "call_without_problem": ("class Workflow:\n    async def __call__(self):\n        return ''", 2, "async def __call__(self, problem)"),
    "call_with_more": (
        "class Workflow:\n    async def __call__(self, problem, n):\n        return ''",
        2,
        "async def __call__(self, problem)",
    ),
    "no_return": ("class Workflow:\n    async def __call__(self, problem):\n        await self.generate(problem)", 2, "returns no answer"),
    "generator": ("class Workflow:\n    async def __call__(self, problem):\n        yield ''", 2, "yield"),
    "top_level_code": (call(GENERATE, before="print('x')\n"), 1, "print('x')"),
    "main_guard": (call(GENERATE) + "\nif True:\n    pass", 6, "if True:"),
    "class_body_code": (
        "class Workflow:\n    for i in (1, 2):\n        pass\n    async def __call__(self, problem):\n        return ''",
        2,
        "for i in",
    ),
    "undefined_name": (call("answer = await self.generate(query)"), 3, "`query` is not defined"),
    "discarded_call": (call("self.generate(problem)", "answer = ''"), 3, "self.generate(problem)` is not awaited"),
    "returned_coroutine": (
        "class Workflow:\n    async def __call__(self, problem):\n        return self.generate(problem)",
        3,
        "not awaited",
    ),
    "report_of_a_coroutine": (call("answer = self.test(problem, '').feedback"), 3, "not awaited"),
    "coroutine_as_condition": (call(GENERATE, "if self.test(problem, answer):", "    pass"), 4, "not awaited"),
    "coroutine_as_argument": (call("answer = await self.revise(problem, self.generate(problem), '')"), 3, "self.generate(problem)"),
    "coroutines_to_ensemble": (call("answer = await self.ensemble(problem, [self.generate(problem) for _ in range(3)])"), 3, "not awaited"),
    "named_but_not_awaited": (call("draft = self.generate(problem)", "answer = draft.strip()"), 3, "not awaited"),
    "collected_but_not_awaited": (
        call("drafts = [self.generate(problem) for _ in range(3)]", "answer = await self.ensemble(problem, drafts)"),
        3,
        "not awaited",
    ),
    "in_a_text": (call("answer = f'{self.generate(problem)}'"), 3, "not awaited"),
    "own_method_not_awaited": (call("answer = self.draft().strip()", methods="async def draft(self):\n    return ''"), 3, "self.draft()"),
    "huge_number": (call(f"answer = str(0x{'f' * 5000})"), 3, "256 bits"),
    "deep": (call(f"answer = {'-' * 90}1"), 3, "nested more than"),
}


@pytest.mark.parametrize(("source", "line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_names_the_construct_and_its_line(source: str, line: int, words: str):
    refusal = refused(source)
    assert refusal.line == line, refusal.message
    assert words in refusal.message
    assert refusal.message.startswith(f"Line {line}: ") and refusal.message.endswith(".")


MANY = """import subprocess
class Helper:
    pass
class Workflow:
    def __init__(self, llm):
        super().__init__()
    async def __call__(self, problem, retries=2):
        plan = self.plan(problem)
        subprocess.run(plan)
        return getattr(plan, problem.query)
if __name__ == "__main__":
    pass
"""


def test_all_faults_are_told_in_the_order_of_their_lines():
    refusal = refused(MANY)
    assert refusal.line == 1
    assert re.findall(r"Line (\d+): ", refusal.message) == ["1", "2", "5", "8", "10"]


def test_a_fault_that_is_repeated_is_told_once_and_of_very_many_the_first():
    assert refused(call("x = eval('1')", "y = eval('2')", GENERATE)).message == "Line 3: `eval` is not allowed."
    many = refused(call(*(f"x = undefined_{number}" for number in range(20)), GENERATE)).message
    assert "Line 10: the name `undefined_7`" in many and many.endswith(". And 12 more.")


def test_an_overlong_source_is_refused():
    assert str(MAX_SOURCE_BYTES) in refused(call(GENERATE) + "\n#" + "x" * MAX_SOURCE_BYTES).message


def test_too_many_nodes_are_refused():
    assert "syntax nodes" in refused(call(f"answer = [{'1,' * 5000}]")).message


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        *(("await (", 3), ("'\0'", None), ("'\ud800'", None), ("[x for x in await y", 3), ("9" * 5000, 3)),
        *(("-" * 9000 + "1", None), ("a" + ".b" * 7000, None), ("(" * 300 + "1" + ")" * 300, 3), ("not " * 3000 + "1", None), ("f'{'", 3)),
    ],
)
def test_what_python_cannot_parse_is_a_syntax_error(expression: str, line: int | None):
    refusal = refused(call(f"answer = {expression}"), Outcome.SYNTAX_ERROR)
    assert line is None or refusal.line == line


def test_what_only_the_compiler_sees_is_a_syntax_error_with_its_line():
    refusal = refused(call(GENERATE, methods="def helper(self):\n    return await self.generate('')"), Outcome.SYNTAX_ERROR)
    assert refusal.line == 6
    assert refused(call(GENERATE, "break"), Outcome.SYNTAX_ERROR).line == 4


def test_every_plan_of_the_teacher_is_accepted():
    for plan in PLANS.values():
        assert isinstance(parse_source(plan.source.strip("\n")), Workflow), plan.words


def test_every_reference_file_is_a_workflow():
    workflows = load_reference_workflows()
    assert set(workflows) == {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert {"single_call", "self_consistency_3", "self_refine_3", "test_and_revise_3", "debate", "blender"} <= set(workflows)
    assert next(iter(workflows)) == "single_call"
    assert len({workflow.fingerprint for workflow in workflows.values()}) == len(workflows)
