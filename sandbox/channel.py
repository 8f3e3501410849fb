"""The host's end of a channel into the box: frames over asyncio streams, with caps that a hostile peer cannot move."""

import asyncio
import contextlib
import socket
from typing import Any

from sandbox.guest.frames import HEADER, FrameError, body_length, decode_body, encode_frame

PEER_TIMEOUT_S = 10.0
"""Seconds from a frame's first byte to its last, and seconds that a peer may leave our frames unread."""


class Channel:
    """Sends and receives frames; every fault of the peer is a FrameError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s

    @classmethod
    async def open(cls, sock: socket.socket, *, timeout_s: float = PEER_TIMEOUT_S) -> "Channel":
        """Takes over a connected stream socket."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
        return cls(reader, writer, timeout_s)

    async def send(self, message: dict[str, Any]) -> None:
        """Sends one frame. Raises FrameError where the peer is gone or does not read."""
        try:
            self._writer.write(encode_frame(message))
            if self._writer.transport.is_closing() or self._writer.transport.get_write_buffer_size():  # else the kernel has it all
                async with asyncio.timeout(self._timeout_s):
                    await self._writer.drain()
        except (ConnectionError, TimeoutError) as error:
            raise FrameError(f"the peer does not read ({type(error).__name__})") from None

    async def receive(self) -> dict[str, Any] | None:
        """The next frame; None where the peer closed between frames. Raises FrameError for anything that is not one."""
        try:
            header = await self._reader.readexactly(1)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                header += await self._reader.readexactly(HEADER.size - 1)
                return decode_body(await self._reader.readexactly(body_length(header)))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise FrameError("closed within a frame") from None
        except TimeoutError:
            raise FrameError(f"a frame was not complete within {self._timeout_s:g} s") from None

    def abort(self) -> None:
        """Closes the socket at once; whoever waits for a frame gets None."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Closes the socket; what is unsent is dropped."""
        self.abort()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._writer.wait_closed()
