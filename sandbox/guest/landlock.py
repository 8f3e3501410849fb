"""Landlock: what files a process and all its children may touch, without any privilege (Linux 5.13).

The process level uses it where the kernel has it; the namespace level needs no such thing, since nothing else is mounted.
"""

import ctypes
import os
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FILE_RIGHTS_BY_ABI = (13, 14, 15, 15, 16)
"""Bits of the rights on files, ABI 1 to 5; later ones add none."""
NETWORK_RIGHTS = 3
"""Binding and connecting TCP, since ABI 4."""
SCOPES = 3
"""Abstract Unix sockets and processes of others are out of reach, also of signals that the kernel sends for a descriptor; since ABI 6."""

libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *args: object) -> int:
    result = libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "landlock")
    return result


def abi() -> int:
    """Version of the kernel's Landlock; 0 where there is none."""
    return max(0, libc.syscall(CREATE_RULESET, None, 0, 1))


def restrict(readable: list[str]) -> None:
    """From here on this process and its children only read below ``readable``, write device files there, and signal each other alone.

    Needs no_new_privs or privilege. Raises OSError where the kernel has no Landlock.
    """
    version = abi()
    if version == 0:
        raise OSError("the kernel has no Landlock")
    rights = (1 << FILE_RIGHTS_BY_ABI[min(version, len(FILE_RIGHTS_BY_ABI)) - 1]) - 1
    handled = (rights, *[NETWORK_RIGHTS] * (version >= 4), *[SCOPES] * (version >= 6))
    attributes = struct.pack(f"{len(handled)}Q", *handled)
    ruleset = _call(CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            allowed = EXECUTE | READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE | WRITE_FILE
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                _call(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, descriptor), 0)
            finally:
                os.close(descriptor)
        _call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
