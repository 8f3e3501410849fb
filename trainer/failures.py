"""What a run survives, and how often in a row."""

from collections import Counter

from workflow.outcome import RunFailedError


class LearnerLostError(RuntimeError):
    """A rank of the learner died, hangs, or failed for a reason that a new learner may not meet again."""


class Failures:
    """Counts failures of each kind since the run last got ahead."""

    def __init__(self, limit: int) -> None:
        """
        Args:
            limit: that many of one kind in a row end the run (``trainer.max_failures``).
        """
        self._limit = limit
        self._counts: Counter[str] = Counter()
        self._reached: dict[str, int] = {}

    def count(self, kind: str, reason: str, *, reached: int = 0) -> None:
        """One more failure.

        Args:
            kind: what failed, as the subject of a sentence.
            reached: how far the run has come; a run that came further since the last failure of this kind starts to count anew.

        Raises:
            RunFailedError: the limit is reached.
        """
        if reached > self._reached.get(kind, -1):
            self._counts[kind], self._reached[kind] = 0, reached
        self._counts[kind] += 1
        if self._counts[kind] >= self._limit:
            raise RunFailedError(
                f"{kind} failed {self._counts[kind]} times in a row (trainer.max_failures={self._limit}), the last time with: {reason}. "
                "The state of the run is saved; the same command goes on with it once the cause is gone."
            )

    def clear(self, kind: str) -> None:
        """What used to fail has worked."""
        self._counts.pop(kind, None)
