"""Edits that take one operator call out of a workflow."""

import asyncio

import pytest

from benchmarks.nano_gap import Meter, run_here
from workflow.language.edits import CallEdit, call_lines, edit_call
from workflow.language.parse import parse_source
from workflow.nano.problems import nano_problem
from workflow.nano.simulated.book import Book
from workflow.nano.simulated.player import Player
from workflow.operators import OPERATORS
from workflow.program import Workflow
from workflow.reference import load_reference_workflows
from workflow.settings import SimulatedWorkerSettings

HEAD = "class Workflow:\n    async def __call__(self, problem):\n"


def workflow(*body: str) -> Workflow:
    parsed = parse_source(HEAD + "\n".join(f"        {line}" for line in body))
    assert isinstance(parsed, Workflow), parsed
    return parsed


def edit_calls(one: Workflow) -> list[CallEdit | None]:
    return [edit_call(one, number) for number in range(len(call_lines(one.source)))]


def edited(*body: str) -> list[tuple[str, str, str] | None]:
    """(operator, kind, last lines of the edited ``__call__``) of each call."""
    return [
        (edit.operator, edit.kind, edit.workflow.source.split("(self, problem):\n")[1]) if edit else None
        for edit in edit_calls(workflow(*body))
    ]


def test_a_revision_is_replaced_by_the_solution_that_it_would_revise():
    found = edited("a = await self.generate(problem)", "return await self.revise(problem, a, 'Check it.')")
    assert found[1] == ("revise", "input", "        a = await self.generate(problem)\n        return await given(a)")


def test_an_argument_by_its_name_is_found_too():
    found = edited("a = await self.generate(problem)", "return await self.revise(feedback='x', solution=a + '!', problem=problem)")
    assert found[1] is not None and found[1][2].endswith("return await given(a + '!')")


def test_a_choice_is_replaced_by_its_first_candidate():
    found = edited(
        "import asyncio",
        "a = await asyncio.gather(self.generate(problem), self.generate(problem, 'Plan.'))",
        "return await self.ensemble(problem, a)",
    )
    assert [one and one[1] for one in found] == ["empty", "plain", "input"]
    assert found[0] is not None and "asyncio.gather(given(''), self.generate(problem, 'Plan.'))" in found[0][2]
    assert found[1] is not None and "asyncio.gather(self.generate(problem), self.generate(problem))" in found[1][2]
    assert found[2] is not None and found[2][2].endswith("return await given(a[0])")


def test_a_check_is_replaced_by_a_report_with_nothing_to_say():
    found = edited(
        "a = await self.generate(problem)",
        "report = await self.review(problem, a)",
        "if report.approved:",
        "    return a",
        "return await self.revise(problem, a, report.feedback)",
    )
    assert found[1] is not None and found[1][:2] == ("review", "quiet")
    assert "report = await given(namedtuple('Report', ['approved', 'feedback'])(True, ''))" in found[1][2]


def test_the_only_call_that_writes_is_not_taken_away():
    assert edited("return await self.generate(problem)") == [None]
    drafts = edited(
        "import asyncio", "a = await asyncio.gather(*[self.generate(problem) for _ in range(3)])", "return await self.ensemble(problem, a)"
    )
    assert drafts[0] is None and drafts[1] is not None


def test_a_hint_is_taken_out_of_the_only_call():
    assert edited("return await self.generate(problem, 'Think.')") == [("generate", "plain", "        return await self.generate(problem)")]


def test_unpacked_arguments_cannot_be_told_apart():
    found = edited("a = await self.generate(problem)", "both = (problem, a, 'x')", "return await self.revise(*both)")
    assert found[1] is None


def test_the_helpers_take_no_name_of_the_workflow():
    found = edited("given = await self.generate(problem)", "namedtuple = 1", "return await self.revise(problem, given, 'x')")
    assert found[1] is not None and found[1][2].endswith("return await given1(given)")


def test_the_size_is_that_of_the_program_without_the_call():
    one = workflow("a = await self.generate(problem)", "return await self.revise(problem, a, 'x')")
    edit = edit_calls(one)[1]
    assert edit is not None and edit.workflow.units == one.units - 1


def test_calls_are_numbered_as_they_end_whatever_the_layout():
    one = workflow("return await self.revise(problem, await self.generate(problem), 'x')")
    other = workflow("return await self.revise(", "    problem,", "    await self.generate(problem),", "    'x',", ")")
    assert one.fingerprint == other.fingerprint
    assert call_lines(one.source) == [(3, 3), (3, 3)] and call_lines(other.source) == [(5, 5), (3, 7)]
    assert [edit and edit.operator for edit in edit_calls(one)] == [edit and edit.operator for edit in edit_calls(other)]


@pytest.mark.parametrize("name", load_reference_workflows())
def test_every_edit_of_every_reference_workflow_runs_to_an_answer(name: str):
    problem, player = nano_problem(0, "validation", 3), Player(SimulatedWorkerSettings(), Book())
    for edit in filter(None, edit_calls(load_reference_workflows()[name])):
        assert edit.operator in OPERATORS
        assert isinstance(asyncio.run(run_here(edit.workflow.source, Meter(problem, player, 1))), str)
