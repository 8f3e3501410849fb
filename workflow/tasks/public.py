"""Which of a problem's own tests are public (feedback; the paper's validation tests) and which are hidden (the reward).

What the query shows anyway is public; ``tasks.public`` says what is public beyond it. Whatever it says, at least one test stays hidden,
and where hidden tests would all expect the same truth value, one that expects another is hidden, too: else a constant would pass them.
"""

import ast
import builtins
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks.examples import Rename, asserted
from workflow.tasks.overlap import id_key
from workflow.verifiers import find_verifier
from workflow.verifiers.code import CONSTANTS

GUESSES = frozenset({*CONSTANTS, "None"})
"""Results of functions that know nothing."""
Tests = tuple[tuple[str, ...], tuple[str, ...]]
"""Public tests, hidden tests."""


def split_tests(problem: Problem, settings: TaskSettings) -> Problem:
    """The problem with its tests parted as ``tasks.public`` says. Answers that are no code stay as they are: a test tells the answer."""
    if settings.public == "examples" or not find_verifier(problem.verifier).is_code:
        return problem
    if settings.public == "aflow":
        public = (*problem.public_tests, *_aflows_tests(problem))
        public, hidden = without_shown(public, problem.hidden_tests, problem.entry_point)
    else:
        public, hidden = _publish_share(problem, settings.public_share, settings.seed)
    return hide_both_answers(replace(problem, public_tests=public, hidden_tests=hidden))


def without_shown(public: Sequence[str], tests: Sequence[str], entry_point: str) -> Tests:
    """Public tests without repeats, and the others of the tests; where all are shown, the last one is hidden and not shown."""
    named = {asserted(test, entry_point) or test: test for test in reversed(public)}
    hidden = [test for test in tests if (asserted(test, entry_point) or test) not in named]
    if not hidden:
        named.pop(asserted(tests[-1], entry_point) or tests[-1])
        hidden = [tests[-1]]
    return tuple(reversed(named.values())), tuple(hidden)


@cache
def _read_aflows() -> dict[str, list[str]]:
    """Key of an id -> public tests of HumanEval as AFlow has them (MIT, LINs-lab/MASArena), without those that the reference fails."""
    raw = json.loads((Path(__file__).parent / "aflow_public.json").read_text())
    return {f"{name}/{number}": tests for name, rows in raw.items() for number, tests in rows.items()}


def _aflows_tests(problem: Problem) -> tuple[str, ...]:
    return tuple(_call_by_name(test, problem) for test in _read_aflows().get(id_key(problem.id), ()))


def _publish_share(problem: Problem, share: float, seed: int) -> Tests:
    """Moves tests drawn by seed and id until the share is public, at least one; those that lean on others stay hidden."""
    public, hidden = problem.public_tests, problem.hidden_tests
    free = [test for test in hidden if problem.verifier != "function" or _stands_alone(test, problem)]
    wanted = max(1, round(share * len(problem.tests))) - len(public)
    count = max(0, min(wanted, len(hidden) - 1, len(free)))
    drawn = set(random.Random(f"{seed}/{problem.id}").sample(free, count))
    moved = (_call_by_name(test, problem) for test in hidden if test in drawn)
    return (*public, *moved), tuple(test for test in hidden if test not in drawn)


def _stands_alone(test: str, problem: Problem) -> bool:
    """True for an assert that needs nothing of other tests and leaves nothing for them."""
    if not asserted(test, problem.entry_point):
        return False
    nodes = [node for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)]
    if any(isinstance(node, ast.NamedExpr) for node in ast.walk(ast.parse(test))):
        return False
    bound = {node.id for node in nodes if not isinstance(node.ctx, ast.Load)} | {
        node.arg for node in ast.walk(ast.parse(test)) if isinstance(node, ast.arg)
    }
    known = bound | vars(builtins).keys() | {"candidate", problem.entry_point} | _names_of(problem.test_setup)
    return all(node.id in known for node in nodes)


@cache
def _names_of(setup: str) -> frozenset[str]:
    """Names that a set-up binds for its tests."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(setup)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


def _call_by_name(test: str, problem: Problem) -> str:
    """A hidden test as workflows read it, where it calls the function with the function under its own name."""
    if problem.verifier != "function" or "candidate" not in test:
        return test
    return ast.unparse(Rename("candidate", problem.entry_point).visit(ast.parse(test)))


def hide_both_answers(problem: Problem) -> Problem:
    """Where all hidden tests expect one value that is easily guessed, and a public one another: hides that one, and shows one of them
    where no other is public."""
    if problem.verifier != "function":
        return problem
    values = {_expected(test) for test in problem.hidden_tests}
    others = [test for test in problem.public_tests if _expected(test) not in {*values, ""}]
    if len(values) != 1 or not values <= GUESSES or not others:
        return problem
    public = tuple(test for test in problem.public_tests if test != others[-1])
    hidden = (*problem.hidden_tests, others[-1])
    shown = next((test for test in problem.hidden_tests if _stands_alone(test, problem)), None)
    if not public and len(hidden) > 2 and shown is not None:
        public = (_call_by_name(shown, problem),)
        hidden = tuple(test for test in hidden if test != shown)
    return replace(problem, public_tests=public, hidden_tests=hidden)


def _expected(test: str) -> str:
    """The constant that an assert expects; empty where it expects none or does more."""
    body = ast.parse(test).body
    match body[0].test if len(body) == 1 and isinstance(body[0], ast.Assert) else None:
        case ast.Compare(left=ast.Call(), ops=[ast.Eq() | ast.Is()], comparators=[value]):
            return ast.unparse(value) if not any(isinstance(node, ast.Name) for node in ast.walk(value)) else ""
        case ast.Call():
            return "True"
        case ast.UnaryOp(op=ast.Not(), operand=ast.Call()):
            return "False"
    return ""
