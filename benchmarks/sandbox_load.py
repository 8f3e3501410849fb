"""The sandbox under load and under a failing worker, against the simulated worker over HTTP. Prints one JSON line.

    python -m benchmarks.sandbox_load            64 workflows at once with 50 calls each, a worker of 200 ms; then 2,000 short runs
    python -m benchmarks.sandbox_load --faults   20 % of all requests fail, in each of the ways in turn

``overhead_ms`` is a workflow's wall time beyond the worker's own latency, as the worker's server knows it: everything else is in it,
the box, the frames, the host, the HTTP client, the kernel's loopback, the server's HTTP stack and its lateness. Its parts:

- ``server_late``: the server's handler, beyond the latency that it drew (it wakes late);
- ``http``: the client and all that is between it and the server's handler;
- ``sandbox``: the rest of the workflow's wall time: its process, its channel, the host, the operators.

``bare_ms`` is the floor of ``sandbox`` on this machine: as many forked processes with as many requests over a socket, answered after as
long by a host that does nothing else. Most of it is the waking of processes that sleep.

The event loop is uvloop, as in Ray's actors.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import httpx
import psutil
import uvloop

from benchmarks.bare_channel import bare_overheads
from sandbox.records import Execution
from sandbox.sandbox import Sandbox
from sandbox.settings import BudgetSettings, SandboxSettings
from workflow.language.parse import parse_workflow
from workflow.nano.problems import nano_problem
from workflow.nano.simulated.process import start_simulated_worker
from workflow.outcome import Outcome
from workflow.program import Workflow
from workflow.settings import FaultSettings, LatencySettings, SimulatedWorkerSettings, TaskSettings, WorkerSettings
from workflow.worker.client import WorkerClient
from workflow.worker.interface import Message, Reply
from workflow.worker.request import sample_seed

MODEL, TASKS = "simulated-worker", TaskSettings(name="nano")
CALLS = 50
SPREAD_S = 2.0
"""Seconds over which the workflows start, as samples of a policy do."""
LOOP = f"""class Workflow:
    async def __call__(self, problem):
        for step in range({CALLS}):
            answer = await self.generate(problem, str(step))
        return answer
"""
SINGLE = "class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n"
REFINE = """class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        report = await self.review(problem, answer)
        return answer if report.approved else await self.revise(problem, answer, report.feedback)
"""
LATENCY = LatencySettings(mean_s=0.2, sigma=0.3)
BUDGET = BudgetSettings(calls=CALLS, tokens=10_000_000, dollars=100.0)


class TimedWorker:
    """A worker client that adds up, for each run's seed, the time that its requests take."""

    def __init__(self, client: WorkerClient) -> None:
        self.client = client
        self.seconds: defaultdict[int, float] = defaultdict(float)
        self.requests: Counter[int] = Counter()

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        started = time.monotonic()
        try:
            return await self.client.complete(messages, seed=seed, ordinal=ordinal, temperature=temperature, max_tokens=max_tokens)
        finally:
            self.seconds[seed] += time.monotonic() - started
            self.requests[seed] += 1


def workflow(source: str) -> Workflow:
    """The parsed source."""
    parsed = parse_workflow(source)
    assert isinstance(parsed, Workflow), parsed
    return parsed


async def load(url: str, at_once: int) -> dict[str, Any]:
    """Many workflows with many calls at once: lost runs, exactness of the budget, overhead and its parts."""
    client = WorkerClient(WorkerSettings(base_url=url, model=MODEL, max_concurrency=at_once, cache_entries=0))
    worker = TimedWorker(client)
    async with Sandbox(SandboxSettings(budget=BUDGET), worker) as sandbox:
        await sandbox.execute(workflow(SINGLE), nano_problem(0, "test", at_once), at_once)  # warm
        started, cpu_started_s = time.monotonic(), time.process_time()

        lasted_s: dict[int, float] = {}

        async def one(seed: int) -> Execution:
            problem = nano_problem(0, "test", seed)
            await asyncio.sleep(SPREAD_S * seed / at_once)
            began_s = time.monotonic()
            execution = await sandbox.execute(workflow(LOOP), problem, seed)
            lasted_s[seed] = time.monotonic() - began_s
            return execution

        executions = await asyncio.gather(*map(one, range(at_once)))
        wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_started_s
    await client.aclose()
    spent = await server_account(url, at_once)
    runs = list(enumerate(executions))
    parts = {
        "overhead_ms": [lasted_s[seed] - spent[seed]["latency_s"] for seed, _ in runs],
        "server_late_ms": [spent[seed]["handled_s"] - spent[seed]["latency_s"] for seed, _ in runs],
        "http_ms": [worker.seconds[seed] - spent[seed]["handled_s"] for seed, _ in runs],
        "sandbox_ms": [lasted_s[seed] - worker.seconds[seed] for seed, _ in runs],
    }
    bare = _figures(await bare_overheads(at_once, SPREAD_S, CALLS, LATENCY.mean_s, LATENCY.sigma))
    figures = {name: _figures(seconds) for name, seconds in parts.items()}
    counts = [(run.worker_calls, worker.requests[seed], spent[seed]["requests"]) for seed, run in runs]
    return {
        "workflows": at_once,
        "calls_each": CALLS,
        "lost": sum(run.outcome is not Outcome.ANSWERED for run in executions),
        "runs_with_another_number_of_calls": sum(count != (CALLS, CALLS, CALLS) for count in counts),
        "worker_s": round(statistics.fmean(spent[seed]["latency_s"] for seed, _ in runs), 2),
        "wall_s": round(wall_s, 2),
        "supervisor_cpu_ms_a_call": round(1000 * cpu_s / (CALLS * at_once), 3),
        **figures,
        "bare_ms": bare,
        "sandbox_over_bare": {name: round(figures["sandbox_ms"][name] / value, 2) for name, value in bare.items()},
    }


