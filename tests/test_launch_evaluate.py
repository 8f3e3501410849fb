"""What ``launch.evaluate`` refuses before anything starts."""

from pathlib import Path

import pytest
import yaml

from conf.schema import load
from launch.evaluate import refuse_trained
from tests.test_tasks_splits import mixed_file
from workflow.tasks import load_tasks


def saved(run_dir: Path, **tasks: object) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump({"tasks": tasks}))


def test_problems_that_the_run_was_trained_on_are_no_test_of_its_policy(tmp_path: Path) -> None:
    path, said = str(mixed_file(tmp_path / "three.jsonl")), []
    saved(tmp_path / "run", name="jsonl", path=path)
    other = load({"tasks": {"name": "jsonl", "path": path, "splits": "aflow"}})
    with pytest.raises(ValueError, match=r"were trained on \d+ of these 240 test problems"):
        refuse_trained(load_tasks(other.tasks), other, tmp_path / "run", said.append)
    same = load({"tasks": {"name": "jsonl", "path": path}})
    refuse_trained(load_tasks(same.tasks), same, tmp_path / "run", said.append)
    smaller = load({"tasks": {"name": "jsonl", "path": path, "test_size": 50}})
    refuse_trained(load_tasks(smaller.tasks), smaller, tmp_path / "run", said.append)
    assert not said


def test_a_run_whose_own_problems_are_gone_is_evaluated_with_a_word(tmp_path: Path) -> None:
    path, said = str(mixed_file(tmp_path / "three.jsonl")), []
    saved(tmp_path / "run", name="jsonl", path=str(mixed_file(tmp_path / "gone.jsonl")))
    other = load({"tasks": {"name": "jsonl", "path": path}})
    tasks = load_tasks(other.tasks)
    (tmp_path / "gone.jsonl").write_text('{"id": 3}\n')
    refuse_trained(tasks, other, tmp_path / "run", said.append)
    assert len(said) == 1 and "cannot be told" in said[0]
