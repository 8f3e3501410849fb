"""How long the simulated worker takes: drawn for each request, slept for real, and added up for whoever measures what else there is."""

import asyncio
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from workflow.nano.simulated.skill import stream
from workflow.settings import LatencySettings

MAX_COUNTED = 10_000
"""Seeds of requests that the account holds."""


@dataclass(slots=True)
class Spent:
    """What the requests of one seed took."""

    requests: int = 0
    latency_s: float = 0.0
    """The latency that was drawn."""
    handled_s: float = 0.0
    """From the arrival at the handler to the reply: the latency, and how much too late the server woke."""


class Latency:
    """Lets requests wait, and keeps account."""

    def __init__(self, settings: LatencySettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._spent: defaultdict[str, Spent] = defaultdict(Spent)

    async def wait(self, body: bytes, occurrence: int, seed: object, arrived_s: float) -> None:
        """Returns once the request's latency has passed since ``arrived_s``, a time of ``time.monotonic``."""
        if self._settings.mean_s <= 0:
            return
        drawn_s = self._draw_s(body, occurrence)
        await asyncio.sleep(max(0.0, arrived_s + drawn_s - monotonic()))
        if len(self._spent) > MAX_COUNTED:
            self._spent.clear()
        spent = self._spent[str(seed)]
        spent.requests += 1
        spent.latency_s += drawn_s
        spent.handled_s += monotonic() - arrived_s

    def _draw_s(self, body: bytes, occurrence: int) -> float:
        settings = self._settings
        location = math.log(settings.mean_s) - settings.sigma**2 / 2  # so that mean_s is the mean
        return stream(self._seed, "latency", body, occurrence).lognormvariate(location, settings.sigma)

    def account(self) -> dict[str, dict[str, Any]]:
        """What each seed's requests took, by seed."""
        return {seed: asdict(spent) for seed, spent in self._spent.items()}
