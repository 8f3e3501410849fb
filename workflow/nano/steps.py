"""The vocabulary of the nano problems: steps on a list of integers, each with wordings and one expression in Python.

Wordings and expressions are closed sets, so that a query can be read back into steps, and a program back into the
steps that it performs, without executing it. ``misreadings`` says how a step is typically got wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

Value = list[int] | int


class Step(NamedTuple):
    """One step with its parameter, for example ``Step("take", 3)``."""

    name: str
    k: int = 0
    """0 for steps without a parameter."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What all steps of one name share. In texts ``{k}`` stands for the parameter."""

    kind: Literal["easy", "hard", "reducer", "variant"]
    """Easy steps and reducers weigh 1, hard steps 2; a ``variant`` is never asked for, only written by mistake."""
    expression: str
    """Python over ``xs``, the numbers so far: a list, or an integer for reducers."""
    wordings: tuple[str, ...] = ()
    """Ways to ask for it."""
    misreadings: tuple[tuple[str, int], ...] = ()
    """Wrong steps written in its place: (name, change of the parameter)."""
    parameters: tuple[int, ...] = (0,)
    """Values of ``k`` that problems use."""
    reduces: bool = False
    """True where the result is an integer, which ends the program."""


def _easy(expression: str, wordings: tuple[str, ...], *misreadings: tuple[str, int], ks: tuple[int, ...] = (0,)) -> Verb:
    return Verb("easy", expression, wordings, misreadings, ks)


def _hard(expression: str, wordings: tuple[str, ...], *misreadings: tuple[str, int], ks: tuple[int, ...] = (0,)) -> Verb:
    return Verb("hard", expression, wordings, misreadings, ks)


def _reducer(expression: str, wordings: tuple[str, ...], *misreadings: tuple[str, int]) -> Verb:
    return Verb("reducer", expression, wordings, misreadings, reduces=True)


