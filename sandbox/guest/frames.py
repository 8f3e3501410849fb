"""Length-prefixed JSON frames over a stream socket: the one wire format of the sandbox."""

import json
import re
import socket
import struct
from typing import Any

HEADER = struct.Struct(">I")
_JSON = json.JSONEncoder(separators=(",", ":"))
# A process that has slept meets its memory cold: what json does in Python around its C functions costs a message more than they do.
_decoder: Any = json.JSONDecoder()
_make_encoder: Any = getattr(json.encoder, "c_make_encoder", None)
_chunks = _make_encoder and _make_encoder(None, _JSON.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
MAX_FRAME_BYTES = 4 * 2**20
"""Largest frame that either side sends or accepts."""

MAX_DEPTH = 250
"""Deepest nesting of a message, far from where its reader's own recursion would end."""


class FrameError(Exception):
    """The peer sent something that is not a frame, or closed within one."""


def encode_frame(message: dict[str, Any]) -> bytes:
    """A message as bytes. Raises FrameError where it is too large or not JSON."""
    try:
        text = "".join(_chunks(message, 0)) if _chunks else _JSON.encode(message)
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"not a JSON message: {error}") from None
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return HEADER.pack(len(body)) + body


def decode_body(body: bytes) -> dict[str, Any]:
    """The message in a frame's body. Raises FrameError where it is no JSON object, or too deep."""
    try:
        message = _parse(body.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise FrameError("a frame must hold a JSON object")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deeper(message, MAX_DEPTH):
        raise FrameError(f"a message is nested more than {MAX_DEPTH} deep")
    return _well_formed(message) if b"\\u" in body and _SURROGATE.search(body) else message


def _parse(text: str) -> Any:
    """The JSON value of a text. Raises ValueError or RecursionError."""
    try:
        value, end = _decoder.scan_once(text, 0)
    except StopIteration:
        return json.loads(text)  # blanks before it, or an error in words
    return value if end == len(text) else json.loads(text)


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return True


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _well_formed(value: Any) -> Any:
    """The same value with lone surrogates spelt out: such a text could be neither hashed, logged nor sent by its reader."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    return value


def body_length(header: bytes | bytearray) -> int:
    """Length of the body that a header at the start of ``header`` announces. Raises FrameError where it is over the limit."""
    (length,) = HEADER.unpack_from(header)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return length


def frame_end(received: bytearray) -> int | None:
    """Where the first frame of what was received ends, once it is all there. Raises FrameError where it is too large."""
    if len(received) < HEADER.size:
        return None
    end = HEADER.size + body_length(received)
    return end if len(received) >= end else None


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    """Sends one frame, blocking."""
    sock.sendall(encode_frame(message))


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """The next frame, blocking (or within the socket's timeout); None where the peer closed between frames."""
    header = _exactly(sock, HEADER.size)
    return _after_header(sock, header) if header else None


def receive_with_socket(sock: socket.socket) -> tuple[dict[str, Any], socket.socket] | None:
    """The next frame and the socket that came with its first byte, blocking; None where the peer closed. For trusted peers only."""
    header, descriptors, _, _ = socket.recv_fds(sock, HEADER.size, 1)
    if not header:
        return None
    header += _exactly(sock, HEADER.size - len(header))
    return _after_header(sock, header), socket.socket(fileno=descriptors[0])


def _after_header(sock: socket.socket, header: bytes) -> dict[str, Any]:
    if len(header) < HEADER.size:
        raise FrameError("closed within a frame")
    length = body_length(header)
    body = _exactly(sock, length)
    if len(body) < length:
        raise FrameError("closed within a frame")
    return decode_body(body)


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = sock.recv(min(count - len(parts), 65536))
        if not piece:
            break
        parts += piece
    return bytes(parts)
