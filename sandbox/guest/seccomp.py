"""The system calls that a run may make, as a seccomp filter.

Refusals are errors, not kills: honest programs that probe for a call go on. Calls newer than Linux 5.1 are answered
as if the kernel did not know them, so that a new one is closed until someone opens it here.
"""

import ctypes
import platform
import struct
from typing import NamedTuple

EPERM, ENOSYS = 1, 38
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}
Numbers = tuple[int | None, int | None]
"""Of one call on x86_64 and aarch64; None where that machine lacks it."""
DENIED: dict[str, Numbers] = {
    "socket": (41, 198),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "unshare": (272, 97),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "memfd_create": (319, 279),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "lookup_dcookie": (212, 18),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "vhangup": (153, 58),
    "io_setup": (206, 0),
    "seccomp": (317, 277),
}
"""Refused calls."""
MEETING: dict[str, Numbers] = {
    "bind": (49, 200),
    "connect": (42, 203),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "flock": (73, 32),
    "fadvise64": (221, 223),
    "readahead": (187, 213),
    "mincore": (27, 232),
    "sysinfo": (99, 179),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
}
"""Refused as well, for with them runs of one box reach each other: names of sockets, locks on files that all of them see, pages of these
files in memory or not, counts of the whole machine, another process's place in the scheduler."""
UNKNOWN: dict[str, Numbers] = {"preadv2": (327, 286), "pwritev2": (328, 287)}
"""As if the kernel did not have them: a read that does not wait tells whether a page is in memory. The C library uses others instead."""
METADATA: dict[str, Numbers] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
SIGNALS: dict[str, Numbers] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
LANDLOCK_LACKS = METADATA | SIGNALS
"""Refused where Landlock alone guards a run: it governs neither, and other runs and judges may be processes of the same user."""
FIRST_NEW_CALL = 424
NEW_ALLOWED = (436, 439, 441)
"""close_range, faccessat2, epoll_pwait2; numbers from 424 on are the same on all machines."""


class Check(NamedTuple):
    """What one argument must be. Its low 32 bits are compared, which are all that the kernel reads of the arguments checked here."""

    argument: int
    """Its position, from 0."""
    allowed: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    """Bits that are looked at."""
    as_if: tuple[int, ...] = ()
    """Values for which the call is answered as done, and is not."""


CLONE_THREAD = 0x00010000
PR_SET_NAME, PR_GET_NAME = 15, 16
AF_UNIX, SOCK_STREAM, SOCKET_TYPES = 1, 1, 0xF
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW = range(8)
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ = 36, 37, 38, 1030, 1032
TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX = 0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451
FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_PRIVATE, FUTEX_CLOCK = 0, 9, 128, 256
LIMITED: tuple[tuple[Numbers, tuple[Check, ...]], ...] = (
    # clone: threads, not processes
    ((56, 220), (Check(0, (CLONE_THREAD,), CLONE_THREAD),)),
    # prlimit64: of one's own process alone
    ((302, 261), (Check(0, (0,)),)),
    # prctl: a run may not undo what the jail set
    ((157, 167), (Check(0, (PR_SET_NAME, PR_GET_NAME)),)),
    # socketpair: a pair of another kind can be sent to any address, and reaches code of every protocol in the kernel
    ((53, 199), (Check(0, (AF_UNIX,)), Check(1, (SOCK_STREAM,), SOCKET_TYPES))),
    # fcntl: no owner and signal (the kernel would kill others for a run), lease, notice or hint on a file that others see. Record locks
    # belong to a process, and a run is one: none could meet another on its own files (sqlite3 sets them), all would meet on shared ones.
    (
        (72, 25),
        (
            Check(
                1,
                (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ),
                as_if=(F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW),
            ),
        ),
    ),
    # ioctl: of descriptors and terminals; neither their owner nor the host's network interfaces
    ((16, 29), (Check(1, (TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX)),)),
    # futex: among one's own threads; on a page of a shared file it would wake others. Waiting for the end of a thread is no private wait.
    ((202, 98), (Check(1, (*range(FUTEX_PRIVATE, FUTEX_PRIVATE + 16), FUTEX_WAIT, FUTEX_WAIT_BITSET), 0xFFFFFFFF - FUTEX_CLOCK),)),
)
"""Calls that are allowed with some arguments, refused with all others."""

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ERROR = 0x00050000
_ALLOW, _KILL = (_RETURN, 0, 0, 0x7FFF0000), (_RETURN, 0, 0, 0x80000000)
_EPERM, _ENOSYS, _DONE = (_RETURN, 0, 0, _ERROR | EPERM), (_RETURN, 0, 0, _ERROR | ENOSYS), (_RETURN, 0, 0, _ERROR)

Line = tuple[int, int, int, int]
"""One instruction: what to do, how many of the next ones to skip where it is true and where not, a constant."""


def program(machine: str, has_namespaces: bool) -> list[Line]:
    """The filter for a machine name as ``platform.machine()`` has it. Raises OSError for an unknown one."""
    if machine not in COLUMN:
        raise OSError(f"no system call table for {machine}")
    column = COLUMN[machine]
    lines: list[Line] = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, AUDIT[machine]), _KILL, (_LOAD, 0, 0, _NUMBER)]
    for number in NEW_ALLOWED:
        lines += [(_EQUAL, 0, 1, number), _ALLOW]
    lines += [(_AT_LEAST, 0, 1, FIRST_NEW_CALL), _ENOSYS]  # the x32 table too: its numbers are huge
    refused = DENIED | MEETING if has_namespaces else DENIED | MEETING | LANDLOCK_LACKS
    for table, answer in ((refused, _EPERM), (UNKNOWN, _ENOSYS)):
        for number in (numbers[column] for numbers in table.values()):
            if number is not None:
                lines += [(_EQUAL, 0, 1, number), answer]
    for numbers, checks in LIMITED:
        number = numbers[column]
        assert number is not None
        body = [line for check in checks for line in _unless(check)]
        lines += [(_EQUAL, 0, len(body) + 1, number), *body, _ALLOW]
    return [*lines, _ALLOW]


def _unless(check: Check) -> list[Line]:
    """Ends the call unless the argument is an allowed one; the instruction that follows is reached where it is."""
    done = [line for value in check.as_if for line in ((_EQUAL, 0, 1, value), _DONE)]
    # from each comparison over the ones behind it and over the refusal
    passes = [(_EQUAL, len(check.allowed) - index, 0, value) for index, value in enumerate(check.allowed)]
    return [(_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * check.argument), (_AND, 0, 0, check.mask), *done, *passes, _EPERM]


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


class SystemCallFilter:
    """A filter made once, in the zygote, and switched on in every child."""

    def __init__(self, has_namespaces: bool) -> None:
        """
        Args:
            has_namespaces: files and processes of others are out of sight; where they are not, changes of modes, owners, times and
                attributes of files, and signals, are refused.
        """
        lines = program(platform.machine(), has_namespaces)
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
        self._filter = _Filter(len(lines), ctypes.addressof(self._code))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def install(self) -> None:
        """From here on for this process. Raises OSError where the kernel has no seccomp."""
        if self._libc.prctl(22, 2, ctypes.byref(self._filter), 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")
