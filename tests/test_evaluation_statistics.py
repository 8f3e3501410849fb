"""The statistics of the tables."""

from itertools import combinations

import numpy as np
import pytest

from trainer.evaluation.statistics import choice_noise, difference_of, interval, interval_over_runs, pass_at_k, sign_flip_test


@pytest.mark.parametrize(("samples", "right"), [(5, 0), (5, 1), (5, 3), (5, 5), (8, 2)])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_the_share_of_draws_of_k_samples_with_a_right_one(samples: int, right: int, k: int):
    draws = list(combinations(range(samples), k))
    assert pass_at_k(samples, right, k) == pytest.approx(sum(min(draw) < right for draw in draws) / len(draws))


def test_an_interval_holds_the_mean_and_narrows_with_the_problems():
    rng = np.random.default_rng(1)
    few, many = rng.random(40), rng.random(4000)
    widths = []
    for values in (few, many):
        low, high = interval(values.tolist(), 500)
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_an_interval_over_runs_is_wide_where_runs_differ_though_problems_do_not():
    alike = np.tile([[0.5]], (4, 50))
    apart = np.repeat([[0.2], [0.4], [0.6], [0.8]], 50, axis=1)
    assert interval_over_runs(alike, 500) == [0.5, 0.5]
    low, high = interval_over_runs(apart, 500)
    assert low < 0.35 and high > 0.65


def test_the_permutation_test_finds_a_constant_difference_and_none_in_noise():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, 100)
    assert sign_flip_test((noise - noise.mean()).tolist()) > 0.9
    assert sign_flip_test((noise * 0.01 + 0.1).tolist()) < 0.001
    assert sign_flip_test([0.0] * 10) == 1.0


def test_p_values_of_the_permutation_test_are_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(3)
    below = np.mean([sign_flip_test(rng.normal(0, 1, 20).tolist(), seed) < 0.2 for seed in range(200)])
    assert 0.12 < below < 0.28


def test_a_few_differences_of_one_sign_have_the_exact_p_value():
    assert sign_flip_test([0.3, 0.1, 0.2, 0.4, 0.5]) == pytest.approx(2 / 2**5, abs=0.01)


def test_a_difference_has_mean_interval_and_p_value():
    ours = np.array([[0.6, 0.8, 0.7, 0.9] * 20])
    found = difference_of(ours, ours - 0.1, "reward", 200)
    assert found == {"reward": 0.1, "reward_ci": [0.1, 0.1], "reward_p": 0.0001}


def test_choosing_on_more_problems_costs_less_by_chance():
    rng = np.random.default_rng(4)
    means = np.array([[0.5], [0.48], [0.46], [0.44]])
    noises = [choice_noise(means + rng.normal(0, 0.3, (4, problems)), 400) for problems in (30, 300, 30_000)]
    assert noises[0] > noises[1] > noises[2] and noises[2] < 0.001
    assert choice_noise(np.ones((1, 5)), 100) == 0.0
