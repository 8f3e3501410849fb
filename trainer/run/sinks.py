"""Where a run's metrics and episodes go, and who is notified: metrics.jsonl always, others on request.

A sink and a callback are one thing: a class derived from ``Sink`` with the methods that it cares about, registered with
``@SINKS.register("name")`` or given as ``module:name`` in ``logger.sinks``. W&B and TensorBoard are two of them. One that cannot open stops
the run before anything is paid for; one that fails later warns once and is left out, and the run goes on.
"""

import importlib
import math
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.run.jsonl import Appender
from trainer.run.settings import LoggerSettings
from trainer.settings import RunSettings
from workflow.registry import Registry

Metrics = Mapping[str, float]


class StopTraining(Exception):
    """Raised by a sink in ``write`` or ``episodes`` of a GRPO step: the step is the last one; its policy is saved and evaluated.
    Elsewhere it is a failure like any other."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a sink is made with."""

    folder: Path
    """The run folder."""
    run_id: str
    """The same in every session of the run."""
    settings: RunSettings
    say: Callable[[str], None]
    """Prints a line on the run's console."""


class Sink:
    """Takes what a run tells of itself; every method may be left as it is. Called in the driver, one call at a time, between the work of
    a run, which waits for it."""

    is_told_again = False
    """Whether it is given, after a resume, steps that it had been given before and that are done again."""

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        """The flat metrics of one step (from 0) of ``sft`` or ``grpo``."""

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rows of episodes.jsonl of a GRPO step, before its metrics."""

    def alarm(self, step: int, sentence: str) -> None:
        """An alarm began or ended, or there is something else to know from this step on."""

    def results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The final table, as in results.json."""

    def saved(self, kind: str, name: str, folder: Path) -> None:
        """A ``policy`` or a ``checkpoint`` was written."""

    def close(self) -> None:
        """The run, or this session of it, ends."""


SINKS: Registry[Callable[[Opening], Sink]] = Registry("logger.sinks", {"wandb": "trainer.run.wandb_sink:WandbSink"})
REMEDIES = {"wandb": "use logger.wandb=offline or logger.wandb=off", "tensorboard": "use logger.tensorboard=false"}


class JsonlSink(Sink):
    """One flat JSON object a line, flushed, so that a crash loses nothing that was written."""

    def __init__(self, rows: Appender, labels: Mapping[str, str]) -> None:
        """
        Args:
            labels: texts that every row carries, for example which policy and worker made it.
        """
        self.rows = rows
        self.labels = dict(labels)

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self.rows.append([{"stage": stage, "step": step, **self.labels, **values}])


