"""Random draws and ids for the simulated world; each a function of its generator or key.

Here: keys for generators, opaque ids, growth over time, ranks, weighted draws. Not here: the draws of songs
(`catalogue`) and people (`listeners`).
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Strings = NDArray[np.str_]

SECONDS_PER_DAY = 86_400
NEVER = 4_000_000
"""A day later than any date."""
SHARE_AFTER_A_YEAR = 0.8
"""The share of all users and songs that exist after the first year."""


class Shelf:
    """Weighted draws from the members of a group that exist by a given day.

    Members are sorted by group and day under one running sum of weights, so that "this scene's songs of the
    last ninety days" is an interval of it, and a draw takes two binary searches.
    """

    def __init__(self, group: Ints, day: Ints, weight: Floats) -> None:
        self._first = int(day.min())
        self._span = int(day.max()) - self._first + 2
        self._order = np.lexsort((day, group))
        self._place = group[self._order] * self._span + (day[self._order] - self._first)
        self._sum = np.concatenate([[0.0], np.cumsum(weight[self._order])])

    def draw(
        self, rng: np.random.Generator, group: ArrayLike, until: ArrayLike, since: ArrayLike | None = None
    ) -> Ints:
        """One member for each entry of ``group``, of those with ``since`` <= day <= ``until``; -1 if none."""
        base = np.asarray(group, np.int64) * self._span
        last = np.clip(np.asarray(until, np.int64) - self._first, -1, self._span - 2)
        first = 0 if since is None else np.clip(np.asarray(since, np.int64) - self._first, 0, self._span - 1)
        low = np.searchsorted(self._place, base + first)
        high = np.maximum(np.searchsorted(self._place, base + last, side="right"), low)
        aim = self._sum[low] + rng.random(base.shape) * (self._sum[high] - self._sum[low])
        found = np.clip(np.searchsorted(self._sum, aim, side="right") - 1, low, np.maximum(high - 1, low))
        found = np.minimum(found, len(self._order) - 1)
        return np.where(high > low, self._order[found], -1)


def key_of(*parts: object) -> bytes:
    """Sixteen bytes that are a function of ``parts``, to key a generator with."""
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=16).digest()


def unit(*parts: object) -> float:
    """A number in [0, 1) that is a function of ``parts`` alone."""
    key = "|".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64


def opaque_ids(rng: np.random.Generator, n: int) -> Strings:
    """``n`` ids of 22 base-62 characters, as music services give them."""
    letters = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
    codes = rng.integers(0, 62, (n, 22))
    codes[:, 0] %= 8  # 128 bits do not fill 22 characters
    return np.ascontiguousarray(letters[codes]).view("S22")[:, 0].astype(np.str_)


def growth(quantile: Floats, before: float, years: float, bend: float) -> Floats:
    """The day, counted from the start, by which a share ``quantile`` of all exists.

    The share ``before`` arrives in the ``years`` before the start, ever faster by ``bend``. Then growth is
    even until `SHARE_AFTER_A_YEAR` is reached after the first year, and slows down from there.
    """
    past = -365.0 * years * (1 - np.minimum(quantile / before, 1)) ** bend
    first_year = 365.0 * (quantile - before) / (SHARE_AFTER_A_YEAR - before)
    left = 1 - SHARE_AFTER_A_YEAR
    rest = np.clip((quantile - SHARE_AFTER_A_YEAR) / left, 0, 1 - 1e-9)
    later = 365.0 - 365.0 * left / (SHARE_AFTER_A_YEAR - before) * np.log1p(-rest)
    return np.where(quantile < before, past, np.where(quantile < SHARE_AFTER_A_YEAR, first_year, later))


def rank_within(group: Ints, rng: np.random.Generator) -> Ints:
    """A random rank, from 1, of each entry among those of its group."""
    order = np.lexsort((rng.random(len(group)), group))
    ordered = group[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(group)))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, sizes) + 1
    return rank


def pick(rng: np.random.Generator, weights: Floats) -> Ints:
    """A column for each row of ``weights`` (rows, columns), in proportion."""
    sums = np.cumsum(weights, axis=1)
    aim = rng.random(len(weights)) * sums[:, -1]
    chosen: Ints = np.minimum((sums <= aim[:, None]).sum(axis=1), weights.shape[1] - 1)
    return chosen
