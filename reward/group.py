"""Scoring a group: the siblings are scored together, since diversity needs them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from reward import terms
from reward.score import Score
from reward.settings import RewardSettings
from sandbox.records import Run
from workflow.outcome import Outcome
from workflow.program import Workflow


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sibling of a group, as the reward sees it."""

    workflow: Workflow | None
    """None for a refusal."""
    runs: tuple[Run, ...]
    """Its executions with their verdicts; empty for a refusal."""
    others: tuple[tuple[Run, ...], ...] = ()
    """Executions of the episode's other rounds. Place k of each belongs to place k of ``runs``: they count in what the
    attempt spent, not in what it reached."""

    def spent(self, index: int) -> tuple[Run, ...]:
        """Run ``index`` and what the other rounds executed beside it."""
        return (self.runs[index], *(round_runs[index] for round_runs in self.others if index < len(round_runs)))


UNKNOWN = (Outcome.INFRA_ERROR, Outcome.ANSWERED)
"""Ends of a run that say nothing of its worth: a machine failed, or nobody judged it."""


def score_group(attempts: Sequence[Attempt], settings: RewardSettings) -> list[Score | None]:
    """A Score for each attempt, in order; None where nothing is known of it.

    Nothing is known of a run that infrastructure failed, nor of an answer that nobody judged (a query without hidden
    tests). An attempt's total is the mean over its other runs. A run that was judged is worth
    ``sum_k weight_k * term_k``; one that crashed, timed out or exhausted its budget is worth the floor, and
    so is an attempt without a workflow.
    """
    shares = terms.diversity([attempt.workflow.fingerprint if attempt.workflow else None for attempt in attempts])
    return [_score(attempt, share, settings) for attempt, share in zip(attempts, shares, strict=True)]


def _score(attempt: Attempt, diversity: float, settings: RewardSettings) -> Score | None:
    if attempt.workflow is None:
        return Score(settings.floor, performance=0.0, complexity=0.0, diversity=0.0, calls=0.0, cost=0.0, latency=0.0, floored=True)
    known = [
        (run, attempt.spent(index))
        for index, run in enumerate(attempt.runs)
        if run.outcome not in UNKNOWN and all(other.outcome is not Outcome.INFRA_ERROR for other in attempt.spent(index))
    ]
    if not known:
        return None
    complexity = terms.complexity(attempt.workflow.units, settings)
    per_run = [_score_run(run, spent, complexity, diversity, settings) for run, spent in known]
    return Score(
        total=fmean(score.total for score in per_run),
        performance=fmean(score.performance for score in per_run),
        complexity=complexity,
        diversity=diversity,
        calls=fmean(score.calls for score in per_run),
        cost=fmean(score.cost for score in per_run),
        latency=fmean(score.latency for score in per_run),
        floored=any(score.floored for score in per_run),
    )


def _score_run(run: Run, spent: Sequence[Run], complexity: float, diversity: float, settings: RewardSettings) -> Score:
    floored = run.verdict is None
    values = {
        "performance": terms.performance(run),
        "complexity": complexity,
        "diversity": diversity,
        "calls": terms.calls(spent, settings),
        "cost": terms.cost(spent),
        "latency": terms.latency(spent),
    }
    weighted = sum(getattr(settings.weights, name) * value for name, value in values.items())
    return Score(total=settings.floor if floored else weighted, floored=floored, **values)
