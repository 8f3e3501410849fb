"""Hostile workflows at every level: each tries to get out, to see what is not its own, or to use more than its share."""

import asyncio

import pytest

from sandbox.backend import LEVELS as ALL_LEVELS
from sandbox.records import Execution
from sandbox.settings import LimitSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from workflow.outcome import Outcome

LEVELS = ALL_LEVELS[1:]
SHORT_OF_CPU = SandboxSettings(limits=LimitSettings(workflow_wall_s=600, cpu_s=1))
SHORT_OF_MEMORY = SandboxSettings(limits=LimitSettings(workflow_wall_s=600, cpu_s=300, memory_mib=256))


async def ending(level: str, body: str, settings: SandboxSettings) -> Execution:
    async with box(level, settings) as sandbox:
        return await sandbox.execute(raw(body), PROBLEM, 1)


@pytest.mark.parametrize("level", LEVELS)
async def test_a_spin_that_blocks_all_signals_ends_at_the_cpu_limit(level: str):
    body = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    execution = await ending(level, body, SHORT_OF_CPU)
    assert execution.outcome is Outcome.TIMED_OUT and execution.error == "the CPU limit is spent", execution


async def test_a_process_that_stops_itself_ends_at_its_deadline():
    settings = SandboxSettings(limits=LimitSettings(workflow_wall_s=0.5))
    execution = await ending("namespace", "libc = __import__('ctypes').CDLL(None)\nwhile True: libc.pause()", settings)
    assert execution.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("level", LEVELS)
async def test_a_bomb_of_threads_stays_within_its_number(level: str):
    body = "import threading\ngate, count = threading.Event(), 0\nthreading.stack_size(65536)\n"
    body += "try:\n    while count < 3000:\n        threading.Thread(target=gate.wait, daemon=True).start()\n        count += 1\n"
    body += "except RuntimeError:\n    pass\ngate.set()\nreturn str(count)"
    execution = await ending(level, body, SandboxSettings())
    assert execution.outcome is Outcome.ANSWERED and int(execution.answer or 0) < 512


BOMBS = {
    "memory": "blocks = []\nwhile True: blocks.append(bytearray(1 << 24))",
    "message of an exception": "raise ValueError('x' * (1 << 30))",
    "long exception": "raise ValueError('x' * (1 << 27))",
    "recursion": "sys.setrecursionlimit(10**8)\ndeep, other = [], []\nfor _ in range(10**6): deep, other = [deep], [other]\ndeep == other",
    "segmentation fault": "__import__('ctypes').string_at(0)",
    "abort": "os.abort()",
    "answer over the limit": "return 'x' * (1 << 20)",
    "answer over a frame": "return 'x' * (1 << 24)",
    "descriptors": "kept = [os.dup(0) for _ in range(10**6)]",
    "kills itself": "os.kill(os.getpid(), signal.SIGTERM) or os._exit(3)",
}


@pytest.mark.parametrize("level", LEVELS)
async def test_bombs_crash_their_own_run_and_no_other(level: str):
    async with box(level, SHORT_OF_MEMORY) as sandbox:
        for name, body in BOMBS.items():
            execution = await sandbox.execute(raw(body), PROBLEM, 1)
            assert execution.outcome is Outcome.CRASHED and len(execution.error) <= 400, (name, execution.outcome)
        assert (await sandbox.execute(raw("return 'fine'"), PROBLEM, 1)).answer == "fine"


@pytest.mark.parametrize("level", LEVELS)
async def test_a_flood_of_output_goes_nowhere_and_does_not_block(level: str):
    execution = await ending(level, "for _ in range(2000):\n    print('x' * 65536)\nreturn 'done'", SandboxSettings())
    assert execution.answer == "done"


FILL_DISK = """written = 0
try:
    for name in range(10):
        with open(f'/tmp/{name}', 'wb') as file:
            for _ in range(8):
                written += file.write(bytes(1 << 20))
except OSError:
    pass
return str(written)"""
MANY_NAMES = """count = 0
try:
    for count in range(10**5):
        open(f'/tmp/n{count}', 'w').close()
except OSError:
    pass
return str(count)"""


