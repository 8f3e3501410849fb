"""What each operator asks and makes of the reply, against a scripted context."""

from collections.abc import Sequence

import pytest

from workflow.operators import OPERATORS, catalogue
from workflow.operators.context import TestReport
from workflow.operators.ensemble import LETTERS
from workflow.operators.test import CAUTION, NO_TEST
from workflow.problem import Problem
from workflow.worker.interface import Message

PROBLEM = Problem("p", "Write f(xs) that returns {the sum}.", "f", ("assert f([1, 2]) == 3",), ())
UNTESTED = Problem("p", PROBLEM.query, "f", (), ())


class ScriptedContext:
    """Answers every question with the next reply and runs no test really."""

    def __init__(self, *replies: str, problem: Problem = PROBLEM, report: TestReport | None = None) -> None:
        self.problem = problem
        self.replies = list(replies)
        self.report = report or TestReport(True, "")
        self.asked: list[list[Message]] = []
        self.tested: list[tuple[str, tuple[str, ...]]] = []

    async def ask(self, messages: Sequence[Message], *, temperature: float | None = None, max_tokens: int | None = None) -> str:
        self.asked.append(list(messages))
        return self.replies.pop(0)

    async def run_tests(self, solution: str, tests: Sequence[str]) -> TestReport:
        self.tested.append((solution, tuple(tests)))
        return self.report


async def call(name: str, context: ScriptedContext, *args: object, **kwargs: object):
    operator = OPERATORS[name]
    return await operator(context)(**operator.bind(args, kwargs))


def prompt_of(context: ScriptedContext) -> str:
    ((system, user),) = context.asked
    assert (system["role"], user["role"]) == ("system", "user")
    return user["content"]


CODE = "def f(xs):\n    return sum(xs)"
FENCED = f"Here:\n```python\n{CODE}\n```\nDone."


async def test_generate_asks_with_problem_and_entry_point_and_returns_code():
    context = ScriptedContext(FENCED)
    assert await call("generate", context, PROBLEM.query) == CODE
    prompt = prompt_of(context)
    assert f"<problem>\n{PROBLEM.query}\n</problem>" in prompt and "<entry_point>\nf\n</entry_point>" in prompt
    assert "<instruction>" not in prompt


async def test_generate_hands_an_instruction_on():
    context = ScriptedContext(FENCED)
    await call("generate", context, "p", "Think step by step.")
    assert "<instruction>\nThink step by step.\n</instruction>" in prompt_of(context)


async def test_custom_returns_the_reply_as_it_is():
    context = ScriptedContext(FENCED)
    assert await call("custom", context, "an input", instruction="Do {it}.") == FENCED
    assert prompt_of(context) == "<input>\nan input\n</input>\n<instruction>\nDo {it}.\n</instruction>"


async def test_revise_shows_solution_and_feedback_and_returns_code():
    context = ScriptedContext(FENCED)
    assert await call("revise", context, "p", "old code", "It is wrong.") == CODE
    prompt = prompt_of(context)
    assert "<solution>\nold code\n</solution>" in prompt and "<feedback>\nIt is wrong.\n</feedback>" in prompt


@pytest.mark.parametrize(
    ("reply", "approved", "feedback"),
    [
        ("Verdict: approved", True, ""),
        ("**Verdict:** Approved.", True, ""),
        ("Verdict: rejected\nIt drops the last number.", False, "It drops the last number."),
        ("VERDICT - REJECTED\nNo.", False, "No."),
        ("Verdict: rejected, since it drops the last number.", False, "since it drops the last number."),
        ("I doubt it.\nVerdict: approve", True, "I doubt it."),
        (
            "Verdict: approved\nOn second thought.\nVerdict: rejected\nThe loop ends early.",
            False,
            "On second thought.\nThe loop ends early.",
        ),
        ("Verdict: not approved\nNo.", False, "No."),
        ("Looks fine to me.", False, "Looks fine to me."),
        ("", False, ""),
    ],
)
async def test_review_reads_the_verdict(reply: str, approved: bool, feedback: str):
    assert await call("review", ScriptedContext(reply), "p", CODE) == {"approved": approved, "feedback": feedback}


async def test_test_runs_the_public_tests_without_asking_the_worker():
    context = ScriptedContext(report=TestReport(False, "assert f([1, 2]) == 3 failed"))
    assert await call("test", context, "p", FENCED) == {"passed": False, "feedback": "assert f([1, 2]) == 3 failed"}
    assert context.asked == []
    assert context.tested == [(CODE, PROBLEM.public_tests)], "the code is taken out of its fence"


async def test_test_asks_the_worker_for_an_assert_where_there_are_no_public_tests():
    context = ScriptedContext("```python\nassert f([1]) == 1, 'first'\nassert f([2]) == 2\n```", problem=UNTESTED)
    assert await call("test", context, "p", CODE) == {"passed": True, "feedback": ""}
    assert context.tested == [(CODE, ("assert f([1]) == 1",))]


