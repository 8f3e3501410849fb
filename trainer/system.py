"""The actors of a run, started side by side and closed together.

Nothing here decides what is trained; it only brings the parts up and down. Engines, learner and sandboxes take
tens of seconds to start, so all that the remaining stages need start at once and each is awaited where it is used.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from rollout.engines.interface import Engine, EngineSpec, make_engine
from rollout.fleet.fleet import Fleet
from rollout.groups.collect import Collector
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.settings import weights_dtype
from sandbox.pool import SandboxPool
from trainer.cluster.placement import Placement, Placer
from trainer.cluster.session import device_of, node_address, sigterm_kept, start_ray, stop_ray
from trainer.cluster.submission import joins_cluster
from trainer.learner.handle import Learner
from trainer.settings import RunSettings
from workflow.settings import WorkerSettings
from workflow.tasks import TaskSet, load_tasks
from workflow.verifiers import find_libraries
from workflow.worker.interface import Worker
from workflow.worker.providers import Surroundings, open_worker, start_providers

T = TypeVar("T")


class System:
    """Ray, the worker endpoint, sandboxes, engines and learner of one run; an async context manager."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        policy: Path | None,
        learner_start: Path | None,
        log_dir: Path,
        policy_at: str | None = None,
        tasks: TaskSet | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """
        Args:
            policy: Hugging Face folder that the engines load; None starts no engine.
            learner_start: Hugging Face folder that the learner loads; None starts no learner.
            log_dir: the run's folder, where providers of workers write their logs and the learner what it saves.
            policy_at: where engines on other machines load the policy from; left out: the folder itself.
            tasks: the problems, where they are loaded already; None: what the settings name.
            say: prints one line, of what failed and what becomes of it.
        """
        self.settings = settings
        self.policy = policy
        self.policy_at = policy_at or str(policy)
        self.say = say
        self.learner_start = learner_start
        self.log_dir = log_dir
        self.tasks = tasks or load_tasks(settings.tasks)
        self.worker = settings.worker
        self._teacher = settings.distil.worker()
        """With what the providers add, once they have started."""
        self._stack = AsyncExitStack()
        self._starting: dict[str, asyncio.Task[Any]] = {}
        self._placement: Placement | None = None
        self._learner: Learner | None = None
        self._device = ""
        """Chosen once: a cluster may lose GPUs for a while."""

    async def __aenter__(self) -> "System":
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._placement is not None:
            self._placement.give_up()  # nothing waits for room when parts are closed
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await self._stack.aclose()

    async def _start(self) -> None:
        settings = self.settings
        host = node_address() if joins_cluster(settings.cluster.address) else None
        run = Surroundings(self.log_dir, settings.tasks, settings.simulated, host, settings.trainer.imports, self.say)
        asked: dict[str, WorkerSettings] = {"worker": self.worker, "teacher": self._teacher}
        if settings.judge.model:
            asked["judge"] = settings.judge
        ready = await self._stack.enter_async_context(start_providers(asked, run))
        self.worker, self._teacher, judge = ready["worker"], ready["teacher"], ready.get("judge")
        for answering in (self.worker, judge):
            if answering is not None:
                async with open_worker(answering, self.say):
                    pass  # an endpoint that does not answer is known before anything is started for it
        with sigterm_kept():
            temp = await asyncio.to_thread(start_ray, settings)
        self._stack.callback(stop_ray, temp)
        parts = {"learner": self.learner_start is not None, "engines": self.policy is not None}
        self._device = device = device_of(settings, **parts, say=self.say)
        self._placement = placement = Placement(settings, device, self.log_dir, self.say)
        self._stack.callback(placement.remove)
        imports, place = settings.trainer.imports, placement.sandbox_options
        sandbox = settings.sandbox.with_libraries(find_libraries(self.tasks.problems))
        pool = SandboxPool(sandbox, self.worker, imports=imports, judge=judge, place=place, say=self.say)
        self._begin("sandbox", pool, placement.sandbox, pool.start)
        if self.policy is not None:
            spec = EngineSpec(self.policy_at, settings.model, settings.rollout, device, settings.trainer.deterministic)

            def engine(index: int) -> Engine:
                return make_engine(spec, place=placement.engine_options(index), say=self.say if index == 0 else None)  # one speaks for all

            fleet = Fleet(settings.model, settings.rollout, self.policy, device=device, engine=engine, say=self.say)
            self._begin("fleet", fleet, lambda: placement.engines(self.policy_at), fleet.start)
        if self.learner_start is not None:
            self._begin_learner(self.learner_start, placement.learner)

    async def replace_learner(self, start: Path) -> None:
        """Ends the learner and starts another from a Hugging Face folder, however long it takes until there is room for it."""
        assert self._learner is not None and self._placement is not None
        await self._learner.close()
        self._begin_learner(start, functools.partial(self._placement.learner, patient=True))

    def _begin_learner(self, start: Path, place: Placer) -> None:
        settings = self.settings
        seed, deterministic = settings.trainer.seed, settings.trainer.deterministic
        self._learner = Learner(
            start,
            settings.learner,
            device=self._device,
            seed=seed,
            deterministic=deterministic,
            place=place,
            weights_dtype=weights_dtype(settings.model, settings.rollout),
            imports=settings.trainer.imports,
        )
        self._begin("learner", self._learner, self._learner.start)

    def _begin(self, name: str, part: Any, *starts: Callable[[], Awaitable[Any]]) -> None:
        """Starts a part, step by step, in the background; it is awaited where it is used."""

        async def start_all() -> Any:
            for start in starts:
                await start()
            return part

        self._stack.push_async_callback(part.close)
        self._starting[name] = asyncio.ensure_future(start_all())

    async def sandbox(self) -> SandboxPool:
        """The sandbox pool, once it is up."""
        return await self._starting["sandbox"]

    async def fleet(self) -> Fleet:
        """The rollout engines, once they are up."""
        return await self._starting["fleet"]

    async def learner(self) -> Learner:
        """The learner, once it is up."""
        return await self._starting["learner"]

    async def collector(self) -> Collector:
        """Collects groups with this run's engines, sandboxes, meta-prompt and reward."""
        from transformers import AutoTokenizer

        assert self.policy is not None
        settings = self.settings
        prompt = MetaPrompt(AutoTokenizer.from_pretrained(self.policy), settings.model, settings.rollout.max_feedback_tokens)
        return Collector(await self.fleet(), await self.sandbox(), prompt, settings.rollout, settings.reward, settings.trainer.seed)

    def teacher(self) -> AbstractAsyncContextManager[Worker]:
        """The teacher, asked once before anything else. Raises ValueError where it gives no completion."""
        return open_worker(self._teacher, self.say)
