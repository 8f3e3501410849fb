"""A run is a folder that explains itself.

    config.yaml      every setting           metrics.jsonl   one flat dict a step
    state.json       finished stages         episodes.jsonl  one row an episode
    traces.jsonl     the teacher's traces    checkpoints/    step_000020/ ...
    base/ sft/ policy/  Hugging Face folders  results.json    the final table
    held_out.jsonl   the policies' episodes behind the final table, with their answers

Opening an existing folder resumes its run. This module stores; it does not decide what is trained. A full disk ends no run:
``trainer.run.files`` keeps what has no room.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from rollout.groups.stream import StreamState
from rollout.policy_files import is_url
from rollout.records import Group
from rollout.traces import Trace, trace_of_row
from trainer.run.checkpoints import Checkpointed, Checkpoints
from trainer.run.console import RunConsole
from trainer.run.episodes import episode_rows, held_out_rows
from trainer.run.files import RunFiles
from trainer.run.jsonl import Row
from trainer.run.lock import hold, probe
from trainer.run.mirror import RunStorage
from trainer.run.sinks import Metrics, Opening, open_sinks
from trainer.run.state import RunState, adopt_settings
from trainer.settings import RunSettings


class RunFolder:
    """The folder of one run, held by one process at a time; a context manager."""

    def __init__(self, path: Path, settings: RunSettings, console: RunConsole, lock: int, storage: RunStorage | None = None) -> None:
        """Use ``RunFolder.open``."""
        self.path = path
        self.place = settings.trainer.run_dir if storage else str(path)
        """What to give as ``trainer.run_dir`` to go on."""
        self._storage = storage
        self.settings = settings
        self.console = console
        self._lock = lock
        self._opened_s = time.monotonic()
        self.state = RunState.read(path / "state.json")
        self.base_policy = path / "base"
        """The policy before training, where it is made on the spot."""
        self.sft_policy = path / "sft"
        self.policy = path / "policy"
        """The trained policy."""
        adopt_settings(path, settings.model_dump(mode="json"), self.state)
        self.files = RunFiles(path, lambda text: self.console.alarms([text]))
        self.checkpoints = Checkpoints(
            path / "checkpoints",
            settings.trainer.checkpoint,
            self.say,
            saved=self._checkpoint_saved,
        )
        self._save_state()
        opening = Opening(path, self.state.run_id, settings, self.say)
        self.sinks = open_sinks(opening, self.files.metrics, self.say, self.state.tracked)

    @classmethod
    def open(cls, settings: RunSettings, console: RunConsole | None = None) -> Self:
        """Makes the folder ``trainer.run_dir`` or resumes the run in it.

        Raises:
            ValueError: the folder cannot be written, the disk is full, another process holds it, it holds something
                else, or its run had other settings.
        """
        console = console or RunConsole.of(settings)
        run_dir = settings.trainer.run_dir
        with ExitStack() as undo:
            storage = RunStorage(run_dir, settings.cluster, console.say) if is_url(run_dir) else None
            if storage is not None:
                undo.callback(storage.discard)
            path = storage.folder if storage else Path(run_dir).expanduser().absolute()
            probe(path)
            lock = hold(path)
            undo.callback(os.close, lock)
            run = cls(path, settings, console, lock, storage)
            undo.pop_all()
        if storage is not None:
            storage.begin()
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Flushes the sinks and the files and lets go of the folder."""
        self.console.close()
        self.sinks.close()
        try:
            self._save_state()
            self.files.close()
        finally:
            os.close(self._lock)
            if self._storage is not None:
                self._storage.close()

    def reachable(self, policy: Path) -> str:
        """What engines on other machines load a policy from: of a folder of a run at a URL its own URL, once it is uploaded; blocks."""
        if self._storage is None or not policy.is_relative_to(self.path):
            return str(policy)
        return self._storage.push(policy)

    def _checkpoint_saved(self, folder: Path) -> None:
        self.sinks.saved("checkpoint", folder.name, folder)
        if self._storage is not None:
            self._storage.soon()

    # What the run shows.

    def say(self, text: str) -> None:
        """One line on the console."""
        self.console.say(text)

    def stage(self, name: str, detail: str) -> None:
        """A stage begins. SFT always begins anew: the rows of an interrupted try go."""
        if name == "sft":
            self._roll_back(lambda row: row.get("stage") == "sft")
        self.console.stage(name, detail)

    def progress(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """``done`` of ``total`` units of a stage."""
        self.console.progress(stage, done, total, detail)

    # Metrics and episodes.

    def log(self, stage: str, step: int, metrics: Metrics, *, total: int, alarms: Sequence[str] = ()) -> None:
        """Metrics of one step (from 0) to every sink and to the console; ``alarms`` that began or ended also to alarms.jsonl."""
        self.sinks.write(stage, step, metrics, alarms)
        if stage == "grpo":
            self.console.step(step, total, metrics)
            self.files.alarms.append({"step": step, "text": sentence} for sentence in alarms)
            self.console.alarms(alarms)
            self.files.retry()
            if self.stop_reason:
                self.say(f"GRPO ends with step {step + 1} of {total}: {self.stop_reason}.")
        else:
            loss = metrics.get(f"{stage}/loss")
            self.console.progress(stage, step + 1, total, f"loss {loss:.3f}" if loss is not None else "")

    def log_groups(self, step: int, groups: Sequence[Group]) -> None:
        """Appends every episode of a step to episodes.jsonl, where ``logger.episodes`` asks for it."""
        rows = [row for group in groups for row in episode_rows(step, group, self.settings.logger.trace_characters)]
        if self.settings.logger.episodes:
            self.files.episodes.append(rows)
        self.sinks.episodes(step, rows)

    def begin_held_out(self) -> None:
        """The final table begins anew: the episodes of an interrupted try go."""
        self.files.held_out.keep(lambda row: False)

    def log_held_out(self, name: str, groups: Sequence[Group]) -> None:
        """Appends the episodes of a row of the final table to held_out.jsonl, where ``logger.episodes`` asks for episodes."""
        if self.settings.logger.episodes:
            self.files.held_out.append(held_out_rows(name, groups, self.settings.logger.trace_characters))

    @property
    def stop_reason(self) -> str:
        """Why GRPO is to end after the step that was logged last, though there are more; empty where no sink asked for it."""
        return self.sinks.stop_reason

    def steps(self, first: int, total: int) -> Iterator[int]:
        """GRPO steps ``first .. total - 1``, or fewer where a sink asks for the end."""
        for step in range(first, total):
            if self.stop_reason:
                return
            yield step

    def rows(self, stage: str) -> list[Row]:
        """The rows of metrics.jsonl of one stage, oldest first; those of an earlier session too."""
        return [row for row in self.files.metrics.rows() if row.get("stage") == stage]

    # Stages.

    def is_done(self, stage: str) -> bool:
        """True where an earlier session finished the stage."""
        return stage in self.state.stages

    def mark_done(self, stage: str, **info: Any) -> None:
        """Notes that a stage is finished, with what is worth knowing of it."""
        self.state.stages[stage] = info
        self._save_state()
        self.files.retry()
        self.sinks.saved("policy", stage, {"sft": self.sft_policy, "grpo": self.policy}.get(stage))
        self.console.stage_done(stage, ", ".join(f"{name} {value}" for name, value in info.items()))

    # Distilled traces.

    def append_trace(self, trace: Trace) -> None:
        """Appends one answer of the teacher to traces.jsonl."""
        self.files.traces.append([{**asdict(trace), "outcome": str(trace.outcome)}])

    def read_traces(self) -> list[Trace]:
        """All traces so far, in the order of their requests."""
        return [trace_of_row(row) for row in self.files.traces.rows()]

    async def restore(self, learner: Checkpointed) -> tuple[int, StreamState | None]:
        """Loads the newest whole checkpoint, if any, and drops what was logged after it.

        Returns:
            the number of finished GRPO steps, which is the step to go on with, and what was collected ahead of it.
        """
        step, stream = await self.checkpoints.restore(learner)
        again = self._roll_back(lambda row: row.get("stage") == "grpo" and row["step"] >= step)
        for file in (self.files.episodes, self.files.alarms):
            file.keep(lambda row: row["step"] < step)
        if again:
            last = again[-1]["step"] + 1
            self.sinks.note(step, f"Resumed after step {step}: steps {step + 1} to {last} are done again; metrics.jsonl has what counts.")
        return step, stream

    def _roll_back(self, gone: Callable[[Row], bool]) -> list[Row]:
        """Drops rows of metrics.jsonl whose work is done again, and returns them; their cost is remembered first."""
        rows = [row for row in self.files.metrics.rows() if gone(row)]
        if rows:
            self.state.roll_back(rows)
            self._save_state()
            self.files.metrics.keep(lambda row: not gone(row))
        return rows

    # Results.

    def write_results(self, rows: Sequence[dict[str, object]]) -> None:
        """Writes ``results.json``: the final table, the run's wall seconds and its GRPO steps."""
        self.sinks.results(rows)
        results = {"rows": list(rows), "wall_s": round(self.wall_s, 1), "steps": len(self.rows("grpo"))}
        self.files.results.write(json.dumps(results, indent=1))

    @property
    def wall_s(self) -> float:
        """Seconds of all sessions of this run, the present one included."""
        return self.state.wall_s + time.monotonic() - self._opened_s

    def _save_state(self) -> None:
        self.state.wall_s, self._opened_s = self.wall_s, time.monotonic()
        self.files.state.write(self.state.text())
