"""Whether a long run stays as large as it was: memory, descriptors, threads of every process, /dev/shm. Prints one JSON line.

    python -m benchmarks.soak                                        makes a policy first (distil, SFT), then 300 short GRPO steps
    python -m benchmarks.soak --run-dir RUN_DIR --plot soak.png      from a run's SFT policy, with the curves as a picture

The steps are short (few problems, small groups), collecting and learning go side by side, a validation and a checkpoint come every 20
steps, W&B records offline. All processes of the run are looked at every few seconds and summed by role. After the warm-up (a third of the
steps: until then the engine writes parts of its key-value cache for the first time, 192 MiB with nano), for each role and measure:

    start          median of the first quarter of the looks
    growth         median of the last quarter minus start
    per_100_steps  Theil-Sen slope: the median over all pairs of looks
    flat           whether growth is within the bound

Bounds (BOUNDS): anonymous memory 16 MiB or 3 % of start, whichever is more; 8 descriptors, 4 threads, 1 process (4 boxes, which live for
moments); /dev/shm 16 MiB or 3 %, and 4 files. Resident memory is shown and not judged, since it counts pages of the object store that
a process has touched. The run folder grows by its log (shown, without checkpoints); Ray's own log folder is shown too. ``left`` is what
is still there after the run has ended: processes, and files in /dev/shm (of any program, so neighbours can disturb it).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.neighbours import Neighbours
from benchmarks.process_watch import ProcessTree, Sample, Usage, folder_mib
from benchmarks.processes import ROOT, our_versions, rounded, sft_policy
from benchmarks.step import MAKE_POLICY, step_overrides
from launch.shell import one_sentence_errors

SETTINGS = {
    "trainer.grpo.problems_per_step": "3",
    "rollout.group_size": "4",
    "rollout.runs_per_workflow": "1",
    "trainer.max_staleness": "1",
    "trainer.grpo.optimizer.lr": "1.0e-5",  # the policy stays about what it is, and so does the work of a step
    "trainer.checkpoint.every_steps": "20",
    "trainer.evaluation.every_steps": "20",
    "trainer.evaluation.quick_size": "8",
    "logger.wandb": "offline",
}
MEASURES = ("anon_mib", "rss_mib", "fds", "threads", "processes")
BOUNDS = {"anon_mib": (16.0, 0.03), "fds": (8.0, 0.0), "threads": (4.0, 0.0), "processes": (1.0, 0.0), "shm_mib": (16.0, 0.03)}
BOUNDS |= {"shm_files": (4.0, 0.0), "boxes": (4.0, 0.0)}
"""Growth that counts as flat: so much, or so large a share of the start."""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Whether a long run stays as large as it was.")
    out.add_argument("--run-dir", type=Path, help="a run whose SFT policy is used; default: one is made")
    out.add_argument("--steps", type=int, default=300, help="GRPO steps (default 300)")
    out.add_argument("--warmup", type=int, help="steps that are not judged (default: a third of them)")
    out.add_argument("--every-s", type=float, default=5.0, help="seconds from one look to the next (default 5)")
    out.add_argument("--plot", type=Path, metavar="FILE", help="write the curves as a PNG")
    out.add_argument("--samples", type=Path, metavar="FILE", help="write every look as a JSON line")
    return out


def overrides(policy: Path, run_dir: Path | None, steps: int) -> list[str]:
    """Overrides of the run that is watched."""
    given = [text for text in step_overrides(policy, run_dir, steps) if text.split("=")[0] not in SETTINGS]
    return [*given, *(f"{name}={value}" for name, value in SETTINGS.items())]


def watch(command: Sequence[str], run_dir: Path, every_s: float) -> tuple[list[Sample], dict[str, Any]]:
    """Runs it and looks at it; the looks, and what is left afterwards.

    Raises:
        RuntimeError: it failed.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    tree, samples, begun = ProcessTree(process.pid), list[Sample](), time.monotonic()
    metrics = run_dir / "metrics.jsonl"
    try:
        while process.poll() is None:
            step = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            logs = sum(folder_mib(place) for place in ray_folders(process.pid))
            samples.append(Sample(time.monotonic() - begun, step, tree.look(), folder_mib(run_dir, "checkpoints"), logs))
            time.sleep(every_s)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}.")
    time.sleep(2.0)
    left = [" ".join(one.cmdline())[:120] for one in tree.alive()]
    return samples, {"processes": left, "shm": tree.shm_left()}


