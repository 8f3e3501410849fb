"""The filter of system calls, run by a small interpreter on both machines; and that honest programs live with it."""

import pytest

from sandbox.backend import LEVELS
from sandbox.guest import seccomp
from sandbox.guest.seccomp import AUDIT, COLUMN, DENIED, LANDLOCK_LACKS, LIMITED, MEETING, UNKNOWN
from sandbox.program import run_program
from tests.sandbox_parts import box

EPERM, ENOSYS, DONE, ALLOW, KILL = 0x00050001, 0x00050026, 0x00050000, 0x7FFF0000, 0x80000000
MACHINES = ("x86_64", "aarch64")


def answer(machine: str, number: int, *arguments: int, has_namespaces: bool = True, architecture: int | None = None) -> int:
    """What the filter returns; arguments are compared by their low 32 bits."""
    data = {0: number, 4: AUDIT[machine] if architecture is None else architecture}
    for position, value in enumerate((*arguments, 0, 0, 0, 0, 0, 0)[:6]):
        data |= {16 + 8 * position: value & 0xFFFFFFFF, 20 + 8 * position: value >> 32}
    program = seccomp.program(machine, has_namespaces)
    loaded, at = 0, 0
    while True:
        code, yes, no, constant = program[at]
        assert 0 <= yes < 256 and 0 <= no < 256
        at += 1
        match code:
            case 0x20:
                loaded = data[constant]
            case 0x54:
                loaded &= constant
            case 0x15:
                at += yes if loaded == constant else no
            case 0x35:
                at += yes if loaded >= constant else no
            case 0x06:
                return constant
            case _:
                raise AssertionError(code)


def numbers(machine: str, *tables: dict[str, seccomp.Numbers]) -> set[int]:
    found = (entry[COLUMN[machine]] for table in tables for entry in table.values())
    return {number for number in found if number is not None}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("has_namespaces", [True, False])
def test_exactly_the_listed_calls_are_refused(machine: str, has_namespaces: bool):
    refused = numbers(machine, DENIED, MEETING, {} if has_namespaces else LANDLOCK_LACKS)
    unknown, limited = numbers(machine, UNKNOWN), {entry[COLUMN[machine]] for entry, _ in LIMITED}
    for number in set(range(424)) - limited:
        expected = EPERM if number in refused else ENOSYS if number in unknown else ALLOW
        assert answer(machine, number, has_namespaces=has_namespaces) == expected, number
    assert answer(machine, 425) == ENOSYS and answer(machine, 436) == ALLOW
    assert answer(machine, 0x40000000 + 41) == ENOSYS and answer(machine, 41, architecture=0x40000003) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (0x11,), EPERM),
        ("prlimit64", (0,), ALLOW),
        ("prlimit64", (1,), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (22,), EPERM),
        ("socketpair", (1, 1 | 0o2000000 | 0o4000), ALLOW),
        ("socketpair", (1, 2), EPERM),
        ("socketpair", (1, 5), EPERM),
        ("socketpair", (2, 1), EPERM),
        ("socketpair", (1 << 32 | 16, 1), EPERM),
        *[("fcntl", (3, command), ALLOW) for command in (0, 1, 2, 3, 4, 5, 36, 1030)],
        *[("fcntl", (3, command), DONE) for command in (6, 7, 37, 38)],
        *[("fcntl", (3, command), EPERM) for command in (8, 9, 10, 11, 15, 16, 1024, 1025, 1026, 1031, 1036, 1 << 32 | 8, 1 << 31)],
        *[("ioctl", (3, request), ALLOW) for request in (0x5401, 0x541B, 0x5421)],
        *[("ioctl", (3, request), EPERM) for request in (0x8901, 0x8902, 0x8912, 0x5412, 1 << 32 | 0x8901)],
        *[("futex", (0, operation), ALLOW) for operation in (0, 9, 256, 265, 128, 129, 128 | 256 | 9)],
        *[("futex", (0, operation), EPERM) for operation in (1, 3, 4, 5, 10, 257, 1 << 32 | 1)],
    ],
)
def test_a_call_is_judged_by_its_arguments(machine: str, call: str, arguments: tuple[int, ...], expected: int):
    x86 = {"clone": 56, "prlimit64": 302, "prctl": 157, "socketpair": 53, "fcntl": 72, "ioctl": 16, "futex": 202}[call]
    ((number, other),) = [entry for entry, _ in LIMITED if entry[0] == x86]
    assert answer(machine, (number if machine == "x86_64" else other) or 0, *arguments) == expected


HONEST = """import asyncio, os, socket, threading
async def both():
    return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0.01, 2))
assert asyncio.run(both()) == [1, 2]
done = threading.Event()
thread = threading.Thread(target=done.set)
thread.start()
assert done.wait(60)
thread.join()
one, other = socket.socketpair()
one.setblocking(False)
one.sendall(b'x')
assert other.recv(1) == b'x' and os.sched_getaffinity(0) and not os.isatty(1)
print('done')
"""
FILES = """import os, shutil, sqlite3, tempfile
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, range(9))) == list(range(9))
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as named:
    named.write(b'x')
    for mode in ('delete', 'wal'):
        base = sqlite3.connect(folder + '/' + mode)
        base.execute('pragma journal_mode=' + mode)
        base.execute('create table t (a)')
        base.executemany('insert into t values (?)', [(n,) for n in range(1000)])
        base.commit()
        assert sqlite3.connect(folder + '/' + mode).execute('select count(*) from t').fetchone() == (1000,)
    assert shutil.copyfile(folder + '/wal', folder + '/copy')
print('done')
"""


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_honest_programs_get_what_they_ask_for(level: str):
    async with box(level) as sandbox:
        done = await run_program(sandbox.backend, sandbox.settings.limits, HONEST)
    assert done.stdout == "done\n", done.stderr


async def test_a_program_keeps_a_database_in_its_own_folder_and_has_threads():
    async with box("namespace") as sandbox:
        done = await run_program(sandbox.backend, sandbox.settings.limits, FILES)
    assert done.stdout == "done\n", done.stderr
