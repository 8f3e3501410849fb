"""The best fixed workflow and the best reference per level, chosen by a race, and the hindsight bound."""

import random
from collections.abc import Sequence

import pytest

from tests.scripted_parts import problem
from trainer.evaluation.choice import Race, chosen_trials, hindsight, race
from trainer.evaluation.trials import Trial, Trials, cell_of
from workflow.problem import Problem

PROBLEMS = [problem(number, level=1 + number % 2) for number in range(1200)]
CELLS = {one.id: cell_of(one) for one in PROBLEMS}
WORTH = {"plain": (0.7, 0.3), "plainer": (0.68, 0.2), "loop": (0.6, 0.5), "wasteful": (0.3, 0.1)}
"""Mean reward at level 1 and at level 2."""


def trial(one: Problem, reward: float) -> Trial:
    return Trial(one, reward, reward, reward, 1.0, 0.001)


class Scripted:
    """Rewards by level with noise that all workflows share, and a count of the evaluations."""

    def __init__(self, lost: str = "") -> None:
        self.asked: dict[str, int] = dict.fromkeys(WORTH, 0)
        self.lost = lost

    async def __call__(self, name: str, problems: Sequence[Problem]) -> Trials:
        self.asked[name] += len(problems)
        if name == self.lost:
            return Trials((), ("no room",) * len(problems))
        return Trials(tuple(trial(one, self.reward(name, one)) for one in problems))

    @staticmethod
    def reward(name: str, one: Problem) -> float:
        assert one.level is not None
        return WORTH[name][one.level - 1] + random.Random(one.id).gauss(0, 0.3) + random.Random(one.id + name).gauss(0, 0.1)


async def raced(scripted: Scripted, max_trials: int = 10**6) -> Race:
    return await race(list(WORTH), scripted, PROBLEMS, CELLS, max_trials)


async def test_the_best_over_all_and_the_best_of_each_level_win():
    going = await raced(Scripted())
    assert going.best([None], 200).names == {None: "loop"}
    assert going.best([(1, True), (2, True)], 200).names == {(1, True): "plain", (2, True): "loop"}


async def test_who_is_clearly_behind_gets_no_further_runs():
    scripted = Scripted()
    await raced(scripted)
    assert scripted.asked["wasteful"] == 240 < scripted.asked["plain"] <= 1200


async def test_on_few_problems_the_race_begins_early():
    scripted = Scripted()
    await race(list(WORTH), scripted, PROBLEMS[:145], CELLS, 10**6)
    assert scripted.asked["wasteful"] < 145 == max(scripted.asked.values())


async def test_two_that_share_no_problem_that_could_be_judged_are_still_chosen_between():
    async def lossy(name: str, problems: Sequence[Problem]) -> Trials:
        even = name == "plain"
        known = tuple(trial(one, 0.5) for index, one in enumerate(problems) if (index % 2 == 0) == even)
        return Trials(known, ("no room",) * (len(problems) - len(known)))

    going = await race(["plain", "loop"], lossy, PROBLEMS[:40], CELLS, 10**6)
    assert going.best([None], 200).names[None] in ("plain", "loop")


async def test_a_race_takes_no_more_evaluations_than_it_may_and_still_chooses():
    scripted = Scripted()
    going = await raced(scripted, max_trials=300)
    assert sum(scripted.asked.values()) == 300 and set(scripted.asked.values()) == {75}
    assert going.best([None], 200).problems == 75
    tiny = Scripted()
    await raced(tiny, max_trials=1)
    assert set(tiny.asked.values()) == {1}, "every workflow meets one problem"


async def test_the_noise_of_a_choice_falls_with_the_problems_that_it_is_made_on():
    few, many = [(await raced(Scripted(), max_trials=count)).best([(1, True)], 400).noise for count in (60, 10**6)]
    assert few > 0.003 > many


async def test_a_workflow_whose_runs_are_all_lost_is_not_chosen_and_hinders_nobody():
    going = await raced(Scripted(lost="loop"))
    assert going.best([(2, True)], 200).names == {(2, True): "plain"}


async def test_a_kind_of_problem_that_the_validation_problems_lack_gets_the_best_over_all():
    going = await raced(Scripted())
    assert going.best([(9, False)], 200).names == {(9, False): going.best([None], 200).names[None]}


async def test_what_a_choice_reaches_is_reported_on_the_problems_of_the_table():
    going = await raced(Scripted())
    held_out = [problem(5000, level=1), problem(5001, level=2)]
    test = {name: Trials(tuple(trial(one, 0.9 if name == "loop" else 0.4) for one in held_out)) for name in WORTH}
    chosen = chosen_trials(going.best([(1, True), (2, True)], 200), test)
    assert [one.reward for one in chosen.known] == [0.4, 0.9] and [one.problem for one in chosen.known] == held_out


def test_the_hindsight_bound_takes_the_best_workflow_of_each_problem():
    one, other = problem(0), problem(1)
    test = {"a": Trials((trial(one, 0.2), trial(other, 0.9))), "b": Trials((trial(one, 0.6),), ("lost",))}
    assert [found.reward for found in hindsight(test).known] == [0.6, 0.9]


@pytest.mark.parametrize(("level", "source", "cell"), [(3, "nano", (3, True)), (None, "humaneval", ("humaneval", True))])
def test_problems_without_a_level_are_told_apart_by_their_benchmark(level: int | None, source: str, cell: object):
    assert cell_of(Problem("x", "q", "f", ("assert 1",), ("assert 1",), level=level, source=source)) == cell
