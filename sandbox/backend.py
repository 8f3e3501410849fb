"""Where hostile code runs: the Backend interface and the zygote that implements it.

A backend gives a fresh process per run, connected by stream sockets and nothing else. It proves its isolation
level at start by canaries, and the level goes into every record.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sandbox.channel import Channel
from sandbox.process import BackendError, Process
from sandbox.settings import SandboxSettings

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
LEVELS = ("unsafe", "landlock", "namespace")
"""Isolation levels, weakest first. ``unsafe`` limits a run and confines nothing: only tools ask for it, by name."""
ALLOWED_ATTEMPTS = {
    "unsafe": {"reads_host_file", "writes_outside_tmp", "marks_a_device", "sees_processes"},
    "landlock": set[str](),
    "namespace": set[str](),
}
"""What each level cannot prevent."""


class Backend(Protocol):
    """Starts fresh processes in a box."""

    level: str

    async def start(self) -> None:
        """Brings the box up and proves its level. Raises ValueError where it stays below the wanted level."""
        ...

    async def spawn(self, role: str, sockets: Sequence[socket.socket]) -> Process:
        """A fresh process that plays ``role`` on ``sockets`` (closed here). Raises BackendError."""
        ...

    async def close(self) -> None:
        """Ends every process."""
        ...


class ZygoteBackend:
    """Jail once, fork many: a zygote exec'ed clean, a fresh forked process per run."""

    def __init__(self, settings: SandboxSettings, levels: Sequence[str] = ()) -> None:
        """
        Args:
            levels: those to try, weakest first; a test or a tool names one. Default: from ``min_level`` up.
        """
        self.level = ""
        self._levels = levels or LEVELS[LEVELS.index(settings.min_level) :]
        self._limits = settings.limits.model_dump()
        self._libraries = list(settings.libraries)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._next = 0
        self._spawning: dict[int, asyncio.Future[Process]] = {}
        self._running: dict[int, Process] = {}
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        reasons: list[str] = []
        for level in reversed(self._levels):
            try:
                await self._start_zygote(level)
                succeeded = await self._canaries()
            except BackendError as error:
                reasons.append(f"{level}: {error}")
            else:
                if not succeeded - ALLOWED_ATTEMPTS[level]:
                    return
                reasons.append(f"{level}: the box does not prevent {', '.join(sorted(succeeded - ALLOWED_ATTEMPTS[level]))}")
            await self.close()
        raise ValueError(
            f"No sandbox of level {' or '.join(map(repr, self._levels))} starts here ({'; '.join(reasons)}): python -m launch.doctor says "
            f"what to change."
        )

    async def _start_zygote(self, level: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        # asyncio does without ssl, whose pages every run would copy
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['ssl'] = None; from sandbox.guest.zygote import main; "
        code += "del sys.modules['ssl']; "
        code += f"main({theirs.fileno()}, {level!r}, {self._libraries!r}, {sysconfig.get_path('purelib')!r})"
        # Options as -I sets them, but the hash seed is read: sets have the same order in every box.
        self._process = subprocess.Popen(
            [os.path.realpath(sys.executable), *("-s", "-P", "-S", "-B", "-c"), code],
            env={"MALLOC_ARENA_MAX": "1", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        theirs.close()
        try:
            hello = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 65536), START_TIMEOUT_S)
        except (TimeoutError, OSError):
            hello = b""
        message = json.loads(hello) if hello else {"failed": "the zygote died at start"}
        if "failed" in message:
            ours.close()
            await self._reap()
            raise BackendError(message["failed"])
        self._control = ours
        self.level = level
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_message)

    def _on_message(self) -> None:
        assert self._control is not None
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 65536, 4)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._stop_zygote()
            return
        message: dict[str, Any] = json.loads(data)
        number = message["id"]
        if "exited" in message:
            process = self._running.pop(number, None)
            if process is not None and not process.exited.done():
                process.cpu_s = message["cpu_s"]
                process.exited.set_result(message["exited"])
            return
        waiting = self._spawning.pop(number, None)
        if "failed" in message:
            if waiting is not None and not waiting.done():
                waiting.set_exception(BackendError(message["failed"]))
            return
        process = Process(message["pid"], fds[0])
        self._running[number] = process
        if waiting is None or waiting.done():
            process.kill()  # the caller was cancelled meanwhile
        else:
            waiting.set_result(process)

    async def spawn(self, role: str, sockets: Sequence[socket.socket]) -> Process:
        try:
            if self._control is None:
                async with self._starting:
                    if self._control is None:
                        await self._start_zygote(self.level or self._levels[-1])
            self._next += 1
            number = self._next
            future: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
            self._spawning[number] = future
            request = json.dumps({"id": number, "role": role, "limits": self._limits}).encode()
            await self._send(request, [sock.fileno() for sock in sockets])
            try:
                async with asyncio.timeout(30):  # not wait_for, which loses a cancellation that meets the result
                    return await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled() and future.exception() is None:
                    future.result().kill()
                raise
        except (OSError, TimeoutError) as error:
            raise BackendError(f"the zygote does not answer ({error})") from None
        finally:
            for sock in sockets:
                sock.close()

    async def _send(self, request: bytes, fds: list[int]) -> None:
        for _ in range(2000):
            control = self._control
            if control is None:
                raise BackendError("the zygote died")
            try:
                socket.send_fds(control, [request], fds)
                return
            except BlockingIOError:
                await asyncio.sleep(0.005)
        raise BackendError("the zygote does not read")

    async def _canaries(self) -> set[str]:
        ours, theirs = socket.socketpair()
        handle, name = tempfile.mkstemp(prefix="fr-canary-")
        os.close(handle)
        secret = Path(name)
        secret.write_text("secret")
        secret.chmod(0o644)
        process = await self.spawn("canary", [theirs])
        channel = Channel(ours)
        try:
            await channel.send({"secret_path": str(secret)})
            reply = await asyncio.wait_for(channel.receive(), 10)
        except (TimeoutError, OSError):
            reply = None
        finally:
            process.kill()
            channel.close()
            secret.unlink()
        if reply is None:
            raise BackendError("a process in the box does not answer")
        return set(reply["succeeded"])

    def _stop_zygote(self) -> None:
        """Forgets the zygote; what ran in it dies with it and its waiters learn so."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
        for future in self._spawning.values():
            if not future.done():
                future.set_exception(BackendError("the zygote died"))
        self._spawning.clear()
        for process in self._running.values():
            process.kill()
            if not process.exited.done():
                process.exited.set_exception(BackendError("the zygote died"))
                process.exited.exception()  # retrieved: nobody may be waiting
        self._running.clear()

    @property
    def pid(self) -> int | None:
        """The zygote's process id, for tests and health checks."""
        return self._process.pid if self._process is not None else None

    async def close(self) -> None:
        self._stop_zygote()
        await self._reap()

    async def _reap(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
