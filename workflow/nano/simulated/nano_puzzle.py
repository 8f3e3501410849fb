"""Nano problems as puzzles: wrong programs are misread compositions, bugs are found by reading the program back."""

import ast
import random
import re
from collections.abc import Hashable, Iterable
from functools import lru_cache

from workflow.nano.composition import (
    Composition,
    align,
    apply,
    behaviour,
    disagreement,
    random_input,
    read_program,
    replace_steps,
    single_changes,
    write_program,
)
from workflow.nano.simulated.puzzle import Bug
from workflow.nano.steps import VERBS, Step, weight

TELLING = 0.7
"""Share of inputs on which a mistake must show, where the problem has such mistakes."""

_ASSERT = re.compile(r"assert (?:f|candidate)\((\[[-\d, ]*\])\) == (\[[-\d, ]*\]|-?\d+)")


class NanoPuzzle:
    """Reads everything from the query's composition; needs no table of problems."""

    def __init__(self, query: str, steps: Composition) -> None:
        self.key = query
        self.steps = steps
        self.level = weight(steps)
        self.sites = len(steps)

    def describe(self, site: int) -> str:
        step = self.steps[site]
        return f"the solution does not do what was asked where it {VERBS[step.name].wordings[0].replace('{k}', str(step.k))}"

    def program(self, bugs: Iterable[Bug]) -> str:
        return write_program(self._steps(bugs))

    def _steps(self, bugs: Iterable[Bug]) -> Composition:
        return replace_steps(self.steps, {bug.site: bug.change if isinstance(bug.change, Step) else None for bug in bugs})

    def bugs(self, candidate: str) -> tuple[Bug, ...] | None:
        steps = read_program(candidate)
        if steps is None:
            return None
        if behaviour(steps) == behaviour(self.steps):
            return ()
        difference = align(self.steps, steps)
        return None if difference is None else tuple(Bug(site, change) for site, change in difference)

    def behaviour(self, candidate: str) -> Hashable:
        steps = read_program(candidate)
        return None if steps is None else behaviour(steps)

    def mistake(self, rng: random.Random, present: tuple[Bug, ...] = ()) -> tuple[Bug, ...]:
        taken = {bug.site for bug in present}
        ways = [way for way in single_changes(self.steps) if way[0] not in taken]
        if not ways:
            return present
        needed = min(TELLING, max(shows for _, _, shows in ways))
        telling = [way for way in ways if way[2] >= needed]
        for _ in range(4):  # two mistakes may undo each other: then another one
            site, change, _shows = rng.choice(telling)
            bugs = tuple(sorted((*present, Bug(site, change)), key=lambda bug: bug.site))
            if disagreement(self.steps, self._steps(bugs)) >= needed:
                return bugs
        return present

    def write_test(self, rng: random.Random, right: bool) -> str:
        xs = random_input(rng, 4, 5)
        steps = self.steps if right else self._steps(self.mistake(rng))
        result = apply(steps, xs)
        if not right and result == apply(self.steps, xs):  # a misread test must be false
            result = [*result, 0] if isinstance(result, list) else result + 1
        return f"assert f({xs}) == {result}"

    def accepts(self, tests: str) -> bool:
        return all(apply(self.steps, ast.literal_eval(xs)) == ast.literal_eval(want) for xs, want in _ASSERT.findall(tests))


@lru_cache(maxsize=20_000)
def nano_puzzle(query: str, steps: Composition) -> NanoPuzzle:
    """The puzzle of a query; one object a query, so that its caches pay."""
    return NanoPuzzle(query, steps)
