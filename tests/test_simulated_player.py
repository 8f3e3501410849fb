"""The simulated worker behind the real operators: it understands their requests, and answers depend on the request alone."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import count

import pytest

from workflow.nano.problems import find_query, nano_problem
from workflow.nano.simulated.book import Book
from workflow.nano.simulated.nano_puzzle import NanoPuzzle, nano_puzzle
from workflow.nano.simulated.player import TEACHER_MODEL, UNKNOWN_PROBLEM, WORKER_MODEL, Player
from workflow.nano.simulated.skill import stream
from workflow.number import read_number
from workflow.operators import OPERATORS
from workflow.operators.context import TestReport
from workflow.problem import Problem
from workflow.settings import SimulatedWorkerSettings
from workflow.verifiers import find_verifier
from workflow.worker.interface import Message

PLAIN = SimulatedWorkerSettings(problem_shift_sigma=0.0)
PROBLEMS = [nano_problem(0, "train", index) for index in range(72)]


def puzzle_of(problem: Problem) -> NanoPuzzle:
    found = find_query(problem.query)
    assert found is not None
    return nano_puzzle(*found)


class OnePlayer:
    """An operator context whose worker is a Player in this process."""

    def __init__(self, problem: Problem, player: Player, seed: int = 0) -> None:
        self.problem = problem.public_view()
        self.player = player
        self.samples = count()
        self.seed = seed
        self.asked: list[Sequence[Message]] = []

    async def ask(self, messages: Sequence[Message], *, temperature: float | None = None, max_tokens: int | None = None) -> str:
        self.asked.append(messages)
        return self.player.answer(WORKER_MODEL, messages, (self.seed, next(self.samples)))

    async def run_tests(self, solution: str, tests: Sequence[str]) -> TestReport:
        return TestReport(False, f"Failed: {tests[0]}")


async def test_every_operator_gets_an_answer_it_understands() -> None:
    problem = next(problem for problem in PROBLEMS if problem.level == 4 and not problem.has_examples)
    context = OnePlayer(problem, Player(SimulatedWorkerSettings(review_false_alarm=0.0), Book()))
    puzzle = puzzle_of(problem)
    right, wrong = puzzle.program(()).strip(), puzzle.program(puzzle.mistake(stream(2))).strip()
    run = {name: operator(context) for name, operator in OPERATORS.items()}
    assert puzzle.bugs(await run["generate"](problem.query)) is not None
    assert puzzle.bugs(await run["generate"](problem.query, "Think step by step.")) is not None
    assert puzzle.bugs(await run["custom"](problem.query, "Write the function.")) is not None
    assert (await run["custom"](problem.query, "List the steps.")).startswith("1. ")
    assert (await run["review"](problem.query, right))["approved"]
    reviews = [await run["review"](problem.query, wrong) for _ in range(20)]
    assert sum(not review["approved"] for review in reviews) >= 10
    assert all(review["feedback"].startswith("Point ") for review in reviews if not review["approved"])
    assert puzzle.bugs(await run["revise"](problem.query, wrong, "Point 1: wrong.")) is not None
    assert await run["ensemble"](problem.query, [wrong, right, right + "\n"]) == right
    report = await run["test"](problem.query, right)
    assert "assert f([" in report["feedback"]


async def test_custom_prompts_that_quote_programs_are_voted_reviewed_or_revised() -> None:
    problem = next(problem for problem in PROBLEMS if problem.level == 3)
    context = OnePlayer(problem, Player(SimulatedWorkerSettings(review_false_alarm=0.0), Book()))
    puzzle = puzzle_of(problem)
    right, wrong = puzzle.program(()), puzzle.program(puzzle.mistake(stream(3)))
    custom = OPERATORS["custom"](context)
    best = await custom(f"{problem.query}\n\n{wrong}\n{right}\n{right}", "Merge these solutions into the best one.")
    assert puzzle.bugs(best) == ()
    assert await custom(f"{problem.query}\n\n{right}", "Criticise this solution.") == "I find no mistake."
    assert puzzle.bugs(await custom(f"{problem.query}\n\n{right}", "Improve this solution.")) == ()


async def test_a_debater_takes_over_what_most_others_wrote() -> None:
    problem = next(problem for problem in PROBLEMS if problem.level == 5)
    context = OnePlayer(problem, Player(PLAIN, Book()))
    puzzle = puzzle_of(problem)
    right, wrong = puzzle.program(()).strip(), puzzle.program(puzzle.mistake(stream(3))).strip()
    others = f"Other agents wrote these solutions.\n\n{right}\n\n{wrong}\n\n{right}"
    assert puzzle.bugs(await OPERATORS["revise"](context)(problem.query, wrong, others)) == ()


async def test_a_hint_around_the_query_does_not_hide_the_problem() -> None:
    problem = PROBLEMS[0]
    context = OnePlayer(problem, Player(PLAIN, Book()))
    answer = await OPERATORS["generate"](context)(f"{problem.query}\nHint: mind the empty list.")
    assert puzzle_of(problem).bugs(answer) is not None


async def test_an_unknown_problem_is_answered_honestly() -> None:
    context = OnePlayer(PROBLEMS[0], Player(PLAIN, Book()))
    assert await OPERATORS["custom"](context)("What is the weather?", "Answer.") == UNKNOWN_PROBLEM


def ask(player: Player, problem: Problem, sample: object, model: str = WORKER_MODEL) -> str:
    user = f"<problem>\n{problem.query}\n</problem>"
    messages: list[Message] = [{"role": "system", "content": OPERATORS["generate"].system}, {"role": "user", "content": user}]
    return player.answer(model, messages, sample)


def test_the_teacher_goes_on_about_its_query_after_feedback() -> None:
    player, asked = Player(PLAIN, Book()), PROBLEMS[0].query
    chat: list[Message] = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": player.answer(TEACHER_MODEL, [{"role": "user", "content": asked}], 0)},
        {"role": "user", "content": "Round 1 of 3: 0 of 1 public tests passed.\nWrite the next workflow."},
    ]
    assert "class Workflow" in player.answer(TEACHER_MODEL, chat, 0)


@pytest.mark.parametrize("model", [WORKER_MODEL, TEACHER_MODEL])
def test_answers_depend_on_server_seed_messages_and_sample_alone(model: str) -> None:
    first, second = Player(PLAIN, Book()), Player(PLAIN, Book())
    asked = [(problem, sample) for problem in PROBLEMS[:60] for sample in range(3)]
    answers = {(problem.id, sample): ask(first, problem, sample, model) for problem, sample in asked}
    assert answers == {(problem.id, sample): ask(second, problem, sample, model) for problem, sample in reversed(asked)}
    assert len({ask(first, PROBLEMS[7], sample, model) for sample in range(40)}) > 1
    other = Player(SimulatedWorkerSettings(problem_shift_sigma=0.0, seed=1), Book())
    assert any(ask(other, problem, 0, model) != answers[problem.id, 0] for problem in PROBLEMS[:60])


NUMERIC = Problem("g/0", "How many eggs?", "", (), ("18",), reference="<<9*1=9>>9 + <<9*1=9>>9\n#### 18", verifier="number")


def asked_number(operator: str, sample: int, **sections: str) -> str:
    player = Player(SimulatedWorkerSettings(), Book([NUMERIC]))
    kind = OPERATORS[operator]
    form = {"form": find_verifier("number").form, "entry_point": "", "instruction": "", "analysis": "", "failure": ""}
    text = kind.prompt.format(**{"problem": NUMERIC.query, **form, **sections})
    messages: list[Message] = [{"role": "system", "content": kind.system}, {"role": "user", "content": text}]
    return player.answer(WORKER_MODEL, messages, sample)


@pytest.mark.parametrize("operator", ["generate", "answer", "program"])
def test_numeric_problems_are_mostly_answered_rightly_and_sometimes_wrongly(operator: str):
    found = [read_number(asked_number(operator, sample).replace("return", "answer:")) for sample in range(60)]
    assert 30 < found.count(Fraction(18)) < 60 and None not in found


def test_a_wrong_number_is_found_in_review_and_repaired():
    wrong = next(reply for reply in (asked_number("generate", sample) for sample in range(99)) if "#### 18" not in reply)
    reviews = [asked_number("review", sample, solution=wrong) for sample in range(40)]
    rejected = next(review for review in reviews if "rejected" in review)
    assert sum("rejected" in review for review in reviews) > 25
    revised = [asked_number("revise", sample, solution=wrong, feedback=rejected) for sample in range(40)]
    assert sum("#### 18" in text for text in revised) > 10
    assert asked_number("format", 0, solution=wrong).startswith("<answer>")
