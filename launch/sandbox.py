"""``python -m launch.sandbox FILE``: one run in the box, for those who want to try or audit it. Prints one JSON object.

    --as program                                    runs the file as a program, no tests
    --as candidate --entry NAME --tests TESTS.py    judges it; tests define check(candidate) or are asserts
    --as workflow --query TEXT                      runs a class Workflow (ours or AFlow's), or a raw guest program

A raw guest program finds the operator channel on file descriptor 3: frames of a 4-byte big-endian length and JSON. It may send
``{"id", "op", "args", "kwargs"}``, gets ``{"id", "value"}`` or ``{"id", "error", "kind"}``, and ends with ``{"finish": {"answer"}}``.
"""

import argparse
import ast
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launch.shell import one_sentence_errors
from sandbox.backend import LEVELS, ZygoteBackend
from sandbox.program import run_program
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, LimitSettings, SandboxSettings
from workflow.aflow import read_workflow_file
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Refusal, Workflow
from workflow.registry import load_plugins
from workflow.settings import WorkerSettings
from workflow.tasks.humaneval import split_check
from workflow.worker.interface import FixedWorker, Worker
from workflow.worker.providers import close_worker, make_worker

LIMITS = ("wall_s", "workflow_wall_s", "worker_wait_s", "cpu_s", "memory_mib", "open_files", "output_kib")
BUDGETS = ("calls", "concurrent_calls", "tokens")


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.sandbox", description="Run one file in the sandbox; prints one JSON object.")
    out.add_argument("file", type=Path)
    out.add_argument("--as", dest="role", choices=("program", "candidate", "workflow"), default="program")
    out.add_argument("--level", choices=LEVELS, help="exactly this isolation; default: the best that this machine reaches")
    out.add_argument("--stdin", type=Path, help="file that a program reads as its standard input")
    out.add_argument("--entry", default="", help="function that a candidate defines")
    out.add_argument("--tests", type=Path, help="Python file with check(candidate), or with asserts")
    out.add_argument("--query", default="", help="what a workflow is asked")
    out.add_argument("--imports", nargs="*", default=[], metavar="MODULE", help="modules that register operators")
    out.add_argument("--worker-url", help="endpoint of the worker LLM; default: --reply to every call")
    out.add_argument("--worker-model", default="simulated-worker")
    out.add_argument("--reply", default="", help="the worker's answer where there is no endpoint")
    for settings, names in ((LimitSettings(), LIMITS), (BudgetSettings(), BUDGETS)):
        for name in names:
            value = getattr(settings, name)
            out.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default: {value:g}")
    return out


def read_tests(path: Path, entry_point: str) -> tuple[tuple[str, ...], str]:
    """(tests, setup) of a test file. Raises ValueError where it is no Python or asserts nothing."""
    source = path.read_text(encoding="utf-8")
    try:
        module = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{path} is no Python (line {error.lineno}: {error.msg}).") from None
    if any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in module.body):
        tests, setup = split_check(source, set(), entry_point)
        return tuple(tests), "\n".join(setup)
    tests, before = [], []
    for node in module.body:
        before.append(ast.unparse(node))
        if any(isinstance(part, ast.Assert) for part in ast.walk(node)) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            tests.append("\n".join(before))
            before = []
    if not tests:
        raise ValueError(f"{path} asserts nothing: write check(candidate), or asserts on {entry_point}.")
    return tuple(tests), ""


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The JSON object."""
    limits = LimitSettings(**{name: getattr(options, name) for name in LIMITS})
    settings = SandboxSettings(limits=limits, budget=BudgetSettings(**{name: getattr(options, name) for name in BUDGETS}))
    worker: Worker = FixedWorker(options.reply)
    if options.worker_url:
        worker = make_worker(WorkerSettings(base_url=options.worker_url, model=options.worker_model))
    backend = ZygoteBackend(settings, (options.level,) if options.level else ())
    async with Sandbox(settings, worker, backend) as sandbox:
        try:
            if options.role == "program":
                return await _program(sandbox, options, limits)
            return await (_candidate(sandbox, options) if options.role == "candidate" else _workflow(sandbox, options))
        finally:
            await close_worker(worker)


async def _program(sandbox: Sandbox, options: argparse.Namespace, limits: LimitSettings) -> dict[str, Any]:
    stdin = options.stdin.read_text(encoding="utf-8") if options.stdin else ""
    done = await run_program(sandbox.backend, limits, options.file.read_text(encoding="utf-8"), stdin)
    outcome = Outcome.TIMED_OUT if done.limit else Outcome.ANSWERED if done.exit_status == 0 else Outcome.CRASHED
    return {"outcome": outcome, **asdict(done)}


async def _candidate(sandbox: Sandbox, options: argparse.Namespace) -> dict[str, Any]:
    if not options.entry or options.tests is None:
        raise ValueError("--as candidate needs --entry NAME and --tests TESTS.py.")
    tests, setup = read_tests(options.tests, options.entry)
    problem = Problem("launch.sandbox", "", options.entry, (), tests, test_setup=setup)
    verdict = await sandbox.judge(problem, options.file.read_text(encoding="utf-8"))
    failures = iter(verdict.failures)
    each = [
        {"test": test, "passed": ok, "failure": "" if ok else next(failures, "")} for test, ok in zip(tests, verdict.passed, strict=False)
    ]
    report = {"outcome": verdict.outcome, "tests": each, "wall_s": verdict.wall_s, "isolation": verdict.isolation, "trust": verdict.trust}
    return report | ({} if verdict.passed else {"failures": verdict.failures})


async def _workflow(sandbox: Sandbox, options: argparse.Namespace) -> dict[str, Any]:
    source = options.file.read_text(encoding="utf-8")
    workflow: Workflow | Refusal = Workflow(source, "raw", (), 0, 0, 0, 0, form="raw")
    if "class Workflow" in source:
        workflow = read_workflow_file(options.file)
    if isinstance(workflow, Refusal):
        return {"outcome": workflow.outcome, "error": workflow.message}
    problem = Problem("launch.sandbox", options.query, options.entry or "f", (), ())
    execution = await sandbox.execute(workflow, problem, seed=0)
    spent = {"worker_calls": execution.worker_calls, "test_runs": execution.test_runs, "cost_dollars": execution.cost_dollars}
    return asdict(execution) | {"operator_calls": len(execution.trace), **spent}


@one_sentence_errors
def main() -> int:
    """Entry point; exit status 0 where a run took place, whatever became of it."""
    options = parser().parse_args()
    for path in (options.file, options.tests, options.stdin):
        if path is not None and not path.is_file():
            raise ValueError(f"{str(path)!r} is not a file.")
    load_plugins(options.imports)
    print(json.dumps(asyncio.run(run(options))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
