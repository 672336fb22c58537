"""The scoring rule over the arrays of a bundle: for liked tracks, the best k and the liked track behind each.

Here: arithmetic on track indices, for one list or for many, equal to the last bit. Not here: ids, names and
what a person is told (`recommender`), or where the arrays lie (`bundle`).

A list L of n > 0 liked tracks asks with ``q = normalise(sum_{i in L} pooling_weight[i] E[i])``, and

    score[j] = blend.embedding * E[j].q  +  blend.neighbour * n**-blend.length_exponent * sum_{i in L} W[i, j]
               + prior[j]

Liked tracks and tracks that are not recommendable are left out; ties go to the smaller index.

Two ways of multiplying the same matrices differ in the last bits of a float32, and with them the order of
near-equal tracks. So BLAS only draws up a shortlist, wide enough that rounding cannot have kept a winner out
of it; the few tracks on it are scored again in float64, in an order of summation that depends on nothing
else, and ranked by that score rounded to float32. One list alone and the same list among 50,000 therefore
rank alike, whatever BLAS, block or number of threads.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle

Progress = Callable[[str, int, int], None]

_EPSILON = float(np.finfo(np.float32).eps)
_DOTS_BLOCK = 4096
_GROUP = 64  # scores of which the largest alone is compared, see `_shortlist`
_LOWEST = float(np.finfo(np.float32).min)


class Rankings(NamedTuple):
    """The best tracks of m lists, best first, padded where fewer than k could be recommended.

    ``indices`` int32[m, k], -1 where padded; ``scores`` float32[m, k], -inf where padded; ``because``
    int32[m, k], the liked track that contributed most, -1 where there is none or none was asked for.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    because: NDArray[np.int32]


@dataclass(frozen=True)
class Blend:
    """How the parts of the score are weighed; tuned in training, served here."""

    embedding: float
    neighbour: float
    length_exponent: float

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        return cls(*(float(facts[name]) for name in ("embedding", "neighbour", "length_exponent")))


class _Query(NamedTuple):
    """What a list asks with: its tracks, ascending and distinct, and their normalised pooled embedding."""

    liked: NDArray[np.int32]
    rows: NDArray[np.float32]  # [n, d], the embeddings of the liked tracks
    direction: NDArray[np.float32]  # [d], unit length, or zero where the liked tracks cancel out
    length: float  # of the pooled embedding before it was normalised


class _Neighbours(NamedTuple):
    """The cached rows of the liked tracks end to end, already weighed, and their sum for every track."""

    columns: NDArray[np.intp]
    weights: NDArray[np.float64]
    ends: NDArray[np.int64]  # [n], where the row of each liked track ends in the two above
    sums: NDArray[np.float64]  # [N]


