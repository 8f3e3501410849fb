"""What a sweep's report needs of its folder: trials, the configurations that they repeat, and intervals for each measure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from launch.report.run_data import Row
from trainer.run.state import flat

SEED = "trainer.seed"
RESAMPLES = 2000
NOT_SWEPT = ("trainer.run_dir", "logger.", "cluster.", "sweep.", "simulated.port")
"""Settings that differ between trials without making them different."""
MEASURES = ("pass_rate", "calls", "cost", "latency")
Value = float | str


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class TrialData:
    """One trial's run folder."""

    name: str
    values: dict[str, Value]
    """Swept setting -> this trial's value."""
    state: str
    row: Row | None
    """The trained policy's row of the final table."""
    rows: list[Row]
    """The whole final table."""

    def measure(self, measure: str) -> dict[str, float]:
        """Problem -> figure; one unnamed problem with the mean where the run did not keep them apart."""
        assert self.row is not None
        return self.row.get("by_problem", {}).get(measure) or {"": float(self.row.get(measure, 0.0))}


@dataclass(frozen=True)
class Setup:
    """Trials that differ in their seed alone."""

    values: dict[str, Value]
    trials: list[TrialData]

    def samples(self, measure: str) -> np.ndarray:
        """Means over resampled seeds and problems, shape (RESAMPLES,). Setups with equal trials and problems resample alike."""
        by_trial = [trial.measure(measure) for trial in self.trials]
        problems = sorted(set.intersection(*(set(figures) for figures in by_trial)))
        if not problems:
            by_trial, problems = [{"": float(np.mean(list(figures.values())))} for figures in by_trial], [""]
        values_SP = np.array([[figures[problem] for problem in problems] for figures in by_trial])
        rng = np.random.default_rng(0)
        seeds = rng.integers(0, len(values_SP), (RESAMPLES, len(values_SP)))
        chosen = rng.integers(0, len(problems), (RESAMPLES, len(problems)))
        return np.array([values_SP[s][:, p].mean() for s, p in zip(seeds, chosen, strict=True)])

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Each measure with its interval over seeds and problems."""
        out: dict[str, Estimate] = {}
        for measure in MEASURES:
            mean = float(np.mean([np.mean(list(trial.measure(measure).values())) for trial in self.trials]))
            low, high = (float(bound) for bound in np.percentile(self.samples(measure), [2.5, 97.5]))
            out[measure] = Estimate(mean, low, high)
        return out


@dataclass(frozen=True)
class SweepData:
    """A sweep folder in memory."""

    path: Path
    swept: list[str]
    """Settings that differ, the seed left out."""
    trials: list[TrialData]
    setups: list[Setup]
    config: Row
    """Settings of one trial."""

    @property
    def seeds(self) -> int:
        """Most trials of one setup."""
        return max((len(setup.trials) for setup in self.setups), default=0)


def is_sweep(folder: Path) -> bool:
    """True for a folder of run folders."""
    return not (folder / "config.yaml").is_file() and ((folder / "sweep.json").is_file() or any(folder.glob("*/config.yaml")))


def read_sweep(folder: Path) -> SweepData:
    """Reads a sweep folder, or any folder of run folders.

    Raises:
        ValueError: no trial in it has begun.
    """
    configs = {file.parent.name: yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*/config.yaml"))}
    planned = _read_plan(folder) or _tell_apart(configs)
    if not configs:
        raise ValueError(f"{folder} holds no trial that has begun: run the sweep first.")
    trials = [
        _trial(folder / name, {setting: _value(text) for setting, text in values.items()}, state)
        for name, (values, state) in planned.items()
    ]
    swept = [setting for setting in dict.fromkeys(name for trial in trials for name in trial.values) if setting != SEED]
    groups: dict[str, list[TrialData]] = {}
    for trial in trials:
        if trial.row is not None:
            groups.setdefault(json.dumps([trial.values.get(name) for name in swept]), []).append(trial)
    setups = [Setup({name: value for name, value in group[0].values.items() if name != SEED}, group) for group in groups.values()]
    return SweepData(folder, swept, trials, sorted(setups, key=lambda setup: order(setup.values.values())), next(iter(configs.values())))


def order(values: Any) -> list[tuple[bool, float, str]]:
    """A sorting key for mixed values: numbers by size, then texts."""
    return [(isinstance(value, str), 0.0 if isinstance(value, str) else float(value), str(value)) for value in values]


def _read_plan(folder: Path) -> dict[str, tuple[dict[str, str], str]]:
    """Trial -> values and state, as the sweep listed them."""
    file = folder / "sweep.json"
    rows = json.loads(file.read_text())["trials"] if file.is_file() else []
    return {row["name"]: (row["values"], row["state"]) for row in rows}


def _tell_apart(configs: Mapping[str, Row]) -> dict[str, tuple[dict[str, str], str]]:
    """The same from the settings in which the runs of a folder differ."""
    settings = {name: flat(config) for name, config in configs.items()}
    names = dict.fromkeys(key for values in settings.values() for key in values if not key.startswith(NOT_SWEPT))
    differ = [key for key in names if len({json.dumps(values.get(key)) for values in settings.values()}) > 1]
    return {name: ({key: json.dumps(values.get(key)) for key in differ}, "found") for name, values in settings.items()}


def _value(text: str) -> Value:
    value = yaml.safe_load(text)
    try:
        return str(value) if isinstance(value, bool | None | list | dict) else float(value)
    except ValueError:
        return str(value)


def _trial(folder: Path, values: dict[str, Value], state: str) -> TrialData:
    file = folder / "results.json"
    rows = [row for row in json.loads(file.read_text())["rows"] if "pass_rate" in row] if file.is_file() else []
    by_name = {row["name"]: row for row in rows}
    row = by_name.get("GRPO policy") or by_name.get("SFT policy")
    if state == "found":
        state = "finished" if rows else "unfinished"
    return TrialData(folder.name, values, state, row if state == "finished" else None, rows)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto front of (spent, reached): nothing else reaches as much for as little; by rising spending."""
    found: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[index][1] > points[found[-1]][1]:
            found.append(index)
    return found
