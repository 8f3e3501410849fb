"""The files of a run folder that grow or change while it runs. A full disk stops none of the run, only what it writes."""

from collections.abc import Callable
from pathlib import Path

from trainer.run.jsonl import Appender, WholeFile

EPISODES_WAITING_BYTES = 128 * 2**20
"""Rows of episodes.jsonl and held_out.jsonl that may wait in memory for room on the disk; other files are small and wait as a whole."""


class RunFiles:
    """Opened with the run folder."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """
        Args:
            warn: prints a line that stands out.
        """
        self.metrics = Appender(folder / "metrics.jsonl", warn)
        self.episodes = Appender(folder / "episodes.jsonl", warn, EPISODES_WAITING_BYTES)
        self.held_out = Appender(folder / "held_out.jsonl", warn, EPISODES_WAITING_BYTES)
        self.traces = Appender(folder / "traces.jsonl", warn)
        self.alarms = Appender(folder / "alarms.jsonl", warn)
        self.state = WholeFile(folder / "state.json", warn)
        self.results = WholeFile(folder / "results.json", warn)
        self._all = (self.metrics, self.episodes, self.held_out, self.traces, self.alarms, self.state, self.results)

    def retry(self) -> None:
        """Writes what waits for room."""
        for file in self._all:
            file.retry()

    def close(self) -> None:
        """A last try of each, with a sentence on what is lost."""
        for file in self._all:
            file.close()
