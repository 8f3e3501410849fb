"""The terms of the reward, each by itself, and one that a user adds."""

import pickle
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.compose import compose_settings
from reward.attempt import Attempt, Repeat, repeats_of
from reward.check_terms import problems_of_terms
from reward.group import score_group
from reward.score import Score
from reward.settings import RewardSettings, RewardWeights
from reward.terms import TERMS
from sandbox.records import Execution, OperatorCall, Run, Verdict
from tests.scripted_parts import problem
from workflow.outcome import Outcome
from workflow.program import Workflow

FINGERPRINTS = st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=16)


def run_with(
    calls: int, test_runs: int, *, dollars: float = 0.0, wall_s: float = 1.0, passed: tuple[bool, ...] = (True,), operator: str = "x"
) -> Run:
    trace = (OperatorCall(0, operator, "", "", "", calls, test_runs, 0, 0, dollars, 0.0, 0.0),)
    outcome = Outcome.PASSED if all(passed) else Outcome.WRONG_ANSWER
    return Run(Execution(Outcome.ANSWERED, "answer", trace, "", wall_s, "landlock"), Verdict(outcome, passed, (), 0.1, "landlock"))


def attempt(*rounds: Run, fingerprint: str | None = "a", units: int = 3) -> Attempt:
    workflow = Workflow("class Workflow: ...", fingerprint, ("generate",), 0, 0, 0, units) if fingerprint is not None else None
    return Attempt(workflow, rounds[:1], tuple((run,) for run in rounds[1:]))


def value(term: str, one: Attempt, *siblings: Attempt, settings: RewardSettings | None = None) -> float:
    (repeat,) = repeats_of([one, *siblings], one, problem(), settings or RewardSettings())
    return TERMS[term](repeat)


def complexity(units: int) -> float:
    return value("complexity", attempt(run_with(1, 0), units=units))


def diversity(fingerprints: list[str | None]) -> list[float]:
    group = [attempt(*([run_with(1, 0, operator=name)] if name else []), fingerprint=name) for name in fingerprints]
    return [value("diversity", one, *(other for other in group if other is not one)) for one in group]


def test_an_operator_that_asked_nobody_and_tested_nothing_makes_no_workflow_another_one():
    run = run_with(1, 0, operator="generate")
    free = OperatorCall(1, "ensemble", "", "", "", 0, 0, 0, 0, 0.0, 0.0, 0.0)
    padded = Run(replace(run.execution, trace=(*run.execution.trace, free)), run.verdict)
    assert value("diversity", attempt(run, fingerprint="a"), attempt(padded, fingerprint="b")) == 0.5
    paid = Run(replace(run.execution, trace=(*run.execution.trace, replace(free, test_runs=1))), run.verdict)
    assert value("diversity", attempt(run, fingerprint="a"), attempt(paid, fingerprint="b")) == 1.0


def test_performance_is_the_share_of_hidden_tests_passed():
    assert value("performance", attempt(run_with(1, 0, passed=(True, False, True, True)))) == 0.75
    assert value("performance", attempt(Run(run_with(1, 0).execution, None))) == 0.0
    assert value("performance", attempt(fingerprint=None)) == 0.0


def test_complexity_is_zero_for_a_single_call_and_clipped_at_the_top():
    assert complexity(3) == 0.0
    assert complexity(1) == 0.0
    assert complexity(18) == 1.0
    assert complexity(1000) == RewardSettings().complexity_max


@given(st.integers(0, 500), st.integers(0, 500))
def test_complexity_never_falls_with_size(one: int, other: int):
    low, high = sorted((one, other))
    assert complexity(low) <= complexity(high)


@given(FINGERPRINTS)
def test_the_mean_diversity_is_the_distinctness_ratio(fingerprints: list[str | None]):
    shares = diversity(fingerprints)
    known = [fingerprint for fingerprint in fingerprints if fingerprint is not None]
    assert len(shares) == len(fingerprints)
    assert abs(sum(shares) - len(set(known))) < 1e-9
    assert all(share == 0 if fingerprint is None else 0 < share <= 1 for share, fingerprint in zip(shares, fingerprints, strict=True))


@given(FINGERPRINTS, st.randoms())
def test_diversity_does_not_depend_on_the_order_of_siblings(fingerprints: list[str | None], random):
    order = list(range(len(fingerprints)))
    random.shuffle(order)
    shares = diversity(fingerprints)
    assert diversity([fingerprints[i] for i in order]) == [shares[i] for i in order]


def test_siblings_that_ran_the_same_operators_are_alike_whatever_else_their_workflows_hold():
    same, other = [attempt(run_with(1, 0), fingerprint=name) for name in "abc"], attempt(run_with(1, 0, operator="y"), fingerprint="d")
    assert [value("diversity", one, *(each for each in [*same, other] if each is not one)) for one in [*same, other]] == [1 / 3] * 3 + [1]
    by_way = attempt(run_with(1, 0, operator="y"), fingerprint="a")
    assert value("diversity", other, by_way, same[0]) == 1 / 3, "the one that ran the same has the skeleton of another"


