"""What a sweep's report is made of: trials grouped by setting, intervals over seeds and problems, the front."""

import json
from pathlib import Path

import pytest
import yaml

from launch.report.sweep_data import Setup as SweepSetup
from launch.report.sweep_data import TrialData, front, is_sweep, read_sweep
from tests.run_factory import write_run
from tests.sweep_factory import write_sweep


def trial(figures: dict[str, float], seed: int = 0) -> TrialData:
    by_problem = {name: figures for name in ("pass_rate", "calls", "cost", "latency")}
    return TrialData(str(seed), {}, "finished", {"by_problem": by_problem}, [])


def test_trials_that_differ_in_the_seed_alone_are_one_configuration(tmp_path: Path):
    sweep = read_sweep(write_sweep(tmp_path / "sweep"))
    assert sweep.swept == ["reward.weights.complexity"] and sweep.seeds == 3
    assert [setup.values for setup in sweep.setups] == [{"reward.weights.complexity": value} for value in (-0.4, -0.1, 0.0)]
    calls = [setup.estimates["calls"].mean for setup in sweep.setups]
    assert calls == sorted(calls)
    assert len(sweep.trials) == 10 and sum(trial.row is not None for trial in sweep.trials) == 9


def test_an_interval_covers_seeds_and_problems():
    same = SweepSetup({}, [trial({"a": 1.0, "b": 1.0})])
    assert (same.estimates["calls"].low, same.estimates["calls"].high) == (1.0, 1.0)
    seeds = SweepSetup({}, [trial({"a": 1.0, "b": 1.0}), trial({"a": 3.0, "b": 3.0}, 1)])
    assert (seeds.estimates["calls"].low, seeds.estimates["calls"].mean, seeds.estimates["calls"].high) == (1.0, 2.0, 3.0)
    problems = SweepSetup({}, [trial({"a": 1.0, "b": 3.0}), trial({"a": 1.0, "b": 3.0}, 1)])
    assert (problems.estimates["calls"].low, problems.estimates["calls"].high) == (1.0, 3.0)


def test_only_problems_that_all_seeds_have_are_compared():
    setup = SweepSetup({}, [trial({"a": 1.0, "b": 9.0}), trial({"a": 1.0}, 1)])
    assert setup.samples("calls").max() == 1.0


def test_the_front_joins_what_no_other_beats():
    points = [(1.0, 0.5), (2.0, 0.8), (2.0, 0.7), (3.0, 0.8), (4.0, 0.9)]
    assert front(points) == [0, 1, 4]


def test_a_folder_of_single_runs_is_told_apart_by_the_settings_that_differ(tmp_path: Path):
    for seed, weight in ((1, -0.1), (2, -0.2)):
        run = write_run(tmp_path / f"run{seed}", steps=1)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["trainer"]["seed"], config["reward"]["weights"]["calls"] = seed, weight
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    sweep = read_sweep(tmp_path)
    assert sweep.swept == ["reward.weights.calls"] and len(sweep.setups) == 2


def test_a_run_folder_is_no_sweep_and_an_empty_folder_is_refused(tmp_path: Path):
    assert not is_sweep(write_run(tmp_path / "sweep" / "run", steps=1)) and is_sweep(tmp_path / "sweep")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sweep.json").write_text(json.dumps({"trials": []}))
    with pytest.raises(ValueError, match="no trial that has begun"):
        read_sweep(tmp_path / "empty")
