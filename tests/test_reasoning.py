"""A teacher's reasoning and its workflow, and the form in which a policy learns them."""

import pytest

from tests.scripted_parts import SINGLE_CALL, TEST_LOOP
from workflow.language.parse import find_source, parse_workflow
from workflow.language.reasoning import format_reasoning, join_reasoning, policy_turn, split_reasoning
from workflow.program import Workflow

R1_END = "<assistant><think>\n"
PLAIN_END = "<|im_start|>assistant\n"
THOUGHTS = "It is easy, one call is enough."


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{THOUGHTS}\n</think>\n\n{SINGLE_CALL}",
        f"{THOUGHTS}\n</think>\n\n{SINGLE_CALL}",
        f"\n<think>{THOUGHTS}</think>{SINGLE_CALL}",
        join_reasoning(THOUGHTS, SINGLE_CALL),
        f"<thinking>\n{THOUGHTS}\n</thinking>\n{SINGLE_CALL}",
        f"[THINK]{THOUGHTS}[/THINK]{SINGLE_CALL}",
    ],
    ids=["tags", "opened_by_the_template", "one_line", "joined", "thinking", "mistral"],
)
def test_inline_thoughts_are_told_from_the_answer(text: str):
    assert split_reasoning(text) == (THOUGHTS, SINGLE_CALL)


@pytest.mark.parametrize("text", ["no thoughts", SINGLE_CALL, "Prose.\n" + SINGLE_CALL])
def test_a_text_without_tags_is_all_answer(text: str):
    assert split_reasoning(text) == ("", text)


def test_thoughts_that_are_never_closed_have_no_answer():
    assert split_reasoning(f"<think>\nA draft:\n{SINGLE_CALL}")[1] == ""


def test_a_tag_that_the_thoughts_mention_does_not_end_them():
    thoughts, answer = split_reasoning(f"I close with </think> later.\nNow.</think>\n{SINGLE_CALL}")
    assert answer == SINGLE_CALL and "later" in thoughts and "</think>" not in thoughts


def test_a_tag_in_the_code_is_code():
    code = SINGLE_CALL.replace("return answer", 'return answer.split("</think>")[-1]')
    assert split_reasoning(join_reasoning(THOUGHTS, code)) == (THOUGHTS, code)


TEACHERS = {
    "reasoning": join_reasoning(THOUGHTS, SINGLE_CALL),
    "reasoning_and_prose": join_reasoning(THOUGHTS, "Here it is:\n" + SINGLE_CALL),
    "reasoning_with_draft": join_reasoning(f"First:\n{TEST_LOOP}\nToo dear.", SINGLE_CALL),
    "reasoning_with_open_fence": join_reasoning("First:\n```python\nclass Workflow:\n    pass", SINGLE_CALL),
    "reasoning_with_tags": join_reasoning("I write </think> and <think> when I am done.", SINGLE_CALL),
    "template_opened": f"{THOUGHTS}</think>{SINGLE_CALL}",
    "prose": f"{THOUGHTS}\n{SINGLE_CALL}",
    "prose_after": f"{THOUGHTS}\n{SINGLE_CALL}\nThat is all.",
    "draft_in_prose": f"First:\n{TEST_LOOP}\nToo dear, so:\n{SINGLE_CALL}",
    "code_alone": SINGLE_CALL,
    "bare_code": SINGLE_CALL.removeprefix("```python\n").removesuffix("\n```"),
    "bare_code_after_prose": f"{THOUGHTS}\n\n" + SINGLE_CALL.removeprefix("```python\n").removesuffix("\n```"),
    "tag_in_code": join_reasoning(THOUGHTS, SINGLE_CALL.replace("return answer", 'return answer.split("</think>")[-1]')),
}


@pytest.mark.parametrize("end", [R1_END, "<think>", "<think>\n\n", PLAIN_END, "<think>\n\n</think>\n\n"])
@pytest.mark.parametrize("text", TEACHERS.values(), ids=TEACHERS)
def test_a_target_holds_the_teachers_workflow_and_no_code_in_open_thoughts(text: str, end: str):
    turn = policy_turn(text, end)
    whole = end + turn
    assert find_source(turn) == find_source(text) and isinstance(parse_workflow(turn), Workflow)
    opened = end.rstrip().endswith("<think>")
    assert not opened or "</think>" in turn
    thoughts = turn.partition("</think>")[0]
    assert thoughts.count("<think>") == (0 if opened or "</think>" not in turn else 1)
    assert whole.rfind("class Workflow") > whole.find("</think>", whole.find("<think>"))


@pytest.mark.parametrize("text", [join_reasoning(THOUGHTS, SINGLE_CALL), f"{THOUGHTS}\n{SINGLE_CALL}"], ids=["reasoning", "prose"])
def test_where_the_template_opens_the_thoughts_the_target_goes_on_inside_and_closes_them(text: str):
    assert policy_turn(text, R1_END) == f"{THOUGHTS}\n</think>\n\n{SINGLE_CALL}"


def test_where_the_template_opens_nothing_the_target_opens_its_own_thoughts():
    assert policy_turn(join_reasoning(THOUGHTS, SINGLE_CALL), PLAIN_END) == f"<think>\n{THOUGHTS}\n</think>\n\n{SINGLE_CALL}"


def test_a_teacher_without_reasoning_is_imitated_as_it_is():
    assert policy_turn(f"Plan.\n{SINGLE_CALL}", "<|assistant|>") == f"Plan.\n{SINGLE_CALL}"


@pytest.mark.parametrize(
    "text", [f"{THOUGHTS}\n</think>\n\n{SINGLE_CALL}", f"{THOUGHTS}\n{SINGLE_CALL}", join_reasoning(THOUGHTS, SINGLE_CALL)]
)
def test_people_are_shown_the_reasoning_without_its_tags(text: str):
    assert format_reasoning(text) == THOUGHTS
