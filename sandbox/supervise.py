"""Actors in their places: one that dies or hangs is replaced, beside the work, by a new one in the same place."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray.exceptions import ActorDiedError, RayError

STARTS = 3
"""Actors that are started in one place, one after another, before it is given up."""
TELL_EVERY_S = 30.0
"""Between two lines about an actor for which the cluster has no room."""
NEVER_RAN = "The actor never ran"
"""In Ray's words for an actor that had no process yet when its node died."""
AGAIN_S = 1.0
"""Before such an actor is asked for anew."""
T = TypeVar("T")


class Replaceable(Protocol):
    """An actor as its place sees it; ``RayActor`` is the real one."""

    async def placed(self) -> None:
        """Returns once it has a process on a node."""
        ...

    async def ready(self) -> Any:
        """Returns once it can work."""
        ...

    async def close(self) -> None:
        """Ends what it started."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


A = TypeVar("A", bound=Replaceable)


class RayActor:
    """A Ray actor that Ray does not restart: its place does, where it knows what a new one needs."""

    def __init__(self, new: Callable[[], Any]) -> None:
        """
        Args:
            new: asks Ray for an actor.
        """
        self._new = new
        self.handle: Any = new()
        self._killed = False

    async def placed(self) -> None:
        """Returns once its process runs."""
        await self.once_it_runs(lambda actor: actor.__ray_ready__.remote())

    async def once_it_runs(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """The answer of an actor that is being started.

        A replacement is often asked for before Ray knows that the whole node died. Ray then gives the actor up and moves its bundle:
        another actor is asked for, which waits for the bundle's next node.
        """
        while True:
            try:
                return await call(self.handle)
            except ActorDiedError as error:
                if self._killed or NEVER_RAN not in str(error):
                    raise
                await asyncio.sleep(AGAIN_S)
                self.handle = self._new()

    async def close(self) -> None:
        """Ends what it started."""
        await self.handle.close.remote()

    def kill(self) -> None:
        """Kills the actor; processes of its own notice and end."""
        self._killed = True
        ray.kill(self.handle)


class Supervised(Generic[A]):
    """The place of one actor: it is up, or a new one is being started, or the place is given up."""

    def __init__(
        self, name: str, new_actor: Callable[[], A], *, start_timeout_s: float, meanwhile: str, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            name: for messages.
            start_timeout_s: for an actor that has its place to become ready.
            meanwhile: what a failure leads to, for messages.
            say: prints one line.
        """
        self.name = name
        self._new_actor = new_actor
        self._start_timeout_s = start_timeout_s
        self._meanwhile = meanwhile
        self._say = say
        self.actor = new_actor()
        self.up = True
        """Whether the actor takes work, as far as is known."""
        self.lost = ""
        """Why no actor can be had here; empty where one can."""
        self._repair: asyncio.Task[None] | None = None

    @property
    def repair(self) -> "asyncio.Task[None] | None":
        """The repair under way."""
        return self._repair if self._repair is not None and not self._repair.done() else None

    def mend(self, broken: A, why: str) -> None:
        """Begins to put a new actor in the place of ``broken``, once, whoever notices it first."""
        if self.actor is not broken or not self.up:
            return
        broken.kill()
        self.up = False
        self._say(f"{self.name} failed ({why}): {self._meanwhile}.")
        self._repair = asyncio.ensure_future(self._replace())

    async def welcome(self, actor: A) -> None:
        """Gives a new actor what it needs before it takes work. An exception means that it is of no use."""

    async def settled(self) -> None:
        """A repair came to its end, either way."""

    async def _replace(self) -> None:
        why = ""
        for _ in range(STARTS):
            actor = self._new_actor()
            try:
                await self._wait_for_room(actor)
                async with asyncio.timeout(self._start_timeout_s):
                    await actor.ready()
                await self.welcome(actor)
            except BaseException as error:
                actor.kill()
                if not isinstance(error, Exception):
                    raise
                why = reason(error)
            else:
                self.actor, self.up = actor, True  # only now: before, it lacked what it needs
                break
        else:
            self.lost = why
            self._say(f"{self.name} IS GIVEN UP: {STARTS} new ones in a row failed, the last with: {why}")
        await self.settled()

    async def _wait_for_room(self, actor: A) -> None:
        """Waits until the cluster has room for it, and says so meanwhile."""
        placed = asyncio.ensure_future(actor.placed())
        try:
            while not (await asyncio.wait({placed}, timeout=TELL_EVERY_S))[0]:
                self._say(f"{self.name} waits for a node with room for it.")
            await placed
        finally:
            placed.cancel()

    async def close(self, timeout_s: float) -> None:
        """Ends the actor and its processes; also in the middle of a repair."""
        if (repair := self.repair) is not None:
            repair.cancel()
            await asyncio.gather(repair, return_exceptions=True)
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.actor.close()
        self.actor.kill()


async def await_result(reference: Awaitable[T]) -> T:
    """The result of an actor's call; where the caller gives up, the actor does so too."""
    try:
        return await reference
    except asyncio.CancelledError:
        with contextlib.suppress(RayError):
            ray.cancel(reference)  # pyright: ignore[reportArgumentType]
        raise


def reason(error: BaseException) -> str:
    """A remote failure in one line; of Ray's guesses why a process ended, none."""
    text = str(error).split(" Worker exit type")[0]
    lines = [line for line in text.strip().splitlines() if line.strip() and not line.strip().startswith("For further information")]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no answer in time'}"[:400]
