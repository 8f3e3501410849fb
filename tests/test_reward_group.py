"""Scoring a group of sibling attempts."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reward.attempt import Attempt
from reward.group import score_group
from reward.settings import RewardSettings, RewardWeights
from sandbox.records import Execution, OperatorCall, Run, Verdict
from tests.scripted_parts import problem
from workflow.outcome import Outcome
from workflow.program import Workflow

WEIGHTS = RewardWeights(performance=1.0, complexity=-0.1, diversity=0.05, calls=-0.025, cost=-2.0, latency=-0.01)
SETTINGS = RewardSettings(weights=WEIGHTS, floor=-0.2)


def workflow(fingerprint: str = "a", units: int = 3) -> Workflow:
    return Workflow("class Workflow: ...", fingerprint, ("generate",), 0, 0, 0, units)


def run(outcome: Outcome, passed: int = 0, calls: int = 1, wall_s: float = 0.5, operator: str = "generate") -> Run:
    trace = (OperatorCall(0, operator, "", "", "", calls, 0, 0, 0, 0.001 * calls, 0.0, 0.1),)
    judged = outcome in (Outcome.PASSED, Outcome.WRONG_ANSWER)
    execution = Execution(Outcome.ANSWERED if judged else outcome, "x" if judged else None, trace, "", wall_s, "landlock")
    verdict = Verdict(outcome, tuple(i < passed for i in range(4)), (), 0.1, "landlock")
    return Run(execution, verdict if judged else None)


def score(attempt: Attempt, *siblings: Attempt):
    return score_group([attempt, *siblings], problem(), SETTINGS)[0]


def test_a_judged_run_is_worth_its_weighted_terms():
    result = score(Attempt(workflow(units=18), (run(Outcome.WRONG_ANSWER, passed=3, calls=3),)))
    assert result is not None and not result.floored
    assert [result.terms[name] for name in ("performance", "complexity", "diversity", "calls")] == [0.75, 1.0, 1.0, 2.0]
    assert math.isclose(result.total, 0.75 - 0.1 + 0.05 - 0.05 - 0.006 - 0.005)


def test_a_refusal_is_worth_the_floor():
    result = score(Attempt(None, ()))
    assert result is not None and result.floored
    assert (result.total, result.terms["performance"], result.terms["diversity"]) == (-0.2, 0.0, 0.0)


def test_a_run_without_an_answer_is_worth_the_floor_less_what_it_cost():
    for outcome in (Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.BUDGET_EXCEEDED):
        result = score(Attempt(workflow(units=18), (run(outcome, calls=30),)))
        assert result is not None and result.floored and result.terms["calls"] == 29.0
        assert math.isclose(result.total, -0.2 - 0.1 - 0.025 * 29 - 2.0 * 0.03 - 0.01 * 0.5), "and no bonus for being different"


def test_calls_of_earlier_rounds_count_where_the_last_round_has_no_workflow():
    earlier = (run(Outcome.WRONG_ANSWER, passed=1, calls=21), run(Outcome.WRONG_ANSWER, calls=1))
    result = score(Attempt(None, (), (earlier,)))
    assert result is not None and result.floored and (result.terms["calls"], result.terms["performance"]) == (10.0, 0.0)
    assert math.isclose(result.total, -0.2 - 0.025 * 10 - 2.0 * 0.011 - 0.01 * 0.5)


def test_a_round_that_a_machine_failed_says_nothing_of_an_attempt_that_ended_without_a_workflow():
    assert score(Attempt(None, (), ((run(Outcome.INFRA_ERROR),),))) is None


def test_a_wrong_answer_is_worth_more_than_a_crash():
    wrong = score(Attempt(workflow(), (run(Outcome.WRONG_ANSWER),)))
    crash = score(Attempt(workflow(), (run(Outcome.CRASHED),)))
    assert wrong is not None and crash is not None and wrong.total > crash.total


def test_runs_lost_to_infrastructure_are_left_out_of_the_mean():
    lost = run(Outcome.INFRA_ERROR, calls=9, wall_s=99.0)
    alone = score(Attempt(workflow(), (run(Outcome.PASSED, passed=4),)))
    mixed = score(Attempt(workflow(), (lost, run(Outcome.PASSED, passed=4), lost)))
    assert mixed == alone


def test_an_attempt_lost_to_infrastructure_has_no_score():
    assert score(Attempt(workflow(), (run(Outcome.INFRA_ERROR),) * 2)) is None
    assert score(Attempt(workflow(), ())) is None


def test_a_verdict_lost_to_infrastructure_leaves_the_run_out():
    answered = run(Outcome.PASSED, passed=4)
    unjudged = Run(answered.execution, Verdict(Outcome.INFRA_ERROR, (), ("no judge",), 0.1, "landlock"))
    assert score(Attempt(workflow(), (unjudged,))) is None
    assert score(Attempt(workflow(), (unjudged, answered))) == score(Attempt(workflow(), (answered,)))


def test_an_answer_that_nobody_judged_has_no_score():
    assert score(Attempt(workflow(), (Run(run(Outcome.PASSED).execution, None),))) is None


def test_the_total_is_the_mean_over_runs():
    passed, crashed = run(Outcome.PASSED, passed=4), run(Outcome.CRASHED)
    both = score(Attempt(workflow(), (passed, crashed)))
    one = score(Attempt(workflow(), (passed,)))
    assert both is not None and one is not None and both.floored
    assert math.isclose(both.total, (one.total - 0.2 - 2.0 * 0.001 - 0.01 * 0.5) / 2)
    assert both.terms["performance"] == 0.5


def test_siblings_with_equal_workflows_share_their_distinctness():
    attempt = Attempt(workflow("a"), (run(Outcome.PASSED, passed=4),))
    other = Attempt(workflow("b"), (run(Outcome.PASSED, passed=4, operator="custom"),))
    scores = score_group([attempt, attempt, other, Attempt(None, ())], problem(), SETTINGS)
    assert [result.terms["diversity"] for result in scores if result is not None] == [0.5, 0.5, 1.0, 0.0]


RUNS = st.builds(
    run,
    st.sampled_from(
        [Outcome.PASSED, Outcome.WRONG_ANSWER, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.BUDGET_EXCEEDED, Outcome.INFRA_ERROR]
    ),
    st.integers(0, 4),
    st.integers(0, 9),
    st.floats(0, 100),
)
WORKFLOWS = st.builds(workflow, st.sampled_from("abc"), st.integers(1, 60))
OTHERS = st.lists(st.lists(RUNS, min_size=1, max_size=4).map(tuple), max_size=2).map(tuple)
ATTEMPTS = st.one_of(
    st.builds(Attempt, st.none(), st.just(()), OTHERS), st.builds(Attempt, WORKFLOWS, st.lists(RUNS, max_size=4).map(tuple))
)


@given(st.lists(ATTEMPTS, max_size=12))
def test_every_total_is_explained_by_its_terms_and_the_floor(attempts: list[Attempt]):
    scores = score_group(attempts, problem(), SETTINGS)
    assert len(scores) == len(attempts)
    for attempt, result in zip(attempts, scores, strict=True):
        known = [run for run in attempt.runs if run.outcome is not Outcome.INFRA_ERROR]
        if result is None:
            assert not known
            continue
        weighted = {name: getattr(WEIGHTS, name) * result.terms[name] for name in RewardWeights.model_fields}
        if not result.floored:
            assert math.isclose(result.total, sum(weighted.values()), abs_tol=1e-9)
        elif all(run.verdict is None for run in known):
            costs = sum(value for name, value in weighted.items() if name not in ("performance", "diversity"))
            assert math.isclose(result.total, SETTINGS.floor + costs, abs_tol=1e-9)


def spending_more(one: Run, calls: int) -> Run:
    execution = replace(one.execution, trace=one.execution.trace + run(Outcome.PASSED, calls=calls).execution.trace)
    return replace(one, execution=execution)


@given(WORKFLOWS, st.lists(RUNS, min_size=1, max_size=4), st.integers(1, 40))
def test_more_calls_never_raise_the_total(one: Workflow, runs: list[Run], calls: int):
    before = score(Attempt(one, tuple(runs)))
    after = score(Attempt(one, tuple(spending_more(each, calls) for each in runs)))
    assert (before is None) == (after is None)
    assert before is None or after is None or after.total <= before.total


@given(WORKFLOWS, st.lists(RUNS, min_size=1, max_size=4), OTHERS)
def test_giving_up_in_place_of_an_answer_never_raises_the_total(one: Workflow, runs: list[Run], others: tuple[tuple[Run, ...], ...]):
    gives_up = [
        Run(replace(each.execution, outcome=Outcome.CRASHED, answer=None), None) if each.verdict is not None else each for each in runs
    ]
    before, after = score(Attempt(one, tuple(runs), others)), score(Attempt(one, tuple(gives_up), others))
    assert (before is None) == (after is None)
    assert before is None or after is None or after.total <= before.total + 1e-12


@given(st.lists(st.lists(RUNS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=2).map(tuple), st.integers(1, 20))
def test_what_earlier_rounds_spend_is_never_free(others: tuple[tuple[Run, ...], ...], calls: int):
    dearer = tuple(tuple(spending_more(each, calls) for each in runs) for runs in others)
    for last in (None, workflow()):
        runs = () if last is None else (run(Outcome.WRONG_ANSWER),)
        before, after = score(Attempt(last, runs, others)), score(Attempt(last, runs, dearer))
        assert (before is None) == (after is None)
        assert before is None or after is None or after.total < before.total


@given(st.lists(ATTEMPTS, max_size=8), st.randoms())
def test_scores_follow_their_attempts_in_any_order(attempts: list[Attempt], random):
    order = list(range(len(attempts)))
    random.shuffle(order)
    scores = score_group(attempts, problem(), SETTINGS)
    assert score_group([attempts[i] for i in order], problem(), SETTINGS) == [scores[i] for i in order]


@given(st.lists(RUNS, min_size=1, max_size=4))
def test_passing_more_tests_never_lowers_the_total(runs: list[Run]):
    better = [Run(r.execution, Verdict(Outcome.PASSED, (True,) * 4, (), 0.1, "landlock")) if r.verdict is not None else r for r in runs]
    before, after = score(Attempt(workflow(), tuple(runs))), score(Attempt(workflow(), tuple(better)))
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after.total >= before.total - 1e-12