async def test_a_failed_test_of_the_worker_comes_with_a_caution():
    context = ScriptedContext("assert f([1]) == 2", problem=UNTESTED, report=TestReport(False, "assert f([1]) == 2: got 1"))
    assert await call("test", context, "p", CODE) == {"passed": False, "feedback": f"{CAUTION}\nassert f([1]) == 2: got 1"}


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "I cannot.",
            "",
            "assert True",
            "assert g(1) == 2",
            "assert f(open('x').read())",
            "assert f.__class__",
            "f([1]) == 1",
            "assert f(y) == 1",
        ),
        *(
            "assert f([1]) ==",
            "assert " + "f" * 5000 + "(1)",
            "x\0assert f(1)",
            "assert f(__import__('os'))",
            "assert " + "-" * 3000 + "f(1)",
        ),
    ],
)
async def test_a_reply_without_a_usable_assert_does_not_pass_and_runs_nothing(reply: str):
    context = ScriptedContext(reply, problem=UNTESTED)
    assert await call("test", context, "p", CODE) == {"passed": False, "feedback": NO_TEST}
    assert context.tested == []


@pytest.mark.parametrize(
    "reply",
    [
        "Sure: here it is.\nassert f([3, 4]) == 7\nGood luck!",
        "```python\ndef check(candidate):\n    assert f([3, 4]) == 7\n```",
        "```python\n>>> nonsense here\nassert f([3, 4]) == 7\n```",
    ],
)
async def test_an_assert_is_found_amid_other_text(reply: str):
    context = ScriptedContext(reply, problem=UNTESTED)
    await call("test", context, "p", CODE)
    assert context.tested == [(CODE, ("assert f([3, 4]) == 7",))]


async def test_ensemble_shows_lettered_candidates_and_returns_the_chosen_one():
    context = ScriptedContext("B")
    assert await call("ensemble", context, "p", ["one", "two", "three"]) == "two"
    assert '<candidate letter="A">\none\n</candidate>\n<candidate letter="B">\ntwo\n</candidate>' in prompt_of(context)


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        *(("C", 2), ("c.", 2), ("**B**", 1), ("(A)", 0), ("Answer: B", 1), ("The best is candidate C.", 2), ("A is wrong.\nAnswer: C", 2)),
        *(("I compare them.\n\nB", 1), ("The answer is B", 1), ("Only B returns a list.", 1), ("Choice: A. Not choice: B... Answer: A", 0)),
    ],
)
async def test_a_choice_is_read_from_many_forms(reply: str, chosen: int):
    candidates = ["one", "two", "three"]
    assert await call("ensemble", ScriptedContext(reply), "p", candidates) == candidates[chosen]


@pytest.mark.parametrize("reply", ["", "none of them", "D", "A or B or C", "42", "Answer: Z"])
async def test_an_unreadable_choice_falls_back_on_the_most_common_candidate(reply: str):
    assert await call("ensemble", ScriptedContext(reply), "p", ["one", "two", "two"]) == "two"
    assert await call("ensemble", ScriptedContext(reply), "p", ["one", "two", "three"]) == "one"


async def test_equal_candidates_cost_no_worker_call():
    context = ScriptedContext()
    assert await call("ensemble", context, "p", ["same"] * 5) == "same"
    assert context.asked == []


async def test_as_many_candidates_as_letters_fit_and_no_more():
    candidates = [str(number) for number in range(len(LETTERS))]
    assert await call("ensemble", ScriptedContext("Z"), "p", candidates) == "25"
    with pytest.raises(TypeError, match="1 to 26"):
        OPERATORS["ensemble"].bind(["p", [*candidates, "27th"]], {})


BAD_CALLS = [
    ("generate", [], {}, "missing a required argument: 'problem'"),
    ("generate", ["p", "i", "x"], {}, "too many positional"),
    ("generate", ["p"], {"style": "x"}, "unexpected keyword argument 'style'"),
    ("generate", [3], {}, "problem must be a string, not a int"),
    ("generate", [None], {}, "problem must be a string, not a None"),
    ("revise", ["p", "s", {"passed": True}], {}, "feedback must be a string, not a report or dict"),
    ("ensemble", ["p", "s"], {}, "solutions must be a list of strings, not a string"),
    ("ensemble", ["p", ["s", 1]], {}, r"solutions\[1\] must be a string, not a int"),
    ("ensemble", ["p", []], {}, "1 to 26"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "sentence"), BAD_CALLS)
def test_a_wrong_call_is_told_what_is_wrong(name: str, args: list, kwargs: dict, sentence: str):
    with pytest.raises(TypeError, match=sentence) as caught:
        OPERATORS[name].bind(args, kwargs)
    assert str(caught.value).startswith(f"self.{name}(problem: str")


def test_bind_fills_in_defaults_and_takes_keywords():
    assert OPERATORS["generate"].bind([], {"problem": "p"}) == {"problem": "p", "instruction": ""}
    assert OPERATORS["custom"].bind(["x"], {"instruction": "i"}) == {"input": "x", "instruction": "i"}


def test_operators_are_told_apart_by_their_system_messages():
    assert len({operator.system for operator in OPERATORS.values()}) == len(OPERATORS)
    assert {name: operator.name for name, operator in OPERATORS.items()} == {name: name for name in OPERATORS}


def test_the_catalogue_names_call_result_meaning_and_cost_of_every_operator():
    entries = catalogue().split("\n- ")
    assert len(entries) == len(OPERATORS)
    assert "await self.test(problem: str, solution: str) -> report with .passed: bool, .feedback: str" in catalogue()
    assert "await self.ensemble(problem: str, solutions: list[str]) -> str" in catalogue()
    for entry, operator in zip(entries, OPERATORS.values(), strict=True):
        assert f"self.{operator.name}(" in entry and operator.cost in entry
        assert operator.__doc__ and operator.__doc__.split(".")[0].strip()[:30] in entry