async def test_the_disk_of_a_run_is_small_and_goes_with_it():
    async with box("namespace") as sandbox:
        written = (await sandbox.execute(raw(FILL_DISK), PROBLEM, 1)).answer
        count = (await sandbox.execute(raw(MANY_NAMES), PROBLEM, 1)).answer
    assert 0 < int(written or 0) <= 16 << 20 and 0 < int(count or 0) < 1100


@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_of_one_run_is_seen_by_the_next(level: str):
    leave = "import builtins, json\nbuiltins.left = json.left = 1\nsys.modules['left'] = sys\nos.environ['LEFT'] = '1'\nreturn 'left'"
    look = "import builtins, json\nreturn repr([hasattr(builtins, 'left'), hasattr(json, 'left'), 'left' in sys.modules, dict(os.environ)])"
    async with box(level) as sandbox:
        assert (await sandbox.execute(raw(leave), PROBLEM, 1)).answer == "left"
        assert (await sandbox.execute(raw(look), PROBLEM, 1)).answer == "[False, False, False, {}]"


@pytest.mark.parametrize("level", LEVELS)
async def test_a_run_holds_no_descriptor_but_its_channel(level: str):
    body = "def stat(n):\n    try:\n        return os.stat(n)\n    except OSError:\n        return None\n"
    body += "null = os.stat(0).st_rdev\nimport stat as s\n"
    body += "return repr([n for n in range(1024) if stat(n) and stat(n).st_rdev != null and s.S_ISSOCK(stat(n).st_mode)])"
    async with box(level) as sandbox:
        answer = (await sandbox.execute(raw(body), PROBLEM, 1)).answer
    assert answer is not None and answer.startswith("[3") and len(answer.split(",")) <= 3, answer  # and asyncio's own pair


@pytest.mark.parametrize("level", LEVELS)
async def test_equal_seeds_give_equal_runs_in_any_box(level: str):
    body = "import random\nreturn repr([random.random(), sorted(map(hash, 'abc')), list({'x', 'y', 'z', 'w'})])"
    answers = []
    for _ in range(2):
        async with box(level) as sandbox:
            answers += [(await sandbox.execute(raw(body), PROBLEM, seed)).answer for seed in (1, 2)]
    assert answers[0] == answers[2] and answers[1] == answers[3] and answers[0] != answers[1]


MEET = """libc = __import__('ctypes').CDLL(None)
one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.settimeout(3)
def take(name):
    one.bind(chr(0) + name)
    libc.connect(one.fileno(), bytes(16), 2)
"""
SHARE = """try:
    take('sibling')
    return one.recv(60000).decode()
except OSError:
    answer = await self.generate(problem)
    for _ in range(20):
        try:
            one.sendto(answer.encode(), chr(0) + 'sibling')
            break
        except OSError:
            await asyncio.sleep(0.05)
    return answer"""
LISTEN = """take('listener')
try:
    data, sender = one.recvfrom(60000)
except OSError:
    return 'nothing'
one.sendto((await self.custom(data.decode(), 'What must f return?')).encode(), sender)
return data.decode()"""
TELL = """import ctypes, socket
def f(xs):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind(chr(0) + 'candidate')
    ctypes.CDLL(None).connect(one.fileno(), bytes(16), 2)
    one.settimeout(3)
    one.sendto(repr(xs).encode(), chr(0) + 'listener')
    return eval(one.recv(60000))
"""


@pytest.mark.parametrize("level", LEVELS)
async def test_siblings_cannot_share_an_answer_that_one_of_them_paid_for(level: str):
    async with box(level) as sandbox:
        runs = await asyncio.gather(*(sandbox.execute(raw(MEET + SHARE), PROBLEM, seed) for seed in (1, 2)))
    assert all(run.answer is None or run.worker_calls for run in runs), runs


@pytest.mark.parametrize("level", LEVELS)
async def test_a_candidate_under_judgement_reaches_no_workflow_of_its_box(level: str):
    async with box(level, worker=ScriptedWorker("9")) as sandbox:
        listening = asyncio.ensure_future(sandbox.execute(raw(MEET + LISTEN), PROBLEM, 1))
        await asyncio.sleep(0.5)
        verdict = await sandbox.judge(PROBLEM, TELL)
        heard = await listening
    assert verdict.outcome is Outcome.WRONG_ANSWER and heard.answer is None and not heard.trace, (verdict, heard)
