"""Which tests of a problem are public: examples that people write into queries, and shares of its own tests."""

from pathlib import Path

import pytest

from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import load_problems
from workflow.tasks.bigcodebench import to_complete_problem
from workflow.tasks.examples import find_examples
from workflow.tasks.files import write_jsonl
from workflow.tasks.humaneval import to_problem
from workflow.tasks.public import hide_both_answers, split_tests, without_shown

SHARE = TaskSettings(public="share", public_share=0.3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">>> f([1, 2])\n3\n", ["assert f([1, 2]) == 3"]),
        (">>> f([1]) == [2]", ["assert f([1]) == [2]"]),
        (">>> round(f(1), 2)\n0.5\n", ["assert round(f(1), 2) == 0.5"]),
        (">>> f('''a\\nb''')\n'a'\n", ["assert f('a\\nb') == 'a'"]),
        ("f(5, 2, 7) ➞ True\n\nf(3, 2, 2) ➞ False", ["assert f(5, 2, 7) == True", "assert f(3, 2, 2) == False"]),
        ("f(1, 2) → 3", ["assert f(1, 2) == 3"]),
        ('f("abAB") => 131', ["assert f('abAB') == 131"]),
        ("* f([]) => []", ["assert f([]) == []"]),
        ("f([4, 2]) ==> 2 ", ["assert f([4, 2]) == 2"]),
        ("f([1],[2]) -> [0,3]", ["assert f([1], [2]) == [0, 3]"]),
        ("f(12, 15) = 14\nf(13, 12) = -1", ["assert f(12, 15) == 14", "assert f(13, 12) == -1"]),
        ("f(3, 4) == 6.00", ["assert f(3, 4) == 6.0"]),
        ("for f(7, 34) == 34", ["assert f(7, 34) == 34"]),
        ("f('Hi') returns 'Hi'", ["assert f('Hi') == 'Hi'"]),
        ('f({"a": 1}) should return True.', ["assert f({'a': 1}) == True"]),
        ('f(15)   # returns "db1111db"', ["assert f(15) == 'db1111db'"]),
        ("f(\"1.dll\") # => 'No' (a name starts with a letter)", ["assert f('1.dll') == 'No'"]),
        ("f(1, 4) => true", ["assert f(1, 4) == True"]),
        ("f([\n  [1, 2],\n  [3]\n], 1) == [(0, 0)]", ["assert f([[1, 2], [3]], 1) == [(0, 0)]"]),
        ("f(2) = [1,\n  2]", ["assert f(2) == [1, 2]"]),
        ("f(1) == 1\nf(1) == 1", ["assert f(1) == 1"]),
    ],
)
def test_examples_are_read_in_the_forms_in_which_people_write_them(text: str, expected: list[str]) -> None:
    assert find_examples(f"Some words.\n    {text}\n", "f") == expected


@pytest.mark.parametrize(
    "text",
    [
        "f(5) -> 19 - 5 = 14",
        "f(2) == 1 + 9 = 10",
        "f(n) = 1 + n / 2",
        "f(aa) => False",
        "f(1) == 5 if it rains",
        'f("a") == ""a"',
        "g.f(1) == 1",
        "prefix_f(1) == 1",
        "f(1)\n3",
        "f(1, 2)",
        "f(((((",
        "f(" * 300,
        "def f(x: int) -> int:",
        "f(1) == " + "[" * 500,
    ],
)
def test_what_is_no_plain_example_is_not_read(text: str) -> None:
    assert find_examples(text, "f") == []


def row(prompt: str, *asserts: str, name: str = "x/1") -> dict[str, str]:
    check = "def check(candidate):\n" + "".join(f"    {line}\n" for line in asserts)
    return {"task_id": name, "prompt": f'def f(x):\n    """{prompt}"""\n', "entry_point": "f", "canonical_solution": "", "test": check}


def test_an_example_is_public_and_no_longer_hidden() -> None:
    problem = to_problem(row("f(1) ➞ 2", "assert candidate(1) == 2, 'a message'", "assert candidate(4) == 5"))
    assert (problem.public_tests, problem.hidden_tests) == (("assert f(1) == 2",), ("assert candidate(4) == 5",))


def test_where_examples_show_every_test_the_last_one_is_hidden() -> None:
    problem = to_problem(row("f(1) == 2\nf(2) == 3", "assert candidate(1) == 2", "assert candidate(2) == 3"))
    assert (problem.public_tests, problem.hidden_tests) == (("assert f(1) == 2",), ("assert candidate(2) == 3",))
    assert without_shown(("assert f() == 1",), ("assert candidate() == 1",), "f") == ((), ("assert candidate() == 1",))


def test_hidden_tests_expect_both_answers_where_there_are_two() -> None:
    shown = to_problem(row("f(1) == True\nf(2) == False", "assert candidate(1) == True", "assert candidate(3) == False"))
    assert shown.hidden_tests == ("assert candidate(3) == False", "assert f(1) == True") and shown.public_tests == ("assert f(2) == False",)
    swapped = hide_both_answers(Problem("a", "", "f", ("assert f(1)",), ("assert not f(2)", "assert f(3) is False")))
    assert swapped.public_tests == ("assert not f(2)",) and swapped.hidden_tests == ("assert f(3) is False", "assert f(1)")
    alone = Problem("a", "", "f", ("assert f(1) == 1",), ("assert f(2) == 2", "assert f(3) == 3"))
    assert hide_both_answers(alone) == alone


