"""Held-out evaluation: policies, fixed workflows and the oracle on the same problems with the same worker seeds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reward import terms
from reward.group import Attempt, score_group
from reward.settings import RewardSettings
from rollout.collect import Collector, Runner, run_seed
from rollout.records import Group
from sandbox.records import Run
from trainer.settings import EvaluationSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow

Cell = tuple[int | None, bool]
"""(level, has examples): what the text of a query reveals of its difficulty."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One problem's result under one policy or workflow, mean over completions and runs."""

    problem: Problem
    reward: float
    pass_rate: float
    """Share of runs that passed every hidden test."""
    calls: float
    """Worker calls, a test run counted as ``reward.test_run_calls``."""
    cost: float
    """Dollars of worker tokens."""
    latency: float = 0.0
    """Wall seconds of the workflow."""

    @property
    def cell(self) -> Cell:
        """The problem's (level, has examples)."""
        return self.problem.level, self.problem.has_examples


def _trial(problem: Problem, attempts: Sequence[Attempt], reward: RewardSettings) -> Trial | None:
    """The mean over attempts; None where infrastructure failed in all of them."""
    scores = score_group(attempts, reward)
    scored = [(attempt, score) for attempt, score in zip(attempts, scores, strict=True) if score is not None]
    if not scored:
        return None

    def mean(value: Callable[[Sequence[Run]], float]) -> float:
        """Over attempts and what each spent in its repeats."""
        per_attempt = [[value(spent) for spent in map(attempt.spent, range(attempt.repeats)) if _is_known(spent)] for attempt, _ in scored]
        return float(np.mean([float(np.mean(values)) if values else 0.0 for values in per_attempt]))

    passed = [[run.outcome is Outcome.PASSED for run in attempt.runs if _is_known((run,))] or [False] for attempt, _ in scored]

    def calls(runs: Sequence[Run]) -> float:
        return sum(run.execution.worker_calls + reward.test_run_calls * run.execution.test_runs for run in runs)

    return Trial(
        problem,
        reward=float(np.mean([score.total for _, score in scored])),
        pass_rate=float(np.mean([float(np.mean(outcomes)) for outcomes in passed])),
        calls=mean(calls),
        cost=mean(terms.cost),
        latency=mean(terms.latency),
    )


def _is_known(runs: Sequence[Run]) -> bool:
    return all(run.outcome is not Outcome.INFRA_ERROR for run in runs)


def trials_of_groups(groups: Sequence[Group], reward: RewardSettings) -> list[Trial]:
    """What a policy reached, one trial a group; groups lost to infrastructure are left out."""
    trials = (_trial(group.problem, [episode.attempt for episode in group.episodes], reward) for group in groups)
    return [trial for trial in trials if trial is not None]


async def evaluate_policy(
    collector: Collector, problems: Sequence[Problem], *, tag: str, runs: int, completions: int = 1, temperature: float = 0.0
) -> list[Trial]:
    """Greedy (or sampled) completions of the policy that the engines hold now, run and judged."""
    groups = await collector.collect(problems, tag=tag, n=completions, temperature=temperature, runs=runs)
    return trials_of_groups(groups, collector.reward)


async def evaluate_workflow(
    workflow: Workflow, runner: Runner, problems: Sequence[Problem], reward: RewardSettings, *, tag: str, runs: int, seed: int
) -> list[Trial]:
    """One fixed workflow on every problem, with the worker seeds that policies meet under the same ``tag``."""

    async def one(problem: Problem) -> Trial | None:
        done = await asyncio.gather(*(runner.run(workflow, problem, run_seed(seed, tag, problem, repeat)) for repeat in range(runs)))
        return _trial(problem, [Attempt(workflow, tuple(done))], reward)

    return [trial for trial in await asyncio.gather(*(one(problem) for problem in problems)) if trial is not None]


def _by_cell(trials: Sequence[Trial]) -> dict[Cell, list[Trial]]:
    cells: dict[Cell, list[Trial]] = {}
    for trial in trials:
        cells.setdefault(trial.cell, []).append(trial)
    return cells


def best_fixed(validation: Mapping[str, Sequence[Trial]]) -> str:
    """Name of the workflow with the highest mean reward on the validation problems."""
    return max(validation, key=lambda name: float(np.mean([trial.reward for trial in validation[name]] or [-np.inf])))


def oracle(validation: Mapping[str, Sequence[Trial]], test: Mapping[str, Sequence[Trial]]) -> tuple[dict[Cell, str], list[Trial]]:
    """The best workflow of each cell, chosen on validation, and what this choice reaches on test.

    Choosing and reporting on different problems keeps the luck of the choice out of the figure.
    """
    by_name = {name: _by_cell(trials) for name, trials in validation.items()}
    fallback = best_fixed(validation)
    choice: dict[Cell, str] = {}
    for cell in {trial.cell for trials in test.values() for trial in trials}:
        known = {name: np.mean([trial.reward for trial in cells[cell]]) for name, cells in by_name.items() if cell in cells}
        choice[cell] = max(known, key=lambda name: known[name]) if known else fallback
    return choice, [trial for cell, name in choice.items() for trial in test[name] if trial.cell == cell]


def _interval(values: Sequence[float], resamples: int, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the mean over problems."""
    array = np.asarray(values, dtype=float)
    means = array[np.random.default_rng(seed).integers(0, len(array), (resamples, len(array)))].mean(axis=1)
    return [round(float(bound), 4) for bound in np.percentile(means, [2.5, 97.5])]


def _summary(trials: Sequence[Trial], resamples: int) -> dict[str, object]:
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


def result_row(name: str, kind: str, trials: Sequence[Trial], settings: EvaluationSettings) -> dict[str, object]:
    """One row of ``results.json``: means, 95 % intervals, and the same by level and by examples; of a policy also each problem's own
    figures, which a sweep's report resamples.

    Args:
        kind: ``policy``, ``workflow`` or ``oracle``.
    """
    by_level: dict[str, object] = {}
    for level in sorted({t.problem.level for t in trials if t.problem.level is not None}):
        own = [t for t in trials if t.problem.level == level]
        by_level[str(level)] = {
            **_summary(own, settings.bootstrap),
            "with_examples": _summary([t for t in own if t.problem.has_examples], settings.bootstrap),
            "without_examples": _summary([t for t in own if not t.problem.has_examples], settings.bootstrap),
        }
    row: dict[str, object] = {"name": name, "kind": kind, **_summary(trials, settings.bootstrap), "by_level": by_level}
    return row | {"by_problem": _by_problem(trials)} if kind == "policy" else row


def _by_problem(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    names = ("pass_rate", "calls", "cost", "latency")
    return {name: {trial.problem.id: round(float(getattr(trial, name)), 7) for trial in trials} for name in names}