def test_calls_beyond_the_first_count_and_a_test_run_counts_its_share():
    settings = RewardSettings(test_run_calls=0.3)
    assert value("calls", attempt(run_with(1, 0)), settings=settings) == 0.0
    assert value("calls", attempt(run_with(0, 0)), settings=settings) == 0.0
    assert abs(value("calls", attempt(run_with(3, 2)), settings=settings) - 2.6) < 1e-9
    assert abs(value("calls", attempt(run_with(3, 2), run_with(2, 0)), settings=settings) - 4.6) < 1e-9  # two rounds: one first call


def test_cost_and_latency_are_dollars_and_seconds():
    run = run_with(1, 0, dollars=0.02, wall_s=3.5)
    assert (value("cost", attempt(run)), value("latency", attempt(run))) == (0.02, 3.5)
    assert (value("cost", attempt(run, run)), value("latency", attempt(run, run))) == (0.04, 7.0)


def words(repeat: Repeat) -> float:
    """Words that the policy wrote."""
    return float(sum(len(text.split()) for text in repeat.attempt.texts))


def breaks_without_an_answer(repeat: Repeat) -> float:
    assert repeat.run is not None and repeat.run.verdict is not None
    return 1.0


def infinite(repeat: Repeat) -> float:
    return float("inf")


NOT_A_TERM = 3
OWN = f"{__name__}:words"


def weights(**others: float) -> RewardSettings:
    return RewardSettings(weights=RewardWeights.model_validate(others))


def test_a_term_of_ones_own_changes_the_reward_by_its_weight():
    wordy = Attempt(attempt(run_with(1, 0)).workflow, (run_with(1, 0),), texts=("a plan of five words",), tokens=9)
    (plain,), (weighted,) = (score_group([wordy], problem(), weights(**one)) for one in ({}, {OWN: -0.01}))
    assert plain is not None and weighted is not None
    assert weighted.terms == {**plain.terms, "words": 5.0}
    assert weighted.total == pytest.approx(plain.total - 0.05)


def test_a_term_of_ones_own_lowers_the_floor_and_never_raises_it():
    for weight, total in ((-0.01, -0.25), (0.01, -0.2)):
        (score,) = score_group([Attempt(None, (), texts=("a plan of five words",))], problem(), weights(**{OWN: weight}))
        assert score is not None and score.floored and score.total == pytest.approx(total)


def test_a_registered_term_without_a_weight_counts_nothing_and_is_logged():
    (score,) = score_group([attempt(run_with(1, 0, wall_s=3.5))], problem(), RewardSettings())
    assert score is not None and score.total == 1.0 and score.terms["latency"] == 3.5
    assert list(score.terms)[:6] == list(RewardWeights.model_fields)


def test_the_name_of_a_module_may_be_nested_as_the_command_line_makes_it():
    module, name = __name__.split(".")
    for values in ({module: {f"{name}:words": -0.01}}, {module: {name: {"words": -0.01}}}, {f"{module}.{name}.words": -0.01}):
        assert RewardWeights.model_validate(values).by_name[OWN] == -0.01
    assert RewardWeights.model_validate(RewardWeights.model_validate({OWN: 1.0}).model_dump()).by_name[OWN] == 1.0
    assert compose_settings([f"reward.weights.{module}.{name}.words=-0.01"]).reward.weights.by_name[OWN] == -0.01


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"callz": 0.1}, r"reward.weights=callz is unknown; the nearest is calls: name one of performance, "),
        ({f"{__name__}:no_such": 0.1}, r"no_such cannot be imported \(AttributeError"),
        ({f"{__name__}:NOT_A_TERM": 0.1}, r"NOT_A_TERM is a int, which this setting has no use for"),
        ({"cost": float("nan")}, r"reward.weights.cost=nan is no finite number"),
        (
            {f"{__name__}:breaks_without_an_answer": 0},
            r"breaks_without_an_answer fails \(AssertionError.*made-up attempt, one that crashed",
        ),
        ({f"{__name__}:infinite": 0.1}, r"The reward term infinite is inf: return a finite number"),
        ({f"{__name__}:complexity": 0.1}, r"complexity=0.1: there is a term complexity already, with its own weight"),
    ],
)
def test_a_weight_without_a_term_and_a_term_that_fails_are_refused_with_a_sentence(values: dict[str, float], said: str):
    found = list(problems_of_terms(weights(**values)))
    assert len([one for one in found if re.search(said, one)]) == 1, found


def test_a_score_survives_pickling_and_so_does_one_of_an_earlier_version():
    score = Score(0.5, {"performance": 1.0, "words": 5.0}, floored=False)
    assert pickle.loads(pickle.dumps(score)) == score
    earlier = Score.__new__(Score)
    earlier.__setstate__([0.5, 0.75, 0.1, 1.0, 2.0, 0.001, 3.5, False])
    terms = {"performance": 0.75, "complexity": 0.1, "diversity": 1.0, "calls": 2.0, "cost": 0.001, "latency": 3.5}
    assert earlier == Score(0.5, terms, floored=False)
