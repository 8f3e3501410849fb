"""Task sets from files: HumanEval and our own JSONL."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from workflow.nano.problems import nano_problem
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import load_problems, load_tasks
from workflow.tasks.files import read_jsonl, split_file_set, write_jsonl
from workflow.tasks.humaneval import to_problem

SAMPLE = Path(__file__).parent / "data" / "humaneval_sample.jsonl"
FULL = Path(__file__).parents[1].parent / "shared" / "data" / "humaneval.jsonl.gz"


def humaneval(path: Path) -> tuple[Problem, ...]:
    return load_problems(TaskSettings(name="humaneval", path=str(path)))


def run_tests(problem: Problem, program: str, tests: tuple[str, ...]) -> list[str]:
    """The tests that fail, in one namespace and in order. The programs are the data set's own solutions."""
    names: dict[str, object] = {}
    exec(problem.test_setup, names)
    exec(program, names)
    names["candidate"] = names[problem.entry_point]
    failed = []
    for test in tests:
        try:
            exec(test, names)
        except Exception:
            failed.append(test)
    return failed


@pytest.fixture(scope="module")
def sample() -> dict[str, Problem]:
    return {problem.id: problem for problem in humaneval(SAMPLE)}


def test_doctests_become_public_asserts(sample: dict[str, Problem]) -> None:
    assert sample["HumanEval/0"].public_tests == (
        "assert has_close_elements([1.0, 2.0, 3.0], 0.5) == False",
        "assert has_close_elements([1.0, 2.8, 3.0, 4.0, 5.0, 2.0], 0.3) == True",
    )


def test_check_is_split_into_one_test_per_assert(sample: dict[str, Problem]) -> None:
    assert len(sample["HumanEval/0"].hidden_tests) == 7
    assert sample["HumanEval/0"].hidden_tests[0] == "assert candidate([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3) == True"


def test_statements_between_asserts_stay_with_the_next_assert(sample: dict[str, Problem]) -> None:
    (only,) = sample["HumanEval/32"].hidden_tests
    assert only.startswith("import math") and "assert math.fabs(poly(coeffs, solution))" in only
    assert "def poly" in sample["HumanEval/32"].test_setup


def test_no_public_test_is_also_hidden(sample: dict[str, Problem]) -> None:
    for problem in sample.values():
        shown = {test.replace(problem.entry_point, "candidate") for test in problem.public_tests}
        assert not shown & set(problem.hidden_tests), problem.id
    assert sample["HumanEval/34"].public_tests == () and len(sample["HumanEval/34"].hidden_tests) == 1


def test_a_doctest_that_the_original_solution_fails_is_left_out(sample: dict[str, Problem]) -> None:
    assert sample["HumanEval/47"].public_tests == ("assert median([3, 1, 2, 4, 5]) == 3",)


def test_references_of_the_sample_pass_their_tests(sample: dict[str, Problem]) -> None:
    for problem in sample.values():
        assert problem.reference is not None
        assert run_tests(problem, problem.reference, problem.public_tests + problem.hidden_tests) == []


@pytest.mark.skipif(not FULL.is_file(), reason=f"needs the full HumanEval at {FULL.name} beside the checkout")
def test_all_164_references_pass_their_tests() -> None:
    problems = load_problems(TaskSettings(name="humaneval", path=str(FULL)))
    assert len(problems) == 164
    for problem in problems:
        assert problem.reference is not None
        assert run_tests(problem, problem.reference, problem.public_tests + problem.hidden_tests) == [], problem.id


def test_an_assert_that_tests_nothing_is_dropped() -> None:
    row = {
        "task_id": "x/1",
        "prompt": "def one():\n    pass\n",
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert True, 'prints'\n    assert candidate() == 1, 'msg'\n",
    }
    assert to_problem(row).hidden_tests == ("assert candidate() == 1",)


def test_gzipped_and_plain_files_read_alike(tmp_path: Path) -> None:
    packed = tmp_path / "HumanEval.jsonl.gz"
    packed.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    assert humaneval(packed) == humaneval(SAMPLE)


