"""Rows of ``results.json``: means over problems with intervals, and differences from problem to problem."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from reward.score import mean_terms
from trainer.evaluation.trials import Trial, Trials
from trainer.settings import EvaluationSettings
from workflow.outcome import RunFailedError

Row = dict[str, Any]


def _interval(values: Sequence[float], resamples: int, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the mean over problems."""
    array = np.asarray(values, dtype=float)
    means = array[np.random.default_rng(seed).integers(0, len(array), (resamples, len(array)))].mean(axis=1)
    return [round(float(bound), 4) for bound in np.percentile(means, [2.5, 97.5])]


def _summary(trials: Sequence[Trial], resamples: int) -> Row:
    if not trials:
        return {"problems": 0}
    return {
        "problems": len(trials),
        "reward": round(float(np.mean([t.reward for t in trials])), 4),
        "reward_ci": _interval([t.reward for t in trials], resamples),
        "pass_rate": round(float(np.mean([t.pass_rate for t in trials])), 4),
        "pass_rate_ci": _interval([t.pass_rate for t in trials], resamples),
        "calls": round(float(np.mean([t.calls for t in trials])), 3),
        "cost": float(np.mean([t.cost for t in trials])),
        "latency": round(float(np.mean([t.latency for t in trials])), 4),
    }


def result_row(name: str, kind: str, trials: Trials, settings: EvaluationSettings) -> Row:
    """One row of ``results.json``: means, 95 % intervals, the same by level and by examples, and how many problems were lost and why; of a
    policy also each problem's own figures, which a sweep's report resamples.

    Args:
        kind: ``policy``, ``workflow`` or ``oracle``.
    """
    by_level: Row = {}
    known = trials.known
    for level in sorted({t.problem.level for t in known if t.problem.level is not None}):
        own = [t for t in known if t.problem.level == level]
        by_level[str(level)] = {
            **_summary(own, settings.bootstrap),
            "with_examples": _summary([t for t in own if t.problem.has_examples], settings.bootstrap),
            "without_examples": _summary([t for t in own if not t.problem.has_examples], settings.bootstrap),
        }
    terms = {name: round(value, 6) for name, value in mean_terms([trial.terms for trial in known]).items()}
    row: Row = {"name": name, "kind": kind, **_summary(known, settings.bootstrap), "terms": terms, "by_level": by_level}
    if trials.lost:
        row |= {"lost": len(trials.lost), "why": Counter(trials.lost).most_common(1)[0][0]}
    return row | {"by_problem": _by_problem(known)} if kind == "policy" else row


def minus(trials: Sequence[Trial], others: Sequence[Trial], resamples: int) -> Row:
    """Reward and pass rate of the one minus the other, problem by problem, with 95 % intervals; empty where they share no problem.

    Both met the same worker seeds, so what makes a problem hard for both is out of the interval.
    """
    theirs = {trial.problem.id: trial for trial in others}
    pairs = [(trial, theirs[trial.problem.id]) for trial in trials if trial.problem.id in theirs]
    if not pairs:
        return {}
    out: Row = {"problems": len(pairs)}
    for name in ("reward", "pass_rate"):
        differences = [getattr(one, name) - getattr(other, name) for one, other in pairs]
        out |= {name: round(float(np.mean(differences)), 4), f"{name}_ci": _interval(differences, resamples)}
    return out


def refuse_if_all_lost(rows: Sequence[Row]) -> None:
    """Raises RunFailedError, with the reason, where no row of a table has a problem that could be evaluated."""
    if rows and not any(row["problems"] for row in rows):
        why = next((row["why"] for row in rows if "why" in row), "there were no problems")
        raise RunFailedError(
            f"Nothing could be evaluated: all problems of all {len(rows)} rows were lost to infrastructure failures, most of them to: "
            f"{why}. Mend the cause and give the same command again."
        )


def _by_problem(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    names = ("reward", "pass_rate", "calls", "cost", "latency")
    return {name: {trial.problem.id: round(float(getattr(trial, name)), 7) for trial in trials} for name in names}
