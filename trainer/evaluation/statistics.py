"""The statistics of the tables: intervals, paired tests, pass@k, and how far a choice can be trusted. Arrays in, figures out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Figures = dict[str, Any]
FLIPS = 10_000
"""Random assignments of signs in a permutation test: p-values down to 0.0001."""
CHUNK = 500
"""Resamples that are in memory at once."""


def interval(values: Sequence[float], resamples: int, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the mean over problems."""
    return interval_over_runs(np.asarray(values, dtype=float)[None], resamples, seed)


def interval_over_runs(values_SP: np.ndarray, resamples: int, seed: int = 0) -> list[float]:
    """95 % bootstrap interval of the mean over S runs and P problems, both drawn anew in each resample."""
    rng = np.random.default_rng(seed)
    runs, problems = values_SP.shape
    means: list[np.ndarray] = []
    for first in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - first)
        chosen = rng.integers(0, problems, (size, problems))
        drawn = rng.integers(0, runs, (size, runs))
        means.append(values_SP[drawn[:, :, None], chosen[:, None, :]].mean(axis=(1, 2)))
    return [round(float(bound), 4) for bound in np.percentile(np.concatenate(means), [2.5, 97.5])]


def sign_flip_test(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of a paired permutation test: how often do random signs take the mean as far from 0 as it is.

    (Fisher's randomisation test; Smucker et al. 2007 compare it with others for means over queries.)
    """
    array = np.asarray(differences, dtype=float)
    rng = np.random.default_rng(seed)
    reached = 0
    for _ in range(0, FLIPS, CHUNK):
        signs = 2 * rng.integers(0, 2, (CHUNK, len(array)), dtype=np.int8) - 1
        reached += int((np.abs(signs @ array) >= abs(array.sum()) - 1e-12).sum())
    return round((1 + reached) / (1 + FLIPS), 4)


def difference_of(ours_SP: np.ndarray, theirs_SP: np.ndarray, name: str, resamples: int) -> Figures:
    """The mean of the one minus the other, with an interval over runs and problems, and a p-value that flips signs by problem."""
    differences_SP = ours_SP - theirs_SP
    return {
        name: round(float(differences_SP.mean()), 4),
        f"{name}_ci": interval_over_runs(differences_SP, resamples),
        f"{name}_p": sign_flip_test(differences_SP.mean(axis=0).tolist()),
    }


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that one of k samples is right, estimated without bias from ``right`` of ``samples`` (Chen et al. 2021, 2107.03374)."""
    assert 0 <= right <= samples and 1 <= k <= samples
    if samples - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - right + 1, samples + 1)))


def choice_noise(values_WP: np.ndarray, resamples: int, seed: int = 0) -> float:
    """What choosing the best of W candidates on P problems is expected to lose by its luck: the mean, over resampled problems, of how far
    the one that would be chosen there lies below the best."""
    rng = np.random.default_rng(seed)
    candidates, problems = values_WP.shape
    if candidates < 2:
        return 0.0
    weights = rng.multinomial(problems, np.full(problems, 1 / problems), resamples)  # how often each problem is drawn
    chosen = (values_WP @ weights.T).argmax(axis=0)
    means = values_WP.mean(axis=1)
    return float((means.max() - means[chosen]).mean())
