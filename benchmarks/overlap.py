"""What overlapping collecting and learning gains where workers are slow. Prints one JSON line.

    python -m benchmarks.overlap                    makes a policy first (distil, SFT), then measures
    python -m benchmarks.overlap --run-dir RUN_DIR  measures from a run's SFT policy

The policy gets layers that change nothing of what it says, so that an update costs about what collecting costs, as with a real model.
The simulated worker answers after a lognormal time (mean 2 s, heavy tail). Runs of the same policy and batch, one after the
other on the same cores: synchronous, then ``trainer.max_staleness`` 1 and 2 (the latter with late groups), then TRL's GRPOTrainer,
whose reward function takes as long as our runs and judgements took in the synchronous run (TRL runs no workflows).

    ideal_s   max(sample + run + judge, update) of the synchronous run: perfect overlap of two equally deep stages
    ratios    step over ideal_s (1 is perfect; below 1 where two batches of slow calls are under way at once); synchronous over step

A step's time is the mean over the measured steps, since a heavy tail hides from a median. In all our modes engine and learner
compute with one core each, as they would with accelerators of their own; TRL has all cores for either.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.deepened import deepen
from benchmarks.neighbours import Neighbours
from benchmarks.processes import ROOT, last_json, our_versions, rounded, say, sft_policy, train
from benchmarks.step import DISTURBED_CORES, MAKE_POLICY, TRL_REQUIREMENTS, TRL_VENV, make_job, step_overrides
from launch.shell import one_sentence_errors

SLOW_WORKER = ("simulated.latency.mean_s=2.0", "simulated.latency.sigma=1.0")
SETTINGS = (
    "sandbox.slots_per_actor=256",  # slots and connections do not queue: a run takes what its worker takes
    "worker.max_concurrency=512",
    "sandbox.budget.calls=2",  # short chains of calls: with the deeper policy, collecting costs about as much as updating
    "rollout.runs_per_workflow=1",
    "learner.threads=1",
    "trainer.grpo.optimizer.lr=1.0e-5",  # what is measured is the pipeline: the policy stays about what it is
)
COOLDOWN = 2
"""Last steps that are not measured: with nothing left to collect ahead, an overlapped run is faster there than it is."""
MODES: dict[str, tuple[str, ...]] = {
    "synchronous": ("trainer.max_staleness=0",),
    "staleness_1": ("trainer.max_staleness=1",),
    "staleness_2": ("trainer.max_staleness=2", "trainer.late_share=0.25"),
}


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description="Step time with and without overlap.")
    out.add_argument("--run-dir", type=Path, help="a run whose SFT policy is used; default: one is made")
    out.add_argument("--problems", type=int, default=16, help="groups a step (default 16)")
    out.add_argument("--group-size", type=int, default=24, help="completions a group (default 24)")
    out.add_argument("--extra-layers", type=int, default=28, help="layers added to the policy: the more, the longer an update (default 28)")
    out.add_argument("--steps", type=int, default=6, help="measured steps of each mode (default 6)")
    out.add_argument("--warmup", type=int, default=3, help="steps before them, not measured (default 3: until the pipeline is full)")
    out.add_argument("--no-trl", action="store_true", help="leave the peer out")
    return out


def mode_summary(rows: Sequence[dict[str, Any]], warmup: int) -> dict[str, float]:
    """Means over the measured steps of one mode: without the first ``warmup`` and the last ``COOLDOWN`` ones.

    Raises:
        ValueError: none was measured.
    """
    measured = [row for row in rows if "time/step_s" in row][warmup:-COOLDOWN]
    if not measured:
        raise ValueError(
            f"The run recorded {len(rows)} rows, none between {warmup} of warm-up and {COOLDOWN} of cool-down: measure more steps."
        )

    def mean(name: str) -> float:
        return statistics.fmean(row[name] for row in measured)

    return {
        "step_s": mean("time/step_s"),
        "collect_s": mean("time/sample_s") + mean("time/run_s") + mean("time/judge_s"),
        "reward_s": mean("time/run_s") + mean("time/judge_s"),
        "update_s": mean("time/update_s"),
        "wait_s": mean("time/wait_s"),
        "publish_s": mean("time/publish_s"),
        "staleness_mean": mean("staleness/mean"),
        "late_groups": mean("stream/late"),
        "idle_learner": mean("idle/learner"),
        "idle_engines": mean("idle/engines"),
        "steps": float(len(measured)),
    }


def summary(modes: dict[str, dict[str, float]], trl: dict[str, Any] | None) -> dict[str, Any]:
    """Ratios first, then each mode."""
    synchronous = modes["synchronous"]
    ideal_s = max(synchronous["collect_s"], synchronous["update_s"])
    overlapped = {name: mode for name, mode in modes.items() if name != "synchronous"}
    out: dict[str, Any] = {
        "synchronous_over_step": {name: synchronous["step_s"] / mode["step_s"] for name, mode in overlapped.items()},
        "step_over_ideal": {name: mode["step_s"] / ideal_s for name, mode in modes.items()},
        "ideal_s": ideal_s,
        "collect_over_update": synchronous["collect_s"] / synchronous["update_s"],
    }
    if trl is not None:
        out["trl_over_step"] = {name: trl["step_mean_s"] / mode["step_s"] for name, mode in modes.items()}
        out["trl"] = trl
    return out | {"modes": modes}


def measure(policy: Path, run_dir: Path | None, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every mode, one after the other."""
    total = options.warmup + options.steps + COOLDOWN
    batch = {"trainer.grpo.problems_per_step": options.problems, "rollout.group_size": options.group_size}
    given = [text for text in step_overrides(policy, run_dir, total) if text.split("=")[0] not in batch]
    overrides = [*given, *SLOW_WORKER, *SETTINGS, *(f"{name}={value}" for name, value in batch.items())]
    modes: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, own in MODES.items():
        say(f"{name}: {options.warmup} + {options.steps} steps")
        with Neighbours() as neighbours:
            train([*overrides, *own], folder / name)
        rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        modes[name], others[name] = mode_summary(rows, options.warmup), neighbours.cores
        say(json.dumps(rounded(modes[name])))
    trl = None
    if not options.no_trl:
        job = make_job(policy, overrides, options.warmup, options.steps) | {"reward_s": modes["synchronous"]["reward_s"]}
        (folder / "job.json").write_text(json.dumps(job))
        threads = {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with Neighbours() as neighbours:
            trl = last_json([str(ROOT / TRL_VENV / "bin/python"), "benchmarks/peers/trl_step.py", str(folder / "job.json")], threads)
        others["trl"] = neighbours.cores
    if max(others.values()) > DISTURBED_CORES:
        say(f"Other programs used these many cores beside each side, so the ratios are uncertain: {json.dumps(rounded(others))}")
    return summary(modes, trl) | {"cores_used_by_others": others, "versions": our_versions()}


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_args()
    if options.steps < 1 or options.warmup < 0:
        raise ValueError(f"--steps {options.steps} --warmup {options.warmup}: give at least 1 step and no negative warm-up.")
    if not options.no_trl:
        subprocess.run(["benchmarks/peers/install.sh", TRL_REQUIREMENTS, TRL_VENV], cwd=ROOT, stdout=sys.stderr, check=True)
    with tempfile.TemporaryDirectory(prefix="overlap-") as name:
        folder = Path(name)
        run_dir = options.run_dir.resolve() if options.run_dir else None
        policy = sft_policy(run_dir, MAKE_POLICY, folder / "start")
        policy = deepen(policy, folder / "policy", options.extra_layers)
        print(json.dumps(rounded(measure(policy, run_dir, options, folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
