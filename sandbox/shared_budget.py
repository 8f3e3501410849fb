"""A worker's budget of a minute as one Ray actor, which all sandboxes of a run ask for their turns."""

import asyncio
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sandbox.supervise import await_result
from workflow.settings import WorkerSettings
from workflow.worker.interface import WorkerError
from workflow.worker.pace import MinuteBudget

MOST_WAITING = 100_000
"""Requests of all sandboxes that may wait for their turn; Ray's own bound for an actor is 1000."""


@ray.remote
class BudgetActor:
    """A ``MinuteBudget``; after its process died Ray starts another, whose minute is empty."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self._budget = MinuteBudget(requests, tokens)

    async def take(self, tokens: int) -> int:
        """See ``RequestBudget``."""
        return await self._budget.take(tokens)

    async def settle(self, number: int, tokens: int) -> None:
        """See ``RequestBudget``."""
        self._budget.settle(number, tokens)


class SharedBudget:
    """A ``workflow.worker.pace.RequestBudget`` that may be sent to other processes."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    @classmethod
    def start(cls, settings: WorkerSettings) -> "SharedBudget | None":
        """The budget that the settings ask for, on the node of this process; None where they ask for none."""
        limits = settings.requests_per_minute, settings.tokens_per_minute
        if not any(limits):
            return None
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": MOST_WAITING}
        return cls(BudgetActor.options(**options, scheduling_strategy=here).remote(*limits))

    async def take(self, tokens: int) -> int:
        """See ``RequestBudget``. Raises WorkerError where the actor is lost."""
        try:
            return await await_result(self._actor.take.remote(tokens))
        except RayError as error:
            await asyncio.sleep(1.0)  # its successor is being started
            raise WorkerError(f"The budget of a minute could not be asked ({type(error).__name__}).") from None

    def settle(self, number: int, tokens: int) -> None:
        """See ``RequestBudget``."""
        self._actor.settle.remote(number, tokens)

    def kill(self) -> None:
        """Ends the actor."""
        ray.kill(self._actor)
