"""A job over the job API, from another folder, on three nodes of which one dies on the way."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.cluster.simulated_nodes import ROOT, Nodes
from tests.wandb_file import history
from trainer.run.jsonl import read_rows

pytestmark = pytest.mark.timeout(2100)

STEPS = 24
PACKAGES = ("workflow", "sandbox", "reward", "rollout", "trainer", "conf", "launch")
SETTINGS = (
    "trainer=smoke",
    "cluster=multi_node",
    "cluster.device=cpu",
    "cluster.resources.engines={engines: 1}",
    "cluster.resources.learner={learner: 1}",
    "cluster.engines_strategy=SPREAD",
    "rollout.engines=2",
    "rollout.group_size=4",
    "sandbox.actors=2",
    "distil.traces=150",
    "tasks.train_size=400",
    "tasks.validation_size=6",
    "tasks.test_size=6",
    "trainer.sft.steps=60",
    "trainer.sft.batch_size=24",
    f"trainer.grpo.steps={STEPS}",
    "trainer.checkpoint.every_steps=3",
    "logger.wandb=offline",
    "learner.threads=1",
    "simulated.latency.mean_s=1.0",  # no step is over before a node can be killed in it
)


WORKING = {"engines": 4, "sandbox": 4}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes() as cluster:
        cluster.start("head", cpus=4, resources={"learner": 1})
        cluster.start("first", cpus=4, resources=WORKING)
        cluster.start("second", cpus=4, resources=WORKING)
        yield cluster


def copied(folder: Path) -> Path:
    """The repository as far as a run needs it."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def wait_for(nodes: Nodes, job: str, what: str, reached, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        status = nodes.status(job)
        assert status in ("PENDING", "RUNNING") or reached(), f"{status} before {what}:\n{nodes.logs(job)[-6000:]}"
        assert time.monotonic() < deadline, f"not {what} within {timeout_s:.0f} s:\n{nodes.logs(job)[-6000:]}"
        time.sleep(1)


def test_a_submitted_job_outlives_the_end_of_three_nodes_and_leaves_a_whole_run(nodes: Nodes, tmp_path: Path, show: Callable[[str], None]):
    submitter, run = copied(tmp_path / "submitter"), tmp_path / "shared" / "run"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "launch.train", *SETTINGS, f"trainer.run_dir={run}"]
    job = nodes.submit(submitter, command, cwd=elsewhere)
    shutil.rmtree(submitter)  # the job has all that it needs

    def steps() -> list[int]:
        return [row["step"] for row in read_rows(run / "metrics.jsonl") if row["stage"] == "grpo"]

    wait_for(nodes, job, "at GRPO step 1", lambda: len(steps()) >= 1, 900)
    took: list[float] = []
    for ends, follows in (("second", "third"), ("first", "fourth"), ("third", None)):
        nodes.kill(ends)
        killed_s, met = time.monotonic(), len(steps())
        assert met < STEPS - 2, "the node was killed too late to show anything"
        if follows is None:  # "fourth" ends with it: for a while there is no node with room at all
            nodes.kill("fourth")
            wait_for(nodes, job, "waiting", lambda: "waits for a node with room" in nodes.logs(job), 300)
            follows = "fifth"
        nodes.start(follows, cpus=4, resources=WORKING)
        wait_for(nodes, job, "two steps further", lambda met=met: len(steps()) >= met + 2, 900)
        took.append(time.monotonic() - killed_s)
    show(f"two steps further {', '.join(f'{seconds:.0f}' for seconds in took)} s after the end of a node")
    wait_for(nodes, job, "done", lambda: nodes.status(job) == "SUCCEEDED", 900)

    assert set(json.loads((run / "state.json").read_text())["stages"]) == {"distil", "sft", "grpo", "evaluate"}
    assert steps() == list(range(STEPS))
    ids = [row["id"] for row in read_rows(run / "episodes.jsonl")]
    assert len(ids) == len(set(ids)) == STEPS * 4 * 4
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["run_dir"] == str(run)
    assert all((run / name / "config.json").exists() for name in ("base", "sft", "policy"))
    assert {row["name"] for row in json.loads((run / "results.json").read_text())["rows"]} >= {
        "SFT policy",
        "GRPO policy",
        "best reference per level",
    }
    assert (run / "report.html").exists() and list((run / "checkpoints").glob("step_*/manifest.json"))
    (offline,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    assert {row["grpo/step"] for row in history(offline) if "grpo/step" in row} == set(range(STEPS))


def test_a_run_at_a_url_goes_on_in_another_job_from_what_is_there(nodes: Nodes, tmp_path: Path):
    url, submitter = f"file://{tmp_path}/bucket/run", copied(tmp_path / "submitter")
    for steps in (2, 3):
        given = ["distil.traces=30", "trainer.sft.steps=2", "trainer.stages=[distil,sft,grpo]", f"trainer.grpo.steps={steps}"]
        given += ["trainer.checkpoint.every_steps=1", f"cluster.cache_dir={tmp_path / 'cache'}", f"trainer.run_dir={url}"]
        job = nodes.submit(submitter, [sys.executable, "-m", "launch.train", *(SETTINGS if steps == 2 else ()), *given], cwd=tmp_path)
        wait_for(nodes, job, "done", lambda job=job: nodes.status(job) == "SUCCEEDED", 600)
        assert not list((tmp_path / "cache").iterdir()), "a working copy stays behind"
    assert "Going on from the checkpoint after step 2" in nodes.logs(job)
    run = tmp_path / "bucket" / "run"
    assert [row["step"] for row in read_rows(run / "metrics.jsonl") if row["stage"] == "grpo"] == [0, 1, 2]
    assert (run / "report.html").exists() and (run / "policy" / "config.json").exists()
    checkpoints = run / "checkpoints"  # folders of removed ones stay, empty: object stores have none
    assert {file.relative_to(checkpoints).parts[0] for file in checkpoints.rglob("*") if file.is_file()} == {"step_000002", "step_000003"}


def test_a_job_whose_run_folder_would_go_with_it_is_refused(nodes: Nodes, tmp_path: Path):
    job = nodes.submit(copied(tmp_path / "submitter"), [sys.executable, "-m", "launch.train"], cwd=tmp_path)
    wait_for(nodes, job, "refused", lambda: nodes.status(job) == "FAILED", 120)
    assert "lies in the working directory of the submitted job" in nodes.logs(job)


def test_the_cluster_answers_nobody_without_its_token(nodes: Nodes, tmp_path: Path):
    with pytest.raises(httpx.HTTPStatusError):
        nodes.get("/api/jobs/", token="guessed")
    environment = nodes.environment | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-m", "launch.train", "trainer=smoke", f"cluster.address={nodes.gcs}", f"trainer.run_dir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2 and "RAY_AUTH_MODE=token" in done.stderr, done.stderr
