"""Seconds per GRPO step, ours by stage, beside TRL's GRPOTrainer and beside the sampling engine alone. Prints one JSON line.

    python -m benchmarks.step                    makes a policy first (distil, SFT), then measures
    python -m benchmarks.step --run-dir RUN_DIR  measures from a run's SFT policy

Three processes, one after the other on the same cores, each from the same policy folder, with the same prompts, completions
a prompt, length limit, KL weight and learning rate, in float32:

    ours    ``launch.train trainer.stages=[grpo]``: medians of its metrics.jsonl
    trl     ``benchmarks/peers/trl_step.py`` in an environment of its own (.venv-trl), with a constant reward
    engine  ``benchmarks.engine_alone``: the same prompts and nothing else running

TRL runs no workflows, so the same work is our sampling + update + publishing and TRL's whole step. Ratios above 1 say that
we are faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.neighbours import Neighbours
from benchmarks.processes import ROOT, last_json, our_versions, rounded, say, sft_policy, train
from launch.compose import compose_settings
from launch.shell import load_run_settings, one_sentence_errors

T = TypeVar("T")

TRL_REQUIREMENTS = "benchmarks/peers/trl.txt"
TRL_VENV = ".venv-trl"
STAGES = ("sample", "run", "judge", "update", "publish")
DISTURBED_CORES = 0.1
"""Cores used by other programs above which a measurement says that it was disturbed."""
MAKE_POLICY = ("trainer.stages=[distil,sft]", "distil.traces=1500", "trainer.sft.steps=120")
"""How a policy is made where no run is given: enough for completions that end by themselves."""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.step", description="Seconds per GRPO step, ours and TRL's.")
    out.add_argument("--run-dir", type=Path, help="a run whose SFT policy and settings are used; default: one is made")
    out.add_argument("--steps", type=int, default=8, help="steps measured (default 8)")
    out.add_argument("--warmup", type=int, default=2, help="steps before them, not measured (default 2)")
    return out


def step_overrides(policy: Path, run_dir: Path | None, total_steps: int) -> list[str]:
    """Overrides of a run that does nothing but GRPO steps from ``policy``."""
    settings = load_run_settings(run_dir) if run_dir else compose_settings()
    kept = {
        "tasks.name": settings.tasks.name,
        "trainer.seed": settings.trainer.seed,
        "model.max_response_tokens": settings.model.max_response_tokens,
        "rollout.group_size": settings.rollout.group_size,
        "trainer.grpo.problems_per_step": settings.trainer.grpo.problems_per_step,
    }
    return [
        f"model.path={policy}",
        *(f"{name}={value}" for name, value in kept.items()),
        "trainer.stages=[grpo]",
        f"trainer.grpo.steps={total_steps}",
        "trainer.evaluation.every_steps=0",
        "trainer.grpo.optimizer.warmup_steps=0",
        f"trainer.checkpoint.every_steps={total_steps}",
        "logger.wandb=off",
    ]


def make_job(policy: Path, overrides: list[str], warmup: int, steps: int) -> dict[str, Any]:
    """What all sides share: the settings and the prompts that our steps will draw, as token ids by step."""
    from transformers import AutoTokenizer

    from rollout.prompt.meta_prompt import MetaPrompt
    from trainer.algorithm.data_order import problem_at
    from workflow.tasks import load_tasks

    settings = compose_settings(overrides)
    grpo = settings.trainer.grpo
    prompt = MetaPrompt(AutoTokenizer.from_pretrained(policy), settings.model)
    problems = load_tasks(settings.tasks).train
    positions = np.arange((warmup + steps) * grpo.problems_per_step).reshape(warmup + steps, -1)
    drawn = [[problem_at(position, problems, settings.trainer.seed) for position in step] for step in positions.tolist()]
    return {
        "policy": str(policy),
        "overrides": overrides,
        "prompt_ids": [[list(prompt.render(problem)) for problem in step] for step in drawn],
        "warmup": warmup,
        "steps": steps,
        "threads": os.cpu_count(),
        "reward_s": 0.0,
        "seed": settings.trainer.seed,
        "problems": grpo.problems_per_step,
        "group_size": settings.rollout.group_size,
        "max_response_tokens": settings.model.max_response_tokens,
        "temperature": settings.rollout.temperature,
        "kl_coef": grpo.kl_coef,
        "clip_low": grpo.clip_low,
        "clip_high": grpo.clip_high,
        "lr": grpo.optimizer.lr,
        "betas": list(grpo.optimizer.betas),
        "clip_grad": grpo.optimizer.clip_grad,
    }


def our_step(rows: Sequence[dict[str, Any]], warmup: int, completions: int) -> dict[str, float]:
    """Medians over the GRPO rows of metrics.jsonl, the first ``warmup`` left out.

    Args:
        completions: completions a step.

    Raises:
        ValueError: no row is left.
    """
    measured = [row for row in rows if "time/step_s" in row][warmup:]
    if not measured:
        raise ValueError(f"The run recorded {len(rows)} rows, none after {warmup} steps of warm-up: measure more steps.")
    out = {f"{name}_s": statistics.median(row[f"time/{name}_s"] for row in measured) for name in (*STAGES, "step")}
    return out | {
        "same_work_s": statistics.median(sum(row[f"time/{name}_s"] for name in ("sample", "update", "publish")) for row in measured),
        "tokens": statistics.median(row["completion/tokens"] for row in measured) * completions,
        "steps": len(measured),
    }


def summary(ours: dict[str, float], trl: dict[str, Any], engine: dict[str, float]) -> dict[str, Any]:
    """Ratios first, then each side."""
    in_step = ours["tokens"] / ours["sample_s"]
    alone = engine["tokens"] / engine["sample_s"]
    return {
        "trl_over_ours_same_work": trl["step_s"] / ours["same_work_s"],
        "trl_over_ours_same_work_per_token": trl["step_s"] / trl["tokens"] * ours["tokens"] / ours["same_work_s"],
        "trl_over_ours_whole_step": trl["step_s"] / ours["step_s"],
        "trl_over_ours_sample": trl["sample_s"] / ours["sample_s"],
        "trl_over_ours_rest": (trl["step_s"] - trl["sample_s"]) / (ours["update_s"] + ours["publish_s"]),
        "sampling_efficiency": in_step / alone,
        "sample_tokens_per_s": {"ours_in_step": in_step, "engine_alone": alone, "trl_in_step": trl["tokens"] / trl["sample_s"]},
        "ours": ours,
        "trl": trl,
        "engine": engine,
    }


def measure(policy: Path, run_dir: Path | None, warmup: int, steps: int, folder: Path) -> dict[str, Any]:
    """All three sides, one after the other."""
    overrides = step_overrides(policy, run_dir, warmup + steps)
    job = make_job(policy, overrides, warmup, steps)
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job))
    completions = job["problems"] * job["group_size"]
    shape = f"{job['problems']} prompts x {job['group_size']} completions"
    others: dict[str, float] = {}

    def side(name: str, run: Callable[[], T]) -> T:
        with Neighbours() as neighbours:
            out = run()
        others[name] = neighbours.cores
        return out

    say(f"ours: {warmup} + {steps} steps of {shape}")
    side("ours", lambda: train(overrides, folder / "run"))
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    ours = our_step(rows, warmup, completions)
    say(f"{json.dumps(rounded(ours))}; now TRL")
    threads = {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    trl_command = [str(ROOT / TRL_VENV / "bin/python"), "benchmarks/peers/trl_step.py", str(job_file)]
    trl = side("trl", lambda: last_json(trl_command, threads))
    say(f"{json.dumps(rounded(trl))}; now the engine alone")
    engine = side("engine", lambda: last_json([sys.executable, "-m", "benchmarks.engine_alone", str(job_file)]))
    if max(others.values()) > DISTURBED_CORES:
        say(f"Other programs used these many cores beside each side, so the ratios are uncertain: {json.dumps(rounded(others))}")
    facts = {
        "versions": our_versions(),
        "cores": os.cpu_count(),
        "cores_used_by_others": others,
        "batch": {name: job[name] for name in ("problems", "group_size", "max_response_tokens", "temperature", "kl_coef", "lr")},
    }
    return summary(ours, trl, engine) | facts


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_args()
    if options.steps < 1 or options.warmup < 0:
        raise ValueError(f"--steps {options.steps} --warmup {options.warmup}: give at least 1 step and no negative warm-up.")
    subprocess.run(["benchmarks/peers/install.sh", TRL_REQUIREMENTS, TRL_VENV], cwd=ROOT, stdout=sys.stderr, check=True)
    with tempfile.TemporaryDirectory(prefix="step-") as name:
        folder = Path(name)
        run_dir = options.run_dir.resolve() if options.run_dir else None
        policy = sft_policy(run_dir, MAKE_POLICY, folder / "start")
        print(json.dumps(rounded(measure(policy, run_dir, options.warmup, options.steps, folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
