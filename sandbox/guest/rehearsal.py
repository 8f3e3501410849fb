"""Plays every role once in the zygote, on scripted frames, before anything hostile exists.

Caches of the interpreter that the first run of a piece of code fills are then full in every fork, instead of being
filled, page by copied page, in each of them.
"""

import socket
from typing import Any

from sandbox.guest import candidate, judge, workflow
from sandbox.guest.codec import encode
from sandbox.guest.frames import send

WORKFLOW = """class Workflow:
    async def __call__(self, problem):
        from sandbox.guest import rehearsal
        asyncio.get_running_loop().call_soon(rehearsal.reply)
        return await self.generate(problem)
"""
SOLUTION = "def f(xs):\n    return sum(xs)"


def rehearse() -> None:
    """One workflow run, one candidate, one judge."""
    start = {
        "source": WORKFLOW,
        "operators": ["generate"],
        "form": "ours",
        "prompts": "",
        "query": "q",
        "entry_point": "f",
        "public_tests": [],
        "seed": 0,
    }
    _play(workflow.run, [[start]])
    call = {"args": encode([[1, 2]]), "kwargs": encode({})}
    _play(candidate.serve, [[{"source": SOLUTION, "entry_point": "f"}], [call]])
    tests = {"setup": "", "tests": ["assert f([1, 2]) == 3"], "entry_point": "f", "call_timeout_s": 1.0}
    _play(judge.run, [[tests], [{"loaded": True}, {"value": encode(3), "args": None}]])


_first_script: list[socket.socket] = []


def reply() -> None:
    """Answers the workflow's call, once it is made."""
    send(_first_script[0], {"id": 1, "value": "text", "cost_dollars": 0.0})


def _play(role: Any, scripts: list[list[dict[str, Any]]]) -> None:
    """Runs a role to its end on sockets that already hold all that it will read."""
    pairs = [socket.socketpair() for _ in scripts]
    for (script_end, _), frames in zip(pairs, scripts, strict=True):
        for frame in frames:
            send(script_end, frame)
    _first_script[:] = [pairs[0][0]]
    for script_end, _ in pairs[1:]:
        script_end.shutdown(socket.SHUT_WR)
    role(*(role_end for _, role_end in pairs))
    for pair in pairs:
        for end in pair:
            end.close()
