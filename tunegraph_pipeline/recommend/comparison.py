"""Two tastes, compared: how alike they are, what they share, and what is typical of each.

Here: that, for two lists of liked songs. Not here: songs for both of them (`together`), or the score of one
song (`recommender`). numpy alone.
"""

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.recommender import Recommender, SongView, UnknownSongsError

_MOST_TYPICAL = 8
_FEWEST_SONGS = 2  # of a list that have what is typical of it, unless it has fewer


class Bridge(NamedTuple):
    """A song of the one list and a song of the other that are alike."""

    a: SongView
    b: SongView
    cosine: float


class Comparison(NamedTuple):
    """``likeness``: the cosine of the two tastes, at least 0. ``common``: the songs that both like, in the
    order of the first list. ``bridges``: the pairs that are most alike, each song in one at most. ``only``:
    the genres most typical of each list beside the other, or artists where no genre is known. ``unknown``:
    the ids of each list that are not in the bundle."""

    likeness: float
    common: list[SongView]
    bridges: list[Bridge]
    only: tuple[list[str], list[str]]
    unknown: tuple[list[str], list[str]]


def compare(recommender: Recommender, one: Sequence[str], other: Sequence[str], k: int = 10) -> Comparison:
    """Compare two lists of liked songs, with at most k bridges. Raises UnknownSongsError where no song of
    one of them is known.

    >>> compare(recommender, ["4uLU6hMCjMI75M1A2tKUQC"], ["2Fxmhks0bxGSBdJ92vM42m"])  # doctest: +SKIP
    Comparison(likeness=0.31, common=[], bridges=[...], only=(["rock"], ["soul"]), unknown=([], []))
    """
    bundle = recommender.bundle
    lists: list[NDArray[np.int32]] = []
    unknown: list[list[str]] = []
    for likes in (one, other):
        tracks, missing = recommender.look_up(likes)
        if not tracks.size:
            raise UnknownSongsError(f"bundle {bundle.version} has no song of one of the two lists")
        lists.append(np.array(list(dict.fromkeys(tracks.tolist())), dtype=np.int32))
        unknown.append(missing)
    a, b = lists
    tastes = [recommender.ranker.taste(tracks).astype(np.float64) for tracks in lists]
    return Comparison(
        float(np.clip(tastes[0] @ tastes[1], 0.0, 1.0)),
        recommender.describe(a[np.isin(a, b)]),
        _bridges(recommender, a[np.isin(a, b, invert=True)], b[np.isin(b, a, invert=True)], k),
        _typical(recommender, a, b),
        (unknown[0], unknown[1]),
    )


def _bridges(recommender: Recommender, a: NDArray[np.int32], b: NDArray[np.int32], k: int) -> list[Bridge]:
    embeddings = recommender.bundle.embeddings
    # Rounded, so that the order is the same with any BLAS.
    cosines = np.round((embeddings[a] @ embeddings[b].T).astype(np.float64), 5)
    pairs: list[tuple[int, int, float]] = []
    while len(pairs) < min(k, *cosines.shape):
        row, column = np.unravel_index(int(cosines.argmax()), cosines.shape)
        if cosines[row, column] <= 0:
            break
        pairs.append((int(a[row]), int(b[column]), float(cosines[row, column])))
        cosines[row, :] = cosines[:, column] = -1.0
    songs = recommender.describe(np.array([track for pair in pairs for track in pair[:2]], dtype=np.int32))
    return [
        Bridge(first, second, pair[2])
        for first, second, pair in zip(songs[::2], songs[1::2], pairs, strict=True)
    ]


def _typical(
    recommender: Recommender, a: NDArray[np.int32], b: NDArray[np.int32]
) -> tuple[list[str], list[str]]:
    genres = [Counter(name for names in recommender.genres.of(tracks) for name in names) for tracks in (a, b)]
    if not any(genres):
        genres = [Counter(filter(None, map(recommender.first_artist, tracks.tolist()))) for tracks in (a, b)]
    (first, second), (n_a, n_b) = genres, (len(a), len(b))
    return _more_typical(first, n_a, second, n_b), _more_typical(second, n_b, first, n_a)


def _more_typical(names: Counter[str], n: int, others: Counter[str], n_others: int) -> list[str]:
    """The names whose share is larger than among others, those that tell most first."""
    fewest = min(_FEWEST_SONGS, n)
    worth = {
        name: count / n * log((count + 0.5) / (n + 1) * (n_others + 1) / (others[name] + 0.5))
        for name, count in names.items()
        if count >= fewest
    }
    best = sorted((name for name in worth if worth[name] > 0), key=lambda name: (-worth[name], name))
    return best[:_MOST_TYPICAL]
