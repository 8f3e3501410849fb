"""The other verifiers: programs on stdin, unittest cases beside the solution, exact numbers."""

import asyncio
import json
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sandbox.sandbox
from sandbox.backend import ZygoteBackend
from sandbox.judges.perturb import perturb
from sandbox.program import run_program
from sandbox.records import Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from tests.sandbox_parts import box
from workflow.number import read_number
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.verifiers.code import is_same_output
from workflow.verifiers.number import NumberVerifier


async def verdict(verifier: str, answer: str, tests: tuple[str, ...], *, setup: str = "", wall_s: float = 6.0) -> Verdict:
    settings = SandboxSettings(limits=LimitSettings(wall_s=wall_s))
    problem = Problem("t/0", "q", "task_func", (), tests, test_setup=setup, verifier=verifier)
    async with Sandbox(settings) as sandbox:
        return await sandbox.judge(problem, answer)


ADD = (json.dumps({"stdin": "1 2\n", "stdout": "3\n"}), json.dumps({"stdin": "5 6", "stdout": "11"}))


@pytest.mark.parametrize(
    "program",
    [
        "print(sum(map(int, input().split())))",
        "import sys\nsys.stdout.write(str(sum(map(int, sys.stdin.read().split()))) + '   \\n\\n')",
        "import os\nos.write(1, str(sum(map(int, os.read(0, 99).split()))).encode())",
        "if __name__ == '__main__':\n    print(sum(map(int, open(0).read().split())))\n    raise SystemExit",
    ],
)
async def test_a_program_passes_however_it_reads_and_writes(program: str):
    result = await verdict("stdio", program, ADD)
    assert (result.outcome, result.trust) == (Outcome.PASSED, "parent"), result


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ("0.50\n", "0.5", True),
        ("  3\n4  \n", "3\n4", True),
        ("\n\n3\n", "3", True),
        ("1  2", "1 2", True),
        ("1e3 -0", "1000 0", True),
        ("a  b", "a b", False),
        ("3\n\n4", "3\n4", False),
        ("0.51", "0.5", False),
        ("yes", "no", False),
        ("nan", "NaN", False),
        ("sNaN 1", "2 1", False),
        ("1", "1 1", False),
    ],
)
def test_outputs_are_compared_as_livecodebench_does(found: str, expected: str, same: bool):
    assert is_same_output(found, expected) is same


async def test_an_output_is_kept_as_long_as_its_test_expects():
    case = json.dumps({"stdin": "30000", "stdout": "12345\n" * 30_000})
    assert (await verdict("stdio", "print('12345\\n' * int(input()))", (case,))).outcome is Outcome.PASSED


SLEEPS = tuple(json.dumps({"stdin": str(n), "stdout": str(n)}) for n in range(6))


async def test_each_input_has_a_deadline_of_its_own_until_too_many_pass():
    slow = await verdict("stdio", "import time\ntime.sleep(0.7)\nprint(input())", SLEEPS, wall_s=4)
    assert slow.outcome is Outcome.PASSED and slow.wall_s > 4, slow
    hanging = await verdict("stdio", "import time\ntime.sleep(60)", SLEEPS, wall_s=0.5)
    assert hanging.passed == (False,) * 6 and hanging.late
    assert [failure.split(",")[0] for failure in hanging.failures[3:]] == ["the program failed: not run"] * 3


async def test_each_input_counts_for_itself():
    result = await verdict("stdio", "print(3)", ADD)
    assert result.passed == (True, False) and "'5 6'" in result.failures[0]


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print(sum(map(int, input().split())))\nraise SystemExit(1)", "exit status 1"),
        ("print(sum(map(int, input().split())))\n1 / 0", "ZeroDivisionError"),
        ("import os\nprint(3)\nos._exit(0)", "it wrote ''"),
        ("import time\ntime.sleep(60)", "no end within"),
        ("while True: print('x' * 10000)", "no end within"),
        ("import ctypes\nctypes.string_at(0)", "exit status -11"),
        ("print(open('/proc/self/mem').read())", "failed"),
    ],
)
async def test_a_program_that_does_not_end_well_fails(program: str, why: str):
    result = await verdict("stdio", program, ADD, wall_s=1 if why == "no end within" else 60)
    assert result.outcome is Outcome.WRONG_ANSWER and why in result.failures[0], result


async def test_a_program_is_shown_with_its_streams_cut_and_its_time():
    async with box("namespace") as sandbox:
        limits = LimitSettings(output_kib=1)
        done = await run_program(sandbox.backend, limits, "import sys\nprint('é' * 9999)\nsys.stderr.write('bad')\nsys.exit(7)")
        raw = await run_program(sandbox.backend, limits, "import os\nos.write(1, bytes([255, 65]))\nx = sum(range(2 * 10**6))")
    assert (done.exit_status, done.stderr, len(done.stdout.encode())) == (7, "bad", 1024)
    assert raw.stdout == "\\xffA" and 0 < raw.cpu_s < 5 and raw.isolation == "namespace"


CASE = """class TestCases(unittest.TestCase):
    def setUp(self):
        self.n = 4
    def test_one(self):
        self.assertEqual(task_func(self.n), 8)"""
OTHER = (
    "class TestCases(unittest.TestCase):\n    def test_two(self):\n        with self.assertRaises(ValueError):\n            task_func('x')"
)
RIGHT = "def task_func(n):\n    if n == 'x': raise ValueError\n    return n * 2"


