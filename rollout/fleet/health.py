"""What each rollout engine is doing, counted on the driver: an engine that hangs is seen without asking it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollout.records import Completion


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """One engine since the last update of its weights."""

    version: int
    """Version of the weights that it samples from."""
    in_flight: int
    """Sequences that it was asked for and has not answered."""
    oldest_s: float
    """Seconds since the oldest of them was asked for; 0 where there is none."""
    tokens: int
    """Tokens sampled, of requests that ended."""
    busy_s: float
    """Seconds with requests in flight."""
    cached_share: float
    """Share of prompt tokens that were not computed, because the engine still had their keys and values."""
    replaced: int
    """Times that a new engine was started in this place, over the whole run."""

    @property
    def tokens_per_s(self) -> float:
        """Tokens a busy second; 0 before the first request ended."""
        return self.tokens / self.busy_s if self.busy_s else 0.0


class EngineLedger:
    """Counts one engine's requests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[int, tuple[float, int]] = {}
        self._next = 0
        self._version = 0
        self._replaced = 0
        self._busy_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._tokens = self._prompt_tokens = self._cached_tokens = 0
        self._busy_s = 0.0
        self._busy_since = self._clock()

    @property
    def in_flight(self) -> int:
        """Sequences asked for and not answered."""
        return sum(n for _, n in self._open.values())

    def begin(self, n: int) -> int:
        """A request for ``n`` sequences is sent; its number."""
        if not self._open:
            self._busy_since = self._clock()
        self._next += 1
        self._open[self._next] = (self._clock(), n)
        return self._next

    def end(self, number: int) -> None:
        """It was answered or failed."""
        del self._open[number]
        if not self._open:
            self._busy_s += self._clock() - self._busy_since

    def count(self, prompt_tokens: int, completions: Sequence[Completion]) -> None:
        """What an answer brought."""
        self._tokens += sum(len(one.token_ids) for one in completions)
        self._prompt_tokens += prompt_tokens * len(completions)
        self._cached_tokens += sum(one.cached_prompt_tokens for one in completions)

    def updated(self, version: int) -> None:
        """The engine got new weights: figures begin anew."""
        self._version = version
        self._reset()

    def replaced(self, version: int) -> None:
        """A new engine took its place."""
        self._replaced += 1
        self.updated(version)

    def health(self) -> EngineHealth:
        """The figures now."""
        now = self._clock()
        return EngineHealth(
            version=self._version,
            in_flight=self.in_flight,
            oldest_s=now - min((since for since, _ in self._open.values()), default=now),
            tokens=self._tokens,
            busy_s=self._busy_s + (now - self._busy_since if self._open else 0.0),
            cached_share=self._cached_tokens / self._prompt_tokens if self._prompt_tokens else 0.0,
            replaced=self._replaced,
        )
