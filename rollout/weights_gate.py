"""Keeps sampling and weight updates of one engine apart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class WeightsGate:
    """Many requests sample at a time, or one update of the weights runs: no completion mixes two versions."""

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
    async def updating(self) -> AsyncIterator[None]:
        """Waits for the requests in flight; later ones wait for it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._updating)
            self._updating = True
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._sampling == 0)
            yield
        finally:
            async with self._changed:
                self._updating = False
                self._changed.notify_all()
