"""What one workflow run may spend, reserved before a call is sent and settled with what it used."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from sandbox.settings import BudgetSettings
from workflow.operators.context import BudgetExceeded
from workflow.worker.interface import Message

MESSAGE_TOKENS = 16
"""What a chat template may add to a message."""


class Reserved(NamedTuple):
    """The most that one worker call may use."""

    prompt_tokens: int
    completion_tokens: int
    dollars: float

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


class Budget:
    """What is left of a run's calls, tokens and dollars; none can be overdrawn, however many calls are in flight."""

    def __init__(self, settings: BudgetSettings) -> None:
        self._settings = settings
        self._waiting: list[asyncio.Future[None]] = []
        """One for each reservation that waits for another one to be settled."""
        self.calls = 0
        self.tokens = 0
        self.dollars = 0.0
        """Used and reserved, as are the tokens."""
        self.in_flight = 0
        """Reservations not yet settled."""
        self.refused = 0
        """Times that it said no."""

    def take_call(self) -> None:
        """Charges one operator call. Raises BudgetExceeded."""
        if self.calls >= self._settings.calls:
            self.refused += 1
            raise BudgetExceeded(f"the budget of {self._settings.calls} operator calls is spent")
        self.calls += 1

    async def reserve(self, messages: Sequence[Message], max_tokens: int | None, rates: BudgetSettings | None = None) -> Reserved:
        """Sets aside the most that one worker call may use (a token is a byte or more) and says how much.

        Waits where calls in flight may give enough back. Raises BudgetExceeded.

        Args:
            rates: with the prices and the usual completion of the worker that is asked; None: those of the run's settings.
        """
        settings = rates or self._settings
        prompt = sum(len(message["content"].encode("utf-8", "replace")) + MESSAGE_TOKENS for message in messages)
        completion = max_tokens or settings.reserved_completion_tokens
        dollars = (prompt * settings.prompt_dollars_per_million + completion * settings.completion_dollars_per_million) / 1e6
        wanted = Reserved(prompt, completion, dollars)
        while (lack := self._lacks(wanted)) and self.in_flight:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        if lack:
            self.refused += 1
            raise BudgetExceeded(f"the budget of {lack} is spent")
        self.tokens += wanted.tokens
        self.dollars += wanted.dollars
        self.in_flight += 1
        return wanted

    def _lacks(self, wanted: Reserved) -> str:
        """What a reservation would overdraw, in words; empty where it fits."""
        if self.tokens + wanted.tokens > self._settings.tokens:
            return f"{self._settings.tokens} worker tokens"
        return f"{self._settings.dollars:g} dollars" if self.dollars + wanted.dollars > self._settings.dollars else ""

    def settle(self, reserved: Reserved, tokens: int, dollars: float) -> None:
        """Replaces a reservation by what was used."""
        self.tokens += tokens - reserved.tokens
        self.dollars += dollars - reserved.dollars
        self.in_flight -= 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
