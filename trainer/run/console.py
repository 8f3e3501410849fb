"""What a run shows while it goes: a header per stage, a bar or a line every few seconds, one line a GRPO step."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from rollout.policies import is_made
from trainer.run.terminal import Bar, Terminal, plain
from trainer.settings import RunSettings

LINE_EVERY_S = 5.0


class RunConsole:
    """Progress of one run. On a terminal it moves a bar, elsewhere it prints plain lines; both say the same."""

    def __init__(self, label: str, console: Terminal | None = None) -> None:
        """
        Args:
            label: what is small or simulated in this run; stands in every line.
        """
        self.console = console or Terminal()
        self.label = label
        self._bar: Bar | None = None
        self._last_line_s = 0.0
        self._stage_began_s = time.monotonic()
        self._step_times_s: deque[float] = deque(maxlen=10)
        self._last_step_s: float | None = None

    @classmethod
    def of(cls, settings: RunSettings) -> "RunConsole":
        """The console of a run: every line says what is small or simulated in it."""
        path = settings.model.path
        policy = f"{path} policy" if is_made(path) else Path(path).name
        return cls(f"{policy}, {settings.worker.model or settings.worker.provider}")

    def say(self, text: str) -> None:
        """One line as it is."""
        self.console.print(plain(text), soft_wrap=True)

    def stage(self, name: str, detail: str) -> None:
        """Header of a stage."""
        self._end_bar()
        self._stage_began_s = time.monotonic()
        self._last_step_s = None
        self._last_line_s = 0.0
        self._step_times_s.clear()
        self.say("")
        self.console.print(plain(f"== {name}: {detail}", "bold"), soft_wrap=True)

    def stage_done(self, name: str, detail: str) -> None:
        """Footer of a stage with its wall time."""
        self._end_bar()
        self.say(f"   {name} done in {minutes(time.monotonic() - self._stage_began_s)}{f': {detail}' if detail else ''}")

    def progress(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """``done`` of ``total`` units of a stage."""
        if self.console.is_terminal:
            self._move_bar(stage, done, total, detail)
            return
        now = time.monotonic()
        if done < total and now - self._last_line_s < LINE_EVERY_S:
            return
        self._last_line_s = now
        elapsed = now - self._stage_began_s
        left = f"  ETA {minutes(elapsed / done * (total - done))}" if 0 < done < total else ""
        self.say(f"   [{self.label}] {stage} {done}/{total}{f'  {detail}' if detail else ''}{left}")

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """One line for one GRPO step (``step`` counts from 0)."""
        self._end_bar()
        now = time.monotonic()
        if self._last_step_s is not None:
            self._step_times_s.append(now - self._last_step_s)
        else:
            self._step_times_s.append(metrics.get("time/step_s", 0.0))
        self._last_step_s = now
        mean_s = sum(self._step_times_s) / len(self._step_times_s)
        parts = [f"step {step + 1:>{len(str(total))}}/{total}", *step_parts(metrics), f"{mean_s:.1f} s/step"]
        if step + 1 < total:
            parts.append(f"ETA {minutes(mean_s * (total - step - 1))}")
        self.say(f"   [{self.label}] " + "  ".join(parts))

    def alarms(self, sentences: Sequence[str]) -> None:
        """A line that stands out for each alarm that began or ended."""
        for sentence in sentences:
            self.console.print(plain(f"   {sentence}", "bold red"), soft_wrap=True)

    def close(self) -> None:
        """Ends a bar that is still there."""
        self._end_bar()

    def _move_bar(self, stage: str, done: int, total: int, detail: str) -> None:
        if self._bar is None:
            self._bar = Bar(self.console, f"[{self.label}] {stage}", total)
        self._bar.move(done, total, detail)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def step_parts(metrics: Mapping[str, float]) -> list[str]:
    """The figures of a step's line, as far as the step has them."""
    shown = (
        ("reward", "reward/mean", "{:.3f}"),
        ("passed", "outcome/passed", "{:.0%}"),
        ("valid", "workflow/valid", "{:.0%}"),
        ("calls", "calls/mean", "{:.2f}"),
        ("kl", "actor/kl", "{:.4f}"),
        ("validation", "eval/reward", "{:.3f}"),
        ("masked", "infra/masked", "{:.0f}"),
    )
    present = [(label, metrics[name], form) for label, name, form in shown if name in metrics]
    return [f"{label} {form.format(value)}" for label, value, form in present if label != "masked" or value]


def minutes(seconds: float) -> str:
    """A duration for people: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
