"""What no episode can gain by, over random episodes of several rounds and with every reward that is shipped."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conf import __file__ as conf_file
from reward.attempt import Attempt
from reward.check_terms import problems_of_terms
from reward.group import score_group
from reward.settings import RewardSettings, RewardWeights
from sandbox.records import Execution, OperatorCall, Run, Verdict
from tests.scripted_parts import problem
from workflow.outcome import Outcome
from workflow.program import Workflow

PRESETS = {
    path.stem: RewardSettings.model_validate(yaml.safe_load(path.read_text()))
    for path in (Path(conf_file).parent / "reward").glob("*.yaml")
}
PRESETS["all costs"] = RewardSettings(weights=RewardWeights(calls=-0.025, cost=-20.0, latency=-0.01, diversity=0.1))
OUTCOMES = (Outcome.PASSED, Outcome.WRONG_ANSWER, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.BUDGET_EXCEEDED, Outcome.INFRA_ERROR)


def call(operator: str, worker_calls: int, test_runs: int) -> OperatorCall:
    return OperatorCall(0, operator, "", "", "", worker_calls, test_runs, 0, 0, 0.001 * worker_calls, 0.0, 0.1)


CALLS = st.builds(call, st.sampled_from(["generate", "test", "revise"]), st.integers(0, 3), st.integers(0, 2))


@st.composite
def runs(draw: st.DrawFn) -> Run:
    outcome = draw(st.sampled_from(OUTCOMES))
    judged = outcome in (Outcome.PASSED, Outcome.WRONG_ANSWER)
    trace = tuple(draw(st.lists(CALLS, min_size=1, max_size=6)))
    own = judged and draw(st.booleans())
    ended = Outcome.ANSWERED if judged else outcome
    execution = Execution(ended, "x" if judged else None, trace, "", draw(st.floats(0, 100)), "landlock", own_answer=own)
    passed = 4 if outcome is Outcome.PASSED else draw(st.integers(0, 3))
    return Run(execution, Verdict(outcome, tuple(index < passed for index in range(4)), (), 0.1, "landlock") if judged else None)


WORKFLOWS = st.builds(
    lambda kind, units: Workflow("class Workflow: ...", kind, ("generate",), 0, 0, 0, units), st.sampled_from("abc"), st.integers(1, 90)
)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """A conversation whose judged round has a workflow, or none."""
    repeats = draw(st.integers(1, 3))
    rounds = draw(st.lists(st.lists(runs(), min_size=repeats, max_size=repeats).map(tuple), max_size=2).map(tuple))
    if draw(st.integers(0, 4)) == 0:
        return Attempt(None, (), rounds)
    return Attempt(draw(WORKFLOWS), tuple(draw(st.lists(runs(), min_size=repeats, max_size=repeats))), rounds)


@st.composite
def groups(draw: st.DrawFn) -> tuple[Attempt, ...]:
    """Siblings; the first one has a workflow."""
    first = draw(attempts().filter(lambda attempt: attempt.workflow is not None))
    return (first, *draw(st.lists(attempts(), max_size=4)))


def never_more(before: Attempt, after: Attempt, siblings: tuple[Attempt, ...]) -> None:
    for name, settings in PRESETS.items():
        old, new = (score_group([one, *siblings], problem(), settings)[0] for one in (before, after))
        assert (old is None) == (new is None)
        assert old is None or new is None or new.total <= old.total + 1e-12, (name, old, new)


def spending(run: Run, more: OperatorCall, seconds: float) -> Run:
    """The run with one call more, of the operator that it called last: with another it would be another kind of workflow."""
    execution = run.execution
    trace = (*execution.trace, replace(more, operator=execution.trace[-1].operator))
    return replace(run, execution=replace(execution, trace=trace, wall_s=execution.wall_s + seconds))


@given(group=groups(), more=CALLS, seconds=st.floats(0, 50), place=st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_a_call_more_in_any_round_never_raises_the_total(group, more, seconds: float, place: tuple[int, int]):
    first, *siblings = group
    rounds = [list(part) for part in (first.runs, *first.others)]
    part = rounds[place[0] % len(rounds)]
    part[place[1] % len(part)] = spending(part[place[1] % len(part)], more, seconds)
    judged, *others = map(tuple, rounds)
    never_more(first, replace(first, runs=judged, others=tuple(others)), tuple(siblings))


@given(group=groups(), number=st.integers(0, 2), outcome=st.sampled_from(OUTCOMES[2:5]))
def test_a_crash_a_timeout_or_an_empty_budget_in_place_of_an_answer_never_raises_the_total(group, number: int, outcome: Outcome):
    first, *siblings = group
    judged = list(first.runs)
    answered = judged[number % len(judged)]
    if answered.verdict is not None:
        ended = replace(answered.execution, outcome=outcome, answer=None, own_answer=False)
        judged[number % len(judged)] = Run(ended, None)
    never_more(first, replace(first, runs=tuple(judged)), tuple(siblings))


@given(group=groups())
def test_a_last_round_without_a_workflow_never_raises_the_total_of_answers(group):
    first, *siblings = group
    if all(run.verdict is not None or run.outcome is Outcome.INFRA_ERROR for run in first.runs):
        never_more(first, Attempt(None, (), (first.runs, *first.others)), tuple(siblings))


@given(group=groups(), more=st.lists(runs(), min_size=3, max_size=3))
def test_a_round_more_never_raises_the_total(group, more: list[Run]):
    first, *siblings = group
    if all(run.outcome is not Outcome.INFRA_ERROR for run in more):
        never_more(first, replace(first, others=(*first.others, tuple(more[: len(first.runs)]))), tuple(siblings))


@given(group=groups())
def test_an_answer_of_the_workflows_own_is_never_worth_more_than_a_workers(group):
    first, *siblings = group
    own = [replace(run, execution=replace(run.execution, own_answer=run.verdict is not None)) for run in first.runs]
    never_more(first, replace(first, runs=tuple(own)), tuple(siblings))


def test_an_own_answer_earns_the_floor_unless_the_run_lets_it():
    execution = Execution(Outcome.ANSWERED, "x", (call("generate", 3, 0),), "", 0.5, "landlock", own_answer=True)
    right = Run(execution, Verdict(Outcome.PASSED, (True,) * 4, (), 0.1, "landlock"))
    attempt = Attempt(Workflow("class Workflow: ...", "a", ("generate",), 0, 0, 0, 18), (right,))
    (floored,) = score_group([attempt], problem(), RewardSettings())
    assert floored is not None and floored.floored and floored.total == pytest.approx(-0.2 - 0.025 * 2)
    assert floored.terms["performance"] == 0.0
    (free,) = score_group([attempt], problem(), RewardSettings(require_worker=False))
    assert free is not None and not free.floored and free.total == pytest.approx(1.0 - 0.1 - 0.025 * 2)


def test_writing_no_workflow_pays_no_more_than_the_largest_one_with_a_wrong_answer():
    settings = RewardSettings(weights=RewardWeights(complexity=-0.5))
    wrong = Run(Execution(Outcome.ANSWERED, "x", (), "", 0.5, "landlock"), Verdict(Outcome.WRONG_ANSWER, (False,), (), 0.1, "landlock"))
    largest = Attempt(Workflow("class Workflow: ...", "a", ("generate",), 0, 0, 0, 1000), (wrong,))
    worst, refused = score_group([largest, Attempt(None, ())], problem(), settings)
    assert worst is not None and refused is not None and refused.total == worst.total == pytest.approx(-0.75)
    for preset in PRESETS.values():
        assert not list(problems_of_terms(preset))
