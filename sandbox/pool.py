"""Sandboxes as Ray actors, with bounded work in flight.

Runs of one problem prefer one actor, so that its caches of worker replies and verdicts are met again; where that
actor is full, the least loaded one takes over, and where all are full, callers wait. An actor that dies or hangs gets no runs
until it answers again; Ray starts it anew, elsewhere where its node is gone. While none answers, callers wait.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from sandbox.actor import SandboxActor
from sandbox.backend import LEVELS
from sandbox.deadline import longest_s
from sandbox.records import Execution, Run, Verdict
from sandbox.settings import SandboxSettings
from workflow.outcome import Outcome, RunFailedError
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.settings import WorkerSettings

R = TypeVar("R")

GRACE_S = 30.0
"""Seconds beyond the most that a run's own deadlines may last, after which an actor counts as hung."""
START_TIMEOUT_S = 90.0
"""Seconds for a sandbox to prove its isolation."""
STARTS = 3
"""Times that a restarted actor's sandbox is started before the actor is given up."""
TELL_EVERY_S = 30.0
"""Between two lines about an actor that is down."""


class SandboxPool:
    """The driver's handle on all sandbox actors."""

    def __init__(
        self,
        settings: SandboxSettings,
        worker: WorkerSettings,
        *,
        imports: tuple[str, ...] = (),
        place: Callable[[int], Mapping[str, Any]] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """
        Args:
            worker: settings with which a worker can be made; each actor makes one.
            imports: modules that every actor imports first, ``trainer.imports``.
            place: Ray actor options that say where the actor with a number runs.
            say: prints one line.
        """
        self.settings = settings
        self.level = ""
        self._place = place or (lambda index: {})
        self._say = say
        self._reviving: dict[int, asyncio.Task[None]] = {}
        self._lost: dict[int, str] = {}
        """Why an actor is of no use any more, by its number."""
        self._worker = worker
        self._imports = imports
        self._actors: list[Any] = []
        self._load: list[int] = []
        self._free = asyncio.Condition()

    async def start(self) -> None:
        """Starts all actors. Raises ValueError where a machine offers less than ``sandbox.min_level`` or one of the imports."""
        options = {"num_cpus": self.settings.cpus_per_actor, "max_restarts": -1, "max_concurrency": 2 * self.settings.slots_per_actor}
        self._actors = [
            SandboxActor.options(**options, **self._place(index)).remote(self.settings, self._worker, self._imports)
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

        limits = self.settings.limits
        deadline_s = longest_s(limits.workflow_wall_s) + longest_s(limits.wall_s) * 2 + GRACE_S
        return await self._with_retries(
            problem.id, lambda actor: actor.run.remote(workflow, problem, seed, public), lambda run: run.outcome, failed, deadline_s
        )

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """The answer against the hidden tests; infrastructure errors are retried, then come back as INFRA_ERROR."""

        def failed(message: str) -> Verdict:
            return Verdict(Outcome.INFRA_ERROR, (), (message,), 0.0, self.level)

        deadline_s = longest_s(self.settings.limits.wall_s) * 2 + GRACE_S
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
        tries = lost = 0
        while tries <= self.settings.retries and lost <= len(self._actors) + self.settings.retries:
            if tries:
                await asyncio.sleep(min(5.0, 0.2 * 2**tries))
            index = await self._take(key, avoid)
            try:
                async with asyncio.timeout(deadline_s):  # not wait_for, which loses a cancellation that meets the result
                    result = await _awaited(call(self._actors[index]))
                tries += 1
            except (RayError, TimeoutError) as error:
                result = failed(f"sandbox actor {index}: {type(error).__name__}"[:300])
                lost += 1  # apart: that an actor died says little about the run, and all of a node's may die at once
                self._revive(index, type(error).__name__)
            finally:
                await self._give_back(index)
            if outcome(result) is not Outcome.INFRA_ERROR:
                return result
            avoid = index
        return result

    async def _take(self, key: str, avoid: int | None) -> int:
        """A slot: the key's own actor where it has one free, else the least loaded actor; waits where all are full or down.

        Raises:
            RunFailedError: none is left.
        """
        own = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % len(self._actors)
        async with self._free:
            while True:
                if len(self._lost) == len(self._actors):
                    lost = "; ".join(self._lost.values())
                    raise RunFailedError(f"No sandbox is left: {lost}. Mend the cause, then give the same command again.")
                down = self._reviving.keys() | self._lost.keys()
                free = [index for index, load in enumerate(self._load) if load < self.settings.slots_per_actor and index not in down]
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

    def _revive(self, index: int, why: str) -> None:
        """Takes an actor out until it answers again, once, whoever notices it first."""
        if index in self._reviving or index in self._lost:
            return
        self._say(f"Sandbox actor {index + 1} of {len(self._actors)} failed ({why}): it gets no runs until it is up again.")
        self._reviving[index] = asyncio.ensure_future(self._wait_for(index))

    async def _wait_for(self, index: int) -> None:
        """Returns once the actor is restarted and its sandbox up, or given up; an actor that hangs is killed."""
        actor, began, told, refusals = self._actors[index], time.monotonic(), 0, 0
        while True:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await actor.start.remote()
                break
            except RayTaskError as error:
                refusals += 1
                if refusals == STARTS:
                    self._lost[index] = f"Sandbox actor {index + 1} does not start: {error.cause}"
                    self._say(f"GIVEN UP: {self._lost[index]}")
                    break
            except TimeoutError:
                with contextlib.suppress(RayError):
                    ray.kill(actor, no_restart=False)  # it hangs, or waits for a node, which this does not change
            except RayError:
                await asyncio.sleep(1.0)
            if time.monotonic() - began > (told + 1) * TELL_EVERY_S:
                told += 1
                self._say(f"Sandbox actor {index + 1} waits for a node with room for it.")
        async with self._free:
            del self._reviving[index]
            self._free.notify_all()

    async def close(self) -> None:
        """Closes every sandbox and ends the actors; bounded in time, also where actors hang."""
        for task in self._reviving.values():
            task.cancel()
        await asyncio.gather(*self._reviving.values(), return_exceptions=True)
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
