"""The simulated worker as a provider: one server for worker and teacher, kept alive as long as the run."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from workflow.nano.simulated.process import KeptAlive, start_simulated_worker
from workflow.settings import WorkerSettings
from workflow.worker.providers import Surroundings


@asynccontextmanager
async def simulated_worker(asked: Sequence[WorkerSettings], run: Surroundings) -> AsyncIterator[list[WorkerSettings]]:
    """The same settings as those of an endpoint, at the server's address. Raises as ``start_simulated_worker``."""
    settings = run.simulated.model_copy(update={"host": run.simulated.host or run.host})
    worker = await asyncio.to_thread(start_simulated_worker, settings, run.tasks, run.folder, imports=run.imports)
    kept = KeptAlive(worker, run.say)
    try:
        yield [one.model_copy(update={"provider": "endpoint", "base_url": worker.base_url}) for one in asked]
    finally:
        await kept.close()
