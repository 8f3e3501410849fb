"""Several finished runs as one table."""

import json
import random
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.evaluate import compare_runs
from tests.demo import demo_values
from trainer.evaluation.compare import read_results, rows_over_runs
from trainer.evaluation.rows import BY_PROBLEM, Row
from trainer.run.terminal import Terminal
from trainer.settings import EvaluationSettings

SETTINGS = EvaluationSettings(bootstrap=200)


def row(name: str, seed: int, better: float, problems: range = range(60)) -> Row:
    hard = {number: random.Random(number).random() for number in problems}
    figures = {f"p/{number}": hard[number] + better + random.Random(f"{name} {seed} {number}").gauss(0, 0.05) for number in problems}
    return {"name": name, "kind": "policy", "by_problem": dict.fromkeys(BY_PROBLEM, figures)}


def results(*, policy: float, runs: int = 3) -> dict[str, list[Row]]:
    shift = [0.02 * (seed - (runs - 1) / 2) for seed in range(runs)]
    return {
        f"run{seed}": [row("GRPO policy", seed, policy + shift[seed]), row("best fixed workflow", seed, shift[seed])]
        for seed in range(runs)
    }


def test_rows_are_means_over_runs_and_differences_are_paired_by_run_and_problem():
    rows = {found["name"]: found for found in rows_over_runs(results(policy=0.1), SETTINGS)}
    grpo = rows["GRPO policy"]
    assert (grpo["runs"], grpo["problems"]) == (3, 60) and list(grpo["by_run"]) == ["run0", "run1", "run2"]
    assert grpo["reward"] - rows["best fixed workflow"]["reward"] == pytest.approx(grpo["minus"]["reward"], abs=1e-4)
    low, high = grpo["minus"]["reward_ci"]
    assert 0.07 < low < 0.1 < high < 0.13 and grpo["minus"]["reward_p"] < 0.001
    low, high = grpo["reward_ci"]
    assert high - low > 0.1, "what makes a problem hard for both is no noise of the difference"
    equal = rows_over_runs(results(policy=0.0), SETTINGS)[0]["minus"]
    assert equal["reward_p"] > 0.05 and equal["reward_ci"][0] < 0 < equal["reward_ci"][1]


def test_only_problems_and_rows_that_all_runs_have_are_compared():
    tables = results(policy=0.1, runs=2)
    tables["run1"][0] = row("GRPO policy", 1, 0.1, range(30, 90))
    tables["run0"].append(row("only here", 0, 0.0))
    rows = rows_over_runs(tables, SETTINGS)
    assert [found["name"] for found in rows] == ["GRPO policy", "best fixed workflow"] and rows[0]["problems"] == 30
    with pytest.raises(ValueError, match="against='only here' is no row that all runs have, which are: GRPO policy, best fixed workflow"):
        rows_over_runs(tables, SETTINGS.model_copy(update={"against": "only here"}))
    tables["run1"][0] = row("GRPO policy", 1, 0.1, range(90, 95))
    with pytest.raises(ValueError, match="share no held-out problem"):
        rows_over_runs(tables, SETTINGS)


def write(folder: Path, rows: list[dict[str, Any]] | None) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(demo_values({})))
    if rows is not None:
        (folder / "results.json").write_text(json.dumps({"rows": rows}))
    return folder


def test_a_run_without_a_table_of_this_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="its final table is still to come"):
        read_results(write(tmp_path / "young", None))
    with pytest.raises(ValueError, match="its final table was made by an earlier version"):
        read_results(write(tmp_path / "old", [{"name": "GRPO policy", "reward": 0.5}]))


def test_the_command_prints_one_table_of_several_runs(tmp_path: Path):
    runs = {name: write(tmp_path / name, rows) for name, rows in results(policy=0.1).items()}
    out = StringIO()
    compare_runs(runs, ["trainer.evaluation.against=GRPO policy"], Terminal(file=out, width=200))
    assert "Minus GRPO policy, problem by problem" in out.getvalue() and "-0.1" in out.getvalue()
