"""Cores that other programs use while a measurement runs: a figure taken beside them says less than it seems to."""

import threading
import time
from types import TracebackType

import psutil


class Neighbours:
    """A context manager; afterwards ``cores`` is how many cores were busy with processes outside of this one's tree.

    ``seconds`` has their CPU seconds by (process id, creation time). A process that lived only between two looks is
    missed, so both are lower bounds.
    """

    def __init__(self, every_s: float = 2.0) -> None:
        self.cores = 0.0
        self.seconds: dict[tuple[int, float], float] = {}
        self._every_s = every_s
        self._ours: set[tuple[int, float]] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Neighbours":
        self._begun = time.monotonic()
        self._last_s = self._cpu_seconds()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self.cores = sum(self.seconds.values()) / max(time.monotonic() - self._begun, 1e-9)

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        """A process that is new since the last look has spent all of its time since then."""
        now_s = self._cpu_seconds()
        for process, seconds in now_s.items():
            self.seconds[process] = self.seconds.get(process, 0.0) + seconds - self._last_s.get(process, 0.0)
        self._last_s = now_s

    def _cpu_seconds(self) -> dict[tuple[int, float], float]:
        """CPU seconds by process outside of our tree; one that was in it stays ours when its parent ends."""
        me = psutil.Process()
        self._ours |= {(one.pid, one.create_time()) for one in [me, *me.children(recursive=True)]}
        seconds: dict[tuple[int, float], float] = {}
        for one in psutil.process_iter():
            try:
                process, times = (one.pid, one.create_time()), one.cpu_times()
            except psutil.Error:
                continue
            if process not in self._ours:
                seconds[process] = times.user + times.system
        return seconds
