"""Judges that go on from answer to answer: what may share one, and what must not."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from sandbox.backend import ZygoteBackend
from sandbox.guest.lasting import leaves_nothing
from sandbox.judges.function import SLOW_TO_COMPARE
from sandbox.process import Process
from sandbox.sandbox import TRIES, Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from workflow.outcome import Outcome
from workflow.problem import Problem

ADDS = "def f(xs):\n    return sum(xs)"
PLAIN = ("assert f([1, 2]) == 3", "import math\nassert f([]) == math.floor(0.5)")


def problem(tests: Sequence[str], number: int = 0, setup: str = "") -> Problem:
    return Problem(f"t/{number}", "q", "f", (), tuple(tests), test_setup=setup)


def uncached(**limits: float) -> Sandbox:
    return Sandbox(SandboxSettings(verdict_cache_entries=0, limits=LimitSettings(**limits)))


class KillsJudges(ZygoteBackend):
    """Kills the first judges, each shortly after its start."""

    def __init__(self, settings: SandboxSettings, kills: int) -> None:
        super().__init__(settings)
        self._kills = kills

    async def spawn(self, role: str, sockets: Sequence[socket.socket]) -> Process:
        process = await super().spawn(role, sockets)
        if "judge" in role and self._kills:
            self._kills -= 1
            asyncio.get_running_loop().call_later(0.2, process.kill)
        return process


def waiting(sandbox: Sandbox) -> list[int]:
    """Process ids of the judges that wait."""
    return [judge.process.pid for judge in sandbox.bench._idle]


async def test_one_judge_serves_one_answer_after_another():
    async with uncached() as sandbox:
        assert (await sandbox.judge(problem(PLAIN), ADDS)).outcome is Outcome.PASSED
        (first,) = waiting(sandbox)
        for source, outcome in ((ADDS, Outcome.PASSED), ("def f(xs): return 0", Outcome.WRONG_ANSWER), ("def f(", Outcome.WRONG_ANSWER)):
            assert (await sandbox.judge(problem(PLAIN), source)).outcome is outcome
        assert waiting(sandbox) == [first]


@pytest.mark.parametrize(
    "test",
    [
        "import os\nassert f([]) == 0",
        "import sys\nsys.setrecursionlimit(500)\nassert f([]) == 0",
        "import math\nmath.pi = 3\nassert f([]) == 0",
        "__builtins__.sum = None\nassert f([]) == 0",
        "exec('import os')\nassert f([]) == 0",
        "def inner():\n    import gc\n    return gc\nassert f([]) == 0",
    ],
)
async def test_a_judge_whose_tests_may_leave_something_behind_ends_with_them(test: str):
    async with uncached() as sandbox:
        assert (await sandbox.judge(problem([test]), ADDS)).outcome is Outcome.PASSED
        assert waiting(sandbox) == []
        assert (await sandbox.judge(problem(["import math\nassert math.pi > 3.1 and f([]) == sum([])"]), ADDS)).outcome is Outcome.PASSED


async def test_names_and_random_numbers_of_one_answers_tests_do_not_reach_the_next():
    draws = "import random\nassert f([]) == 0\nfirst = random.random()\nassert first == random.Random(0).random()"
    async with uncached() as sandbox:
        for _ in range(3):
            assert (await sandbox.judge(problem(["kept = f([1])\nassert kept == 1", draws]), ADDS)).outcome is Outcome.PASSED
        verdict = await sandbox.judge(problem(["assert kept == 1"], setup="import math"), ADDS)
        assert verdict.outcome is Outcome.WRONG_ANSWER and len(waiting(sandbox)) == 1


async def test_tests_that_are_not_the_problems_own_get_a_judge_of_their_own():
    ours = problem(["assert f([918273]) == 918273"])
    looks = """import gc