def test_problems_survive_writing_and_reading(tmp_path: Path) -> None:
    problems = [nano_problem(0, "train", index) for index in range(5)] + list(humaneval(SAMPLE))
    for name in ("set.jsonl", "set.jsonl.gz"):
        write_jsonl(tmp_path / name, problems)
        assert read_jsonl(tmp_path / name) == problems


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


GOOD = {"id": "a", "query": "q", "entry_point": "f", "public_tests": [], "hidden_tests": ["assert f() == 1"]}


def test_a_minimal_row_takes_its_source_from_the_file_name(tmp_path: Path) -> None:
    row = {key: value for key, value in GOOD.items() if key != "public_tests"}
    assert read_jsonl(write_rows(tmp_path / "mine.jsonl", row)) == [Problem("a", "q", "f", (), ("assert f() == 1",), source="mine")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "hiden_tests": []}, "unknown field 'hiden_tests'"),
        ({key: value for key, value in GOOD.items() if key != "query"}, "'query'"),
        ({**GOOD, "level": "hard"}, "'level'"),
        ({**GOOD, "hidden_tests": []}, "'a' has no 'hidden_tests'"),
        ({**GOOD, "verifier": "functoin"}, "problem 'a': verifier=functoin is unknown; the nearest is function"),
        ([1], "not an object"),
    ],
)
def test_a_bad_row_is_refused_by_place_and_field(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        load_problems(TaskSettings(name="jsonl", path=str(write_rows(tmp_path / "bad.jsonl", row))))
    assert "bad.jsonl" in str(refused.value)


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="appears twice"):
        load_problems(TaskSettings(name="jsonl", path=str(write_rows(tmp_path / "twice.jsonl", GOOD, GOOD))))


@pytest.mark.parametrize("name", ["humaneval", "jsonl"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"tasks\.path='/nowhere/x\.jsonl' is not a file"):
        load_tasks(TaskSettings.model_validate({"name": name, "path": "/nowhere/x.jsonl"}))


def test_jsonl_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set tasks\.path"):
        load_tasks(TaskSettings(name="jsonl"))


def test_a_file_of_another_kind_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1 is no problem of humaneval \(no field 'entry_point'\)"):
        humaneval(write_rows(tmp_path / "x.jsonl", {"task_id": 1}))


def test_humaneval_offline_says_what_to_download(tmp_path: Path) -> None:
    code = "from workflow.settings import TaskSettings\nfrom workflow.tasks import load_source\n"
    code += "try:\n    load_source(TaskSettings(name='humaneval'))\nexcept ValueError as error:\n    print(error)"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=SAMPLE.parents[2]).stdout
    assert "openai/openai_humaneval" in said and "tasks.path" in said and said.count("\n") == 1


def numbered(count: int) -> list[Problem]:
    first = nano_problem(0, "train", 0)
    return [replace(first, id=str(index)) for index in range(count)]


def test_the_split_of_a_file_set_is_disjoint_seeded_and_at_most_a_quarter_each() -> None:
    problems = numbered(164)
    train, validation, test = split_file_set(problems, train_size=4096, validation_size=240, test_size=240, seed=0)
    assert (len(train), len(validation), len(test)) == (82, 41, 41)
    assert len({problem.id for problem in train + validation + test}) == 164
    assert split_file_set(problems, train_size=4096, validation_size=240, test_size=240, seed=0) == (train, validation, test)
    assert split_file_set(problems, train_size=4096, validation_size=240, test_size=240, seed=1)[0] != train


def test_a_large_file_set_gives_the_sizes_asked_for() -> None:
    parts = split_file_set(numbered(100), train_size=30, validation_size=10, test_size=20, seed=0)
    assert [len(part) for part in parts] == [30, 10, 20]


def test_a_file_set_too_small_to_split_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        split_file_set(numbered(3), train_size=1, validation_size=1, test_size=1, seed=0)
