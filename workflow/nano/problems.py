"""The nano problems: "Write f(xs) that drops the odd numbers, then computes the prefix sums, and finally returns the sum."

A problem is a composition of steps (``workflow.nano.steps``) in one of several wordings, with nine inputs: one public
and eight hidden. Level = total weight, 1 to 6. Half of the problems show the public example in the text and have it
as a public test; the others have neither. Problem ``index`` of a split depends on (seed, split, index) alone, so a
split is unlimited, and each block of twelve holds every (level, with or without example) once.

Splits are disjoint by construction: a composition, parameters included, belongs to one split, chosen by its hash and
whatever the seed. Within a split a composition may come back in other words and with other inputs; at level 1, which
has about a hundred compositions, it does.
"""

import hashlib
import random
import re
from typing import Literal

from workflow.nano.composition import Composition, apply, behaviour, random_input, replace_steps, single_changes, write_program
from workflow.nano.steps import VERBS, Step, weight
from workflow.problem import Problem

Split = Literal["train", "validation", "test"]

LEVELS = range(1, 7)
HIDDEN_TESTS = 8
MAX_STEPS = 5

_OPENERS = ("Write f(xs) that", "Implement f(xs) that", "Define f(xs) that")
_CONNECTORS = ("then", "next", "after that")
_LAST = ("and finally", "and at the end")
_SPLIT_POINTS = re.compile(rf", (?:{'|'.join((*_LAST, *_CONNECTORS))}) ")
_QUERY = re.compile(rf"(?:{'|'.join(map(re.escape, _OPENERS))}) (.*?)\.(?= Example:|\s|$)")


def _random_for(*key: object) -> random.Random:
    return random.Random(hashlib.blake2b(repr(key).encode(), digest_size=8).digest())


def split_of(steps: Composition) -> Split:
    """The one split that a composition may appear in: 60 % train, 20 % validation, 20 % test."""
    canonical = " ".join(f"{step.name}({step.k})" for step in steps)
    share = int.from_bytes(hashlib.blake2b(canonical.encode(), digest_size=4).digest(), "big") / 2**32
    return "train" if share < 0.6 else "validation" if share < 0.8 else "test"


_NAMES = {kind: tuple(name for name, verb in VERBS.items() if verb.kind == kind) for kind in ("easy", "hard", "reducer")}


def _draw(rng: random.Random, level: int) -> Composition:
    """Some composition of the level; steps do not repeat."""
    reducers = rng.random() < (0.1 if level == 1 else 0.5)
    rest = level - reducers
    hard_counts = [hard for hard in range(rest // 2 + 1) if rest - hard + reducers <= MAX_STEPS]
    hard = rng.choice(hard_counts)
    names = rng.sample(_NAMES["hard"], hard) + rng.sample(_NAMES["easy"], rest - 2 * hard)
    rng.shuffle(names)
    names += rng.sample(_NAMES["reducer"], int(reducers))
    return tuple(Step(name, rng.choice(VERBS[name].parameters)) for name in names)


def _is_sound(steps: Composition) -> bool:
    """False for degenerate compositions: a step that changes little, or results that are mostly equal."""
    outputs = behaviour(steps)
    if len(set(outputs)) < len(outputs) * 0.6 or sum(output == () for output in outputs) > 2:
        return False
    for index in range(len(steps)):
        without = behaviour(replace_steps(steps, {index: None}))
        if sum(a != b for a, b in zip(outputs, without, strict=True)) < len(outputs) * 0.7:
            return False
    return True


def draw_composition(rng: random.Random, level: int, split: Split) -> Composition:
    """A sound composition of a level that belongs to a split."""
    while True:
        steps = _draw(rng, level)
        if split_of(steps) == split and _is_sound(steps):
            return steps


def _inputs(rng: random.Random, steps: Composition) -> list[list[int]]:
    """Nine different inputs, the first short; the others tell the program from all its single misreadings that show."""
    inputs = [_example(rng, steps)]
    wrong = [replace_steps(steps, {index: change}) for index, change, _ in single_changes(steps)]
    for attempt in range(400):
        xs = random_input(rng)
        right = apply(steps, xs)
        survivors = [other for other in wrong if apply(other, xs) == right]
        room = HIDDEN_TESTS + 1 - len(inputs)
        telling = len(survivors) < len(wrong) if room <= 2 and wrong else len(survivors) <= len(wrong) / 2
        if xs not in inputs and (telling or attempt > 200):
            inputs.append(xs)
            wrong = survivors
        if len(inputs) == HIDDEN_TESTS + 1:
            break
    return inputs


def _example(rng: random.Random, steps: Composition) -> list[int]:
    """A short input with a short result, for the text; it too shows most misreadings."""
    wrong = [replace_steps(steps, {index: change}) for index, change, _ in single_changes(steps)]
    best: list[int] = []
    best_rating = 10_000
    for _ in range(12):
        xs = random_input(rng, 4, 5)
        right = apply(steps, xs)
        rating = len(str(right)) + 5 * sum(apply(other, xs) == right for other in wrong)
        if rating < best_rating:
            best, best_rating = xs, rating
    return best


def _words(rng: random.Random, steps: Composition) -> str:
    phrases = [rng.choice(VERBS[step.name].wordings).replace("{k}", str(step.k)) for step in steps]
    text = f"{rng.choice(_OPENERS)} {phrases[0]}"
    for position, phrase in enumerate(phrases[1:], start=2):
        joint = rng.choice(_LAST if position == len(phrases) else _CONNECTORS)
        text += f", {joint} {phrase}"
    return text + "."


def _steps_of_phrases() -> dict[str, Step]:
    return {
        wording.replace("{k}", str(k)): Step(name, k) for name, verb in VERBS.items() for k in verb.parameters for wording in verb.wordings
    }


_STEP_OF_PHRASE = _steps_of_phrases()


def find_query(text: str) -> tuple[str, Composition] | None:
    """The first nano query inside a text (without its example) and the composition it asks for; None where there is none."""
    for found in _QUERY.finditer(text):
        steps = [_STEP_OF_PHRASE.get(phrase) for phrase in _SPLIT_POINTS.split(found.group(1))]
        known = tuple(step for step in steps if step is not None)
        if len(known) == len(steps):
            return found.group(0), known
    return None


def nano_problem(seed: int, split: Split, index: int) -> Problem:
    """Problem ``index`` (from 0, no upper end) of a split."""
    cells = [(level, example) for level in LEVELS for example in (True, False)]
    _random_for(seed, split, "block", index // len(cells)).shuffle(cells)
    level, example = cells[index % len(cells)]
    rng = _random_for(seed, split, index)
    steps = draw_composition(rng, level, split)
    query = _words(rng, steps)
    tests = [f"assert f({xs}) == {apply(steps, xs)}" for xs in _inputs(rng, steps)]
    if example:
        query += f" Example: {tests[0].removeprefix('assert ')}."
    return Problem(
        id=f"nano/{split}/{index}",
        query=query,
        entry_point="f",
        public_tests=(tests[0],) if example else (),
        hidden_tests=tuple(tests[1:]),
        reference=write_program(steps),
        level=weight(steps),
        source="nano",
    )
