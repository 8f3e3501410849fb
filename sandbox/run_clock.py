"""The time of one workflow run: its own, what it waits for the worker, and what serving it took.

A workflow answers for its own time alone: what it computes, sleeps and has tested. While a request of its is with the worker (in line for
a slot, under way, tried again), its deadline stands still, since how long that takes is up to whoever else asks. The worker's own
timeouts bound a request. What a run waits without being served is bounded too, and a run beyond that says nothing: it is lost to the
machine. Time in which it was served does not count there, else a workflow could have its failure masked by asking for many long replies.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from sandbox.deadline import Countdown, Deadline
from sandbox.settings import LimitSettings


@dataclass(slots=True)
class Wait:
    """One request to the worker."""

    served_s: float = 0.0
    """Seconds in which it was served, as the worker reports them; 0 where it was not."""


class RunClock:
    """An async context manager around a run; TimeoutError ends its body once the workflow's own seconds are spent."""

    def __init__(self, limits: LimitSettings, give_up: Callable[[], object]) -> None:
        """
        Args:
            give_up: called once the run has waited for the worker, without being served, longer than any machine that is well lets it.
        """
        self.run_s = 0.0
        """Own time and, of each wait, the time in which the worker served: requests side by side count as the longest does."""
        self._deadline = Deadline(limits.workflow_wall_s)
        self._patience = Countdown(limits.worker_wait_s, give_up)
        self._waits = 0
        self._since_s = 0.0
        self._is_running = False

    async def __aenter__(self) -> "RunClock":
        await self._deadline.__aenter__()
        self._is_running, self._since_s = True, asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._waits:
            self.run_s += asyncio.get_running_loop().time() - self._since_s
        self._is_running = False
        self._patience.stop()
        await self._deadline.__aexit__(kind, error, trace)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Wait]:
        """Around one request to the worker; whoever waits says how long it was served."""
        if self._is_running and not self._waits:
            self._deadline.pause()
            self._patience.start()
            self.run_s += asyncio.get_running_loop().time() - self._since_s
        self._waits += 1
        loop = asyncio.get_running_loop()
        wait, began_s, asked_at = Wait(), self.run_s, loop.time()
        try:
            yield wait
        finally:
            served_s = max(began_s + wait.served_s - self.run_s, 0.0)
            self.run_s += served_s
            self._patience.give_back(min(served_s, loop.time() - asked_at))  # a reply that is kept was served to somebody else
            self._waits -= 1
            if self._is_running and not self._waits:
                self._since_s = asyncio.get_running_loop().time()
                self._patience.stop()
                self._deadline.resume()