def ray_folders(driver: int) -> list[Path]:
    """Session folders of the Ray that this driver started: it is in their names."""
    return list(Path(tempfile.gettempdir()).glob(f"fr-*/session_*_{driver}"))


def growth(steps: Sequence[float], values: Sequence[float], bound: tuple[float, float] | None) -> dict[str, Any]:
    """What became of one measure over the judged looks."""
    quarter = max(1, len(values) // 4)
    start, end = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    out: dict[str, Any] = {"start": start, "growth": end - start, "per_100_steps": 100 * theil_sen(steps, values)}
    return out | ({"flat": end - start <= max(bound[0], bound[1] * start)} if bound else {})


def theil_sen(x: Sequence[float], y: Sequence[float]) -> float:
    """Median of the slopes of all pairs with different x; 0 where there is none."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    one, other = np.triu_indices(len(xs), 1)
    apart = xs[other] != xs[one]
    slopes = (ys[other] - ys[one])[apart] / (xs[other] - xs[one])[apart]
    return float(np.median(slopes)) if len(slopes) else 0.0


def summary(samples: Sequence[Sample], steps: int, warmup: int) -> dict[str, Any]:
    """Growth of every role and of the whole, over the looks after the warm-up and before the last step was done.

    Raises:
        ValueError: too few of them.
    """
    judged = [sample for sample in samples if warmup <= sample.step < steps]
    if len(judged) < 8:
        raise ValueError(f"There are {len(judged)} looks between step {warmup} and step {steps}, and 8 are needed: run more steps.")
    at = [float(sample.step) for sample in judged]

    def of(value: Callable[[Sample], float], bound: tuple[float, float] | None = None) -> dict[str, Any]:
        return growth(at, [value(sample) for sample in judged], bound)

    roles: dict[str, dict[str, Any]] = {}
    for role in sorted({role for sample in judged for role in sample.look.roles}):
        measures = MEASURES if role != "box" else ("processes",)
        roles[role] = {
            name: of(
                lambda sample, role=role, name=name: getattr(sample.look.roles.get(role, Usage()), name),
                BOUNDS["boxes"] if role == "box" else BOUNDS.get(name),
            )
            for name in measures
        }
    whole = {
        "shm_mib": of(lambda sample: sample.look.shm_mib, BOUNDS["shm_mib"]),
        "shm_files": of(lambda sample: sample.look.shm_files, BOUNDS["shm_files"]),
        "run_folder_mib": of(lambda sample: sample.folder_mib),
        "ray_logs_mib": of(lambda sample: sample.ray_mib),
    }
    found = [(f"{role} {name}", one) for role, names in roles.items() for name, one in names.items()] + list(whole.items())
    grows = [name for name, one in found if not one.get("flat", True)]
    return {"flat": not grows, "grows": grows, "steps": steps, "judged_looks": len(judged), "whole": whole, "roles": roles}


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_args()
    warmup = options.warmup if options.warmup is not None else options.steps // 3
    if not 0 <= warmup < options.steps:
        raise ValueError(f"--warmup {warmup} leaves nothing of --steps {options.steps}: give more steps.")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        run_dir = options.run_dir.resolve() if options.run_dir else None
        policy = sft_policy(run_dir, MAKE_POLICY, folder / "start")
        given = [*overrides(policy, run_dir, options.steps), f"trainer.run_dir={folder / 'run'}"]
        with Neighbours(every_s=10.0) as neighbours:
            samples, left = watch([sys.executable, "-m", "launch.train", *given], folder / "run", options.every_s)
        if options.samples:
            options.samples.write_text("".join(json.dumps(as_row(sample)) + "\n" for sample in samples))
        if options.plot:
            from benchmarks.soak_plot import plot

            plot(samples, warmup, options.plot)
        out = summary(samples, options.steps, warmup) | {"left": left, "wall_s": samples[-1].at_s}
        print(json.dumps(rounded(out | {"cores_used_by_others": neighbours.cores, "versions": our_versions()})))
    return 0


def as_row(sample: Sample) -> dict[str, Any]:
    """A look as a flat dict, for --samples."""
    row: dict[str, Any] = {"at_s": sample.at_s, "step": sample.step, "folder_mib": sample.folder_mib, "ray_mib": sample.ray_mib}
    row |= {"shm_mib": sample.look.shm_mib, "shm_files": sample.look.shm_files}
    for role, usage in sample.look.roles.items():
        row |= {f"{role}/{name}": getattr(usage, name) for name in MEASURES}
    return row


if __name__ == "__main__":
    sys.exit(main())
