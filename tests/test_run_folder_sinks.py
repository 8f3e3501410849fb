"""Sinks beside metrics.jsonl: one that cannot open stops the run, one that fails to write warns once."""

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conf.schema import load
from tests.run_factory import settings
from tests.test_run_folder_resume import group
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import Appender, read_rows
from trainer.run.settings import LoggerSettings
from trainer.run.sinks import JsonlSink, Metrics, Opening, Sink, Sinks, StopTraining, TensorboardSink, wandb_mode


class Failing(Sink):
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
    assert len(warnings) == 1 and warnings[0].startswith("W&B failed and is left out now (ConnectionError: gone)")
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 3


class Tracking(Sink):
    """Notes what a tracker is given."""

    def __init__(self) -> None:
        self.given: list[object] = []

    def write(self, stage: str, step: int, metrics: object) -> None:
        self.given.append((stage, step))

    def alarm(self, step: int, sentence: str) -> None:
        self.given.append(sentence)

    def episodes(self, step: int, rows: object) -> None:
        self.given.append(f"episodes {step}")


def test_a_tracker_is_not_given_a_step_twice_and_the_other_sinks_are(tmp_path: Path):
    tracker, metrics = Tracking(), Appender(tmp_path / "metrics.jsonl", print)
    sinks = Sinks(JsonlSink(metrics, {}), {"W&B": tracker}, print, tracked={"grpo": 1})
    for step in range(3):
        sinks.episodes(step, [])
        sinks.write("grpo", step, {}, [f"alarm {step}"])
    sinks.write("sft", 0, {})
    assert tracker.given == ["episodes 2", ("grpo", 2), "alarm 2", ("sft", 0)]
    assert len(read_rows(metrics.file)) == 4


class Told(Sink):
    """A user's sink: keeps what it is told, wishes the end at step 2, and fails with the results."""

    made: "list[Told]" = []

    def __init__(self, opening: Opening) -> None:
        if opening.settings.trainer.seed == 13:
            raise ConnectionError("no such host\nand more")
        self.opening = opening
        self.told: list[object] = []
        self.made.append(self)

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        self.told.append((stage, step, metrics["reward/mean"]))
        if step == 2:
            raise StopTraining("good enough")

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.told.append([row["score"]["terms"] for row in rows])

    def alarm(self, step: int, sentence: str) -> None:
        self.told.append(sentence)

    def saved(self, kind: str, name: str, folder: Path) -> None:
        self.told.append((kind, name, folder))

    def results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        raise RuntimeError("out of ideas")

    def close(self) -> None:
        raise AssertionError("a sink that was left out is not closed")


def no_sink(opening: Opening) -> int:
    return 3


def opened(path: Path, out: StringIO, *names: str, seed: int = 0) -> RunFolder:
    one = settings(path, seed=seed).model_copy(update={"logger": LoggerSettings(wandb="off", sinks=names)})
    return RunFolder.open(one, RunConsole("test", Console(file=out, width=400)))


def test_a_sink_of_ones_own_is_told_of_steps_episodes_alarms_and_policies_and_can_end_training(tmp_path: Path):
    out = StringIO()
    with opened(tmp_path / "run", out, f"{__name__}:Told") as run:
        sink = Told.made[-1]
        assert (sink.opening.folder, sink.opening.run_id) == (run.path, run.state.run_id)
        for step in run.steps(0, 9):
            run.log_groups(step, [group(step)])
            run.log("grpo", step, {"reward/mean": step / 2}, total=9, alarms=["ALARM drift"] if step == 1 else [])
        assert run.stop_reason == f"{__name__}:Told asked for it (good enough)"
        run.policy.mkdir()
        run.mark_done("grpo")
        run.write_results([])
        run.log("grpo", 3, {"reward/mean": 1.0}, total=9)
    terms = [{"performance": 1.0, "cost": 0.001}]
    steps = [terms, ("grpo", 0, 0.0), terms, ("grpo", 1, 0.5), "ALARM drift", terms, ("grpo", 2, 1.0)]
    assert sink.told == [*steps, ("policy", "grpo", run.policy)]
    assert "GRPO ends with step 3 of 9: " in out.getvalue()
    assert out.getvalue().count("Told failed and is left out now (RuntimeError: out of ideas)") == 1
    assert [row.get("infra/sinks_left_out") for row in run.rows("grpo")] == [None, None, None, 1.0]


@pytest.mark.parametrize(
    ("name", "seed", "said"),
    [
        ("Told", 13, r"The sink .*:Told cannot be opened \(no such host\): correct it, or take it out of logger.sinks"),
        ("no_sink", 0, r"it is a int, which is not derived from trainer.run.sinks.Sink"),
        ("nothing", 0, r"logger.sinks=.*:nothing cannot be imported"),
    ],
)
def test_a_sink_that_cannot_open_stops_the_run(tmp_path: Path, name: str, seed: int, said: str):
    with pytest.raises(ValueError, match=said):
        opened(tmp_path / "run", StringIO(), f"{__name__}:{name}", seed=seed)


def test_an_end_that_is_wished_outside_of_grpo_is_a_failure(tmp_path: Path):
    out = StringIO()
    with opened(tmp_path / "run", out, f"{__name__}:Told") as run:
        for step in range(4):
            run.log("sft", step, {"reward/mean": 0.0}, total=4)
        assert not run.stop_reason and out.getvalue().count("left out now (StopTraining: good enough)") == 1


def test_an_unknown_sink_is_refused_before_anything_is_made():
    for logger, said in (({"sinks": ["wandbb"]}, "the nearest is wandb"), ({"sinks": ["wandb"], "wandb": "off"}, "take wandb out")):
        with pytest.raises(ValueError, match=said):
            load({"logger": logger})


def test_wandb_is_offline_without_a_key_and_refuses_online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (wandb_mode("auto"), wandb_mode("offline"), wandb_mode("off")) == ("offline", "offline", None)
    with pytest.raises(ValueError, match="WANDB_API_KEY"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode("auto") == "online"


def test_tensorboard_writes_event_files(tmp_path: Path):
    sink = TensorboardSink(Opening(tmp_path, "id", settings(tmp_path), print))
    sink.write("grpo", 0, {"reward/mean": 0.5})
    sink.close()
    assert list((tmp_path / "tensorboard").glob("events.out.*"))


@pytest.mark.slow
def test_an_offline_wandb_run_lies_in_the_run_folder(tmp_path: Path):
    quiet = settings(tmp_path / "run").model_copy(update={"logger": LoggerSettings(wandb="offline")})
    with RunFolder.open(quiet, RunConsole("test", Console(file=StringIO()))) as run:
        run.log("grpo", 0, {"reward/mean": 0.5}, total=1)
    assert list((run.path / "wandb").glob("offline-run-*/*.wandb"))
