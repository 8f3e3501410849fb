"""The trials of a sweep, ``launch.train -m name=a,b,c``: what each is called, what it is told, and whether it is finished.

A trial's folder is named after its values, so the same command with the same ``trainer.run_dir`` finds what is there. Running
them is ``launch.sweep.run``'s business.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from hydra.core.override_parser.types import Override

from conf.schema import Config
from launch.compose import composed, parse
from trainer.run.state import RunState, changes, may_change

MAX_NAME = 180
"""Characters of a trial's folder name before the rest becomes a hash; W&B and file systems have limits."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep."""

    overrides: tuple[str, ...]
    """What its command line says, the sweep's own settings and the run folder left out."""
    values: tuple[tuple[str, str], ...]
    """The swept settings with this trial's values, as written."""

    @property
    def name(self) -> str:
        """Its folder's name: ``complexity=-0.1,seed=2``; equal for equal values."""
        text = re.sub(r"[^\w.,=+-]+", "_", ",".join(f"{name}={value}" for name, value in self.values))
        if len(text) <= MAX_NAME:
            return text
        return f"{text[:MAX_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Source(Protocol):
    """Where the trials come from: a grid, or Optuna."""

    trials: list[Trial]
    """Those known so far, finished ones included."""
    total: int
    """Trials of the whole sweep."""
    finished: set[str]
    """Names of those that an earlier session finished."""
    settings: list[Config]
    """Of trials that are to run; none where all are finished."""

    def ask(self) -> Trial | None:
        """The next trial to run; None where there is none."""
        ...

    def tell(self, trial: Trial, code: int) -> None:
        """A trial ended with that exit code."""
        ...


class Grid:
    """Every combination of the given values, the last setting changing fastest; finished ones are left out."""

    def __init__(self, given: Sequence[str], folder: Path) -> None:
        """Raises ValueError where a trial's settings are wrong, or a value is an interval, which only Optuna can draw from."""
        fixed, swept = split_swept(given)
        for override in swept:
            if override.is_interval_sweep():
                raise ValueError(f"{override.input_line} is an interval: list values, or let Optuna choose with sweep=optuna.")
        axes = [[(override.get_key_element(), text) for text in override.sweep_string_iterator()] for override in swept]
        self.trials = [trial_of(fixed, values) for values in itertools.product(*axes)]
        settings = {trial.name: settings_of(trial, folder) for trial in self.trials}
        self.left = [trial for trial in self.trials if not is_finished(folder / trial.name, settings[trial.name])]
        self.settings = [settings[trial.name] for trial in self.left]
        self.finished = {trial.name for trial in self.trials} - {trial.name for trial in self.left}
        self.total = len(self.trials)
        self._next = iter(self.left)

    def ask(self) -> Trial | None:
        """See ``Source.ask``."""
        return next(self._next, None)

    def tell(self, trial: Trial, code: int) -> None:
        """A grid does not learn."""


def split_swept(given: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Overrides that are the same for all trials (the sweep's own left out), and those with several values."""
    overrides = parse(given)
    own = [key == "sweep" or key.startswith("sweep.") or key == "trainer.run_dir" for key in (item.key_or_group for item in overrides)]
    swept = [override for override in overrides if override.is_sweep_override()]
    if wrong := [override.input_line for override, mine in zip(overrides, own, strict=True) if mine and override.is_sweep_override()]:
        raise ValueError(f"{wrong[0]} cannot differ between the trials of a sweep: give it one value.")
    if not swept:
        raise ValueError("A sweep (-m) needs a setting with several values, for example trainer.seed=1,2,3.")
    return [text for text, item, mine in zip(given, overrides, own, strict=True) if not mine and not item.is_sweep_override()], swept


def trial_of(fixed: Sequence[str], values: Iterable[tuple[str, str]]) -> Trial:
    """A trial from the shared overrides and its own values."""
    own = tuple(values)
    return Trial((*fixed, *(f"{name}={value}" for name, value in own)), own)


def settings_of(trial: Trial, folder: Path) -> Config:
    """A trial's settings, checked. Raises ValueError, one sentence per problem."""
    return composed([*trial.overrides, *placed(trial, folder)])


def placed(trial: Trial, folder: Path) -> list[str]:
    """The overrides that give a trial its folder and its W&B group."""
    group = [] if any(text.startswith("logger.wandb_group=") for text in trial.overrides) else [f"logger.wandb_group={quoted(folder.name)}"]
    return [f"trainer.run_dir={quoted(str(folder / trial.name))}", *group]


def policy_row(run_dir: Path) -> dict[str, Any] | None:
    """The trained policy's row of a run's final table; None where the run has none."""
    file = run_dir / "results.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    by_name = {row["name"]: row for row in rows if "pass_rate" in row}
    return by_name.get("GRPO policy") or by_name.get("SFT policy")


def quoted(text: str) -> str:
    """A text as a value in Hydra's grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_finished(folder: Path, settings: Config) -> bool:
    """True where the folder holds this trial with all stages done, and no setting asks for more."""
    if not (folder / "config.yaml").is_file():
        return False
    if not set(settings.trainer.stages) <= set(RunState.read(folder / "state.json").stages):
        return False
    changed = changes(yaml.safe_load((folder / "config.yaml").read_text()), settings.model_dump(mode="json"))
    return not any(name.startswith(("trainer.grpo.", "trainer.evaluation.")) or not may_change(name) for name in changed)
