"""How fast an endpoint is asked: as many requests at once as it bears, and no more in a minute than a budget has."""

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Protocol

MINUTE_S = 60.0


class RequestBudget(Protocol):
    """What may be sent in a minute; ``MinuteBudget`` is the one of a single process."""

    async def take(self, tokens: int) -> int:
        """Waits for the turn of a request that may use so many tokens. Returns its number."""
        ...

    def settle(self, number: int, tokens: int) -> None:
        """Says what it did use."""
        ...


class MinuteBudget:
    """No sixty seconds hold more requests or tokens than allowed; first come, first served. For one event loop."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        """
        Args:
            requests, tokens: of a minute; None: no limit. A request that alone may use more tokens waits until no other counts.
        """
        self._requests = requests
        self._most_tokens = tokens
        self._sent: dict[int, tuple[float, int]] = {}
        """Number -> when it was sent and its tokens, of the last minute."""
        self._tokens = 0
        self._number = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self, tokens: int) -> int:
        """See ``RequestBudget``."""
        async with self._turn:
            while (wait_s := self._wait_s(tokens)) > 0:
                self._freed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._freed.wait()
            self._number += 1
            self._sent[self._number] = _now_s(), tokens
            self._tokens += tokens
            return self._number

    def settle(self, number: int, tokens: int) -> None:
        """See ``RequestBudget``. One of more than a minute ago is forgotten."""
        if number in self._sent:
            sent_at, reserved = self._sent[number]
            self._sent[number] = sent_at, tokens
            self._tokens += tokens - reserved
            self._freed.set()

    def _wait_s(self, tokens: int) -> float:
        """Seconds until the oldest request leaves the minute; 0 where there is room without that."""
        now = _now_s()
        while self._sent and (oldest := next(iter(self._sent.values())))[0] <= now - MINUTE_S:
            self._tokens -= oldest[1]
            del self._sent[next(iter(self._sent))]
        full = self._requests is not None and len(self._sent) >= self._requests
        full = full or (self._most_tokens is not None and self._tokens + tokens > self._most_tokens)
        return next(iter(self._sent.values()))[0] + MINUTE_S - now if full and self._sent else 0.0


class Concurrency:
    """How many requests of this process may be open: half as many after one that was refused for load, one more after a round of replies.

    That is TCP's rule (AIMD, Chiu and Jain 1989), by which processes that know nothing of each other come to share an endpoint evenly.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._cut_at = self._pause_until = float("-inf")

    @property
    def allowed(self) -> int:
        """Requests that may be open now."""
        return int(self._allowed)

    async def __aenter__(self) -> float:
        """When the request begins."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
            while (wait_s := self._pause_until - _now_s()) > 0:
                await asyncio.sleep(wait_s)
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        return _now_s()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self._open -= 1
        self._admit()

    def _admit(self) -> None:
        """Lets those in for whom there is room."""
        while self._waiting and self._open < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled meanwhile
                self._open += 1
                turn.set_result(None)

    def raise_after_reply(self) -> None:
        """A request was answered."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
        self._admit()

    def cut_after_refusal(self, began_at: float, pause_s: float) -> None:
        """A request was refused for the endpoint's load.

        Args:
            began_at: when it began; one from before the last cut says nothing of what is allowed since.
            pause_s: how long no request begins.
        """
        self._pause_until = max(self._pause_until, _now_s() + pause_s)
        if began_at > self._cut_at:
            self._cut_at = _now_s()
            self._allowed = max(1.0, min(self._allowed, self._open + 1) / 2)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
