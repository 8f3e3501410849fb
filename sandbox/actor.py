"""A sandbox in a Ray actor."""

import ray

from sandbox.records import Run, Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.registry import load_plugins
from workflow.settings import WorkerSettings
from workflow.worker.providers import close_worker, make_worker


@ray.remote
class SandboxActor:
    """One sandbox with its own zygote and a worker of its own to ask."""

    def __init__(
        self, settings: SandboxSettings, worker: WorkerSettings, imports: tuple[str, ...] = (), judge: WorkerSettings | None = None
    ) -> None:
        self._imports = imports
        self._asked = worker
        self._asked_to_judge = judge
        prices = ("prompt_dollars_per_million", "completion_dollars_per_million")
        asked = {"reserved_completion_tokens": worker.max_tokens} | {name: getattr(worker, name) for name in prices}
        self._settings = settings.model_copy(update={"budget": settings.budget.model_copy(update=asked)})

    async def start(self) -> str:
        """Brings the sandbox up, with what packages add to the product; returns its isolation level."""
        load_plugins(self._imports)
        self._worker = make_worker(self._asked)
        self._judge = make_worker(self._asked_to_judge) if self._asked_to_judge is not None else self._worker
        self._sandbox = Sandbox(self._settings, self._worker, judge=self._judge)
        await self._sandbox.backend.start()
        return self._sandbox.backend.level

    async def run(self, workflow: Workflow, problem: Problem, seed: int, public: bool) -> Run:
        """Executes and judges."""
        return await self._sandbox.run(workflow, problem, seed, public=public)

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """Judges an answer by the hidden tests."""
        return await self._sandbox.judge(problem, answer)

    async def close(self) -> None:
        """Ends every process of the sandbox."""
        await self._sandbox.close()
        for worker in {id(one): one for one in (self._worker, self._judge)}.values():
            await close_worker(worker)
