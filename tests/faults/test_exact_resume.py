"""The driver killed three times in ten steps: in deterministic mode the same command ends with the same weights to the last bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.training import RUN_OVERRIDES, Training, check_whole, weights_hash
from trainer.run.jsonl import read_rows

pytestmark = pytest.mark.timeout(1800)
STEPS = 10
OVERRIDES = (
    *RUN_OVERRIDES, f"trainer.grpo.steps={STEPS}", "trainer.deterministic=true", "trainer.checkpoint.every_steps=2",
    "tasks.train_size=18",  # the second epoch begins within step 5
)  # fmt: skip
KILLS = {0: [5], 1: [3, 5, 8]}
"""Finished steps at which the driver is killed, by staleness."""


def finished(run_dir: Path, overrides: list[str], kills: list[int]) -> list[float]:
    """Runs to the end, killed on the way; seconds from each kill to the next finished step."""
    took: list[float] = []
    killed: list[Training] = []
    try:
        for kill in kills:
            killed.append(training := Training(run_dir, overrides))
            known = len(training.rows())
            seconds = training.reaches(known + 1)
            took += [seconds] if known else []
            training.reaches(kill)
            training.tree()
            os.kill(training.process.pid, signal.SIGKILL)
            training.process.wait()
        with Training(run_dir, overrides) as training:
            assert training.process.wait(timeout=400) == 0, training.console()[-3000:]
            check_whole(training, STEPS)
        assert not [process for training in killed for process in training.orphans()], "processes outlive their driver"
    finally:
        for training in killed:
            training.end()
    return took


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_killed_run_ends_as_one_that_was_not(policy: Path, tmp_path: Path, staleness: int, show: Callable[[str], None]) -> None:
    overrides = [f"model.path={policy}", *OVERRIDES, f"trainer.max_staleness={staleness}"]
    finished(tmp_path / "whole", overrides, [])
    took = finished(tmp_path / "killed", overrides, KILLS[staleness])
    show(f"first step {', '.join(f'{seconds:.1f}' for seconds in took)} s after the restarts")
    assert weights_hash(tmp_path / "whole") == weights_hash(tmp_path / "killed")
    assert learnt(tmp_path / "whole") == learnt(tmp_path / "killed")


def learnt(run_dir: Path) -> list[tuple[str, str, dict | None]]:
    """Every episode with its text and its score; how long it took is the clock's affair."""
    rows = read_rows(run_dir / "episodes.jsonl")
    return [
        (row["id"], row["text"], row["score"] and {**row["score"], "terms": {**row["score"]["terms"], "latency": None}}) for row in rows
    ]
