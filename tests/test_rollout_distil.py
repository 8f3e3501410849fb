"""Distillation: traces from a teacher."""

import pytest

from rollout.distil import distil_traces, teacher_messages
from rollout.settings import DistilSettings
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRunner, problem, run
from workflow.outcome import Outcome
from workflow.worker import Reply, WorkerError

PROBLEMS = [problem(number) for number in range(5)]


class ScriptedTeacher:
    def __init__(self, texts):
        self.texts = texts
        self.calls = 0

    async def complete(self, messages, *, seed, ordinal=0, temperature=None, max_tokens=None):
        self.calls += 1
        text = self.texts[(self.calls - 1) % len(self.texts)]
        if text is None:
            raise WorkerError("endpoint down")
        return Reply(text, 10, 10, 0.0, 0.0)


def rule(workflow, problem, seed):
    return run(Outcome.WRONG_ANSWER, passed=1) if workflow.loops else run(Outcome.PASSED, passed=4)


async def traces(texts, settings, **resume):
    teacher = ScriptedTeacher(texts)
    found = [trace async for trace in distil_traces(PROBLEMS, teacher, ScriptedRunner(rule), settings, seed=0, **resume)]
    return found, teacher


async def test_distillation_stops_when_enough_traces_passed():
    found, _ = await traces([SINGLE_CALL, TEST_LOOP], DistilSettings(traces=3, concurrency=1))
    assert [trace.outcome for trace in found] == [Outcome.PASSED, Outcome.WRONG_ANSWER] * 2 + [Outcome.PASSED]


async def test_distillation_stops_at_its_limit_of_requests():
    found, teacher = await traces([TEST_LOOP], DistilSettings(traces=3, max_requests=7, concurrency=2))
    assert len(found) == teacher.calls == 7


async def test_a_reply_without_a_workflow_is_kept_with_its_outcome():
    found, _ = await traces(["no idea", SINGLE_CALL], DistilSettings(traces=1, concurrency=1))
    assert found[0].outcome is Outcome.NO_WORKFLOW


async def test_a_resumed_distillation_asks_about_the_next_problem():
    found, _ = await traces([SINGLE_CALL], DistilSettings(traces=4, concurrency=1), first=7, passed=3)
    assert [(trace.index, trace.problem_id) for trace in found] == [(7, "scripted/2")]


async def test_twenty_failed_requests_in_a_row_end_it_with_a_sentence():
    with pytest.raises(WorkerError, match="check the teacher and worker endpoints"):
        await traces([None], DistilSettings(traces=3, concurrency=4))


async def test_single_failed_requests_are_recorded_and_passed_over():
    found, _ = await traces([None, SINGLE_CALL], DistilSettings(traces=2, concurrency=1))
    assert [trace.outcome for trace in found].count(Outcome.INFRA_ERROR) == 2


def test_the_teacher_never_sees_hidden_tests():
    shown = str(teacher_messages(PROBLEMS[0]))
    assert "assert f([1]) == 1" in shown and "assert f([2]) == 2" not in shown
