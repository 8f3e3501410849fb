"""The simulated teacher: a closed set of valid workflows, reasoning that agrees with them, sensible in its share of replies."""

import re
from functools import cache

import pytest

from workflow.language.parse import parse_workflow
from workflow.nano.problems import nano_problem
from workflow.nano.simulated.book import Book, Known
from workflow.nano.simulated.skill import stream
from workflow.nano.simulated.teacher import HABIT, PLANS, SINGLE_CALL, Plan, corpus, sensible_plan, teach
from workflow.program import Workflow
from workflow.settings import SimulatedWorkerSettings

BOOK = Book()
DECLARED = SimulatedWorkerSettings()


def shares(sensible: float, habit: float) -> SimulatedWorkerSettings:
    return SimulatedWorkerSettings(teacher_sensible=sensible, teacher_habit=habit)


@cache
def known(index: int) -> Known:
    found = BOOK.find(nano_problem(0, "train", index).query)
    assert found is not None
    return found


def plan_of(reply: str) -> Plan:
    found = re.fullmatch(r"(\d steps?, \d tricky, (?:with|no) examples)\. Plan: (.*)\.\n```python\n(.*)```", reply, re.DOTALL)
    assert found is not None, reply
    plan = PLANS[found[2]]
    assert plan.source == found[3]
    return plan


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_every_workflow_of_the_teacher_passes_the_static_checks(plan: Plan) -> None:
    assert isinstance(parse_workflow(plan.source), Workflow)


def test_the_set_is_closed_and_of_few_lines() -> None:
    assert len(PLANS) == 35 and len({plan.source for plan in PLANS.values()}) == 35
    assert len({line for plan in PLANS.values() for line in plan.source.splitlines()}) <= 32


def test_a_reply_parses_and_its_reasoning_agrees_with_problem_and_workflow() -> None:
    for index in range(120):
        reply = teach(known(index), DECLARED, stream(index))
        plan_of(reply)
        assert isinstance(parse_workflow(reply), Workflow)
        problem = nano_problem(0, "train", index)
        steps, tricky = map(int, re.findall(r"\d", reply)[:2])
        assert steps + tricky == problem.level
        assert ("with examples" in reply) == problem.has_examples


def test_sensible_and_habitual_replies_come_in_their_shares() -> None:
    plans = [
        (plan_of(teach(known(index), DECLARED, stream(index, run))), sensible_plan(known(index).puzzle.level, known(index).has_examples))
        for index in range(120)
        for run in range(20)
    ]
    by_chance = (1 - 0.15 - SimulatedWorkerSettings().teacher_habit) / 35
    assert abs(sum(plan == fit for plan, fit in plans) / len(plans) - 0.15 - by_chance) < 0.035
    assert abs(sum(plan == HABIT for plan, _ in plans) / len(plans) - SimulatedWorkerSettings().teacher_habit - by_chance) < 0.035


def test_always_sensible_replies_fit_level_and_examples() -> None:
    for index in range(60):
        plan = plan_of(teach(known(index), shares(1.0, 0.0), stream(index)))
        level, examples = known(index).puzzle.level, known(index).has_examples
        if level == 1:
            assert plan == SINGLE_CALL
        if level >= 3:
            assert ("self.test" in plan.source) == examples and ("self.review" in plan.source) != examples


def test_random_replies_cover_the_whole_set() -> None:
    assert {plan_of(teach(known(0), shares(0.0, 0.0), stream(run))).words for run in range(600)} == set(PLANS)


def test_the_corpus_holds_every_workflow_alone_and_in_traces() -> None:
    texts = corpus()
    for plan in PLANS.values():
        assert plan.source in texts
        assert sum(plan.source in text for text in texts) > 10
