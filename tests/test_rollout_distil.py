"""Distillation: traces from a teacher."""

from collections import Counter

import pytest

from rollout.distil import distil_traces, summary
from rollout.settings import DistilSettings
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRunner, problem, run
from workflow.outcome import Outcome
from workflow.worker.interface import PromptRefused, Reply, WorkerError

PROBLEMS = [problem(number) for number in range(5)]


class ScriptedTeacher:
    def __init__(self, texts):
        self.texts = texts
        self.calls = 0
        self.asked: list[str] = []

    async def complete(self, messages, *, seed, ordinal=0, temperature=None, max_tokens=None):
        self.calls += 1
        self.asked.append(str(messages))
        text = self.texts[(self.calls - 1) % len(self.texts)]
        if text is None:
            raise WorkerError("endpoint down")
        if isinstance(text, Exception):
            raise text
        return text if isinstance(text, Reply) else Reply(text, 10, 10, 0.0, 0.0)


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


async def test_distillation_goes_on_until_there_are_enough_traces_to_learn_from():
    found, _ = await traces([SINGLE_CALL], DistilSettings(traces=2, concurrency=1), teaches=lambda trace: trace.index % 3 == 2)
    assert [trace.index for trace in found] == [0, 1, 2, 3, 4, 5]


async def test_a_reply_without_a_workflow_is_kept_with_its_outcome():
    found, _ = await traces(["no idea", SINGLE_CALL], DistilSettings(traces=1, concurrency=1))
    assert found[0].outcome is Outcome.NO_WORKFLOW


async def test_a_resumed_distillation_asks_about_the_next_problem():
    found, _ = await traces([SINGLE_CALL], DistilSettings(traces=4, concurrency=1), first=7, passed=3)
    assert [(trace.index, trace.problem_id) for trace in found] == [(7, "scripted/2")]


async def test_twenty_failed_requests_in_a_row_end_it_with_a_sentence():
    with pytest.raises(WorkerError, match="with: endpoint down Check the teacher and worker endpoints"):
        await traces([None], DistilSettings(traces=3, concurrency=4))


async def test_single_failed_requests_are_recorded_and_passed_over():
    found, _ = await traces([None, SINGLE_CALL], DistilSettings(traces=2, concurrency=1))
    assert [trace.fault for trace in found if trace.outcome is Outcome.INFRA_ERROR] == ["endpoint down"] * 2


async def test_the_teacher_reads_the_rules_and_the_public_tests_and_never_hidden_ones():
    _, teacher = await traces([SINGLE_CALL], DistilSettings(traces=1, concurrency=1))
    (shown,) = teacher.asked
    assert "Rules of the language" in shown and "assert f([1]) == 1" in shown and "assert f([2]) == 2" not in shown


async def test_the_teacher_may_have_a_prompt_of_its_own():
    _, teacher = await traces([SINGLE_CALL], DistilSettings(traces=1, concurrency=1, prompt="Be bold: {{ query }}"))
    assert teacher.asked == [f"[{{'role': 'user', 'content': 'Be bold: {PROBLEMS[0].query}'}}]"]


def reply(text: str, **more) -> Reply:
    return Reply(text, 10, 10, 0.0, 0.0, **more)


@pytest.mark.parametrize(
    "answer",
    [
        reply(SINGLE_CALL, reasoning="It is easy."),
        reply(f"<think>\nIt is easy.\n</think>\n\n{SINGLE_CALL}"),
        reply(f"It is easy.</think>{SINGLE_CALL}"),
        reply(f"<think></think>{SINGLE_CALL}", reasoning="It is easy."),
    ],
    ids=["field", "inline", "opened_by_the_template", "both"],
)
async def test_a_trace_keeps_the_teachers_reasoning_apart_from_its_text(answer: Reply):
    (trace,), _ = await traces([answer], DistilSettings(traces=1, concurrency=1))
    assert (trace.reasoning, trace.text, trace.outcome) == ("It is easy.", SINGLE_CALL, Outcome.PASSED)
    assert trace.completion == f"<think>\nIt is easy.\n</think>\n\n{SINGLE_CALL}"


async def test_a_workflow_that_the_reasoning_drafts_is_not_the_teachers():
    (trace,), _ = await traces([reply("I give up.", reasoning=SINGLE_CALL)], DistilSettings(traces=1, max_requests=1))
    assert trace.outcome is Outcome.NO_WORKFLOW


async def test_a_trace_that_was_cut_off_never_passes():
    cut = reply(SINGLE_CALL, finish_reason="length")
    found, _ = await traces([cut, SINGLE_CALL], DistilSettings(traces=1, concurrency=1))
    assert [trace.outcome for trace in found] == [Outcome.NO_WORKFLOW, Outcome.PASSED]
    assert found[0].finish_reason == "length"


async def test_prompts_that_the_teacher_refuses_are_no_failure_of_its_endpoint():
    found, _ = await traces([PromptRefused("filtered")], DistilSettings(traces=1, max_requests=30, concurrency=1))
    assert [trace.outcome for trace in found] == [Outcome.NO_WORKFLOW] * 30


async def test_one_line_says_what_the_replies_are_like():
    answers = [reply(SINGLE_CALL, reasoning="Hm."), reply("", reasoning="Hm.", finish_reason="length"), PromptRefused("filtered"), None]
    found, _ = await traces([*answers, SINGLE_CALL], DistilSettings(traces=2, concurrency=1))
    said = summary(Counter(trait for trace in found for trait in trace.traits))
    assert "of 4 replies 50% with reasoning, 25% cut off" in said and "25% refused" in said
