"""Problems with a reference solution (HumanEval, any JSONL) as puzzles: wrong programs are mutants of the reference.

Which bugs a candidate has is known from its text: the emitted programs are remembered, and single and double mutants
are recomputed where they are not. A mutant may by chance behave like the reference; nothing is executed here to find out.
"""

import ast
import random
from collections.abc import Hashable, Iterable
from functools import lru_cache
from itertools import combinations, islice

from workflow.nano.simulated.puzzle import Bug
from workflow.problem import Problem
from workflow.tasks.mutants import find_sites, mutate, without_docstrings

LEVEL_SIZES = (26, 37, 50, 65, 92)
"""AST nodes of the reference from which a problem without a level counts as level 2, 3, 4, 5, 6: the sextiles of HumanEval."""

_MAX_PAIRS = 600
_MAX_TEXT = 20_000
WEAK_TEST = "assert str({name}) != ''"
FALSE_TEST = "assert str({name}) == ''"


class ReferencePuzzle:
    """One problem with a reference; raises ValueError where the reference is no Python function."""

    def __init__(self, problem: Problem) -> None:
        assert problem.reference is not None
        self.key = problem.query
        self.entry_point = problem.entry_point
        try:
            self._tree = without_docstrings(ast.parse(problem.reference))
        except SyntaxError as error:
            raise ValueError(f"The reference of problem {problem.id!r} is not Python ({error}): correct it in the file.") from None
        self._sites = find_sites(self._tree)
        if not self._sites:
            raise ValueError(f"The reference of problem {problem.id!r} has no function that returns something: correct it in the file.")
        self.sites = len(self._sites)
        size = sum(1 for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef) for part in node.body for _ in ast.walk(part))
        self.level = problem.level or 1 + sum(size >= bound for bound in LEVEL_SIZES)
        self._known: dict[str, tuple[Bug, ...]] = {}
        self._programs: dict[tuple[Bug, ...], str] = {}
        self._recomputed = False
        self.program(())

    def describe(self, site: int) -> str:
        place = self._sites[site]
        return f"the {place.kind} in line {place.line} of the intended solution is not right"

    def program(self, bugs: Iterable[Bug]) -> str:
        bugs = tuple(sorted(bugs, key=lambda bug: bug.site))
        if bugs not in self._programs:
            text = ast.unparse(mutate(self._tree, tuple(self._sites[bug.site] for bug in bugs)))
            self._known.setdefault(text.strip(), bugs)
            self._programs[bugs] = text + "\n"
        return self._programs[bugs]

    def bugs(self, candidate: str) -> tuple[Bug, ...] | None:
        text = _normal(candidate)
        if text is not None and text not in self._known and not self._recomputed:
            self._recompute()
        return None if text is None else self._known.get(text)

    def _recompute(self) -> None:
        self._recomputed = True
        for site in range(self.sites):
            self.program((Bug(site, None),))
        for first, second in islice(combinations(range(self.sites), 2), _MAX_PAIRS):
            if self._sites[first].node != self._sites[second].node:
                self.program((Bug(first, None), Bug(second, None)))

    def behaviour(self, candidate: str) -> Hashable:
        return _normal(candidate)

    def mistake(self, rng: random.Random, present: tuple[Bug, ...] = ()) -> tuple[Bug, ...]:
        taken = {self._sites[bug.site].node for bug in present}
        free = [site for site in range(self.sites) if self._sites[site].node not in taken]
        return tuple(sorted((*present, Bug(rng.choice(free), None)), key=lambda bug: bug.site)) if free else present

    def write_test(self, rng: random.Random, right: bool) -> str:
        """No value is computed here, so a right test is a weak one that every loading program passes."""
        return (WEAK_TEST if right else FALSE_TEST).format(name=self.entry_point)

    def accepts(self, tests: str) -> bool:
        return FALSE_TEST.format(name=self.entry_point) not in tests


@lru_cache(maxsize=20_000)
def _normal(candidate: str) -> str | None:
    """The program text without layout, comments and docstrings; None where it is no Python."""
    if len(candidate) > _MAX_TEXT:
        return None
    try:
        return ast.unparse(without_docstrings(ast.parse(candidate))).strip()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
