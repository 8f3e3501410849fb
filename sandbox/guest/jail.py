"""Closing the doors: namespaces, mounts, limits, seccomp, by ctypes on the C library.

Order matters and was found the hard way: mounts before privileges go, capabilities before seccomp.
"""

import ctypes
import os
import platform
import resource
import struct
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)

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
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 4, 38, 22
NOBODY = 65534


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


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument. Raises OSError."""
    _check(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def enter_namespaces(new_root: str, visible: list[str]) -> int:
    """Moves on as process 1 of its own pid, mount, network, ipc and uts namespaces with a read-only view of ``visible`` alone.

    Root does so directly; any other user through a user namespace. The calling process stays outside, only waits for
    this one, and takes it along when it is killed. Raises OSError where the kernel refuses.

    Returns:
        descriptor of the pid namespace, to come back to after each fork into a new one.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID
    if uid == 0:
        unshare(flags)
    else:
        unshare(flags | CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
    prctl(PR_SET_PDEATHSIG, 9)
    own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _close_the_view(new_root, visible)
    return own_pid_namespace


def _close_the_view(new_root: str, visible: list[str]) -> None:
    """Replaces the root of the file system by an empty one that shows ``visible``, read-only."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", new_root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in visible:
        if os.path.islink(path):
            os.symlink(os.readlink(path), new_root + path)
            continue
        if os.path.isdir(path):
            os.makedirs(new_root + path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(new_root + path), exist_ok=True)
            open(new_root + path, "w").close()
        mount(path, new_root + path, "", MS_BIND | MS_REC)
        if not path.startswith("/dev/"):
            mount("none", new_root + path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    for name in ("tmp", "old"):
        os.mkdir(f"{new_root}/{name}")
    os.chdir(new_root)
    _check(libc.pivot_root(b".", b"old"), "pivot_root")
    os.chdir("/")
    _check(libc.umount2(b"/old", MNT_DETACH), "umount2")
    os.rmdir("/old")
    mount("none", "/", "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def private_tmp(size_mib: int) -> None:
    """A fresh, empty /tmp for this process alone, with a cap on bytes and files."""
    unshare(CLONE_NEWNS)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={size_mib}m,nr_inodes=1024,mode=777")
    os.chdir("/tmp")


def drop_privileges() -> None:
    """Becomes nobody (where this process is the machine's root), without capabilities and without a way to gain any."""
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        pass  # not root, or root of a user namespace that maps no nobody: capabilities go below
    header = struct.pack("II", 0x20080522, 0)
    libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24)))
    prctl(PR_SET_PDEATHSIG, 9)
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_limits(limits: dict[str, Any]) -> None:
    """Resource limits from the host's numbers."""
    wanted = {
        resource.RLIMIT_CPU: int(limits["cpu_s"]),
        resource.RLIMIT_AS: int(limits["memory_mib"]) * 2**20,
        resource.RLIMIT_NOFILE: int(limits["open_files"]),
        resource.RLIMIT_FSIZE: 16 * 2**20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_STACK: 8 * 2**20,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


# System calls that a run has no business with, by machine: name order is that of DENIED.
DENIED = [
    "ptrace",
    "mount",
    "umount2",
    "pivot_root",
    "setns",
    "unshare",
    "bpf",
    "perf_event_open",
    "keyctl",
    "add_key",
    "request_key",
    "socket",
    "kexec_load",
    "reboot",
]
DENIED += [
    "init_module",
    "finit_module",
    "delete_module",
    "process_vm_readv",
    "process_vm_writev",
    "userfaultfd",
    "open_by_handle_at",
    "chroot",
    "execve",
    "execveat",
]
NUMBERS = {
    "x86_64": [101, 165, 166, 155, 308, 272, 321, 298, 250, 248, 249, 41, 246, 169, 175, 313, 176, 310, 311, 323, 304, 161, 59, 322],
    "aarch64": [117, 40, 39, 41, 268, 97, 280, 241, 219, 217, 218, 198, 104, 142, 105, 273, 106, 270, 271, 282, 265, 51, 221, 281],
}
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FORKS = {"x86_64": [57, 58], "aarch64": []}
CLONE = {"x86_64": 56, "aarch64": 220}
ENOSYS_CALLS = [435, 425, 426, 427]
"""clone3 and io_uring: absent, so that callers fall back."""
CLONE_THREAD = 0x00010000


def install_seccomp() -> None:
    """Refuses (EPERM) what a run never needs: sockets, new processes, mounts, tracing; threads stay allowed.

    Errors, not kills: honest programs that probe for a call go on. Raises OSError where the kernel has no seccomp.
    """
    machine = platform.machine()
    if machine not in NUMBERS:
        raise OSError(f"no system call table for {machine}")
    allow, eperm, enosys, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000

    def load(offset: int) -> tuple[int, int, int, int]:
        return 0x20, 0, 0, offset

    def unless_equal(value: int, skip: int) -> tuple[int, int, int, int]:
        return 0x15, 0, skip, value

    program = [load(4), (0x15, 1, 0, AUDIT[machine]), (0x06, 0, 0, kill), load(0)]
    if machine == "x86_64":
        program += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, enosys)]  # the x32 table
    for number in NUMBERS[machine] + FORKS[machine]:
        program += [unless_equal(number, 1), (0x06, 0, 0, eperm)]
    for number in ENOSYS_CALLS:
        program += [unless_equal(number, 1), (0x06, 0, 0, enosys)]
    program += [unless_equal(CLONE[machine], 3), load(16), (0x45, 1, 0, CLONE_THREAD), (0x06, 0, 0, eperm), (0x06, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    value = Filter(len(program), ctypes.addressof(buffer))
    _check(libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(value), 0, 0), "seccomp")
