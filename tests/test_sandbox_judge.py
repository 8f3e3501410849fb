"""The split judge: verdicts that a candidate cannot forge."""

import asyncio
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.guest.codec import CodecError, Opaque, decode, encode
from sandbox.records import Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import load_problems

TESTS = ("assert f([1, 2]) == 3", "assert f([]) == 0", "assert f([5]) == 5", "assert candidate([2, 2]) == 4")
HUMANEVAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "humaneval.jsonl.gz"


async def verdict(source: str, tests: tuple[str, ...] = TESTS, *, wall_s: float = 10.0) -> Verdict:
    problem = Problem("t/0", "q", "f", (), tests)
    settings = SandboxSettings(limits=LimitSettings(wall_s=wall_s))
    async with Sandbox(settings) as sandbox:
        return await sandbox.judge(problem, source)


async def test_a_right_solution_passes_every_test():
    result = await verdict("def f(xs):\n    return sum(xs)")
    assert result.outcome is Outcome.PASSED and result.passed == (True,) * 4


async def test_partial_credit_counts_the_tests_that_pass():
    result = await verdict("def f(xs):\n    return sum(xs) if xs != [5] else 0")
    assert result.outcome is Outcome.WRONG_ANSWER and result.passed == (True, True, False, True) and result.performance == 0.75


PROMPT = (
    "from typing import List\nimport missing_package\n\ndef double(x):\n    return 2 * x\n\ndef f(xs: List[int]) -> int:\n    '''Adds.'''\n"
)
BARE = "def f(xs: List[int]) -> int:\n    return sum(double(x) for x in xs) // 2"


@pytest.mark.parametrize(
    ("verifier", "test"),
    [
        ("function", "assert f([1, 2]) == 3"),
        ("unittest", "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f([1, 2]), 3)\n"),
    ],
)
async def test_the_imports_and_helpers_of_the_prompt_are_in_force_for_a_candidate(verifier: str, test: str):
    problem = Problem("t/0", PROMPT, "f", (), (test,), verifier=verifier)
    async with Sandbox(SandboxSettings()) as sandbox:
        assert (await sandbox.judge(problem, BARE)).outcome is Outcome.PASSED
        late = f"from __future__ import annotations\n{BARE}"
        assert (await sandbox.judge(problem, late)).outcome is Outcome.PASSED
        own = BARE.replace("double(x)", "double(x) + 2")
        assert (await sandbox.judge(problem, f"def double(x):\n    return 2 * x - 2\n\n{own}")).outcome is Outcome.PASSED
        assert (await sandbox.judge(replace(problem, query="Add."), BARE)).outcome is Outcome.WRONG_ANSWER


