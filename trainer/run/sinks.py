"""Where metrics go: metrics.jsonl always, W&B and TensorBoard if asked.

A sink that cannot open stops the run; one beside metrics.jsonl that fails to write warns once and is left out.
"""

import importlib
import math
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trainer.run.jsonl import Appender
from trainer.settings import LoggerSettings

Metrics = Mapping[str, float]


class Sink(Protocol):
    """One place for metrics."""

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        """Takes the flat metrics of one step of one stage."""
        ...

    def close(self) -> None:
        """Flushes and lets go."""
        ...


@runtime_checkable
class Tracker(Sink, Protocol):
    """A sink that takes more than metrics; ``trainer.run.wandb_sink.WandbSink`` is the real one."""

    def alarm(self, step: int, sentence: str) -> None:
        """An alarm began or ended."""
        ...

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A step's rows of episodes.jsonl, before its metrics."""
        ...

    def results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The final table."""
        ...

    def saved(self, kind: str, name: str, folder: Path) -> None:
        """A ``policy`` or a ``checkpoint`` was written."""
        ...


class JsonlSink:
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

    def close(self) -> None:
        pass


class TensorboardSink:
    """Event files in ``tensorboard/`` of the run folder."""

    def __init__(self, folder: Path) -> None:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self.writer = writer(str(folder / "tensorboard"))

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
            tracked: the last step of each stage that trackers had before a resumed run began to do it again; may change meanwhile.
        """
        self.first = first
        self.others = dict(others)
        self.warn = warn
        self.tracked = {} if tracked is None else tracked

    def write(self, stage: str, step: int, metrics: Metrics, alarms: Sequence[str] = ()) -> None:
        """One step's metrics, and the alarms that began or ended with it. Trackers keep what they have of steps that are done again."""
        rounded = {name: round(float(value), 9) for name, value in metrics.items()}
        self.first.write(stage, step, rounded)
        again = self._is_done_again(stage, step)
        self._each(lambda sink: None if again and isinstance(sink, Tracker) else sink.write(stage, step, rounded))
        for sentence in () if again else alarms:
            self._each_tracker(lambda tracker, sentence=sentence: tracker.alarm(step, sentence))

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """A GRPO step's rows of episodes.jsonl; before ``write`` of that step."""
        if not self._is_done_again("grpo", step):
            self._each_tracker(lambda tracker: tracker.episodes(step, rows))

    def note(self, step: int, sentence: str) -> None:
        """Something to know about the run from this step on."""
        self._each_tracker(lambda tracker: tracker.alarm(step, sentence))

    def results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The final table."""
        self._each_tracker(lambda tracker: tracker.results(rows))

    def saved(self, kind: str, name: str, folder: Path | None) -> None:
        """A ``policy`` or a ``checkpoint`` was written to ``folder``; None: the stage writes none."""
        if folder is not None:
            self._each_tracker(lambda tracker: tracker.saved(kind, name, folder))

    def close(self) -> None:
        """Closes every sink; one that fails to close is only warned about."""
        self.first.close()
        self._each(lambda sink: sink.close())
        self.others.clear()

    def _is_done_again(self, stage: str, step: int) -> bool:
        return step <= self.tracked.get(stage, -1)

    def _each_tracker(self, act: Callable[[Tracker], None]) -> None:
        self._each(lambda sink: act(sink) if isinstance(sink, Tracker) else None)

    def _each(self, act: Callable[[Sink], None]) -> None:
        for name, sink in list(self.others.items()):
            try:
                act(sink)
            except Exception as error:
                self.warn(f"{name} takes no more metrics ({type(error).__name__}: {error}); metrics.jsonl still has all of them.")
                del self.others[name]


def open_sinks(
    folder: Path,
    settings: LoggerSettings,
    *,
    metrics: Appender,
    run_id: str,
    config: Mapping[str, Any],
    labels: Mapping[str, str],
    warn: Callable[[str], None],
    tracked: Mapping[str, int],
) -> Sinks:
    """The sinks that the settings ask for; ``metrics`` appends to metrics.jsonl, and ``Sinks`` tells of ``tracked``.

    Raises:
        ValueError: one that was asked for cannot be opened.
    """
    others: dict[str, Sink] = {}
    mode = wandb_mode(settings.wandb)
    if mode is not None:
        others["W&B"] = _opened(
            "W&B", lambda: _wandb(folder, settings, mode, run_id, config), "use logger.wandb=offline or logger.wandb=off"
        )
    if settings.tensorboard:
        others["TensorBoard"] = _opened("TensorBoard", lambda: TensorboardSink(folder), "use logger.tensorboard=false")
    return Sinks(JsonlSink(metrics, labels), others, warn, tracked)


def _opened(name: str, make: Callable[[], Sink], remedy: str) -> Sink:
    try:
        return make()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name} cannot be opened ({reason}): {remedy}.") from error


def _wandb(folder: Path, settings: LoggerSettings, mode: str, run_id: str, config: Mapping[str, Any]) -> Sink:
    from trainer.run.wandb_sink import WandbSink  # wandb takes a second to import

    return WandbSink(folder, settings, mode, run_id, config)


def wandb_mode(wanted: str) -> str | None:
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
    return wanted


def has_wandb_key() -> bool:
    """True where the environment or ~/.netrc holds a W&B key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
