"""Sandboxes as Ray actors, with bounded work in flight: the only file here that knows Ray.

Runs of one problem prefer one actor, so that its caches of worker replies and verdicts are met again; where that
actor is full, the least loaded one takes over, and where all are full, callers wait.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from sandbox.backend import LEVELS
from sandbox.records import Execution, Run, Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.settings import WorkerSettings
from workflow.worker_client import WorkerClient

R = TypeVar("R")

GRACE_S = 30.0
"""Seconds beyond a run's own deadlines after which an actor counts as hung."""


@ray.remote
class SandboxActor:
    """One sandbox with its own zygote and its own client of the worker endpoint."""

    def __init__(self, settings: SandboxSettings, worker: WorkerSettings, worker_url: str) -> None:
        self._client = WorkerClient(worker, worker_url)
        prices = ("prompt_dollars_per_million", "completion_dollars_per_million")
        asked = {"reserved_completion_tokens": worker.max_tokens} | {name: getattr(worker, name) for name in prices}
        settings = settings.model_copy(update={"budget": settings.budget.model_copy(update=asked)})
        self._sandbox = Sandbox(settings, self._client)
        self._started = asyncio.Lock()
        self._up = False

    async def start(self) -> str:
        """Brings the sandbox up, once; returns its isolation level."""
        async with self._started:
            if not self._up:
                await self._sandbox.backend.start()
                self._up = True
        return self._sandbox.backend.level

    async def run(self, workflow: Workflow, problem: Problem, seed: int, public: bool) -> Run:
        """Executes and judges."""
        await self.start()
        return await self._sandbox.run(workflow, problem, seed, public=public)

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """Judges an answer by the hidden tests."""
        await self.start()
        return await self._sandbox.judge(problem, answer)

    async def close(self) -> None:
        """Ends every process of the sandbox."""
        await self._sandbox.close()
        await self._client.aclose()


class SandboxPool:
    """The driver's handle on all sandbox actors."""

    def __init__(
        self,
        settings: SandboxSettings,
        worker: WorkerSettings,
        worker_url: str,
        place: Callable[[int], Mapping[str, Any]] | None = None,
    ) -> None:
        """
        Args:
            place: Ray actor options that say where the actor with a number runs.
        """
        self.settings = settings
        self.level = ""
        self._place = place or (lambda index: {})
        self._worker = worker
        self._worker_url = worker_url
        self._actors: list[Any] = []
        self._load: list[int] = []
        self._free = asyncio.Condition()

    async def start(self) -> None:
        """Starts all actors. Raises ValueError where a machine offers less than ``sandbox.min_level``."""
        options = {"num_cpus": self.settings.cpus_per_actor, "max_restarts": -1, "max_concurrency": 2 * self.settings.slots_per_actor}
        self._actors = [
            SandboxActor.options(**options, **self._place(index)).remote(self.settings, self._worker, self._worker_url)
            for index in range(self.settings.actors)
        ]
        self._load = [0] * len(self._actors)
        try:
            levels = await asyncio.gather(*(actor.start.remote() for actor in self._actors))
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, ValueError) else error from None
        self.level = min(levels, key=LEVELS.index)

    async def run(self, workflow: Workflow, problem: Problem, seed: int, *, public: bool = False) -> Run:
        """One execution with its verdict (``public``: also by the public tests); infrastructure errors are retried, then come back
        as INFRA_ERROR."""

        def failed(message: str) -> Run:
            return Run(Execution(Outcome.INFRA_ERROR, None, (), message, 0.0, self.level), None)

        deadline_s = self.settings.limits.workflow_wall_s + self.settings.limits.wall_s * 2 + GRACE_S
        return await self._with_retries(
            problem.id, lambda actor: actor.run.remote(workflow, problem, seed, public), lambda run: run.outcome, failed, deadline_s
        )

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """The answer against the hidden tests; infrastructure errors are retried, then come back as INFRA_ERROR."""

        def failed(message: str) -> Verdict:
            return Verdict(Outcome.INFRA_ERROR, (), (message,), 0.0, self.level)

        deadline_s = self.settings.limits.wall_s * 2 + GRACE_S
        return await self._with_retries(
            problem.id, lambda actor: actor.judge.remote(problem, answer), lambda verdict: verdict.outcome, failed, deadline_s
        )

    async def _with_retries(
        self,
        key: str,
        call: Callable[[Any], Awaitable[R]],
        outcome: Callable[[R], Outcome],
        failed: Callable[[str], R],
        deadline_s: float,
    ) -> R:
        result = failed("not run")
        avoid: int | None = None
        for attempt in range(self.settings.retries + 1):
            if attempt:
                await asyncio.sleep(min(5.0, 0.2 * 2**attempt))
            index = await self._take(key, avoid)
            try:
                async with asyncio.timeout(deadline_s):  # not wait_for, which loses a cancellation that meets the result
                    result = await _awaited(call(self._actors[index]))
            except (RayError, TimeoutError) as error:
                result = failed(f"sandbox actor {index}: {type(error).__name__}"[:300])
            finally:
                await self._give_back(index)
            if outcome(result) is not Outcome.INFRA_ERROR:
                return result
            avoid = index
        return result

    async def _take(self, key: str, avoid: int | None) -> int:
        """A slot: the key's own actor where it has one free, else the least loaded actor; waits where all are full."""
        own = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % len(self._actors)
        async with self._free:
            while True:
                free = [index for index, load in enumerate(self._load) if load < self.settings.slots_per_actor]
                preferred = [index for index in free if index != avoid] or free
                if preferred:
                    index = own if own in preferred else min(preferred, key=lambda i: self._load[i])
                    self._load[index] += 1
                    return index
                await self._free.wait()

    async def _give_back(self, index: int) -> None:
        async with self._free:
            self._load[index] -= 1
            self._free.notify()

    async def close(self) -> None:
        """Closes every sandbox and ends the actors; bounded in time, also where actors hang."""
        deadline = time.monotonic() + 10
        for actor in self._actors:
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(_awaited(actor.close.remote()), max(0.1, deadline - time.monotonic()))
            ray.kill(actor)
        self._actors = []


async def _awaited(reference: Awaitable[R]) -> R:
    """The result of an actor's call; where the caller gives up, the actor does so too."""
    try:
        return await reference
    except asyncio.CancelledError:
        with contextlib.suppress(RayError):
            ray.cancel(reference)
        raise
