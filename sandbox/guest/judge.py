"""Role J: runs trusted tests with a proxy for the candidate. The expected values never leave this process."""

import builtins
import math
import random
import resource
import socket
import time
from functools import lru_cache
from types import CodeType
from typing import Any

from sandbox.guest.codec import CodecError, Opaque, decode, encode, mirror, show
from sandbox.guest.frames import FrameError, receive, receive_with_socket, send
from sandbox.guest.lasting import leaves_nothing

MAX_ANSWERS = 200
"""Answers that one process judges before a fresh one takes its place."""
MAX_GROWTH_KIB = 64 * 1024
"""Growth of a judge's memory after which a fresh one takes its place."""
MAX_COMPILED = 512
"""Tests whose code a process keeps: solutions of one problem come in groups."""


class CandidateGone(BaseException):
    """The candidate's process died, hung or broke the protocol: this test fails. Not an Exception: tests cannot swallow it."""


class CandidateLate(CandidateGone):
    """It did not answer in time, which may be the machine's doing."""


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

    def close(self) -> None:
        """Lets go of the candidate."""
        self._sock.close()

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
            raise CandidateLate("the solution did not answer in time") from None
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
            raise self._find_undefined()
        return made

    def __eq__(self, other: object) -> bool:
        raise self._find_undefined()

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise self._find_undefined()

    def _find_undefined(self) -> NameError:
        return NameError(f"name {self._name!r} is not defined by the tests")


def run(host: socket.socket) -> None:
    """Judges one answer: for tests that are not ours."""
    received = receive_with_socket(host)
    assert received is not None
    _judge(host, *received)
    send(host, {"done": len(received[0]["tests"]), "stays": False})


def stand(host: socket.socket) -> None:
    """Judges one answer after another until the host closes, or until tests may have left something behind.

    For our own tests alone: the process remembers what earlier ones expected.
    """
    hard_s = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + MAX_GROWTH_KIB
    builtin = dict(vars(builtins))
    for left in reversed(range(MAX_ANSWERS)):
        received = receive_with_socket(host)
        if received is None:
            return
        cpu_s = int(received[0]["cpu_s"])
        soft_s = math.ceil(time.process_time()) + cpu_s
        limited = hard_s != resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_CPU, (min(soft_s, hard_s) if limited else soft_s, hard_s))
        clean = _judge(host, *received)
        unchanged = vars(builtins) == builtin and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= most_kib
        stays = clean and unchanged and left > 0 and not (limited and time.process_time() + cpu_s + 1 > hard_s)
        send(host, {"done": len(received[0]["tests"]), "stays": stays})
        if not stays:
            return


def _judge(host: socket.socket, start: dict[str, Any], candidate: socket.socket) -> bool:
    """Runs the tests in order; one frame a test. True where they leave nothing behind in this process.

    Where a test ends with the candidate gone, the next one asks the host for a fresh process of the candidate, so that one
    hanging test does not fail the others.
    """
    random.seed(0)
    proxy = Proxy(candidate, float(start["call_timeout_s"]))
    try:
        trial = Trial(proxy, start["entry_point"], start["setup"])
    except Exception as error:
        send(host, {"broken": f"the setup of the tests fails: {type(error).__name__}: {error}"[:300]})
        raise
    gone, loaded, stale, late, replaced = "", False, False, False, 0
    for index, test in enumerate(start["tests"]):
        message = gone
        if not gone:
            try:
                if stale:
                    replaced += 1
                    send(host, {"replace": replaced})
                    proxy.move_to(_replacement(host))
                if stale or not loaded:
                    proxy.wait_loaded()
                loaded, stale = True, False
                message = trial.failure(test)
            except CandidateGone as error:
                message = f"{test.strip()[:200]} failed: {error}" if loaded else str(error)
                stale = True
                late = late or isinstance(error, CandidateLate)
                gone = "" if loaded and replaced < start["spares"] else str(error)
        send(host, {"test": index, "passed": message == "", "message": message[:400], "late": late})
    trial.close()
    return trial.clean


def _replacement(host: socket.socket) -> socket.socket:
    received = receive_with_socket(host)
    assert received is not None
    return received[1]


@lru_cache(maxsize=MAX_COMPILED)
def _compile(source: str, name: str) -> tuple[CodeType, bool]:
    """The code, and whether it leaves nothing behind."""
    code = compile(source, name, "exec", dont_inherit=True)
    return code, leaves_nothing(code)


class Trial:
    """The tests of one answer: the names that they share, and whether they leave nothing behind in this process."""

    def __init__(self, proxy: Proxy, entry_point: str, setup: str) -> None:
        """Raises what the setup raises."""
        own = {"candidate": proxy, entry_point: proxy}
        self._proxy = proxy
        self._names: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins, **own}
        code, self.clean = _compile(setup, "<setup>")
        exec(code, self._names)
        self._names.update(own)

    def failure(self, test: str) -> str:
        """Empty where the test passed, else a sentence with the test and what happened. Raises CandidateGone."""
        self._proxy.last = ""
        try:
            code, clean = _compile(test, "<test>")
            self.clean = self.clean and clean
            for name in code.co_names:
                if name not in self._names and not hasattr(builtins, name):
                    self._names[name] = Maker(self._proxy, name)
            exec(code, self._names)
        except CandidateGone:
            raise
        except AssertionError as error:
            return f"{test.strip()[:200]} failed: {self._proxy.last or str(error)[:200]}"
        except BaseException as error:
            self.clean = self.clean and not isinstance(error, MemoryError)
            return f"{test.strip()[:200]} failed: {self._proxy.last or type(error).__name__ + ': ' + str(error)[:200]}"
        return ""

    def close(self) -> None:
        """Lets go of the candidate and of all that the tests made."""
        self._proxy.close()
        self._names.clear()
