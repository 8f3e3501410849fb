"""A sandbox in a Ray actor."""

from collections.abc import Mapping

import ray

from sandbox.call_context import NamedWorker
from sandbox.records import Run, Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, SandboxSettings
from sandbox.shared_budget import SharedBudget
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.registry import load_plugins
from workflow.settings import WorkerSettings
from workflow.worker.crew import DEFAULT_WORKER
from workflow.worker.interface import Worker
from workflow.worker.providers import close_worker, make_worker

JUDGE = "the judge"
"""Name of the judge among those that share a budget; no name in ``workers`` has a blank."""


@ray.remote
class SandboxActor:
    """One sandbox with its own zygote and workers of its own to ask."""

    def __init__(
        self,
        settings: SandboxSettings,
        workers: Mapping[str, WorkerSettings],
        imports: tuple[str, ...] = (),
        shared: Mapping[str, SharedBudget] | None = None,
        judge: WorkerSettings | None = None,
    ) -> None:
        """
        Args:
            workers: by name, the default one among them.
            shared: the budgets of a minute of those that have one, the judge among them.
            judge: the LLM that judges where no test can; None: the default worker does.
        """
        self._imports = imports
        self._asked = workers
        self._asked_to_judge = judge
        self._shared = shared or {}
        self._rates = {name: _rates(settings.budget, asked) for name, asked in workers.items()}
        self._settings = settings.model_copy(update={"budget": self._rates[DEFAULT_WORKER]})

    async def start(self) -> str:
        """Brings the sandbox up, with what packages add to the product; returns its isolation level."""
        load_plugins(self._imports)
        self._workers: dict[str, Worker] = {name: make_worker(asked) for name, asked in self._asked.items()}
        others = {name: NamedWorker(worker, self._rates[name]) for name, worker in self._workers.items() if name != DEFAULT_WORKER}
        self._judge = None if self._asked_to_judge is None else make_worker(self._asked_to_judge)
        for name, budget in self._shared.items():
            if share := getattr(self._judge if name == JUDGE else self._workers[name], "share_budget", None):
                share(budget)
        self._sandbox = Sandbox(self._settings, self._workers[DEFAULT_WORKER], others=others, judge=self._judge)
        await self._sandbox.backend.start()
        return self._sandbox.backend.level

    async def run(self, workflow: Workflow, problem: Problem, seed: int, public: bool) -> Run:
        """Executes and judges."""
        return await self._sandbox.run(workflow, problem, seed, public=public)

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """Judges an answer by the hidden tests."""
        return await self._sandbox.judge(problem, answer)

    async def is_well(self) -> bool:
        """Answers: its loop goes on."""
        return True

    async def close(self) -> None:
        """Ends every process of the sandbox."""
        await self._sandbox.close()
        for worker in (*self._workers.values(), *((self._judge,) if self._judge is not None else ())):
            await close_worker(worker)


def _rates(budget: BudgetSettings, worker: WorkerSettings) -> BudgetSettings:
    """The budget with what a call to this worker costs and may use."""
    prices = ("prompt_dollars_per_million", "completion_dollars_per_million")
    asked = {"reserved_completion_tokens": worker.max_tokens} | {name: getattr(worker, name) for name in prices}
    return budget.model_copy(update=asked)
