"""What the simulated teacher answers: short reasoning and one of a closed set of workflows.

``teacher_sensible`` of the replies fit the problem: test loops where there are examples, review loops where there are
none, more rounds at higher levels, a single call where that is enough. ``teacher_habit`` of them are the teacher's
habit, the same cautious workflow whatever the problem. The others are drawn at random from the whole set. Imitation
alone, greedy or sampled, stays mediocre, although all that is kept has passed. Workflows are built from few exact
lines, so that the nano policy's tokenizer can keep a line in one token.
"""

import random
from dataclasses import dataclass

from workflow.nano.simulated.book import Known
from workflow.nano.simulated.nano_puzzle import NanoPuzzle
from workflow.nano.steps import VERBS
from workflow.settings import SimulatedWorkerSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """One workflow and what the reasoning calls it."""

    words: str
    source: str


_HEAD = "class Workflow:\n    async def __call__(self, problem):\n"
_END = "        return answer\n"


def _draft() -> tuple[str, str]:
    return "draft", "        answer = await self.generate(problem)\n"


def _vote(drafts: int) -> tuple[str, str]:
    calls = f"        answers = await asyncio.gather(*[self.generate(problem) for _ in range({drafts})])\n"
    return f"vote over {drafts} drafts", calls + "        answer = await self.ensemble(problem, answers)\n"


def _vote_in_turn(drafts: int) -> tuple[str, str]:
    calls = f"        answers = [await self.generate(problem) for _ in range({drafts})]\n"
    return f"{drafts} drafts in turn and a vote", calls + "        answer = await self.ensemble(problem, answers)\n"


def _check(operator: str, good: str, rounds: int) -> tuple[str, str]:
    if rounds == 1:
        lines = (
            f"        report = await self.{operator}(problem, answer)\n"
            f"        if not report.{good}:\n"
            "            answer = await self.revise(problem, answer, report.feedback)\n"
        )
        return f"{operator} and revise once", lines
    lines = (
        f"        for _ in range({rounds}):\n"
        f"            report = await self.{operator}(problem, answer)\n"
        f"            if report.{good}:\n"
        "                break\n"
        "            answer = await self.revise(problem, answer, report.feedback)\n"
    )
    return f"{operator} and revise up to {rounds} times", lines


def _test(rounds: int) -> tuple[str, str]:
    return _check("test", "passed", rounds)


def _review(rounds: int) -> tuple[str, str]:
    return _check("review", "approved", rounds)


def _plan(*parts: tuple[str, str]) -> Plan:
    return Plan(", ".join(words for words, _ in parts), _HEAD + "".join(lines for _, lines in parts) + _END)


_THINK = ("think step by step", '        answer = await self.generate(problem, "Think step by step.")\n')
_ASK = ("ask freely", '        answer = await self.custom(problem, "Write the function.")\n')
_OUTLINE = (
    "outline, then draft",
    '        outline = await self.custom(problem, "List the steps.")\n        answer = await self.generate(problem, outline)\n',
)
_LOOK_AGAIN = ("look again", '        answer = await self.revise(problem, answer, "Check every step.")\n')
_ALWAYS_REVIEW = (
    "review and always revise",
    "        report = await self.review(problem, answer)\n        answer = await self.revise(problem, answer, report.feedback)\n",
)

HABIT = _plan(_draft(), _test(1), _review(1))
"""What the teacher writes from habit: everything once, needed or not."""

SINGLE_CALL = Plan("one call", _HEAD + "        return await self.generate(problem)\n")


def _all_plans() -> dict[str, Plan]:
    plans = [
        SINGLE_CALL,
        *(_plan(_draft(), _test(rounds)) for rounds in (1, 2, 3)),
        *(_plan(_draft(), _review(rounds)) for rounds in (1, 2, 3)),
        *(_plan(_vote(drafts)) for drafts in (2, 3, 5)),
        *(_plan(_vote_in_turn(drafts)) for drafts in (2, 3, 5)),
        *(_plan(_vote(drafts), _test(rounds)) for drafts in (3, 5) for rounds in (1, 2)),
        *(_plan(_vote(drafts), _review(rounds)) for drafts in (3, 5) for rounds in (1, 2)),
        *(_plan(_draft(), _test(tests), _review(reviews)) for tests, reviews in ((1, 1), (2, 1), (1, 2), (2, 2))),
        *(_plan(_draft(), _review(reviews), _test(tests)) for reviews, tests in ((1, 1), (1, 2))),
        *(_plan(_THINK, *more) for more in ((), (_test(1),), (_review(1),))),
        *(_plan(_ASK, *more) for more in ((), (_test(2),))),
        _plan(_OUTLINE),
        _plan(_draft(), _LOOK_AGAIN),
        _plan(_draft(), _ALWAYS_REVIEW),
    ]
    return {plan.words: plan for plan in plans}


PLANS = _all_plans()
"""The teacher's workflows by their words."""

_TESTS = (SINGLE_CALL, *(_plan(_draft(), _test(rounds)) for rounds in (1, 2, 3, 3, 3)))
_REVIEWS = (SINGLE_CALL, SINGLE_CALL, *(_plan(_draft(), _review(rounds)) for rounds in (2, 3, 3, 3)))


def sensible_plan(level: int, has_examples: bool) -> Plan:
    """The workflow that fits a problem."""
    return (_TESTS if has_examples else _REVIEWS)[min(level, 6) - 1]


def teach(known: Known, settings: SimulatedWorkerSettings, rng: random.Random) -> str:
    """One reply for a problem: reasoning that agrees with the workflow, then the workflow."""
    kinds = ("sensible", "habit", "random")
    sensible, habit = settings.teacher_sensible, settings.teacher_habit
    match rng.choices(kinds, (sensible, habit, max(0.0, 1 - sensible - habit)))[0]:
        case "sensible":
            plan = sensible_plan(known.puzzle.level, known.has_examples)
        case "habit":
            plan = HABIT
        case _:
            plan = rng.choice(list(PLANS.values()))
    return trace(_assessment(known), plan)


def _assessment(known: Known) -> str:
    puzzle = known.puzzle
    examples = "with examples" if known.has_examples else "no examples"
    if not isinstance(puzzle, NanoPuzzle):
        return f"Level {puzzle.level}, {examples}"
    tricky = sum(VERBS[step.name].kind == "hard" for step in puzzle.steps)
    return _in_words(puzzle.sites, tricky, known.has_examples)


def _in_words(steps: int, tricky: int, has_examples: bool) -> str:
    return f"{steps} step{'s' * (steps > 1)}, {tricky} tricky, {'with' if has_examples else 'no'} examples"


def trace(assessment: str, plan: Plan) -> str:
    """Reasoning and workflow in one text."""
    return f"{assessment}. Plan: {plan.words}.\n```python\n{plan.source}```"


def corpus() -> list[str]:
    """Texts for training a tokenizer: every workflow's source, and traces of every workflow under many assessments."""
    assessments = [
        _in_words(steps, tricky, has_examples)
        for steps in range(1, 6)
        for tricky in range(min(steps, 3) + 1)
        for has_examples in (True, False)
        if 1 <= steps + tricky <= 6
    ]
    plans = list(PLANS.values())
    sources = [plan.source for plan in plans]
    return sources + [trace(assessment, plan) for plan in plans for assessment in assessments]
