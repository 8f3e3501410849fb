"""What is wrong with a policy or with the length of prompts is found before the teacher or the worker gets a request."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest

from launch import ROOT
from launch.compose import compose_settings
from rollout.nano.policy import make_nano_policy
from tests.scripted_endpoint import Endpoint, endpoint, error
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.terminal import Terminal
from trainer.stages import train
from workflow.nano.simulated.teacher import corpus


@pytest.fixture
async def paid() -> AsyncIterator[Endpoint]:
    async with endpoint() as scripted:
        yield scripted
        assert not scripted.requests


def overrides(paid: Endpoint, run_dir: Path, *more: str) -> list[str]:
    keys = ("provider=endpoint", f"base_url={paid.base_url}", "model=scripted-{}")
    ours = [f"{name}.{key.format(name[:6])}" for name in ("worker", "distil") for key in keys]
    return [*ours, f"trainer.run_dir={run_dir}", "logger.wandb=off", *more]


def problems(file: Path, *lengths: int) -> Path:
    rows = [
        {
            "id": f"p/{number}",
            "query": f"{number} " + "word " * length,
            "entry_point": "f",
            "public_tests": [],
            "hidden_tests": ["assert candidate() == 1"],
        }
        for number, length in enumerate(lengths)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


async def refused(settings: list[str]) -> tuple[str, str]:
    """The sentence that ends a run, and what the console showed before."""
    out, config = StringIO(), compose_settings(settings)
    with RunFolder.open(config, RunConsole("test", Terminal(file=out, width=400))) as run, pytest.raises(ValueError) as caught:
        await train(config, run)
    return str(caught.value), out.getvalue()


@pytest.mark.timeout(400)
async def test_a_misspelt_hub_id_without_a_hub_ends_the_command_with_one_sentence(paid: Endpoint, tmp_path: Path):
    given = overrides(paid, tmp_path / "run", "model.path=Qwen/Qwen2.5-0.5B-Instrct", "distil.traces=30")
    around = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    command = (sys.executable, "-m", "launch.train", *given)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=around, stdout=pipe, stderr=pipe)
    _, err = await process.communicate()
    assert process.returncode == 2
    last = err.decode().splitlines()[-1]
    assert last.startswith(
        "error: The policy 'Qwen/Qwen2.5-0.5B-Instrct' is not on this machine and the Hugging Face hub cannot be reached"
    )


async def test_a_folder_without_weights_is_refused_before_the_first_request(paid: Endpoint, tmp_path: Path):
    policy = make_nano_policy(tmp_path / "policy", corpus(), seed=0)
    (policy / "model.safetensors").unlink()
    said, _ = await refused(overrides(paid, tmp_path / "run", f"model.path={policy}"))
    assert f"The policy '{policy}' has no weights" in said


async def test_a_policy_in_the_home_folder_is_found(paid: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (make_nano_policy(tmp_path / "policy", corpus(), seed=0) / "chat_template.jinja").unlink()
    said, _ = await refused(overrides(paid, tmp_path / "run", "model.path='~/policy'"))
    assert f"the policy '{tmp_path}/policy' has no chat template" in said


async def test_prompts_that_are_all_too_long_are_refused_before_the_first_request(paid: Endpoint, tmp_path: Path):
    file = problems(tmp_path / "problems.jsonl", *range(900, 940))
    sizes = ("tasks.train_size=20", "tasks.validation_size=10", "tasks.test_size=10")
    said, _ = await refused(overrides(paid, tmp_path / "run", "tasks.name=jsonl", f"tasks.path={file}", *sizes))
    assert "all 20 training problems are longer than model.max_prompt_tokens=192" in said


async def test_problems_that_are_too_long_are_told_before_the_worker_is_tried(tmp_path: Path):
    file = problems(tmp_path / "problems.jsonl", *([900] + [5] * 9) * 4)
    sizes = ("tasks.train_size=20", "tasks.validation_size=10", "tasks.test_size=10")
    async with endpoint(error(404, "There is no such model.", "model_not_found")) as scripted:
        said, shown = await refused(overrides(scripted, tmp_path / "run", "tasks.name=jsonl", f"tasks.path={file}", *sizes))
        assert len(scripted.requests) == 1, "the trial of the worker, which ends the run"
    assert "serves no model 'scripted-worker'" in said or "There is no such model." in said
    assert "Left out " in shown and "model.max_prompt_tokens=192 (the longest has " in shown
