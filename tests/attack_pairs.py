"""Attacks of two runs at once, as data: one tries to tell the other something, which prints THROUGH where it is told.

Runs of one box are each other's siblings: what passes between them is a paid answer that one of them did not pay for, or a hidden input.
"""

import asyncio
import subprocess
import sys
from dataclasses import dataclass

from sandbox.backend import Backend
from sandbox.program import run_program
from sandbox.settings import LimitSettings

CONTROL_S = 60
HEADER = """import array, ctypes, fcntl, os, platform, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
lock = struct.pack('hhqqi4x', 1, 0, 0, 0, 0)
page = ctypes.cast(libc.getpid, ctypes.c_void_p).value & ~3  # of the C library, which all processes map
futex = {{'x86_64': 202, 'aarch64': 98}}[platform.machine()]
shared = os.open('/dev/null', os.O_RDWR)
def pair():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one
def again(step):
    while not step():
        time.sleep(0.01)
def locked(take):
    try:
        take()
    except BlockingIOError:
        return True
    time.sleep(0.01)
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two programs; the second one returns from ``told`` only where it was told something."""

    tells: str
    is_told: str


PAIRS: dict[str, Pair] = {
    "datagrams": Pair(
        "one = pair()\ndef step():\n    try:\n        one.sendto(b'bits', chr(0) + {name!r})\n"
        "    except ConnectionRefusedError:\n        pass\nagain(step)",
        "one = pair()\none.bind(chr(0) + {name!r})\nlibc.connect(one.fileno(), bytes(16), 2)\nassert one.recv(9) == b'bits'",
    ),
    "descriptors": Pair(
        "one = pair()\ndef step():\n    try:\n"
        "        one.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [shared]))], 0, chr(0) + {name!r})\n"
        "    except ConnectionRefusedError:\n        pass\nagain(step)",
        "one = pair()\none.bind(chr(0) + {name!r})\nlibc.connect(one.fileno(), bytes(16), 2)\nassert socket.recv_fds(one, 9, 1)[1]",
    ),
    "times of a device": Pair(
        "again(lambda: os.utime('/dev/zero'))",
        "before = os.stat('/dev/zero').st_mtime_ns\nagain(lambda: os.stat('/dev/zero').st_mtime_ns != before)",
    ),
    "a lock on a file": Pair(
        "fcntl.flock(shared, fcntl.LOCK_EX)\nagain(lambda: False)",
        "again(lambda: locked(lambda: (fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB), fcntl.flock(shared, fcntl.LOCK_UN))))",
    ),
    "a lock on a record": Pair(
        "fcntl.lockf(shared, fcntl.LOCK_EX)\nagain(lambda: False)",
        "again(lambda: locked(lambda: (fcntl.lockf(shared, fcntl.LOCK_EX | fcntl.LOCK_NB), fcntl.lockf(shared, fcntl.LOCK_UN))))",
    ),
    "a record lock that is only looked at": Pair(
        "fcntl.lockf(shared, fcntl.LOCK_EX)\nagain(lambda: False)",
        "again(lambda: struct.unpack('hhqqi4x', fcntl.fcntl(shared, fcntl.F_GETLK, lock))[0] != fcntl.F_UNLCK)",
    ),
    "a lock of an open file": Pair(
        "fcntl.fcntl(shared, 37, lock)\nagain(lambda: False)",
        "again(lambda: struct.unpack('hhqqi4x', fcntl.fcntl(shared, 36, lock))[0] != fcntl.F_UNLCK)",
    ),
    "waking on a page that both map": Pair(
        "again(lambda: libc.syscall(futex, ctypes.c_void_p(page), 1, 1, None, None, 0) < 0)",
        "word = ctypes.c_uint32.from_address(page).value\nassert libc.syscall(futex, ctypes.c_void_p(page), 0, word, None, None, 0) == 0",
    ),
}


def programs(pair: Pair, name: str) -> tuple[str, str]:
    """Both programs; ``name`` is that of sockets."""
    tells, is_told = (part.format(name=name) for part in (pair.tells, pair.is_told))
    header = HEADER.format()
    return header + tells + "\n", header + is_told + "\nprint('THROUGH', flush=True)\n"


async def talks(backend: Backend, limits: LimitSettings, pair: Pair, name: str) -> bool:
    """True where two runs of one box get through to each other."""
    _, told = await asyncio.gather(*(run_program(backend, limits, source) for source in programs(pair, name)))
    return "THROUGH" in told.stdout


def talk_outside(pair: Pair, name: str) -> bool:
    """The positive control: the two programs without a box."""
    tells, is_told = (subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) for source in programs(pair, name))
    try:
        return b"THROUGH" in is_told.communicate(timeout=CONTROL_S)[0]
    except subprocess.TimeoutExpired:
        return False
    finally:
        for process in (tells, is_told):
            process.kill()
            process.communicate()
