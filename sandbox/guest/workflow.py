"""Role W: runs one workflow. Its operators are stubs that ask the host over the channel."""

import asyncio
import builtins
import inspect
import math
import random
import select
import socket
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

from sandbox.guest import aflow
from sandbox.guest.frames import HEADER, FrameError, decode_body, encode_frame, frame_end, receive

T = TypeVar("T")


class OperatorError(Exception):
    """An operator call failed; the message says why."""


class BudgetExceeded(OperatorError):
    """The run's budget of calls or tokens is spent."""


class Problem:
    """What a workflow sees of its problem; ``str(problem)`` is the query."""

    def __init__(self, query: str, entry_point: str, public_tests: list[str]) -> None:
        self.query = query
        self.entry_point = entry_point
        self.public_tests = public_tests

    def __str__(self) -> str:
        return self.query

    def __add__(self, other: str) -> str:
        return self.query + other

    def __radd__(self, other: str) -> str:
        return other + self.query


def _plain(value: Any) -> Any:
    """An argument as JSON: the problem by reference, reports and objects as dicts."""
    if isinstance(value, Problem):
        return {"$problem": True}
    if isinstance(value, SimpleNamespace):
        return {key: _plain(item) for key, item in vars(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


class Report(SimpleNamespace):
    """What an operator found: ``report.passed``, and ``report["passed"]``, which many models write."""

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]


def _object(value: Any) -> Any:
    return Report(**value) if isinstance(value, dict) else value


class Loop(asyncio.BaseEventLoop):
    """asyncio's own loop, waiting for one socket and nothing else.

    A selector loop, its self-pipe and its streams cost every run more pages, copied after the fork, than all else here.
    """

    def __init__(self, sock: socket.socket, on_readable: Callable[[], bool]) -> None:
        super().__init__()
        self._selector = self  # BaseEventLoop asks its selector for events, then hands them to _process_events
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._on_readable = on_readable

    @property
    def alone(self) -> bool:
        """True where nothing can run but what runs now: no callback is ready and no timer is set."""
        loop: Any = self
        return not loop._ready and not loop._scheduled

    def select(self, timeout: float | None) -> bool:
        """True where the socket has something to read; waits up to ``timeout`` seconds for it, None: for ever."""
        return bool(self._poll.poll(None if timeout is None else math.ceil(timeout * 1000)))

    def _process_events(self, event_list: bool) -> None:
        if event_list and not self._on_readable():
            self._poll = select.poll()  # closed: only timers are left to wait for

    def _write_to_self(self) -> None:
        """Nothing to wake: a workflow has one thread."""


class Channel:
    """Sends operator calls and hands replies to those who wait for them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = Loop(sock, self._on_readable)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._received = bytearray()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. The loop is left as it is: the process ends, and closing it would only cost time."""
        return self._loop.run_until_complete(coroutine)

    async def _ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The reply to one operator call. Raises what the host says of it.

        Most workflows take one step after another: then the process waits in the socket itself, without a turn of the loop.
        """
        self._next += 1
        number = self._next
        try:
            data = encode_frame({"id": number, "op": name, "args": _plain(args), "kwargs": _plain(kwargs)})
        except FrameError as error:
            raise OperatorError(f"{name}: {error}") from None
        self.write(data)
        reply = None
        if self._loop.alone and not self._waiting:
            while (reply := self._whole_frame()) is None or reply["id"] != number:
                if reply is None and not self._read():
                    break
        if reply is None:
            future = self._waiting[number] = self._loop.create_future()
            reply = await future
        if "error" in reply:
            kind = reply.get("kind")
            raise (BudgetExceeded if kind == "budget" else TypeError if kind == "type" else OperatorError)(reply["error"])
        return reply

    def ours(self, name: str) -> Any:
        """The coroutine function that stands for an operator of our language: reports are objects."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            return _object((await self._ask(name, args, kwargs))["value"])

        call.__name__ = name
        return call

    async def aflow(self, llm: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator of AFlow's: reports are dicts, and the LLM keeps the bill."""
        reply = await self._ask(name, args, kwargs)
        llm.cost_manager.total_cost += reply["cost_dollars"]
        return reply["value"]

    def write(self, data: bytes) -> None:
        """Sends a frame, whole; waits where the host has not read the ones before."""
        self._sock.sendall(data)

    def _on_readable(self) -> bool:
        """Hands out the replies that have come in; False where the host closed."""
        if not self._read():
            return False
        while (reply := self._whole_frame()) is not None:
            future = self._waiting.pop(reply["id"], None)
            if future is not None and not future.done():
                future.set_result(reply)
        return True

    def _read(self) -> bool:
        """Takes what has come, waits for it where nothing has; False where the host closed."""
        piece = self._sock.recv(1 << 16)
        self._received += piece
        return bool(piece)

    def _whole_frame(self) -> dict[str, Any] | None:
        """The first reply that is all there."""
        if (end := frame_end(self._received)) is None:
            return None
        body = bytes(self._received[HEADER.size : end])
        del self._received[:end]
        return decode_body(body)


def _load(channel: Channel, start: dict[str, Any]) -> Any:
    """The workflow object with its operators."""
    namespace: dict[str, Any] = {"__name__": "workflow", "__builtins__": builtins, "asyncio": asyncio}
    namespace |= {"OperatorError": OperatorError, "BudgetExceeded": BudgetExceeded}
    exec(compile(start["source"], "<workflow>", "exec", dont_inherit=True), namespace)
    kind = namespace["Workflow"]
    workflow = kind.__new__(kind)
    for name in start["operators"]:
        setattr(workflow, name, channel.ours(name))
    workflow.__init__()
    return workflow


async def _answer(channel: Channel, start: dict[str, Any]) -> Any:
    if start["form"] == "ours":
        answer = await _load(channel, start)(Problem(start["query"], start["entry_point"], start["public_tests"]))
        texts = [value for value in answer.values() if type(value) is str] if type(answer) is dict else []
        return texts[0] if len(texts) == 1 else answer  # {"solution": text}: there is no doubt what the answer is
    workflow = aflow.load(start["source"], start["prompts"], start["operators"], channel.aflow)
    takes = len(inspect.signature(workflow.__call__).parameters)
    answer = await workflow(*[start["query"], start["entry_point"]][:takes])
    return answer[0] if isinstance(answer, tuple) and answer else answer  # (solution, cost); the bill is kept elsewhere


async def _call(channel: Channel, start: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = await _answer(channel, start)
    except BudgetExceeded as error:
        return {"error": f"BudgetExceeded: {error}"[:400], "kind": "budget"}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:400], "kind": "crash"}
    if type(answer) is not str:
        return {"error": f"the workflow returned {type(answer).__name__}, not a text"[:400], "kind": "crash"}
    return {"answer": answer}


def run(sock: socket.socket) -> None:
    """Reads the start frame, runs the workflow, sends one finish frame."""
    start = receive(sock)
    assert start is not None
    random.seed(start["seed"])  # a rerun repeats
    if start["form"] == "raw":  # speaks on the channel itself, on its descriptor
        exec(compile(start["source"], "<program>", "exec", dont_inherit=True), {"__name__": "__main__", "__builtins__": builtins})
        return
    channel = Channel(sock)
    finish = channel.run(_call(channel, start))
    try:
        channel.write(encode_frame({"finish": finish}))
    except FrameError as error:
        channel.write(encode_frame({"finish": {"error": f"FrameError: {error}"[:400], "kind": "crash"}}))
