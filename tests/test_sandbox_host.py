"""What a failed operator call makes of its run: only machines make it one that says nothing."""

import asyncio
import logging
import socket
from typing import Any, ClassVar

import pytest

from sandbox.channel import Channel
from sandbox.host import WorkflowHost
from sandbox.process import BackendError
from sandbox.settings import BudgetSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from workflow.operators import Operator
from workflow.operators.context import TestReport
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.verifiers.runner import ProgramResult
from workflow.worker.interface import WorkerError


class NoBox:
    """Runs nothing."""

    async def run_tests(self, *_: object) -> TestReport:
        return TestReport(False, "")

    async def run_program(self, *_: object) -> ProgramResult:
        return ProgramResult(False, "")


class Failing(Operator):
    """Fails with whatever it is given."""

    name = "failing"
    failure: ClassVar[Exception]

    async def __call__(self, problem: str) -> str:
        raise self.failure


async def reply_to_a_call_that_fails_with(failure: Exception) -> tuple[dict[str, Any] | None, WorkflowHost]:
    Failing.failure = failure
    ours, theirs = socket.socketpair()
    host = WorkflowHost(PROBLEM, ScriptedWorker(), NoBox(), BudgetSettings(), 1, {"failing": Failing})
    channel, guest = Channel(ours), Channel(theirs)
    serving = asyncio.ensure_future(host.serve(channel))
    await guest.send({"id": 1, "op": "failing", "args": ["q"], "kwargs": {}})
    reply = await guest.receive()
    if reply is not None:
        await guest.send({"finish": {"answer": "x"}})
    await asyncio.gather(serving, return_exceptions=True)
    channel.close()
    guest.close()
    return reply, host


@pytest.mark.parametrize(
    "failure", [RecursionError("deep"), MemoryError(), KeyError("a"), AttributeError("a"), AssertionError(), IndexError()]
)
async def test_a_fault_over_a_text_fails_the_call_and_not_the_run(failure: Exception, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR):
        reply, host = await reply_to_a_call_that_fails_with(failure)
    assert reply is not None and type(failure).__name__ in reply["error"] and not host.infrastructure
    assert host.trace[0].error == reply["error"] and type(failure).__name__ in caplog.text


@pytest.mark.parametrize("failure", [WorkerError("down"), BackendError("no process"), OSError(24, "too many open files")])
async def test_a_fault_of_a_machine_makes_the_run_say_nothing(failure: Exception):
    reply, host = await reply_to_a_call_that_fails_with(failure)
    assert reply is None and host.infrastructure


DEEP = ("-" * 1500 + "1", "1" + "+1" * 900, "f(1)" + ".a" * 900, "not " * 480 + "1", "1" + "()" * 900, "[" * 180 + "]" * 180)


@pytest.mark.parametrize("verifier", ["function", "unittest"])
async def test_no_assert_that_a_worker_writes_masks_its_run(verifier: Any):
    problem = Problem("t/0", "q", "f", (), PROBLEM.hidden_tests, verifier=verifier)
    worker = ScriptedWorker()
    async with box("landlock", worker=worker) as sandbox:
        for seed, value in enumerate(DEEP):
            worker.text = f"assert f(1) == {value}"
            asks = raw("await self.test(problem, 'def f(x): return 1')\nreturn 'def f(x): return 1'")
            run = await sandbox.run(asks, problem, seed)
            assert run.outcome is Outcome.WRONG_ANSWER, (value[:20], run.execution.error, run.verdict)