@SINKS.register("tensorboard")
class TensorboardSink(Sink):
    """Event files in ``tensorboard/`` of the run folder."""

    is_told_again = True

    def __init__(self, opening: Opening) -> None:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self.writer = writer(str(opening.folder / "tensorboard"))

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Sinks:
    """All sinks of a run."""

    def __init__(
        self, first: Sink, others: Mapping[str, Sink], warn: Callable[[str], None], tracked: Mapping[str, int] | None = None
    ) -> None:
        """
        Args:
            first: must not fail (metrics.jsonl). others: warned about once, then left out, by name.
            tracked: the last step of each stage that sinks had before a resumed run began to do it again; may change meanwhile.
        """
        self.first = first
        self.others = dict(others)
        self.warn = warn
        self.tracked = {} if tracked is None else tracked
        self.stop_reason = ""
        """Why a sink asked GRPO to end after the step under way; empty where none did."""
        self.left_out = 0
        """Sinks that failed in this session."""

    def write(self, stage: str, step: int, metrics: Metrics, alarms: Sequence[str] = ()) -> None:
        """One step's metrics, and the alarms that began or ended with it. Most sinks keep what they have of steps that are done again."""
        rounded = {name: round(float(value), 9) for name, value in metrics.items()}
        if self.left_out:
            rounded["infra/sinks_left_out"] = float(self.left_out)
        self.first.write(stage, step, rounded)
        self._each(lambda sink: sink.write(stage, step, rounded), stage, step)
        for sentence in alarms:
            self._each(lambda sink, sentence=sentence: sink.alarm(step, sentence), stage, step)

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A GRPO step's rows of episodes.jsonl; before ``write`` of that step."""
        self._each(lambda sink: sink.episodes(step, rows), "grpo", step)

    def note(self, step: int, sentence: str) -> None:
        """Something to know about the run from this step on."""
        self._each(lambda sink: sink.alarm(step, sentence))

    def results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The final table."""
        self._each(lambda sink: sink.results(rows))

    def saved(self, kind: str, name: str, folder: Path | None) -> None:
        """A ``policy`` or a ``checkpoint`` was written to ``folder``; None: the stage writes none."""
        if folder is not None:
            self._each(lambda sink: sink.saved(kind, name, folder))

    def close(self) -> None:
        """Closes every sink; one that fails to close is only warned about."""
        self.first.close()
        self._each(lambda sink: sink.close())
        self.others.clear()

    def _each(self, act: Callable[[Sink], None], stage: str = "", step: int = 0) -> None:
        """
        Args:
            stage: with ``step``, where it concerns one: sinks are left alone that had it before a resume.
        """
        again = step <= self.tracked.get(stage, -1)
        for name, sink in list(self.others.items()):
            if again and not sink.is_told_again:
                continue
            try:
                act(sink)
            except Exception as error:
                if isinstance(error, StopTraining) and stage == "grpo":
                    self.stop_reason = self.stop_reason or f"{name} asked for it ({error})"
                    continue
                self.warn(f"{name} failed and is left out now ({type(error).__name__}: {error}); metrics.jsonl still has all metrics.")
                del self.others[name]
                self.left_out += 1


def open_sinks(opening: Opening, metrics: Appender, warn: Callable[[str], None], tracked: Mapping[str, int]) -> Sinks:
    """The sinks that the settings ask for; ``metrics`` appends to metrics.jsonl, and ``Sinks`` tells of ``tracked``.

    Raises:
        ValueError: one that was asked for cannot be opened.
    """
    labels = {"policy": opening.settings.model.path, "worker": opening.settings.worker.model}
    others = {name: _open(name, opening) for name in names_of_sinks(opening.settings.logger)}
    return Sinks(JsonlSink(metrics, labels), others, warn, tracked)


def names_of_sinks(settings: LoggerSettings) -> list[str]:
    """Those of ``logger.wandb`` and ``logger.tensorboard``, and those of one's own."""
    asked = {"wandb": wandb_mode(settings.wandb) is not None, "tensorboard": settings.tensorboard}
    return list(dict.fromkeys([*(name for name, wanted in asked.items() if wanted), *settings.sinks]))


def _open(name: str, opening: Opening) -> Sink:
    make = SINKS.find(name)
    try:
        sink = make(opening)
        if not isinstance(sink, Sink):
            raise TypeError(f"it is a {type(sink).__name__}, which is not derived from trainer.run.sinks.Sink")
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = REMEDIES.get(name, "correct it, or take it out of logger.sinks")
        raise ValueError(f"The sink {name} cannot be opened ({reason}): {remedy}.") from error
    return sink


def wandb_mode(wanted: str) -> Literal["online", "offline"] | None:
    """``online``, ``offline`` or None (off); ``auto`` is online where a key is configured.

    Raises:
        ValueError: ``online`` without a key.
    """
    if wanted == "off":
        return None
    if wanted == "online" and not has_wandb_key():
        raise ValueError("logger.wandb=online, but there is no W&B key: run `wandb login`, set WANDB_API_KEY, or use logger.wandb=offline.")
    if wanted == "auto":
        return "online" if has_wandb_key() else "offline"
    return "online" if wanted == "online" else "offline"


def has_wandb_key() -> bool:
    """True where the environment or ~/.netrc holds a W&B key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
