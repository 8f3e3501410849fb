"""Weights and terms are checked before anything is paid for: each term is tried on made-up attempts."""

import math
from collections.abc import Iterator

from reward.attempt import Attempt, repeats_of
from reward.settings import RewardSettings
from reward.terms import find_weighted_terms, measure
from sandbox.records import Execution, Run, Verdict
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow

PROBLEM = Problem("made-up", "What is 1 + 1?", "", (), ())
WORKFLOW = Workflow("class Workflow: ...", "made-up", ("generate",), 0, 0, 0, 3)
ANSWERED = Run(Execution(Outcome.ANSWERED, "2", (), "", 0.1, "none"), Verdict(Outcome.PASSED, (True,), (), 0.1, "none"))
CRASHED = Run(Execution(Outcome.CRASHED, None, (), "made up", 0.1, "none"), None)
ATTEMPTS = {
    "one that passed": Attempt(WORKFLOW, (ANSWERED,)),
    "one that crashed": Attempt(WORKFLOW, (CRASHED,)),
    "one without a workflow": Attempt(None, ()),
}


def problems_of_terms(settings: RewardSettings) -> Iterator[str]:
    """One sentence for each weight that is no number or names no term, for what rewards failing, for each term that fails."""
    floor, performance = settings.floor, settings.weights.performance
    if not floor <= 0:  # also where it is no number
        yield f"reward.floor={floor} must be at most 0, else a completion without a workflow that runs is rewarded: set it to 0 or less."
    if not performance >= 0:
        yield f"reward.weights.performance={performance} must be at least 0, else failing is rewarded: set it to 0 or more."
    for name, weight in settings.weights.by_name.items():
        if not math.isfinite(weight):
            yield f"reward.weights.{name}={weight} is no finite number: give one, or 0 to leave the term out."
    try:
        terms = find_weighted_terms(settings.weights)
    except ValueError as error:
        yield str(error)
        return
    siblings = tuple(ATTEMPTS.values())
    for name, (term, _) in terms.items():
        for kind, attempt in ATTEMPTS.items():
            try:
                for repeat in repeats_of(siblings, attempt, PROBLEM, settings):
                    measure(name, term, repeat)
            except ValueError as error:
                yield f"{error} (It was tried on a made-up attempt, {kind}.)"
                break
