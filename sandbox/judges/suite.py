"""unittest cases that mock, patch or write files: candidate and tests share one jailed process (BigCodeBench).

Such a verdict can be forged from inside, so the same tests with perturbed expectations run too, each side of the
comparisons in a process of its own: a candidate that passes a test whose expectations are wrong fails that test. What is
left for a forger is to tell the controls from the tests. Verdicts carry the trust level ``shared``.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.backend import Backend
from sandbox.channel import Channel
from sandbox.deadline import Deadline
from sandbox.guest.frames import FrameError
from sandbox.judges.perturb import SIDES, perturb
from sandbox.process import Process
from sandbox.settings import LimitSettings
from workflow.verifiers.runner import Examined

CALL_SHARE = 0.5
"""Share of the judgement's deadline that one test may take."""
FORGED = "it passes the same test with wrong expectations"


async def examine_beside(
    backend: Backend, limits: LimitSettings, source: str, tests: Sequence[str], setup: str, preamble: Sequence[str]
) -> Examined:
    """Test by test: a candidate must pass the test and fail its controls.

    Raises BackendError, FrameError or OSError for faults of our own.
    """
    try:
        controls = [[perturb(test, side) for test in tests] for side in SIDES]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # whoever wrote the test, the box is not at fault
        return Examined([f"no control can be made of a test ({type(error).__name__})"] * len(tests), False)
    start = {"source": source, "setup": setup, "preamble": list(preamble)}
    found, *checks = await asyncio.gather(
        _run(backend, limits, start, list(tests)),
        *(_run(backend, limits, start, [control for control in group if control is not None]) for group in controls),
    )
    results = list(found.results)
    for group, check in zip(controls, checks, strict=True):
        outcomes = iter(check.results)
        for index, control in enumerate(group):
            if control is not None and next(outcomes) is None and results[index] is None:
                results[index] = FORGED
    return Examined(results, found.late or any(check.late for check in checks))


async def _run(backend: Backend, limits: LimitSettings, start: Mapping[str, Any], tests: list[str]) -> Examined:
    """Every test in turn; after one that hangs or kills its process the others get a fresh one."""
    results: list[str | None] = []
    late = False
    deadline = Deadline(limits.wall_s)
    while len(results) < len(tests):
        if deadline.left_s <= 0:
            return Examined(results + [f"no answer within {limits.wall_s:g} s"] * (len(tests) - len(results)), True)
        fresh = await _one_process(backend, start, tests[len(results) :], deadline, limits.wall_s * CALL_SHARE)
        results += fresh.results
        late = late or fresh.late
    return Examined(results, late)


async def _one_process(backend: Backend, start: Mapping[str, Any], tests: list[str], deadline: Deadline, test_timeout_s: float) -> Examined:
    """At least one result, unless the host's side fails."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    process: Process | None = None
    results: list[str | None] = []
    try:
        process = await backend.spawn("suite", [theirs])
        await channel.send({**start, "tests": tests})
        async with deadline:
            loaded = await channel.receive()
            if loaded is None:
                await process.wait()  # raises BackendError where the zygote died, too
            if loaded is None or loaded.get("loaded") is not True:
                return Examined([str((loaded or {}).get("message", "the solution ended while it loaded"))[:400]] * len(tests), False)
            while len(results) < len(tests):
                async with Deadline(test_timeout_s):
                    frame = await channel.receive()
                if frame is None:
                    await process.wait()
                if frame is None or frame.get("test") != len(results) or not isinstance(frame.get("passed"), bool):
                    return Examined([*results, "the solution's process broke off"], False)
                results.append(None if frame["passed"] else str(frame.get("message", ""))[:400] or "it failed")
            done = await channel.receive()
        if done is None or done.get("done") != len(tests) or await process.wait() != 0:
            return Examined(["the solution's process did not end as it must"] * len(tests), False)
    except TimeoutError:
        return Examined([*results, "no answer in time"], True)
    except FrameError as error:
        if process is None:
            raise
        return Examined([*results, f"the solution's process broke the protocol ({error})"], False)
    finally:
        if process is not None:
            process.kill()
        channel.close()
        theirs.close()
    return Examined(results, False)
