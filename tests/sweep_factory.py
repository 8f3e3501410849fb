"""Sweeps in this process, and a folder as a finished one leaves it, with made-up figures: calls fall as the complexity weight grows."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from launch.compose import CONF, errors_as_sentences, register_configs
from launch.sweep.plugins import TrialLauncher, register_plugins
from launch.sweep.trials import Grid
from tests.run_factory import write_run

PROBLEMS = [f"nano/test/{number}" for number in range(60)]


@contextmanager
def hydra() -> Iterator[Hydra]:
    """Hydra as ``launch.train`` sets it up."""
    register_configs()
    register_plugins()
    GlobalHydra.instance().clear()
    with errors_as_sentences(), initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        ready = GlobalHydra.instance().hydra
        assert ready is not None
        yield ready


def no_task(config: DictConfig) -> None:
    """What our launcher never calls."""
    raise AssertionError("a trial ran in this process")


def multirun(given: Sequence[str]) -> None:
    """``launch.train -m`` from Hydra on."""
    with hydra() as ready:
        ready.multirun("config", no_task, list(given), with_log_configuration=False)


@contextmanager
def launcher(folder: Path, given: Sequence[str]) -> Iterator[TrialLauncher]:
    """The launcher of a sweep, with the sweep's folder in its hands."""
    with hydra() as ready:
        config = ready.compose_config("config", [*given, f"trainer.run_dir={folder}"], RunMode.MULTIRUN, with_log_configuration=False)
        out = TrialLauncher()
        out.setup(hydra_context=HydraContext(ready.config_loader, Callbacks()), task_function=no_task, config=config)
        try:
            yield out
        finally:
            os.close(out.lock)


def grid(folder: Path, given: Sequence[str]) -> Grid:
    """The trials that Hydra's own sweeper makes."""
    with launcher(folder, given) as ours:
        (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(given)), None)
        return Grid([ours.place(job, number) for number, job in enumerate(jobs)])


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
