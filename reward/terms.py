"""The terms of the reward: functions of one repeat of an attempt, by name. Unweighted.

A term is any function from a ``Repeat`` to a number, registered with ``@TERMS.register("name")`` or given as ``module:name``; its
first sentence of documentation says what it is. ``reward.weights.name`` is its weight. Every registered term is computed and logged
as ``reward/name``; without a weight it counts 0.

The paper (section 3.3) names three: performance (pass rate), complexity (from the AST) and diversity (distinctness ratio);
their formulas are unpublished, so these are ours. Calls, cost and latency are what running a workflow takes.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from reward.attempt import Attempt, Repeat
from reward.settings import RewardSettings, RewardWeights
from sandbox.records import Run
from workflow.outcome import Outcome
from workflow.registry import Registry, short_name

Term = Callable[[Repeat], float]
TERMS: Registry[Term] = Registry("reward.weights")
PERFORMANCE = "performance"
"""The term that the floor stands for."""
COMPLEXITY = "complexity"
DIVERSITY = "diversity"
RESERVED = ("mean", "std", "floored", "zero_variance_groups")
"""Names of ``reward/NAME`` that are metrics already."""


@TERMS.register(PERFORMANCE)
def performance(repeat: Repeat) -> float:
    """Share of hidden tests passed, in [0, 1]; 0 where there was no answer to judge, or one that does not count."""
    return repeat.run.verdict.performance if repeat.is_answered and repeat.run is not None and repeat.run.verdict is not None else 0.0


@TERMS.register(COMPLEXITY)
def complexity(repeat: Repeat) -> float:
    """AST units beyond the free ones, over the scale, clipped to [0, ``complexity_max``]; 0 without a workflow."""
    workflow, settings = repeat.attempt.workflow, repeat.settings
    if workflow is None:
        return 0.0
    beyond = (workflow.units - settings.complexity_free_units) / settings.complexity_scale_units
    return min(max(beyond, 0.0), settings.complexity_max)


@TERMS.register(DIVERSITY)
def diversity(repeat: Repeat) -> float:
    """The attempt's share in the distinctness of its group, in (0, 1]; 0 without a workflow.

    An attempt that is one of ``n`` alike gets ``1 / n``, so that the mean over attempts with a workflow is the distinctness ratio,
    kinds of workflows over workflows. Alike are siblings whose workflows have one skeleton, and siblings that called the same operators
    in the same order, however often one after the other: code that never runs, that only handles texts, or an operator that asked nobody
    and tested nothing makes no workflow another one.
    """
    if repeat.attempt.workflow is None:
        return 0.0
    kinds = _kinds(repeat.siblings)
    own = next(kind for sibling, kind in zip(repeat.siblings, kinds, strict=True) if sibling is repeat.attempt)
    return 1.0 / kinds.count(own)


def _kinds(siblings: Sequence[Attempt]) -> list[int]:
    """A number for each sibling, equal for those that are alike, directly or by way of others; -1 without a workflow."""
    kinds = [-1 if sibling.workflow is None else number for number, sibling in enumerate(siblings)]
    for traits in ([each.workflow and each.workflow.skeleton for each in siblings], [_ran(each) for each in siblings]):
        first: dict[object, int] = {}
        for number, trait in enumerate(traits):
            if not trait or kinds[number] < 0:
                continue
            other, own = kinds[first.setdefault(trait, number)], kinds[number]
            kinds = [other if kind == own else kind for kind in kinds]
    return kinds


def _ran(attempt: Attempt) -> tuple[tuple[str, ...], ...]:
    """The operators of each run that asked a worker or ran tests, in order, repetitions folded; empty where a machine failed one."""
    if any(run.outcome is Outcome.INFRA_ERROR for run in attempt.runs):
        return ()
    worked = [[call.operator for call in run.execution.trace if call.worker_calls or call.test_runs] for run in attempt.runs]
    return tuple(tuple(name for name, _ in groupby(names)) for names in worked)


@TERMS.register("calls")
def calls(repeat: Repeat) -> float:
    """Worker calls of all rounds beyond the first call, at least 0; an execution of tests counts ``test_run_calls``."""
    return max(sum(count_calls(run, repeat.settings) for run in repeat.spent) - 1.0, 0.0)


def count_calls(run: Run, settings: RewardSettings) -> float:
    """Worker calls of one run; an execution of tests counts ``test_run_calls``."""
    return run.execution.worker_calls + settings.test_run_calls * run.execution.test_runs


@TERMS.register("cost")
def cost(repeat: Repeat) -> float:
    """Dollars of worker tokens, all rounds together."""
    return sum(run.execution.cost_dollars for run in repeat.spent)


@TERMS.register("latency")
def latency(repeat: Repeat) -> float:
    """Seconds that the workflows took, one round after the other: their own time and what serving their requests to the worker took.

    What requests wait in line is left out, since that depends on who else asks. A reply that is kept counts as it did at first.
    """
    return sum(run.execution.wall_s for run in repeat.spent)


def find_weighted_terms(weights: RewardWeights) -> dict[str, tuple[Term, float]]:
    """(term, weight) by the name under which the term is logged: every registered one, and those that weights name as ``module:name``.

    Raises:
        ValueError: a weight names no term, or two terms would have one name.
    """
    found = {name: (term, 0.0) for name, term in TERMS.items()}
    for name, weight in weights.by_name.items():
        term, short = TERMS.find(name), short_name(name)
        if short in found and (found[short][0] is not term or found[short][1]):
            raise ValueError(f"reward.weights.{name}={weight:g}: there is a term {short} already, with its own weight: rename one of them.")
        found[short] = (term, weight)
    for name in found:
        if name in RESERVED or not name.isidentifier():
            raise ValueError(f"reward.weights: a term cannot have the name {name!r}, since its metric is reward/{name}: rename it.")
    return found


def measure(name: str, term: Term, repeat: Repeat) -> float:
    """The term's value. Raises ValueError where it fails or is no finite number: a reward must not be guessed."""
    try:
        value = float(term(repeat))
    except Exception as error:  # a function of the user's may raise anything
        raise ValueError(
            f"The reward term {name} fails ({type(error).__name__}: {' '.join(str(error).split())[:200]}): correct it."
        ) from error
    if not math.isfinite(value):
        raise ValueError(f"The reward term {name} is {value}: return a finite number.")
    return value
