"""The judge: an answer against tests, by the verifier that its problem names. Every verdict says how far it can be trusted."""

import time
from collections.abc import Sequence

from sandbox.guest.frames import FrameError
from sandbox.judges import function, number, stdio, suite
from sandbox.judges.bench import Bench
from sandbox.judges.examined import Examined
from sandbox.process import BackendError
from sandbox.records import Trust, Verdict
from sandbox.settings import LimitSettings
from workflow.code import extract_code
from workflow.outcome import Outcome
from workflow.problem import Problem, Verifier

TRUST: dict[Verifier, Trust] = {"function": "split", "stdio": "parent", "unittest": "shared", "number": "parent"}


async def judge(bench: Bench, limits: LimitSettings, problem: Problem, answer: str, tests: Sequence[str]) -> Verdict:
    """Runs ``tests`` (the problem's hidden or public ones, or a worker's) on an answer; one entry of ``passed`` a test.

    An answer that does not load, crashes or hangs fails the tests that it did not answer. Only faults of our own (no
    process, a judge that breaks off) give INFRA_ERROR.
    """
    started = time.monotonic()
    trust, level = TRUST[problem.verifier], bench.backend.level
    try:
        results, late = await _examined(bench, limits, problem, answer, tests)
    except (BackendError, FrameError, OSError) as error:
        return Verdict(Outcome.INFRA_ERROR, (), (f"sandbox: {error}"[:300],), time.monotonic() - started, level, trust)
    passed = tuple(failure is None for failure in results)
    failures = tuple(failure for failure in results if failure is not None)
    outcome = Outcome.PASSED if passed and all(passed) else Outcome.WRONG_ANSWER
    return Verdict(outcome, passed, failures, time.monotonic() - started, level, trust, late)


async def _examined(bench: Bench, limits: LimitSettings, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
    """Raises BackendError, FrameError or OSError for faults of our own."""
    if problem.verifier == "number":
        return Examined(number.examine(answer, tests), False)
    source = extract_code(answer, problem.entry_point)
    if problem.verifier == "stdio":
        return await stdio.examine(bench.backend, limits, source, tests)
    if problem.verifier == "unittest":
        return await suite.examine(bench.backend, limits, source, tests, problem.test_setup)
    own = set(tests) <= {*problem.public_tests, *problem.hidden_tests}
    return await function.examine(bench, limits, source, problem.entry_point, tests, problem.test_setup, own=own)
