"""The terms of the reward, each by itself."""

from hypothesis import given
from hypothesis import strategies as st

from reward import terms
from reward.settings import RewardSettings
from sandbox.records import Execution, OperatorCall, Run, Verdict
from workflow.outcome import Outcome

FINGERPRINTS = st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=16)


def run_with(calls: int, test_runs: int, *, dollars: float = 0.0, wall_s: float = 1.0, passed: tuple[bool, ...] = (True,)) -> Run:
    trace = (OperatorCall(0, "x", "", "", "", calls, test_runs, 0, 0, dollars, 0.0, 0.0),)
    outcome = Outcome.PASSED if all(passed) else Outcome.WRONG_ANSWER
    return Run(Execution(Outcome.ANSWERED, "answer", trace, "", wall_s, "landlock"), Verdict(outcome, passed, (), 0.1, "landlock"))


def test_performance_is_the_share_of_hidden_tests_passed():
    assert terms.performance(run_with(1, 0, passed=(True, False, True, True))) == 0.75
    assert terms.performance(Run(run_with(1, 0).execution, None)) == 0.0


def test_complexity_is_zero_for_a_single_call_and_clipped_at_the_top():
    settings = RewardSettings()
    assert terms.complexity(3, settings) == 0.0
    assert terms.complexity(1, settings) == 0.0
    assert terms.complexity(18, settings) == 1.0
    assert terms.complexity(1000, settings) == settings.complexity_max


@given(st.integers(0, 500), st.integers(0, 500))
def test_complexity_never_falls_with_size(one: int, other: int):
    settings = RewardSettings()
    low, high = sorted((one, other))
    assert terms.complexity(low, settings) <= terms.complexity(high, settings)


@given(FINGERPRINTS)
def test_the_mean_diversity_is_the_distinctness_ratio(fingerprints: list[str | None]):
    shares = terms.diversity(fingerprints)
    known = [fingerprint for fingerprint in fingerprints if fingerprint is not None]
    assert len(shares) == len(fingerprints)
    assert abs(sum(shares) - len(set(known))) < 1e-9
    assert all(share == 0 if fingerprint is None else 0 < share <= 1 for share, fingerprint in zip(shares, fingerprints, strict=True))


@given(FINGERPRINTS, st.randoms())
def test_diversity_does_not_depend_on_the_order_of_siblings(fingerprints: list[str | None], random):
    order = list(range(len(fingerprints)))
    random.shuffle(order)
    shares = terms.diversity(fingerprints)
    assert terms.diversity([fingerprints[i] for i in order]) == [shares[i] for i in order]


def test_calls_beyond_the_first_count_and_a_test_run_counts_its_share():
    settings = RewardSettings(test_run_calls=0.3)
    assert terms.calls([run_with(1, 0)], settings) == 0.0
    assert terms.calls([run_with(0, 0)], settings) == 0.0
    assert abs(terms.calls([run_with(3, 2)], settings) - 2.6) < 1e-9
    assert abs(terms.calls([run_with(3, 2), run_with(2, 0)], settings) - 4.6) < 1e-9  # two rounds: one first call


def test_cost_and_latency_are_dollars_and_seconds():
    run = run_with(1, 0, dollars=0.02, wall_s=3.5)
    assert (terms.cost([run]), terms.latency([run])) == (0.02, 3.5)
    assert (terms.cost([run, run]), terms.latency([run, run])) == (0.04, 7.0)
