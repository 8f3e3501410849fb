"""The host's end of a channel into the box: frames over a stream socket, with caps that a hostile peer cannot move.

It reads and writes the socket itself: asyncio's transports and streams would cost a call more than the rest of the sandbox.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from sandbox.guest.frames import HEADER, FrameError, body_length, decode_body, encode_frame

PEER_TIMEOUT_S = 10.0
"""Seconds from a frame's first byte to its last, and seconds that a peer may leave our frames unread."""
READ_BYTES = 1 << 18
MAX_WAITING_BYTES = 1 << 20
"""Bytes beyond a whole frame that are taken from a peer before it has to wait."""


class Channel:
    """Sends and receives frames; every fault of the peer is a FrameError."""

    def __init__(self, sock: socket.socket, *, timeout_s: float = PEER_TIMEOUT_S) -> None:
        """Takes over a connected stream socket, for the running loop."""
        sock.setblocking(False)
        self._sock = sock
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._frame_began_s = 0.0
        self._ended = False
        self._reading = False
        self._broken = False
        """True where half a frame was sent and no more can follow."""
        self._wanted: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._read_on()

    async def send(self, message: dict[str, Any], sockets: Sequence[socket.socket] = ()) -> None:
        """Sends one frame, with copies of ``sockets`` for a peer that we trust. Raises FrameError where it is gone or does not read."""
        data = encode_frame(message)
        async with self._sending:
            if self._broken:
                raise FrameError("the peer does not read (it left a frame unread)")
            try:
                sent = self._send_now(data, sockets)
                if sent < len(data):
                    self._broken = True  # unless the rest goes out, too
                    async with asyncio.timeout(self._timeout_s):
                        await self._loop.sock_sendall(self._sock, data[sent:])
                    self._broken = False
            except (OSError, TimeoutError) as error:
                raise FrameError(f"the peer does not read ({type(error).__name__})") from None

    def _send_now(self, data: bytes, sockets: Sequence[socket.socket]) -> int:
        """What the kernel takes at once, in bytes."""
        try:
            return socket.send_fds(self._sock, [data], [sock.fileno() for sock in sockets]) if sockets else self._sock.send(data)
        except BlockingIOError:
            if sockets:
                raise
            return 0

    async def receive(self) -> dict[str, Any] | None:
        """The next frame; None where the peer closed between frames. Raises FrameError for anything that is not one."""
        while True:
            if (end := self._whole_frame()) is not None:
                body = bytes(self._received[HEADER.size : end])
                del self._received[:end]
                self._frame_began_s = self._loop.time()
                return decode_body(body)
            if self._ended:
                if self._received:
                    raise FrameError("closed within a frame")
                return None
            self._read_on()
            self._wanted = self._loop.create_future()
            if not self._received:
                await self._wanted
                continue
            try:
                async with asyncio.timeout_at(self._frame_began_s + self._timeout_s):
                    await self._wanted
            except TimeoutError:
                raise FrameError(f"a frame was not complete within {self._timeout_s:g} s") from None

    def _whole_frame(self) -> int | None:
        """Where the first frame ends, once it is all there. Raises FrameError where it is too large."""
        if len(self._received) < HEADER.size:
            return None
        end = HEADER.size + body_length(bytes(self._received[: HEADER.size]))
        return end if len(self._received) >= end else None

    def _read_on(self) -> None:
        if not self._reading and not self._ended:
            self._reading = True
            self._loop.add_reader(self._sock, self._on_readable)

    def _read_no_more(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock)

    def _on_readable(self) -> None:
        try:
            piece = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._end()
            return
        if not self._received:
            self._frame_began_s = self._loop.time()
        self._received += piece
        if len(self._received) > MAX_WAITING_BYTES and self._is_enough():
            self._read_no_more()
        self._wake()

    def _is_enough(self) -> bool:
        """True where the reader has something to take, a frame or a fault."""
        try:
            return self._whole_frame() is not None
        except FrameError:
            return True

    def _end(self) -> None:
        self._ended = True
        self._read_no_more()
        self._wake()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def abort(self) -> None:
        """Ends the conversation at once; whoever waits for a frame gets None."""
        self._received.clear()
        self._end()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket."""
        self.abort()
        self._sock.close()
