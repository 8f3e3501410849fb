"""Replies kept in memory, least recently used out first; identical requests in flight are sent once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from workflow.worker.interface import Reply, WorkerError


@dataclass(slots=True, eq=False)
class _Flight:
    task: asyncio.Task[Reply]
    waiters: int = 0


class ReplyCache:
    """An LRU cache with single flight, for one event loop."""

    def __init__(self, entries: int) -> None:
        """
        Args:
            entries: replies kept; 0 keeps none (requests in flight are still shared).
        """
        self.entries = entries
        self._replies: OrderedDict[bytes, Reply] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}

    async def get(self, key: bytes, fetch: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        """The reply of a key, marked ``cached`` where this call did not fetch it itself.

        A waiter that is cancelled leaves the others alone; the request is cancelled when the last one leaves. Failures
        reach every waiter and are not kept.

        Raises:
            whatever ``fetch`` raises; WorkerError where the cache is closed meanwhile.
        """
        kept = self._replies.get(key)
        if kept is not None:
            self._replies.move_to_end(key)
            return replace(kept, cached=True)
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(self._fetch(key, fetch)))
        flight.waiters += 1
        try:
            reply = await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if flight.task.cancelled() and not (current and current.cancelling()):
                raise WorkerError("The worker client was closed while requests were in flight.") from None
            raise
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and self._flights.get(key) is flight:
                del self._flights[key]
                flight.task.cancel()
        return replace(reply, cached=True) if joined else reply

    async def _fetch(self, key: bytes, fetch: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        reply = await fetch()
        if self.entries:
            self._replies[key] = reply
            if len(self._replies) > self.entries:
                self._replies.popitem(last=False)
        return reply

    def __len__(self) -> int:
        return len(self._replies)

    async def aclose(self) -> None:
        """Cancels what is in flight and forgets the replies."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._replies.clear()
