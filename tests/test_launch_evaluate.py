"""What ``launch.evaluate`` refuses before anything starts."""

import asyncio
import json
import os
import sys
from io import StringIO
from pathlib import Path

import pytest
import yaml

from conf.schema import load
from launch.evaluate import choose_policies, refuse_trained, run_evaluation
from tests.demo import demo_values
from tests.test_tasks_splits import mixed_file
from trainer.run.terminal import Terminal
from workflow.tasks import load_tasks


def saved(run_dir: Path, **tasks: object) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(demo_values({"tasks": tasks})))


def test_problems_that_the_run_was_trained_on_are_no_test_of_its_policy(tmp_path: Path) -> None:
    path, said = str(mixed_file(tmp_path / "three.jsonl")), []
    saved(tmp_path / "run", name="jsonl", path=path, splits="seeded")
    other = load(demo_values({"tasks": {"name": "jsonl", "path": path}}))
    with pytest.raises(ValueError, match=r"were trained on \d+ of these 240 test problems"):
        refuse_trained(load_tasks(other.tasks), other, tmp_path / "run", said.append)
    same = load(demo_values({"tasks": {"name": "jsonl", "path": path, "splits": "seeded"}}))
    refuse_trained(load_tasks(same.tasks), same, tmp_path / "run", said.append)
    smaller = load(demo_values({"tasks": {"name": "jsonl", "path": path, "splits": "seeded", "test_size": 50}}))
    refuse_trained(load_tasks(smaller.tasks), smaller, tmp_path / "run", said.append)
    assert not said


def test_a_run_whose_own_problems_are_gone_is_evaluated_with_a_word(tmp_path: Path) -> None:
    path, said = str(mixed_file(tmp_path / "three.jsonl")), []
    saved(tmp_path / "run", name="jsonl", path=str(mixed_file(tmp_path / "gone.jsonl")))
    other = load(demo_values({"tasks": {"name": "jsonl", "path": path}}))
    tasks = load_tasks(other.tasks)
    (tmp_path / "gone.jsonl").write_text('{"id": 3}\n')
    refuse_trained(tasks, other, tmp_path / "run", said.append)
    assert len(said) == 1 and "is unknown" in said[0]


def policy_folder(folder: Path, run: str | None = None) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    if run is not None:
        (folder / "flowreasoner.json").write_text(run)
    return str(folder)


def evaluate_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dir: Path, policy: str) -> str:
    """What is printed by an evaluation with other tasks than those of the runs ``x`` and ``y``, which starts nothing."""
    path = str(mixed_file(tmp_path / "three.jsonl"))
    for run in ("x", "y"):
        saved(tmp_path / run, name="jsonl", path=path, splits="seeded")
    other = load(demo_values({"tasks": {"name": "jsonl", "path": path}}))

    monkeypatch.setattr("launch.evaluate.readable_tasks", lambda *given: load_tasks(other.tasks))
    monkeypatch.setitem(sys.modules, "trainer.evaluation.table", None)  # what it would start then is not to be had
    out = StringIO()
    with pytest.raises(ModuleNotFoundError, match=r"evaluation\.table"):
        policies = choose_policies(run_dir, [policy], own=False)
        asyncio.run(run_evaluation(other, run_dir, policies, {}, Terminal(file=out, width=400)))
    return out.getvalue()


@pytest.mark.parametrize("spelling", ["{0}/x/policy", "./x/policy", "x/../x/policy", "link/policy/", "x/elsewhere", "y/../away"])
@pytest.mark.parametrize("run_dir", ["x", "{0}/x", "link", "y"])
def test_a_policy_under_any_spelling_is_the_one_that_its_run_trained(spelling: str, run_dir: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    policy_folder(tmp_path / "x" / "policy")
    policy_folder(tmp_path / "stored")
    os.symlink(tmp_path / "x", tmp_path / "link")
    os.symlink(tmp_path / "stored", tmp_path / "x" / "elsewhere")
    os.symlink(tmp_path / "x" / "policy", tmp_path / "away")
    (tmp_path / "y").mkdir()
    with pytest.raises(ValueError, match=rf"policies of {tmp_path}/x were trained on \d+ of these 240 test problems"):
        evaluate_elsewhere(tmp_path, monkeypatch, Path(run_dir.format(tmp_path)), spelling.format(tmp_path))


@pytest.mark.parametrize("run_dir", ["x", "y"])
def test_an_exported_policy_is_known_by_the_run_that_it_names(run_dir: str, tmp_path: Path, monkeypatch) -> None:
    exported = policy_folder(tmp_path / "exported", json.dumps({"run": str(tmp_path / "x"), "step": None}))
    with pytest.raises(ValueError, match=rf"policies of {tmp_path}/x were trained on"):
        evaluate_elsewhere(tmp_path, monkeypatch, tmp_path / run_dir, exported)


def test_an_exported_policy_whose_run_is_gone_is_evaluated_with_a_word(tmp_path: Path, monkeypatch) -> None:
    exported = policy_folder(tmp_path / "exported", json.dumps({"run": "/gone/run"}))
    assert "Whether /gone/run was trained on these test problems is unknown" in evaluate_elsewhere(
        tmp_path, monkeypatch, tmp_path / "x", exported
    )


@pytest.mark.parametrize("marker", [None, "", "3", '{"run": 3}', "{}"])
def test_a_policy_of_no_run_is_evaluated_on_any_problems(marker: str | None, tmp_path: Path, monkeypatch) -> None:
    told = evaluate_elsewhere(tmp_path, monkeypatch, tmp_path / "x", policy_folder(tmp_path / "from_a_hub", marker))
    assert "were trained on" not in told and "is unknown" not in told
