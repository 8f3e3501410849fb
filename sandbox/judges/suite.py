"""unittest cases that mock, patch or write files: candidate and tests share one jailed process (BigCodeBench).

Such a verdict can be forged from inside, so the same tests with perturbed expectations run too, each side of the
comparisons in a process of its own: a candidate that passes a test whose expectations are wrong fails that test. What is
left for a forger is to tell the controls from the tests. Verdicts carry the trust level ``shared``.
"""

import asyncio
import socket
from collections.abc import Sequence

from sandbox.backend import Backend
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError
from sandbox.judges.perturb import SIDES, perturbed
from sandbox.process import Process
from sandbox.settings import LimitSettings

CALL_SHARE = 0.5
"""Share of the judgement's deadline that one test may take."""
FORGED = "it passes the same test with wrong expectations"


async def examine(backend: Backend, limits: LimitSettings, source: str, tests: Sequence[str], setup: str) -> list[str | None]:
    """What is wrong with a candidate, test by test; None where it passes the test and fails its controls.

    Raises BackendError, FrameError or OSError for faults of our own.
    """
    try:
        controls = [[perturbed(test, side) for test in tests] for side in SIDES]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # whoever wrote the test, the box is not at fault
        return [f"no control can be made of a test ({type(error).__name__})"] * len(tests)
    results, *checks = await asyncio.gather(
        _run(backend, limits, source, list(tests), setup),
        *(_run(backend, limits, source, [control for control in group if control is not None], setup) for group in controls),
    )
    for group, check in zip(controls, checks, strict=True):
        outcomes = iter(check)
        for index, control in enumerate(group):
            if control is not None and next(outcomes) is None and results[index] is None:
                results[index] = FORGED
    return results


async def _run(backend: Backend, limits: LimitSettings, source: str, tests: list[str], setup: str) -> list[str | None]:
    """Every test in turn; after one that hangs or kills its process the others get a fresh one."""
    results: list[str | None] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.wall_s
    while len(results) < len(tests):
        left_s = deadline - loop.time()
        if left_s <= 0:
            return results + [f"no answer within {limits.wall_s:g} s"] * (len(tests) - len(results))
        fresh = await _one_process(backend, source, tests[len(results) :], setup, left_s, limits.wall_s * CALL_SHARE)
        results += fresh
    return results


async def _one_process(
    backend: Backend, source: str, tests: list[str], setup: str, left_s: float, test_timeout_s: float
) -> list[str | None]:
    """At least one result, unless the host's side fails."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    process: Process | None = None
    results: list[str | None] = []
    try:
        process = await backend.spawn("suite", [theirs])
        await channel.send({"source": source, "tests": tests, "setup": setup})
        async with asyncio.timeout(left_s):
            loaded = await channel.receive()
            if loaded is None:
                await process.wait()  # raises BackendError where the zygote died, too
            if loaded is None or loaded.get("loaded") is not True:
                return [str((loaded or {}).get("message", "the solution ended while it loaded"))[:400]] * len(tests)
            while len(results) < len(tests):
                async with asyncio.timeout(test_timeout_s):
                    frame = await channel.receive()
                if frame is None:
                    await process.wait()
                if frame is None or frame.get("test") != len(results) or not isinstance(frame.get("passed"), bool):
                    return [*results, "the solution's process broke off"]
                results.append(None if frame["passed"] else str(frame.get("message", ""))[:400] or "it failed")
            done = await channel.receive()
        if done is None or done.get("done") != len(tests) or await process.wait() != 0:
            return ["the solution's process did not end as it must"] * len(tests)
    except TimeoutError:
        return [*results, f"no answer within {min(left_s, test_timeout_s):g} s"]
    except FrameError as error:
        if process is None:
            raise
        return [*results, f"the solution's process broke the protocol ({error})"]
    finally:
        if process is not None:
            process.kill()
        channel.close()
        theirs.close()
    return results
