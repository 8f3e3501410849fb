"""The attack suite as data: programs that try to get out of the box, and candidates that try to pass without solving.

    python -m tests.attack_suite        one JSON line: attacks, and which got through at each level

An escape prints THROUGH where it succeeds; so do attacks of two runs at once (``tests/attack_pairs.py``). Its positive control is
the same program without a box: it must succeed there, or the attack proves nothing (attacks that would harm the machine outside have
no control). A forgery is a solution that knows nothing of the expected values; its control is a judge in one interpreter, by exit
code, as public harnesses have it.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.backend import LEVELS, ZygoteBackend
from sandbox.program import run_program
from sandbox.sandbox import Sandbox
from sandbox.settings import LimitSettings, SandboxSettings
from tests.attack_pairs import PAIRS, talks
from workflow.outcome import Outcome
from workflow.problem import Problem

LIMITS = LimitSettings(wall_s=3, cpu_s=1, memory_mib=512)
HEADER = """import ctypes, errno, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def datagram_pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]
"""
SECRET = "the host's secret"
IN_FLIGHT = 6


@dataclass(frozen=True, slots=True)
class Attack:
    """A program that raises where it is stopped."""

    source: str
    control: bool = True
    """False where it must not run, or cannot succeed, outside of a box: it would harm the machine or needs what is not there."""
    landlock_lets_through: bool = False
    """True for what the landlock level is documented not to prevent."""


def _socket(family: str, kind: str = "SOCK_STREAM") -> Attack:
    return Attack(f"socket.socket(socket.{family}, socket.{kind})")


ESCAPES: dict[str, Attack] = {
    # files: {secret} is a world-readable file of the host
    "read a file of the host": Attack("open({secret!r}).read()"),
    "read it by a way up": Attack("open('../../../../../../..' + {secret!r}).read()"),
    "read it through the process root": Attack("open('/proc/self/root' + {secret!r}).read()"),
    "read it through the parent's root": Attack("open(f'/proc/{{os.getppid()}}/root' + {secret!r}).read()"),
    "read it through another working folder": Attack("open(f'/proc/{{os.getppid()}}/cwd' + '/..' * 20 + {secret!r}).read()"),
    "read it by a link": Attack("os.symlink({secret!r}, name := f'/tmp/link{{os.getpid()}}')\nopen(name).read()"),
    "link it": Attack("os.link({secret!r}, f'/tmp/hard{{os.getpid()}}')"),
    "see that it exists": Attack("os.stat({secret!r})", landlock_lets_through=True),
    "read accounts": Attack("open('/etc/passwd').read()"),
    "list its folder": Attack("assert os.listdir(os.path.dirname({secret!r}))"),
    "write beside it": Attack("open({secret!r} + '.new', 'w').write('x')"),
    "truncate it": Attack("os.truncate({secret!r}, 0)"),
    "rename it": Attack("os.rename({secret!r}, {secret!r} + '.moved')"),
    "delete it": Attack("os.unlink({secret!r})"),
    "change its mode": Attack("os.chmod({secret!r}, 0o777)"),
    "change its times": Attack("os.utime({secret!r}, (0, 0))"),
    "change its attributes": Attack("os.setxattr({secret!r}, 'user.x', b'1')", control=False),
    "write to the library": Attack("open(os.path.dirname(os.__file__) + '/canary.py', 'w')", control=False),
    "poison a bytecode cache": Attack("open(os.path.dirname(os.__file__) + '/__pycache__/os.cpython-311.pyc', 'ab')", control=False),
    "write to a system folder": Attack("open('/usr/lib/canary', 'w')", control=False),
    "make a device": Attack(
        "os.mknod(f'/tmp/disk{{os.getpid()}}', 0o60600, os.makedev(7, 0))\nos.open(f'/tmp/disk{{os.getpid()}}', 0)", control=False
    ),
    "use a GPU device": Attack("import glob\nopen(glob.glob('/dev/nvidia*')[0])", control=False),
    "open shared memory": Attack("open('/dev/shm/fr-attack', 'w')"),
    "see through file handles": Attack("assert libc.open_by_handle_at(3, b'\\x08\\0\\0\\0\\1\\0\\0\\0' + bytes(8), 0) >= 0", control=False),
    # network
    "TCP": _socket("AF_INET"),
    "UDP": _socket("AF_INET", "SOCK_DGRAM"),
    "IPv6": _socket("AF_INET6"),
    "raw IP": Attack("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", control=False),
    "packets": Attack("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", control=False),
    "Unix socket by path": Attack("socket.socket(socket.AF_UNIX).bind(f'/tmp/s{{os.getpid()}}')"),
    "abstract Unix socket": Attack("socket.socket(socket.AF_UNIX).bind(f'\\0fr{{os.getpid()}}')"),
    "netlink": _socket("AF_NETLINK", "SOCK_RAW"),
    "vsock": Attack("socket.socket(socket.AF_VSOCK)", control=False),
    "look up a name": Attack("assert socket.getaddrinfo('localhost', 80)[0][0]\nsocket.create_server(('localhost', 0))"),
    "a datagram to a service of the host": Attack("datagram_pair().sendto(b'x', chr(0) + {secret!r})"),
    "the same by path": Attack("datagram_pair().sendto(b'x', {secret!r} + '.socket')"),
    "a name for a socket of a pair": Attack("datagram_pair().bind(f'\\0fr{{os.getpid()}}')"),
    "a pair of another protocol": Attack(
        "try:\n    socket.socketpair(socket.AF_INET)\nexcept OSError as error:\n    assert error.errno != errno.EPERM"
    ),
    "interfaces of the host": Attack("import fcntl\nfcntl.ioctl(socket.socketpair()[0], 0x8912, struct.pack('iP', 0, 0))  # SIOCGIFCONF"),
    "talk to Ray": Attack("socket.create_connection(('127.0.0.1', 6379), 1)", control=False),
    # processes
    "fork": Attack("os._exit(0) if os.fork() == 0 else None"),
    "vfork": Attack("import subprocess\nsubprocess.run(['/bin/true'], check=True)"),
    "exec": Attack("os.execv('/bin/echo', ['echo', 'THROUGH'])"),
    "posix_spawn": Attack("os.waitpid(os.posix_spawn('/bin/true', ['true'], {{}}), 0)"),
    "signal the parent": Attack("os.kill(os.getppid(), 0)\nassert os.getppid() > 0"),
    "signal any other process": Attack(
        "found = 0\nfor pid in range(2, 70000):\n    try:\n        os.kill(pid, 0)\n        found += pid != os.getpid()\n"
        "    except OSError:\n        pass\nassert found"
    ),
    "trace the parent": Attack("assert libc.ptrace(16, os.getppid(), 0, 0) == 0", control=False),
    "read the parent's memory": Attack("open(f'/proc/{{os.getppid()}}/mem', 'rb')", control=False),
    "read the parent's environment": Attack("assert open(f'/proc/{{os.getppid()}}/environ', 'rb').read()"),
    "list processes": Attack("assert len([n for n in os.listdir('/proc') if n.isdigit()]) > 2"),
    "steal the parent's descriptors": Attack("assert libc.syscall(438, libc.syscall(434, os.getppid(), 0), 0, 0) >= 0", control=False),
    "write into another process": Attack("assert libc.process_vm_writev(os.getppid(), None, 0, None, 0, 0) == 0", control=False),
    "type into the terminal": Attack("import fcntl\nfcntl.ioctl(0, 0x5412, b'x')", control=False),
    "a daemon": Attack("os.setsid() if os.fork() == 0 else None"),
    "a signal by a descriptor": Attack(
        "import fcntl\none, other = socket.socketpair()\nfcntl.fcntl(one, fcntl.F_SETOWN, os.getppid())\nfcntl.fcntl(one, 10, 0)"
    ),
    "a signal by a descriptor to a thread": Attack(
        "import fcntl\nfcntl.fcntl(socket.socketpair()[0], 15, struct.pack('ii', 0, os.getpid()))  # F_SETOWN_EX"
    ),
    "a signal by a socket": Attack("import fcntl\nfcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', os.getpid()))  # FIOSETOWN"),
    "a signal by a socket's group": Attack(
        "import fcntl\nfcntl.ioctl(socket.socketpair()[0], 0x8902, struct.pack('i', os.getpid()))  # SIOCSPGRP"
    ),
    "a lease": Attack(
        "import fcntl\nfile = open(f'/tmp/fr-lease{{os.getpid()}}', 'w')\nos.unlink(file.name)\n"
        "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)"
    ),
    "be told of what others read": Attack("import fcntl\nfcntl.fcntl(os.open('/usr/lib', 0), fcntl.F_NOTIFY, fcntl.DN_ACCESS)"),
    "the parent's priority": Attack("os.setpriority(0, os.getppid(), os.getpriority(0, os.getppid()))"),
    "the parent's processors": Attack("os.sched_setaffinity(os.getppid(), os.sched_getaffinity(os.getppid()))"),
    "the parent's scheduler": Attack("os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0))"),
    "the parent's turn at the disk": Attack(
        "import platform\nassert libc.syscall({{'x86_64': 251, 'aarch64': 30}}[platform.machine()], 1, os.getppid(), 0) == 0"
    ),
    "realtime priority": Attack("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", control=False),
    # privileges
    "become root": Attack("os.setresuid(12345, 12345, 12345)\nos.setuid(0)", control=False),
    "keep capabilities": Attack("assert int(open('/proc/self/status').read().split('CapEff:')[1].split()[0], 16)", control=False),
    "chroot": Attack("os.chroot('/tmp')", control=False),
    "a user namespace": Attack("assert libc.unshare(0x10000000) == 0"),
    "mount": Attack("assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0", control=False),
    "unmount": Attack("assert libc.umount2(b'/tmp', 2) == 0", control=False),
    "join a namespace": Attack("assert libc.setns(os.open('/proc/1/ns/mnt', 0), 0) == 0", control=False),
    "raise a limit": Attack("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (999, 999))\nassert resource.getrlimit(0)[0] == 999"),
    "undo the death signal": Attack("assert libc.prctl(1, 0, 0, 0, 0) == 0"),
    "become traceable": Attack("assert libc.prctl(4, 1, 0, 0, 0) == 0"),
    "a filter of its own": Attack("assert libc.prctl(22, 2, None, 0, 0) == 0 or ctypes.get_errno() == 14"),
    "a filter of its own by its own call": Attack(
        "import platform\nnumber = {{'x86_64': 317, 'aarch64': 277}}[platform.machine()]\n"
        "assert libc.syscall(number, 1, 0, None) == 0 or ctypes.get_errno() == errno.EFAULT"
    ),
    "io_uring": Attack("params = ctypes.create_string_buffer(120)\nassert libc.syscall(425, 4, params) >= 0", control=False),
    "bpf": Attack("assert libc.syscall(321, 0, ctypes.create_string_buffer(128), 128) >= 0", control=False),
    "perf events": Attack("assert libc.syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0) >= 0", control=False),
    "userfaultfd": Attack("assert libc.syscall(323, 0) >= 0", control=False),
    "keys of the kernel": Attack("assert libc.syscall(250, 0, -3, 0) >= 0", control=False),
    "kernel log": Attack("assert libc.klogctl(10, None, 0) >= 0", control=False),
    "the clock": Attack("import time\ntime.clock_settime(0, time.time())", control=False),
    "the host's name": Attack("socket.sethostname('x')", control=False),
    # secrets and shared objects
    "environment": Attack("assert os.environ.get('HOME') or os.environ.get('PATH')"),
    "System V shared memory": Attack("assert libc.shmget(0x1234, 4096, 0o1666) >= 0"),
    "System V messages": Attack("assert libc.msgget(0x1234, 0o1666) >= 0"),
    "System V semaphores": Attack("assert libc.semget(0x1234, 1, 0o1666) >= 0"),
    "POSIX messages": Attack("assert libc.mq_open(b'/fr', 0o102, 0o600, None) >= 0", control=False),
    "memory file": Attack("os.memfd_create('x')"),
    "watch files": Attack("assert libc.inotify_init() >= 0"),
    "throw a file out of memory": Attack("os.posix_fadvise(os.open('/dev/null', 0), 0, 0, os.POSIX_FADV_DONTNEED)"),
    "see what is in memory": Attack(
        "import platform\nnumber = {{'x86_64': 27, 'aarch64': 232}}[platform.machine()]\n"
        "page = ctypes.cast(libc.getpid, ctypes.c_void_p).value & ~65535\n"
        "assert libc.syscall(number, ctypes.c_void_p(page), 4096, ctypes.create_string_buffer(1)) == 0"
    ),
    "count the processes of the machine": Attack("assert libc.sysinfo(ctypes.create_string_buffer(512)) == 0"),
    "foreign descriptors": Attack("[os.fstat(n) for n in range(4, 200) if os.path.exists(f'/proc/self/fd/{{n}}')][0]", control=False),
    "import from the project": Attack("import launch, trainer", control=False),
    "import installed packages": Attack("import numpy"),
    # resources
    "more memory than allowed": Attack("x = bytearray(600 << 20)"),
    "more time than allowed": Attack(
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nimport time\nwhile time.process_time() < 2: pass"
    ),
    "more files than allowed": Attack("kept = [os.dup(0) for _ in range(200)]"),
    "a large file": Attack("open(f'/tmp/big{{os.getpid()}}', 'wb').write(bytes(32 << 20))"),
    "many names": Attack("for n in range(5000): open(f'/tmp/fr{{os.getpid()}}-{{n}}', 'w')"),
    "many threads": Attack(
        "import threading\ngate = threading.Event()\nfor _ in range(600): threading.Thread(target=gate.wait, daemon=True).start()"
    ),
    "sleep past the deadline": Attack("import time\ntime.sleep(20)"),
    "stop itself": Attack("os.kill(os.getpid(), signal.SIGSTOP)\nimport time\ntime.sleep(20)", control=False),
    "a regular expression without end": Attack("import re\nassert not re.match('(a+)+$', 'a' * 60 + 'b')", control=False),
    "a number without end": Attack("assert len(str(7 ** 7 ** 9)) > 1", control=False),
}

TESTS = ("assert f(1) == 918273645", "assert f(2) == 918273646")
FORGERIES: dict[str, str] = {
    "exit status 0": "import os\ndef f(x): os._exit(0)",
    "SystemExit": "def f(x): raise SystemExit(0)",
    "exit while loading": "import os\nos._exit(0)",
    "an object equal to all": "class E:\n    __eq__ = lambda s, o: True\ndef f(x): return E()",
    "an int equal to all": "class E(int):\n    __eq__ = lambda s, o: True\ndef f(x): return E(1)",
    "a list equal to all": "class E(list):\n    __eq__ = lambda s, o: True\ndef f(x): return E()",
    "a class equal to all": "class M(type):\n    __eq__ = lambda s, o: True\nclass E(metaclass=M): pass\ndef f(x): return E",
    "constants of the callers": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for value in frame.f_code.co_consts:\n            if type(value) is int and value > 9 * 10**8: return value\n"
    "        frame = frame.f_back",
    "gc walk": "import gc\ndef f(x):\n    for held in gc.get_objects():\n"
    "        for text in held if isinstance(held, (list, tuple)) else ():\n"
    "            if isinstance(text, str) and text.startswith(f'assert f({x}) == 9'): return int(text.split()[-1])",
    "locals of the callers": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for value in frame.f_locals.values():\n"
    "            for text in value if isinstance(value, (list, tuple)) else ():\n"
    "                if isinstance(text, str) and f'f({x}) ==' in text: return int(text.split()[-1])\n        frame = frame.f_back",
    "patched compile": "import builtins\nreal = builtins.compile\n"
    "builtins.compile = lambda s, *a, **k: real('0', *a, **k)\ndef f(x): return 0",
    "patched exec": "import builtins\nbuiltins.exec = lambda *a: None\ndef f(x): return 0",
    "a trace function": "import os, sys\ndef trace(frame, event, arg):\n    os._exit(0)\nsys.settrace(trace)\ndef f(x): return 0",
    "an exit hook": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 0",
    "a thread that exits": "import os, threading, time\ndef f(x):\n    threading.Timer(0, lambda: os._exit(0)).start()\n    time.sleep(1)",
    "a signal that exits": "import os, signal\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\n"
    "def f(x):\n    signal.setitimer(signal.ITIMER_REAL, 0.01)\n    signal.pause()",
    "the excepthook": "import os, sys\nsys.excepthook = lambda *a: os._exit(0)\ndef f(x): return 0",
}
NAIVE_HARNESS = """
names = {{}}
tests = {tests!r}
exec(compile({source!r}, "<candidate>", "exec"), names)
for test in tests:
    exec(compile(test, "<test>", "exec"), names)
