"""Workflows in the box: fresh processes, limits, budgets, the two kinds of failure."""

import asyncio
import contextlib
import os
from dataclasses import replace

import psutil
import pytest

from sandbox.backend import ZygoteBackend
from sandbox.process import BackendError
from sandbox.records import Execution
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, LimitSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, raw
from workflow.outcome import Outcome


async def execute(body: str, worker=None, *, limits: LimitSettings | None = None, budget: BudgetSettings | None = None) -> Execution:
    settings = SandboxSettings(limits=limits or LimitSettings(), budget=budget or BudgetSettings())
    async with Sandbox(settings, worker or ScriptedWorker()) as sandbox:
        return await sandbox.execute(raw(body), PROBLEM, seed=7)


async def refused(body: str) -> Execution:
    """A run whose body must raise inside the box."""
    execution = await execute(body)
    assert execution.outcome is Outcome.CRASHED, execution
    return execution


async def test_a_workflow_returns_its_answer_with_trace_and_level():
    execution = await execute("return await self.generate(problem)")
    assert execution.outcome is Outcome.ANSWERED and "sum(xs)" in (execution.answer or "")
    assert [call.operator for call in execution.trace] == ["generate"] and execution.worker_calls == 1
    assert execution.isolation in ("namespace", "landlock")


async def test_the_workflow_sees_no_hidden_test():
    execution = await execute("return repr([problem.query, problem.entry_point, problem.public_tests, vars(problem)])")
    assert "assert f([1, 2]) == 3" in (execution.answer or "") and "[4, 5]" not in (execution.answer or "")


async def test_the_public_verdict_is_made_on_demand_beside_the_hidden_one():
    problem = replace(PROBLEM, public_tests=("assert f([1, 2]) == 3", "assert f([]) == 1"))
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        plain = await sandbox.run(raw("return await self.generate(problem)"), problem, 7)
        both = await sandbox.run(raw("return await self.generate(problem)"), problem, 7, public=True)
    assert plain.public is None and plain.outcome is Outcome.PASSED
    assert both.public is not None and both.public.passed == (True, False) and both.outcome is Outcome.PASSED


async def test_the_environment_is_empty():
    assert (await execute("return repr(dict(os.environ))")).answer == "{}"


async def test_sockets_are_refused():
    await refused("socket.socket(socket.AF_INET, socket.SOCK_STREAM)\nreturn 'open'")


async def test_forks_are_refused():
    await refused("os.fork()\nreturn 'forked'")


async def test_programs_cannot_be_started():
    await refused("os.execv('/bin/sh', ['sh'])")


async def test_files_of_one_run_do_not_reach_the_next():
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        if sandbox.backend.level != "namespace":
            pytest.skip("the process level has no private /tmp")
        first = await sandbox.execute(raw("open('/tmp/left', 'w').write('x')\nreturn str(os.listdir('/tmp'))"), PROBLEM, 1)
        second = await sandbox.execute(raw("return str(os.listdir('/tmp'))"), PROBLEM, 1)
    assert first.answer == "['left']" and second.answer == "[]"


async def test_host_files_are_out_of_sight_in_the_namespace_level():
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        if sandbox.backend.level != "namespace":
            pytest.skip("the process level shows the host's files")
        execution = await sandbox.execute(raw("return open('/etc/passwd').read()"), PROBLEM, 1)
    assert execution.outcome is Outcome.CRASHED


async def test_a_hanging_workflow_times_out_and_leaves_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    execution = await execute("while True: pass", limits=LimitSettings(workflow_wall_s=0.5))
    assert execution.outcome is Outcome.TIMED_OUT
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


async def test_a_memory_bomb_is_a_crash():
    assert (await execute("return str(len(bytearray(8 << 30)))")).outcome is Outcome.CRASHED


async def test_a_dying_process_is_a_crash_not_an_infrastructure_error():
    assert (await execute("os._exit(0)")).outcome is Outcome.CRASHED


async def test_a_workflow_that_returns_no_text_crashed():
    assert (await execute("return 3")).outcome is Outcome.CRASHED


async def test_garbage_on_the_channel_is_a_crash():
    assert (await execute("os.write(3, b'garbage' * 100)\nreturn 'x'")).outcome is Outcome.CRASHED


async def test_a_worker_failure_taints_the_run_even_if_the_workflow_catches_it():
    body = "try:\n    await self.generate(problem)\nexcept Exception:\n    pass\nreturn 'def f(xs): return 0'"
    assert (await execute(body, ScriptedWorker(fails=True))).outcome is Outcome.INFRA_ERROR


async def test_identical_requests_of_one_run_get_ordinals():
    worker = ScriptedWorker()
    await execute("await self.generate(problem)\nreturn await self.generate(problem)", worker)
    assert worker.seeds == [(7, 0), (7, 1)]


async def test_the_test_operator_reports_what_failed():
    body = "report = await self.test(problem, 'def f(xs):\\n    return 0')\nreturn f'{report.passed} {report.feedback}'"
    execution = await execute(body)
    assert (execution.answer or "").startswith("False assert f([1, 2]) == 3") and execution.test_runs == 1


