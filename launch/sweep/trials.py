"""The trials of a sweep, ``launch.train -m name=a,b,c``: what each is called, which overrides it gets, and whether it is finished.

A trial's folder is named after its values, so the same command with the same ``trainer.run_dir`` finds what is there. Running
them is ``launch.sweep.run``'s business.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from conf.schema import Config
from trainer.run.state import RunState, changes, may_change

MANIFEST = "sweep.json"
MAX_NAME = 180
"""Characters of a trial's folder name before the rest becomes a hash; W&B and file systems have limits."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep."""

    overrides: tuple[str, ...]
    """What its command line says; the sweep's own settings are left out."""
    values: tuple[tuple[str, str], ...]
    """The swept settings with this trial's values, as written."""
    name: str
    """Its folder's path inside the sweep's."""
    folder: Path
    """Its run folder."""


def name_of(values: Sequence[tuple[str, str]]) -> str:
    """A folder's name for these values: ``complexity=-0.1,seed=2``. A hash stands for what a name cannot show."""
    given = ",".join(f"{name}={value}" for name, value in values)
    text = re.sub(r"[^\w.,=+-]+", "_", given)
    return text if text == given and len(text) <= MAX_NAME else f"{text[:MAX_NAME]}-{hashlib.sha256(given.encode()).hexdigest()[:8]}"


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
    """Trials that are all known from the start; finished ones are left out."""

    def __init__(self, placed: Sequence[tuple[Trial, Config]]) -> None:
        """Raises ValueError where two trials would share a folder."""
        self.trials = [trial for trial, _ in placed]
        name, times = Counter(trial.name for trial in self.trials).most_common(1)[0]
        if times > 1:
            raise ValueError(
                f"{times} trials would share the folder {name}: list each value once, and let hydra.sweep.subdir, where it is given, "
                "differ between trials."
            )
        left = [(trial, settings) for trial, settings in placed if not is_finished(trial.folder, settings)]
        self.left, self.settings = [trial for trial, _ in left], [settings for _, settings in left]
        self.finished = {trial.name for trial in self.trials} - {trial.name for trial in self.left}
        self.total = len(self.trials)
        self._next = iter(self.left)

    def ask(self) -> Trial | None:
        """See ``Source.ask``."""
        return next(self._next, None)

    def tell(self, trial: Trial, code: int) -> None:
        """A grid does not learn."""


def policy_row(run_dir: Path) -> dict[str, Any] | None:
    """The trained policy's row of a run's final table; None where the run has none."""
    file = run_dir / "results.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    by_name = {row["name"]: row for row in rows if "pass_rate" in row}
    return by_name.get("GRPO policy") or by_name.get("SFT policy")


def is_finished(folder: Path, settings: Config) -> bool:
    """True where the folder holds this trial with all stages done, and no setting asks for more."""
    if not (folder / "config.yaml").is_file():
        return False
    if not set(settings.trainer.stages) <= set(RunState.read(folder / "state.json").stages):
        return False
    changed = changes(yaml.safe_load((folder / "config.yaml").read_text()), settings.model_dump(mode="json"))
    return not any(name.startswith(("trainer.grpo.", "trainer.evaluation.")) or not may_change(name) for name in changed)
