"""Scoring a group: the siblings are scored together, since a term may compare them."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from reward.attempt import Attempt, Repeat, repeats_of
from reward.score import Score, mean_terms
from reward.settings import RewardSettings
from reward.terms import COMPLEXITY, PERFORMANCE, Term, find_weighted_terms, measure
from workflow.outcome import Outcome
from workflow.problem import Problem

UNKNOWN = (Outcome.INFRA_ERROR, Outcome.ANSWERED)
"""Ends of a run that say nothing of its worth: a machine failed, or nobody judged it."""


def score_group(attempts: Sequence[Attempt], problem: Problem, settings: RewardSettings) -> list[Score | None]:
    """A Score for each attempt, in order; None where nothing is known of it.

    Nothing is known of a run that infrastructure failed, nor of an answer that nobody judged (a query without hidden
    tests). An attempt's total is the mean over its other runs. A run that was judged is worth
    ``sum_k weight_k * term_k``. One that crashed, timed out or exhausted its budget, and a round without a workflow, is worth the
    floor in place of its performance, and less for whatever it cost: giving up makes nothing free. A crash is never worth more than a
    wrong answer of the same workflow, nor a round without a workflow more than the largest one with a wrong answer. An answer that does
    not count (``reward.require_worker``) is worth what a round without a workflow is.
    """
    terms = find_weighted_terms(settings.weights)
    scored = [
        [_score_repeat(repeat, terms) for repeat in repeats_of(attempts, attempt, problem, settings) if _is_known(repeat)]
        for attempt in attempts
    ]
    return [_mean(scores) if scores else None for scores in scored]


def _is_known(repeat: Repeat) -> bool:
    judged = repeat.run is None or repeat.run.outcome not in UNKNOWN
    return judged and all(run.outcome is not Outcome.INFRA_ERROR for run in repeat.spent)


def _score_repeat(repeat: Repeat, terms: Mapping[str, tuple[Term, float]]) -> Score:
    values = {name: measure(name, term, repeat) for name, (term, _) in terms.items()}
    weighted = {name: weight * values[name] for name, (_, weight) in terms.items()}
    if repeat.is_answered:
        return Score(sum(weighted.values()), values, floored=False)
    settings = repeat.settings
    has_workflow = repeat.run is not None and repeat.run.verdict is None
    floor = settings.floor if has_workflow else min(settings.floor, settings.weights.complexity * settings.complexity_max)
    left_out = (PERFORMANCE,) if has_workflow else (PERFORMANCE, COMPLEXITY)
    costs = sum(min(value, 0.0) for name, value in weighted.items() if name not in left_out)
    return Score(floor + costs, values, floored=True)


def _mean(scores: Sequence[Score]) -> Score:
    return Score(
        fmean(score.total for score in scores), mean_terms([score.terms for score in scores]), any(score.floored for score in scores)
    )