def kill_the_box() -> None:
    """Kills every process of this test's sandbox, as an out-of-memory killer would."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # the zygote takes its children along
            child.kill()


async def test_a_run_that_a_dying_zygote_took_down_is_run_again():
    worker = ScriptedWorker(latency_s=0.5)
    async with Sandbox(SandboxSettings(), worker) as sandbox:
        running = asyncio.ensure_future(sandbox.execute(raw("return await self.generate(problem)"), PROBLEM, 1))
        while not worker.in_flight:
            await asyncio.sleep(0.01)
        kill_the_box()
        execution = await running
    assert execution.outcome is Outcome.ANSWERED and len(worker.seeds) == 2 and execution.worker_calls == 1


async def test_a_box_that_keeps_dying_is_an_infrastructure_error_and_later_runs_work():
    async with Sandbox(SandboxSettings(), ScriptedWorker(latency_s=0.5)) as sandbox:
        running = asyncio.ensure_future(sandbox.execute(raw("return await self.generate(problem)"), PROBLEM, 1))
        while not running.done():
            await asyncio.sleep(0.2)
            kill_the_box()
        assert running.result().outcome is Outcome.INFRA_ERROR
        assert (await sandbox.execute(raw("return await self.generate(problem)"), PROBLEM, 1)).outcome is Outcome.ANSWERED


async def test_a_judgement_that_a_dying_zygote_took_down_is_no_wrong_answer():
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        slow = "import time\ndef f(xs):\n    time.sleep(0.5)\n    return sum(xs)"
        judging = asyncio.ensure_future(sandbox.judge(PROBLEM, slow))
        await asyncio.sleep(0.2)
        kill_the_box()
        assert (await judging).outcome is Outcome.PASSED


async def test_a_closed_sandbox_leaves_no_process_and_no_descriptor():
    async def once() -> None:
        async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
            await asyncio.gather(*(sandbox.run(raw("return await self.generate(problem)"), PROBLEM, seed) for seed in range(20)))

    await once()
    before = len(os.listdir("/proc/self/fd"))
    await once()
    await asyncio.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [child for child in psutil.Process().children(recursive=True) if "zygote" in " ".join(child.cmdline())]


async def test_sixty_four_runs_at_once_lose_none():
    worker = ScriptedWorker(latency_s=0.05)
    body = "for _ in range(5):\n    answer = await self.generate(problem)\nreturn answer"
    async with Sandbox(SandboxSettings(), worker) as sandbox:
        runs = await asyncio.gather(*(sandbox.run(raw(body), PROBLEM, seed) for seed in range(64)))
    assert {run.outcome for run in runs} == {Outcome.PASSED} and len(worker.seeds) == 320


async def test_a_level_that_is_not_reached_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    async def no_namespaces(self: ZygoteBackend, level: str) -> None:
        raise BackendError("unshare: Operation not permitted")

    monkeypatch.setattr(ZygoteBackend, "_start_zygote", no_namespaces)
    with pytest.raises(ValueError, match=r"No sandbox of level 'namespace' starts here \(namespace: unshare.*launch\.doctor says"):
        await ZygoteBackend(SandboxSettings(min_level="namespace")).start()


async def test_a_level_whose_canaries_sing_is_not_used(monkeypatch: pytest.MonkeyPatch):
    async def sings(self: ZygoteBackend) -> set[str]:
        return {"opens_socket"}

    monkeypatch.setattr(ZygoteBackend, "_canaries", sings)
    with pytest.raises(ValueError, match="does not prevent opens_socket"):
        await ZygoteBackend(SandboxSettings()).start()


async def test_libraries_that_were_asked_for_can_be_imported_and_others_cannot():
    body = "import numpy\nreturn str(numpy.arange(4).sum())"
    async with Sandbox(SandboxSettings(libraries=("numpy",)), ScriptedWorker()) as sandbox:
        assert (await sandbox.execute(raw(body), PROBLEM, 1)).answer == "6"
    async with Sandbox(SandboxSettings(), ScriptedWorker()) as sandbox:
        execution = await sandbox.execute(raw(body), PROBLEM, 1)
        assert execution.outcome is Outcome.CRASHED and "No module named 'numpy'" in execution.error


async def test_a_library_that_is_not_installed_is_named_at_the_start():
    with pytest.raises(ValueError, match=r"sandbox\.libraries: nowhere_to_be_found cannot be loaded"):
        await ZygoteBackend(SandboxSettings(libraries=("nowhere_to_be_found",))).start()


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("report = await self.test(problem, 'def f(xs): return sum(xs)')\nreturn str(report['passed'] and report.passed)", "True"),
        ("return {'solution': 'x'}", "x"),
        ("return {'solution': 'x', 'cost': 1.5}", "x"),
        ("import ast, copy, textwrap, time\nreturn copy.copy(textwrap.dedent(str(ast.literal_eval('[1]')) * (time.time() > 0)))", "[1]"),
    ],
)
async def test_habits_of_aflows_workflows_mean_what_they_say(body: str, answer: str):
    assert (await execute(body)).answer == answer


async def test_a_dict_with_several_texts_is_no_answer():
    assert "returned dict" in (await refused("return {'solution': 'x', 'plan': 'y'}")).error


@pytest.mark.parametrize(("text", "finish"), [("", "length"), ("<think>Let me see", "length"), ("<think>Let me see", "stop")])
async def test_a_reply_that_is_all_thinking_is_no_answer_but_a_failed_call_that_is_billed(text: str, finish: str):
    worker = ScriptedWorker(text, finish_reason=finish)
    execution = await execute("try:\n    return await self.generate(problem)\nexcept Exception as error:\n    return str(error)", worker)
    assert "spent all its tokens on thinking" in (execution.answer or "")
    assert execution.worker_calls == 1 and execution.trace[0].completion_tokens == 20


async def test_thoughts_of_a_worker_reach_no_workflow():
    worker = ScriptedWorker("<think>Long thoughts.</think>\n\nA plan.<|im_end|>")
    assert (await execute("return await self.custom(problem, 'Plan.')", worker)).answer == "\n\nA plan."
