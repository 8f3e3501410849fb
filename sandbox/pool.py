"""Sandboxes as Ray actors, with bounded work in flight.

Runs of one problem prefer one actor, so that its caches of worker replies and verdicts are met again; where that
actor is full, the least loaded one takes over, and where all are full, callers wait. An actor that dies or hangs is replaced
(``sandbox.supervise``), elsewhere where its node is gone. While none is up, callers wait.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError

from sandbox.actor import JUDGE, SandboxActor
from sandbox.backend import LEVELS
from sandbox.deadline import longest_s
from sandbox.judges import longest_judging_s
from sandbox.records import Execution, Run, Verdict
from sandbox.settings import SandboxSettings
from sandbox.shared_budget import SharedBudget
from sandbox.supervise import RayActor, Supervised, await_result, reason
from workflow.outcome import Outcome, RunFailedError
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.settings import WorkerSettings
from workflow.worker.crew import DEFAULT_WORKER

R = TypeVar("R")

GRACE_S = 30.0
"""Seconds beyond the most that a run's own deadlines may last, after which an actor is asked whether it is well, and for its answer."""
START_TIMEOUT_S = 90.0
"""Seconds for a sandbox to prove its isolation."""
CLOSE_TIMEOUT_S = 10.0
"""Seconds for an actor to end its processes before it is killed."""


class RaySandbox(RayActor):
    """A ``SandboxActor`` in its place."""

    async def ready(self) -> str:
        """Its level of isolation, once the sandbox is up."""
        return await self.once_it_runs(lambda actor: actor.start.remote())


class SandboxPlace(Supervised[RaySandbox]):
    """The place of one sandbox actor."""

    def __init__(self, name: str, new_actor: Callable[[], Any], free: asyncio.Condition, say: Callable[[str], None]) -> None:
        """
        Args:
            free: who waits for a slot here.
        """
        meanwhile = "it gets no runs until it is up again"
        super().__init__(name, lambda: RaySandbox(new_actor), start_timeout_s=START_TIMEOUT_S, meanwhile=meanwhile, say=say)
        self.load = 0
        """Runs in flight."""
        self._free = free

    async def settled(self) -> None:
        """Whoever waits for a sandbox looks again."""
        async with self._free:
            self._free.notify_all()


