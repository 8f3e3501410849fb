"""One of each thing that a package may add, installed beside the product, in one short real run."""

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from trainer.run.jsonl import read_rows

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "trainer=smoke", "logger.wandb=off", "sandbox.actors=1", "learner.threads=1",
    "trainer.sft.steps=40", "trainer.sft.batch_size=16", "trainer.grpo.steps=2", "trainer.grpo.problems_per_step=2",
    "trainer.evaluation.bootstrap=100", "rollout.group_size=4", "rollout.runs_per_workflow=1",
    "distil.traces=16", "distil.max_requests=64", "distil.provider=tests.plugin_teacher:VotingTeacher",
    "model.max_response_tokens=160",
)  # fmt: skip
OWN = (
    "tasks.name=capitals",  # whose problems name the verifier
    "worker.provider=atlas",
    "model.meta_prompt=plan_first",
    "rollout.engine=flowreasoner_extras.engine:remembering_engine",
    "+reward.weights.reasoning_words=-0.01",
    "trainer.grpo.advantage=flowreasoner_extras.loss:reward_itself",
    "trainer.grpo.policy_loss=flowreasoner_extras.loss:mild_likelihood",
    "logger.sinks=[rewards_csv]",
)
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, unpacked."""
    work = tmp_path_factory.mktemp("extras")
    source = shutil.copytree(ROOT / "tests" / "plugin", work / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(work)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "installed")
    return work / "installed"


@pytest.fixture(scope="module")
def run(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run that uses all of it, and its console."""
    folder = tmp_path_factory.mktemp("run") / "run"
    done = subprocess.run(
        [sys.executable, "-m", "launch.train", *SETTINGS, *OWN, f"trainer.run_dir={folder}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder, done.stdout + done.stderr


def test_each_thing_of_the_package_has_its_metrics(run: tuple[Path, str]):
    rows = [row for row in read_rows(run[0] / "metrics.jsonl") if row["stage"] == "grpo"]
    assert [row["step"] for row in rows] == [0, 1]
    for row in rows:
        assert row["reward/reasoning_words"] > 0, "the term of the reward"
        assert 0 <= row["verifier/exact"] <= 1, "the verifier"
        assert 0 <= row["actor/did_badly"] < 1, "the loss, in the learner's process"
        assert row["worker/truncated"] == 0 and row["outcome/infra_error"] == 0, "the worker"
    assert sum(row["operator/vote"] for row in rows) > 0, "the operator"
    assert sum(row["verifier/exact"] for row in rows) > 0, "the worker is right at times"


def test_the_sink_has_every_step(run: tuple[Path, str]):
    with (run[0] / "rewards.csv").open() as file:
        assert [row[0] for row in csv.reader(file)] == ["0", "1"]


def test_the_operator_ran_under_the_prompt_and_on_the_task_set(run: tuple[Path, str]):
    episodes = read_rows(run[0] / "episodes.jsonl")
    assert {episode["problem"].split("/")[0] for episode in episodes} == {"capitals"}
    assert any(call["operator"] == "vote" for episode in episodes for one in episode["runs"] for call in one["trace"])


def test_the_engine_samples(run: tuple[Path, str]):
    assert "greedy answers kept in memory" in run[1]


def test_the_report_shows_the_term_and_the_operator(run: tuple[Path, str]):
    page = (run[0] / "report.html").read_text()
    assert "-0.01 × reasoning_words" in page and "<th>reasoning_words</th>" in page
    assert ">vote</text>\n   </g>" in page, "a label as matplotlib writes it"
