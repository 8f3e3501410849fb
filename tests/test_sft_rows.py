# ruff: noqa: RUF001 (DeepSeek's markers)
"""Traces as SFT rows: a teacher's endpoint at one end, a policy's tokens at the other."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from reward.settings import RewardSettings
from rollout.distil import Distiller, teacher_prompt
from rollout.groups.collect import Collector
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.records import Completion
from rollout.settings import DistilSettings, ModelSettings, RolloutSettings
from rollout.traces import TeacherRound, Trace
from sandbox.records import Run, Verdict
from tests.chat_tokenizers import qwen, r1_distill
from tests.scripted_endpoint import Endpoint, endpoint, http
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRunner, problem, run
from trainer.algorithm.sft import LeftOut, SFTRow, Turn, order_rows, sft_batch, sft_row, turns_of
from trainer.fitting import Lessons
from trainer.settings import RunSettings
from workflow.outcome import Outcome
from workflow.worker.providers import open_worker

MODEL = ModelSettings(path="policy", meta_prompt="{{ query }}", max_prompt_tokens=256, max_response_tokens=2048)
ROLLOUT = RolloutSettings(rounds=3, max_feedback_tokens=1024, feedback_reply_characters=0)
FEEDBACK = "Round 1 of 3: 0 of 1 public tests passed.\nassert f([1]) == 1\nCalls: generate (1 worker calls)\nWrite the next workflow."
R1_START = "<｜begin▁of▁sentence｜><｜User｜>Write f(xs), variant 0.<｜Assistant｜><think>\n"
QWEN_START = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWrite f(xs), variant 0.<|im_end|>\n<|im_start|>assistant\n"
)


def settings(model: ModelSettings = MODEL, rollout: RolloutSettings = ROLLOUT, **distil: Any) -> RunSettings:
    return RunSettings(model=model, rollout=rollout, distil=DistilSettings(**{"traces": 1, "max_requests": 1, "model": "t"} | distil))


def message(reasoning: str, content: str, finish_reason: str = "stop", *, field: bool) -> bytes:
    """A reply as DeepSeek gives it, with the thoughts in a field of their own, or in OpenAI's form with the thoughts as prose."""
    said = {"reasoning_content": reasoning, "content": content} if field else {"content": f"{reasoning}\n{content}"}
    return http(200, {"choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **said}}]})


def rule(workflow, problem, seed) -> Run:
    """A test loop passes all tests, anything else none."""
    good = workflow.loops > 0
    judged = run(Outcome.PASSED if good else Outcome.WRONG_ANSWER, passed=4 if good else 0)
    ended = Outcome.PASSED if good else Outcome.WRONG_ANSWER
    return replace(judged, public=Verdict(ended, (good,), () if good else ("assert f([1]) == 1",), 0.1, "scripted"))


@asynccontextmanager
async def teacher(*script: bytes) -> AsyncIterator[Endpoint]:
    async with endpoint(*script, models=http(200, {"object": "list", "data": [{"id": "t"}]})) as server:
        yield server


async def ask(server: Endpoint, run: RunSettings, problems=(problem(),)) -> list[Trace]:
    asked = run.distil.model_copy(update={"base_url": server.base_url})
    async with open_worker(asked.worker(), print) as worker:
        distiller = Distiller(worker, ScriptedRunner(rule), asked, run.rollout, RewardSettings(), teacher_prompt(asked, run.model), seed=0)
        found = distiller.traces(list(problems), wanted=run.distil.traces, teaches=lambda trace: trace.outcome is Outcome.PASSED)
        return [trace async for trace in found]


def rows_of(traces: list[Trace], tokenizer: PreTrainedTokenizerFast, run: RunSettings, problems=(problem(),)) -> list[SFTRow]:
    lessons = Lessons(problems, MetaPrompt(tokenizer, run.model, run.rollout.max_feedback_tokens), run)
    for trace in traces:
        lessons.add(trace)
    found = [lessons.row(traces[index]) for index in lessons.chosen]
    return [row for row in found if isinstance(row, SFTRow)]


def shown(row: SFTRow, tokenizer: PreTrainedTokenizerFast) -> str:
    """The row as text, with brackets around what carries loss."""
    out, inside = str(tokenizer.decode(list(row.prompt_ids))), 0
    for token, bit in zip([*row.response_ids, None], [*row.loss_mask, 0], strict=True):
        out += "⟦" * (bit > inside) + "⟧" * (bit < inside)
        inside = bit
        out += "" if token is None else str(tokenizer.convert_tokens_to_string([str(tokenizer.convert_ids_to_tokens(token))]))
    return out


def turns(reasoning: bool, opens: bool, end: str, between: str) -> str:
    """The golden row: two turns, loss on the one that passed, none on the one that failed and on the feedback between them."""
    tags = ("" if opens else "<think>\n", "\n</think>\n\n") if reasoning or opens else ("", "\n")
    return f"{tags[0]}One call.{tags[1]}{SINGLE_CALL}{end}{between}⟦{tags[0]}A test failed: use the tests.{tags[1]}{TEST_LOOP}{end}⟧"


R1_END, QWEN_END = "<｜end▁of▁sentence｜>", "<|im_end|>"
R1_BETWEEN = f"<｜User｜>{FEEDBACK}<｜Assistant｜><think>\n"
QWEN_BETWEEN = f"\n<|im_start|>user\n{FEEDBACK}<|im_end|>\n<|im_start|>assistant\n"
GOLDEN = {
    ("deepseek", "r1"): R1_START + turns(True, True, R1_END, R1_BETWEEN),
    ("openai", "r1"): R1_START + turns(False, True, R1_END, R1_BETWEEN),
    ("deepseek", "qwen"): QWEN_START + turns(True, False, QWEN_END, QWEN_BETWEEN),
    ("openai", "qwen"): QWEN_START + turns(False, False, QWEN_END, QWEN_BETWEEN),
}
CONCATENATED = {
    ("deepseek", "r1"): f"{R1_START}⟦One call.\n\nA test failed: use the tests.\n</think>\n\n{TEST_LOOP}{R1_END}⟧",
    ("openai", "r1"): f"{R1_START}⟦One call.\n\nA test failed: use the tests.\n</think>\n\n{TEST_LOOP}{R1_END}⟧",
    ("deepseek", "qwen"): f"{QWEN_START}⟦<think>\nOne call.\n\nA test failed: use the tests.\n</think>\n\n{TEST_LOOP}{QWEN_END}⟧",
    ("openai", "qwen"): f"{QWEN_START}⟦One call.\n\nA test failed: use the tests.\n{TEST_LOOP}{QWEN_END}⟧",
}


def two_rounds(vendor: str) -> list[bytes]:
    """What the check of the endpoint gets, then a workflow that fails, then one that passes."""
    field = vendor == "deepseek"
    first = message("One call.", SINGLE_CALL, field=field)
    return [first, first, message("A test failed: use the tests.", TEST_LOOP, field=field)]


@pytest.mark.parametrize("template", ["r1", "qwen"])
@pytest.mark.parametrize("vendor", ["deepseek", "openai"])
async def test_two_rounds_with_a_teacher_are_two_turns_in_the_form_in_which_the_policy_is_sampled(vendor: str, template: str):
    asked = settings()
    async with teacher(*two_rounds(vendor)) as server:
        traces = await ask(server, asked)
    tokenizer = r1_distill() if template == "r1" else qwen()
    (row,) = rows_of(traces, tokenizer, asked)
    assert shown(row, tokenizer) == GOLDEN[vendor, template]
    together = settings(rows="concatenated")
    (row,) = rows_of(traces, tokenizer, together)
    assert shown(row, tokenizer) == CONCATENATED[vendor, template]


async def test_the_teacher_reads_its_own_workflows_and_the_feedback_but_not_its_thoughts():
    async with teacher(*two_rounds("deepseek")) as server:
        await ask(server, settings())
    feedback = FEEDBACK.replace("1 of 3", "1 of 10")
    assert [request["messages"] for request in server.requests[1:]] == [
        [{"role": "user", "content": problem().query}],
        [
            {"role": "user", "content": problem().query},
            {"role": "assistant", "content": SINGLE_CALL},
            {"role": "user", "content": feedback},
        ],
    ]


@pytest.mark.parametrize("tokenizer", [r1_distill(), qwen()], ids=["r1", "qwen"])
async def test_a_row_has_exactly_the_tokens_that_an_episode_of_the_policy_with_the_same_texts_has(tokenizer: PreTrainedTokenizerFast):
    asked = settings()
    async with teacher(*two_rounds("deepseek")) as server:
        traces = await ask(server, asked)
    (row,) = rows_of(traces, tokenizer, asked)
    prompt = MetaPrompt(tokenizer, asked.model, asked.rollout.max_feedback_tokens)
    parts = [sft_row(row.prompt_ids, turns_of(traces[0].lesson[:most], most, 2), prompt, asked.model) for most in (1, 2)]
    written = [_runs_of_loss(part)[0] for part in parts if isinstance(part, SFTRow)]

    class Replay:
        async def sample(self, prompt_ids, n, *, temperature, seed, sticky=None):
            ids = tuple(written.pop(0))
            return [Completion(str(tokenizer.decode(list(ids), skip_special_tokens=True)), ids, (0.0,) * len(ids), 0, "stop")]

    collector = Collector(Replay(), ScriptedRunner(rule), prompt, asked.rollout, RewardSettings(), seed=1)
    (group,) = await collector.collect([problem()], tag="t", n=1)
    (episode,) = group.episodes
    assert (group.prompt_ids, episode.response_ids) == (row.prompt_ids, row.response_ids)
    assert row.loss_mask == (0,) * (len(row.loss_mask) - sum(row.loss_mask)) + episode.response_mask[-sum(row.loss_mask) :]


def _runs_of_loss(row: SFTRow) -> list[list[int]]:
    found: list[list[int]] = []
    before = 0
    for token, bit in zip(row.response_ids, row.loss_mask, strict=True):
        if bit:
            found += [[]] if not before else []
            found[-1].append(token)
        before = bit
    return found


def lesson(*texts: str) -> tuple[TeacherRound, ...]:
    return tuple(
        TeacherRound(text, f"Thought {number}.", "stop", f"Round {number} of 10: no." if number else "")
        for number, text in enumerate(texts)
    )


def test_rounds_beyond_those_of_the_policy_give_their_reasoning_to_its_first_turn():
    rounds = lesson(SINGLE_CALL, SINGLE_CALL, SINGLE_CALL, TEST_LOOP)
    first, second = turns_of(rounds, 2, 2)
    assert first == Turn("", f"<think>\nThought 0.\n\nThought 1.\n\nThought 2.\n</think>\n\n{SINGLE_CALL}")
    assert second == Turn("Round 1 of 2: no.", f"<think>\nThought 3.\n</think>\n\n{TEST_LOOP}")


def test_a_row_for_a_policy_of_one_round_is_the_papers_form():
    (turn,) = turns_of(lesson(SINGLE_CALL, TEST_LOOP), 1, 1)
    assert turn.text == f"<think>\nThought 0.\n\nThought 1.\n</think>\n\n{TEST_LOOP}"


PROMPT = MetaPrompt(qwen(), MODEL)


def trace(index: int, text: str = SINGLE_CALL, reward: float | None = 1.0, **changes: Any) -> Trace:
    return replace(Trace(index, "scripted/0", "q", (TeacherRound(text),), Outcome.PASSED, reward=reward), **changes)


def other(number: int) -> str:
    """A workflow of its own."""
    return TEST_LOOP.replace("range(2)", f"range({number + 3})")


def learnt(traces: list[Trace], **distil: Any) -> Lessons:
    lessons = Lessons([problem(0), problem(1)], PROMPT, settings(**distil))
    for one in traces:
        lessons.add(one)
    return lessons


def test_of_a_problems_traces_the_best_rewards_are_learnt_and_no_workflow_twice():
    traces = [
        trace(0, other(0), 0.5),
        trace(1, other(1), 0.9),
        trace(2, other(1), 0.95),
        trace(3, other(2), 0.7),
        trace(4, other(3), 0.7),
        trace(5, other(4), 0.2, problem_id="scripted/1"),
    ]
    lessons = learnt(traces, per_problem=2)
    assert lessons.chosen == [2, 3, 5] and lessons.useful == 3
    assert lessons.describe() == (
        "SFT learns from 3 of 6 traces; left out: 2 with less reward than distil.per_problem=2 others, "
        "1 with a workflow that another trace of their problem has."
    )


def test_only_traces_that_add_a_row_count_as_progress():
    lessons = Lessons([problem(0)], PROMPT, settings(per_problem=2, traces=100))
    found = [lessons.add(one) for one in (trace(0), trace(1), trace(2, other(0)), trace(3, other(1)), trace(4, "no", problem_id="x"))]
    assert found == [True, False, True, False, False] and lessons.wanted == 2


LOST = {
    "a reply longer than model.max_response_tokens=2048": trace(0, "It is long. " * 400 + SINGLE_CALL),
    "a reply that was cut off at distil.max_tokens": trace(
        0, outcome=Outcome.NO_WORKFLOW, rounds=(TeacherRound(SINGLE_CALL, "Hm.", "length"),)
    ),
    "thoughts that are never closed or that no answer follows": trace(0, outcome=Outcome.NO_WORKFLOW, rounds=(TeacherRound("", "Hm."),)),
    "a prompt or a reply that the teacher's endpoint refused": trace(
        0, outcome=Outcome.NO_WORKFLOW, rounds=(TeacherRound("", finish_reason="refused"),)
    ),
    "the outcome no_workflow": trace(0, "no idea", outcome=Outcome.NO_WORKFLOW),
    "the outcome wrong_answer": trace(0, outcome=Outcome.WRONG_ANSWER),
    "the outcome infra_error": trace(0, outcome=Outcome.INFRA_ERROR, rounds=()),
    "a problem that is not trained on": trace(0, problem_id="held/out"),
}


@pytest.mark.parametrize("reason", LOST)
def test_every_trace_that_is_left_out_is_counted_with_its_reason(reason: str):
    lessons = learnt([LOST[reason], trace(1)])
    assert lessons.chosen == [1] and lessons.describe() == f"SFT learns from 1 of 2 traces; left out: 1 with {reason}."


def test_where_no_trace_is_left_a_sentence_says_why_and_what_to_do():
    long = next(iter(LOST.values()))
    with pytest.raises(ValueError, match=r"0 of 2 traces; .* 2 with a reply longer .* Now raise model.max_response_tokens, in a"):
        learnt([long, long]).refuse_if_none()
    with pytest.raises(ValueError, match=r"Now see traces.jsonl; some were lost to infrastructure, the last one to: no room"):
        learnt([LOST["the outcome infra_error"]]).refuse_if_none("no room")


def test_weighted_by_reward_wrong_answers_are_learnt_too_but_seldom():
    traces = [trace(0, reward=1.0), trace(1, other(0), -0.1, outcome=Outcome.WRONG_ANSWER), trace(2, other(1), None)]
    lessons = learnt(traces, weighting="exp_reward", tau=0.5)
    assert lessons.chosen == [0, 1]
    assert lessons.weights(traces[:2]) == pytest.approx([1, math.exp(-1.1 / 0.5)])
    assert learnt(traces, weighting="exp_reward", tau=1e-4).weights(traces[:2]) == [1, 0]
    assert "1 with no reward" in lessons.describe()
    assert learnt(traces).chosen == [0, 2] and learnt(traces).weights([traces[0], traces[2]]) == [1, 1]


def test_rows_of_equal_weight_are_each_met_once_a_pass():
    order = order_rows([3.0] * 7, 20, 5)
    assert len(order) == 20 and sorted(order[:7]) == sorted(order[7:14]) == list(range(7)) and order[:7] != order[7:14]


def test_rows_are_met_in_proportion_to_their_weight_and_the_same_at_every_call():
    order = order_rows([4.0, 1.0, 2.0, 1.0], 800, 5)
    assert [order.count(row) for row in range(4)] == pytest.approx([400, 100, 200, 100], abs=2)
    assert order == order_rows([4.0, 1.0, 2.0, 1.0], 800, 5) != order_rows([4.0, 1.0, 2.0, 1.0], 800, 6)


def test_a_turn_that_holds_another_workflow_than_the_one_that_passed_is_no_row():
    bare = SINGLE_CALL.removeprefix("```python\n").removesuffix("\n```")
    row = sft_row((1,), [Turn("", f"</think>{bare}\n</think>")], PROMPT, MODEL)
    assert row == LeftOut("a workflow that its reasoning hides", "ask another teacher (distil.model)")
    drafted = Turn("", f"<think>\nDraft:\n{TEST_LOOP}\n</think>\n\n{SINGLE_CALL}")
    assert isinstance(sft_row((1,), [drafted], PROMPT, MODEL), SFTRow)


def test_a_tokenizer_without_end_of_text_is_refused():
    tokenizer = qwen()
    prompt = MetaPrompt(tokenizer, MODEL)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="has no eos_token"):
        sft_row((1,), [Turn("", SINGLE_CALL)], prompt, MODEL)


def test_an_sft_batch_counts_the_policys_tokens_alone():
    rows = sft_batch([SFTRow((1, 2, 3), (4, 5, 6), (1, 0, 1)), SFTRow((1,), (6,), (1,))])
    assert rows.loss_mask_BT.tolist() == [[1, 0, 1], [1, 0, 0]]


def test_a_reply_that_is_just_too_long_for_the_policy_is_left_out_and_one_token_less_is_not():
    size = len(qwen()(SINGLE_CALL)["input_ids"])  # type: ignore[arg-type]
    fits = [
        sft_row((1,), [Turn("", SINGLE_CALL)], PROMPT, MODEL.model_copy(update={"max_response_tokens": size + more})) for more in (0, 1)
    ]
    assert isinstance(fits[0], LeftOut) and isinstance(fits[1], SFTRow)
