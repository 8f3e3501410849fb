"""Role J: runs trusted tests with a proxy for the candidate. The expected values never leave this process."""

import builtins
import os
import socket
from typing import Any

from sandbox.guest.codec import CodecError, decode, encode, mirror
from sandbox.guest.frames import FrameError, receive, send


class CandidateGone(BaseException):
    """The candidate's process died, hung or broke the protocol: every further call fails. Not an Exception: tests cannot swallow it."""


class Proxy:
    """Callable that tests use as the candidate; each call crosses to role S and back as plain values."""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._sock.settimeout(timeout_s)
        self.last = ""
        """Short text of the last call's result, for failure messages."""

    def wait_loaded(self) -> None:
        """Raises CandidateGone with the reason where the candidate does not load."""
        reply = self._receive()
        if reply.get("loaded") is not True:
            raise CandidateGone(f"the solution does not load: {reply.get('raise')}: {str(reply.get('message'))[:200]}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        positional = list(args)
        try:
            frame = {"args": encode(positional), "kwargs": encode(kwargs)}
        except CodecError as error:
            raise TypeError(f"this test passes a value that cannot cross to the candidate: {error}") from None
        try:
            send(self._sock, frame)
        except (OSError, FrameError) as error:
            raise CandidateGone(f"the solution's process is gone ({error})") from None
        reply = self._receive()
        if "raise" in reply:
            kind = getattr(builtins, str(reply["raise"]), Exception)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind = RuntimeError
            self.last = f"it raised {reply['raise']}: {str(reply.get('message'))[:200]}"
            try:
                error = kind(str(reply.get("message"))[:300])
            except Exception:
                error = RuntimeError(str(reply.get("message"))[:300])
            raise error
        try:
            value = decode(reply.get("value"))
            if reply.get("args") is not None:
                for mine, theirs in zip(positional, decode(reply["args"]), strict=False):
                    mirror(mine, theirs)
        except CodecError as error:
            raise CandidateGone(f"the solution's process broke the protocol ({error})") from None
        self.last = f"it returned {repr(value)[:200]}"
        return value

    def _receive(self) -> dict[str, Any]:
        try:
            reply = receive(self._sock)
        except TimeoutError:
            raise CandidateGone("the solution did not answer in time") from None
        except (OSError, FrameError) as error:
            raise CandidateGone(f"the solution's process broke off ({error})") from None
        if reply is None:
            raise CandidateGone("the solution's process ended")
        return reply


def run(host: socket.socket, candidate: socket.socket) -> None:
    """Runs the tests of the host's first frame in order; one frame a test, then the count, then a clean exit."""
    start = receive(host)
    assert start is not None
    proxy = Proxy(candidate, float(start["call_timeout_s"]))
    tests: list[str] = start["tests"]
    gone = ""
    namespace: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins, "candidate": proxy, start["entry_point"]: proxy}
    try:
        exec(compile(start["setup"], "<setup>", "exec", dont_inherit=True), namespace)
        namespace.update({"candidate": proxy, start["entry_point"]: proxy})
        proxy.wait_loaded()
    except CandidateGone as error:
        gone = str(error)
    for index, test in enumerate(tests):
        message = gone
        if not gone:
            try:
                message = _failure(test, namespace, proxy)
            except CandidateGone as error:
                gone = message = str(error)
        send(host, {"test": index, "passed": message == "", "message": message[:400]})
    send(host, {"done": len(tests)})
    host.close()
    os._exit(0)


def _failure(test: str, namespace: dict[str, Any], proxy: Proxy) -> str:
    """Empty where the test passed, else a sentence with the test and what happened."""
    proxy.last = ""
    try:
        exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)
    except CandidateGone:
        raise
    except AssertionError as error:
        return f"{test.strip()[:200]} failed: {proxy.last or str(error)[:200]}"
    except BaseException as error:
        return f"{test.strip()[:200]} failed: {proxy.last or type(error).__name__ + ': ' + str(error)[:200]}"
    return ""
