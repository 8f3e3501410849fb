"""Task sets by other doors: any set of the hub by named columns, a function that makes Problems, one that makes the three parts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workflow.problem import Problem
from workflow.settings import HubSettings, TaskSettings
from workflow.tasks import TaskSet, check_tasks, load_problems, load_source, load_tasks
from workflow.tasks.task_set import Loaded

ROOT = Path(__file__).parents[1]
ROWS = [{"question": f"How much is {n} plus {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in range(12)]
COLUMNS = HubSettings(query="question", answer="answer", answer_pattern=r"#### (\S+)")


def rows_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def hub(path: Path, columns: HubSettings = COLUMNS, **settings: Any) -> TaskSettings:
    return TaskSettings(name="hub", path=str(path), hub=columns, **settings)


def test_named_columns_become_problems_and_rows_without_an_answer_are_left_out(tmp_path: Path):
    settings = hub(
        rows_file(tmp_path / "sums.jsonl", [*ROWS, {"question": "Why?", "answer": "No one knows."}, {"question": "", "answer": "#### 1"}])
    )
    found = load_source(settings)
    assert isinstance(found, Loaded) and len(found.problems) == 12
    first = found.problems[1]
    assert (first.query, first.hidden_tests, first.reference, first.verifier) == ("How much is 1 plus 1?", ("2",), "2", "number")
    assert sorted(found.left_out.values()) == ["its question is empty", "tasks.hub.answer_pattern is not found in its answer"]
    tasks = load_tasks(settings)
    assert (len(tasks.train), len(tasks.validation), len(tasks.test)) == (6, 3, 3)


def test_rows_with_code_have_their_tests_and_their_function_in_columns_of_their_own(tmp_path: Path):
    row = {
        "prompt": "Write f.",
        "name": "f",
        "code": "def f(): return 1",
        "checks": ["assert f() == 1", "assert f() > 0"],
        "shown": "assert f()",
    }
    columns = HubSettings(query="prompt", answer="code", tests="checks", public_tests="shown", entry_point="name", verifier="function")
    (problem,) = load_problems(hub(rows_file(tmp_path / "code.jsonl", [row]), columns))
    assert (problem.entry_point, problem.hidden_tests, problem.public_tests) == ("f", tuple(row["checks"]), ("assert f()",))
    assert problem.reference == row["code"]


def test_a_folder_in_the_hubs_form_gives_its_own_splits(tmp_path: Path):
    rows_file(tmp_path / "sums" / "train.jsonl", ROWS[:8])
    rows_file(tmp_path / "sums" / "test.jsonl", ROWS[8:])
    settings = hub(tmp_path / "sums", COLUMNS.model_copy(update={"test_split": "test"}), test_size=3)
    missing = hub(tmp_path / "sums", COLUMNS.model_copy(update={"split": "tarin"}))
    code = f"""
from workflow.settings import TaskSettings
from workflow.tasks import load_tasks
tasks = load_tasks(TaskSettings.model_validate_json({settings.model_dump_json()!r}))
print(len(tasks.train), len(tasks.validation), len(tasks.test), tasks.test[0].id.rpartition("/")[0])
try:
    load_tasks(TaskSettings.model_validate_json({missing.model_dump_json()!r}))
except ValueError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    sizes, refusal = done.stdout.splitlines()
    assert sizes == "6 2 3 sums/test", done.stderr
    assert "The split 'tarin' of" in refusal and "check its name" in refusal


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": ""}, "set tasks.hub.query, and tasks.hub.answer or tasks.hub.tests"),
        ({"verifier": "numbre"}, "tasks.hub.verifier: verifier=numbre is unknown; the nearest is number"),
        ({"verifier": "function"}, "set tasks.hub.tests to the column that holds them"),
        ({"verifier": "function", "tests": "answer"}, "set tasks.hub.entry_point to the column with its name"),
        ({"validation_split": "dev"}, "without tasks.hub.test_split"),
        ({"test_split": "test"}, "give a folder with this split"),
    ],
)
def test_settings_of_a_hub_set_that_cannot_be_are_refused_before_it_is_loaded(tmp_path: Path, change: dict[str, str], said: str):
    assert said in check_tasks(hub(rows_file(tmp_path / "sums.jsonl", ROWS), COLUMNS.model_copy(update=change)))


@pytest.mark.parametrize(("path", "said"), [(None, "set tasks.path to a name like owner/set"), ("/no/such/set", "does not exist")])
def test_a_hub_set_without_a_place_is_refused(path: str | None, said: str):
    assert said in check_tasks(TaskSettings(name="hub", path=path, hub=COLUMNS))


def test_a_column_that_is_not_there_is_refused_with_the_nearest_and_all(tmp_path: Path):
    settings = hub(rows_file(tmp_path / "sums.jsonl", ROWS), COLUMNS.model_copy(update={"query": "questoin"}))
    with pytest.raises(ValueError, match=r"tasks.hub.query=questoin is no column of .*; the nearest is question: it has question, answer"):
        load_tasks(settings)


def problem(number: int, **changes: Any) -> Problem:
    return Problem(
        **{"id": f"p/{number}", "query": f"q {number}", "entry_point": "f", "public_tests": (), "hidden_tests": ("1",)} | changes
    )


def eight(settings: TaskSettings, /) -> Iterator[Problem]:
    return (problem(number) for number in range(8))


def three_parts(settings: TaskSettings, /) -> TaskSet:
    return TaskSet((problem(1), problem(2)), (problem(3),), (problem(4),))


def shared_parts(settings: TaskSettings, /) -> TaskSet:
    return TaskSet((problem(1),), (problem(2),), (problem(1, id="other"),))


def no_test(settings: TaskSettings, /) -> TaskSet:
    return TaskSet((problem(1),), (problem(2),), ())


def rows(settings: TaskSettings, /) -> list[Any]:
    return [{"id": "p"}]


def unjudged(settings: TaskSettings, /) -> list[Problem]:
    return [problem(1, hidden_tests=())]


def test_a_function_that_makes_problems_is_split_and_one_that_makes_three_parts_is_not():
    split, whole = (load_tasks(TaskSettings(name=f"{__name__}:{name}")) for name in ("eight", "three_parts"))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [4, 2, 2]
    assert [one.id for one in (*whole.train, *whole.validation, *whole.test)] == ["p/1", "p/2", "p/3", "p/4"]
    assert len(load_problems(TaskSettings(name=f"{__name__}:three_parts"))) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shared_parts", "1 of 1 training problems .* are test problems"),
        ("no_test", "holds no test problems"),
        ("rows", "gives a dict where a workflow.problem.Problem belongs"),
        ("unjudged", "'p/1' has no 'hidden_tests'"),
    ],
)
def test_what_a_source_gives_is_checked_whoever_wrote_it(name: str, said: str):
    with pytest.raises(ValueError, match=said):
        load_tasks(TaskSettings(name=f"{__name__}:{name}"))


def test_an_unknown_set_is_refused_with_the_nearest():
    assert "tasks.name=humanevla is unknown; the nearest is humaneval" in check_tasks(TaskSettings(name="humanevla"))
    assert "cannot be imported" in check_tasks(TaskSettings(name="no_such_package:tasks"))
