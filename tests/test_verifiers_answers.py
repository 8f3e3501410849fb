"""Verifiers of answers that are no code, on replies as models write them."""

import json
from collections.abc import Sequence

import pytest

from sandbox.judges.runner import BoxRunner
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.verifiers import VERIFIERS, find_libraries, find_verifier
from workflow.verifiers.answer_text import normalize_answer, read_final_answer
from workflow.verifiers.choice import read_letter
from workflow.verifiers.runner import Examined, ProgramResult

NO_RUNNER: BoxRunner = None  # pyright: ignore[reportAssignmentType]  # these verifiers run nothing


def problem(verifier: str, test: str) -> Problem:
    return Problem("p", "What is it?", "", (), (test,), verifier=verifier)


async def grades(verifier: str, test: str, answers: Sequence[str]) -> list[float]:
    asked = problem(verifier, test)
    found = [await find_verifier(verifier).examine(NO_RUNNER, asked, answer, (test,)) for answer in answers]
    return [round((one.grades or [float(one.results[0] is None)])[0], 3) for one in found]


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("Answer: C", "C"),
        ("**Answer: (B)**", "B"),
        ("The answer is D.", "D"),
        ("The correct answer is **A**", "A"),
        ("so it must be \\boxed{B}", "B"),
        ("$\\boxed{\\text{E}}$", "E"),
        ("<think>The answer is A? no.</think>\nB is best, since ...\nAnswer: B", "B"),
        ("First I thought answer: A. It is not.\nFinal answer: C", "C"),
        ("Because of this:\n\n(D)", "D"),
        ("<answer>B</answer>", "B"),
        ("#### C", "C"),
        ("Answer: B because of gravity", "B"),
        ("The answer is B since x", "B"),
        ("**Answer: B is correct**", "B"),
        ("The answer is therefore B.", "B"),
        ("The correct answer to the question is option B.", "B"),
        ("answer: b", "B"),
        ("The answer is (a).", "A"),
        ("Answer: A is right, since x", "A"),
        ("**Final Answer**\nD", "D"),
        ("B. Gravity", "B"),
        ("It falls.\nB) Gravity", "B"),
        ("<answer>B. Gravity</answer>", "B"),
        ("Answer: C\n\nOption A: wrong.\nOption D: not right.", "C"),
        ("The correct answer is B.\n\nA is wrong; option C, too.", "B"),
        ("\\boxed{C}, since option A fails.", "C"),
        ("I choose option C", "C"),
        ("<think>Maybe Answer: C", None),
        ("<|channel|>analysis<|message|>Answer: A", None),
        ("<|channel|>analysis<|message|>Answer: A<|channel|>final<|message|>Answer: B<|return|>", "B"),
        ("A. one\nB. two\nC. three\nD. four", None),
        ("The answer is not B", None),
        ("The answer is a bit unclear.", None),
        ("The answer is A bit unclear", None),
        ("A B C D", None),
        ("A\nB\nC\nD", None),
        ("Both A and B look right.", None),
        ("", None),
    ],
)
def test_the_letter_that_an_answer_chooses(reply: str, letter: str | None) -> None:
    assert read_letter(reply) == letter


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<think>Paris?</think> It is Lyon. <answer>Lyon</answer>", "Lyon"),
        ("Some reasoning.\nThe final answer is: **Lyon**", "Lyon"),
        ("Answer: 12 May 1990", "12 May 1990"),
        ("work\n#### 42", "42"),
        ("Lyon", "Lyon"),
        ("<answer>Lyon", "Lyon"),
        ("Paris is the answer.", "Paris is the answer."),
        ("Paris\n\nThis answer follows from the text.", "Paris\n\nThis answer follows from the text."),
        ("The answer to the question is Paris.", "Paris."),
        ("**Final Answer**\nParis", "Paris"),
        ("**Final Answer**\n\nThe answer is: Paris", "Paris"),
        ("The answer is\nParis", "Paris"),
        ("Answer: Paris\nThe final answer is **", "Paris"),
        ("Paris <answer> </answer>", "Paris <answer> </answer>"),
        ("<think>The answer is Rome", ""),
    ],
)
def test_where_the_final_answer_of_a_reply_stands(reply: str, answer: str) -> None:
    assert read_final_answer(reply) == answer


