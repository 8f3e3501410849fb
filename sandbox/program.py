"""Runs one program in the box: stdin in, bounded stdout and stderr out, no tests."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from sandbox.backend import Backend
from sandbox.deadline import Deadline
from sandbox.guest.frames import FrameError, encode_frame
from sandbox.settings import LimitSettings
from workflow.verifiers.runner import ProgramResult

DRAIN_S = 0.2
"""Seconds in which output that an ended program left in its sockets is read."""


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What became of a program."""

    exit_status: int | None
    """As ``sys.exit`` or a signal (negative) left it; None where it was ended at a limit."""
    stdout: str
    stderr: str
    """Both bounded by ``limits.output_kib``; bytes that are no UTF-8 are shown as ``\\xNN``."""
    limit: str
    """The limit it hit, in words; empty where it ended by itself."""
    late: bool
    """True where that limit is its deadline."""
    wall_s: float
    """Seconds of its deadline that it spent."""
    cpu_s: float
    isolation: str

    def error_line(self) -> str:
        """The last line of stderr, or the exit status."""
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else f"exit status {self.exit_status}"

    def result(self) -> ProgramResult:
        """As operators and verifiers see it."""
        ok = self.exit_status == 0
        return ProgramResult(ok, self.stdout if ok else self.limit or self.error_line())


async def run_program(backend: Backend, limits: LimitSettings, source: str, stdin: str = "") -> ProgramRun:
    """Runs a Python program as ``__main__`` until it ends or hits a limit. Raises BackendError where the box fails."""
    deadline = Deadline(limits.wall_s)
    pairs = [socket.socketpair() for _ in range(4)]
    ours = [mine for mine, _ in pairs]
    for mine in ours:
        mine.setblocking(False)
    process = None
    try:
        process = await backend.spawn("program", [theirs for _, theirs in pairs])
        kept = [bytearray(), bytearray()]
        cap = limits.output_kib * 1024
        feeds = [_feed(ours[0], _start_frame(source)), _feed(ours[1], stdin.encode("utf-8", "replace"))]
        readers = [_read(sock, buffer, cap) for sock, buffer in zip(ours[2:], kept, strict=True)]
        tasks = [asyncio.ensure_future(job) for job in (*feeds, *readers)]
        try:
            status = None
            try:
                async with deadline:
                    status = await asyncio.shield(process.exited)
            except TimeoutError:
                process.kill()
                await process.wait()
            with contextlib.suppress(TimeoutError):
                async with Deadline(DRAIN_S):
                    await asyncio.wait(tasks[2:])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        cpu_s, spent = process.cpu_s, process.spent(limits.cpu_s)
    finally:
        if process is not None:
            process.kill()
        for mine in ours:
            mine.close()
    limit = ""
    if status is None:
        limit = f"no end within {limits.wall_s:g} s"
    elif spent:
        limit = f"the CPU limit of {limits.cpu_s} s"
    stdout, stderr = (bytes(buffer).decode("utf-8", "backslashreplace") for buffer in kept)
    wall_s = limits.wall_s - deadline.left_s
    return ProgramRun(None if limit else status, stdout, stderr, limit, status is None, wall_s, cpu_s, backend.level)


def _start_frame(source: str) -> bytes:
    """The start frame; for a source too large to send one whose program says so."""
    try:
        return encode_frame({"source": source})
    except FrameError as error:
        return encode_frame({"source": f"raise SystemExit({str(error)!r})"})


async def _feed(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)


async def _read(sock: socket.socket, kept: bytearray, cap: int) -> None:
    """Reads to the end, keeps the first ``cap`` bytes, so that a flood neither blocks its program nor fills us."""
    with contextlib.suppress(OSError):
        while piece := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            kept += piece[: max(0, cap - len(kept))]
