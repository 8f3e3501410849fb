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
from launch.candidates import choose_policies, choose_workflows, is_run, load_settings
from launch.evaluate import keep_episodes, main, refuse_trained, run_evaluation
from rollout.records import Episode, Group, Round
from tests.demo import demo_values
from tests.scripted_parts import completion, problem
from tests.test_tasks_splits import mixed_file
from trainer.evaluation.rows import check_against
from trainer.run.terminal import Terminal
from workflow.outcome import Outcome
from workflow.program import Refusal
from workflow.tasks import load_tasks


def saved(run_dir: Path, **tasks: object) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(demo_values({"tasks": tasks})))


def test_problems_that_the_run_was_trained_on_are_no_test_of_its_policy(tmp_path: Path) -> None:
    path, said = str(mixed_file(tmp_path / "three.jsonl")), []
    saved(tmp_path / "run", name="jsonl", path=path)
    other = load(demo_values({"tasks": {"name": "jsonl", "path": path, "splits": "aflow"}}))
    with pytest.raises(ValueError, match=r"were trained on \d+ of these 240 test problems"):
        refuse_trained(load_tasks(other.tasks), other, tmp_path / "run", said.append)
    same = load(demo_values({"tasks": {"name": "jsonl", "path": path}}))
    refuse_trained(load_tasks(same.tasks), same, tmp_path / "run", said.append)
    smaller = load(demo_values({"tasks": {"name": "jsonl", "path": path, "test_size": 50}}))
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
        saved(tmp_path / run, name="jsonl", path=path)
    other = load(demo_values({"tasks": {"name": "jsonl", "path": path, "splits": "aflow"}}))

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


def aflow_file(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "graph.py").write_text(SINGLE)
    return str(folder / "graph.py")


SINGLE = "class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n"


def test_workflows_and_policies_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [aflow_file(Path("a") / "x"), aflow_file(Path("b") / "x"), aflow_file(Path("c"))]
    assert list(choose_workflows([*files, "single_call"])) == ["single_call", "a/x/graph", "b/x/graph", "c/graph"]
    assert list(choose_workflows([aflow_file(Path("alone"))])) == ["graph"]
    folders = [policy_folder(tmp_path / "a" / "policy"), policy_folder(tmp_path / "b" / "policy")]
    assert list(choose_policies(None, folders, own=False)) == ["a/policy", "b/policy"]
    assert list(choose_policies(None, folders[:1], own=False)) == ["policy"]


def test_a_file_with_the_name_of_a_reference_workflow_is_told_apart_from_it(tmp_path: Path) -> None:
    (tmp_path / "single_call.py").write_text(SINGLE)
    assert list(choose_workflows(["single_call", str(tmp_path / "single_call.py")])) == ["single_call", f"{tmp_path.name}/single_call"]


@pytest.mark.parametrize("name", ["complexity=-0.1,seed=2", "plain"])
def test_the_folder_of_a_sweeps_trial_is_no_override(name: str, tmp_path: Path) -> None:
    saved(tmp_path / name)
    assert is_run(str(tmp_path / name)) and is_run("s3://bucket/a=1/run") and is_run("runs/gone")
    assert not is_run("tasks.test_size=12") and not is_run("experiment=nano")


def test_without_a_run_folder_groups_and_values_compose_as_in_a_training_run(tmp_path: Path) -> None:
    composed = load_settings(None, ["experiment=nano", "tasks.test_size=12"])
    assert (composed.tasks.name, composed.tasks.test_size, composed.worker.provider) == ("nano", 12, "simulated")
    assert load_settings(None, ["experiment=nano"], "openai").worker.model == "gpt-4o-mini"


def test_a_worker_is_a_file_of_the_group_or_values_on_top_of_the_runs_own(tmp_path: Path) -> None:
    saved(tmp_path / "run")
    own = load_settings(tmp_path / "run", [])
    openai = load_settings(tmp_path / "run", ["worker.api_key_env=MINE"], "openai")
    assert (openai.worker.model, openai.worker.provider, openai.worker.api_key_env) == ("gpt-4o-mini", "endpoint", "MINE")
    assert openai.worker.max_tokens == 4096 and own.worker.max_tokens == 1024, "nothing of the run's own worker is left"
    values = load_settings(tmp_path / "run", [], "worker.model=other simulated.seed=3")
    assert (values.worker.model, values.simulated.seed, values.worker.max_tokens) == ("other", 3, 1024)
    with pytest.raises(ValueError, match="--worker 'opnai' is neither one of local, o1_mini, openai, simulated nor values"):
        load_settings(tmp_path / "run", [], "opnai")


def test_a_row_to_compare_with_that_there_will_not_be_is_refused_before_anything_starts() -> None:
    settings = load(demo_values({})).trainer.evaluation
    check_against(["policy"], ["graph"], settings)
    with pytest.raises(
        ValueError, match="against='grph' is no row of the table, which has: policy, policy \\(sampled\\), graph, best fixed"
    ):
        check_against(["policy"], ["graph"], settings.model_copy(update={"against": "grph"}))
    with pytest.raises(ValueError, match="against='oracle' is no row"):
        load(demo_values({"trainer": {"evaluation": {"against": "oracle"}}}))


def test_several_runs_are_compared_and_nothing_else(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "runs/a", "runs/b", "--workflow", "all"])
    assert main() == 2
    assert "Of several runs the final tables are compared" in capsys.readouterr().err


def test_the_policies_episodes_lie_beside_the_rows_with_their_worker(tmp_path: Path) -> None:
    (tmp_path / "rows.episodes.jsonl").write_text("of an earlier command")
    episode = Episode("e", (Round(completion("no workflow"), None, Refusal(Outcome.NO_WORKFLOW, "none"), ()),), 0, None)
    keep = keep_episodes(tmp_path / "rows.json")
    for worker in ("", "small"):
        keep(worker, "policy", [Group(problem(3), (1,), (episode,))])
    first, second = (json.loads(line) for line in (tmp_path / "rows.episodes.jsonl").read_text().splitlines())
    assert "worker" not in first and second["worker"] == "small" and first["row"] == "policy" and first["problem"] == "scripted/3"
