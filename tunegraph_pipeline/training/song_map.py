"""The map: every track at a point in the plane, so that neighbours in the embedding are close together.

Here: the layout, as a pure function. Not here: drawing it (the page of the service, `evaluation.plots`), or
when it is computed (`pipeline.trained_model`).

The most liked tracks, the landmarks, are laid out by t-SNE (van der Maaten and Hinton 2008; scikit-learn's).
Every other track is placed by the landmarks it is most similar to. An earlier map can be kept and only new
tracks placed on it, so that people find a song where it was the day before.
"""

import numpy as np
from numpy.typing import NDArray

_LANDMARKS = 3_000
"""Most tracks laid out by t-SNE: as many as a screen can show, and it bounds time and memory."""
_PERPLEXITY = 20.0
_ITERATIONS = 500
_ROWS = 1024  # of similarities held at a time
_NEAR = 5  # landmarks that decide the place of another track
_WIDE = 80.0  # about the width of a t-SNE layout in its own units, which `_beside` uses
_SPREAD = 99.0  # per cent of the tracks that fill the map except for its margin ...
_MARGIN = 0.03  # ... which is left to the few far outside, so that they do not squash the rest


def map_of(
    embeddings: NDArray[np.float32], popularity: NDArray[np.integer], *, seed: int = 0
) -> NDArray[np.float32]:
    """A place on the map for each track: float32[N, 2] in [0, 1]. Near is alike, far says little.

    ``embeddings`` float32[N, d], rows of unit length. ``popularity`` int[N] chooses the landmarks where there
    are more than 3,000 tracks, the smaller index on a tie. The same input and seed give the same map on the
    same machine.
    """
    n = len(embeddings)
    landmarks = np.sort(np.argsort(-popularity.astype(np.int64), kind="stable")[:_LANDMARKS])
    places = np.empty((n, 2))
    places[landmarks] = _laid_out(embeddings[landmarks], seed)
    others = np.setdiff1d(np.arange(n), landmarks, assume_unique=True)
    places[others] = _beside(embeddings, others, landmarks, places[landmarks])
    return _framed(places).astype(np.float32)


def map_with_new(
    embeddings: NDArray[np.float32],
    popularity: NDArray[np.integer],
    earlier: NDArray[np.float32],
    settled: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """An earlier map, float32[M, 2] in [0, 1], with the tracks added that had no place on it: float32[N, 2].

    ``settled`` bool[M] marks the tracks that had one; they stay where they were, and the most liked of them
    are the landmarks for all others. Other arguments as for `map_of`; raises ValueError where nothing is
    settled.
    """
    old = np.flatnonzero(settled)
    if not len(old):
        raise ValueError("nothing has a place on the earlier map")
    landmarks = np.sort(old[np.argsort(-popularity[old].astype(np.int64), kind="stable")[:_LANDMARKS]])
    places = np.empty((len(embeddings), 2), dtype=np.float32)
    places[old] = earlier[old]
    new = np.setdiff1d(np.arange(len(embeddings)), old, assume_unique=True)
    at = earlier[landmarks].astype(np.float64) * _WIDE
    places[new] = _beside(embeddings, new, landmarks, at) / _WIDE
    return places


def _laid_out(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """t-SNE of these: float64[n, 2]."""
    n = len(embeddings)
    if n < 4:
        return np.arange(2.0 * n).reshape(n, 2)
    from sklearn.manifold import TSNE

    # In one dimension there are no two principal components to start from.
    start = "pca" if embeddings.shape[1] > 1 else "random"
    forces = TSNE(
        perplexity=min(_PERPLEXITY, (n - 1) / 3),
        init=start,
        max_iter=_ITERATIONS,
        random_state=seed,
        n_jobs=1,  # sums in one order
    )
    # Duplicates a little apart: t-SNE cannot separate points that start at one place.
    parted = embeddings + np.random.default_rng(seed).normal(scale=1e-3, size=embeddings.shape)
    places: NDArray[np.float64] = forces.fit_transform(parted.astype(np.float32)).astype(np.float64)
    return places


def _beside(
    embeddings: NDArray[np.float32],
    tracks: NDArray[np.int64],
    landmarks: NDArray[np.int64],
    at: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The places of ``tracks`` by their cosines with the landmarks, which are ``at``: float64[m, 2].

    A weighted mean of the places of the most similar landmarks, in which those far from the most similar one
    count little: a plain mean would put a track between two clusters into the void.
    """
    k = min(_NEAR, len(landmarks))
    placed = np.empty((len(tracks), 2))
    for start in range(0, len(tracks), _ROWS):
        cosines = embeddings[tracks[start : start + _ROWS]] @ embeddings[landmarks].T
        near = np.argpartition(cosines, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(cosines, near, 1), axis=1, kind="stable")
        near = np.take_along_axis(near, order, 1)
        alike = np.take_along_axis(cosines, near, 1).astype(np.float64)
        around = at[near]
        apart = around - around[:, :1]
        weight = np.exp(20 * (alike - alike[:, :1])) / (1 + np.einsum("ijk,ijk->ij", apart, apart)) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        placed[start : start + _ROWS] = np.einsum("ij,ijk->ik", weight, around)
    return placed


def _framed(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale both axes alike into [0, 1]: nearly all places between the margins, outliers within them."""
    if not len(places):
        return places
    tail = (100 - _SPREAD) / 2
    low, high = np.percentile(places, [tail, 100 - tail], axis=0)
    half = max(float((high - low).max()) / 2, 1e-9)
    place = (places - (low + high) / 2) / half * (0.5 - _MARGIN)
    inner = np.clip(place, _MARGIN - 0.5, 0.5 - _MARGIN)
    over = place - inner
    framed: NDArray[np.float64] = 0.5 + inner + np.sign(over) * _MARGIN * -np.expm1(-np.abs(over) / _MARGIN)
    return framed