VERBS: dict[str, Verb] = {
    "even": _easy("[x for x in xs if x % 2 == 0]", ("drops the odd numbers", "keeps the even numbers"), ("odd", 0), ("even_places", 0)),
    "odd": _easy("[x for x in xs if x % 2 == 1]", ("drops the even numbers", "keeps the odd numbers"), ("even", 0), ("odd_places", 0)),
    "above": _easy(
        "[x for x in xs if x > {k}]",
        ("keeps the numbers above {k}", "drops what is not above {k}"),
        ("below", 0),
        ("at_least", 0),
        ("capped_below", 0),
        ks=tuple(range(0, 8)),
    ),
    "below": _easy(
        "[x for x in xs if x < {k}]",
        ("keeps the numbers below {k}", "drops what is not below {k}"),
        ("above", 0),
        ("at_most", 0),
        ("capped_above", 0),
        ks=tuple(range(2, 10)),
    ),
    "add": _easy(
        "[x + {k} for x in xs]",
        ("adds {k} to each number", "raises each number by {k}"),
        ("add", 1),
        ("multiply", 0),
        ks=tuple(range(1, 21)),
    ),
    "multiply": _easy(
        "[x * {k} for x in xs]",
        ("multiplies each number by {k}", "takes {k} times each number"),
        ("add", 0),
        ("multiply", 1),
        ks=tuple(range(2, 13)),
    ),
    "square": _easy("[x * x for x in xs]", ("squares each number", "multiplies each number by itself"), ("multiply", 2), ("cube", 0)),
    "negate": _easy("[-x for x in xs]", ("negates each number", "flips the sign of each number"), ("absolute", 0), ("reverse", 0)),
    "reverse": _easy("xs[::-1]", ("reverses the list", "puts the list back to front"), ("sort_down", 0), ("negate", 0)),
    "sort": _easy("sorted(xs)", ("sorts the list", "puts the numbers in rising order"), ("sort_down", 0), ("reverse", 0)),
    "take": _easy(
        "xs[:{k}]",
        ("keeps the first {k} numbers", "cuts the list after {k} numbers"),
        ("take", 1),
        ("take_last", 0),
        ("skip", 0),
        ks=(2, 3, 4),
    ),
    "skip": _easy(
        "xs[{k}:]", ("skips the first {k} numbers", "drops {k} numbers at the front"), ("skip", 1), ("skip_last", 0), ("take", 0), ks=(2, 3)
    ),
    "running_sum": _hard(
        "[sum(xs[: i + 1]) for i in range(len(xs))]",
        ("computes the prefix sums", "takes the running sum"),
        ("sum_before", 0),
        ("suffix_sum", 0),
        ("running_max", 0),
    ),
    "running_max": _hard(
        "[max(xs[: i + 1]) for i in range(len(xs))]",
        ("takes the running maximum", "replaces each number by the largest so far"),
        ("running_min", 0),
        ("suffix_max", 0),
        ("running_sum", 0),
    ),
    "differences": _hard(
        "[b - a for a, b in zip(xs, xs[1:])]",
        ("takes the differences of neighbours", "replaces the list by its neighbour differences"),
        ("differences_back", 0),
        ("differences_first", 0),
        ("gaps", 0),
    ),
    "dedup": _hard(
        "list(dict.fromkeys(xs))",
        ("drops repeated numbers", "keeps the first of equal numbers"),
        ("drop_repeated", 0),
        ("dedup_last", 0),
        ("sorted_set", 0),
    ),
    "rotate": _hard(
        "[xs[(i + {k}) % len(xs)] for i in range(len(xs))]",
        ("rotates the list left by {k}", "moves {k} of the numbers from front to end"),
        ("rotate", 1),
        ("rotate_right", 0),
        ("skip", 0),
        ks=(1, 2, 3),
    ),
    "rank": _hard(
        "[sum(y < x for y in xs) for x in xs]",
        ("replaces each number by its rank from 0", "counts the smaller numbers for each number"),
        ("rank_from_1", 0),
        ("rank_down", 0),
        ("sort", 0),
    ),
    "swap_pairs": _hard(
        "[y for i in range(0, len(xs), 2) for y in reversed(xs[i : i + 2])]",
        ("swaps the numbers in each pair", "exchanges neighbours two by two"),
        ("reverse", 0),
        ("swap_inner", 0),
        ("rotate", 1),
    ),
    "sum": _reducer("sum(xs)", ("returns the sum", "returns the total"), ("count", 0), ("largest", 0)),
    "largest": _reducer("max(xs, default=0)", ("returns the largest number", "returns the maximum"), ("smallest", 0), ("last", 0)),
    "smallest": _reducer("min(xs, default=0)", ("returns the smallest number", "returns the minimum"), ("largest", 0), ("first", 0)),
    "count": _reducer("len(xs)", ("returns how many there are", "returns the length"), ("sum", 0), ("largest", 0)),
    "spread": _reducer(
        "max(xs, default=0) - min(xs, default=0)", ("returns largest minus smallest", "returns the spread"), ("largest", 0), ("ends", 0)
    ),
    "even_places": Verb("variant", "xs[::2]"),
    "odd_places": Verb("variant", "xs[1::2]"),
    "at_least": Verb("variant", "[x for x in xs if x >= {k}]"),
    "at_most": Verb("variant", "[x for x in xs if x <= {k}]"),
    "capped_below": Verb("variant", "[max(x, {k}) for x in xs]"),
    "capped_above": Verb("variant", "[min(x, {k}) for x in xs]"),
    "cube": Verb("variant", "[x * x * x for x in xs]"),
    "absolute": Verb("variant", "[abs(x) for x in xs]"),
    "sort_down": Verb("variant", "sorted(xs, reverse=True)"),
    "take_last": Verb("variant", "xs[-{k}:]"),
    "skip_last": Verb("variant", "xs[:-{k}]"),
    "sum_before": Verb("variant", "[sum(xs[:i]) for i in range(len(xs))]"),
    "suffix_sum": Verb("variant", "[sum(xs[i:]) for i in range(len(xs))]"),
    "running_min": Verb("variant", "[min(xs[: i + 1]) for i in range(len(xs))]"),
    "suffix_max": Verb("variant", "[max(xs[i:]) for i in range(len(xs))]"),
    "differences_back": Verb("variant", "[a - b for a, b in zip(xs, xs[1:])]"),
    "differences_first": Verb("variant", "xs[:1] + [b - a for a, b in zip(xs, xs[1:])]"),
    "gaps": Verb("variant", "[abs(b - a) for a, b in zip(xs, xs[1:])]"),
    "drop_repeated": Verb("variant", "[x for x in xs if xs.count(x) == 1]"),
    "dedup_last": Verb("variant", "list(dict.fromkeys(xs[::-1]))[::-1]"),
    "sorted_set": Verb("variant", "sorted(set(xs))"),
    "rotate_right": Verb("variant", "[xs[(i - {k}) % len(xs)] for i in range(len(xs))]"),
    "rank_from_1": Verb("variant", "[sum(y <= x for y in xs) for x in xs]"),
    "rank_down": Verb("variant", "[sum(y > x for y in xs) for x in xs]"),
    "swap_inner": Verb("variant", "xs[:1] + [y for i in range(1, len(xs), 2) for y in reversed(xs[i : i + 2])]"),
    "first": Verb("variant", "sum(xs[:1])", reduces=True),
    "last": Verb("variant", "sum(xs[-1:])", reduces=True),
    "ends": Verb("variant", "sum(xs[-1:]) - sum(xs[:1])", reduces=True),
}

WEIGHTS = {"easy": 1, "hard": 2, "reducer": 1}


@cache
def expression(step: Step) -> str:
    """The step in Python."""
    return VERBS[step.name].expression.replace("{k}", str(step.k))


@cache
def meaning(step: Step) -> Callable[[list[int]], Value]:
    """The step as a function: its expression compiled. Expressions are this module's constants, never foreign text."""
    return eval(f"lambda xs: {expression(step)}")


@cache
def misreadings(step: Step) -> tuple[Step, ...]:
    """The wrong steps that are typically written in its place."""
    return tuple(Step(name, step.k + change) for name, change in VERBS[step.name].misreadings)


def weight(steps: tuple[Step, ...]) -> int:
    """The level of a composition: easy steps and the reducer count 1, hard steps 2."""
    return sum(WEIGHTS[VERBS[step.name].kind] for step in steps)
