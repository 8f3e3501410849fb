"""The judge: an answer against tests, by the verifier that its problem names. Every verdict says how far it can be trusted."""

import logging
import time
from collections.abc import Sequence
from functools import lru_cache

from sandbox.deadline import longest_s
from sandbox.guest.frames import FrameError
from sandbox.judges.bench import Bench
from sandbox.judges.runner import CALL_SHARE, BoxRunner
from sandbox.process import BackendError
from sandbox.records import Verdict
from sandbox.settings import LimitSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.settings import WorkerSettings
from workflow.verifiers import VERIFIERS, find_verifier
from workflow.verifiers.judged import MOST_REQUESTS
from workflow.verifiers.runner import JudgeError
from workflow.worker.interface import Worker


async def judge(
    bench: Bench, limits: LimitSettings, problem: Problem, answer: str, tests: Sequence[str], llm: Worker | None = None
) -> Verdict:
    """Runs ``tests`` (the problem's hidden or public ones, or a worker's) on an answer; one entry of ``passed`` a test.

    Args:
        llm: judges where no test can.

    An answer that does not load, crashes or hangs fails the tests that it did not answer. Only faults of our own (no
    process, a judge that breaks off, a verifier that raises) give INFRA_ERROR.
    """
    started = time.monotonic()
    verifier, level = find_verifier(problem.verifier), bench.backend.level
    runner = BoxRunner(bench, limits, problem, llm)
    try:
        results, late, grades = await verifier.examine(runner, problem.public_view(), answer, tests)
        if len(results) != len(tests) or len(grades or tests) != len(tests):
            raise ValueError(f"{len(results)} results for {len(tests)} tests")
        if not all(0 <= grade <= 1 for grade in grades or ()):
            raise ValueError(f"the grade {next(grade for grade in grades or () if not 0 <= grade <= 1)} is not in [0, 1]")
    except Exception as error:  # a verifier of the user's may raise anything
        ours = isinstance(error, BackendError | FrameError | OSError | JudgeError)
        fault = f"sandbox: {error}" if ours else f"the verifier {problem.verifier} failed ({type(error).__name__}: {error})"
        if not ours:
            _log_once(problem.verifier, type(error).__name__)
        return Verdict(Outcome.INFRA_ERROR, (), (fault[:300],), time.monotonic() - started, level, verifier.trust)
    passed = tuple(failure is None for failure in results)
    failures = tuple(failure for failure in results if failure is not None)
    outcome = Outcome.PASSED if passed and all(passed) else Outcome.WRONG_ANSWER
    wall_s, graded = time.monotonic() - started, tuple(grades or ())
    return Verdict(outcome, passed, failures, wall_s, level, verifier.trust, late, graded, runner.cost_dollars)


def longest_judging_s(problem: Problem, limits: LimitSettings, llm: WorkerSettings) -> float:
    """The most that judging one answer may take beyond ``limits.wall_s``: an LLM's replies, or a program's inputs in turn."""
    asked_s = llm.timeout_s * (1 + llm.max_retries) * MOST_REQUESTS
    each_s = {"judge": asked_s, "parent": longest_s(limits.wall_s * CALL_SHARE)}
    trust = "" if VERIFIERS.problem(problem.verifier) else find_verifier(problem.verifier).trust  # one that only the sandbox knows
    return each_s.get(trust, 0.0) * len(problem.tests)


@lru_cache(maxsize=256)
def _log_once(verifier: str, fault: str) -> None:
    """With the traceback of the exception that is being handled."""
    logging.getLogger(__name__).exception("The verifier %s failed with %s, which is a mistake of its own.", verifier, fault)
