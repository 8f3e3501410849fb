"""What the sandbox tests share: a scripted worker, workflows past the static checks, one sandbox of a given level."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import psutil
import pytest

from sandbox.backend import ZygoteBackend
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.worker.interface import Message, Reply, WorkerError

PROBLEM = Problem("t/0", "Write f(xs) that adds.", "f", ("assert f([1, 2]) == 3",), ("assert f([4, 5]) == 9",))
ANSWER = "```python\ndef f(xs):\n    return sum(xs)\n```"


class ScriptedWorker:
    """Always gives the same answer, or always fails; notes each request's seed and ordinal and how many were in flight."""

    def __init__(
        self,
        text: str = ANSWER,
        *,
        fails: bool | Exception = False,
        latency_s: float = 0.0,
        tokens: tuple[int, int] = (10, 20),
        finish_reason: str = "",
    ) -> None:
        self.text, self.fails, self.latency_s, self.tokens = text, fails, latency_s, tokens
        self.finish_reason = finish_reason
        self.seeds: list[tuple[int, int]] = []
        self.in_flight = self.most_in_flight = 0

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        self.seeds.append((seed, ordinal))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.latency_s)
        self.in_flight -= 1
        if self.fails:
            raise self.fails if isinstance(self.fails, Exception) else WorkerError("the endpoint is down")
        return Reply(self.text, *self.tokens, 0.001, 0.0, finish_reason=self.finish_reason)


def raw(body: str) -> Workflow:
    """A workflow past the static checks: the box has to hold by itself."""
    lines = "\n".join("        " + line for line in body.splitlines())
    source = f"import asyncio, os, signal, socket, sys\nclass Workflow:\n    async def __call__(self, problem):\n{lines}\n"
    return Workflow(source, "raw", (), 0, 0, 0, 3)


@contextlib.asynccontextmanager
async def box(level: str, settings: SandboxSettings | None = None, worker: ScriptedWorker | None = None) -> AsyncIterator[Sandbox]:
    """A sandbox of exactly this level; the test skips where this machine does not reach it."""
    settings = settings or SandboxSettings()
    sandbox = Sandbox(settings, worker or ScriptedWorker(), ZygoteBackend(settings, (level,)))
    try:
        await sandbox.backend.start()
    except ValueError as error:
        pytest.skip(str(error))
    try:
        yield sandbox
    finally:
        await sandbox.close()


def descendants() -> set[int]:
    """Processes below this one that have not ended."""
    alive = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.add(child.pid)
    return alive
