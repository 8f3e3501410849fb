"""The host's end of a channel into the box: frames over a stream socket, with caps that a hostile peer cannot move.

It reads and writes the socket itself: asyncio's transports and streams would cost a call more than the rest of the sandbox.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sandbox.deadline import Countdown, Deadline
from sandbox.guest.frames import HEADER, FrameError, decode_body, encode_frame, frame_end

T = TypeVar("T")
PEER_TIMEOUT_S = 10.0
"""Seconds from a frame's first byte to its last, and seconds that a peer may leave our frames unread."""
READ_BYTES = 1 << 16
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
        self._ended = False
        self._reading = False
        self._broken = False
        """True where half a frame was sent and no more can follow."""
        self._take: Callable[[dict[str, Any]], Any] | None = None
        self._taken: asyncio.Future[Any] = self._loop.create_future()
        self._deadline: Countdown | None = None
        self._sending = asyncio.Lock()
        self._in_line = 0
        """Frames that wait or of which a part is sent."""
        self.frame_bytes = 0
        """Size of the last frame handed out."""
        self._read_on()

    async def send(self, message: dict[str, Any], sockets: Sequence[socket.socket] = ()) -> None:
        """Sends one frame, with copies of ``sockets`` for a peer that we trust. Raises FrameError where it is gone or does not read."""
        data = encode_frame(message)
        try:
            sent = 0 if self._in_line or self._broken else self._send_now(data, sockets)
            if sent < len(data):
                await self._send_rest(data, sent, sockets)
        except (OSError, TimeoutError) as error:
            raise FrameError(f"the peer does not read ({type(error).__name__})") from None

    async def _send_rest(self, data: bytes, sent: int, sockets: Sequence[socket.socket]) -> None:
        self._in_line += 1  # a lock that is given on looks free for a moment
        try:
            async with self._sending:
                if self._broken:
                    raise FrameError("the peer does not read (it left a frame unread)")
                sent = sent or self._send_now(data, sockets)
                if sent < len(data):
                    self._broken = True  # unless the rest goes out, too
                    async with Deadline(self._timeout_s):
                        await self._loop.sock_sendall(self._sock, data[sent:])
                    self._broken = False
        finally:
            self._in_line -= 1

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
        return await self.hand_out(lambda frame: frame)

    async def hand_out(self, take: Callable[[dict[str, Any]], T | None]) -> T | None:
        """Calls ``take`` with each frame, as soon as it is whole, until it returns something, and returns that.

        None where the peer closed between frames. Raises FrameError for what is no frame, and where ``take`` does.
        """
        self._take, self._taken = take, self._loop.create_future()
        try:
            self._read_on()
            self._deal()
            return await self._taken
        finally:
            self._take = None
            self._expect_more(False)

    def _deal(self) -> None:
        """Hands out the frames that are there."""
        if self._take is None or self._taken.done():
            return
        try:
            while (end := frame_end(self._received)) is not None:
                body = bytes(self._received[HEADER.size : end])
                del self._received[:end]
                self.frame_bytes = end
                self._expect_more(False)
                if (result := self._take(decode_body(body))) is not None:
                    self._taken.set_result(result)
                    return
            if self._ended and self._received:
                raise FrameError("closed within a frame")
            if self._ended:
                self._taken.set_result(None)
            self._expect_more(bool(self._received))
        except Exception as error:  # whoever waits gets it: this may be a callback
            self._taken.set_exception(error)

    def _expect_more(self, more: bool) -> None:
        """Sets or ends the deadline of a frame of which a part is there."""
        if more and self._deadline is None:
            self._deadline = Countdown(self._timeout_s, self._expire)
            self._deadline.start()
        elif not more and self._deadline is not None:
            self._deadline.stop()
            self._deadline = None

    def _expire(self) -> None:
        if self._take is not None and not self._taken.done():
            self._taken.set_exception(FrameError(f"a frame was not complete within {self._timeout_s:g} s"))

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
        self._received += piece
        self._deal()
        if len(self._received) > MAX_WAITING_BYTES and self._is_enough():
            self._read_no_more()

    def _is_enough(self) -> bool:
        """True where the reader has something to take, a frame or a fault."""
        try:
            return frame_end(self._received) is not None
        except FrameError:
            return True

    def _end(self) -> None:
        self._ended = True
        self._read_no_more()
        self._deal()

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
