"""Confidence intervals: by bootstrap of means over users, of one metric or of the difference of two models;
and of shares, by Wilson's formula.

Here: resampling users, and the interval of a counted share. Not here: the metrics (`metrics`). The same seed
draws the same users for every metric, so two models are always compared on the same resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
_BLOCK_ENTRIES = 1 << 22  # users drawn at a time: three arrays of 32 MB


class Interval(NamedTuple):
    """A mean over users and the bounds of its confidence interval, 95 % unless another level is asked for."""

    mean: float
    low: float
    high: float


def resampled_means(
    values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Mean of each row of ``values`` float64[v, m] over m users drawn with replacement.

    Returns float64[v, resamples]. All rows are resampled alike. Raises ValueError without users.
    """
    n_users = values.shape[1]
    if not n_users:
        raise ValueError("no user to resample")
    rng = np.random.default_rng(seed)
    means = np.empty((len(values), resamples))
    block = max(1, _BLOCK_ENTRIES // n_users)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, n_users, (size, n_users))
        drawn += np.arange(size)[:, np.newaxis] * n_users
        times = np.bincount(drawn.ravel(), minlength=size * n_users).reshape(size, n_users)
        means[:, start : start + size] = values @ times.T / n_users
    return means


def intervals(
    values: NDArray[np.float64], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Percentile bootstrap interval (Efron 1979) of the mean of each row of ``values`` float64[v, m].

    For two models, pass the differences user by user: the interval is then paired.
    """
    means = resampled_means(values, resamples=resamples, seed=seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return [
        Interval(float(mean), float(lowest), float(highest))
        for mean, lowest, highest in zip(values.mean(axis=1), low, high, strict=True)
    ]


def wilson_interval(
    shares: NDArray[np.float64], n: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval (Wilson 1927) of each of ``shares`` float64[m], counted over ``n`` int[m] >= 1 cases:
    the lower and the upper bounds, float64[m], from 0 to 1. It has a width also where a share is 0."""
    squared = 1.959964**2 / n
    middle = (shares + squared / 2) / (1 + squared)
    half = np.sqrt(squared * (shares * (1 - shares) + squared / 4)) / (1 + squared)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
