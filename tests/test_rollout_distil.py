"""Distillation: traces from a teacher."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from reward.settings import RewardSettings
from rollout.distil import Distiller, teacher_prompt
from rollout.settings import DistilSettings, ModelSettings, RolloutSettings
from rollout.traces import Trace, describe_replies
from sandbox.records import Run, Verdict
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


def distil(**changes: Any) -> DistilSettings:
    """One round and one request at a time, where nothing else is said."""
    return DistilSettings.model_validate({"rounds": 1, "concurrency": 1} | changes)


def passed(trace: Trace) -> bool:
    return trace.outcome is Outcome.PASSED


async def traces(
    texts: Sequence[Any],
    settings: DistilSettings,
    *,
    teaches: Callable[[Trace], bool] = passed,
    model: ModelSettings = ModelSettings(),
    rule: Callable[..., Run] = rule,
    **resume: int,
) -> tuple[list[Trace], ScriptedTeacher]:
    teacher = ScriptedTeacher(texts)
    rollout = RolloutSettings(rounds=3, feedback_reply_characters=0)
    distiller = Distiller(teacher, ScriptedRunner(rule), settings, rollout, RewardSettings(), teacher_prompt(settings, model), seed=0)
    found = distiller.traces(PROBLEMS, wanted=settings.traces, teaches=teaches, **resume)
    return [trace async for trace in found], teacher


async def test_distillation_stops_when_enough_traces_passed():
    found, _ = await traces([SINGLE_CALL, TEST_LOOP], distil(traces=3))
    assert [trace.outcome for trace in found] == [Outcome.PASSED, Outcome.WRONG_ANSWER] * 2 + [Outcome.PASSED]


async def test_distillation_stops_at_its_limit_of_requests():
    found, teacher = await traces([TEST_LOOP], distil(traces=3, max_requests=7, concurrency=2))
    assert len(found) == teacher.calls == 7


async def test_distillation_goes_on_until_there_are_enough_traces_to_learn_from():
    found, _ = await traces([SINGLE_CALL], distil(traces=2), teaches=lambda trace: trace.index % 3 == 2)
    assert [trace.index for trace in found] == [0, 1, 2, 3, 4, 5]


async def test_a_reply_without_a_workflow_is_kept_with_its_outcome():
    found, _ = await traces(["no idea", SINGLE_CALL], distil(traces=1))
    assert found[0].outcome is Outcome.NO_WORKFLOW


async def test_a_resumed_distillation_asks_about_the_next_problem():
    found, _ = await traces([SINGLE_CALL], distil(traces=4), first=7, useful=3)
    assert [(trace.index, trace.problem_id) for trace in found] == [(7, "scripted/2")]


async def test_twenty_failed_requests_in_a_row_end_it_with_a_sentence():
    with pytest.raises(WorkerError, match="with: endpoint down Check the teacher and worker endpoints"):
        await traces([None], distil(traces=3, concurrency=4))


async def test_single_failed_requests_are_recorded_and_passed_over():
    found, _ = await traces([None, SINGLE_CALL], distil(traces=2))
    assert [trace.fault for trace in found if trace.outcome is Outcome.INFRA_ERROR] == ["endpoint down"] * 2


async def test_the_teacher_reads_the_rules_and_the_public_tests_and_never_hidden_ones():
    _, teacher = await traces([SINGLE_CALL], distil(traces=1))
    (shown,) = teacher.asked
    assert "Rules of the language" in shown and "assert f([1]) == 1" in shown and "assert f([2]) == 2" not in shown


async def test_the_teacher_may_have_a_prompt_of_its_own():
    _, teacher = await traces([SINGLE_CALL], distil(traces=1, prompt="Be bold: {{ query }}"))
    assert teacher.asked == [f"[{{'role': 'user', 'content': 'Be bold: {PROBLEMS[0].query}'}}]"]


async def test_without_one_the_teacher_reads_what_the_policy_reads():
    _, teacher = await traces([SINGLE_CALL], distil(traces=1), model=ModelSettings(meta_prompt="Policy: {{ query }}"))
    assert teacher.asked == [f"[{{'role': 'user', 'content': 'Policy: {PROBLEMS[0].query}'}}]"]


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
    (trace,), _ = await traces([answer], distil(traces=1))
    (written,) = trace.rounds
    assert (written.reasoning, written.text, trace.outcome) == ("It is easy.", SINGLE_CALL, Outcome.PASSED)
    assert trace.completion == f"<think>\nIt is easy.\n</think>\n\n{SINGLE_CALL}"


async def test_a_workflow_that_the_reasoning_drafts_is_not_the_teachers():
    (trace,), _ = await traces([reply("I give up.", reasoning=SINGLE_CALL)], distil(traces=1, max_requests=1))
    assert trace.outcome is Outcome.NO_WORKFLOW


async def test_a_trace_that_was_cut_off_never_passes():
    cut = reply(SINGLE_CALL, finish_reason="length")
    found, _ = await traces([cut, SINGLE_CALL], distil(traces=1))
    assert [trace.outcome for trace in found] == [Outcome.NO_WORKFLOW, Outcome.PASSED]
    assert found[0].rounds[0].finish_reason == "length"


async def test_prompts_that_the_teacher_refuses_are_no_failure_of_its_endpoint():
    found, _ = await traces([PromptRefused("filtered")], distil(traces=1, max_requests=30))
    assert [trace.outcome for trace in found] == [Outcome.NO_WORKFLOW] * 30


async def test_one_line_says_what_the_replies_are_like():
    answers = [reply(SINGLE_CALL, reasoning="Hm."), reply("", reasoning="Hm.", finish_reason="length"), PromptRefused("filtered"), None]
    found, _ = await traces([*answers, SINGLE_CALL], distil(traces=2))
    said = describe_replies(found)
    assert "of 4 replies to 4 queries 50% with reasoning, 25% cut off" in said and "25% refused" in said


def feedback_rule(workflow, problem, seed) -> Run:
    """Loops pass everything; the third way to ask passes the public test and no hidden one; a single call passes nothing."""
    hidden, public = workflow.loops > 0, workflow.loops > 0 or workflow.branches > 0
    judged = run(Outcome.PASSED if hidden else Outcome.WRONG_ANSWER, passed=4 if hidden else 0)
    ended = Outcome.PASSED if public else Outcome.WRONG_ANSWER
    return replace(judged, public=Verdict(ended, (public,), () if public else ("assert f([1]) == 1",), 0.1, "scripted"))


FOOLED = SINGLE_CALL.replace("        return answer", "        if answer:\n            return answer\n        return answer")


async def one(texts: Sequence[Any], **settings: Any) -> tuple[Trace, ScriptedTeacher]:
    (trace,), teacher = await traces(texts, distil(**{"rounds": 10, "max_requests": 1} | settings), rule=feedback_rule)
    return trace, teacher


async def test_a_query_ends_with_the_round_whose_workflow_passes_the_public_tests():
    trace, teacher = await one([SINGLE_CALL, "no idea", TEST_LOOP, SINGLE_CALL])
    assert teacher.calls == 3 and trace.kept == 2 and trace.outcome is Outcome.PASSED
    assert [written.text for written in trace.rounds] == [SINGLE_CALL, "no idea", TEST_LOOP]
    assert [written.feedback.splitlines()[0] for written in trace.rounds[1:]] == [
        "Round 1 of 10: 0 of 1 public tests passed.",
        "Round 2 of 10: no workflow ran. The completion holds no `class Workflow`. Write the next workflow.",
    ]


async def test_hidden_tests_decide_what_a_trace_is_worth_but_not_when_its_query_ends():
    trace, teacher = await one([FOOLED, TEST_LOOP])
    assert teacher.calls == 1 and trace.outcome is Outcome.WRONG_ANSWER and trace.reward is not None and trace.reward < 0


async def test_rounds_end_at_their_limit_and_the_last_or_the_best_is_kept():
    last, _ = await one([SINGLE_CALL, "no idea"], rounds=2)
    assert (last.kept, last.outcome, len(last.lesson)) == (1, Outcome.NO_WORKFLOW, 2)
    best, _ = await one([SINGLE_CALL, "no idea"], rounds=2, keep_round="best")
    assert (best.kept, best.outcome, len(best.rounds), len(best.lesson)) == (0, Outcome.WRONG_ANSWER, 2, 1)


async def test_the_reward_of_a_trace_counts_what_its_earlier_rounds_cost():
    at_once, _ = await one([TEST_LOOP])
    later, _ = await one([SINGLE_CALL, TEST_LOOP])
    assert at_once.reward is not None and later.reward is not None and at_once.reward > later.reward > 0


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(TEST_LOOP, finish_reason="length"), Outcome.NO_WORKFLOW),
        (reply("", reasoning="I think and think."), Outcome.NO_WORKFLOW),
        (PromptRefused("too long"), Outcome.NO_WORKFLOW),
        (None, Outcome.INFRA_ERROR),
    ],
    ids=["cut", "thoughts", "refused", "down"],
)
async def test_a_reply_without_an_answer_ends_its_query_and_keeps_the_rounds_before(answer: Any, outcome: Outcome):
    trace, teacher = await one([SINGLE_CALL, answer, TEST_LOOP])
    assert teacher.calls == 2 and trace.outcome is outcome and trace.rounds[0].text == SINGLE_CALL


class DrawingTeacher(ScriptedTeacher):
    """Answers by what it is asked and by the seed alone, as an endpoint does."""

    async def complete(self, messages, *, seed, ordinal=0, temperature=None, max_tokens=None):
        self.texts = [SINGLE_CALL if (seed + len(messages)) % 3 else TEST_LOOP]
        return await super().complete(messages, seed=seed)


async def test_a_distillation_of_several_rounds_resumes_exactly():
    def distiller() -> Distiller:
        settings = distil(rounds=4, concurrency=3, max_requests=20)
        rule, rollout = ScriptedRunner(feedback_rule), RolloutSettings()
        return Distiller(DrawingTeacher([]), rule, settings, rollout, RewardSettings(), teacher_prompt(settings, ModelSettings()), seed=0)

    async def found(**resume: int) -> list[Trace]:
        return [trace async for trace in distiller().traces(PROBLEMS, wanted=15, teaches=passed, **resume)]

    whole = await found()
    begun = whole[:7]
    assert begun + await found(first=7, useful=sum(map(passed, begun))) == whole
    assert max(len(trace.rounds) for trace in whole) > 1 and len({len(trace.rounds) for trace in whole}) > 1
