"""Closing the doors: namespaces, mounts, privileges, limits, by ctypes on the C library.

Order matters and was found the hard way: mounts before privileges go, capabilities before seccomp.
"""

import ctypes
import errno
import os
import resource
import signal
import struct
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
_with_gil = ctypes.PyDLL(None, use_errno=True)
CPU_LIMIT_STATUS = int(signal.SIGXCPU)
"""Exit status of a judge that spent its CPU time: its handler of that signal is ``_exit`` itself, called with the signal's number."""

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
NOBODY = 65534
FIRST_RUN_UID = 2_000_000_000
"""Above the ranges that distributions and container engines give out."""
RUN_UIDS = 2**26
THREADS, SHARED_THREADS = 64, 512
"""Threads of one run where it has a user id of its own, and of all runs together where they share one."""


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2). Raises OSError."""
    _check(libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). Raises OSError."""
    _check(libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()), f"mount {target}")


KEPT = "/.kept"
"""Where folders under /tmp stay in reach, below what is mounted over it."""


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument. Raises OSError."""
    _check(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def fork() -> int:
    """fork(2) without Python's hooks, which prepare for threads and reseed ``random``: the zygote has no threads, and roles seed.

    Each page that the hooks touch would be copied for each run. Raises OSError.
    """
    pid = _with_gil.fork()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "fork")
    return pid


def enter_namespaces(visible: list[str]) -> int:
    """Moves on as process 1 of its own pid, mount, network, ipc and uts namespaces with a read-only view of ``visible`` alone.

    Root does so directly where it has the right; otherwise it goes through a user namespace. The calling process stays
    outside, only waits for this one, and takes it along when it is killed. Raises OSError where the kernel refuses.

    Returns:
        descriptor of the pid namespace, to come back to after each fork into a new one.
    """
    flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID
    try:
        if os.getuid() != 0:
            raise OSError(errno.EPERM, "not root")
        unshare(flags)
    except OSError:
        uid, gid = os.getuid(), os.getgid()
        unshare(flags | CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
    prctl(PR_SET_PDEATHSIG, 9)
    own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _close_the_view(visible)
    return own_pid_namespace


def _close_the_view(visible: list[str]) -> None:
    """Replaces the root of the file system by an empty one that shows ``visible``, read-only."""
    places = [place for place in ("/tmp", "/run", "/mnt", "/srv") if os.path.isdir(place)]
    root = next((place for place in places if not any(path.startswith(place + "/") for path in visible)), places[0])
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in visible:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
            continue
        if os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            open(root + path, "w").close()
        mount(path, root + path, "", MS_BIND | MS_REC)
        _make_read_only(root + path, 0 if path.startswith("/dev/") else MS_NODEV)
    for path in filter(is_under_tmp, visible):
        os.makedirs(root + KEPT + path)
        mount(root + path, root + KEPT + path, "", MS_BIND | MS_REC)
    for name in ("tmp", "old"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.chdir(root)
    _check(libc.pivot_root(b".", b"old"), "pivot_root")
    os.chdir("/")
    _check(libc.umount2(b"/old", MNT_DETACH), "umount2")
    os.rmdir("/old")
    mount("none", "/", "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _make_read_only(path: str, no_devices: int) -> None:
    """A mount with all that is mounted below it; before Linux 5.12 the mount alone, whose other flags are kept.

    A device can still be written to, but its times cannot be set, which every run would see.

    Args:
        no_devices: MS_NODEV, or 0 for what is a device itself.
    """
    attributes = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID | no_devices, 0, 0, 0)
    if libc.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE, attributes, len(attributes)) == 0:
        return
    flags = os.statvfs(path).f_flag
    kept = (flags & 0x0F) | (flags & (1024 | 2048)) | ((1 << 21) if flags & 4096 else 0)  # statvfs has relatime at another bit
    mount("none", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | no_devices | kept)


def is_under_tmp(path: str) -> bool:
    """True for a folder that a private /tmp would hide: packages of an environment that was made there are loaded bit by bit."""
    return path.startswith("/tmp/") and os.path.isdir(path)


def private_tmp(size_mib: int, shown: list[str]) -> None:
    """A fresh /tmp for this process alone, with a cap on bytes and files; empty but for folders in ``shown``."""
    unshare(CLONE_NEWNS)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={size_mib}m,nr_inodes=1024,mode=777")
    for path in shown:
        os.makedirs(path)
        mount(KEPT + path, path, "", MS_BIND | MS_REC)
    os.chdir("/tmp")


def drop_privileges(run: int, *, lasting: bool = False) -> int:
    """Becomes a user that owns nothing, without capabilities and without a way to gain any.

    The machine's root takes a user id of this run alone, so that runs neither share a quota of threads nor may signal
    each other; where that id does not exist (a container's own user namespace) nobody's; any other user keeps its own.

    Args:
        lasting: the process outlives runs whose ids come round again: its user id is of a range that runs do not get.

    Returns:
        how many threads there may be of this user.
    """
    threads = SHARED_THREADS
    own = FIRST_RUN_UID + run % RUN_UIDS + lasting * RUN_UIDS
    for uid, count in ((own, THREADS), (NOBODY, SHARED_THREADS)):
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except OSError:
            continue  # not root, or root of a user namespace that lacks the id: capabilities go below
        threads = count
        break
    header = struct.pack("II", 0x20080522, 0)
    libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))
    prctl(PR_SET_PDEATHSIG, 9)
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    return threads


def set_limits(limits: dict[str, Any], threads: int, *, judges: bool = False) -> None:
    """Resource limits from the host's numbers.

    Args:
        judges: the process runs our own code. At its limit of CPU time it exits with CPU_LIMIT_STATUS, which no kill looks like, and it
            may raise that limit for the next answer.
    """
    wanted = {
        resource.RLIMIT_CPU: int(limits["cpu_s"]),
        resource.RLIMIT_AS: int(limits["memory_mib"]) * 2**20,
        resource.RLIMIT_NOFILE: int(limits["open_files"]),
        resource.RLIMIT_FSIZE: 16 * 2**20,
        resource.RLIMIT_NPROC: threads,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: 8 * 2**20,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, hard if judges and kind == resource.RLIMIT_CPU else value))
    if judges:
        # by a handler: the first process of a pid namespace takes no signal that it has not asked for
        libc.signal(CPU_LIMIT_STATUS, ctypes.cast(libc._exit, ctypes.c_void_p))
