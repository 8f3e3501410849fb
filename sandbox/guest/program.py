"""Role P: runs one program as ``__main__`` with its three standard streams on sockets."""

import builtins
import io
import os
import random
import socket
import sys
import traceback
import types

from sandbox.guest.frames import receive


def run(host: socket.socket, stdin: socket.socket, stdout: socket.socket, stderr: socket.socket) -> None:
    """Reads the start frame, runs its source, leaves with its exit status."""
    start = receive(host)
    assert start is not None
    host.close()
    for number, sock in enumerate((stdin, stdout, stderr)):
        os.dup2(sock.fileno(), number)
        sock.close()
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), "utf-8", "replace")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), "utf-8", "backslashreplace")
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w")), "utf-8", "backslashreplace", write_through=True)
    sys.argv = ["program.py"]
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    random.seed(0)
    status = 0
    try:
        exec(compile(start["source"], "<program>", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        status = _status(end)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 255
    print(end.code, file=sys.stderr)
    return 1
