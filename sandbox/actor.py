"""A sandbox in a Ray actor."""

import ray

from sandbox.records import Run, Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.settings import WorkerSettings
from workflow.worker.client import WorkerClient


@ray.remote
class SandboxActor:
    """One sandbox with its own zygote and its own client of the worker endpoint."""

    def __init__(self, settings: SandboxSettings, worker: WorkerSettings, worker_url: str) -> None:
        self._client = WorkerClient(worker, worker_url)
        prices = ("prompt_dollars_per_million", "completion_dollars_per_million")
        asked = {"reserved_completion_tokens": worker.max_tokens} | {name: getattr(worker, name) for name in prices}
        settings = settings.model_copy(update={"budget": settings.budget.model_copy(update=asked)})
        self._sandbox = Sandbox(settings, self._client)

    async def start(self) -> str:
        """Brings the sandbox up; returns its isolation level."""
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
        await self._client.aclose()
