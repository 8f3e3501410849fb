"""benchmarks.step: what it reads from a run and what it makes of three measurements. Starts nothing."""

import json
from pathlib import Path

import pytest

from benchmarks.step import our_step, rounded, step_overrides, summary
from launch.compose import compose_settings


def row(sample_s: float, step_s: float, tokens: float = 30.0) -> dict[str, float]:
    times = {"sample": sample_s, "run": 2.0, "judge": 0.5, "update": 1.0, "publish": 0.25, "step": step_s}
    return {f"time/{name}_s": value for name, value in times.items()} | {"completion/tokens": tokens}


def test_warm_up_steps_and_rows_of_other_stages_are_not_measured() -> None:
    rows = [{"time/sft_step_s": 9.0}, row(50.0, 60.0), row(1.0, 5.0), row(3.0, 7.0), row(2.0, 6.0)]
    ours = our_step(rows, warmup=1, completions=192)
    assert ours["steps"] == 3
    assert ours["sample_s"] == 2.0
    assert ours["step_s"] == 6.0
    assert ours["same_work_s"] == 2.0 + 1.0 + 0.25
    assert ours["tokens"] == 30.0 * 192


def test_a_run_with_nothing_but_warm_up_is_refused() -> None:
    with pytest.raises(ValueError, match="measure more steps"):
        our_step([row(1.0, 2.0)], warmup=1, completions=192)


def test_ratios_come_first_and_say_by_how_much_ours_is_faster() -> None:
    ours = our_step([row(2.0, 6.0)], warmup=0, completions=100)
    trl = {"step_s": 6.5, "sample_s": 4.0, "tokens": 1500}
    out = summary(ours, trl, {"sample_s": 1.0, "tokens": 3000})
    assert next(iter(out)) == "trl_over_ours_same_work"
    assert out["trl_over_ours_same_work"] == pytest.approx(6.5 / 3.25)
    assert out["trl_over_ours_same_work_per_token"] == pytest.approx(2 * 6.5 / 3.25)
    assert out["trl_over_ours_sample"] == pytest.approx(2.0)
    assert out["trl_over_ours_rest"] == pytest.approx(2.5 / 1.25)
    assert out["sampling_efficiency"] == pytest.approx(0.5)


def test_the_measured_run_differs_from_the_default_recipe_only_in_what_the_benchmark_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    settings = compose_settings(step_overrides(tmp_path, None, 10))
    assert settings.trainer.stages == ("grpo",)
    assert settings.trainer.grpo.steps == 10
    assert settings.trainer.evaluation.every_steps == 0
    default = compose_settings().trainer.grpo
    assert settings.trainer.grpo.model_dump(exclude={"steps", "optimizer"}) == default.model_dump(exclude={"steps", "optimizer"})
    assert settings.trainer.grpo.optimizer.lr == default.optimizer.lr


def test_the_line_holds_four_figures_and_leaves_counts_alone() -> None:
    assert json.dumps(rounded({"a": {"b": 1.23456789}, "n": 17166, "v": "2.13"})) == '{"a": {"b": 1.235}, "n": 17166, "v": "2.13"}'
