"""Short real runs with credit by span and by round."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.run.jsonl import read_rows

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "trainer=smoke", "logger.wandb=off", "sandbox.actors=1", "learner.threads=1", "trainer.grpo.steps=2",
    "trainer.grpo.problems_per_step=3", "rollout.group_size=4", "rollout.runs_per_workflow=1",
)  # fmt: skip
pytestmark = pytest.mark.timeout(900)


def train(folder: Path, *settings: str) -> list[dict]:
    """Rows of the GRPO steps of a run in that folder."""
    command = [sys.executable, "-m", "launch.train", *SETTINGS, *settings, f"trainer.run_dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"COLUMNS": "300"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["stage"] == "grpo"]
    assert [row["step"] for row in rows] == [0, 1]
    return rows


@pytest.fixture(scope="module")
def by_span(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("span") / "run"
    sft = ("trainer.sft.steps=60", "trainer.sft.batch_size=16", "distil.traces=64", "distil.max_requests=256")
    return folder, train(folder, "trainer.stages=[distil,sft,grpo]", "trainer.grpo.credit=span", "trainer.grpo.span_edits=6", *sft)


def test_operator_calls_get_their_worth_and_the_report_shows_it(by_span: tuple[Path, list[dict]]):
    folder, rows = by_span
    assert sum(row.get("edit/all", 0) for row in rows) > 0
    assert not any(row.get("edit/lost") or row.get("edit/unplaced") for row in rows), "each call is found in the policy's tokens"
    assert "What each operator is worth" in (folder / "report.html").read_text()


def test_rounds_are_worth_something_each(by_span: tuple[Path, list[dict]], tmp_path: Path):
    settings = (f"model.path={by_span[0] / 'sft'}", "cluster.device=cpu", "trainer.stages=[grpo]")
    train(tmp_path / "run", *settings, "trainer.grpo.credit=round", "rollout.rounds=2")
    episodes = read_rows(tmp_path / "run" / "episodes.jsonl")
    rounds = [part for episode in episodes for part in episode.get("rounds", [])]
    assert rounds and all("reward" in part for part in rounds)
