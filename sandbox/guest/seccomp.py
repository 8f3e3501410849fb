"""The system calls that a run may make, as a seccomp filter.

Refusals are errors, not kills: honest programs that probe for a call go on. Calls newer than Linux 5.1 are answered
as if the kernel did not know them, so that a new one is closed until someone opens it here.
"""

import ctypes
import platform
import struct

EPERM, ENOSYS = 1, 38
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}
DENIED: dict[str, tuple[int | None, int | None]] = {
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
}
"""Refused calls with their numbers on x86_64 and aarch64."""
METADATA: dict[str, tuple[int | None, int | None]] = {
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
SIGNALS: dict[str, tuple[int | None, int | None]] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
LANDLOCK_LACKS = METADATA | SIGNALS
"""Refused where Landlock alone guards a run: it governs neither, and other runs and judges may be processes of the same user."""
PRLIMIT = (302, 261)
"""Of one's own process alone (0)."""
CLONE = (56, 220)
CLONE_THREAD = 0x00010000
PRCTL = (157, 167)
PRCTL_ALLOWED = (15, 16)
"""PR_SET_NAME and PR_GET_NAME: a run may not undo what the jail set."""
FIRST_NEW_CALL = 424
NEW_ALLOWED = (436, 439, 441)
"""close_range, faccessat2, epoll_pwait2; numbers from 424 on are the same on all machines."""

_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _REFUSE, _KILL = (_RETURN, 0, 0, 0x7FFF0000), 0x00050000, (_RETURN, 0, 0, 0x80000000)

Line = tuple[int, int, int, int]


def program(machine: str, has_namespaces: bool) -> list[Line]:
    """The filter for a machine name as ``platform.machine()`` has it. Raises OSError for an unknown one."""
    if machine not in COLUMN:
        raise OSError(f"no system call table for {machine}")
    column = COLUMN[machine]
    eperm, enosys = (_RETURN, 0, 0, _REFUSE | EPERM), (_RETURN, 0, 0, _REFUSE | ENOSYS)
    lines: list[Line] = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, AUDIT[machine]), _KILL, (_LOAD, 0, 0, _NUMBER)]
    for number in NEW_ALLOWED:
        lines += [(_EQUAL, 0, 1, number), _ALLOW]
    lines += [(_AT_LEAST, 0, 1, FIRST_NEW_CALL), enosys]  # the x32 table too: its numbers are huge
    for numbers in (DENIED if has_namespaces else DENIED | LANDLOCK_LACKS).values():
        number = numbers[column]
        if number is not None:
            lines += [(_EQUAL, 0, 1, number), eperm]
    lines += [(_EQUAL, 0, 4, CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_HAS_BITS, 1, 0, CLONE_THREAD), eperm, _ALLOW]
    lines += [(_EQUAL, 0, 4, PRLIMIT[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_EQUAL, 1, 0, 0), eperm, _ALLOW]
    lines += [(_EQUAL, 0, 4, PRCTL[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    lines += [(_EQUAL, 2, 0, PRCTL_ALLOWED[0]), (_EQUAL, 1, 0, PRCTL_ALLOWED[1]), eperm]
    return [*lines, _ALLOW]


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
