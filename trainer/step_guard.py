"""What stands around the steps of GRPO: spending, alarms, failures, wall time, the log, and a checkpoint where one fails."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rollout.groups.clock import Busy, BusyClock
from rollout.groups.stream import GroupStream, StepGroups
from rollout.records import Group
from trainer.failures import Failures
from trainer.learner.handle import Learner
from trainer.metrics.alarms import Alarms
from trainer.metrics.spending import Spending
from trainer.run.checkpoints import SavedOnError
from trainer.run.folder import RunFolder
from trainer.settings import TrainerSettings


class StepGuard:
    """Begins and ends each step; an async context manager around all of them, which saves the state where one ends with an error."""

    def __init__(
        self, run: RunFolder, settings: TrainerSettings, learner: Learner, stream: GroupStream, clock: BusyClock, failures: Failures
    ) -> None:
        """
        Args:
            clock: counts what collecting takes.
        """
        earlier = run.rows("grpo")  # of the steps before a resume
        self._run = run
        self._settings = settings
        self._learner = learner
        self._stream = stream
        self._clock = clock
        self._failures = failures
        self._alarms = Alarms(settings.alarms, earlier)
        self._spending = Spending(run.place, settings.max_dollars, earlier, run.state.rolled_back_dollars)
        self._saver = SavedOnError(run.checkpoints, learner, stream.state)
        self._began = 0.0
        self._seconds: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        await self._saver.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._saver.__aexit__(kind, error, trace)

    async def begin(self, step: int) -> None:
        """A step begins.

        Raises:
            ValueError: it would cost more than ``max_dollars`` allows; what is under way was waited for.
        """
        self._saver.step = step
        if self._spending.overspends(steps=1 + self._settings.max_staleness):
            await self._stream.settle()
            raise self._spending.pause(step)
        self._began = time.monotonic()
        self._clock.take()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Times updating or publishing. Until the step is logged, the weights are a step ahead of the log, so nothing is saved."""
        self._saver.step = None
        began = time.monotonic()
        yield
        self._seconds[stage] = time.monotonic() - began

    def timings(self, taken: StepGroups) -> dict[str, float]:
        """``time/*`` and ``idle/*`` of the step, whose weights are published now."""
        return timings(taken, self._clock.take(), time.monotonic() - self._began, **self._seconds)

    def end(self, step: int, taken: StepGroups, metrics: dict[str, float]) -> None:
        """Logs the step and saves the state where that is due.

        Raises:
            RunFailedError: for ``max_failures`` steps in a row no episode could be judged.
        """
        settings, total = self._settings, self._settings.grpo.steps
        raised, sentences = self._alarms.check(metrics)
        metrics |= raised
        self._spending.add(metrics["spend/dollars"])
        self._run.log_groups(step, taken.collected)
        self._run.log("grpo", step, metrics, total=total, alarms=sentences)
        self._saver.step = step + 1
        self._check_judged(step, taken.collected)
        if (step + 1) % settings.checkpoint.every_steps == 0 or step + 1 == total or self._run.stop_reason:
            self._run.checkpoints.begin(step + 1, self._learner, self._stream.state(), metrics.get("eval/reward"))

    def _check_judged(self, step: int, groups: Sequence[Group]) -> None:
        """Counts a step of which no episode could be judged: worker endpoint or sandboxes are down."""
        episodes = [episode for group in groups for episode in group.episodes]
        if any(episode.score is not None for episode in episodes):
            self._failures.clear("Judging episodes")
            return
        faults = [each.fault for episode in episodes for part in episode.rounds for each in part.runs if each.fault]
        self._run.state.last_fault = faults[0] if faults else "no error given"
        self._failures.count("Judging episodes", f"all {len(episodes)} of step {step + 1} masked, {self._run.state.last_fault}")


def timings(taken: StepGroups, busy: Busy, step_s: float, *, update: float, publish: float) -> dict[str, float]:
    """Wall seconds of one step by stage, and the share of the step in which each kind of actor had nothing to do.

    Without overlap the stages add up to the step; with it, ``sample``, ``run`` and ``judge`` go on beside ``update``.
    """
    runs = [run for group in taken.collected for episode in group.episodes for part in episode.rounds for run in part.runs]
    judge_s = sum(run.verdict.wall_s for run in runs if run.verdict is not None)
    judge_share = judge_s / max(judge_s + sum(run.execution.wall_s for run in runs), 1e-9)
    return {
        "time/wait_s": taken.wait_s,
        "time/sample_s": busy.sample_s,
        "time/run_s": busy.run_only_s * (1 - judge_share),
        "time/judge_s": busy.run_only_s * judge_share,
        "time/update_s": update,
        "time/publish_s": publish,
        "time/step_s": step_s,
        "idle/engines": 1 - busy.sample_s / busy.total_s,
        "idle/sandboxes": 1 - busy.run_s / busy.total_s,
        "idle/learner": 1 - update / busy.total_s,
    }
