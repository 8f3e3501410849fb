"""Sinks beside metrics.jsonl: one that cannot open stops the run, one that fails to write warns once."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.run_factory import settings
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import Appender, read_rows
from trainer.run.sinks import JsonlSink, Sinks, TensorboardSink, wandb_mode
from trainer.settings import LoggerSettings


class Failing:
    """Refuses every write."""

    def __init__(self) -> None:
        self.tries = 0

    def write(self, stage: str, step: int, metrics: object) -> None:
        self.tries += 1
        raise ConnectionError("gone")

    def close(self) -> None:
        raise AssertionError("a sink that was left out is not closed")


def test_a_failing_sink_warns_once_and_the_others_go_on(tmp_path: Path):
    warnings: list[str] = []
    failing = Failing()
    sinks = Sinks(JsonlSink(Appender(tmp_path / "metrics.jsonl", print), {}), {"W&B": failing}, warnings.append)
    for step in range(3):
        sinks.write("grpo", step, {"reward/mean": 0.1})
    sinks.close()
    assert failing.tries == 1
    assert len(warnings) == 1 and warnings[0].startswith("W&B takes no more metrics (ConnectionError: gone)")
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 3


class Tracking:
    """Notes what a tracker is given."""

    def __init__(self) -> None:
        self.given: list[object] = []

    def write(self, stage: str, step: int, metrics: object) -> None:
        self.given.append((stage, step))

    def alarm(self, step: int, sentence: str) -> None:
        self.given.append(sentence)

    def episodes(self, step: int, rows: object) -> None:
        self.given.append(f"episodes {step}")

    def results(self, rows: object) -> None: ...

    def saved(self, kind: str, name: str, folder: Path) -> None: ...

    def close(self) -> None: ...


def test_a_tracker_is_not_given_a_step_twice_and_the_other_sinks_are(tmp_path: Path):
    tracker, metrics = Tracking(), Appender(tmp_path / "metrics.jsonl", print)
    sinks = Sinks(JsonlSink(metrics, {}), {"W&B": tracker}, print, tracked={"grpo": 1})
    for step in range(3):
        sinks.episodes(step, [])
        sinks.write("grpo", step, {}, [f"alarm {step}"])
    sinks.write("sft", 0, {})
    assert tracker.given == ["episodes 2", ("grpo", 2), "alarm 2", ("sft", 0)]
    assert len(read_rows(metrics.file)) == 4


def test_wandb_is_offline_without_a_key_and_refuses_online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (wandb_mode("auto"), wandb_mode("offline"), wandb_mode("off")) == ("offline", "offline", None)
    with pytest.raises(ValueError, match="WANDB_API_KEY"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode("auto") == "online"


def test_tensorboard_writes_event_files(tmp_path: Path):
    sink = TensorboardSink(tmp_path)
    sink.write("grpo", 0, {"reward/mean": 0.5})
    sink.close()
    assert list((tmp_path / "tensorboard").glob("events.out.*"))


@pytest.mark.slow
def test_an_offline_wandb_run_lies_in_the_run_folder(tmp_path: Path):
    quiet = settings(tmp_path / "run").model_copy(update={"logger": LoggerSettings(wandb="offline")})
    with RunFolder.open(quiet, RunConsole("test", Console(file=StringIO()))) as run:
        run.log("grpo", 0, {"reward/mean": 0.5}, total=1)
    assert list((run.path / "wandb").glob("offline-run-*/*.wandb"))
