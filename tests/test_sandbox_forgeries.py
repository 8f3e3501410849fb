"""Attacks on the verdict: whatever a candidate does, only right values pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.guest.codec import CodecError, Opaque, decode, encode, mirror, show
from sandbox.records import Verdict
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from workflow.outcome import Outcome
from workflow.problem import Problem

SECRET = 918273645
TESTS = (f"assert f(1) == {SECRET}", f"assert f(2) == {SECRET + 1}")


async def verdict(source: str, tests: tuple[str, ...] = TESTS, *, setup: str = "", wall_s: float = 10.0) -> Verdict:
    settings = SandboxSettings(limits=LimitSettings(wall_s=wall_s))
    async with Sandbox(settings) as sandbox:
        return await sandbox.judge(Problem("t/0", "q", "f", (), tests, test_setup=setup), source)


HEADER = "import builtins, ctypes, gc, io, json, os, struct, sys, types\n"
FORGERIES = {
    "gc walk for the tests": "def f(x):\n    for held in gc.get_objects():\n        for text in held if isinstance(held, list) else ():\n"
    "            if isinstance(text, str) and text.startswith(f'assert f({x}) == 9'): return int(text.split()[-1])\n"
    "    return 0",
    "constants of the callers' code": "def f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for value in frame.f_code.co_consts:\n            if type(value) is int and value > 900000000: return value\n"
    "        frame = frame.f_back\n    return 0",
    "tests on the disk": "def f(x):\n    for top, _, names in os.walk('/'):\n        for name in names:\n"
    "            if 'test' in name and 'f' not in name: return open(os.path.join(top, name)).read()\n    return 0",
    "memory of the judge": "def f(x):\n    for pid in range(1, 50):\n        try: return open(f'/proc/{pid}/mem', 'rb').read(10)\n"
    "        except OSError: pass\n    return 0",
    "patched equality of int": "def f(x):\n    class I(int):\n        __eq__ = lambda s, o: True\n"
    "        __hash__ = int.__hash__\n    return I(5)",
    "patched codec": "def f(x):\n    codec = sys.modules['sandbox.guest.codec']\n"
    "    codec._encode = lambda *a: ['o', 'anything']\n    return 0",
    "a forged reply with more fields": "def f(x):\n    body = json.dumps({'value': ['b', True], 'passed': True, 'done': 2, "
    "'test': 0}).encode()\n"
    "    for fd in range(3, 20):\n        try: os.write(fd, struct.pack('>I', len(body)) + body)\n"
    "        except OSError: pass\n    return 0",
    "a reply that raises SystemExit": "def f(x):\n    raise SystemExit(0)",
    "a reply that raises StopIteration": "def f(x):\n    raise StopIteration",
    "a reply that raises CandidateGone": "class CandidateGone(BaseException): pass\ndef f(x):\n    raise CandidateGone()",
    "an exception whose text is hostile": "class E(Exception):\n    def __str__(self): os._exit(0)\ndef f(x):\n    raise E()",
    "a metaclass that equals all": "class M(type):\n    def __eq__(s, o): return True\n    __hash__ = type.__hash__\n"
    "class E(metaclass=M): pass\ndef f(x):\n    return E",
    "a generator": "def f(x):\n    while True: yield x",
    "a crash of the interpreter": "def f(x):\n    ctypes.string_at(0)",
    "a recursion without end": "sys.setrecursionlimit(10**9)\ndef f(x):\n    return f(x)",
    "a value too large": "def f(x):\n    return 'x' * (64 << 20)",
    "a value too deep": "def f(x):\n    v = []\n    for _ in range(10**5): v = [v]\n    return v",
    "a value that holds itself": "def f(x):\n    v = []\n    v.append(v)\n    return v",
    "a memory bomb": "def f(x):\n    return len([bytearray(1 << 20) for _ in range(10**6)])",
    "closed descriptors": "def f(x):\n    os.closerange(0, 100)\n    return 0",
    "the test module redefined": "check = candidate = lambda *a: True\ndef f(x):\n    global f\n    f = None\n    return 0",
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_passes_no_test(name: str):
    result = await verdict(HEADER + FORGERIES[name], wall_s=2)
    assert result.outcome is Outcome.WRONG_ANSWER and result.passed == (False, False), result


@pytest.mark.parametrize("name", ["gc walk for the tests", "constants of the callers' code"])
def test_the_same_forgery_passes_where_tests_and_candidate_share_an_interpreter(name: str):
    namespace: dict = {}
    exec(HEADER + FORGERIES[name], namespace)
    tests = list(TESTS)
    for test in tests:
        exec(test, namespace)


async def test_an_expected_exception_of_another_kind_does_not_count():
    tests = ("try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError",)
    assert (await verdict("def f(x): raise KeyError(x)", tests)).outcome is Outcome.WRONG_ANSWER
    assert (await verdict("import os\ndef f(x): os._exit(0)", tests)).outcome is Outcome.WRONG_ANSWER
    assert (await verdict("class E(ValueError): pass\ndef f(x): raise E(x)", tests)).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "use", ["f(1) == 3", "f(1) != 3", "f(1)", "not f(1)", "f(1) in (1, 2)", "f(1) < 3", "f(1) is True", "len(f(1)) == 0"]
)
async def test_an_object_of_the_candidates_own_type_passes_no_assertion(use: str):
    source = "class Own:\n    def __eq__(s, o): return True\n    def __lt__(s, o): return True\n    def __len__(s): return 0\n"
    assert (await verdict(source + "def f(x): return Own()", (f"assert {use}",))).outcome is Outcome.WRONG_ANSWER


async def test_values_of_standard_types_keep_their_kind():
    values = "{'c': Counter('aab'), 'o': OrderedDict(a=1), 'n': float('nan'), 'z': -0.0}"
    source = f"from collections import Counter, OrderedDict\ndef f(k):\n    return {values}[k]"
    tests = ("assert f('c') == {'a': 2, 'b': 1}", "assert f('o') == {'a': 1}", "assert f('n') != f('n')", "assert str(f('z')) == '-0.0'")
    assert (await verdict(source, tests)).outcome is Outcome.PASSED


async def test_changes_of_nested_arguments_are_seen_through_the_tests_own_names():
    in_list = "xs = [[3, 1], [2]]\ninner = xs[0]\nf(xs)\nassert inner == [1, 3] and xs == [[1, 3], [2]]"
    assert (await verdict("def f(xs):\n    for x in xs: x.sort()", (in_list,))).outcome is Outcome.PASSED
    in_dict = "inner = [3, 1]\nouter = {'a': inner, 'c': 1}\nf(outer)\nassert inner == [1, 3] and outer == {'a': [1, 3], 'b': 2}"
    assert (await verdict("def f(d):\n    d['a'].sort()\n    d['b'] = 2\n    del d['c']", (in_dict,))).outcome is Outcome.PASSED


async def test_state_of_the_candidate_lasts_for_its_own_tests_only():
    counting = "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n"
    async with Sandbox(SandboxSettings(verdict_cache_entries=0)) as sandbox:
        problem = Problem("t/0", "q", "f", (), ("assert f(0) == 1", "assert f(0) == 2"))
        verdicts = [await sandbox.judge(problem, counting) for _ in range(3)]
    assert [one.outcome for one in verdicts] == [Outcome.PASSED] * 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
tagged = st.recursive(
    st.tuples(st.sampled_from("nbifcusyltezdo?"), json_values).map(list),
    lambda inner: st.tuples(st.sampled_from("ltezd"), st.lists(inner | st.lists(inner, max_size=3), max_size=4)).map(list),
    max_leaves=8,
)


@given(json_values | tagged)
def test_whatever_json_a_candidate_sends_is_plain_or_refused(data):
    try:
        value = decode(data)
    except CodecError:
        return
    assert type(value) in (type(None), bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, Opaque)
    assert len(show(value)) <= 300


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.complex_numbers() | st.text(st.characters(exclude_categories=())) | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.integers())
        | st.frozensets(st.text())
        | st.dictionaries(st.integers(), inner)
    ),
    max_leaves=15,
)


def same(one, other) -> bool:
    """Equal in value and type all the way down; NaN equals NaN and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return same(list(one.items()), list(other.items()))
    return one == other if type(one) in (set, frozenset) else repr(one) == repr(other)


