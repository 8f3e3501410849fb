"""Programs that read stdin and write stdout: one fresh process a test, compared in the trusted parent.

A test is a JSON object with the texts ``stdin`` and ``stdout``. Expected output never enters the box.
"""

import json
from collections.abc import Sequence

from sandbox.backend import Backend
from sandbox.judges.examined import Examined
from sandbox.program import run_program
from sandbox.settings import LimitSettings

CALL_SHARE = 0.5
"""Share of the judgement's deadline that one test may take."""
SHOWN = 200


async def examine(backend: Backend, limits: LimitSettings, source: str, tests: Sequence[str]) -> Examined:
    """A program's output against the expected one, test by test.

    Lines are compared without trailing blanks, and blank lines at the end do not count. Raises BackendError for faults of our own.
    """
    left_s = limits.wall_s
    results: list[str | None] = []
    late = False
    for test in tests:
        case = json.loads(test)
        if left_s <= 0:
            results.append(f"no answer within {limits.wall_s:g} s")
            continue
        deadline_s = min(left_s, limits.wall_s * CALL_SHARE)
        done = await run_program(backend, limits.model_copy(update={"wall_s": deadline_s}), source, case["stdin"])
        left_s -= done.wall_s
        late = late or done.late
        if done.limit:
            results.append(f"the program was ended: {done.limit}")
        elif done.exit_status != 0:
            results.append(f"the program failed: {done.error_line()[:SHOWN]}")
        elif lines(done.stdout) != lines(case["stdout"]):
            results.append(f"for the input {case['stdin'][:SHOWN]!r} it wrote {done.stdout[:SHOWN]!r}")
        else:
            results.append(None)
    return Examined(results, late)


def lines(text: str) -> list[str]:
    """The lines that are compared: no blanks at their ends, no blank ones at the end."""
    return [line.rstrip() for line in text.rstrip().splitlines()]
