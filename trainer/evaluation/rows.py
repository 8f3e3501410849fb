"""Rows of ``results.json``: means over problems with intervals, by level and by benchmark, and differences from problem to problem."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reward.score import mean_terms
from trainer.evaluation.statistics import difference_of, interval, pass_at_k
from trainer.evaluation.trials import Trial, Trials
from trainer.settings import EvaluationSettings
from workflow.outcome import RunFailedError

Row = dict[str, Any]
BEST_FIXED, BEST_PER_LEVEL = "best fixed workflow", "best reference per level"
EQUAL_COST, HINDSIGHT = "self-consistency at equal cost", "hindsight bound"
SAMPLED = " (sampled)"
COMPARED = ("reward", "pass_rate", "solved")
"""What differences are taken of."""
BY_PROBLEM = ("reward", "performance", "pass_rate", "solved", "calls", "cost", "latency")


def _summary(trials: Sequence[Trial], resamples: int) -> Row:
    if not trials:
        return {"problems": 0}
    out: Row = {"problems": len(trials)}
    for name in COMPARED:
        values = [float(getattr(trial, name)) for trial in trials]
        out |= {name: round(float(np.mean(values)), 4), f"{name}_ci": interval(values, resamples)}
    return out | {
        "calls": round(float(np.mean([t.calls for t in trials])), 3),
        "cost": float(np.mean([t.cost for t in trials])),
        "latency": round(float(np.mean([t.latency for t in trials])), 4),
    }


def result_row(name: str, kind: str, trials: Trials, settings: EvaluationSettings) -> Row:
    """One row of ``results.json``: means, 95 % intervals, the same by benchmark (where there are several), by level and by examples, how
    many problems were lost and why, and each problem's own figures. The row's own means are by problems over all.

    Args:
        kind: ``policy``, ``workflow``, ``choice`` (of a workflow for each level) or ``bound``.
    """
    by_level: Row = {}
    known, resamples = trials.known, settings.bootstrap
    for level in sorted({t.problem.level for t in known if t.problem.level is not None}):
        own = [t for t in known if t.problem.level == level]
        by_level[str(level)] = {
            **_summary(own, resamples),
            "with_examples": _summary([t for t in own if t.problem.has_examples], resamples),
            "without_examples": _summary([t for t in own if not t.problem.has_examples], resamples),
        }
    terms = {name: round(value, 6) for name, value in mean_terms([trial.terms for trial in known]).items()}
    row: Row = {"name": name, "kind": kind, **_summary(known, resamples), "terms": terms, "by_level": by_level}
    sources = sorted({trial.problem.source for trial in known})
    if len(sources) > 1:
        row["by_benchmark"] = {source: _summary([t for t in known if t.problem.source == source], resamples) for source in sources}
    if chances := _pass_at_k(known):
        row["pass_at_k"] = chances
    if trials.lost:
        row |= {"lost": len(trials.lost), "why": Counter(trials.lost).most_common(1)[0][0]}
    return row | {"by_problem": _by_problem(known)}


def _pass_at_k(trials: Sequence[Trial]) -> dict[str, float]:
    """pass@k by all tests for 1, 2, 4 ... all completions: each repeat apart, since runs of one completion are no further samples."""
    completions = max((len(trial.samples) for trial in trials), default=0)
    ks = [k for k in dict.fromkeys([*(2**i for i in range(completions.bit_length())), completions]) if k <= completions]
    out: dict[str, float] = {}
    for k in ks if completions > 1 else []:
        chances = [
            [pass_at_k(len(column), sum(column), k) for column in zip(*trial.samples, strict=False) if len(column) >= k] for trial in trials
        ]
        out[str(k)] = round(float(np.mean([np.mean(own) for own in chances if own])), 4)
    return out


def minus(trials: Sequence[Trial], others: Sequence[Trial], resamples: int) -> Row:
    """The one minus the other, problem by problem: means, 95 % intervals and p-values; empty where they share no problem.

    Both met the same worker seeds, so what makes a problem hard for both is out of the interval.
    """
    theirs = {trial.problem.id: trial for trial in others}
    pairs = [(trial, theirs[trial.problem.id]) for trial in trials if trial.problem.id in theirs]
    if not pairs:
        return {}
    out: Row = {"problems": len(pairs)}
    for name in COMPARED:
        ours_SP, theirs_SP = (np.array([[getattr(trial, name) for trial in side]], dtype=float) for side in zip(*pairs, strict=True))
        out |= difference_of(ours_SP, theirs_SP, name, resamples)
    return out


def compare_rows(rows: Iterable[Row], trials: Mapping[str, Trials], settings: EvaluationSettings) -> None:
    """Adds ``minus`` to each row, the difference to the row ``evaluation.against``, where the table has it."""
    if (other := trials.get(settings.against)) is not None:
        for row in rows:
            if row["name"] != settings.against and (found := minus(trials[row["name"]].known, other.known, settings.bootstrap)):
                row["minus"] = {"of": settings.against} | found


def check_against(policies: Iterable[str], workflows: Iterable[str], settings: EvaluationSettings) -> None:
    """Raises ValueError where ``evaluation.against`` will be no row of a table of these policies and workflows."""
    names = list(policies)
    sampled = [f"{name}{SAMPLED}" for name in names] if settings.sampled_completions else []
    made = [BEST_FIXED, BEST_PER_LEVEL, HINDSIGHT, *([EQUAL_COST] if settings.equal_cost else [])]
    rows = [*names, *sampled, *workflows, *made]
    if settings.against not in rows:
        raise ValueError(f"trainer.evaluation.against={settings.against!r} is no row of the table, which has: {', '.join(rows)}.")


def refuse_if_all_lost(rows: Sequence[Row]) -> None:
    """Raises RunFailedError, with the reason, where no row of a table has a problem that could be evaluated."""
    if rows and not any(row["problems"] for row in rows):
        why = next((row["why"] for row in rows if "why" in row), "there were no problems")
        raise RunFailedError(
            f"Nothing could be evaluated: all problems of all {len(rows)} rows were lost to infrastructure failures, most of them to: "
            f"{why}. Mend the cause and give the same command again."
        )


def _by_problem(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    return {name: {trial.problem.id: round(float(getattr(trial, name)), 7) for trial in trials} for name in BY_PROBLEM}