@given(plain)
def test_every_plain_value_crosses_with_its_type(value):
    assert same(decode(json.loads(json.dumps(encode(value)))), value)


@given(st.lists(st.lists(st.integers())), st.lists(st.lists(st.integers())))
def test_a_mirrored_list_equals_the_other_and_stays_the_same_object(mine, theirs):
    inner = mine[0] if mine and theirs else None
    want = [list(item) for item in theirs]
    mirror(mine, theirs)
    assert mine == want and (inner is None or mine[0] is inner)


PAIRS = ("assert f([Pair(1, 2), Pair(3, 4)]) == 10", "assert f([]) == 0")
SUMS = "class Pair:\n    def __init__(s, a, b): s.a, s.b = a, b\ndef f(ps): return sum(p.a + p.b for p in ps)"


async def test_objects_of_the_candidates_own_class_go_back_to_it_as_handles():
    assert (await verdict(SUMS, PAIRS)).outcome is Outcome.PASSED
    assert (await verdict(SUMS.replace("p.a + p.b", "p.a"), PAIRS)).passed == (False, True)


@pytest.mark.parametrize("use", ["f(1) == helper(1)", "helper", "helper == 7", "helper(1)", "not helper(2)", "f(1) in [helper(1)]"])
async def test_a_name_that_only_the_candidate_defines_gives_no_values(use: str):
    assert (await verdict("def f(x): return 7\ndef helper(x): return 7", (f"assert {use}",))).outcome is Outcome.WRONG_ANSWER


@pytest.mark.parametrize("handle", [-1, 0, 10**9, True, None, "0"])
async def test_a_forged_handle_is_no_object_of_another(handle: object):
    codec = "import sandbox.guest.codec as c\nc._encode = lambda *a, **k: ['o', ['Pair', " + repr(handle) + "]]\n"
    tests = ("p = Pair(1, 2)\nassert f([p]) == 3",)
    assert (await verdict(codec + SUMS, tests)).outcome is Outcome.WRONG_ANSWER


async def test_builtin_types_and_matches_cross_and_nothing_like_them():
    source = "import re\ndef f(x, t=None):\n    return re.match('a', x) if t is None else [type(i) is t for i in x]"
    tests = ("assert f('abc')", "assert not f('xyz')", "assert f([1, 'a'], str) == [False, True]", "assert f('abc') != 3")
    assert (await verdict(source, tests)).passed == (True, True, True, False)
