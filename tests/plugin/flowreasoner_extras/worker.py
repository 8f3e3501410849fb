"""A worker: what answers the operators. This one asks no endpoint; it looks answers up, and is wrong now and then."""

import random
from collections.abc import Sequence

from workflow.settings import WorkerSettings
from workflow.worker.interface import Message, Reply
from workflow.worker.providers import PROVIDERS

ATLAS = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo", "Ghana": "Accra", "Cuba": "Havana"}


@PROVIDERS.register("atlas")
class AtlasWorker:
    """Every process that asks makes one from the settings alone."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        """Equal arguments give equal replies, so that siblings of a group meet the same worker."""
        question = messages[-1]["content"]
        right = next((capital for country, capital in ATLAS.items() if country in question), "I do not know.")
        chance = random.Random(f"{seed} {ordinal} {question}")
        text = right if chance.random() < 0.7 else chance.choice(list(ATLAS.values()))
        return Reply(text, len(question) // 4, len(text) // 4, cost_dollars=0.0, latency_s=0.0)
