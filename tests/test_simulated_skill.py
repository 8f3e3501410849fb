"""The simulated worker's abilities: their rates are those of its settings, its wrong answers are really wrong programs."""

import math
from collections.abc import Sequence

import pytest

from workflow.nano.composition import align, apply, disagreement, read_program
from workflow.nano.problems import find_query, nano_problem
from workflow.nano.simulated.nano_puzzle import NanoPuzzle, nano_puzzle
from workflow.nano.simulated.puzzle import Bug
from workflow.nano.simulated.skill import Skill, stream
from workflow.problem import Problem
from workflow.settings import SimulatedWorkerSettings

PLAIN = SimulatedWorkerSettings(problem_shift_sigma=0.0)
PROBLEMS = [nano_problem(0, "train", index) for index in range(480)]


def puzzle_of(problem: Problem) -> NanoPuzzle:
    found = find_query(problem.query)
    assert found is not None
    return nano_puzzle(*found)


def of_level(level: int) -> list[NanoPuzzle]:
    return [puzzle_of(problem) for problem in PROBLEMS if problem.level == level]


def assert_rate(hits: Sequence[bool], expected: float) -> None:
    """Within four standard errors."""
    rate = sum(hits) / len(hits)
    assert abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / len(hits)) + 1e-9, (rate, expected, len(hits))


@pytest.mark.parametrize("level", range(1, 7))
def test_the_worker_solves_as_often_as_its_level_says(level: int) -> None:
    skill = Skill(PLAIN)
    hits = [not puzzle.bugs(skill.generate(puzzle, stream(level, run, puzzle.key))) for puzzle in of_level(level) for run in range(10)]
    assert_rate(hits, PLAIN.solve[level - 1])


def test_problems_of_a_level_differ_in_difficulty_around_its_rate() -> None:
    skill = Skill(SimulatedWorkerSettings())
    logits = [math.log(chance / (1 - chance)) for puzzle in of_level(3) if (chance := skill.solve_probability(puzzle))]
    mean = sum(logits) / len(logits)
    spread = math.sqrt(sum((logit - mean) ** 2 for logit in logits) / len(logits))
    assert abs(mean - math.log(0.66 / 0.34)) < 0.3
    assert 0.4 < spread < 0.8


def test_three_in_ten_wrong_answers_are_the_problems_own_misreading() -> None:
    skill = Skill(PLAIN)
    hits = []
    for puzzle in of_level(6):
        favourite = puzzle.program(skill.favourite(puzzle))
        answers = [skill.generate(puzzle, stream("favourite", run, puzzle.key)) for run in range(30)]
        hits += [answer == favourite for answer in answers if puzzle.bugs(answer)]
    share = sum(hits) / len(hits)
    assert 0.30 < share < 0.42  # other wrong answers hit the same program by chance


def test_wrong_answers_are_programs_that_fail_most_hidden_tests() -> None:
    skill = Skill(PLAIN)
    failed = []
    for problem in PROBLEMS:
        puzzle = puzzle_of(problem)
        answer = skill.generate(puzzle, stream("wrong", puzzle.key))
        if puzzle.bugs(answer):
            steps = read_program(answer)
            assert steps is not None
            tests = [eval(f"lambda f: {test.removeprefix('assert ')}") for test in problem.hidden_tests]
            failed.append(sum(not test(lambda xs, steps=steps: apply(steps, xs)) for test in tests))
    assert min(failed) >= 1 and sum(failed) / len(failed) > 0.85 * 8


@pytest.mark.parametrize("level", [1, 3, 6])
def test_a_review_finds_a_bug_and_raises_false_alarms_at_its_rates(level: int) -> None:
    skill = Skill(PLAIN)
    found, alarms = [], []
    for puzzle in of_level(level):
        for run in range(10):
            bugs = puzzle.mistake(stream("bug", run, puzzle.key))
            review = skill.review(puzzle, puzzle.program(bugs), stream("review", run, puzzle.key))
            found.append(f"Point {bugs[0].site + 1}: " in review.notes)
            alarms.append(not skill.review(puzzle, puzzle.program(()), stream("alarm", run, puzzle.key)).approved)
    assert_rate(found, PLAIN.review_finds[level - 1])
    assert_rate(alarms, PLAIN.review_false_alarm)


