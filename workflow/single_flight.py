"""Values that are computed once: kept, least recently used out first, and shared while they are being computed."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class SingleFlight(Generic[V]):
    """An LRU cache in which equal keys that are asked for at once are computed once; for one event loop."""

    def __init__(self, entries: int, closed: Callable[[], Exception], keeps: Callable[[V], bool] = lambda value: True) -> None:
        """
        Args:
            entries: values kept; 0 keeps none (computations under way are still shared).
            closed: makes the error for those who wait while the cache is closed.
            keeps: whether a value may be given to later askers.
        """
        self.entries = entries
        self._closed = closed
        self._keeps = keeps
        self._values: OrderedDict[bytes, V] = OrderedDict()
        self._flights: dict[bytes, _Flight[V]] = {}

    async def get(self, key: bytes, compute: Callable[[], Coroutine[Any, Any, V]]) -> tuple[V, bool]:
        """The value of a key, and True where this call did not compute it itself.

        A waiter that is cancelled leaves the others alone; the computation is cancelled when the last one leaves, and whoever asks
        from then on begins another. Failures reach every waiter and are not kept.

        Raises:
            whatever ``compute`` raises; ``closed()`` where the cache is closed meanwhile.
        """
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key], True
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(self._compute(key, compute)))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task), joined
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if flight.task.cancelled() and not (current and current.cancelling()):
                raise self._closed() from None
            raise
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and self._flights.get(key) is flight:
                del self._flights[key]
                flight.task.cancel()

    async def _compute(self, key: bytes, compute: Callable[[], Coroutine[Any, Any, V]]) -> V:
        value = await compute()
        if self.entries and self._keeps(value):
            self._values[key] = value
            if len(self._values) > self.entries:
                self._values.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._values)

    async def aclose(self) -> None:
        """Cancels what is under way and forgets the values."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._values.clear()
