"""A sweep's trials: their names and settings, which are left, how many run at a time, what becomes of failed ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from launch.compose import compose_settings
from launch.sweep.process import progress_in
from launch.sweep.run import Sweep
from launch.sweep.trials import Trial, is_finished, name_of
from tests.sweep_factory import grid, launcher, multirun
from trainer.cluster.sweep import Shared, fitting
from trainer.run.console import RunConsole
from trainer.run.terminal import Terminal

GIVEN = ["reward.weights.complexity=0,-0.4", "trainer.seed=1,2", "trainer.stages=[grpo,evaluate]", "logger.wandb=off"]


def finish(folder: Path, trial: Trial, **changed: object) -> None:
    """Leaves the trial's run folder as a finished run does."""
    run = folder / trial.name
    run.mkdir(parents=True)
    values = compose_settings([text for text in trial.overrides if not text.startswith(("-", "/", "hydra")) and "=" in text]).model_dump(
        mode="json"
    )
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

    def progress(self) -> str:
        return "starts"

    def interrupt(self) -> None:
        pass

    def kill(self) -> None:
        pass


def test_a_grid_has_every_combination_in_folders_named_after_their_values(tmp_path: Path):
    assert [trial.name for trial in grid(tmp_path, GIVEN).trials] == [
        "reward.weights.complexity=0,trainer.seed=1",
        "reward.weights.complexity=0,trainer.seed=2",
        "reward.weights.complexity=-0.4,trainer.seed=1",
        "reward.weights.complexity=-0.4,trainer.seed=2",
    ]
    chosen = grid(tmp_path, GIVEN).settings[2]
    assert (chosen.reward.weights.complexity, chosen.trainer.seed, chosen.logger.wandb_group) == (-0.4, 1, tmp_path.name)
    assert chosen.trainer.run_dir == str(tmp_path / "reward.weights.complexity=-0.4,trainer.seed=1")


def test_hydras_own_settings_place_the_trials(tmp_path: Path):
    trials = grid(tmp_path, [*GIVEN, "hydra.sweep.subdir='${hydra.job.num}/${trainer.seed}'"]).trials
    assert [trial.name for trial in trials] == ["0/1", "1/2", "2/1", "3/2"] and trials[0].folder == tmp_path / "0" / "1"


