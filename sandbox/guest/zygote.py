"""The zygote: started clean, jailed once, forks one fresh process per run.

It speaks with the host over one control socket (a message each way is one packet) and stays single-threaded.
Request: ``{"id", "role", "limits"}`` with the child's sockets attached. Replies: ``{"id", "pid"}`` with a pidfd
attached, later ``{"id", "exited": status}``.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from sandbox.guest import canary, candidate, jail, judge, landlock, program, suite, workflow
from sandbox.guest.rehearsal import rehearse
from sandbox.guest.seccomp import SystemCallFilter

WARM = """abc bisect cmath collections collections.abc copy datetime enum functools heapq itertools json keyword math numbers operator
random re string typing"""
"""What most programs use. Each module more would cost every run pages to copy and to free."""
FURTHER = """array base64 calendar contextlib dataclasses decimal fractions hashlib io linecache pprint queue secrets statistics struct
textwrap threading time traceback types unicodedata unittest uuid zlib zoneinfo"""
"""Loaded as well where a run could not read them from the library."""


def main(control_fd: int, level: str, libraries: list[str], site: str) -> None:
    """Entry point of the zygote's process.

    Args:
        libraries: packages of the folder ``site`` that programs may import.
    """
    for name in WARM.split() + ([] if library_in_reach(level) else FURTHER.split()):
        __import__(name)
    control = socket.socket(fileno=control_fd)
    if libraries:
        sys.path.append(site)
        for name in libraries:
            try:
                importlib.import_module(name)
            except Exception as error:
                control.send(json.dumps({"failed": f"sandbox.libraries: {name} cannot be loaded ({error})"[:300]}).encode())
                return
    shown = visible_paths() + ([site] if libraries else [])
    os.environ.clear()
    rehearse()
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix) or (libraries and path == site)]
    under_tmp = [path for path in shown if jail.is_under_tmp(path)]
    pid_namespace = -1
    first_run = (os.getpid() & 0xFFFF) << 12  # another zygote's runs have other user ids, as far as they go
    try:
        calls = SystemCallFilter(has_namespaces=level != "landlock")
        if level == "namespace":
            pid_namespace = jail.enter_namespaces(shown)
        elif level == "landlock":
            jail.prctl(jail.PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict(shown)
    except OSError as error:
        control.send(json.dumps({"failed": str(error)}).encode())
        return
    control.send(json.dumps({"ready": level}).encode())
    gc.collect()
    gc.freeze()
    Zygote(control, pid_namespace, calls, first_run, under_tmp).serve()


def visible_paths() -> list[str]:
    """What Python needs on disk: its own standard library and the system's shared libraries."""
    paths = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom", "/dev/zero"]
    prefix = os.path.realpath(sys.base_prefix)
    library = os.path.dirname(os.path.realpath(os.__file__))
    paths += [path for path in (library,) if not path.startswith(("/usr/lib/", "/lib/"))]
    if os.path.isdir(prefix + "/lib") and prefix not in ("/", "/usr") and not library.startswith(prefix + "/lib/python"):
        paths.append(prefix + "/lib")
    return [path for path in paths if os.path.lexists(path)]


def library_in_reach(level: str) -> bool:
    """True where the user that a run becomes can read the standard library."""
    path = os.path.realpath(os.__file__)
    if os.getuid() != 0:
        return True  # a run keeps its user
    folders = [os.path.dirname(path)]
    while level != "namespace" and folders[-1] != "/":  # there the folders above are of the zygote's own making
        folders.append(os.path.dirname(folders[-1]))
    return bool(os.stat(path).st_mode & 0o004) and all(os.stat(folder).st_mode & 0o001 for folder in folders)


ROLES: dict[str, Callable[..., None]] = {
    "workflow": workflow.run,
    "candidate": candidate.serve,
    "judge": judge.run,
    "standing judge": judge.stand,
    "program": program.run,
    "suite": suite.run,
    "canary": canary.run,
}


class Zygote:
    """Forks on request and reports who ended."""

    def __init__(self, control: socket.socket, pid_namespace: int, calls: SystemCallFilter, first_run: int, under_tmp: list[str]) -> None:
        self.control = control
        self.under_tmp = under_tmp
        self.calls = calls
        self.first_run = first_run
        self.pid_namespace = pid_namespace
        """Descriptor of the zygote's own pid namespace; -1 on the other levels."""
        self.running: dict[int, tuple[int, int]] = {}
        """pidfd -> (request id, pid)."""
        self.poll = select.epoll()

    def serve(self) -> None:
        """Loops until the host closes the control socket."""
        self.poll.register(self.control.fileno(), select.EPOLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.control.fileno():
                    data, fds, _, _ = socket.recv_fds(self.control, 65536, 8)
                    if not data:
                        os._exit(0)
                    self.spawn(json.loads(data), fds)
                else:
                    self.reap(fd)

    def spawn(self, request: dict[str, Any], fds: list[int]) -> None:
        """Forks the process for one run."""
        try:
            pid = self.fork()
        except OSError as error:
            self.control.send(json.dumps({"id": request["id"], "failed": str(error)}).encode())
            for fd in fds:
                os.close(fd)
            return
        if pid == 0:
            self.run_child(request, fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self.running[pidfd] = (request["id"], pid)
        self.poll.register(pidfd, select.EPOLLIN)
        socket.send_fds(self.control, [json.dumps({"id": request["id"], "pid": pid}).encode()], [pidfd])

    def fork(self) -> int:
        """fork(2), on level namespace into a pid namespace of the child's own. Raises OSError."""
        if self.pid_namespace < 0:
            return jail.fork()
        jail.unshare(jail.CLONE_NEWPID)
        pid = -1
        try:
            pid = jail.fork()
        finally:
            if pid != 0:
                jail.setns(self.pid_namespace, jail.CLONE_NEWPID)
        return pid

    def reap(self, pidfd: int) -> None:
        """Collects an ended process and tells the host."""
        number, pid = self.running.pop(pidfd)
        self.poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        report = {"id": number, "exited": os.waitstatus_to_exitcode(status), "cpu_s": usage.ru_utime + usage.ru_stime}
        self.control.send(json.dumps(report).encode())

    def run_child(self, request: dict[str, Any], fds: list[int]) -> None:
        """Closes the remaining doors, then plays the role. Never returns."""
        code = 1
        try:
            null = os.open("/dev/null", os.O_RDWR)
            high = [os.dup2(fd, 200 + index, inheritable=False) for index, fd in enumerate(fds)]
            for number in range(3):
                os.dup2(null, number)
            keep = [os.dup2(fd, 3 + index, inheritable=False) for index, fd in enumerate(high)]
            os.closerange(3 + len(keep), 1 << 20)
            if self.pid_namespace >= 0 and "judge" not in request["role"]:  # tests write no files
                jail.private_tmp(16, self.under_tmp)
            os.setsid()
            threads = jail.drop_privileges(self.first_run + request["id"] % 4096, lasting=request["role"] == "standing judge")
            jail.set_limits(request["limits"], threads, judges="judge" in request["role"])
            self.calls.install()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            ROLES[request["role"]](*[socket.socket(fileno=fd) for fd in keep])
            code = 0
        finally:
            os._exit(code)
