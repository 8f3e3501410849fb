"""Who answers for the worker LLM and for the teacher, by the setting ``provider``: the one place that makes workers.

It names one of two kinds of things. A *worker* is a class that satisfies ``workflow.worker.interface.Worker``; every process that asks
makes one from the settings alone. A *provider* starts what must run as long as the run does, once, beside the driver, and gives the
settings back in the form in which workers are made from them, mostly those of an endpoint.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow.registry import Registry
from workflow.settings import SimulatedWorkerSettings, TaskSettings, WorkerSettings
from workflow.worker.client import WorkerClient
from workflow.worker.interface import Worker


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a provider may know of the run that it starts something for."""

    folder: Path
    """For logs."""
    tasks: TaskSettings
    simulated: SimulatedWorkerSettings
    host: str | None = None
    """Address under which other nodes reach this one; None: the run has no other nodes."""
    imports: tuple[str, ...] = ()
    """``trainer.imports``, for processes that look names up."""
    say: Callable[[str], None] = print
    """Prints one line."""


Provider = Callable[[Sequence[WorkerSettings], Surroundings], AbstractAsyncContextManager[Sequence[WorkerSettings]]]
"""From all settings that name it to the same with which workers can be made, in their order."""

PROVIDERS: Registry[Callable[..., Any]] = Registry("worker.provider", {"endpoint": WorkerClient})
"""Workers and providers by name."""


def is_worker(provider: Callable[..., Any]) -> bool:
    """True for a worker, False for a provider."""
    return inspect.isclass(provider) and hasattr(provider, "complete")


@asynccontextmanager
async def start_providers(asked: Mapping[str, WorkerSettings], run: Surroundings) -> AsyncIterator[dict[str, WorkerSettings]]:
    """The settings with which workers can be made. A provider that several of them name is started once.

    Raises:
        ValueError: there is no such provider, or it cannot be started with these settings.
    """
    ready = dict(asked)
    async with AsyncExitStack() as stack:
        for name in dict.fromkeys(settings.provider for settings in asked.values()):
            provider: Any = PROVIDERS.find(name)
            if not is_worker(provider):
                theirs = [key for key, settings in asked.items() if settings.provider == name]
                started = await stack.enter_async_context(provider([asked[key] for key in theirs], run))
                ready |= dict(zip(theirs, started, strict=True))
        yield ready


def make_worker(settings: WorkerSettings) -> Worker:
    """A worker for this process. Raises ValueError where none can be made from these settings."""
    worker = PROVIDERS.find(settings.provider)
    if not is_worker(worker):
        raise ValueError(f"{settings.section}.provider={settings.provider} starts a server, which is not up: it is started with a run.")
    return worker(settings)


@asynccontextmanager
async def open_worker(settings: WorkerSettings, say: Callable[[str], None]) -> AsyncIterator[Worker]:
    """A worker that has answered once, where it can ``check`` that and ``worker.check`` asks for it; says what it does not take. It is
    closed at the end.

    Raises:
        ValueError: it cannot be made, or gives no completion.
    """
    worker = make_worker(settings)
    try:
        check = getattr(worker, "check", None)
        if check and settings.check == "auto" and (note := await check()):
            say(note)
        yield worker
    finally:
        await close_worker(worker)


async def check_worker(settings: WorkerSettings, say: Callable[[str], None]) -> WorkerSettings:
    """The settings with which processes make a worker that has answered here: they leave out what it was found not to take.

    Raises:
        ValueError: as ``open_worker``.
    """
    async with open_worker(settings, say) as worker:
        return settings.model_copy(update={"leave_out": getattr(worker, "left_out", settings.leave_out)})


async def close_worker(worker: Worker) -> None:
    """Calls its ``aclose``, where it has one."""
    if close := getattr(worker, "aclose", None):
        await close()
