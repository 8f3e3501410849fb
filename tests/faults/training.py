"""A training run as its user starts it, in a process of its own, and hands to kill parts of it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from trainer.run.jsonl import read_rows

ROOT = Path(__file__).parents[2]
POLICY_OVERRIDES = (
    "trainer.stages=[distil,sft]", "distil.traces=800", "trainer.sft.steps=90", "trainer.sft.batch_size=32", "logger.wandb=off",
)  # fmt: skip
RUN_OVERRIDES = (
    "trainer.stages=[grpo]", "trainer.grpo.problems_per_step=4", "rollout.group_size=6", "rollout.runs_per_workflow=1",
    "trainer.evaluation.every_steps=0", "logger.wandb=off", "sandbox.actors=2",
)  # fmt: skip
ROLES = {
    "engine actor": "PolicyEngine",
    "engine core": "VLLM::EngineCore",
    "learner": "LearnerWorker",
    "sandbox": "SandboxActor",
    "zygote": "sandbox.guest.zygote",
    "worker": "workflow.nano.simulated.child",
}
"""What the command line of each role's process holds."""


class Training:
    """``launch.train`` in a folder; a context manager that leaves nothing behind."""

    def __init__(self, run_dir: Path, overrides: Sequence[str]) -> None:
        self.run_dir = run_dir
        self.log = run_dir.with_name(f"{run_dir.name}.log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "launch.train", *overrides, f"trainer.run_dir={run_dir}"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        self.seen: dict[int, psutil.Process] = {}
        """Every process of the run that was met."""

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends the run and kills what is left of it."""
        self.tree()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in self.orphans(within_s=0.0):
            process.kill()

    def console(self) -> str:
        """All that it printed."""
        return self.log.read_text(errors="replace")

    def rows(self) -> list[dict[str, Any]]:
        """Its GRPO steps so far."""
        return [row for row in read_rows(self.run_dir / "metrics.jsonl") if row["stage"] == "grpo"]

    def tree(self) -> list[psutil.Process]:
        """The run's processes now, the driver first; those of Ray are its children."""
        try:
            driver = psutil.Process(self.process.pid)
            found = [driver, *driver.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        self.seen |= {process.pid: process for process in found}
        return found

    def of_role(self, role: str) -> list[psutil.Process]:
        """Processes of a role, oldest first."""
        found = []
        for process in self.tree():
            try:
                if ROLES[role] in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append((process.create_time(), process))
            except psutil.NoSuchProcess:
                continue
        return [process for _, process in sorted(found, key=lambda pair: pair[0])]

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> float:
        """Waits for ``condition`` while the run lives; the seconds it took."""
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"the run ended before {what}:\n{self.console()[-4000:]}"
            assert time.monotonic() - began < timeout_s, f"no {what} within {timeout_s} s:\n{self.console()[-4000:]}"
            time.sleep(0.1)
        return time.monotonic() - began

    def reaches(self, steps: int, timeout_s: float = 240.0) -> float:
        """Waits for that many finished steps."""
        return self.until(lambda: len(self.rows()) >= steps, timeout_s, f"step {steps}")

    def survives(self, role: str, sign: int = signal.SIGKILL, timeout_s: float = 240.0) -> float:
        """Signals a process of the role; seconds until another one is there and the run has finished two more steps than ever."""
        furthest = max((row["step"] for row in self.rows()), default=-1)
        self.until(lambda: bool(self.of_role(role)), 120.0, f"process of the role {role}")
        victim = self.of_role(role)[-1]
        os.kill(victim.pid, sign)

        def recovered() -> bool:
            others = [process for process in self.of_role(role) if process.pid != victim.pid]
            return bool(others) and max((row["step"] for row in self.rows()), default=-1) >= furthest + 2

        return self.until(recovered, timeout_s, f"recovery from the end of the {role}")

    def orphans(self, within_s: float = 90.0) -> list[psutil.Process]:
        """Processes of the ended run that still are there after a while. Ray's agents look for the GCS for a minute."""
        deadline = time.monotonic() + within_s
        while (left := [process for process in self.seen.values() if _runs(process)]) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def weights_hash(run_dir: Path) -> str:
    """SHA-256 of the trained policy's weights."""
    return hashlib.sha256((run_dir / "policy" / "model.safetensors").read_bytes()).hexdigest()


def check_whole(training: Training, steps: int) -> str:
    """The finished run has every step and every episode once, and no reward from what a machine did; says how many it masked."""
    rows = training.rows()
    assert [row["step"] for row in rows] == list(range(steps)), "a step is missing or there twice"
    episodes = read_rows(training.run_dir / "episodes.jsonl")
    ids = [row["id"] for row in episodes]
    assert len(ids) == len(set(ids)) == steps * 4 * 6, "an episode is missing or was learnt twice"
    masked = [row for row in episodes if row["outcome"] == "infra_error"]
    assert all(row["score"] is None for row in masked), "a fault of a machine was scored"
    return f"{len(masked)} of {len(ids)} episodes masked"
