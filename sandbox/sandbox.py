"""The Sandbox: runs workflows and judges answers, many at once, in one process of the trusted side."""

import asyncio
import hashlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.backend import Backend, ZygoteBackend
from sandbox.call_context import NamedWorker
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError
from sandbox.host import WorkflowHost
from sandbox.judges import judge
from sandbox.judges.bench import Bench
from sandbox.origin import is_own_answer
from sandbox.process import BackendError, Process
from sandbox.program import run_program
from sandbox.records import Execution, Run, Verdict
from sandbox.settings import SandboxSettings
from workflow.aflow.operators import AFLOW_OPERATORS
from workflow.operators import OPERATORS
from workflow.operators.context import TestReport
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.single_flight import SingleFlight
from workflow.verifiers.runner import ProgramResult
from workflow.worker.interface import Worker

TRIES = 2
"""Times that a run or a judgement is tried here where the box fails; the pool then tries elsewhere."""
MAX_JUDGEMENTS = 8
"""Judgements in flight in one sandbox; each needs two processes."""


class Sandbox:
    """An async context manager over one backend."""

    def __init__(
        self,
        settings: SandboxSettings,
        worker: Worker | None = None,
        backend: Backend | None = None,
        others: Mapping[str, NamedWorker] | None = None,
        *,
        judge: Worker | None = None,
    ) -> None:
        """
        Args:
            worker: answers the operators' calls; None: this sandbox only judges and runs programs.
            others: further workers, by the names with which operators ask for them.
            judge: judges answers that no test can; None: the worker does.
        """
        self.settings = settings
        self.worker = worker
        self.others = others or {}
        self._judge = judge or worker
        self.backend: Backend = backend or ZygoteBackend(settings)
        self.bench = Bench(self.backend)
        self._verdicts = SingleFlight[Verdict](
            settings.verdict_cache_entries,
            closed=lambda: BackendError("the sandbox was closed meanwhile"),
            keeps=lambda verdict: verdict.outcome is not Outcome.INFRA_ERROR and not verdict.late,
        )
        self._judging = asyncio.Semaphore(MAX_JUDGEMENTS)

    async def __aenter__(self) -> "Sandbox":
        await self.backend.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every process of the box."""
        await self._verdicts.aclose()
        self.bench.close()
        await self.backend.close()

    async def run(self, workflow: Workflow, problem: Problem, seed: int, *, public: bool = False) -> Run:
        """Executes a workflow and judges its answer by the hidden tests, and by the public ones where asked for, where there are any."""
        execution = await self.execute(workflow, problem, seed)
        if execution.outcome is not Outcome.ANSWERED or execution.answer is None:
            return Run(execution, None)

        async def verdict(tests: Sequence[str]) -> Verdict | None:
            return await self._verdict(problem, execution.answer or "", tests) if tests else None

        shown = problem.public_tests if public else ()
        return Run(execution, *await asyncio.gather(verdict(problem.hidden_tests), verdict(shown)))

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """The answer against the hidden tests."""
        return await self._verdict(problem, answer, problem.hidden_tests)

    async def _verdict(self, problem: Problem, answer: str, tests: Sequence[str]) -> Verdict:
        """Judges once per (answer, tests): solutions repeat within a group, and a verdict is a function of both.

        But not one that the clock decided: that would keep what a busy machine did.
        """
        key = hashlib.sha256(repr((answer, tuple(tests), problem.public_view())).encode()).digest()
        return (await self._verdicts.get(key, lambda: self._judge_anew(problem, answer, tests)))[0]

    async def _judge_anew(self, problem: Problem, answer: str, tests: Sequence[str]) -> Verdict:
        async with self._judging:
            tries = 1
            while True:
                verdict = await judge(self.bench, self.settings.limits, problem, answer, tests, self._judge)
                if verdict.outcome is not Outcome.INFRA_ERROR or tries == TRIES:
                    return verdict
                tries += 1

    async def execute(self, workflow: Workflow, problem: Problem, seed: int) -> Execution:
        """Runs a workflow on the public view of a problem; see Execution for how it may end."""
        if self.worker is None:
            raise ValueError("This sandbox has no worker LLM, so it runs no workflow: give it one.")
        tries = 1
        while True:
            operators = AFLOW_OPERATORS if workflow.form == "aflow" else OPERATORS
            limits = self.settings.limits
            host = WorkflowHost(problem, self.worker, self, self.settings.budget, seed, operators, limits, self.others)
            execution = await self._attempt(host, workflow)
            if execution.outcome is not Outcome.INFRA_ERROR or host.infrastructure or tries == TRIES:
                return execution  # a failed worker is not tried again: it has its own retries
            tries += 1

    async def run_tests(self, problem: Problem, solution: str, tests: Sequence[str]) -> TestReport:
        """Public or worker-written tests on a solution, for operators. Raises BackendError."""
        verdict = await self._verdict(problem, solution, tests)
        if verdict.outcome is Outcome.INFRA_ERROR:
            raise BackendError("; ".join(verdict.failures))
        return TestReport(verdict.outcome is Outcome.PASSED, "\n".join(verdict.failures))

    async def run_program(self, source: str) -> ProgramResult:
        """A program that a worker wrote, for operators. Raises BackendError."""
        async with self._judging:
            return (await run_program(self.backend, self.settings.limits, source)).result()

    async def _attempt(self, host: WorkflowHost, workflow: Workflow) -> Execution:
        answer: str | None = None
        process: Process | None = None
        channel: Channel | None = None
        ours, theirs = socket.socketpair()
        try:
            channel = Channel(ours)
            process = await self.backend.spawn("workflow", [theirs])
            async with host.clock:
                await channel.send(_start_frame(workflow, host))
                finish = await host.serve(channel)
            outcome, answer, error = _outcome(finish), finish.get("answer"), str(finish.get("error", ""))
        except TimeoutError:
            outcome, error = Outcome.TIMED_OUT, f"no answer within {self.settings.limits.workflow_wall_s:g} s of its own"
        except (FrameError, BackendError) as failure:
            outcome, error = (
                (Outcome.INFRA_ERROR, "") if host.infrastructure else await _ending(process, failure, self.settings.limits.cpu_s)
            )
        finally:
            if process is not None:
                process.kill()
            if channel is not None:
                channel.close()
            ours.close()
            theirs.close()
        return Execution(
            outcome=Outcome.INFRA_ERROR if host.infrastructure else outcome,
            answer=None if host.infrastructure else answer,
            trace=tuple(sorted(host.trace, key=lambda call: call.index)),
            error=(host.infrastructure or error)[:400],
            wall_s=host.clock.run_s,
            isolation=self.backend.level,
            own_answer=answer is not None and is_own_answer(answer, workflow, host.problem, host.said, host.sent),
        )


def _start_frame(workflow: Workflow, host: WorkflowHost) -> dict[str, Any]:
    return {
        "source": workflow.source,
        "form": workflow.form,
        "prompts": workflow.prompts,
        "operators": list(host.operators),
        "query": host.problem.query,
        "entry_point": host.problem.entry_point,
        "public_tests": list(host.problem.public_tests),
        "seed": host.seed,
    }


def _outcome(finish: dict[str, Any]) -> Outcome:
    if isinstance(finish.get("answer"), str):
        return Outcome.ANSWERED
    return Outcome.BUDGET_EXCEEDED if finish.get("kind") == "budget" else Outcome.CRASHED


async def _ending(process: Process | None, failure: Exception, cpu_limit_s: int) -> tuple[Outcome, str]:
    """How a run ended that broke off, and why: by its own doing, or by a fault of the box."""
    if process is None:
        return Outcome.INFRA_ERROR, str(failure)
    try:
        status = await process.wait(0.5)
        if status is None:  # it lives and broke the protocol; its end tells that the zygote does, too
            process.kill()
            return (Outcome.CRASHED, str(failure)) if await process.wait() is not None else (Outcome.INFRA_ERROR, "the zygote hangs")
    except BackendError as error:
        return Outcome.INFRA_ERROR, str(error)
    if process.spent(cpu_limit_s):
        return Outcome.TIMED_OUT, "the CPU limit is spent"
    return Outcome.CRASHED, f"{failure} (exit status {status})"
