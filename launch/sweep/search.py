"""The trials that Optuna chooses: ``sweep=optuna reward.weights.calls='interval(-0.1,0)'``.

Optuna is driven through its ask-and-tell interface; the study lies in the sweep's folder (``optuna.jsonl``, which optuna-dashboard
opens) and goes on where it was.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from conf.schema import Config
from launch.sweep.trials import Trial, is_finished, name_of, policy_row

Place = Callable[[Sequence[str], int], tuple[Trial, Config]]
STUDY = "sweep"
RISING = ("reward", "pass_rate")
"""Objectives that are to be high; the others are to be low."""
AGAIN_OF = "again_of"
"""In a trial of the study: the number of the interrupted or failed one whose values it tries again."""


class Search:
    """Trials that Optuna's multi-objective TPE chooses; those that were interrupted or failed come first."""

    def __init__(self, folder: Path, fixed: Sequence[str], swept: Sequence[Override], place: Place) -> None:
        """
        Args:
            folder: the sweep's. fixed: overrides of all trials. swept: overrides with several values, or an interval.
            place: gives a trial its folder and its settings.

        Raises:
            ValueError: seeds are swept, the number of trials is missing, or the folder's study has other objectives.
        """
        if seeds := [override.input_line for override in swept if override.key_or_group == "trainer.seed"]:
            raise ValueError(f"{seeds[0]}: Optuna would choose the luckiest seed; give one seed, or sweep a grid (without sweep=optuna).")
        self._space = {override.get_key_element(): distribution(override) for override in swept}
        self._fixed, self._place, self._numbers = fixed, place, itertools.count()
        trial, common = self._place_trial({override.get_key_element(): _first(override) for override in swept})
        if trial.name != name_of(trial.values):
            raise ValueError(
                "hydra.sweep.subdir cannot be given with Optuna, which finds trials again by the values in their folder's name."
            )
        if not common.sweep.trials:
            raise ValueError("sweep.trials=0 leaves Optuna nothing to choose: set it to a number of trials, or add sweep=optuna.")
        self._common = common
        self._study = _study(folder, common)
        self._running: dict[str, list[optuna.Trial]] = {}
        known = self._study.get_trials()
        done = [trial for trial in known if trial.state is TrialState.COMPLETE]
        self.trials = [self._place_trial(trial.params)[0] for trial in done]
        self.finished = {trial.name for trial in self.trials}
        self.total = max(common.sweep.trials, len(done))
        self._left = self.total - len(done)
        self.settings = [common] if self._left else []
        tried_again = {trial.user_attrs.get(AGAIN_OF) for trial in known}
        for trial in known:
            if trial.state is TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.number not in tried_again:
                self._study.enqueue_trial(trial.params, user_attrs={AGAIN_OF: trial.number})

    def ask(self) -> Trial | None:
        """See ``Source.ask``. Values that were tried before are not run again: the study gets what is known of them."""
        while self._left > 0:
            self._left -= 1
            asked = self._study.ask(self._space)
            trial, settings = self._place_trial(asked.params)
            if trial.name in self._running:
                self._running[trial.name].append(asked)
                continue
            self._running[trial.name] = [asked]
            self.trials.append(trial)
            if not is_finished(trial.folder, settings):
                return trial
            self.finished.add(trial.name)
            self.tell(trial, 0)
        return None

    def tell(self, trial: Trial, code: int) -> None:
        """See ``Source.tell``: the study gets the objectives, or that the trial failed."""
        row = policy_row(trial.folder) if code == 0 else None
        for asked in self._running.pop(trial.name):
            if row is None:
                self._study.tell(asked, state=TrialState.FAIL)
            else:
                self._study.tell(asked, [float(row[name]) for name in self._common.sweep.objectives])

    def _place_trial(self, params: Mapping[str, Any]) -> tuple[Trial, Config]:
        return self._place([*self._fixed, *(f"{name}={params[name]}" for name in self._space)], next(self._numbers))


def _first(override: Override) -> Any:
    """The first of the values, or an interval's lower bound."""
    value = override.value()
    return value.start if isinstance(value, IntervalSweep) else next(iter(override.sweep_string_iterator()))


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws a swept setting from: an interval (``tag(log, ...)``: on a log scale), or the listed values.

    Raises:
        ValueError: an interval without two bounds.
    """
    value = override.value()
    if not isinstance(value, IntervalSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if value.start is None or value.end is None:
        raise ValueError(f"{override.input_line}: an interval has two bounds, for example interval(-0.4,0).")
    log = "log" in value.tags
    if isinstance(value.start, int) and isinstance(value.end, int):
        return IntDistribution(value.start, value.end, log=log)
    return FloatDistribution(float(value.start), float(value.end), log=log)


def _study(folder: Path, common: Config) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = list(common.sweep.objectives)
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.jsonl")))
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage,
        load_if_exists=True,
        directions=["maximize" if name in RISING else "minimize" for name in names],
    )
    if (before := study.user_attrs.get("objectives", names)) != names:
        raise ValueError(f"sweep.objectives={names}, but the study in {folder} has {before}: leave them, or give a new trainer.run_dir.")
    study.set_user_attr("objectives", names)
    seed = common.sweep.seed + len(study.get_trials())  # so that a later session does not repeat the draws of this one
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study
