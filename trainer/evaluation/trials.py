"""Held-out evaluation: policies, fixed workflows and the oracle on the same problems with the same worker seeds."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reward.attempt import Attempt
from reward.group import score_group
from reward.score import mean_terms
from reward.settings import RewardSettings
from reward.terms import count_calls
from rollout.groups.collect import Collector, Runner, run_seed
from rollout.records import Group
from sandbox.records import Run
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
    terms: Mapping[str, float] = field(default_factory=dict)
    """The terms of the reward, unweighted."""

    @property
    def cell(self) -> Cell:
        """The problem's (level, has examples)."""
        return self.problem.level, self.problem.has_examples


@dataclass(frozen=True, slots=True)
class Trials:
    """What became of an evaluation's problems."""

    known: tuple[Trial, ...]
    """In the order of the problems."""
    lost: tuple[str, ...] = ()
    """Why infrastructure failed, of each problem that is not among them."""

    @classmethod
    def of(cls, results: Iterable[Trial | str]) -> "Trials":
        """Trials, and in place of others why they were lost."""
        results = list(results)
        return cls(tuple(one for one in results if isinstance(one, Trial)), tuple(one for one in results if isinstance(one, str)))


def _trial(problem: Problem, attempts: Sequence[Attempt], reward: RewardSettings) -> Trial | str:
    """The mean over attempts; where infrastructure failed in all of them, why."""
    scores = score_group(attempts, problem, reward)
    scored = [(attempt, score) for attempt, score in zip(attempts, scores, strict=True) if score is not None]
    if not scored:
        runs = (run for attempt in attempts for part in (attempt.runs, *attempt.others) for run in part)
        return next((run.fault for run in runs if run.fault), "its answers could not be judged")

    def mean(value: Callable[[Sequence[Run]], float]) -> float:
        """Over attempts and what each spent in its repeats."""
        per_attempt = [[value(spent) for spent in map(attempt.spent, range(attempt.repeats)) if _is_known(spent)] for attempt, _ in scored]
        return float(np.mean([float(np.mean(values)) if values else 0.0 for values in per_attempt]))

    passed = [[run.outcome is Outcome.PASSED for run in attempt.runs if _is_known((run,))] or [False] for attempt, _ in scored]

    return Trial(
        problem,
        reward=float(np.mean([score.total for _, score in scored])),
        pass_rate=float(np.mean([float(np.mean(outcomes)) for outcomes in passed])),
        calls=mean(lambda runs: sum(count_calls(run, reward) for run in runs)),
        cost=mean(lambda runs: sum(run.execution.cost_dollars for run in runs)),
        latency=mean(lambda runs: sum(run.execution.wall_s for run in runs)),
        terms=mean_terms([score.terms for _, score in scored]),
    )


def _is_known(runs: Sequence[Run]) -> bool:
    return all(run.outcome is not Outcome.INFRA_ERROR for run in runs)


def trials_of_groups(groups: Sequence[Group], reward: RewardSettings) -> Trials:
    """What a policy reached, one trial a group."""
    return Trials.of(_trial(group.problem, [episode.attempt for episode in group.episodes], reward) for group in groups)


async def evaluate_policy(
    collector: Collector, problems: Sequence[Problem], *, tag: str, runs: int, completions: int = 1, temperature: float = 0.0
) -> Trials:
    """Greedy (or sampled) completions of the policy that the engines hold now, run and judged."""
    groups = await collector.collect(problems, tag=tag, n=completions, temperature=temperature, runs=runs)
    return trials_of_groups(groups, collector.reward)


async def evaluate_workflow(
    workflow: Workflow, runner: Runner, problems: Sequence[Problem], reward: RewardSettings, *, tag: str, runs: int, seed: int
) -> Trials:
    """One fixed workflow on every problem, with the worker seeds that policies meet under the same ``tag``."""

    async def one(problem: Problem) -> Trial | str:
        done = await asyncio.gather(*(runner.run(workflow, problem, run_seed(seed, tag, problem, repeat)) for repeat in range(runs)))
        return _trial(problem, [Attempt(workflow, tuple(done))], reward)

    return Trials.of(await asyncio.gather(*(one(problem) for problem in problems)))


def _by_cell(trials: Sequence[Trial]) -> dict[Cell, list[Trial]]:
    cells: dict[Cell, list[Trial]] = {}
    for trial in trials:
        cells.setdefault(trial.cell, []).append(trial)
    return cells


def best_fixed(validation: Mapping[str, Sequence[Trial]]) -> str:
    """Name of the workflow with the highest mean reward on the validation problems; each has a trial or more."""
    return max(validation, key=lambda name: float(np.mean([trial.reward for trial in validation[name]])))


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
