"""``python -m launch.train`` up to the point where actors start."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch import ROOT
from launch.compose import compose_settings, load_saved
from launch.train import resume_settings
from tests.run_factory import settings


def train(*arguments: str, cwd: Path = ROOT, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launch.train", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout_s
    )


def saved_run(folder: Path) -> Path:
    folder.mkdir()
    values = settings(folder, seed=7).model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.parametrize(
    ("override", "needed"),
    [
        ("trainer.sede=1", "did you mean trainer.seed?"),
        ("seed=1,2", "trainer.seed=1,2 gives several values: add -m"),
        ("trainer.seed=abc", "trainer.seed='abc' has the wrong type"),
        ("model.path=/no/such", "model.path='/no/such' does not exist"),
        ("rollout.group_size=1", "must be at least 2"),
        ("trainer.run_dir=/proc/none/run", "trainer.run_dir='/proc/none/run' cannot be written"),
    ],
)
def test_bad_input_ends_at_once_with_one_sentence(override: str, needed: str):
    done = train(override)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and needed in done.stderr and done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_with_a_wrong_value_starts_nothing(tmp_path: Path):
    done = train("-m", "trainer.seed=1,2", "trainer.stages=[]", f"trainer.run_dir={tmp_path / 'sweep'}")
    assert done.returncode == 2 and done.stderr == "error: trainer.stages is empty: name at least one of distil, sft, grpo, evaluate.\n"


@pytest.mark.slow
def test_a_sweep_runs_each_value_in_a_folder_of_its_own(tmp_path: Path):
    (tmp_path / "empty.jsonl").touch()
    tasks = ("tasks.name=jsonl", f"tasks.path={tmp_path / 'empty.jsonl'}")
    given = ("seed=1,2", "sweep.parallel=2", f"trainer.run_dir={tmp_path / 'sweep'}", "logger.wandb=off", *tasks)
    done = train("-m", *given, timeout_s=300)
    assert done.returncode == 2 and done.stderr.count("The task set has 0 problems") == 2, done.stderr  # each trial says so
    assert "2 of 2 trials failed" in done.stderr and "2 at a time" in done.stdout
    seeds = [
        yaml.safe_load((tmp_path / "sweep" / f"trainer.seed={seed}" / "config.yaml").read_text())["trainer"]["seed"] for seed in (1, 2)
    ]
    assert seeds == [1, 2]


def test_a_sweep_takes_no_other_flags():
    done = train("-m", "--cfg", "job", "seed=1,2")
    assert (
        done.returncode == 2
        and done.stderr == "error: Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified\n"
    )


def test_seed_is_short_for_the_trainers_seed():
    assert yaml.safe_load(train("--cfg", "job", "seed=5").stdout)["trainer"]["seed"] == 5


def test_all_settings_can_be_shown_without_running(tmp_path: Path):
    done = train("--cfg", "job", "trainer.seed=5")
    shown = yaml.safe_load(done.stdout)
    assert done.returncode == 0 and shown["trainer"]["seed"] == 5 and shown["sandbox"]["limits"]["cpu_s"] == 10


def test_hydra_leaves_no_folders_behind():
    before = {item.name for item in ROOT.iterdir()}
    train("trainer.seed=abc")
    assert {item.name for item in ROOT.iterdir()} - before <= {".pytest_cache"}


@pytest.mark.parametrize("flags", [["--info", "searchpath"], ["--help"], ["--hydra-help"], ["--cfg", "job", "seed=5"]])
def test_hydras_flags_answer(flags: list[str]):
    done = train(*flags)
    assert done.returncode == 0 and len(done.stdout) > 50 and not done.stderr


def test_bash_completes_settings_and_options_of_groups():
    script = train("-sc", "install=bash").stdout
    ask = f"""{script}
    COMP_WORDS=({sys.executable} -m launch.train "$1"); COMP_CWORD=3; COMP_LINE="${{COMP_WORDS[*]}}"; COMP_POINT=${{#COMP_LINE}}
    launch_train_completion && echo "${{COMPREPLY[@]}}"
    """
    for begun, whole in (("trainer.see", "trainer.seed="), ("worker=op", "worker=openai"), ("experi", "experiment=")):
        done = subprocess.run(["bash", "-c", ask, "bash", begun], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == whole, done.stderr


def test_a_launcher_that_would_run_trials_in_one_process_is_refused(tmp_path: Path):
    done = train("-m", "hydra/launcher=basic", "seed=1,2", f"trainer.run_dir={tmp_path / 'sweep'}")
    assert done.returncode == 2 and done.stderr.startswith("error: hydra/launcher=basic") and done.stderr.count("\n") == 1


def test_a_resumed_run_goes_on_with_its_own_settings(tmp_path: Path):
    folder = saved_run(tmp_path / "run")
    given = [f"trainer.run_dir={folder}", "trainer.grpo.steps=99"]
    config = resume_settings(compose_settings(given), given)
    assert (config.trainer.seed, config.trainer.grpo.steps, config.trainer.run_dir) == (7, 99, str(folder))


def test_a_whole_recipe_is_taken_as_given(tmp_path: Path):
    folder = saved_run(tmp_path / "run")
    given = [f"trainer.run_dir={folder}", "experiment=nano"]
    assert resume_settings(compose_settings(given), given).trainer.seed == 0


def test_settings_of_a_run_come_back_with_values_on_top(tmp_path: Path):
    folder = saved_run(tmp_path / "run")
    config = load_saved(folder, ["tasks.test_size=12", "worker.api_key_env=KEY"])
    assert (config.trainer.seed, config.tasks.test_size, config.worker.api_key_env) == (7, 12, "KEY")


@pytest.mark.parametrize(
    ("overrides", "needed"),
    [
        (["tasks.test_sise=12"], "did you mean tasks.test_size?"),
        (["trainer.seed=1,2"], "several values: add -m"),
        (["model=local"], "chooses a group"),
        (["seed"], "is no setting"),
    ],
)
def test_values_for_a_saved_run_are_checked_too(tmp_path: Path, overrides: list[str], needed: str):
    with pytest.raises(ValueError, match=needed.replace("?", r"\?")):
        load_saved(saved_run(tmp_path / "run"), overrides)


def test_a_moved_run_folder_is_where_it_is_now(tmp_path: Path):
    folder = saved_run(tmp_path / "run")
    moved = folder.rename(tmp_path / "moved")
    assert load_saved(moved).trainer.run_dir == str(moved)
