"""The trials of a sweep side by side on one Ray cluster, and what becomes of them.

``sweep.json`` lists the trials with what became of them, ``logs/`` has what each printed, ``report.html`` compares them.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launch.sweep.process import Process, TrialProcess, wait_for_one
from launch.sweep.trials import MANIFEST, Source, Trial, policy_row
from trainer.cluster.sweep import Shared
from trainer.run.console import minutes
from trainer.run.terminal import printable
from workflow.atomic import replace_file

Start = Callable[[Sequence[str], Path, dict[str, str]], Process]
END_TIMEOUT_S = 60.0
"""Seconds that trials have to close their actors when the sweep is interrupted."""
TERMINAL_EVERY_S, LINE_EVERY_S = 1.0, 30.0
"""How often the steps of running trials are shown: on a terminal in one place, elsewhere as a line where they have changed."""
CLEAR_LINE = "\r\x1b[2K"


class Sweep:
    """The trials of one sweep and what became of them."""

    def __init__(self, folder: Path, given: Sequence[str], source: Source, start: Start = TrialProcess) -> None:
        """
        Args:
            start: starts a trial from its overrides, its log file and its environment.
        """
        self.folder = folder
        self.given = list(given)
        self.source = source
        self.start = start
        self.shown = ""
        self.took_s: list[float] = []
        self.failed: dict[str, int] = {}
        self.states: dict[str, str] = {}
        """Name -> running, interrupted, finished or ``failed: why``, of the trials that this process started."""
        self.write()

    def run(self, shared: Shared) -> None:
        """Starts trials as others end, and waits for all; ends them where it is interrupted."""
        say(f"{self.source.total} trials in {self.folder}, {self._finished()} of them finished, {shared.note}.")
        running: dict[Process, Trial] = {}
        try:
            while True:
                while len(running) < shared.parallel and (trial := self.source.ask()) is not None:
                    running[self._start(trial, shared)] = trial
                if not running:
                    return
                process = wait_for_one(list(running), TERMINAL_EVERY_S if sys.stdout.isatty() else LINE_EVERY_S)
                if process is None:
                    self.show(running)
                else:
                    self._end(process, running.pop(process), shared.parallel)
        except BaseException:
            self._interrupt(running)
            raise

    def show(self, running: Mapping[Process, Trial]) -> None:
        """The stage and the step of every running trial."""
        text = "; ".join(f"{trial.name}: {process.progress()}" for process, trial in running.items())
        if sys.stdout.isatty():
            clear_line()
            print(printable(f"[sweep] {text}")[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif text != self.shown:
            say(text)
        self.shown = text

    def _start(self, trial: Trial, shared: Shared) -> Process:
        log = self.folder / "logs" / f"{trial.name}.log"
        resumes = (trial.folder / "config.yaml").exists()
        say(f"{trial.name}: {'goes on' if resumes else 'starts'}")
        self._note(trial, "running")
        return self.start(trial.overrides, log, shared.environment)

    def _end(self, process: Process, trial: Trial, parallel: int) -> None:
        code = process.code
        assert code is not None
        self.took_s.append(time.monotonic() - process.began_s)
        took = minutes(self.took_s[-1])
        if code == 0:
            row = policy_row(trial.folder)
            figures = f": pass rate {row['pass_rate']:.3f}, {row['calls']:.2f} calls" if row else ""
            self._note(trial, "finished")
            say(f"{trial.name}: done in {took}{figures}  ({self._progress(parallel)})")
        else:
            self.failed[trial.name] = code
            self._note(trial, f"failed: {process.reason()}")
            sentence = f"error: {trial.name} failed with exit code {code} after {took}: {process.reason()} (log: {process.log})"
            clear_line()
            print(printable(sentence), file=sys.stderr, flush=True)
        self.source.tell(trial, code)

    def _finished(self) -> int:
        return len(self.source.finished | {name for name, state in self.states.items() if state == "finished"})

    def _progress(self, parallel: int) -> str:
        done = self._finished()
        left = self.source.total - done - len(self.failed)
        eta_s = math.ceil(left / parallel) * sum(self.took_s) / len(self.took_s)
        return f"{done} of {self.source.total} finished" + (f", ETA {minutes(eta_s)}" if left else "")

    def _interrupt(self, running: dict[Process, Trial]) -> None:
        for process in running:
            process.interrupt()
        deadline = time.monotonic() + END_TIMEOUT_S
        for process, trial in running.items():
            if wait_for_one([process], max(0.0, deadline - time.monotonic())) is None:
                process.kill()
            self._note(trial, "interrupted")

    def _note(self, trial: Trial, state: str) -> None:
        self.states[trial.name] = state
        self.write()

    def write(self) -> None:
        """Rewrites ``sweep.json``."""
        states = dict.fromkeys(self.source.finished, "finished") | self.states
        trials = [
            {"name": trial.name, "values": dict(trial.values), "state": states.get(trial.name, "missing")}
            for trial in {trial.name: trial for trial in self.source.trials}.values()
        ]
        manifest = {"command": self.given, "total": self.source.total, "trials": trials}
        replace_file(self.folder / MANIFEST, json.dumps(manifest, indent=1))

    def close(self) -> int:
        """Writes the report; returns the exit code."""
        from launch.report.sweep_page import write_sweep_report

        self.write()
        done = self._finished()
        if done:
            say(f"Report: {write_sweep_report(self.folder)}")
        if self.failed:
            print(f"error: {len(self.failed)} of {self.source.total} trials failed; the same command tries them again.", file=sys.stderr)
        else:
            say(f"All {done} trials are finished.")
        return self.code()

    def code(self) -> int:
        """The exit code: 0 where no trial failed, 2 where all that failed are the user's to repair, else 1."""
        return 0 if not self.failed else 2 if set(self.failed.values()) == {2} else 1


def say(text: str) -> None:
    """One line on the console."""
    clear_line()
    print(f"[sweep] {printable(text)}", flush=True)


def clear_line() -> None:
    """Takes away what ``Sweep.show`` left on a terminal."""
    if sys.stdout.isatty():
        print(CLEAR_LINE, end="", flush=True)
