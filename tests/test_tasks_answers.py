"""Published sets beyond functions: rows in their original form become Problems."""

import base64
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import load_source
from workflow.tasks.answers import read_boxed
from workflow.tasks.livecodebench import read_signature
from workflow.tasks.task_set import Loaded
from workflow.verifiers.drop import DropVerifier

MATH = {"problem": "What is $1/4+1/4$?", "level": "Level 2", "type": "Algebra", "solution": "It is $\\frac24 = \\boxed{\\frac{1}{2}}$."}
MATH_500 = {"problem": "?", "solution": "...", "answer": "12", "subject": "Algebra", "level": 3, "unique_id": "test/algebra/1.json"}
AIME = {"ID": "2024-I-1", "Problem": "?", "Solution": "...", "Answer": 204}
HOTPOT = {
    "_id": "5a8b",
    "question": "Who?",
    "answer": "Chief of Protocol",
    "context": [["Kiss", ["One. ", "Two."]], ["Shirley", ["Three."]]],
}
DROP = {
    "query_id": "q1",
    "passage": "The Raiders ...",
    "question": "How many?",
    "answer": {"number": "3", "date": {}, "spans": []},
    "validated_answers": {"number": ["3", ""], "date": [{}, {}], "spans": [[], ["three", "yards"]]},
}
MMLU = {"question": "Which? ", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": 2}
GPQA = {"Question": "Which?", "Correct Answer": "right\n", **{f"Incorrect Answer {number}": f"wrong {number}" for number in (1, 2, 3)}}


def pack(cases: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


STDIN = {"input": "1 2\n", "output": "3\n", "testtype": "stdin"}
CALL = {"input": "[1, 2]\n3", "output": "true", "testtype": "functional"}
CONTEST = {"question_id": "abc301_a", "question_content": "Add.", "contest_date": "2023-05-13T00:00:00", "difficulty": "easy"}
ATCODER = CONTEST | {"starter_code": "", "metadata": "{}", "public_test_cases": json.dumps([STDIN]), "private_test_cases": pack([STDIN])}
LEETCODE = CONTEST | {
    "question_id": "2727",
    "contest_date": "2024-09-01T00:00:00",
    "difficulty": "hard",
    "starter_code": "class Solution:\n    def has(self, nums: List[int], k: int) -> bool:\n        ",
    "metadata": '{"func_name": "has"}',
    "public_test_cases": json.dumps([CALL]),
    "private_test_cases": pack([CALL]),
}


def load(tmp_path: Path, name: str, *rows: Mapping[str, Any], **settings: str) -> Loaded:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_source(TaskSettings(name=name, path=str(path), **settings))  # pyright: ignore[reportArgumentType]
    assert isinstance(found, Loaded)
    return found


def only(tmp_path: Path, name: str, row: Mapping[str, Any]) -> Problem:
    (problem,) = load(tmp_path, name, row).problems
    assert problem.source == name
    return problem


def test_the_answer_of_a_worked_solution_is_what_it_boxes_last(tmp_path: Path) -> None:
    found = only(tmp_path, "math", MATH)
    assert (found.hidden_tests, found.level, found.verifier) == (("\\frac{1}{2}",), 2, "math")
    assert read_boxed("\\boxed{1} or \\fbox{a{b}c}") == "a{b}c"
    assert read_boxed("\\boxed{1") == read_boxed("none") == ""
    assert load(tmp_path, "math", MATH, MATH | {"solution": "It is 2."}).left_out == {"2": "its solution has no \\boxed{} answer"}


def test_given_answers_win_over_the_solution(tmp_path: Path) -> None:
    assert only(tmp_path, "math_500", MATH_500).id == "math_500/test/algebra/1.json"
    assert only(tmp_path, "math_500", MATH_500).hidden_tests == ("12",)
    assert (only(tmp_path, "aime_2024", AIME).id, only(tmp_path, "aime_2024", AIME).hidden_tests) == ("aime_2024/2024-I-1", ("204",))


def test_hotpotqa_asks_with_its_paragraphs_in_the_file_s_form_and_in_the_hub_s(tmp_path: Path) -> None:
    columns = {"title": ["Kiss", "Shirley"], "sentences": [["One. ", "Two."], ["Three."]]}
    for row in (HOTPOT, HOTPOT | {"context": columns}):
        found = only(tmp_path, "hotpotqa", row)
        assert found.query == "Kiss: One. Two.\n\nShirley: Three.\n\nQuestion: Who?"
        assert (found.verifier, json.loads(found.hidden_tests[0])) == ("f1", ["Chief of Protocol"])


def test_drop_accepts_each_validated_answer_and_keeps_several_spans_together(tmp_path: Path) -> None:
    found = only(tmp_path, "drop", DROP)
    assert (found.verifier, json.loads(found.hidden_tests[0])) == ("drop", [["3"], ["three", "yards"]])
    several = only(tmp_path, "drop", DROP | {"answer": {"spans": ["Tom Brady", "Washington, D.C."]}})
    assert DropVerifier().compare(several.reference or "", several.hidden_tests[0]) is None
    date = DROP | {"answer": {"number": "", "date": {"day": "2", "month": "May", "year": "1990"}, "spans": []}, "validated_answers": []}
    assert json.loads(only(tmp_path, "drop", date).hidden_tests[0]) == [["2 May 1990"]]


def test_options_are_lettered_and_the_test_is_the_right_letter(tmp_path: Path) -> None:
    found = only(tmp_path, "mmlu", MMLU)
    assert (found.query, found.hidden_tests, found.verifier) == ("Which?\n\nA. w\nB. x\nC. y\nD. z", ("C",), "choice")
    shuffled = only(tmp_path, "gpqa", GPQA)
    assert f"{shuffled.hidden_tests[0]}. right" in shuffled.query.splitlines()
    assert only(tmp_path, "gpqa", GPQA) == shuffled
    right = {only(tmp_path, "gpqa", GPQA | {"Question": f"Which {number}?"}).hidden_tests[0] for number in range(30)}
    assert right == set("ABCD")


def test_contest_problems_are_programs_or_functions_and_their_private_tests_are_hidden(tmp_path: Path) -> None:
    program, function = load(tmp_path, "livecodebench", ATCODER, LEETCODE).problems
    case = json.dumps({"stdin": "1 2\n", "stdout": "3\n"})
    assert (program.verifier, program.public_tests, program.hidden_tests, program.level) == ("stdio", (case,), (case,), 1)
    assert (function.verifier, function.entry_point, function.level) == ("function", "has", 3)
    assert function.hidden_tests == ("assert candidate([1, 2], 3) == True",)
    assert "def has(nums: List[int], k: int) -> bool:\n    ...\n```" in function.query
    with pytest.raises(ValueError, match="does not define"):
        read_signature("class Solution:\n    def other(self):\n        ", "has")


TWICE = LEETCODE | {
    "starter_code": "class Solution:\n    def twice(self, nums: List[int]) -> List[int]:\n        ",
    "metadata": '{"func_name": "twice"}',
    "private_test_cases": pack([{"input": "[1, 2]", "output": "[1, 2, 1, 2]", "testtype": "functional"}]),
}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("class Solution:\n    def twice(self, nums: List[int]) -> List[int]:\n        return nums * 2", True),
        ("def twice(nums: Optional[List[int]]) -> List[int]:\n    return list(chain(nums, nums))", True),
        ("@cache\ndef heap(n):\n    return heapq.nlargest(1, [n, gcd(n, -inf if n < 0 else n)])[0]\ndef twice(nums):\n"
         "    return [heap(n) for n in deque(nums)] * pow(2, 1)", True),
        ("def twice(nums):\n    return tuple(nums * 2)", True),
        ("def twice(nums):\n    return [tuple(nums * 2)]", False),
        ("def twice(nums):\n    return nums", False),
    ],
)  # fmt: skip
async def test_answers_to_contests_are_judged_as_their_own_harness_does(answer: str, right: bool, tmp_path: Path) -> None:
    """With its imports in force, in a query that shows them, and a tuple as good as a list."""
    (function,) = load(tmp_path, "livecodebench", TWICE).problems
    assert "from collections import *" in function.query
    async with Sandbox(SandboxSettings(verdict_cache_entries=0)) as sandbox:
        verdict = await sandbox.judge(function, answer)
    assert verdict.outcome is (Outcome.PASSED if right else Outcome.WRONG_ANSWER), verdict


def test_contests_outside_of_the_dates_are_left_out(tmp_path: Path) -> None:
    found = load(tmp_path, "livecodebench", ATCODER, LEETCODE, since="2024-08-01", until="2024-12-31")
    assert [problem.id for problem in found.problems] == ["LiveCodeBench/2727"]
    assert list(found.left_out.values()) == ["its contest was on 2023-05-13, outside of tasks.since and tasks.until"]


class Calls:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("called",)


def test_a_pickle_that_would_call_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = base64.b64encode(zlib.compress(pickle.dumps(Calls()))).decode()
    with pytest.raises(ValueError, match=r"builtins\.print"):
        load(tmp_path, "livecodebench", ATCODER | {"private_test_cases": bad})
    assert capsys.readouterr().out == ""
