"""The audit of a task set: does the judge accept what is right and refuse what is not, row by row?

A row is sound where its reference passes all its tests, and the answers that its verifier calls controls fail, since they know
nothing. Rows that are not sound train cheaters; they are listed with the reason and left out. Mutants of the reference say how much
the hidden tests see. Some sets publish no reference: their tests are taken as they are, and the table says of how many rows.
"""

import ast
import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sandbox.records import Verdict
from sandbox.sandbox import Sandbox
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.tasks.mutants import find_sites, mutate, without_docstrings
from workflow.verifiers import find_verifier


@dataclass(frozen=True, slots=True)
class RowAudit:
    """What was found of one problem."""

    id: str
    faults: tuple[str, ...]
    """Why the row is left out; empty where it is sound."""
    trust: str
    mutants: int
    """Mutants of the reference that were judged."""
    killed: int
    """Those of them that fail a hidden test."""
    has_reference: bool = True

    @property
    def sound(self) -> bool:
        """True where the row can be trained on."""
        return not self.faults


async def audit(sandbox: Sandbox, problem: Problem, mutants: int) -> RowAudit:
    """Judges reference, controls and ``mutants`` mutants of one problem. Raises RuntimeError where the sandbox itself fails."""
    faults: list[str] = []
    if problem.reference is not None:
        reference = await _judge(sandbox, _all_tests(problem), problem.reference)
        if reference.outcome is not Outcome.PASSED:
            faults.append(f"its reference fails: {reference.failures[0]}")
    controls = find_verifier(problem.verifier).controls(problem)
    verdicts = await asyncio.gather(*(_judge(sandbox, problem, answer) for answer in controls.values()))
    faults += [f"{name} passes" for name, verdict in zip(controls, verdicts, strict=True) if verdict.outcome is Outcome.PASSED]
    programs = make_mutants(problem, mutants)
    killed = await asyncio.gather(*(_judge(sandbox, problem, program) for program in programs))
    count = sum(verdict.outcome is not Outcome.PASSED for verdict in killed)
    trust = find_verifier(problem.verifier).trust
    return RowAudit(problem.id, tuple(faults), trust, len(programs), count, problem.reference is not None)


async def _judge(sandbox: Sandbox, problem: Problem, answer: str) -> Verdict:
    verdict = await sandbox.judge(problem, answer)
    if verdict.outcome is Outcome.INFRA_ERROR:
        raise RuntimeError(f"{problem.id} could not be judged: {'; '.join(verdict.failures)}")
    return verdict


def _all_tests(problem: Problem) -> Problem:
    """Public tests counted as hidden ones: the reference must pass both."""
    return replace(problem, hidden_tests=(*problem.public_tests, *problem.hidden_tests))


def make_mutants(problem: Problem, count: int) -> Sequence[str]:
    """Up to ``count`` different mutants of the reference, drawn by the problem's id."""
    if not find_verifier(problem.verifier).is_code or problem.reference is None or count == 0:
        return ()
    tree = without_docstrings(ast.parse(problem.reference))
    sites = list(find_sites(tree))
    random.Random(problem.id).shuffle(sites)
    return list(dict.fromkeys(ast.unparse(mutate(tree, (site,))) for site in sites[:count]))
