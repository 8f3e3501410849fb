"""Runs a sweep: ``launch.train -m name=a,b,c``. Trials are processes side by side on one Ray cluster, each in a run folder of its own.

The same command with the same ``trainer.run_dir`` runs what is missing: finished trials are left alone, interrupted and failed
ones go on. ``sweep.json`` lists the trials with what became of them, ``logs/`` has what each printed, ``report.html`` compares them.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from conf.schema import Config
from launch.compose import composed, parse
from launch.shell import Interrupted
from launch.sweep.process import Process, TrialProcess, wait_for_one
from launch.sweep.trials import Grid, Source, Trial, placed, policy_row
from rollout.policy_files import is_url
from trainer.cluster.sweep import Shared, sweep_cluster
from trainer.run.console import minutes
from trainer.run.lock import hold, probe
from trainer.run.terminal import printable
from workflow.atomic import replace_file

MANIFEST = "sweep.json"
Start = Callable[[Sequence[str], Path, dict[str, str]], Process]
END_TIMEOUT_S = 60.0
"""Seconds that trials have to close their actors when the sweep is interrupted."""


def run_sweep(given: Sequence[str]) -> int:
    """Runs all trials that are not finished and writes the sweep's report.

    Returns:
        the exit code: 0 where every trial is finished, 2 where all that failed are the user's to repair, else 1.

    Raises:
        ValueError: wrong settings, a folder that is no sweep's, or a cluster that holds no trial; nothing was started.
    """
    common = composed([_first_value(text) for text in given])
    if is_url(common.trainer.run_dir):
        raise ValueError(f"trainer.run_dir={common.trainer.run_dir!r} is a URL: give a sweep a path, on storage that all nodes mount.")
    folder = Path(common.trainer.run_dir).expanduser().absolute()
    grid = None if common.sweep.trials else Grid(given, folder)  # before the folder is touched: a wrong value leaves nothing behind
    lock = _take(folder)
    try:
        sweep = Sweep(folder, given, grid or _search(given, folder, common))
        if sweep.source.settings:
            _refuse_shared_port(common)
            with sweep_cluster(sweep.source.settings, common.sweep.parallel) as shared:
                sweep.run(shared)
        return sweep.close()
    except KeyboardInterrupt:
        raise Interrupted(f"Go on with the same command and trainer.run_dir={folder}") from None
    finally:
        os.close(lock)


def _first_value(text: str) -> str:
    """An override with the first of its values: a sweep's settings beside those that differ."""
    override = parse([text])[0]
    if not override.is_sweep_override():
        return text
    value = override.value()
    first = getattr(value, "start", None) if override.is_interval_sweep() else next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"


def _search(given: Sequence[str], folder: Path, common: Config) -> Source:
    from launch.sweep.search import Search  # Optuna takes a second to import

    return Search(given, folder, common)


def _take(folder: Path) -> int:
    """The folder's lock. Raises ValueError where the folder is a single run's, holds other files, or is in use."""
    if (folder / "config.yaml").exists():
        raise ValueError(f"trainer.run_dir={str(folder)!r} is the folder of a single run: give a sweep a folder of its own.")
    if not (folder / MANIFEST).exists():
        probe(folder)
    return hold(folder)


def _refuse_shared_port(common: Config) -> None:
    if common.simulated.port and common.sweep.parallel != 1 and common.worker.base_url is None:
        raise ValueError(
            f"simulated.port={common.simulated.port} cannot serve several trials at once: leave it at 0 (any free port), "
            "or set sweep.parallel=1."
        )


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
                process = wait_for_one(list(running)) if running else None
                if process is None:
                    return
                self._end(process, running.pop(process), shared.parallel)
        except BaseException:
            self._interrupt(running)
            raise

    def _start(self, trial: Trial, shared: Shared) -> Process:
        log = self.folder / "logs" / f"{trial.name}.log"
        resumes = (self.folder / trial.name / "config.yaml").exists()
        say(f"{trial.name}: {'goes on' if resumes else 'starts'}")
        self._note(trial, "running")
        return self.start([*trial.overrides, *placed(trial, self.folder)], log, shared.environment)

    def _end(self, process: Process, trial: Trial, parallel: int) -> None:
        code = process.code
        assert code is not None
        self.took_s.append(time.monotonic() - process.began_s)
        took = minutes(self.took_s[-1])
        if code == 0:
            row = policy_row(self.folder / trial.name)
            figures = f": pass rate {row['pass_rate']:.3f}, {row['calls']:.2f} calls" if row else ""
            self._note(trial, "finished")
            say(f"{trial.name}: done in {took}{figures}  ({self._progress(parallel)})")
        else:
            self.failed[trial.name] = code
            self._note(trial, f"failed: {process.reason()}")
            sentence = f"error: {trial.name} failed with exit code {code} after {took}: {process.reason()} (log: {process.log})"
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
        from launch.report import write_sweep_report

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
    print(f"[sweep] {printable(text)}", flush=True)
