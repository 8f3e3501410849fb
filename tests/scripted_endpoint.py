"""A real HTTP server whose answers are scripted one by one, to put behind a client under test."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

DROP = b""
"""Answer that closes the connection without a byte."""
HANG = b"hang"
"""Answer that never comes."""


def http(status: int, payload: object, **headers: str) -> bytes:
    """A whole response; ``payload`` is sent as JSON, or as it is where it is bytes."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    lines = [f"HTTP/1.1 {status} Scripted", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def completion(text: str = "hello", prompt_tokens: int = 100, completion_tokens: int = 20) -> bytes:
    """A chat completion."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens}
    return http(200, {"object": "chat.completion", "choices": [{"index": 0, "message": {"content": text}}], "usage": usage})


def error(status: int, message: str = "scripted", code: str | None = None, param: str | None = None, **headers: str) -> bytes:
    """An API error in OpenAI's form."""
    return http(status, {"error": {"message": message, "type": "error", "code": code, "param": param}}, **headers)


@dataclass
class Endpoint:
    """What was asked, and what to answer."""

    base_url: str
    script: list[bytes]
    """Answers to chat requests, in order; the last one is repeated."""
    models: bytes
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the chat requests received."""
    paths: list[str] = field(default_factory=list)
    """Where they were sent."""
    heads: list[str] = field(default_factory=list)
    """Their first lines and headers, in small letters."""
    open_requests: int = 0
    most_open_requests: int = 0
    given_up: int = 0
    """Requests whose client went away before the answer."""
    answer: Callable[[dict[str, Any]], bytes] | None = None
    """Instead of the script: the answer to a body."""

    def next_answer(self, body: dict[str, Any]) -> bytes:
        """The answer to the request that was received last."""
        if self.answer is not None:
            return self.answer(body)
        return self.script[min(len(self.requests), len(self.script)) - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get"):
            if self.models == HANG:
                await self._wait(reader, None)
                return False
            writer.write(self.models)
            return True
        self.paths.append(head.split()[1])
        self.heads.append(head)
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.requests.append(body)
        answer = self.next_answer(body)
        self.open_requests += 1
        self.most_open_requests = max(self.most_open_requests, self.open_requests)
        try:
            gone = await self._wait(reader, None if answer == HANG else self.delay_s)
        finally:
            self.open_requests -= 1
        self.given_up += gone
        if answer in (DROP, HANG) or gone:
            return False
        writer.write(answer)
        await writer.drain()
        return b"content-length: 9999" not in answer

    async def _wait(self, reader: asyncio.StreamReader, delay_s: float | None) -> bool:
        """True where the client leaves meanwhile."""
        if delay_s == 0:
            return False
        try:
            async with asyncio.timeout(delay_s):
                return await reader.read(1) == b""
        except TimeoutError:
            return False


MODELS = http(200, {"object": "list", "data": [{"id": "scripted-worker"}, {"id": "scripted-teacher"}]})


@asynccontextmanager
async def endpoint(
    *script: bytes, models: bytes = MODELS, delay_s: float = 0.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Endpoint]:
    """A running endpoint on a free port of this machine."""
    scripted = Endpoint("", list(script) or [completion()], models, delay_s)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0, ssl=tls)
    scripted.base_url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield scripted
    finally:
        server.close()