FORGERIES = {
    "equal to everything": "class E:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\ndef f(xs): return E()",
    "int subclass": "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(xs): return E(1)",
    "list subclass": "class E(list):\n    def __eq__(self, o): return True\ndef f(xs): return E()",
    "exit 0 at load": "import os\nos._exit(0)",
    "exit 0 in the call": "import os\ndef f(xs): os._exit(0)",
    "sys.exit in the call": "import sys\ndef f(xs): sys.exit(0)",
    "returns None": "def f(xs): return None",
    "no function": "g = 1",
    "does not compile": "def f(xs) return",
    "raises AssertionError": "def f(xs): raise AssertionError()",
    "patched builtins": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.sum = lambda x: 0\ndef f(xs): return -1",
    "writes frames itself": "import os, json, struct\ndef f(xs):\n    b = json.dumps({'done': 4}).encode()\n"
    "    for fd in (3, 4):\n        try: os.write(fd, struct.pack('>I', len(b)) + b)\n        except OSError: pass\n    return -1",
    "stops the test's loop": "def f(xs): raise StopIteration",
    "permissive handle": "class E:\n    def __getattr__(self, n): return lambda *a: True\ndef f(xs): return E()",
    "walks the frames": "import sys\ndef f(xs):\n    fr = sys._getframe()\n    while fr:\n        for v in fr.f_locals.values():\n"
    "            if isinstance(v, list) and v and isinstance(v[0], bool): v[:] = [True] * len(v)\n        fr = fr.f_back\n    return -1",
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_solution_fails_every_test(name: str):
    result = await verdict(FORGERIES[name])
    assert result.outcome is Outcome.WRONG_ANSWER and not any(result.passed), result


async def test_a_solution_that_hangs_in_one_test_fails_that_test_alone():
    result = await verdict("def f(xs):\n    while xs == [5]: pass\n    return sum(xs)", wall_s=8)
    assert result.outcome is Outcome.WRONG_ANSWER and result.passed == (True, True, False, True)
    assert "assert f([5]) == 5 failed: the solution did not answer in time" in result.failures


async def test_a_solution_that_dies_in_one_test_fails_that_test_alone():
    result = await verdict("import os\ndef f(xs):\n    if xs == [5]: os._exit(0)\n    return sum(xs)")
    assert result.outcome is Outcome.WRONG_ANSWER and result.passed == (True, True, False, True)


async def test_a_solution_that_always_hangs_ends_within_the_deadline():
    result = await verdict("def f(xs):\n    while True: pass", TESTS * 5, wall_s=2)
    assert result.outcome is Outcome.WRONG_ANSWER and not any(result.passed) and len(result.passed) == 20
    assert result.wall_s < 15  # not twenty times the second that a call may take


async def test_a_changed_argument_is_seen_by_the_test():
    tests = ("xs = [3, 1]\nf(xs)\nassert xs == [1, 3]",)
    assert (await verdict("def f(xs):\n    xs.sort()", tests)).outcome is Outcome.PASSED


async def test_an_expected_exception_crosses_by_its_builtin_name():
    tests = ("try:\n    f(1)\n    raised = False\nexcept ValueError:\n    raised = True\nassert raised",)
    assert (await verdict("def f(x):\n    raise ValueError('no')", tests)).outcome is Outcome.PASSED


async def test_a_failure_names_its_test_and_what_came_back():
    (message, *_) = (await verdict("def f(xs):\n    return 7")).failures
    assert "assert f([1, 2]) == 3" in message and "returned 7" in message


async def test_a_stop_iteration_of_the_solution_does_not_end_a_tests_loop_early():
    tests = ("assert all(map(lambda n: f(n) == n, [1, 2, 3]))", "assert sum(1 for n in map(f, [1, 2])) == 2")
    result = await verdict("def f(n):\n    raise StopIteration", tests)
    assert result.passed == (False, False)


async def test_an_object_of_the_solutions_own_type_is_neither_true_nor_equal_nor_different():
    tests = ("assert f(1)", "assert f(1) != 3", "assert not f(1)", "assert f(1) in [1, 2]", "assert f(1) == f(1)")
    result = await verdict("class E:\n    pass\ndef f(x):\n    return E()", tests)
    assert not any(result.passed)


async def test_standard_containers_equal_the_builtin_value_that_they_hold():
    tests = (
        "assert f('counter') == {'a': 2, 'b': 1}",
        "assert f('default') == {1: [2]}",
        "assert f('tuple') == (1, 2)",
        "assert f('enum') == 3 and f('ordered') == {1: 2}",
    )
    source = """from collections import Counter, OrderedDict, defaultdict, namedtuple
from enum import IntEnum
Pair = namedtuple('Pair', 'x y')
class Level(IntEnum):
    HIGH = 3
def f(kind):
    lists = defaultdict(list)
    lists[1].append(2)
    made = {'counter': Counter('aab'), 'default': lists, 'tuple': Pair(1, 2), 'enum': Level.HIGH, 'ordered': OrderedDict({1: 2})}
    return made[kind]
"""
    assert (await verdict(source, tests)).passed == (True,) * 4


async def test_huge_values_cross_and_are_shown_short():
    right = await verdict("def f(n):\n    return 7 ** n", ("assert f(20_000) == 7 ** 20_000",))
    assert right.outcome is Outcome.PASSED
    wrong = await verdict("def f(n):\n    return [7 ** n] * 1000", ("assert f(9_000) == 1",))
    assert wrong.outcome is Outcome.WRONG_ANSWER and len(wrong.failures[0]) <= 400


async def test_a_value_too_large_or_too_deep_fails_its_test_alone():
    source = "def f(n):\n    if n == 1: return 'x' * (1 << 24)\n    deep = []\n    for _ in range(n): deep = [deep]\n    return deep"
    result = await verdict(source, ("assert f(1) == 1", "assert f(5000) == 1", "assert f(2) == [[[]]]"))
    assert result.passed == (False, False, True)


async def test_values_that_are_slow_to_compare_end_at_the_deadline_as_wrong():
    source = "def f(n):\n    return {i * (2**61 - 1) for i in range(100_000)}"
    result = await verdict(source, ("assert f(1) == 1",), wall_s=1.0)
    assert result.outcome is Outcome.WRONG_ANSWER and result.late


async def test_an_argument_changed_deep_inside_is_seen_by_the_test():
    tests = ("inner = [2]\nouter = [1, inner]\nf(outer)\nassert outer == [1, [2, 3], 4] and inner == [2, 3]",)
    assert (await verdict("def f(xs):\n    xs[1].append(3)\n    xs.append(4)", tests)).outcome is Outcome.PASSED


async def test_a_broken_test_set_up_is_no_fault_of_the_solution():
    problem = Problem("t/0", "q", "f", (), TESTS, test_setup="raise RuntimeError('the task set is broken')")
    async with Sandbox(SandboxSettings()) as sandbox:
        assert (await sandbox.judge(problem, "def f(xs):\n    return sum(xs)")).outcome is Outcome.INFRA_ERROR


async def test_equal_answers_are_judged_once_and_infrastructure_errors_are_not_kept():
    problem = Problem("t/0", "q", "f", (), TESTS)
    async with Sandbox(SandboxSettings()) as sandbox:
        first, second = await asyncio.gather(*(sandbox.judge(problem, "def f(xs):\n    return sum(xs)") for _ in range(2)))
        assert first is second is await sandbox.judge(problem, "def f(xs):\n    return sum(xs)")
        broken = replace(problem, test_setup="raise RuntimeError")
        assert (await sandbox.judge(broken, "def f(xs): return 0")).outcome is Outcome.INFRA_ERROR
        assert await sandbox.judge(broken, "def f(xs): return 0") is not await sandbox.judge(broken, "def f(xs): return 0")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_values_cross_unchanged_and_keep_their_types(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value and repr(back) == repr(value)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
)
def test_hostile_data_is_refused_or_plain(data):
    try:
        value = decode(data)
    except CodecError:
        return
    assert value is None or type(value) in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, Opaque)


def humaneval() -> list[Problem]:
    if not HUMANEVAL.exists():
        pytest.skip("the full HumanEval file is not beside this checkout")
    with gzip.open(HUMANEVAL) as file:
        assert sum(1 for _ in file) == 164
    return list(load_problems(TaskSettings(name="humaneval", path=str(HUMANEVAL))))


async def test_every_humaneval_reference_passes_and_none_fails():
    problems = humaneval()
    async with Sandbox(SandboxSettings()) as sandbox:
        right = await asyncio.gather(*(sandbox.judge(problem, problem.reference or "") for problem in problems))
        nothing = "def {}(*args, **kwargs):\n    return None"
        wrong = await asyncio.gather(*(sandbox.judge(problem, nothing.format(problem.entry_point)) for problem in problems))
    assert [p.id for p, v in zip(problems, right, strict=True) if v.outcome is not Outcome.PASSED] == []
    assert [p.id for p, v in zip(problems, wrong, strict=True) if v.outcome is not Outcome.WRONG_ANSWER] == []
