"""A trial's process: it ends when it is asked to, and when the sweep that started it is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from launch.sweep.process import TrialProcess, wait_for_one

STARTED_S, ENDED_S = 120.0, 90.0
PARENT = """
import sys, time
from pathlib import Path
from launch.sweep.process import TrialProcess
trial = TrialProcess(sys.argv[2:], Path(sys.argv[1]), {})
print(trial._process.pid, flush=True)
time.sleep(600)
"""


def overrides(folder: Path) -> list[str]:
    return [f"trainer.run_dir={folder / 'run'}", "logger.wandb=off", "trainer.grpo.steps=1"]


def wait_until_it_runs(folder: Path) -> None:
    """Waits until the trial has its folder, so that it is past its imports."""
    deadline = time.monotonic() + STARTED_S
    while not (folder / "run" / "state.json").exists():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.2)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + ENDED_S
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.2)
    return False


def test_a_trial_that_is_interrupted_says_how_it_goes_on(tmp_path: Path):
    trial = TrialProcess(overrides(tmp_path), tmp_path / "log", {})
    try:
        wait_until_it_runs(tmp_path)
        trial.interrupt()
        assert wait_for_one([trial], ENDED_S) is trial and trial.code == 130
        assert "Go on with: python -m launch.train" in (tmp_path / "log").read_text()
    finally:
        trial.kill()


def test_a_trial_does_not_outlive_its_sweep(tmp_path: Path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *overrides(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout is not None
        pid = int(sweep.stdout.readline())
        try:
            wait_until_it_runs(tmp_path)
            sweep.send_signal(signal.SIGKILL)
            assert gone(pid)
        finally:
            if psutil.pid_exists(pid):
                os.killpg(pid, signal.SIGKILL)


def test_a_failed_trial_says_why(tmp_path: Path):
    trial = TrialProcess(["trainer.sede=1"], tmp_path / "log", {})
    assert wait_for_one([trial], ENDED_S) is trial
    assert trial.code == 2 and trial.reason() == "trainer.sede=1: there is no such setting; did you mean trainer.seed?"
