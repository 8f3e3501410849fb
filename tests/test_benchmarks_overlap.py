"""benchmarks.overlap: what it reads from its runs and what it makes of them. Starts nothing."""

import pytest

from benchmarks.overlap import MODES, mode_summary, summary
from launch.compose import compose_settings


def row(step_s: float, *, run_s: float = 6.0, update_s: float = 7.0) -> dict[str, float]:
    times = {"sample": 1.0, "run": run_s, "judge": 0.5, "update": update_s, "publish": 0.1, "wait": 0.2, "step": step_s}
    others = {"staleness/mean": 1.0, "stream/late": 2.0, "idle/learner": 0.1, "idle/engines": 0.8}
    return {f"time/{name}_s": value for name, value in times.items()} | others


def test_the_heavy_tail_is_in_the_mean_and_the_first_and_last_steps_are_not() -> None:
    mode = mode_summary([{"time/sft_step_s": 1.0}, row(99.0), row(10.0), row(10.0), row(40.0), row(1.0), row(1.0)], warmup=1)
    assert (mode["step_s"], mode["steps"], mode["collect_s"], mode["reward_s"]) == (20.0, 3.0, 7.5, 6.5)


def test_a_run_with_nothing_but_warm_up_is_refused() -> None:
    with pytest.raises(ValueError, match="measure more steps"):
        mode_summary([row(1.0), row(1.0), row(1.0)], warmup=1)


def test_the_ideal_is_the_longer_of_collecting_and_updating() -> None:
    modes = {"synchronous": mode_summary([row(15.0)] * 3, 0), "staleness_1": mode_summary([row(8.25)] * 3, 0)}
    out = summary(modes, {"step_s": 1.0, "step_mean_s": 16.5})
    assert out["ideal_s"] == 7.5 and out["step_over_ideal"] == {"synchronous": 2.0, "staleness_1": 1.1}
    assert out["synchronous_over_step"]["staleness_1"] == pytest.approx(15 / 8.25)
    assert out["trl_over_step"]["staleness_1"] == 2.0


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_a_valid_setting(mode: str) -> None:
    assert compose_settings([*MODES[mode]]).trainer.max_staleness in (0, 1, 2)
