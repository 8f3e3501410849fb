"""Held-out evaluation: policies and fixed workflows on the same problems with the same worker seeds."""

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

Cell = tuple[int | str, bool]
"""(level, has examples): what the text of a query reveals of its difficulty; the benchmark where a set has no levels."""


def cell_of(problem: Problem) -> Cell:
    """The cell of a problem."""
    return problem.source if problem.level is None else problem.level, problem.has_examples


@dataclass(frozen=True, slots=True)
class Trial:
    """One problem's result under one policy or workflow, mean over completions and runs."""

    problem: Problem
    reward: float
    pass_rate: float
    """Share of runs that passed every hidden test."""
    solved: float
    """Share of runs that passed every test of the problem, the public ones too: the official pass@1."""
    calls: float
    """Worker calls, a test run counted as ``reward.test_run_calls``."""
    cost: float
    """Dollars of worker tokens."""
    latency: float = 0.0
    """Wall seconds of the workflow."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """The terms of the reward, unweighted."""
    samples: tuple[tuple[bool, ...], ...] = ()
    """Whether each completion solved it, in each of its runs."""

    @property
    def cell(self) -> Cell:
        """The problem's."""
        return cell_of(self.problem)

    @property
    def performance(self) -> float:
        """Share of hidden tests passed."""
        return self.terms.get("performance", 0.0)


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
    scores = [score for attempt in attempts for score in score_group([attempt], problem, reward)]  # alone, as a fixed workflow is
    scored = [(attempt, score) for attempt, score in zip(attempts, scores, strict=True) if score is not None]
    if not scored:
        runs = (run for attempt in attempts for part in (attempt.runs, *attempt.others) for run in part)
        return next((run.fault for run in runs if run.fault), "its answers could not be judged")

    def mean(value: Callable[[Sequence[Run]], float]) -> float:
        """Over attempts and what each spent in its repeats."""
        per_attempt = [[value(spent) for spent in map(attempt.spent, range(attempt.repeats)) if _is_known(spent)] for attempt, _ in scored]
        return float(np.mean([float(np.mean(values)) if values else 0.0 for values in per_attempt]))

    known = [[run for run in attempt.runs if _is_known((run,))] for attempt, _ in scored]
    passed = [[run.outcome is Outcome.PASSED for run in runs] or [False] for runs in known]
    repeats = max((len(attempt.runs) for attempt, _ in scored), default=1) or 1
    solved = [tuple(is_solved(run) for run in runs) or (False,) * repeats for runs in known]

    return Trial(
        problem,
        reward=float(np.mean([score.total for _, score in scored])),
        pass_rate=float(np.mean([float(np.mean(outcomes)) for outcomes in passed])),
        solved=float(np.mean([float(np.mean(outcomes)) for outcomes in solved])),
        calls=mean(lambda runs: sum(count_calls(run, reward) for run in runs)),
        cost=mean(lambda runs: sum(run.execution.cost_dollars for run in runs)),
        latency=mean(lambda runs: sum(run.execution.wall_s for run in runs)),
        terms=mean_terms([score.terms for _, score in scored]),
        samples=tuple(solved),
    )


def is_solved(run: Run) -> bool:
    """True where the answer passed every test that it was judged by, hidden and public."""
    return run.outcome is Outcome.PASSED and (run.public is None or run.public.outcome is Outcome.PASSED)


def _is_known(runs: Sequence[Run]) -> bool:
    return all(run.outcome is not Outcome.INFRA_ERROR for run in runs)


def trials_of_groups(groups: Sequence[Group], reward: RewardSettings) -> Trials:
    """What a policy reached, one trial a group."""
    return Trials.of(_trial(group.problem, [episode.attempt for episode in group.episodes], reward) for group in groups)


async def evaluate_policy(
    collector: Collector,
    problems: Sequence[Problem],
    *,
    tag: str,
    runs: int,
    completions: int = 1,
    temperature: float = 0.0,
    keep: Callable[[Sequence[Group]], None] = lambda groups: None,
) -> Trials:
    """Greedy (or sampled) completions of the policy that the engines hold now, run and judged by all tests.

    Args:
        keep: told of the episodes.
    """
    groups = await collector.collect(problems, tag=tag, n=completions, temperature=temperature, runs=runs, held_out=True)
    keep(groups)
    return trials_of_groups(groups, collector.reward)


async def evaluate_workflow(
    workflow: Workflow, runner: Runner, problems: Sequence[Problem], reward: RewardSettings, *, tag: str, runs: int, seed: int
) -> Trials:
    """One fixed workflow on every problem, with the worker seeds that a policy's first completion meets under the same ``tag``."""

    async def one(problem: Problem) -> Trial | str:
        seeds = [run_seed(seed, tag, problem, repeat) for repeat in range(runs)]
        done = await asyncio.gather(*(runner.run(workflow, problem, own, public=True) for own in seeds))
        return _trial(problem, [Attempt(workflow, tuple(done))], reward)

    return Trials.of(await asyncio.gather(*(one(problem) for problem in problems)))