secret = str(918000 + 273)
frames = [held for held in gc.get_objects() if type(held) is dict and 'tests' in held]
assert not any(secret in repr(frame) for frame in frames)
assert f([]) == 0"""
    async with uncached() as sandbox:
        assert (await sandbox.judge(ours, ADDS)).outcome is Outcome.PASSED
        (first,) = waiting(sandbox)
        assert (await sandbox.run_tests(ours, ADDS, [looks])).passed
        assert waiting(sandbox) == [first]


async def test_a_judge_that_spends_its_time_on_values_is_replaced_and_the_next_answer_has_all_of_its_own():
    alike = "def f(xs):\n    return [i * (2**61 - 1) for i in range(60_000)]"  # equal hashes: a set of them takes long to make
    async with uncached(wall_s=120.0, cpu_s=1) as sandbox:
        verdict = await sandbox.judge(problem(["assert len(set(f([]))) == 60_000"]), alike)
        assert verdict.outcome is Outcome.WRONG_ANSWER and verdict.failures == (SLOW_TO_COMPARE,)
        assert waiting(sandbox) == []
        report = await sandbox.run_tests(problem(PLAIN), alike, ["assert len(set(f([0]))) == 60_000"])
        assert report.feedback == SLOW_TO_COMPARE
        busy = "assert sum(i * i for i in range(2_000_000)) > 0 and f([1, 2]) == 3"
        for number in range(10):
            assert (await sandbox.judge(problem([busy], number), ADDS)).outcome is Outcome.PASSED
        assert len(waiting(sandbox)) == 1


async def test_a_value_that_makes_a_judge_grow_ends_it_after_the_verdict():
    async with uncached() as sandbox:
        large = "def f(xs):\n    return list(range(150_000))"
        grows = "many = [f([]) * 40]\nassert len(many[0]) == 6_000_000\nassert len(many[0] + many[0]) == 12_000_000"
        assert (await sandbox.judge(problem([grows]), large)).outcome is Outcome.PASSED
        assert waiting(sandbox) == []


async def test_a_judge_that_was_killed_while_it_waited_costs_nobody_a_verdict():
    async with uncached() as sandbox:
        await sandbox.judge(problem(PLAIN), ADDS)
        sandbox.bench._idle[0].process.kill()  # its end is not known yet when it is asked next
        verdicts = await asyncio.gather(*(sandbox.judge(problem(PLAIN, number), ADDS) for number in range(6)))
        assert {verdict.outcome for verdict in verdicts} == {Outcome.PASSED}


@pytest.mark.parametrize("own", [True, False])
async def test_a_judge_that_is_killed_at_work_is_a_fault_of_the_machine_whatever_the_answer_does(own: bool):
    late = "def f(xs):\n    import time\n    time.sleep(0.5)\n    return sum(xs)"
    tests = PLAIN if own else (*PLAIN, "assert f([7]) == 7")
    for kills, outcome in ((1, Outcome.PASSED), (TRIES, Outcome.INFRA_ERROR)):
        settings = SandboxSettings(verdict_cache_entries=0)
        async with Sandbox(settings, backend=KillsJudges(settings, kills)) as sandbox:
            assert (await sandbox._verdict(problem(PLAIN), late, tests)).outcome is outcome


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("def check(candidate):\n    assert candidate([1, 2], key=lambda x: -x) == {2: [1]}\ncheck(candidate)", True),
        ("xs = [3]\nf(xs)\nxs[0] += 1\nassert xs == [4] and {x for x in xs} == {4}", True),
        ("import random, math\nfrom collections import Counter\nassert Counter('a')", True),
        ("import os.path", False),
        ("from sys import modules", False),
        ("class Node:\n    def __init__(self, x):\n        self.x = x", False),
        ("del f.name", False),
        ("print(open('/etc/passwd').read())", False),
        ("assert ().__class__", False),
        ("[setattr(x, 'a', 1) for x in ()]", False),
    ],
)
def test_code_that_only_computes_is_told_from_code_that_may_change_its_process(source: str, plain: bool):
    assert leaves_nothing(compile(source, "<test>", "exec")) is plain


def test_an_import_behind_many_names_is_found():
    names = "\n".join(f"name_{number} = {number}" for number in range(400))
    assert not leaves_nothing(compile(names + "\nimport os", "<test>", "exec"))
    assert leaves_nothing(compile(names + "\nimport math", "<test>", "exec"))
