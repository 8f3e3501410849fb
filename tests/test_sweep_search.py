"""Optuna's trials: what they are drawn from, and that a search goes on where it was."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from launch.sweep.search import Search, distribution
from tests.sweep_factory import launcher
from tests.test_sweep_trials import finish

GIVEN = ["sweep=optuna", "sweep.trials=4", "reward.weights.complexity=interval(-1.0,0.0)", "trainer.stages=[grpo,evaluate]"]


def search(folder: Path, *more: str) -> Search:
    """Of a sweep that began, since it is asked for again."""
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").touch()
    with launcher(folder, [*GIVEN, *more]) as ours:
        return Search(ours.folder, ours.fixed, ours.swept, ours.place)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=interval(-1.0,0)", FloatDistribution(-1.0, 0.0)),
        ("a=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("reward=calls,paper", CategoricalDistribution(["calls", "paper"])),
    ],
)
def test_swept_values_become_what_optuna_draws_from(override: str, expected: object):
    assert distribution(OverridesParser.create().parse_override(override)) == expected


def test_a_search_has_the_trials_that_were_asked_for_and_no_more(tmp_path: Path):
    found = search(tmp_path)
    asked = []
    while (trial := found.ask()) is not None:
        finish(tmp_path, trial)
        found.tell(trial, 0)
        asked.append(trial)
    assert len(asked) == 4 and all(-1 <= float(trial.values[0][1]) <= 0 for trial in asked)
    again = search(tmp_path)
    assert again.ask() is None and again.settings == [] and again.finished == {trial.name for trial in asked}


def test_an_interrupted_and_a_failed_trial_are_tried_again_before_new_ones(tmp_path: Path):
    found = search(tmp_path)
    first, second, third = (found.ask() for _ in range(3))
    assert first and second and third
    finish(tmp_path, first)
    found.tell(first, 0)
    found.tell(second, 1)  # the third is still running when the sweep is killed
    again = search(tmp_path)
    assert {again.ask(), again.ask()} == {second, third}
    assert again.ask() not in (None, first, second, third)
    assert again.ask() is None


def test_a_study_keeps_its_objectives(tmp_path: Path):
    search(tmp_path)
    with pytest.raises(ValueError, match="the study in"):
        search(tmp_path, "sweep.objectives=[pass_rate,cost]")