class Ranker:
    """Ranks the whole catalogue of a bundle. Holds no mutable state: threads may share it."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.blend = Blend.from_facts(bundle.facts["blend"])
        # One addition both adds the prior and leaves out what may not be recommended.
        self._base = np.where(bundle.recommendable, bundle.prior, np.float32(-np.inf)).astype(np.float32)
        # Bounds the rounding error of a score in units of epsilon: d products of unit vectors, and the prior.
        largest_prior = float(np.abs(bundle.prior).max(initial=0))
        self._rounding = 2 * abs(self.blend.embedding) * (bundle.dimension + 8) + 8 * largest_prior

    def rank(
        self,
        lists: Sequence[NDArray[np.int32]],
        k: int,
        *,
        explain: bool = False,
        block_bytes: int = 32 << 20,
        progress: Progress | None = None,
    ) -> Rankings:
        """The best k tracks for each list of liked track_idx, in any order and with or without repeats.

        An empty list gets the most popular tracks, each with its number of likes as the score. Scores are
        held for one block of lists at a time, in about ``block_bytes`` bytes.
        """
        n_tracks = self.bundle.n_tracks
        rankings = Rankings(
            np.full((len(lists), k), -1, dtype=np.int32),
            np.full((len(lists), k), -np.inf, dtype=np.float32),
            np.full((len(lists), k), -1, dtype=np.int32),
        )
        per_block = max(1, block_bytes // max(1, 4 * n_tracks))
        scores = np.empty((min(per_block, len(lists)), n_tracks), dtype=np.float32)
        for start in range(0, len(lists), per_block):
            queries = [self._query(liked) for liked in lists[start : start + per_block]]
            directions = np.stack([query.direction for query in queries])
            block = scores[: len(queries)]
            np.matmul(directions * np.float32(self.blend.embedding), self.bundle.embeddings.T, out=block)
            for row, query in enumerate(queries):
                indices, values, because = self._best(block[row], query, k, explain=explain)
                found = len(indices)
                rankings.indices[start + row, :found] = indices
                rankings.scores[start + row, :found] = values
                rankings.because[start + row, :found] = because
            if progress is not None:
                progress("rank users", start + len(queries), len(lists))
        return rankings

    def rank_one(
        self,
        liked: NDArray[np.int32],
        k: int,
        *,
        explain: bool = True,
        exclude: NDArray[np.int32] | None = None,
    ) -> Rankings:
        """The same for one list: three arrays of one dimension, at most k long and never padded.

        The tracks in ``exclude`` are left out as if they were liked, but say nothing about taste.
        """
        query = self._query(liked)
        scores = self.bundle.embeddings @ (query.direction * np.float32(self.blend.embedding))
        return self._best(scores, query, k, explain=explain, exclude=exclude)

    def nearest(self, track: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k recommendable tracks nearest to one track, itself left out, and their cosines."""
        direction = self.bundle.embeddings[track]
        cosines = self.bundle.embeddings @ direction
        cosines[~self.bundle.recommendable] = -np.inf
        cosines[track] = -np.inf
        shortlist = _shortlist(cosines, k, direction.size)
        exact = _dots(self.bundle.embeddings, shortlist, direction).astype(np.float32)
        order = _descending(exact)[:k]
        return shortlist[order].astype(np.int32), exact[order]

    def _query(self, liked: NDArray[np.int32]) -> _Query:
        liked = _distinct(liked)
        if liked.size and not 0 <= liked[0] <= liked[-1] < self.bundle.n_tracks:
            raise IndexError(f"liked tracks {liked[0]}..{liked[-1]} of {self.bundle.n_tracks}")
        rows = self.bundle.embeddings[liked]
        # einsum and not BLAS: the sum must come out the same however many threads BLAS may use.
        pooled = np.einsum("i,ij->j", self.bundle.pooling_weight[liked], rows)
        length = math.sqrt(np.einsum("j,j->", pooled, pooled))
        return _Query(liked, rows, pooled / np.float32(length) if length > 0 else pooled, length)

    def _best(
        self,
        scores: NDArray[np.float32],
        query: _Query,
        k: int,
        *,
        explain: bool,
        exclude: NDArray[np.int32] | None = None,
    ) -> Rankings:
        """The best k, given the embedding part of every track's score, which is overwritten."""
        left_out = query.liked if exclude is None else np.union1d(query.liked, exclude)
        if not query.liked.size:
            return self._popular(k, left_out)
        near = self._neighbours(query.liked)
        scores += near.sums.astype(np.float32)
        scores += self._base
        scores[left_out] = -np.inf
        shortlist = _shortlist(scores, k, self._rounding)
        exact = self.blend.embedding * _dots(self.bundle.embeddings, shortlist, query.direction)
        exact += near.sums[shortlist]
        exact += self._base[shortlist]
        rounded = exact.astype(np.float32)
        order = _descending(rounded)[:k]
        winners = shortlist[order].astype(np.int32)
        because = self._because(query, near, winners) if explain else np.full_like(winners, -1)
        return Rankings(winners, rounded[order], because)

    def _popular(self, k: int, left_out: NDArray[np.int32]) -> Rankings:
        candidates = self.bundle.popular_order[: k + len(left_out)]
        winners = candidates[np.isin(candidates, left_out, invert=True)][:k]
        scores = self.bundle.popularity[winners].astype(np.float32)
        return Rankings(winners, scores, np.full_like(winners, -1))

    def _neighbours(self, liked: NDArray[np.int32]) -> _Neighbours:
        starts = self.bundle.neighbour_indptr[liked]
        lengths = self.bundle.neighbour_indptr[liked + 1] - starts
        ends = lengths.cumsum()
        # Places of the rows end to end: a gather of all costs less than a slice a row.
        places = np.arange(ends[-1])
        places += np.repeat(starts - ends + lengths, lengths)
        columns = self.bundle.neighbour_indices[places].astype(np.intp)
        scale = self.blend.neighbour * len(liked) ** -self.blend.length_exponent
        weights = np.multiply(self.bundle.neighbour_weight[places], scale, dtype=np.float64)
        # bincount adds in the order of the input, in float64: one list has one sum, wherever it is computed.
        sums = np.bincount(columns, weights, minlength=self.bundle.n_tracks).astype(np.float64, copy=False)
        return _Neighbours(columns, weights, ends, sums)

    def _because(self, query: _Query, near: _Neighbours, winners: NDArray[np.int32]) -> NDArray[np.int32]:
        """The liked track with the largest contribution to each winner, -1 where none is above zero.

        Liked track i adds to the score of j ``blend.embedding * pooling_weight[i] * E[i].E[j] / length`` plus
        its own neighbour weight; summed over i that is the score without the prior.
        """
        contributions = (self.bundle.embeddings[winners] @ query.rows.T).astype(np.float64)
        if query.length > 0:
            contributions *= self.bundle.pooling_weight[query.liked] * (self.blend.embedding / query.length)
        place = np.zeros(self.bundle.n_tracks, dtype=np.int32)
        place[winners] = np.arange(1, len(winners) + 1)
        places = place[near.columns]
        (hits,) = places.nonzero()
        owners = near.ends.searchsorted(hits, side="right")
        cells = (places[hits] - 1) * len(query.liked) + owners
        np.add.at(contributions.reshape(-1), cells, near.weights[hits])
        strongest = contributions.argmax(axis=1)
        speaks = contributions.max(axis=1) > 0
        return np.where(speaks, query.liked[strongest], -1).astype(np.int32)


