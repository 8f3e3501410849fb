"""A sweep folder as a finished sweep leaves it, with made-up figures: calls fall as the complexity weight grows."""

import json
import random
from pathlib import Path

from tests.run_factory import write_run

PROBLEMS = [f"nano/test/{number}" for number in range(60)]


def write_sweep(folder: Path, *, weights: tuple[float, ...] = (0, -0.1, -0.4), seeds: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Writes a sweep over the complexity weight and the seed, with one trial that failed, and returns its folder."""
    rng = random.Random(1)
    trials = []
    for weight in weights:
        for seed in seeds:
            name = f"reward.weights.complexity={weight},trainer.seed={seed}"
            run = write_run(folder / name, steps=2, seed=seed)
            results = json.loads((run / "results.json").read_text())
            for row in results["rows"]:
                row["latency"] = 0.4 * row["calls"]
                if row["kind"] == "policy":
                    row |= _policy(rng, weight)
            (run / "results.json").write_text(json.dumps(results))
            values = {"reward.weights.complexity": str(weight), "trainer.seed": str(seed)}
            trials.append({"name": name, "values": values, "state": "finished"})
    values = {"reward.weights.complexity": str(weights[-1]), "trainer.seed": "9"}
    trials.append({"name": "gone", "values": values, "state": "failed: The disk is full at <here>."})
    (folder / "sweep.json").write_text(json.dumps({"command": [], "total": len(trials), "trials": trials}))
    return folder


def _policy(rng: random.Random, weight: float) -> dict[str, object]:
    calls, passed = 3.5 + 5 * weight + rng.gauss(0, 0.15), 0.8 + 0.2 * weight
    spent = {problem: max(1.0, rng.gauss(calls, 0.8)) for problem in PROBLEMS}
    by_problem = {
        "pass_rate": {problem: float(rng.random() < passed) for problem in PROBLEMS},
        "calls": spent,
        "cost": {problem: 1e-4 * value for problem, value in spent.items()},
        "latency": {problem: 0.4 * value for problem, value in spent.items()},
    }
    return {name: sum(figures.values()) / len(figures) for name, figures in by_problem.items()} | {"by_problem": by_problem}
