"""Harmless habits are put right before the checks, without changing what a workflow does."""

import textwrap

import pytest

from workflow.language.parse import parse_source
from workflow.program import Refusal, Workflow


def repaired(body: str, before: str = "", parameters: str = "self, problem", init: str = "") -> Workflow:
    lines = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    source = f"{before}class Workflow:\n{textwrap.indent(init, '    ')}    async def __call__({parameters}):\n{lines}\n"
    parsed = parse_source(source)
    assert isinstance(parsed, Workflow), parsed.message
    return parsed


PLAIN = repaired("return await self.generate(problem)")


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"before": "from __future__ import annotations\n"}, "from __future__"),
        ({"before": "import os, sys\nfrom dataclasses import dataclass\n"}, "unused import"),
        ({"before": "import logging\nlogger = logging.getLogger(__name__)\nlogger.info('starts')\n"}, "logging"),
        ({"parameters": "self, problem, tries: int = 2, *args, deep=False, **kwargs"}, "default parameters"),
    ],
)
def test_what_has_no_effect_is_taken_out_and_leaves_the_same_workflow(changed: dict[str, str], name: str) -> None:
    parsed = repaired("return await self.generate(problem)", **changed)
    assert parsed.repairs[0] == name and parsed.fingerprint == PLAIN.fingerprint and parsed.units == PLAIN.units


def test_a_parameter_that_is_read_becomes_an_assignment_that_counts() -> None:
    parsed = repaired('"""Text."""\nreturn await self.generate(problem, hint)', parameters="self, problem, hint='Short.', unused=1")
    assert "hint = 'Short.'" in parsed.source and "unused" not in parsed.source and parsed.units == PLAIN.units + 1


@pytest.mark.parametrize("parameters", ["self, problem, n", "self, problem, n=len('ab')", "self, problem, **options"])
def test_parameters_whose_values_are_unknown_are_refused(parameters: str) -> None:
    source = f"class Workflow:\n    async def __call__({parameters}):\n        options, n = {{}}, 1\n        return str(options) + str(n)\n"
    source = source.replace("options, n = {}, 1\n        ", "") if "options" in parameters else source
    assert isinstance(parse_source(source), Refusal)


def test_a_constructor_with_defaults_is_one_without_parameters() -> None:
    init = "def __init__(self, llm=None, rounds=2):\n    super().__init__()\n    self.rounds = rounds\n"
    parsed = repaired("return str(self.rounds)", init=init)
    assert parsed.repairs == ("super().__init__()", "default parameters") and "def __init__(self):" in parsed.source
    assert "rounds = 2" in parsed.source and "llm" not in parsed.source


def test_a_constructor_that_only_calls_its_base_is_empty() -> None:
    assert "pass" in repaired("return ''", init="def __init__(self):\n    super().__init__()\n").source


def test_a_log_line_that_asks_an_operator_stays_and_is_refused() -> None:
    source = "import logging\nclass Workflow:\n    async def __call__(self, problem):\n"
    refusal = parse_source(source + "        logging.info(await self.generate(problem))\n        return ''\n")
    assert isinstance(refusal, Refusal) and "import logging" in refusal.message


def test_getattr_with_a_known_name_is_an_attribute_and_shows_operators() -> None:
    parsed = repaired(
        "tests = getattr(problem, 'public_tests', None)\nask = getattr(self, 'generate')\nreturn await ask(problem, str(tests))"
    )
    assert parsed.repairs == ("getattr",) and "problem.public_tests" in parsed.source and parsed.operators == ("generate",)


@pytest.mark.parametrize(
    "body",
    [
        "a = await self.generate(problem)\nreturn getattr(a, 'code', a)",
        "a = await self.review(problem, '')\nreturn str(getattr(a, 'feedback', None))",
        "problem = problem.query\nreturn getattr(problem, 'query', problem)",
        "return await self.ask(problem.query)\n    async def ask(self, problem):\n        return getattr(problem, 'query', problem)",
        "return getattr(problem, 'query', await self.generate(problem))",
    ],
)
def test_a_default_that_may_be_needed_is_not_taken_away(body: str) -> None:
    lines = "\n".join(line if line.startswith(" ") else " " * 8 + line for line in body.splitlines())
    parsed = parse_source(f"class Workflow:\n    async def __call__(self, problem):\n{lines}\n")
    assert isinstance(parsed, Refusal) and "getattr" in parsed.message


@pytest.mark.parametrize(
    "call",
    [
        "getattr(self, '_x')",
        "getattr(problem, '__class__')",
        "getattr(self, problem.query)",
        "getattr(self, 'x', 1)",
        "getattr(problem, 'class')",
    ],
)
def test_getattr_beyond_that_is_refused(call: str) -> None:
    assert isinstance(parse_source(f"class Workflow:\n    async def __call__(self, problem):\n        return {call}\n"), Refusal)


def test_faults_keep_the_lines_of_the_source_as_it_was_written() -> None:
    source = (
        "from __future__ import annotations\nimport os\nclass Workflow:\n    async def __call__(self, problem):\n        return eval('1')\n"
    )
    refusal = parse_source(source)
    assert isinstance(refusal, Refusal) and refusal.message == "Line 5: `eval` is not allowed."