def problem_of(count: int) -> Problem:
    tests = tuple(f"assert candidate({number}) == {number + 10}" for number in range(count))
    return Problem("x/1", "", "f", (), tests)


@pytest.mark.parametrize(("count", "public"), [(1, 0), (2, 1), (3, 1), (5, 2), (10, 3), (20, 6)])
def test_a_share_of_the_tests_is_public_and_at_least_one_is_hidden(count: int, public: int) -> None:
    problem = split_tests(problem_of(count), SHARE)
    assert len(problem.public_tests) == public and len(problem.hidden_tests) == count - public
    assert {test.replace("f(", "candidate(") for test in problem.tests} == {*problem_of(count).hidden_tests}


def test_the_share_is_drawn_by_seed_and_problem_alone() -> None:
    assert split_tests(problem_of(12), SHARE) == split_tests(problem_of(12), SHARE)
    drawn = {split_tests(problem_of(12), SHARE.model_copy(update={"seed": seed})).public_tests for seed in range(5)}
    assert len(drawn) > 1


def test_tests_that_lean_on_others_stay_hidden() -> None:
    free = ("assert candidate(twice(2)) == 4", "assert candidate(9) == 9")
    tests = ("x = 3\nassert candidate(x) == 3", "assert candidate(x + 1) == 4", *free)
    problem = Problem("x/1", "", "f", (), tests, test_setup="def twice(x): return 2 * x")
    problem = split_tests(problem, SHARE.model_copy(update={"public_share": 0.9}))
    assert problem.public_tests == ("assert f(twice(2)) == 4", "assert f(9) == 9") and problem.hidden_tests == tests[:2]


def test_a_test_that_tells_the_answer_is_never_public() -> None:
    problem = Problem("x/1", "", "", (), ("41", "42"), verifier="number")
    assert split_tests(problem, SHARE) == problem


def test_unittest_classes_are_parted_by_their_methods() -> None:
    module = "import unittest\nclass TestCases(unittest.TestCase):\n    def setUp(self):\n        self.x = 1\n"
    module += "".join(f"    def test_{n}(self):\n        self.assertEqual(f(self.x), {n})\n" for n in range(5))
    texts = {"task_id": "BigCodeBench/1", "complete_prompt": "def f(x):\n", "canonical_solution": "    return x\n", "entry_point": "f"}
    problem = split_tests(to_complete_problem({**texts, "test": module, "libraries": ()}), SHARE)
    assert len(problem.public_tests) == 2 and len(problem.hidden_tests) == 3
    assert all("setUp" in test and test.count("def test_") == 1 for test in problem.tests)


@pytest.mark.parametrize(
    ("verifier", "test"),
    [
        ("stdio", '{"stdin": "the candidate true\\n%d", "stdout": "null"}'),
        ("unittest", "class T(unittest.TestCase):  # each candidate\n    def test_%d(self):\n        candidate = f(1)\n"),
    ],
)
def test_tests_that_call_no_candidate_become_public_as_they_are(verifier: str, test: str) -> None:
    tests = tuple(test % number for number in range(4))
    problem = split_tests(Problem("x/1", "", "f", (), tests, verifier=verifier), SHARE)
    assert problem.public_tests and set(problem.tests) == set(tests)


def test_aflows_public_tests_stand_beside_the_examples() -> None:
    asserts = ("assert candidate([1, 2, 4, 10], 100) == True", "assert candidate([1, 20, 4, 10], 5) == False")
    plain = to_problem(row("Below a threshold.", *asserts, "assert candidate([8], 7) == False", name="HumanEval/52"))
    assert plain.public_tests == ()
    problem = split_tests(plain, TaskSettings(public="aflow"))
    assert problem.public_tests == ("assert f([1, 20, 4, 10], 5) == False",) and len(problem.hidden_tests) == 2
    assert "assert f([1, 2, 4, 10], 100) == True" in problem.hidden_tests, "else the constant False would pass"


def test_a_workflow_sees_no_test_that_is_hidden() -> None:
    problem = split_tests(problem_of(9), SHARE)
    view = problem.public_view()
    assert view.tests == problem.public_tests and not set(view.tests) & set(problem.hidden_tests)


def test_every_problem_names_its_benchmark(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "mine.jsonl", [problem_of(2), Problem("x/2", "", "f", (), ("assert f() == 1",), source="theirs")])
    assert [one.source for one in load_problems(TaskSettings(name="jsonl", path=str(tmp_path / "mine.jsonl")))] == ["mine", "theirs"]
    assert [one.source for one in load_problems(TaskSettings(name=f"{__name__}:unnamed"))] == ["unnamed"]


def unnamed(settings: TaskSettings, /) -> list[Problem]:
    return [problem_of(2)]
