"""The place of one rollout engine: which engine sits there, what it does, and its repair after a failure."""

import asyncio
from collections.abc import Awaitable, Callable

from ray.exceptions import RayError

from rollout.engines.interface import Engine
from rollout.failures import LESS_MEMORY
from rollout.fleet.health import EngineLedger
from sandbox.supervise import Supervised, reason
from workflow.outcome import RunFailedError

START_TIMEOUT_S = 600.0
"""Seconds for an engine to load a model and answer."""


class EngineSlot(Supervised[Engine]):
    """Holds an engine, or is being repaired, or is lost."""

    def __init__(
        self, name: str, new_engine: Callable[[], Engine], catch_up: Callable[[Engine], Awaitable[int]], say: Callable[[str], None]
    ) -> None:
        """
        Args:
            catch_up: gives a new engine the current weights; their version. An error means that the engine is of no use.
        """
        meanwhile = "a new one is started and gets the current weights"
        super().__init__(name, new_engine, start_timeout_s=START_TIMEOUT_S, meanwhile=meanwhile, say=say)
        self._catch_up = catch_up
        self.ledger = EngineLedger()

    async def start(self) -> None:
        """Brings the first engine up.

        Raises:
            RunFailedError: it does not come up.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self.actor.ready()
        except (RayError, TimeoutError) as error:
            self.actor.kill()
            raise RunFailedError(f"{self.name} does not start: {reason(error)}. {LESS_MEMORY}") from None

    async def welcome(self, actor: Engine) -> None:
        """Before it takes requests it gets the weights that they are to be sampled from."""
        self.ledger.replaced(await self._catch_up(actor))
