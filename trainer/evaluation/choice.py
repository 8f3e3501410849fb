"""Which fixed workflow is best, over all and for each level: chosen on validation problems, with how far the choice can be trusted.

A race (Maron and Moore 1994): all start on a few problems, and only those that may still be the best meet more of them, so that the
runs go where the choice is close.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.statistics import choice_noise
from trainer.evaluation.trials import Cell, Trial, Trials
from workflow.problem import Problem

BLOCK = 240
"""Problems that all who are still in the race meet before the next are left behind, at most; a fifth of all where that is less."""
LEAST = 10
"""Problems of a kind below which nobody is left behind."""
BEHIND = 2.0
"""Standard errors of the paired difference to the leader beyond which a workflow is left behind."""

Evaluate = Callable[[str, Sequence[Problem]], Awaitable[Trials]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One choice among fixed workflows."""

    names: Mapping[Cell | None, str]
    """The workflow chosen for each kind of problem; None stands for all problems."""
    problems: int
    """Validation problems that those who were last in the race met."""
    reward: float
    """Mean reward of what was chosen, on the problems that it was chosen on."""
    noise: float
    """Reward that the choice is expected to lose by its luck (``statistics.choice_noise``)."""


class Race:
    """The rewards so far, and who may still be the best: over all problems (None) and in each cell."""

    def __init__(self, names: Iterable[str], cells: Mapping[str, Cell]) -> None:
        """
        Args:
            cells: the cell of each validation problem by its id.
        """
        self.rewards: dict[str, dict[str, float]] = {name: {} for name in names}
        self.cells = cells
        self.in_race: dict[Cell | None, set[str]] = {cell: set(self.rewards) for cell in (None, *cells.values())}

    def meets(self, name: str, problem: Problem) -> bool:
        """Whether a workflow may still be the best where that problem counts."""
        return name in self.in_race[None] or name in self.in_race[self.cells[problem.id]]

    def add(self, name: str, trials: Trials) -> None:
        """What a workflow reached on further problems."""
        self.rewards[name] |= {trial.problem.id: trial.reward for trial in trials.known}

    def values(self, cell: Cell | None, names: Collection[str]) -> np.ndarray:
        """Rewards of these workflows on the problems of a cell that all of them have, shape (names, problems)."""
        met = set.intersection(*(set(self.rewards[name]) for name in names)) if names else set()
        shared = [key for key in self.cells if key in met and cell in (None, self.cells[key])]
        return np.array([[self.rewards[name][key] for key in shared] for name in names])

    def leave_behind(self) -> None:
        """Takes out of the race who is clearly worse than the leader, or has nothing that could be judged."""
        for cell, names in self.in_race.items():
            known = sorted(name for name in names if self.rewards[name])
            values_WP = self.values(cell, known)
            if not known or values_WP.shape[1] < LEAST:
                continue
            behind_WP = values_WP[values_WP.mean(axis=1).argmax()] - values_WP
            error = behind_WP.std(axis=1, ddof=1) / np.sqrt(values_WP.shape[1])
            left = behind_WP.mean(axis=1) <= BEHIND * error
            self.in_race[cell] = {name for name, stays in zip(known, left, strict=True) if stays}

    @property
    def is_decided(self) -> bool:
        """True where one is left everywhere."""
        return all(len(names) <= 1 for names in self.in_race.values())

    def best(self, cells: Iterable[Cell | None], resamples: int) -> Chosen:
        """The best of those left in each of the cells; where a cell has nothing that could be judged, the best over all."""
        names: dict[Cell | None, str] = {}
        parts: list[tuple[int, float, float]] = []
        for cell in cells:
            where = cell if self._left(cell) and self.values(cell, self._left(cell)).size else None
            left = self._left(where)
            values_WP = self.values(where, left)
            if not values_WP.size:  # they share no problem that could be judged: whoever has met most of them
                left = [max(left, key=lambda name: len(self.rewards[name]))]
                values_WP = self.values(where, left)
            means = values_WP.mean(axis=1)
            names[cell] = left[int(means.argmax())]
            parts.append((values_WP.shape[1], float(means.max()), choice_noise(values_WP, resamples)))
        counts, rewards, noises = zip(*parts, strict=True)
        return Chosen(names, sum(counts), float(np.average(rewards, weights=counts)), float(np.average(noises, weights=counts)))

    def _left(self, cell: Cell | None) -> list[str]:
        return sorted(name for name in self.in_race.get(cell, ()) if self.rewards[name])


async def race(names: Sequence[str], evaluate: Evaluate, problems: Sequence[Problem], cells: Mapping[str, Cell], max_trials: int) -> Race:
    """Lets the workflows race on the problems, in order.

    Args:
        evaluate: one workflow on some problems.
        cells: the cell of each problem by its id.
        max_trials: evaluations of one workflow on one problem that it may take; every workflow meets the first problem.
    """
    going, left, todo = Race(names, cells), max_trials, list(problems)
    size = max(min(BLOCK, len(problems) // 5), LEAST)
    while todo and not going.is_decided:
        prices = [sum(going.meets(name, problem) for name in names) for problem in todo[:size]]
        count = int((np.cumsum(prices) <= left).sum()) or int(len(todo) == len(problems))
        if not count:
            break
        block, todo, left = todo[:count], todo[count:], left - sum(prices[:count])
        asked = {name: [problem for problem in block if going.meets(name, problem)] for name in names}
        found = await asyncio.gather(*(evaluate(name, some) for name, some in asked.items()))
        for name, trials in zip(asked, found, strict=True):
            going.add(name, trials)
        going.leave_behind()
    return going


def chosen_trials(chosen: Chosen, test: Mapping[str, Trials]) -> Trials:
    """What the choice reaches on the test problems: on each, the workflow chosen for its kind."""
    trials = [trial for name in test for trial in test[name].known if chosen.names.get(trial.cell, chosen.names.get(None)) == name]
    return Trials(tuple(_in_order(trials, test)))


def hindsight(test: Mapping[str, Trials]) -> Trials:
    """On each test problem the trial of the workflow with the highest reward there: no choice reaches more, and luck is in it."""
    best: dict[str, Trial] = {}
    for trials in test.values():
        for trial in trials.known:
            if trial.problem.id not in best or trial.reward > best[trial.problem.id].reward:
                best[trial.problem.id] = trial
    return Trials(tuple(_in_order(best.values(), test)))


def _in_order(trials: Iterable[Trial], test: Mapping[str, Trials]) -> list[Trial]:
    """In the order in which the problems stand in the table."""
    place = {key: index for index, key in enumerate(dict.fromkeys(trial.problem.id for one in test.values() for trial in one.known))}
    return sorted(trials, key=lambda trial: place[trial.problem.id])