"""
"""What public harnesses do: a pass is an exit status of 0."""


def program(attack: Attack, secret: str) -> str:
    """The whole program of an escape."""
    return HEADER + attack.source.format(secret=secret) + "\nprint('THROUGH', flush=True)\n"


@contextlib.contextmanager
def host_parts() -> Iterator[Path]:
    """A folder with what the host holds: a secret, and a service that takes datagrams by path and by name."""
    with (
        tempfile.TemporaryDirectory(prefix="fr-attack-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as by_path,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as by_name,
    ):
        Path(folder).chmod(0o755)
        secret = Path(folder) / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o666)
        by_name.bind("\0" + str(secret))
        by_path.bind(f"{secret}.socket")
        Path(f"{secret}.socket").chmod(0o666)
        yield secret


def succeeds_outside(attack: Attack) -> bool:
    """The positive control: the program without a box, beside a secret of its own."""
    with host_parts() as secret:
        command = [sys.executable, "-c", program(attack, str(secret))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=secret.parent)
    return "THROUGH" in done.stdout


def passes_a_shared_interpreter(source: str) -> bool:
    """The positive control of a forgery: candidate and tests in one process, judged by its exit code."""
    return subprocess.run([sys.executable, "-c", NAIVE_HARNESS.format(source=source, tests=list(TESTS))], timeout=60).returncode == 0


async def escapes_through(level: str) -> list[str]:
    """Escapes that succeed at a level. Raises ValueError where this machine does not reach it."""
    backend = ZygoteBackend(SandboxSettings(limits=LIMITS), (level,))
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def succeeds(attack: Attack) -> bool:
        async with turns:
            with host_parts() as secret:
                done = await run_program(backend, LIMITS, program(attack, str(secret)))
                untouched = sorted(os.listdir(secret.parent)) == ["secret", "secret.socket"] and secret.read_text() == SECRET
                return "THROUGH" in done.stdout or not untouched

    async with Sandbox(SandboxSettings(), None, backend):
        outcomes = await asyncio.gather(*(succeeds(attack) for attack in ESCAPES.values()))
    return [name for name, through in zip(ESCAPES, outcomes, strict=True) if through]


async def pairs_through(level: str) -> list[str]:
    """Ways from one run to another that are open at a level."""
    backend = ZygoteBackend(SandboxSettings(limits=LIMITS), (level,))
    async with Sandbox(SandboxSettings(), None, backend):
        outcomes = [await talks(backend, LIMITS, pair, f"fr-pair-{os.getpid()}-{number}") for number, pair in enumerate(PAIRS.values())]
    return [name for name, through in zip(PAIRS, outcomes, strict=True) if through]


async def forgeries_through(level: str) -> list[str]:
    """Forgeries that pass a test at a level."""
    problem = Problem("attack/0", "q", "f", (), TESTS)
    async with Sandbox(SandboxSettings(), None, ZygoteBackend(SandboxSettings(limits=LIMITS), (level,))) as sandbox:
        verdicts = [await sandbox.judge(problem, source) for source in FORGERIES.values()]
    return [
        name
        for name, verdict in zip(FORGERIES, verdicts, strict=True)
        if verdict.outcome is not Outcome.WRONG_ANSWER or any(verdict.passed)
    ]


async def main() -> None:
    """Prints the report."""
    through: dict[str, list[str]] = {}
    for level in LEVELS[1:]:
        try:
            through[level] = [*await escapes_through(level), *await pairs_through(level), *await forgeries_through(level)]
        except ValueError as error:
            through[level] = [f"not available: {error}"]
    documented = [name for name, attack in ESCAPES.items() if attack.landlock_lets_through]
    print(json.dumps({"attacks": len(ESCAPES) + len(PAIRS) + len(FORGERIES), "through": through, "documented_for_landlock": documented}))


if __name__ == "__main__":
    asyncio.run(main())
