"""Deadlines of what runs in the box, counted in the time in which our own loop turned.

What stops this process (a text that takes long to read, a machine that swaps or is suspended) stops those who read a run's answers and
not the run: it would fail for what is not its doing. So a deadline is spent in small steps, and a step that ends late costs nothing.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

STEP_S = 0.25
"""A step is late where the loop comes to its end this much later than it should."""
STALLS_S = 20.0
"""Seconds of the machine's clock that a deadline may last longer for late steps; a longer deadline half as long again."""


def longest_s(seconds: float) -> float:
    """The most that a deadline of so many seconds lasts by the machine's clock."""
    return seconds + max(STALLS_S, seconds / 2)


class Countdown:
    """Calls ``expire`` once its seconds are spent. It may be stopped and started again."""

    def __init__(self, seconds: float, expire: Callable[[], object]) -> None:
        self.left_s = seconds
        self._clock_left_s = longest_s(seconds)
        self._expire = expire
        self._step_s = self._began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Goes on, in the running loop."""
        loop = asyncio.get_running_loop()
        self._step_s = max(0.0, min(STEP_S, self.left_s, self._clock_left_s))
        self._began_s = loop.time()
        self._timer = loop.call_at(self._began_s + self._step_s, self._end_step)

    def stop(self) -> None:
        """Pauses; what is left of it is known then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._spend(min(self._step_s, self._took_s()))

    def give_back(self, seconds: float) -> None:
        """Takes so many spent seconds for unspent."""
        self.left_s += seconds
        self._clock_left_s += seconds

    def _took_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began_s

    def _spend(self, seconds: float) -> None:
        self.left_s -= seconds
        self._clock_left_s -= self._took_s()

    def _end_step(self) -> None:
        self._timer = None
        is_late = self._took_s() > self._step_s + STEP_S
        self._spend(0.0 if is_late else self._step_s)
        if min(self.left_s, self._clock_left_s) > 0:
            self.start()
        else:
            self._expire()


class Deadline:
    """An async context manager that ends its body with TimeoutError once its seconds are spent. Entered again, it goes on with the rest."""

    def __init__(self, seconds: float) -> None:
        self._countdown = Countdown(seconds, lambda: self._timeout.reschedule(asyncio.get_running_loop().time()))
        self._timeout = asyncio.timeout(None)

    @property
    def left_s(self) -> float:
        """Seconds not yet spent, known outside of its body; 0 or less where there are none."""
        return self._countdown.left_s

    def pause(self) -> None:
        """Stops spending its seconds, within its body."""
        self._countdown.stop()

    def resume(self) -> None:
        """Goes on spending them, unless they are spent."""
        if self._countdown.left_s > 0:
            self._countdown.start()

    async def __aenter__(self) -> "Deadline":
        self._timeout = asyncio.timeout(None)
        await self._timeout.__aenter__()
        self._countdown.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._countdown.stop()
        await self._timeout.__aexit__(kind, error, trace)
