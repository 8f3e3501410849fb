"""The processes in which tests run: standing judges for our own tests, which go on from answer to answer, fresh ones for all others."""

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sandbox.backend import Backend
from sandbox.channel import Channel
from sandbox.process import Process

MAX_IDLE = 8
"""Standing judges that wait for an answer."""


@dataclass(slots=True)
class Judge:
    """One judge's process."""

    process: Process
    channel: Channel
    stays: bool = False
    """True where it may judge another answer: it said so after the last one, and all was in order."""

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.channel.close()


class Bench:
    """Hands out judges, each to one answer at a time."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._idle: list[Judge] = []

    @property
    def idle(self) -> int:
        """Standing judges that wait."""
        return len(self._idle)

    @contextlib.asynccontextmanager
    async def judge(self, *, standing: bool) -> AsyncIterator[Judge]:
        """A judge for one answer; it ends with it unless its ``stays`` is set. Raises BackendError.

        Args:
            standing: the tests are our own; others get a process that no one's tests have met.
        """
        judge = self._waiting() if standing else None
        judge = judge or await self._new("standing judge" if standing else "judge")
        judge.stays = False
        try:
            yield judge
        finally:
            if judge.stays and standing and len(self._idle) < MAX_IDLE:
                self._idle.append(judge)
            else:
                judge.close()

    def _waiting(self) -> Judge | None:
        while self._idle:
            judge = self._idle.pop()  # the last one that worked: its memory is warm
            if not judge.process.exited.done():
                return judge
            judge.close()
        return None

    async def _new(self, role: str) -> Judge:
        ours, theirs = socket.socketpair()
        try:
            process = await self.backend.spawn(role, [theirs])
        except BaseException:
            ours.close()
            raise
        return Judge(process, Channel(ours))

    def close(self) -> None:
        """Ends the standing judges."""
        while self._idle:
            self._idle.pop().close()