def test_what_is_swept_may_stand_in_a_file_as_hydra_has_it(tmp_path: Path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [nano, _self_]\nhydra: {sweeper: {params: {trainer.seed: '1,2'}}}\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    with launcher(tmp_path / "sweep", ["experiment=mine", search]) as ours:
        assert [override.input_line for override in ours.swept] == ["trainer.seed=1,2"]
        trial, settings = ours.place([*ours.fixed, "trainer.seed=2"], 0)
        assert (settings.trainer.seed, trial.name) == (2, "trainer.seed=2") and search in trial.overrides


def test_a_trial_gets_what_its_process_needs_and_nothing_of_the_sweep(tmp_path: Path):
    trial = grid(tmp_path, [*GIVEN, "sweep.parallel=2", "hydra.verbose=true", "rollout.engine_args.max_num_seqs=4"]).trials[0]
    assert "hydra.verbose=true" in trial.overrides and "rollout.engine_args.max_num_seqs=4" in trial.overrides
    assert not [text for text in trial.overrides if text.startswith(("sweep", "hydra.mode", "hydra.sweep"))]


def test_finished_trials_are_left_out_also_of_a_larger_grid(tmp_path: Path):
    for trial in grid(tmp_path, GIVEN).trials[:3]:
        finish(tmp_path, trial)
    (tmp_path / "sweep.json").touch()
    assert [trial.name for trial in grid(tmp_path, GIVEN).left] == ["reward.weights.complexity=-0.4,trainer.seed=2"]
    larger = grid(tmp_path, ["reward.weights.complexity=0,-0.4,-1", "trainer.seed=1,2", *GIVEN[2:]])
    assert (larger.total, len(larger.left), len(larger.finished)) == (6, 3, 3)


def test_a_trial_that_is_asked_for_more_steps_or_lacks_a_stage_is_not_finished(tmp_path: Path):
    first = grid(tmp_path, GIVEN)
    trial, settings = first.trials[0], first.settings[0]
    finish(tmp_path, trial)
    (tmp_path / "sweep.json").touch()
    assert is_finished(trial.folder, settings)
    assert not is_finished(trial.folder, grid(tmp_path, [*GIVEN, "trainer.grpo.steps=999"]).settings[0])
    (tmp_path / trial.name / "state.json").write_text(json.dumps({"stages": {"grpo": {}}}))
    assert not is_finished(trial.folder, settings)


def test_long_and_odd_values_still_make_a_folder_name_of_their_own():
    long = name_of([("worker.model", "a/b c"), ("tasks.path", "x" * 400)])
    assert "/" not in long and " " not in long and len(long) < 200
    assert long != name_of([("worker.model", "a/b c"), ("tasks.path", "x" * 401)])
    assert name_of([("worker.model", "a/b")]) != name_of([("worker.model", "a b")])


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        (["trainer.seed=1"], "needs a setting with several values"),
        (["trainer.seed=1,2", "trainer.run_dir=a,b"], "cannot differ between the trials"),
        (["reward.weights.calls=interval(-0.1,0)"], "let Optuna choose"),
        (["trainer.seed=1,2", "trainer.stages=[]"], "trainer.stages is empty"),
        (["trainer.seed=1,2", "simulated.port=4000"], "cannot serve several trials at once"),
        (["sweep=optuna", "trainer.seed=1,2"], "luckiest seed"),
        (["sweep=optuna", "reward=calls,paper", "hydra.sweep.subdir=x"], "hydra.sweep.subdir cannot be given with Optuna"),
        (["sweep=optuna", "reward=calls,paper", "hydra/launcher=basic"], "as hydra/launcher=flowreasoner does alone"),
        (["hydra/sweeper=optuna", "reward=calls,paper"], "sweep.trials=0 leaves Optuna nothing to choose"),
        (["trainer.seed=1,2", "sweep.trials=4"], "add sweep=optuna"),
        (["trainer.seed=1,2", "trainer.sede=1"], "did you mean trainer.seed"),
        (["trainer.seed=1,1"], "2 trials would share the folder trainer.seed=1"),
        (["trainer.seed=1,2", "hydra.sweep.subdir=x"], "2 trials would share the folder x"),
        (["trainer.seed=1,2", "hydra.sweep.dir=/tmp/x"], "both name the folder"),
        (["trainer.seed=1,2", "hydra.sweeper.max_batch_size=1"], "set sweep.parallel, and leave it out"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_and_leaves_nothing_behind(given: Sequence[str], needed: str, tmp_path: Path):
    with pytest.raises(ValueError, match=needed):
        multirun([*given, "logger.wandb=off", *([] if "run_dir" in str(given) else [f"trainer.run_dir={tmp_path / 'sweep'}"])])
    assert not (tmp_path / "sweep").exists()


def test_a_single_runs_folder_is_no_place_for_a_sweep(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(ValueError, match="is the folder of a single run"):
        multirun(["trainer.seed=1,2", f"trainer.run_dir={tmp_path}"])
    assert [item.name for item in tmp_path.iterdir()] == ["config.yaml"]


def test_the_stage_and_the_step_of_a_trial_are_read_from_what_its_console_says(tmp_path: Path):
    log = (tmp_path / "log").open("w+")
    console = RunConsole("nano policy, [odd] worker", Terminal(file=log, width=80))

    def shown() -> str:
        log.seek(0)
        return progress_in(log.read().splitlines())

    assert shown() == "starts"
    console.stage("sft", "20 steps of 32 on 600 traces")
    assert shown() == "sft"
    console.progress("sft", 7, 20, "loss 0.5")
    assert shown() == "sft 7/20"
    console.stage("grpo", "3 steps")
    console.step(1, 30, {"reward/mean": 0.5})
    assert shown() == "grpo 2/30"


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
    finish(tmp_path, grid(tmp_path, GIVEN).trials[0])
    (tmp_path / "sweep.json").touch()
    trials = grid(tmp_path, GIVEN)
    started: list[Path] = []

    def start(overrides: Sequence[str], log: Path, environment: dict[str, str]) -> Ended:
        trial = trials.left[len(started)]
        started.append(log)
        if trial is not trials.left[1]:
            finish(tmp_path, trial)
        return Ended(2 if trial is trials.left[1] else 0, tmp_path)

    sweep = Sweep(tmp_path, GIVEN, trials, start)
    sweep.run(Shared(2, {}, "2 at a time"))
    assert len(started) == 3 and len(sweep.failed) == 1
    states = {row["name"]: row["state"] for row in json.loads((tmp_path / "sweep.json").read_text())["trials"]}
    assert sorted(states.values()) == ["failed: The task set has 0 problems.", "finished", "finished", "finished"]
    assert sweep.code() == 2
    assert "failed with exit code 2" in capsys.readouterr().err
