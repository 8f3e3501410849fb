"""Size, topology and fingerprint of workflows."""

import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.language.parse import parse_source
from workflow.nano.simulated.teacher import PLANS
from workflow.program import Workflow
from workflow.reference import load_reference_workflows


def parsed(body: str, before: str = "") -> Workflow:
    source = f"{before}class Workflow:\n    async def __call__(self, problem):\n{textwrap.indent(textwrap.dedent(body).strip(), ' ' * 8)}"
    workflow = parse_source(source)
    assert isinstance(workflow, Workflow), workflow
    return workflow


LOOP = """
answer = await self.generate(problem)
for _ in range({rounds}):
    report = await self.test(problem, answer)
    if report.passed:
        break
    answer = await self.revise(problem, answer, report.feedback)
return answer
"""


def test_a_single_call_has_three_units():
    workflow = parsed("return await self.generate(problem)")
    assert (workflow.units, workflow.operators, workflow.branches, workflow.loops, workflow.depth) == (3, ("generate",), 0, 0, 0)


def test_naming_the_answer_before_returning_it_costs_nothing():
    assert parsed("answer = await self.generate(problem)\nreturn answer").units == 3


def test_a_test_loop_has_twelve_units_whatever_its_rounds():
    workflow = parsed(LOOP.format(rounds=3))
    assert (workflow.units, workflow.branches, workflow.loops, workflow.depth) == (12, 1, 1, 2)
    assert workflow.operators == ("generate", "test", "revise")
    assert parsed(LOOP.format(rounds=2)).units == 12


@pytest.mark.parametrize(
    ("body", "units"),
    [
        ("return ''", 1),
        ("'a text alone'\npass\nreturn ''", 1),
        ("import re\nreturn ''", 1),
        ("return '' if problem.public_tests else 'x'", 2),
        ("return '' and 'x' and 'y'", 3),
        ("return (x := '')", 2),
        ("return (lambda: '')()", 2),
        ("return ''.join(c for c in 'abc' for d in c)", 3),
        ("draft = self.generate\nreturn await draft(problem)", 4),
        ("answers = await asyncio.gather(*[self.generate(problem) for _ in range(3)])\nreturn await self.ensemble(problem, answers)", 7),
    ],
)
def test_each_construct_counts_once(body: str, units: int):
    assert parsed(body).units == units


def test_an_elif_is_a_branch_without_depth():
    workflow = parsed("if problem.public_tests:\n    x = 1\nelif problem.query:\n    x = 2\nelse:\n    x = 3\nreturn str(x)")
    assert (workflow.branches, workflow.depth) == (2, 1)


def test_comprehension_conditions_are_branches():
    workflow = parsed("return ''.join([c for c in 'abc' if c if not c])")
    assert (workflow.branches, workflow.loops, workflow.depth) == (2, 1, 1)


def test_operators_are_listed_in_source_order():
    workflow = parsed("x = await self.revise(problem, await self.generate(problem), (await self.review(problem, '')).feedback)\nreturn x")
    assert workflow.operators == ("revise", "generate", "review")


def test_adding_a_call_never_makes_a_workflow_smaller():
    for plan in PLANS.values():
        workflow = parse_source(plan.source)
        longer = parse_source(
            plan.source.replace("(self, problem):\n", "(self, problem):\n        hint = await self.custom(problem, 'x')\n")
        )
        assert isinstance(workflow, Workflow) and isinstance(longer, Workflow)
        assert longer.units == workflow.units + 3


def test_plans_and_references_of_equal_topology_share_a_fingerprint():
    references = {workflow.fingerprint: name for name, workflow in load_reference_workflows().items()}
    plan = parse_source(PLANS["draft, test and revise up to 3 times"].source)
    assert isinstance(plan, Workflow) and references[plan.fingerprint] == "test_and_revise_3"


def test_every_plan_has_its_own_fingerprint():
    workflows = [parse_source(plan.source) for plan in PLANS.values()]
    assert len({workflow.fingerprint for workflow in workflows if isinstance(workflow, Workflow)}) == len(PLANS)


BASE = LOOP.format(rounds=2)


@pytest.mark.parametrize(
    "variant",
    [
        BASE.replace("answer", "draft").replace("report", "result"),
        BASE.replace("\n    if", "\n    # a comment\n\n    if"),
        '"""A docstring."""\n' + BASE,
        BASE.replace("range(2)", "range( 2 )"),
        BASE.replace("for _ in", "for attempt in"),
        BASE.replace("answer = await self.generate", "answer: str = await self.generate"),
    ],
    ids=["names", "comments", "docstring", "layout", "loop_variable", "annotation"],
)
def test_names_and_layout_do_not_change_the_fingerprint(variant: str):
    assert parsed(variant).fingerprint == parsed(BASE).fingerprint


def test_importing_asyncio_does_not_change_the_fingerprint():
    assert parsed(BASE, before="import asyncio\n\n").fingerprint == parsed(BASE).fingerprint


@pytest.mark.parametrize(
    "variant",
    [
        BASE.replace("range(2)", "range(3)"),
        BASE.replace("report.feedback", "'try again'"),
        BASE.replace("test", "review").replace("passed", "approved"),
        BASE.replace("if report.passed", "if not report.passed"),
        BASE.replace("generate(problem)", "generate(problem, 'carefully')"),
    ],
    ids=["rounds", "feedback", "operator", "condition", "instruction"],
)
def test_what_changes_behaviour_changes_the_fingerprint(variant: str):
    assert parsed(variant).fingerprint != parsed(BASE).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 'x'\nb = 'y'\nreturn a", "a = 'x'\nb = 'y'\nreturn b"),
        ("def h(a, b):\n    return a\nreturn h(a='x', b='y')", "def h(b, a):\n    return b\nreturn h(a='x', b='y')"),
        ("len = str\nreturn len(3)", "other = str\nreturn str(len('abc'))"),
    ],
    ids=["swapped", "keywords", "builtins"],
)
def test_renaming_never_merges_different_behaviour(one: str, other: str):
    assert parsed(one).fingerprint != parsed(other).fingerprint


def test_class_constants_are_told_apart_by_name():
    source = "class Workflow:\n    A = 'x'\n    B = 'y'\n    async def __call__(self, problem):\n        return self.{}"
    one, other = parse_source(source.format("A")), parse_source(source.replace("A =", "C =").replace("B =", "A =").format("A"))
    assert isinstance(one, Workflow) and isinstance(other, Workflow)
    assert one.fingerprint != other.fingerprint


NAMES = st.sampled_from(["a", "b", "c", "answer", "x1", "_", "value"])


@given(st.permutations(["a", "b", "c", "answer"]), st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=5))
def test_an_injective_renaming_keeps_the_fingerprint(new: list[str], assignments: list[tuple[str, str]]):
    body = "a = b = c = answer = x1 = _ = value = ''\n" + "\n".join(f"{x} = {y}" for x, y in assignments) + "\nreturn a + b"
    mapping = dict(zip(["a", "b", "c", "answer"], [f"n_{name}" for name in new], strict=True))
    renamed = re.sub(r"\w+", lambda match: mapping.get(match[0], match[0]), body)
    assert parsed(renamed).fingerprint == parsed(body).fingerprint


def test_measuring_is_pure():
    source = PLANS["vote over 3 drafts"].source
    first = parse_source(source)
    parse_source.cache_clear()
    assert parse_source(source) == first
