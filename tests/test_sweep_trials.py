"""A sweep's trials: their names and settings, which are left, how many run at a time, what becomes of failed ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from launch.sweep.run import Sweep, run_sweep
from launch.sweep.trials import Grid, Trial, is_finished, settings_of, trial_of
from trainer.cluster.sweep import Shared, fitting

GIVEN = ["reward.weights.complexity=0,-0.4", "trainer.seed=1,2", "trainer.stages=[grpo,evaluate]", "logger.wandb=off"]


def finish(folder: Path, trial: Trial, **changed: object) -> None:
    """Leaves the trial's run folder as a finished run does."""
    run = folder / trial.name
    run.mkdir(parents=True)
    values = settings_of(trial, folder).model_dump(mode="json")
    values["trainer"] |= changed
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    (run / "state.json").write_text(json.dumps({"stages": {"grpo": {}, "evaluate": {}}}))
    row = {"name": "GRPO policy", "kind": "policy", "reward": 0.5, "pass_rate": 0.8, "calls": 2.0, "cost": 1e-4, "latency": 0.1}
    (run / "results.json").write_text(json.dumps({"rows": [row], "wall_s": 1.0, "steps": 3}))


class Ended:
    """A trial's process that has ended already."""

    def __init__(self, code: int, folder: Path) -> None:
        self.code = code
        self.log = folder / "trial.log"
        self.began_s = 0.0

    def reason(self) -> str:
        return "The task set has 0 problems."

    def interrupt(self) -> None:
        pass

    def kill(self) -> None:
        pass


def test_a_grid_has_every_combination_in_folders_named_after_their_values(tmp_path: Path):
    grid = Grid(GIVEN, tmp_path)
    assert [trial.name for trial in grid.trials] == [
        "reward.weights.complexity=0,trainer.seed=1",
        "reward.weights.complexity=0,trainer.seed=2",
        "reward.weights.complexity=-0.4,trainer.seed=1",
        "reward.weights.complexity=-0.4,trainer.seed=2",
    ]
    chosen = settings_of(grid.trials[2], tmp_path)
    assert (chosen.reward.weights.complexity, chosen.trainer.seed, chosen.logger.wandb_group) == (-0.4, 1, tmp_path.name)
    assert chosen.trainer.run_dir == str(tmp_path / "reward.weights.complexity=-0.4,trainer.seed=1")


def test_finished_trials_are_left_out_also_of_a_larger_grid(tmp_path: Path):
    for trial in Grid(GIVEN, tmp_path).trials[:3]:
        finish(tmp_path, trial)
    assert [trial.name for trial in Grid(GIVEN, tmp_path).left] == ["reward.weights.complexity=-0.4,trainer.seed=2"]
    larger = Grid(["reward.weights.complexity=0,-0.4,-1", "trainer.seed=1,2", *GIVEN[2:]], tmp_path)
    assert (larger.total, len(larger.left), len(larger.finished)) == (6, 3, 3)


def test_a_trial_that_is_asked_for_more_steps_or_lacks_a_stage_is_not_finished(tmp_path: Path):
    trial = Grid(GIVEN, tmp_path).trials[0]
    finish(tmp_path, trial)
    assert is_finished(tmp_path / trial.name, settings_of(trial, tmp_path))
    longer = trial_of([*GIVEN[2:], "trainer.grpo.steps=999"], trial.values)
    assert not is_finished(tmp_path / trial.name, settings_of(longer, tmp_path))
    (tmp_path / trial.name / "state.json").write_text(json.dumps({"stages": {"grpo": {}}}))
    assert not is_finished(tmp_path / trial.name, settings_of(trial, tmp_path))


def test_long_and_odd_values_still_make_a_folder_name():
    long = trial_of([], [("worker.model", "a/b c"), ("tasks.path", "x" * 400)])
    assert "/" not in long.name and " " not in long.name and len(long.name) < 200
    assert long.name != trial_of([], [("worker.model", "a/b c"), ("tasks.path", "x" * 401)]).name


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        (["trainer.seed=1"], "needs a setting with several values"),
        (["trainer.seed=1,2", "trainer.run_dir=a,b"], "cannot differ between the trials"),
        (["reward.weights.calls=interval(-0.1,0)"], "let Optuna choose"),
        (["trainer.seed=1,2", "trainer.stages=[]"], "trainer.stages is empty"),
        (["trainer.seed=1,2", "simulated.port=4000"], "cannot serve several trials at once"),
        (["sweep=optuna", "trainer.seed=1,2"], "luckiest seed"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_starts(given: Sequence[str], needed: str, tmp_path: Path):
    with pytest.raises(ValueError, match=needed):
        run_sweep([*given, "logger.wandb=off", *([] if "run_dir" in str(given) else [f"trainer.run_dir={tmp_path / 'sweep'}"])])
    assert not list(tmp_path.glob("sweep/*/config.yaml"))


def test_a_single_runs_folder_is_no_place_for_a_sweep(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(ValueError, match="is the folder of a single run"):
        run_sweep(["trainer.seed=1,2", f"trainer.run_dir={tmp_path}"])


@pytest.mark.parametrize(
    ("asked", "cpus", "gpus", "resources", "parallel"),
    [(0, 5, 0, {"CPU": 16.0}, 3), (2, 5, 0, {"CPU": 16.0}, 2), (9, 5, 0, {"CPU": 16.0}, 3), (0, 5, 4, {"CPU": 64.0, "GPU": 8.0}, 2)],
)
def test_no_more_trials_run_at_a_time_than_the_cluster_holds(
    asked: int, cpus: float, gpus: int, resources: dict[str, float], parallel: int
):
    assert fitting(asked, cpus, gpus, resources, "the cluster")[0] == parallel


def test_a_cluster_that_is_too_small_for_one_trial_is_refused():
    with pytest.raises(ValueError, match="The cluster has 4 CPUs and one trial takes 5"):
        fitting(0, 5, 0, {"CPU": 4.0}, "the cluster")
    with pytest.raises(ValueError, match=r"This machine has 1 GPUs and one trial takes 4: use a larger machine or a cluster \("):
        fitting(0, 5, 4, {"CPU": 64.0, "GPU": 1.0}, "this machine")


def test_a_failed_trial_does_not_end_the_sweep_and_the_exit_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    grid = Grid(GIVEN, tmp_path)
    finish(tmp_path, grid.trials[0])
    grid = Grid(GIVEN, tmp_path)
    started: list[Path] = []

    def start(overrides: Sequence[str], log: Path, environment: dict[str, str]) -> Ended:
        trial = grid.left[len(started)]
        started.append(log)
        if trial is not grid.left[1]:
            finish(tmp_path, trial)
        return Ended(2 if trial is grid.left[1] else 0, tmp_path)

    sweep = Sweep(tmp_path, GIVEN, grid, start)
    sweep.run(Shared(2, {}, "2 at a time"))
    assert len(started) == 3 and len(sweep.failed) == 1
    states = {row["name"]: row["state"] for row in json.loads((tmp_path / "sweep.json").read_text())["trials"]}
    assert sorted(states.values()) == ["failed: The task set has 0 problems.", "finished", "finished", "finished"]
    assert sweep.code() == 2
    assert "failed with exit code 2" in capsys.readouterr().err
