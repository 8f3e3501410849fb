"""One trial of a sweep as a process: ``launch.train`` with its output in a file, ended with the sweep however that ends."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

POLL_S = 0.2
ASKS_TO_END = signal.SIGINT
"""Not SIGTERM: Ray takes that over in its drivers and ends them on the spot."""
TAIL_BYTES = 65_536
"""The end of a log in which the reason of a failure, or the step, is looked for."""
STEP = re.compile(r" {3}\[.*\] (?P<what>\S.*?) +(?P<step>\d+/\d+)(?: {2}|$)")
"""A line of progress, as ``trainer.run.console`` prints it where there is no terminal."""


class Process(Protocol):
    """A trial that was started; ``TrialProcess`` is the real one."""

    log: Path
    began_s: float

    @property
    def code(self) -> int | None:
        """Its exit code (negative: the signal that ended it); None while it runs."""
        ...

    def reason(self) -> str:
        """Why it failed."""
        ...

    def progress(self) -> str:
        """Its stage and step."""
        ...

    def interrupt(self) -> None:
        """Asks it to end: it closes its actors and can go on later."""
        ...

    def kill(self) -> None:
        """Ends it at once with all that it started."""
        ...


class TrialProcess:
    """A running trial. It has a session of its own, so that Ctrl-C reaches the sweep alone, which then ends the trial."""

    def __init__(self, overrides: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        """Starts it. Call it on the main thread: the trial ends with the thread that started it."""
        self.log = log
        self.began_s = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_begins = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "launch.sweep.process", str(os.getpid()), *overrides],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """See ``Process.code``."""
        return self._process.poll()

    def reason(self) -> str:
        """See ``Process.reason``: the last sentence that it printed as an error, else its last line."""
        lines = self._last_lines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else lines[-1].strip()[:300] if lines else "no output"

    def progress(self) -> str:
        """See ``Process.progress``."""
        return progress_in(self._last_lines())

    def _last_lines(self) -> list[str]:
        with self.log.open("rb") as file:
            file.seek(max(self._log_begins, self.log.stat().st_size - TAIL_BYTES))
            return [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]

    def interrupt(self) -> None:
        """See ``Process.interrupt``."""
        self._signal(ASKS_TO_END)

    def kill(self) -> None:
        """See ``Process.kill``."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number) if number == signal.SIGKILL else self._process.send_signal(number)


def progress_in(lines: Sequence[str]) -> str:
    """Stage and step by the last lines of a run's log: ``grpo 3/40``; the stage alone before its first step."""
    for line in reversed(lines):
        if step := STEP.match(line):
            return f"{'grpo' if step['what'] == 'step' else step['what']} {step['step']}"
        if line.startswith("== "):
            return line.removeprefix("== ").partition(":")[0]
    return "starts"


def wait_for_one(processes: Sequence[Process], timeout_s: float | None = None) -> Process | None:
    """The first of the processes that has ended; None where none does in time."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        for process in processes:
            if process.code is not None:
                return process
        if deadline is not None and time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S)


def main() -> None:
    """``python -m launch.sweep.process SWEEP_PID ARGUMENT...`` becomes ``launch.train ARGUMENT...`` that ends with its sweep."""
    from sandbox.guest.jail import PR_SET_PDEATHSIG, prctl

    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # on the spot: the sweep's Ray is gone too, so there is nothing to close
    if os.getppid() != int(sys.argv[1]):  # the sweep ended before the line above
        sys.exit(130)
    os.execv(sys.executable, [sys.executable, "-m", "launch.train", *sys.argv[2:]])


if __name__ == "__main__":
    main()
