"""Credit by episode, round and span at equal worker calls: nano from one SFT policy, two rounds an episode. Prints one JSON line.

    python -m benchmarks.credit --folder runs/credit --seeds 0 1 2

Each arm of each seed is a training run in FOLDER/SEED/CREDIT: GRPO at a constant learning rate until its workflows, counterfactual ones
included, have made ``--calls`` worker calls beyond those that a cache answers, then the final table. The same command again goes on
where it was ended; runs that are done are read. ``reward`` has the GRPO policy's on the held-out problems, by seed;
``minus_episode`` the mean over seeds of the difference to credit by episode, and its standard error where there are several seeds.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.processes import rounded, say, sft_policy, train
from launch.shell import one_sentence_errors
from trainer.run.jsonl import read_rows
from trainer.run.sinks import Metrics, Opening, Sink, StopTraining

CREDITS = ("episode", "round", "span")
CALLS = "CREDIT_BENCHMARK_CALLS"
"""Environment variable with the worker calls after which a run ends."""
MOST_STEPS = 1000
MAKE_POLICY = ("trainer.stages=[distil,sft]", "rollout.rounds=2", "trainer.sft.steps=120")
SETTINGS = (
    "trainer.stages=[grpo,evaluate]",
    "rollout.rounds=2",
    f"trainer.grpo.steps={MOST_STEPS}",
    "trainer.grpo.optimizer.schedule=constant",  # nothing may depend on a number of steps that no arm knows
    "trainer.evaluation.every_steps=0",
    "trainer.evaluation.sampled_completions=0",
    "tasks.validation_size=48",
    "cluster.device=cpu",
    "logger.wandb=off",
    "logger.episodes=false",
    "logger.sinks=[benchmarks.credit:CallBudget]",
)


def calls_made(folder: Path) -> float:
    """Worker calls of the GRPO steps of a run so far."""
    return sum(row["spend/worker_calls"] for row in read_rows(folder / "metrics.jsonl") if row["stage"] == "grpo")


class CallBudget(Sink):
    """Ends GRPO with the step that reaches the worker calls of the environment variable; reads the log, so that a resumed run counts on."""

    def __init__(self, opening: Opening) -> None:
        self._folder = opening.folder
        self._calls = float(os.environ[CALLS])

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        if stage == "grpo" and calls_made(self._folder) >= self._calls:
            raise StopTraining(f"{self._calls:g} worker calls are made")


def run_arm(folder: Path, policy: Path, credit: str, seed: int, settings: Sequence[str]) -> dict[str, float]:
    """What one training run came to; done ones are only read."""
    results = folder / "results.json"
    if not results.exists():
        say(f"seed {seed}, credit by {credit}: {folder}")
        own = (f"model.path={policy.resolve()}", f"trainer.grpo.credit={credit}", f"trainer.seed={seed}")
        train([*SETTINGS, *own, *settings], folder)
    row = next(row for row in json.loads(results.read_text())["rows"] if row["name"] == "GRPO policy")
    steps = sum(one["stage"] == "grpo" for one in read_rows(folder / "metrics.jsonl"))
    return {"reward": row["reward"], "worker_calls": calls_made(folder), "steps": float(steps)}


def summarise(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Figures of each credit by seed, and differences to credit by episode, paired by seed."""
    by_credit = {
        credit: {name: [run[name] for run in runs] for name in ("reward", "worker_calls", "steps")} for credit, runs in found.items()
    }
    minus: dict[str, Any] = {}
    for credit in CREDITS[1:]:
        pairs = [run["reward"] - base["reward"] for run, base in zip(found[credit], found["episode"], strict=True)]
        minus[credit] = {"mean": fmean(pairs), "standard_error": stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else None}
    return {"by_credit": by_credit, "minus_episode": minus}


@one_sentence_errors
def main() -> int:
    """Runs what is not done yet and prints the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.credit", description="Credit by episode, round and span.")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the training runs (default 0)")
    parser.add_argument("--calls", type=int, default=15_000, help="worker calls of each GRPO (default 15000)")
    parser.add_argument("--run-dir", type=Path, help="a run whose SFT policy is used; default: one is made")
    parser.add_argument("settings", nargs="*", help="further settings of the GRPO runs, name=value")
    options = parser.parse_args()
    os.environ[CALLS] = str(options.calls)
    policy = sft_policy(options.run_dir, MAKE_POLICY, options.folder / "start")
    found: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for credit in CREDITS:
            found.setdefault(credit, []).append(run_arm(options.folder / str(seed) / credit, policy, credit, seed, options.settings))
    print(json.dumps(rounded({"seeds": options.seeds, "calls": options.calls} | summarise(found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