def one_bug(skill: Skill, puzzle: NanoPuzzle, run: int) -> tuple[Bug, ...] | None:
    """A bug that is not the favourite misreading."""
    bugs = puzzle.mistake(stream("one", run, puzzle.key))
    return None if bugs == skill.favourite(puzzle) else bugs


@pytest.mark.parametrize("level", [2, 4, 6])
@pytest.mark.parametrize("kind", ["test", "review", "blind"])
def test_a_revision_repairs_a_bug_at_the_rate_of_its_feedback(level: int, kind: str) -> None:
    skill = Skill(PLAIN)
    fixed = []
    for puzzle in of_level(level):
        for run in range(12):
            bugs = one_bug(skill, puzzle, run)
            if bugs is None:
                continue
            feedback = {
                "test": "Failed: " + puzzle.write_test(stream("t", run), right=True),
                "review": f"Point {bugs[0].site + 1}: wrong.",
                "blind": "Check every step.",
            }[kind]
            revised = skill.revise(puzzle, puzzle.program(bugs), feedback, stream("revise", kind, run, puzzle.key))
            fixed.append(not puzzle.bugs(revised))
    expected = {"test": PLAIN.revise_with_test[level - 1], "review": PLAIN.revise_with_review[level - 1], "blind": PLAIN.revise_blind}[kind]
    assert_rate(fixed, expected)


def test_the_favourite_misreading_is_repaired_half_as_often() -> None:
    skill = Skill(PLAIN)
    fixed = []
    for puzzle in of_level(4):
        bugs = skill.favourite(puzzle)
        for run in range(20):
            feedback = f"Point {bugs[0].site + 1}: wrong."
            fixed.append(not puzzle.bugs(skill.revise(puzzle, puzzle.program(bugs), feedback, stream(run, puzzle.key))))
    assert_rate(fixed, PLAIN.revise_with_review[3] / 2)


@pytest.mark.parametrize("kind", ["review", "test"])
def test_acting_on_a_false_alarm_breaks_right_code_half_of_the_time(kind: str) -> None:
    skill = Skill(PLAIN)
    broken = []
    for puzzle in of_level(3) + of_level(5):
        for run in range(8):
            wrong_test = puzzle.write_test(stream("w", run, puzzle.key), right=False)
            feedback = "Point 1: wrong." if kind == "review" else f"Failed: {wrong_test}"
            revised = skill.revise(puzzle, puzzle.program(()), feedback, stream(kind, run, puzzle.key))
            broken.append(bool(puzzle.bugs(revised)))
    assert_rate(broken, PLAIN.false_alarm_breaks)


def test_right_code_survives_a_revision_without_reason() -> None:
    skill = Skill(PLAIN)
    for puzzle in of_level(4):
        assert skill.revise(puzzle, puzzle.program(()), "Looks good.", stream(puzzle.key)) == puzzle.program(())


def test_the_vote_goes_to_the_most_common_behaviour_not_text() -> None:
    steps = (find_query("Write f(xs) that sorts the list, and finally returns the maximum.") or ("", ()))[1]
    puzzle = NanoPuzzle("q", steps)
    right, same = puzzle.program(()), "def f(xs):\n    return max(xs, default=0)\n"
    wrong = puzzle.program(puzzle.mistake(stream(1)))
    assert Skill(PLAIN).vote(puzzle, ["nonsense", wrong, right, same]) == 2
    assert Skill(PLAIN).vote(puzzle, ["nonsense", "more"]) == 0


def test_a_written_test_is_right_as_often_as_the_problem_is_solved() -> None:
    skill = Skill(PLAIN)
    for level in (2, 5):
        right = [puzzle.accepts(skill.write_test(puzzle, stream(run, puzzle.key))) for puzzle in of_level(level) for run in range(10)]
        assert_rate(right, PLAIN.solve[level - 1])


def test_mistakes_are_found_again_by_reading_the_program() -> None:
    for problem in PROBLEMS[:200]:
        puzzle = puzzle_of(problem)
        bugs = puzzle.mistake(stream(problem.id), puzzle.mistake(stream(problem.id, 2)))
        steps = read_program(puzzle.program(bugs))
        assert steps is not None and disagreement(puzzle.steps, steps) > 0
        found = puzzle.bugs(puzzle.program(bugs))
        assert found and len(found) == len(align(puzzle.steps, steps) or ()) <= len(bugs)
        assert puzzle.program(found) == puzzle.program(bugs)
