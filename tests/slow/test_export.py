"""Policies that leave a run: the export of a checkpoint is the policy of that step, and vLLM loads it."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file

from launch import ROOT
from rollout.settings import RolloutSettings
from tests.slow.engine_rig import TOLERANCE, Rig, rig_up
from trainer.run.checkpoints import whole_checkpoints

pytestmark = pytest.mark.timeout(400)

TINY = (
    "trainer.stages=[distil,sft,grpo]",
    "distil.traces=24",
    "trainer.sft.steps=3",
    "trainer.grpo.steps=3",
    "trainer.grpo.problems_per_step=2",
    "trainer.grpo.entropy_coef=1.0",  # moves the weights, whatever the rewards are
    "trainer.grpo.optimizer.warmup_steps=0",
    "rollout.group_size=4",
    "trainer.checkpoint.every_steps=1",
    "trainer.checkpoint.keep=3",
    "trainer.evaluation.every_steps=1",
    "trainer.evaluation.quick_size=2",
    "logger.wandb=off",
)


def command(name: str, *arguments: object, code: int = 0) -> str:
    line = [sys.executable, "-m", f"launch.{name}", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run whose last steps changed its weights."""
    folder = tmp_path_factory.mktemp("export") / "run"
    command("train", *TINY, f"trainer.run_dir={folder}")
    return folder


def test_the_latest_checkpoint_of_a_finished_run_is_its_policy_bit_for_bit(run: Path, tmp_path: Path):
    said = command("export", run, "--checkpoint", "latest", "--to", tmp_path / "out")
    assert same_weights(tmp_path / "out", run / "policy") and f"api_server --model {tmp_path / 'out'}" in said
    assert json.loads((tmp_path / "out" / "flowreasoner.json").read_text())["step"] == 3
    assert {file.name for file in (run / "policy").iterdir()} < {file.name for file in (tmp_path / "out").iterdir()}


def test_an_earlier_checkpoint_is_another_policy_and_replaces_an_earlier_export(run: Path, tmp_path: Path):
    command("export", run, "--to", tmp_path / "out")
    assert same_weights(tmp_path / "out", run / "policy")
    command("export", run, "--checkpoint", "1", "--to", tmp_path / "out")
    assert not same_weights(tmp_path / "out", run / "policy") and not same_weights(tmp_path / "out", run / "sft")


async def test_vllm_loads_an_export_and_samples_from_its_weights(run: Path, tmp_path: Path):
    command("export", run, "--to", tmp_path / "out")
    async with rig_up(Rig(tmp_path / "out", RolloutSettings(), made=True)) as rig:
        completions = await rig.fleet.sample(rig.prompts[0], 4, temperature=1.0, seed=1)
        assert rig.gap(rig.weights(0), rig.prompts[0], completions) < TOLERANCE


def test_the_line_that_an_export_prints_serves_it(run: Path, tmp_path: Path):
    (line,) = [line for line in command("export", run, "--to", tmp_path / "out").splitlines() if "api_server" in line]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    small = ["--port", str(port), "--max-model-len", "512", "--enforce-eager", "--kv-cache-memory-bytes", str(256 * 2**20)]
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen([*shlex.split(line), *small], stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/v1/models"
        while server.poll() is None:  # until it answers or ends; the test's own limit bounds it
            try:
                (model,) = httpx.get(url, timeout=5).json()["data"]
                break
            except httpx.HTTPError:
                time.sleep(1)
        else:
            raise AssertionError((tmp_path / "log").read_text()[-4000:])
        assert model["id"] == str(tmp_path / "out")
        asked = {"model": model["id"], "prompt": "Write f(xs).", "max_tokens": 4}
        reply = httpx.post(url.replace("models", "completions"), json=asked, timeout=300).json()
        assert reply["usage"]["completion_tokens"] >= 1
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def test_a_folder_that_is_no_export_is_not_touched(run: Path, tmp_path: Path):
    shutil.copytree(run / "base", tmp_path / "mine")
    assert "holds other files and no earlier export" in command("export", run, "--to", tmp_path / "mine", code=2)
    assert same_weights(tmp_path / "mine", run / "base")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--checkpoint", "7"], "has checkpoints after steps 1, 2, 3; give best, latest or one of these steps"),
        (["--checkpoint", "newest"], "--checkpoint newest"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(run: Path, tmp_path: Path, options: list[str], sentence: str):
    assert sentence in command("export", run, *options, "--to", tmp_path / "out", code=2)


def test_best_is_the_step_with_the_highest_validation_reward_and_the_later_of_equals(run: Path):
    from trainer.evaluation.export import choose_step

    scores = {step: score or 0.0 for step, score in whole_checkpoints(run / "checkpoints").items()}
    assert choose_step(run, "best") == max(scores, key=lambda step: (scores[step], step))


def test_a_run_without_a_trained_policy_says_what_it_has(run: Path, tmp_path: Path):
    from trainer.evaluation.export import choose_step

    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match=r"no trained policy yet and checkpoints after steps 1, 2, 3: name one"):
        choose_step(tmp_path, None)
    for manifest in tmp_path.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    with pytest.raises(ValueError, match=r"no whole checkpoint: let launch.train finish"):
        choose_step(tmp_path, None)
