"""Nano programs as data: a composition is a tuple of steps; here it is run, written as Python, read back, and misread.

Candidates of unknown origin are only ever read (``read_program``), never executed.
"""

import random
import re
from functools import cache, lru_cache

from workflow.nano.steps import VERBS, Step, Value, expression, meaning, misreadings

Composition = tuple[Step, ...]
Outputs = tuple[Value | tuple[int, ...], ...]

HEADER = "def f(xs):"


def apply(steps: Composition, xs: list[int]) -> Value:
    """The composition's result on one input."""
    value: Value = xs
    for step in steps:
        value = meaning(step)(value)  # type: ignore[arg-type]  # only the last step returns an integer
    return value


def random_input(rng: random.Random, low: int = 5, high: int = 8) -> list[int]:
    """``low`` to ``high`` integers from -9 to 14, about a third of them repeated."""
    xs = [rng.randint(-9, 14) for _ in range(rng.randint(low, high))]
    return [rng.choice(xs) if rng.random() < 0.2 else x for x in xs]


def _battery() -> tuple[list[int], ...]:
    rng = random.Random(20)
    return tuple(random_input(rng) for _ in range(16))


BATTERY = _battery()
"""Sixteen fixed inputs, drawn like the tests': two programs that agree on all of them count as the same behaviour."""


@lru_cache(maxsize=50_000)
def behaviour(steps: Composition) -> Outputs:
    """Outputs on the battery; equal for programs that do the same."""
    results = (apply(steps, xs) for xs in BATTERY)
    return tuple(tuple(value) if isinstance(value, list) else value for value in results)


def disagreement(steps: Composition, other: Composition) -> float:
    """Share of the battery on which two programs differ."""
    pairs = zip(behaviour(steps), behaviour(other), strict=True)
    return sum(a != b for a, b in pairs) / len(BATTERY)


@cache
def line(step: Step) -> str:
    """The statement that performs a step."""
    return ("return " if VERBS[step.name].reduces else "xs = ") + expression(step)


def write_program(steps: Composition) -> str:
    """The composition as a Python function ``f``, one line a step."""
    lines = [line(step) for step in steps]
    if not steps or not VERBS[steps[-1].name].reduces:
        lines.append("return xs")
    return "\n".join([HEADER, *(f"    {text}" for text in lines)]) + "\n"


def _all_lines() -> dict[str, Step]:
    return {
        line(step): step
        for name, verb in VERBS.items()
        for k in ((0,) if "{k}" not in verb.expression else range(24))
        for step in [Step(name, k)]
    }


_STEP_OF_LINE = _all_lines()
_FUNCTION = re.compile(r"^def f\(xs\):\n((?:    .*\n?)+)", re.MULTILINE)


@lru_cache(maxsize=50_000)
def read_program(text: str) -> Composition | None:
    """The steps of the last function ``f`` in a text; None where any of its lines is not one of ours."""
    bodies = _FUNCTION.findall(text)
    if not bodies:
        return None
    lines = [text.strip() for text in bodies[-1].splitlines() if text.strip()]
    if lines[-1] == "return xs":
        lines.pop()
    steps = tuple(_STEP_OF_LINE[text] for text in lines if text in _STEP_OF_LINE)
    ends_early = any(VERBS[step.name].reduces for step in steps[:-1])
    return None if len(steps) < len(lines) or ends_early else steps


Change = Step | None
"""What stands in the place of a step: another step, or nothing."""


def replace_steps(steps: Composition, changes: dict[int, Change]) -> Composition:
    """The composition with some positions replaced or dropped."""
    kept = (changes.get(index, step) for index, step in enumerate(steps))
    return tuple(step for step in kept if step is not None)


@lru_cache(maxsize=20_000)
def single_changes(steps: Composition) -> tuple[tuple[int, Change, float], ...]:
    """Every way to get one step wrong that shows: (position, what is written, disagreement with the right program)."""
    ways = [(index, wrong) for index, step in enumerate(steps) for wrong in (*misreadings(step), None)]
    rated = [(index, wrong, disagreement(steps, replace_steps(steps, {index: wrong}))) for index, wrong in ways]
    return tuple(way for way in rated if way[2] > 0)


@lru_cache(maxsize=50_000)
def align(steps: Composition, other: Composition) -> tuple[tuple[int, Change], ...] | None:
    """The fewest replaced or dropped positions that make ``other`` of ``steps``; None where it is the longer one."""
    if len(other) > len(steps):
        return None
    if not steps:
        return ()
    ways: list[tuple[tuple[int, Change], ...]] = []
    index = len(steps) - 1
    if other and (rest := align(steps[:-1], other[:-1])) is not None:
        ways.append(rest if other[-1] == steps[-1] else (*rest, (index, other[-1])))
    if (rest := align(steps[:-1], other)) is not None:
        ways.append((*rest, (index, None)))
    return min(ways, key=len, default=None)