class SandboxPool:
    """The driver's handle on all sandbox actors."""

    def __init__(
        self,
        settings: SandboxSettings,
        worker: WorkerSettings,
        *,
        others: Mapping[str, WorkerSettings] | None = None,
        imports: tuple[str, ...] = (),
        judge: WorkerSettings | None = None,
        place: Callable[[int], Mapping[str, Any]] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """
        Args:
            worker: settings with which a worker can be made; each actor makes one.
            others: the same of further workers, by the names with which operators ask for them.
            imports: modules that every actor imports first, ``trainer.imports``.
            judge: settings of the LLM that judges where no test can; None: the worker does.
            place: Ray actor options that say where the actor with a number runs.
            say: prints one line.
        """
        self.settings = settings
        self.level = ""
        self._place = place or (lambda index: {})
        self._say = say
        self._workers = {DEFAULT_WORKER: worker, **(others or {})}
        self._shared: dict[str, SharedBudget] = {}
        self._imports = imports
        self._judge = judge
        self._places: list[SandboxPlace] = []
        self._free = asyncio.Condition()

    async def start(self) -> None:
        """Starts all actors. Raises ValueError where a machine offers less than ``sandbox.min_level``."""
        asked = self._workers if self._judge is None else {**self._workers, JUDGE: self._judge}
        budgets = {name: SharedBudget.start(worker) for name, worker in asked.items()}
        self._shared = {name: budget for name, budget in budgets.items() if budget is not None}
        self._places = [self._new_place(index) for index in range(self.settings.actors)]
        try:
            levels = await asyncio.gather(*(place.actor.ready() for place in self._places))
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, ValueError) else error from None
        self.level = min(levels, key=LEVELS.index)

    def _new_place(self, index: int) -> SandboxPlace:
        options = SandboxActor.options(
            num_cpus=self.settings.cpus_per_actor,
            max_restarts=0,
            max_concurrency=2 * self.settings.slots_per_actor,
            **self._place(index),
        )
        name = f"Sandbox actor {index + 1} of {self.settings.actors}"
        actor = (self.settings, self._workers, self._imports, self._shared, self._judge)
        return SandboxPlace(name, lambda: options.remote(*actor), self._free, self._say)

    async def run(self, workflow: Workflow, problem: Problem, seed: int, *, public: bool = False) -> Run:
        """One execution with its verdict (``public``: also by the public tests); infrastructure errors are retried, then come back
        as INFRA_ERROR."""

        def fail(message: str) -> Run:
            return Run(Execution(Outcome.INFRA_ERROR, None, (), message, 0.0, self.level), None)

        limits = self.settings.limits
        deadline_s = longest_s(limits.workflow_wall_s) + longest_s(limits.wall_s) * 2 + GRACE_S
        return await self._with_retries(
            problem.id,
            lambda actor: actor.run.remote(workflow, problem, seed, public),
            lambda run: run.outcome,
            fail,
            deadline_s,
            math.inf,  # however long the worker serves it: sandbox.run_clock bounds the rest
        )

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """The answer against the hidden tests; infrastructure errors are retried, then come back as INFRA_ERROR."""

        def fail(message: str) -> Verdict:
            return Verdict(Outcome.INFRA_ERROR, (), (message,), 0.0, self.level)

        deadline_s = longest_s(self.settings.limits.wall_s) * 2 + GRACE_S
        return await self._with_retries(
            problem.id,
            lambda actor: actor.judge.remote(problem, answer),
            lambda verdict: verdict.outcome,
            fail,
            deadline_s,
            self._judging_s(problem),
        )

    def _judging_s(self, problem: Problem) -> float:
        return longest_judging_s(problem, self.settings.limits, self._judge or self._workers[DEFAULT_WORKER])

    async def _with_retries(
        self,
        key: str,
        call: Callable[[Any], Awaitable[R]],
        outcome: Callable[[R], Outcome],
        fail: Callable[[str], R],
        deadline_s: float,
        waits_s: float,
    ) -> R:
        """
        Args:
            deadline_s: after which an actor counts as hung unless it answers that it is well.
            waits_s: how much longer one that is well may take.
        """
        result = fail("not run")
        avoid: SandboxPlace | None = None
        tries = lost = 0
        while tries <= self.settings.retries and lost <= len(self._places) + self.settings.retries:
            if tries:
                await asyncio.sleep(min(5.0, 0.2 * 2**tries))
            place = await self._take(key, avoid)
            actor = place.actor
            try:
                async with asyncio.timeout(deadline_s + waits_s):  # not wait_for, which loses a cancellation that meets the result
                    result = await _while_well(actor.handle, call(actor.handle), deadline_s)
                tries += 1
            except RayTaskError as error:  # the run's own: the actor is well
                result = fail(f"{place.name}: {reason(error)}"[:300])
                tries += 1
            except (RayError, TimeoutError) as error:
                result = fail(f"{place.name}: {type(error).__name__}"[:300])
                lost += 1  # apart: that an actor died says little about the run, and all of a node's may die at once
                place.mend(actor, type(error).__name__)
            finally:
                await self._give_back(place)
            if outcome(result) is not Outcome.INFRA_ERROR:
                return result
            avoid = place
        return result

    async def _take(self, key: str, avoid: SandboxPlace | None) -> SandboxPlace:
        """A slot: the key's own actor where it has one free, else the least loaded actor; waits where all are full or down.

        Raises:
            RunFailedError: none is left.
        """
        own = self._places[int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % len(self._places)]
        async with self._free:
            while True:
                if all(place.lost for place in self._places):
                    lost = "; ".join(f"{place.name}: {place.lost}" for place in self._places)
                    raise RunFailedError(f"No sandbox is left: {lost}. Mend the cause, then give the same command again.")
                free = [place for place in self._places if place.up and place.load < self.settings.slots_per_actor]
                preferred = [place for place in free if place is not avoid] or free
                if preferred:
                    place = own if own in preferred else min(preferred, key=lambda place: place.load)
                    place.load += 1
                    return place
                await self._free.wait()

    async def _give_back(self, place: SandboxPlace) -> None:
        async with self._free:
            place.load -= 1
            self._free.notify()

    async def close(self) -> None:
        """Closes every sandbox and ends the actors; bounded in time, also where actors hang."""
        await asyncio.gather(*(place.close(CLOSE_TIMEOUT_S) for place in self._places))
        self._places = []
        for budget in self._shared.values():
            budget.kill()
        self._shared = {}


async def _while_well(actor: Any, reference: Awaitable[R], check_s: float) -> R:
    """The result of an actor's call. Every ``check_s`` seconds the actor is asked whether it is well; TimeoutError where it is silent."""
    result = asyncio.ensure_future(await_result(reference))
    try:
        while not (await asyncio.wait({result}, timeout=check_s))[0]:
            async with asyncio.timeout(GRACE_S):
                await await_result(actor.is_well.remote())
        return result.result()
    finally:
        result.cancel()
        await asyncio.gather(result, return_exceptions=True)