async def server_account(url: str, count: int) -> list[dict[str, Any]]:
    """What the server spent on the requests of each seed from 0 to ``count``; every request of a run has the run's own seed."""
    async with httpx.AsyncClient(trust_env=False) as client:
        account = (await client.get(url.removesuffix("/v1") + "/spent")).json()
    return [account[str(sample_seed(seed, 0))] for seed in range(count)]


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(1000 * value for value in seconds)
    return {"median": round(statistics.median(ordered), 1), "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 1)}


async def lasting(url: str, runs: int) -> dict[str, Any]:
    """Memory and descriptors of the supervisor over many runs; the first fifth is not counted."""
    client = WorkerClient(WorkerSettings(base_url=url, model=MODEL))
    own = psutil.Process()
    figures: list[tuple[int, int]] = []
    async with Sandbox(SandboxSettings(verdict_cache_entries=0), client) as sandbox:
        for block in range(10):
            problems = [nano_problem(0, "test", seed % 20) for seed in range(runs // 10)]
            jobs = (sandbox.run(workflow(SINGLE), problem, seed % 20) for seed, problem in enumerate(problems))
            outcomes = Counter(run.outcome for run in await asyncio.gather(*jobs))
            assert Outcome.INFRA_ERROR not in outcomes, (block, outcomes)
            figures.append((own.memory_info().rss, own.num_fds()))
    await client.aclose()
    growth = (figures[-1][0] - figures[1][0]) / 2**20
    return {"runs": runs, "supervisor_growth_mib": round(growth, 2), "descriptors_growth": figures[-1][1] - figures[1][1]}


async def faulty(fault: str, share: float, runs: int) -> dict[str, Any]:
    """Runs whose worker fails in one way: what they end as, and whether any that was judged differs from one of a sound worker."""

    async def executed(faults: FaultSettings) -> list[tuple[Execution, Outcome]]:
        simulated = await asyncio.to_thread(start_simulated_worker, SimulatedWorkerSettings(faults=faults), TASKS)
        settings = WorkerSettings(base_url=simulated.base_url, model=MODEL, timeout_s=1.0, max_retries=3, cache_entries=0)
        client = WorkerClient(settings)
        try:
            async with Sandbox(SandboxSettings(), client) as sandbox:
                jobs = (sandbox.run(workflow(REFINE), nano_problem(0, "test", seed), seed) for seed in range(runs))
                return [(run.execution, run.outcome) for run in await asyncio.gather(*jobs)]
        finally:
            await client.aclose()
            simulated.close()

    sound, failing = await executed(FaultSettings()), await executed(FaultSettings(**{fault: share}))
    return {
        "masked": sum(outcome is Outcome.INFRA_ERROR for _, outcome in failing),
        "scored_otherwise_than_with_a_sound_worker": sum(
            outcome is not Outcome.INFRA_ERROR and outcome is not wanted for (_, wanted), (_, outcome) in zip(sound, failing, strict=True)
        ),
        "runs": runs,
    }


async def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole report."""
    if arguments.faults:
        ways = {fault: await faulty(fault, 0.2, arguments.runs) for fault in FaultSettings.model_fields}
        return {"share": 0.2, "retries": 3, "faults": ways}
    with await asyncio.to_thread(start_simulated_worker, SimulatedWorkerSettings(latency=LATENCY), TASKS) as slow:
        report = {"load": await load(slow.base_url, arguments.at_once)}
    with await asyncio.to_thread(start_simulated_worker, SimulatedWorkerSettings(), TASKS) as fast:
        return report | {"lasting": await lasting(fast.base_url, 2000), "cores": psutil.cpu_count()}


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m benchmarks.sandbox_load", description="The sandbox under load and under faults.")
    options.add_argument("--faults", action="store_true", help="a failing worker in place of the load")
    options.add_argument("--at-once", type=int, default=64, help="workflows in flight (default 64)")
    options.add_argument("--runs", type=int, default=60, help="runs for each way of failing (default 60)")
    print(json.dumps(uvloop.run(main(options.parse_args()))))
