"""Role U: a candidate and its unittest cases in one process, for tests that mock, patch and write files.

Here the candidate shares an interpreter with the tests, so a verdict is only as good as the host's negative controls.
"""

import ast
import builtins
import random
import socket
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox.guest.candidate import run_preamble
from sandbox.guest.frames import receive, send


class Framework(NamedTuple):
    """unittest as it was before the candidate."""

    case: type
    load: Callable[[Any], Any]
    result: Callable[[], Any]


def run(host: socket.socket) -> None:
    """Loads the candidate, then runs each test (a source with one test method) and sends a frame for it; last the count."""
    import unittest  # before the candidate can touch it, and here alone: no other role needs its pages

    framework = Framework(unittest.TestCase, unittest.TestLoader().loadTestsFromTestCase, unittest.TestResult)
    start = receive(host)
    assert start is not None
    module = types.ModuleType("__test__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__test__"] = module
    random.seed(0)
    run_preamble(start["preamble"], module.__dict__)
    try:
        exec(compile(start["source"], "__test__", "exec", dont_inherit=True), module.__dict__)
        exec(compile(start["setup"], "__test__", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        send(host, {"loaded": False, "message": f"the solution does not load: {_sentence(error)}"})
        return
    send(host, {"loaded": True})
    for index, test in enumerate(start["tests"]):
        message = _failure(test, module.__dict__, framework)
        send(host, {"test": index, "passed": message == "", "message": message[:400]})
    send(host, {"done": len(start["tests"])})


def _failure(test: str, namespace: dict[str, Any], framework: Framework) -> str:
    """Empty where exactly one test ran and passed."""
    try:
        exec(compile(test, "__test__", "exec", dont_inherit=True), namespace)
        names = [node.name for node in ast.parse(test).body if isinstance(node, ast.ClassDef)]
        result = framework.result()
        for name in names:
            if isinstance(namespace[name], type) and issubclass(namespace[name], framework.case):
                framework.load(namespace[name]).run(result)
    except BaseException as error:
        return _sentence(error)
    if result.wasSuccessful() and result.testsRun == 1 and not result.skipped:
        return ""
    texts = [text for _, text in (*result.failures, *result.errors)]
    return texts[0].strip().splitlines()[-1] if texts else f"{result.testsRun} tests ran, {len(result.skipped)} were skipped"


def _sentence(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__