def _distinct(tracks: NDArray[np.int32]) -> NDArray[np.int32]:
    """``np.unique`` for the short lists of a query, in a fraction of its fixed cost."""
    if (tracks[1:] > tracks[:-1]).all():  # stored lists are kept so
        return tracks
    tracks = np.sort(tracks)
    return np.delete(tracks, np.flatnonzero(tracks[1:] == tracks[:-1]))


def _shortlist(scores: NDArray[np.float32], k: int, rounding: float) -> NDArray[np.intp]:
    """Indices, ascending, of every track that may be among the best k once rounding is undone.

    ``scores`` are off the exact ones by at most ``rounding + 8 |score|`` units of float32's epsilon; -inf
    marks what is left out. The k-th largest of the maxima of disjoint groups is no larger than the k-th
    largest score, and costs one pass that vectorises, where a selection over all scores costs many. Only the
    few groups whose maximum reaches that bar are looked into.
    """
    if k >= scores.size:
        return np.flatnonzero(scores >= np.float32(_LOWEST))
    width = min(_GROUP, max(1, scores.size // (4 * k)))
    groups = scores.size // width
    table, rest = scores[: groups * width].reshape(width, groups), scores[groups * width :]
    maxima = table.max(axis=0)
    bar = float(np.partition(maxima, groups - k)[groups - k])
    lowest = np.float32(_LOWEST)
    if bar > _LOWEST:
        lowest = np.float32(bar - 2 * _EPSILON * (rounding + 8 * abs(bar)))
    (reached,) = (maxima >= lowest).nonzero()
    # Rows of the table are stretches of the catalogue, so what is found comes in ascending order.
    row, column = (table[:, reached] >= lowest).nonzero()
    found = row * groups + reached[column]
    (after,) = (rest >= lowest).nonzero()
    return np.concatenate([found, after + groups * width]) if after.size else found


def _dots(
    embeddings: NDArray[np.float32], tracks: NDArray[np.intp], direction: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Dot product of the embedding of each track with ``direction``: float64, each summed on its own.

    In blocks, because a shortlist may be the whole catalogue.
    """
    dots = np.empty(len(tracks))
    for start in range(0, len(tracks), _DOTS_BLOCK):
        block = slice(start, start + _DOTS_BLOCK)
        dots[block] = np.multiply(embeddings[tracks[block]], direction, dtype=np.float64).sum(axis=1)
    return dots


def _descending(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """The order of falling scores; equal ones stay in the order they came in."""
    return np.argsort(-scores, kind="stable")
