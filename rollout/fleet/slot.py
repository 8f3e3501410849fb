"""The place of one rollout engine: which engine sits there, what it does, and its repair after a failure."""

import asyncio
from collections.abc import Awaitable, Callable

from ray.exceptions import RayError

from rollout.engines.interface import Engine
from rollout.failures import LESS_MEMORY
from rollout.fleet.delivery import reason
from rollout.fleet.health import EngineLedger
from workflow.outcome import RunFailedError

STARTS = 3
"""Engines that are started in one place, one after another, before it is given up."""
START_TIMEOUT_S = 600.0
"""Seconds for an engine to load a model and answer."""
TELL_EVERY_S = 30.0
"""Between two lines about an engine for which the cluster has no room."""


class EngineSlot:
    """Holds an engine, or is being repaired, or is lost."""

    def __init__(
        self, name: str, new_engine: Callable[[], Engine], catch_up: Callable[[Engine], Awaitable[int]], say: Callable[[str], None]
    ):
        """
        Args:
            name: for messages.
            catch_up: gives a new engine the current weights; their version. A RuntimeError is the engine's fault.
            say: prints one line.
        """
        self._name = name
        self._new_engine = new_engine
        self._catch_up = catch_up
        self._say = say
        self.engine = new_engine()
        self.ledger = EngineLedger()
        self.lost = ""
        """Why no engine can be had here; empty where one can."""
        self._repair: asyncio.Task[None] | None = None

    @property
    def repair(self) -> "asyncio.Task[None] | None":
        """The repair under way."""
        return self._repair if self._repair is not None and not self._repair.done() else None

    @property
    def up(self) -> bool:
        """True where the engine takes requests, as far as is known."""
        return not self.lost and self.repair is None

    async def start(self) -> None:
        """Brings the first engine up.

        Raises:
            RunFailedError: it does not come up.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self.engine.ready()
        except (RayError, TimeoutError) as error:
            self.engine.kill()
            raise RunFailedError(f"{self._name} does not start: {reason(error)}. {LESS_MEMORY}") from None

    def mend(self, broken: Engine, why: str) -> None:
        """Begins to put a new engine in the place of ``broken``, once, whoever notices it first."""
        if self.engine is not broken or not self.up:
            return
        broken.kill()
        self._say(f"{self._name} failed ({why}): a new one is started and gets the current weights.")
        self._repair = asyncio.ensure_future(self._replace())

    async def _replace(self) -> None:
        why = ""
        for _ in range(STARTS):
            engine = self._new_engine()
            try:
                await self._placed(engine)
                async with asyncio.timeout(START_TIMEOUT_S):
                    await engine.ready()
                held = await self._catch_up(engine)
            except (RayError, TimeoutError, RuntimeError) as error:
                engine.kill()
                why = reason(error)
            except BaseException:
                engine.kill()
                raise
            else:
                self.engine = engine  # only now: before, it would sample from the weights it started with
                self.ledger.replaced(held)
                return
        self.lost = why
        self._say(f"{self._name} IS GIVEN UP: {STARTS} new ones in a row failed, the last with: {why}")

    async def _placed(self, engine: Engine) -> None:
        """Waits until the cluster has room for it, and says so meanwhile."""
        placed = asyncio.ensure_future(engine.placed())
        try:
            while not (await asyncio.wait({placed}, timeout=TELL_EVERY_S))[0]:
                self._say(f"{self._name} waits for a node with room for it.")
            await placed
        finally:
            placed.cancel()

    async def close(self, timeout_s: float) -> None:
        """Ends the engine and its processes; also in the middle of a start."""
        if (repair := self.repair) is not None:
            repair.cancel()
            await asyncio.gather(repair, return_exceptions=True)
        try:
            async with asyncio.timeout(timeout_s):
                await self.engine.close()
        except (RayError, TimeoutError):
            pass
        self.engine.kill()