async def test_exact_match_folds_what_squad_folds_and_takes_any_of_the_accepted_texts() -> None:
    test = json.dumps(["The Eiffel Tower", "La tour Eiffel"])
    assert await grades("exact_match", test, ["eiffel tower.", "<answer>la tour Eiffel</answer>", "Eiffel", ""]) == [1, 1, 0, 0]
    assert await grades("exact_match", "42", ["42", "43"]) == [1, 0]
    assert normalize_answer("An  Apple, the pear!") == "apple pear"


async def test_f1_is_the_share_of_words_in_common_and_yes_or_no_is_all_or_nothing() -> None:
    assert await grades("f1", "Barack Obama", ["barack obama", "President Barack Obama", "Obama", "Trump"]) == [1, 0.8, 0.667, 0]
    assert await grades("f1", "yes", ["Yes.", "no", "yes it is"]) == [1, 0, 0]


async def passes(verifier: str, test: str, answer: str) -> bool:
    return (await find_verifier(verifier).examine(NO_RUNNER, problem(verifier, test), answer, (test,))).results == [None]


async def test_the_same_words_in_another_order_are_graded_and_do_not_pass() -> None:
    for verifier in ("f1", "drop"):
        assert await grades(verifier, "John Smith", ["Smith John"]) == [1]
        assert not await passes(verifier, "John Smith", "Smith John") and await passes(verifier, "John Smith", "the john smith.")


async def test_drop_wants_the_number_right_and_each_of_several_spans() -> None:
    assert await grades("drop", "12", ["12", "12 yards", "13 yards", "12.0"]) == [1, 0.667, 0, 1]
    spans = json.dumps([["Tom Brady", "Joe Montana"]])
    assert await grades("drop", spans, ["Tom Brady", "nobody"]) == [0.5, 0]
    assert await grades("drop", json.dumps([["second-half"], ["the second half"]]), ["second half"]) == [1]


@pytest.mark.parametrize(
    ("spans", "answer", "grade"),
    [
        (["Tom Brady", "Joe Montana"], "Tom Brady, Joe Montana", 1),
        (["Tom Brady", "Joe Montana"], "<answer>Joe Montana and Tom Brady</answer>", 1),
        (["Tom Brady", "Joe Montana"], "<answer>- Joe Montana\n- Tom Brady</answer>", 1),
        (["a man", "b", "c"], "a man, b, and c", 1),
        (["Johnson and Johnson", "2,000 men"], "2,000 men, Johnson and Johnson", 1),
        (["Tom Brady", "Joe Montana"], "Tom Brady, Joe Montana, Bart Starr", 0.667),
        (["Tom Brady", "Joe Montana"], "Tom Brady, Joe", 0.833),
        (["5 yards", "7 yards"], "7 yards, 6 yards", 0.5),
    ],
)
async def test_several_spans_are_aligned_with_what_an_answer_lists(spans: list[str], answer: str, grade: float) -> None:
    test = json.dumps([spans])
    assert await grades("drop", test, [answer]) == [grade]
    assert await passes("drop", test, answer) == (grade == 1)


async def test_many_spans_are_aligned_in_little_time() -> None:
    spans = [f"word {letter}" for letter in "bcdefghijklmnopqrstu"]
    assert await grades("drop", json.dumps([spans]), [", ".join(spans[::-1]), "word, " * 3000]) == [1, 0.033]


@pytest.mark.parametrize("name", ["choice", "exact_match", "f1", "drop"])
async def test_no_answer_that_knows_nothing_passes(name: str) -> None:
    for test in ("A", "D", "J") if name == "choice" else ("42", "Lyon"):
        asked = problem(name, test)
        for control in find_verifier(name).controls(asked).values():
            examined = await find_verifier(name).examine(NO_RUNNER, asked, control, (test,))
            assert examined.results[0] is not None, control


