"""Role canary: tries what must fail, and reports what did not. The host refuses a level whose canaries sing."""

import os
import socket
from collections.abc import Callable

from sandbox.guest.frames import receive, send


def run(host: socket.socket) -> None:
    """Reports the names of the attempts that succeeded."""
    start = receive(host)
    assert start is not None
    secret = start["secret_path"]

    def reads_host_file() -> bool:
        with open(secret) as file:
            return bool(file.read())

    def opens_socket() -> bool:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        return True

    def pairs_datagrams() -> bool:
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return True

    def forks() -> bool:
        if os.fork() == 0:
            os._exit(0)
        return True

    def sees_environment() -> bool:
        return bool(os.environ)

    def writes_outside_tmp() -> bool:
        with open("/usr/lib/canary", "w"):
            return True

    def marks_a_device() -> bool:
        os.utime("/dev/null")
        return True

    def sees_processes() -> bool:
        return any(name.isdigit() for name in os.listdir("/proc"))

    attempts: list[Callable[[], bool]] = [
        *(reads_host_file, opens_socket, pairs_datagrams, forks, sees_environment, writes_outside_tmp, marks_a_device, sees_processes)
    ]
    send(host, {"succeeded": [attempt.__name__ for attempt in attempts if _succeeds(attempt)]})


def _succeeds(attempt: Callable[[], bool]) -> bool:
    try:
        return attempt()
    except Exception:
        return False
