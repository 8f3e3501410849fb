"""Plays every role once in the zygote, on scripted frames, before anything hostile exists.

Caches of the interpreter that the first run of a piece of code fills are then full in every fork, instead of being
filled, page by copied page, in each of them.
"""

import socket
from collections.abc import Callable
from typing import Any

from sandbox.guest import candidate, judge, workflow
from sandbox.guest.codec import encode
from sandbox.guest.frames import encode_frame, send

CALLS = 10
IN_TURN = f"""class Workflow:
    async def __call__(self, problem):
        from sandbox.guest import rehearsal
        rehearsal.reply()
        for step in range({CALLS}):
            answer = await self.generate(problem, "hint")
        return answer
"""
AT_ONCE = f"""class Workflow:
    async def __call__(self, problem):
        from sandbox.guest import rehearsal
        asyncio.get_running_loop().call_soon(rehearsal.reply)
        answers = await asyncio.gather(*[self.generate(problem) for _ in range({CALLS})])
        return answers[0]
"""
REPLIES = [{"id": 1 + number, "value": "text", "cost_dollars": 0.0} for number in range(CALLS)]
SOLUTION = "def f(xs):\n    return sum(xs)"


def rehearse() -> None:
    """Two workflow runs, one candidate, one judge."""
    start = {
        "operators": ["generate"],
        "form": "ours",
        "prompts": "",
        "query": "q",
        "entry_point": "f",
        "public_tests": [],
        "seed": 0,
    }
    _play(workflow.run, [{**start, "source": AT_ONCE}])
    _play(workflow.run, [{**start, "source": IN_TURN}])
    call = {"args": encode([[1, 2]]), "kwargs": encode({})}
    _play(candidate.serve, [{"source": SOLUTION, "entry_point": "f", "preamble": ["import math"]}, call])
    tests = {"setup": "", "tests": ["assert f([1, 2]) == 3"], "entry_point": "f", "call_timeout_s": 1.0, "spares": 0}
    script, answers = socket.socketpair()
    with script:
        for frame in ({"loaded": True}, {"value": encode(3), "args": None}):
            send(script, frame)
        _play(judge.run, [tests], answers)


_script: list[socket.socket] = []


def reply() -> None:
    """Answers a workflow's calls; sent from within, since its loop drops what comes before anyone waits."""
    for frame in REPLIES:
        send(_script[0], frame)


def _play(role: Callable[[socket.socket], None], frames: list[dict[str, Any]], attached: socket.socket | None = None) -> None:
    """Runs a role to its end on a socket that already holds all that it will read, the first frame with another socket."""
    script, ours = socket.socketpair()
    with script, ours:
        for frame in frames:
            if attached is not None:
                socket.send_fds(script, [encode_frame(frame)], [attached.fileno()])
                attached.close()
            else:
                send(script, frame)
        if role is candidate.serve:
            script.shutdown(socket.SHUT_WR)
        _script[:] = [script]
        role(ours)