def test_readers_take_time_in_proportion_to_the_answer() -> None:
    for piece in (
        "answer ",
        "answer\n",
        "answer is most likely ",
        "answer a b c d e f g",
        "#### ",
        "<answer>",
        "\\boxed{",
        "(A",
        "*",
        " \t",
        "the ",
    ):
        text = piece * (1_000_000 // len(piece))
        read_final_answer(text)  # else the test's own limit ends it
        assert read_letter(text) in ("A", None)


MATH = [
    ("\\frac{1}{2}", "so we get $\\boxed{0.5}$", True),
    ("\\frac{1}{2}", "\\boxed{\\dfrac{2}{4}}", True),
    ("x^2+2x+1", "The answer is $(x+1)^2$.", True),
    ("(3, \\frac{\\pi}{2})", "\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}", True),
    ("12", "<think>\\boxed{13}</think> Therefore \\boxed{12}.", True),
    ("\\sqrt{2}", "\\boxed{1.414}", False),
    ("12", "\\boxed{13}", False),
    ("12", "I do not know.", False),
    ("2", "\\boxed{9^{9^{9^{9^{9}}}}}", False),
    ("0.\\overline{3}", "\\boxed{0}", False),
    ("0.\\overline{3}", "\\boxed{\\frac{1}{3}}", True),
    ("0.\\overline{3}", "\\boxed{0.\\bar{3}}", True),
    ("-\\frac{7}{6}", "\\boxed{-1.1\\overline{6}}", True),
    ("12", "<|channel|>analysis<|message|>\\boxed{12}", False),
]


async def test_maths_is_compared_as_expressions_in_the_box() -> None:
    """Also where simplifying an answer would never end, or its text would be code."""
    settings = SandboxSettings(verdict_cache_entries=0).with_libraries(find_libraries([problem("math", "1")]))
    assert settings.libraries == ("math_verify",)
    async with Sandbox(settings) as sandbox:
        for test, answer, right in [*MATH, ("1", "__import__('os').getpid()", False)]:
            verdict = await sandbox.judge(problem("math", test), answer)
            assert (verdict.outcome is Outcome.PASSED) == right, (test, answer, verdict)
            assert verdict.outcome is not Outcome.INFRA_ERROR
        for control in find_verifier("math").controls(problem("math", "7")).values():
            assert (await sandbox.judge(problem("math", "7"), control)).outcome is Outcome.WRONG_ANSWER
        assert (await sandbox.judge(problem("math", " "), "\\boxed{1}")).outcome is Outcome.INFRA_ERROR


async def test_a_graded_verdict_is_worth_its_grades_and_passes_only_as_a_whole() -> None:
    async with Sandbox(SandboxSettings(verdict_cache_entries=0)) as sandbox:
        half = await sandbox.judge(problem("f1", "Barack Obama"), "President Barack Obama")
        whole = await sandbox.judge(problem("f1", "Barack Obama"), "Barack Obama")
    assert (half.outcome, round(half.performance, 2)) == (Outcome.WRONG_ANSWER, 0.8)
    assert (whole.outcome, whole.performance) == (Outcome.PASSED, 1.0)


class BrokenRunner:
    """A box in which a package is missing."""

    async def run_programs(self, source: str, inputs: Sequence[str], output_bytes: int = 0) -> tuple[list[ProgramResult], bool]:
        return [ProgramResult(False, "ModuleNotFoundError: No module named 'math_verify'")], False

    async def test_apart(self, source: str, tests: Sequence[str]) -> Examined:
        raise NotImplementedError

    test_beside = test_apart

    async def ask(self, system: str, prompt: str, ordinal: int = 0) -> str:
        raise NotImplementedError


async def test_a_missing_package_is_no_wrong_answer() -> None:
    with pytest.raises(ValueError, match=r"sandbox\.libraries"):
        await find_verifier("math").examine(BrokenRunner(), problem("math", "1"), "\\boxed{1}", ("1",))


def test_every_verifier_is_registered_by_its_name() -> None:
    assert {"math", "choice", "exact_match", "f1", "drop"} <= set(VERIFIERS)
