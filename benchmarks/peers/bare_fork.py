"""The floor of any judge with one fresh process a solution: what a fork and the program itself cost, with nothing around them.

    python -I -S benchmarks/peers/bare_fork.py HumanEval.jsonl.gz WORKERS

Each worker forks a child a solution, which runs the solution and its check by ``exec`` and exits: no isolation, no limits, no
channel, no verdict but the exit status. ``exec_per_s`` leaves out the fork, too. Prints one JSON line.
"""

import gc
import gzip
import json
import math  # noqa: F401  what most solutions import, loaded once before the forks, as in any warm process
import os
import random  # noqa: F401
import re  # noqa: F401
import sys
import time
import typing  # noqa: F401
from collections.abc import Callable

COPIES = 4


def programs(path: str) -> list[str]:
    """HumanEval's reference solutions, each with its check and the call of it."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [f"{row['prompt']}{row['canonical_solution']}\n{row['test']}\ncheck({row['entry_point']})" for row in rows]


def run(program: str) -> None:
    """Compiles and runs one."""
    exec(compile(program, "<program>", "exec"), {"__name__": "program"})


def fork_and_run(program: str) -> None:
    """The same in a child; raises where it fails."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run(program)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0, program[:200]


def measure(job: Callable[[str], None], jobs: list[str], workers: int) -> tuple[float, float]:
    """Jobs a second over all workers, and CPU milliseconds a job."""
    before, started = os.times(), time.perf_counter()
    lanes = []
    for lane in range(workers):
        pid = os.fork()
        if pid == 0:
            for program in jobs[lane::workers]:
                job(program)
            os._exit(0)
        lanes.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in lanes)
    after, wall_s = os.times(), time.perf_counter() - started
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return round(len(jobs) / wall_s, 1), round(1000 * cpu_s / len(jobs), 2)


if __name__ == "__main__":
    everything = programs(sys.argv[1]) * COPIES
    gc.collect()
    gc.freeze()
    (per_s, cpu_ms), (exec_per_s, exec_cpu_ms) = (measure(job, everything, int(sys.argv[2])) for job in (fork_and_run, run))
    print(json.dumps({"per_s": per_s, "cpu_ms": cpu_ms, "exec_per_s": exec_per_s, "exec_cpu_ms": exec_cpu_ms}))
