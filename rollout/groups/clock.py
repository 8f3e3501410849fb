"""What the wall time of collecting goes into."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Activity = Literal["sample", "run"]


@dataclass(frozen=True, slots=True)
class Busy:
    """Seconds since the last look."""

    total_s: float
    sample_s: float
    """At least one completion was being sampled."""
    run_s: float
    """At least one workflow was running or being judged."""
    run_only_s: float
    """The same while nothing was being sampled: in a step without overlap, what running adds to the step."""


class BusyClock:
    """Counts what is under way; samples and runs of many groups overlap, and each second is counted once."""

    def __init__(self) -> None:
        self._active: dict[Activity, int] = {"sample": 0, "run": 0}
        self._seen_s = self._since_s = time.monotonic()
        self._sample_s = self._run_s = self._run_only_s = 0.0

    @contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        """Counts the block as sampling or running."""
        self._count()
        self._active[activity] += 1
        try:
            yield
        finally:
            self._count()
            self._active[activity] -= 1

    def take(self) -> Busy:
        """The seconds since the last ``take``; counting begins anew."""
        self._count()
        busy = Busy(self._seen_s - self._since_s, self._sample_s, self._run_s, self._run_only_s)
        self._since_s = self._seen_s
        self._sample_s = self._run_s = self._run_only_s = 0.0
        return busy

    def _count(self) -> None:
        now = time.monotonic()
        passed_s, self._seen_s = now - self._seen_s, now
        if self._active["sample"]:
            self._sample_s += passed_s
        if self._active["run"]:
            self._run_s += passed_s
            self._run_only_s += 0.0 if self._active["sample"] else passed_s
