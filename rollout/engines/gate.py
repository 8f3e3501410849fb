"""Keeps sampling and weight updates of one engine apart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

STOP_AGAIN_S = 0.05
"""Between two attempts to stop requests: one may have reached the engine just after the last."""


class WeightsGate:
    """Many requests sample at a time, or one update of the weights runs: no request to the engine mixes two versions."""

    def __init__(self) -> None:
        self._sampling = 0
        self._updating = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Waits for an update that runs or is due."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._updating)
            self._sampling += 1
        try:
            yield
        finally:
            async with self._changed:
                self._sampling -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def updating(self, stop: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[None]:
        """Waits for the requests in flight; later ones wait for it.

        Args:
            stop: makes the requests in flight end early; called until none is left.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: not self._updating)
            self._updating = True
        try:
            while stop is not None and self._sampling:
                await stop()
                await self._none_sampling(STOP_AGAIN_S)
            await self._none_sampling(None)
            yield
        finally:
            async with self._changed:
                self._updating = False
                self._changed.notify_all()

    async def _none_sampling(self, timeout_s: float | None) -> None:
        """Returns once no request samples, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._sampling == 0)
        except TimeoutError:
            pass
