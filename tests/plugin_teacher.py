"""A teacher for short runs: the simulated one never writes an operator that it does not know."""

import random
from collections.abc import Sequence

from workflow.settings import WorkerSettings
from workflow.worker.interface import Message, Reply

BODIES = (
    "        return await self.answer(problem)\n",
    "        first = await self.answer(problem)\n        return await self.vote(problem, [first, first])\n",
)


class VotingTeacher:
    """Answers with one of two workflows, one of which votes."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        body = random.Random(seed).choice(BODIES)
        text = f"A name. Plan: ask.\n```python\nclass Workflow:\n    async def __call__(self, problem):\n{body}```"
        return Reply(text, 1, 1, 0.0, 0.0)
