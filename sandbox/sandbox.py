"""The Sandbox: runs workflows and judges answers, many at once, in one process of the trusted side."""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Sequence

from sandbox.backend import Backend, ZygoteBackend
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError
from sandbox.host import WorkflowHost
from sandbox.judge import judge
from sandbox.process import BackendError, Process
from sandbox.records import Execution, Run, Verdict
from sandbox.settings import SandboxSettings
from workflow.code import extract_code
from workflow.operators import OPERATORS
from workflow.operators.context import TestReport
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.worker import Worker

CPU_SIGNALS = (-24, -9)
"""SIGXCPU and the SIGKILL that follows it."""
MAX_JUDGEMENTS = 8
"""Judgements in flight in one sandbox; each needs two processes."""


class Sandbox:
    """An async context manager over one backend."""

    def __init__(self, settings: SandboxSettings, worker: Worker, backend: Backend | None = None) -> None:
        self.settings = settings
        self.worker = worker
        self.backend: Backend = backend or ZygoteBackend(settings)
        self._verdicts: OrderedDict[tuple[str, tuple[str, ...], str, str], Verdict] = OrderedDict()
        self._judging = asyncio.Semaphore(MAX_JUDGEMENTS)

    async def __aenter__(self) -> "Sandbox":
        await self.backend.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every process of the box."""
        await self.backend.close()

    async def run(self, workflow: Workflow, problem: Problem, seed: int) -> Run:
        """Executes a workflow and judges its answer by the hidden tests, where there are any."""
        execution = await self.execute(workflow, problem, seed)
        if execution.outcome is not Outcome.ANSWERED or execution.answer is None or not problem.hidden_tests:
            return Run(execution, None)
        return Run(execution, await self.judge(problem, execution.answer))

    async def judge(self, problem: Problem, answer: str) -> Verdict:
        """The answer against the hidden tests."""
        return await self._verdict(answer, problem.entry_point, problem.hidden_tests, problem.test_setup)

    async def _verdict(self, answer: str, entry_point: str, tests: Sequence[str], setup: str) -> Verdict:
        """Judges once per (answer, tests): solutions repeat within a group, and a verdict is a function of both."""
        key = (answer, tuple(tests), setup, entry_point)
        if key in self._verdicts:
            self._verdicts.move_to_end(key)
            return self._verdicts[key]
        async with self._judging:
            source = extract_code(answer, entry_point)
            verdict = await judge(self.backend, self.settings.limits, source=source, entry_point=entry_point, tests=tests, setup=setup)
        if verdict.outcome is not Outcome.INFRA_ERROR and self.settings.verdict_cache_entries:
            self._verdicts[key] = verdict
            while len(self._verdicts) > self.settings.verdict_cache_entries:
                self._verdicts.popitem(last=False)
        return verdict

    async def execute(self, workflow: Workflow, problem: Problem, seed: int) -> Execution:
        """Runs a workflow on the public view of a problem; see Execution for how it may end."""
        started = time.monotonic()
        host: WorkflowHost | None = None
        infrastructure = ""
        finish: dict[str, object] = {}
        outcome = Outcome.CRASHED

        async def run_tests(solution: str, tests: Sequence[str]) -> TestReport:
            verdict = await self._verdict(solution, problem.entry_point, tests, problem.test_setup)
            if verdict.outcome is Outcome.INFRA_ERROR:
                raise BackendError("; ".join(verdict.failures))
            return TestReport(verdict.outcome is Outcome.PASSED, "\n".join(verdict.failures))

        host = WorkflowHost(problem, self.worker, run_tests, self.settings.budget, seed)
        process: Process | None = None
        channel: Channel | None = None
        ours, theirs = socket.socketpair()
        try:
            channel = await Channel.open(ours)
            process = await self.backend.spawn("workflow", [theirs])
            async with asyncio.timeout(self.settings.limits.workflow_wall_s):
                await channel.send(_start_frame(workflow, host.problem))
                finish = await host.serve(channel)
            outcome = _outcome(finish)
        except TimeoutError:
            outcome = Outcome.TIMED_OUT
            finish = {"error": f"no answer within {self.settings.limits.workflow_wall_s:g} s"}
        except (FrameError, BackendError) as error:
            outcome, infrastructure = await _ending(process)
            finish = {"error": str(error)}
        finally:
            if process is not None:
                process.kill()
            if channel is not None:
                await channel.close()
            ours.close()
            theirs.close()
        infrastructure = infrastructure or host.infrastructure
        answer = finish.get("answer")
        return Execution(
            outcome=Outcome.INFRA_ERROR if infrastructure else outcome,
            answer=answer if isinstance(answer, str) and not infrastructure else None,
            trace=tuple(sorted(host.trace, key=lambda call: call.index)),
            error=(infrastructure or str(finish.get("error", "")))[:400],
            wall_s=time.monotonic() - started,
            isolation=self.backend.level,
        )


def _start_frame(workflow: Workflow, problem: Problem) -> dict[str, object]:
    return {
        "source": workflow.source,
        "operators": list(OPERATORS),
        "query": problem.query,
        "entry_point": problem.entry_point,
        "public_tests": list(problem.public_tests),
    }


def _outcome(finish: dict[str, object]) -> Outcome:
    if isinstance(finish.get("answer"), str):
        return Outcome.ANSWERED
    return Outcome.BUDGET_EXCEEDED if finish.get("kind") == "budget" else Outcome.CRASHED


async def _ending(process: Process | None) -> tuple[Outcome, str]:
    """How a run ended that broke off: by its own doing, or (second entry) by a fault of the sandbox."""
    if process is None:
        return Outcome.INFRA_ERROR, "the sandbox gave no process"
    try:
        status = await process.wait(0.5)
    except BackendError as error:
        return Outcome.INFRA_ERROR, str(error)
    return (Outcome.TIMED_OUT if status in CPU_SIGNALS else Outcome.CRASHED), ""
