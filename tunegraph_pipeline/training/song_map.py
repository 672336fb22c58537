"""The map: every track at a place in the plane, so that neighbours in the embedding lie together.

Here: the layout, as a pure function. Not here: drawing it (the page of the service, `evaluation.plots`), or
when it is made (`orchestration`).

It is t-SNE (van der Maaten and Hinton 2008; scikit-learn's) on the most liked tracks, as many as a bound
allows. Every other track lies by the ones it is most like. A map that is there can be kept, and only what is
new placed on it: who has learnt where a song lies finds it there the next day.
"""

import numpy as np
from numpy.typing import NDArray

_LANDMARKS = 3_000
"""How many tracks are laid out by forces: as many as a screen can show, and it bounds time and memory."""
_PERPLEXITY = 20.0
_ITERATIONS = 500
_ROWS = 1024  # of similarities held at a time
_NEAR = 5  # landmarks among which another track finds its place
_WIDE = 80.0  # what t-SNE lays out spans about so many of its own units, which `_beside` measures in
_SPREAD = 99.0  # per cent of the tracks that take up the map but for its margin ...
_MARGIN = 0.03  # ... which is left to the few far outside, so that they do not squash the rest


def map_of(
    embeddings: NDArray[np.float32], popularity: NDArray[np.integer], *, seed: int = 0
) -> NDArray[np.float32]:
    """A place on the map for each track: float32[N, 2] in [0, 1]. Near is alike, far says little.

    ``embeddings`` float32[N, d], rows of unit length. ``popularity`` int[N] decides which tracks are laid out
    by forces where there are more than 3,000, the smaller index on a tie. The same input and seed give the
    same map on the same machine.
    """
    n = len(embeddings)
    landmarks = np.sort(np.argsort(-popularity.astype(np.int64), kind="stable")[:_LANDMARKS])
    places = np.empty((n, 2))
    by_forces = embeddings[landmarks]
    places[landmarks] = _laid_out(by_forces, seed)
    others = np.setdiff1d(np.arange(n), landmarks, assume_unique=True)
    for start in range(0, len(others), _ROWS):
        rows = others[start : start + _ROWS]
        places[rows] = _beside(embeddings[rows] @ by_forces.T, places[landmarks])
    return _framed(places).astype(np.float32)


def map_with_new(
    embeddings: NDArray[np.float32],
    popularity: NDArray[np.integer],
    earlier: NDArray[np.float32],
    settled: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """An earlier map, float32[M, 2] in [0, 1], with the tracks added that had no place on it: float32[N, 2].

    ``settled`` bool[M] tells those that had one; they stay where they were. Every other of the N tracks lies
    by the most liked of them that it is most like. Other arguments as for `map_of`; raises ValueError where
    nothing is settled.
    """
    old = np.flatnonzero(settled)
    if not len(old):
        raise ValueError("nothing has a place on the earlier map")
    landmarks = np.sort(old[np.argsort(-popularity[old].astype(np.int64), kind="stable")[:_LANDMARKS]])
    places = np.empty((len(embeddings), 2), dtype=np.float32)
    places[old] = earlier[old]
    new = np.setdiff1d(np.arange(len(embeddings)), old, assume_unique=True)
    at = earlier[landmarks].astype(np.float64) * _WIDE
    for start in range(0, len(new), _ROWS):
        rows = new[start : start + _ROWS]
        places[rows] = _beside(embeddings[rows] @ embeddings[landmarks].T, at) / _WIDE
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
    # Twins a little apart: t-SNE cannot part what starts at one place.
    parted = embeddings + np.random.default_rng(seed).normal(scale=1e-3, size=embeddings.shape)
    places: NDArray[np.float64] = forces.fit_transform(parted.astype(np.float32)).astype(np.float64)
    return places


def _beside(cosines: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where tracks lie among landmarks they are as like as float32[m, L]: float64[m, 2].

    By the most alike one; of the next ones, those have a say that lie by it too. A mean of all would put a
    track that is like two clusters into the void between them.
    """
    k = min(_NEAR, len(places))
    near = np.argpartition(cosines, -k, axis=1)[:, -k:]
    near = np.take_along_axis(
        near, np.argsort(-np.take_along_axis(cosines, near, 1), axis=1, kind="stable"), 1
    )
    alike = np.take_along_axis(cosines, near, 1).astype(np.float64)
    around = places[near]
    apart = around - around[:, :1]
    say = np.exp(20 * (alike - alike[:, :1])) / (1 + np.einsum("ijk,ijk->ij", apart, apart)) ** 2
    placed: NDArray[np.float64] = np.einsum("ij,ijk->ik", say / say.sum(axis=1, keepdims=True), around)
    return placed


def _framed(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into [0, 1], both axes by one scale: nearly all between the margins, the farthest within them."""
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
