"""Role J: runs trusted tests with a proxy for the candidate. The expected values never leave this process."""

import builtins
import random
import socket
from typing import Any

from sandbox.guest.codec import CodecError, Opaque, decode, encode, mirror, show
from sandbox.guest.frames import FrameError, receive, send


class CandidateGone(BaseException):
    """The candidate's process died, hung or broke the protocol: this test fails. Not an Exception: tests cannot swallow it."""


class Proxy:
    """Callable that tests use as the candidate; each call crosses to role S and back as plain values."""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._sock.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self.name = ""
        """Which of the candidate's names is called; empty: the entry point."""
        self.last = ""
        """Short text of the last call's result, for failure messages."""

    def move_to(self, sock: socket.socket) -> None:
        """Goes on with a fresh process of the candidate, with less patience than with the one before."""
        self._sock.close()
        self._sock = sock
        self._timeout_s /= 2
        self._sock.settimeout(self._timeout_s)

    def wait_loaded(self) -> None:
        """Raises CandidateGone with the reason where the candidate does not load."""
        reply = self._receive()
        if reply.get("loaded") is not True:
            raise CandidateGone(f"the solution does not load: {reply.get('raise')}: {str(reply.get('message'))[:200]}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        positional = list(args)
        try:
            frame = {"name": self.name, "args": encode(positional), "kwargs": encode(kwargs)}
        except CodecError as error:
            raise TypeError(f"this test passes a value that cannot cross to the candidate: {error}") from None
        try:
            send(self._sock, frame)
        except (OSError, FrameError) as error:
            raise CandidateGone(f"the solution's process is gone ({error})") from None
        reply = self._receive()
        if "raise" in reply:
            kind = getattr(builtins, str(reply["raise"]), Exception)
            if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, StopIteration | StopAsyncIteration):
                kind = RuntimeError  # a StopIteration would end a test's loop early, as if all had passed
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
        self.last = f"it returned {show(value)}"
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


class Maker:
    """A name that the tests use and only the candidate defines, such as a class: calling it makes objects, never plain values."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        self._proxy = proxy
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Opaque:
        self._proxy.name = self._name
        try:
            made = self._proxy(*args, **kwargs)
        finally:
            self._proxy.name = ""
        if type(made) is not Opaque:
            raise self._undefined()
        return made

    def __eq__(self, other: object) -> bool:
        raise self._undefined()

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise self._undefined()

    def _undefined(self) -> NameError:
        return NameError(f"name {self._name!r} is not defined by the tests")


def run(host: socket.socket, *candidates: socket.socket) -> None:
    """Runs the tests of the host's first frame in order; one frame a test, then the count.

    ``candidates`` are the ends towards the candidate's process and towards its replacements: where a test ends with the
    candidate gone, the next test asks the host for a fresh one, so that one hanging test does not fail the others.
    """
    start = receive(host)
    assert start is not None
    random.seed(0)
    proxy = Proxy(candidates[0], float(start["call_timeout_s"]))
    spares = list(candidates[1:])
    namespace: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins, "candidate": proxy, start["entry_point"]: proxy}
    try:
        exec(compile(start["setup"], "<setup>", "exec", dont_inherit=True), namespace)
    except Exception as error:
        send(host, {"broken": f"the setup of the tests fails: {type(error).__name__}: {error}"[:300]})
        return
    namespace.update({"candidate": proxy, start["entry_point"]: proxy})
    gone, loaded, stale = "", False, False
    for index, test in enumerate(start["tests"]):
        message = gone
        if not gone:
            try:
                if stale:
                    send(host, {"replace": len(candidates) - len(spares)})
                    proxy.move_to(spares.pop(0))
                if stale or not loaded:
                    proxy.wait_loaded()
                loaded, stale = True, False
                message = _failure(test, namespace, proxy)
            except CandidateGone as error:
                message = f"{test.strip()[:200]} failed: {error}" if loaded else str(error)
                stale = True
                gone = "" if loaded and spares else str(error)
        send(host, {"test": index, "passed": message == "", "message": message[:400]})
    send(host, {"done": len(start["tests"])})
    host.close()


def _failure(test: str, namespace: dict[str, Any], proxy: Proxy) -> str:
    """Empty where the test passed, else a sentence with the test and what happened."""
    proxy.last = ""
    try:
        code = compile(test, "<test>", "exec", dont_inherit=True)
        for name in code.co_names:
            if name not in namespace and not hasattr(builtins, name):
                namespace[name] = Maker(proxy, name)
        exec(code, namespace)
    except CandidateGone:
        raise
    except AssertionError as error:
        return f"{test.strip()[:200]} failed: {proxy.last or str(error)[:200]}"
    except BaseException as error:
        return f"{test.strip()[:200]} failed: {proxy.last or type(error).__name__ + ': ' + str(error)[:200]}"
    return ""