async def test_cases_beside_the_solution_count_one_by_one_and_are_marked_as_shared():
    result = await verdict("unittest", RIGHT, (CASE, OTHER), setup="import unittest")
    assert (result.outcome, result.passed, result.trust) == (Outcome.PASSED, (True, True), "shared"), result
    half = await verdict("unittest", "def task_func(n): return n * 2", (CASE, OTHER), setup="import unittest")
    assert half.passed == (True, False)


FORGERS = {
    "always equal": "class E:\n    __eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\ndef task_func(n): return E()",
    "patched unittest": "import unittest\nfor name in dir(unittest.TestCase):\n    if name.startswith('assert'):\n"
    "        setattr(unittest.TestCase, name, lambda *a, **k: None)\ndef task_func(n): return 0",
    "patched result": "import unittest\nunittest.TestResult.wasSuccessful = lambda s: True\ndef task_func(n): return 0",
    "exit": "import os\ndef task_func(n): os._exit(0)",
    "system exit": "def task_func(n): raise SystemExit(0)",
    "skip": "import unittest\ndef task_func(n): raise unittest.SkipTest('x')",
    "frames of its own": "import os, json, struct\nfor frame in ({'loaded': True}, {'test': 0, 'passed': True}, {'done': 1}):\n"
    "    data = json.dumps(frame).encode()\n    os.write(3, struct.pack('>I', len(data)) + data)\nos._exit(0)",
    "run patched away": "import unittest\ndef run(s, result=None): result.testsRun = 1\n"
    "unittest.TestCase.run = run\ndef task_func(n): return 0",
    "hang": "import time\ndef task_func(n): time.sleep(99)",
}


@pytest.mark.parametrize("name", FORGERS)
async def test_forgers_beside_the_tests_are_found_out_by_wrong_expectations(name: str):
    result = await verdict("unittest", FORGERS[name], (CASE,), setup="import unittest", wall_s=3)
    assert result.outcome is Outcome.WRONG_ANSWER, result


async def test_a_hanging_case_does_not_fail_the_next():
    slow = "import time\ndef task_func(n):\n    if n == 'x': raise ValueError\n    time.sleep(60)"
    assert (await verdict("unittest", slow, (CASE, OTHER), setup="import unittest", wall_s=8)).passed == (False, True)


@pytest.mark.parametrize(
    ("statement", "control"),
    [
        ("self.assertEqual(a, 1)", "self.assertEqual(a, ('perturbed', 1))"),
        ("self.assertTrue(a)", "self.assertFalse(a)"),
        ("self.assertRaises(ValueError, f)", "self.assertRaises(ZeroDivisionError, f)"),
        ("self.assertNotIn(a, b)", "self.assertIn(a, b)"),
        ("assert a == b", "assert a == ('perturbed', b)"),
        ("assert a", "assert not a"),
    ],
)
def test_a_control_expects_what_is_wrong(statement: str, control: str):
    assert perturb(statement, "second") == control


def test_a_test_without_expectations_has_no_control():
    assert perturb("mock.assert_called_once()", "second") is None


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("18", 18),
        ("She makes $18.", 18),
        ("So 3 + 4 = 7.\n#### 1,234", 1234),
        ("The answer is 12. (I checked it 3 times.)", 12),
        (r"Hence \boxed{42}", 42),
        ("about 2.50 dollars", 2.5),
        ("-7", -7),
        ("\u22127", -7),
        ("half: 1/2", 0.5),
        ("**Answer: 5**", 5),
        ("no number here", None),
        ("", None),
        ("1/0", None),
    ],
)
def test_the_number_of_an_answer(answer: str, number: float | None):
    assert read_number(answer) == number


@given(st.text())
def test_any_text_has_a_number_or_none(text: str):
    NumberVerifier().compare(text, "18")


@given(st.integers(-(10**12), 10**12))
def test_a_plain_integer_is_read_back(number: int):
    assert read_number(f"The result: {number:,}.") == number


async def test_numbers_are_exact_and_many_guesses_count_as_the_last():
    assert (await verdict("number", "18.0", ("18",))).outcome is Outcome.PASSED
    assert (await verdict("number", "18.0000001", ("18",))).outcome is Outcome.WRONG_ANSWER
    assert (await verdict("number", " ".join(map(str, range(100))), ("18",))).outcome is Outcome.WRONG_ANSWER


@pytest.mark.parametrize(("verifier", "tests"), [("unittest", (CASE,)), ("stdio", ADD), ("function", ("assert task_func(1) == 2",))])
async def test_a_zygote_that_dies_in_a_judgement_is_no_fault_of_the_answer(verifier: str, tests: tuple[str, ...], monkeypatch):
    monkeypatch.setattr(sandbox.sandbox, "TRIES", 1)
    slow = "import time, unittest\ntime.sleep(30)\ndef task_func(n): return 8"
    problem = Problem("t/0", "q", "task_func", (), tests, test_setup="import unittest", verifier=verifier)
    async with box("namespace") as one:
        assert isinstance(one.backend, ZygoteBackend) and one.backend.pid is not None
        judging = asyncio.ensure_future(one.judge(problem, slow))
        await asyncio.sleep(0.5)
        os.kill(one.backend.pid, signal.SIGKILL)
        assert (await asyncio.wait_for(judging, 20)).outcome is Outcome.INFRA_ERROR
        sound = Problem("t/1", "q", "task_func", (), ("assert task_func(1) == 2",))
        assert (await one.judge(sound, "def task_func(n): return 2")).outcome is Outcome.PASSED
