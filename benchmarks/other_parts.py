"""What other methods would put in the place of the neighbour weights, or beside them, for `ablation.py`.

Here: each of these ways, as the parts of a score. Not here: judging them (`ablation.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array, hstack, vstack

from tunegraph_pipeline.evaluation.baselines.closed_form import Ease
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.graph.csr import rows_of
from tunegraph_pipeline.models.content import content_rows
from tunegraph_pipeline.models.encoder import spectral_start
from tunegraph_pipeline.training.blend import ScoreParts, pooled_queries
from tunegraph_pipeline.training.neighbour_weights import local_ridge
from tunegraph_pipeline.training.train import TrainingConfig, TrainingData

_USER_EXPONENT = 0.25
"""Of `local_ridge`: rows of likes are scaled by their length to the power of minus this."""
_PAIR = 8**-0.5
"""What a pair counts beside a song. With 1, as many as there are take away from songs."""
_DENSE = BaselineConfig().ease_max_tracks


class Weights(NamedTuple):
    """Neighbour weights that are solved in another way, weighed in another, or replaced.

    ``dropout``: p of EDLAE (Steck 2020), in which lambda + p / (1 - p) G_ii takes the place of lambda;
    ``settings``: others of the ridge; ``change``: what is done to the parts with the solved weights;
    ``length_exponent``: of the blend; ``by_length``: whether short and long lists have a blend each;
    ``most_tracks``: of a catalogue that is not too large for it.
    """

    dropout: float = 0.0
    settings: Mapping[str, Any] = MappingProxyType({})
    change: Callable[[ScoreParts, TrainingData, TrainingConfig], ScoreParts] | None = None
    length_exponent: float = 0.0
    by_length: bool = False
    most_tracks: float = float("inf")

    def parts(self, parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> ScoreParts:
        """``parts`` with the neighbour weights of the training likes and the content of ``data``."""
        config = config.model_copy(update=dict(self.settings))
        content = _content(data, config)
        # A row of X with a single entry adds its square to the diagonal of G, and to nothing else.
        weight = np.repeat(_scale(data.train) ** 2, np.diff(data.train.indptr))
        diagonal = np.bincount(data.train.indices, weight, minlength=data.train.shape[1])
        diagonal += np.asarray(content.multiply(content).sum(axis=0)).ravel()
        alone = diags_array(np.sqrt(self.dropout / (1 - self.dropout) * diagonal))
        (W,) = local_ridge(
            data.train,
            _neighbours(data, content, config),
            regularisations=(config.regularisation,),
            content=csr_matrix(vstack([content, alone]), dtype=np.float32),
            user_exponent=_USER_EXPONENT,
            memory_mib=config.memory_mib,
        )
        found = ScoreParts(parts.embeddings, parts.pooling_weight, W)
        return found if self.change is None else self.change(found, data, config)


def _content(data: TrainingData, config: TrainingConfig) -> csr_matrix:
    return config.content_weight * content_rows(data.track_artists, data.album)


def _scale(likes: csr_matrix) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.maximum(np.diff(likes.indptr), 1.0) ** -_USER_EXPONENT
    return lengths


def _neighbours(data: TrainingData, content: csr_matrix, config: TrainingConfig) -> csr_matrix:
    return strongest_neighbours(csr_matrix(vstack([data.train, content])), config.ridge_neighbours)


def squared(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> ScoreParts:
    """W + 0.3 W², where W has weights."""
    W = parts.weights
    return _plus(parts, lambda rows: (W[rows] @ W).toarray(), 0.3)


def low_pass(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> ScoreParts:
    """W and a tenth of the ideal low pass of the item graph, where W has weights: D^-½ V Vᵀ D^½, with V the
    first 256 singular vectors of the normalised likes (Shen et al. 2021)."""
    V, _ = np.linalg.qr(spectral_start(data.train, 256, seed=0))
    degrees = _degrees(data.train)[:, np.newaxis]
    left, right = V * degrees**-0.5, (V * degrees**0.5).T
    return _plus(parts, lambda rows: left[rows] @ right, 0.1)


def _degrees(likes: csr_matrix) -> NDArray[np.float32]:
    return np.maximum(np.bincount(likes.indices, minlength=likes.shape[1]), 1).astype(np.float32)


def _plus(parts: ScoreParts, more: Callable[[slice], NDArray[np.float32]], share: float) -> ScoreParts:
    """W plus a share of a matrix, whose rows are made a few at a time, where W has entries."""
    W = parts.weights.copy()
    for start in range(0, W.shape[0], 1024):
        rows = slice(start, min(start + 1024, W.shape[0]))
        entries = slice(W.indptr[rows.start], W.indptr[rows.stop])
        row = np.repeat(np.arange(rows.stop - rows.start), np.diff(W.indptr[rows.start : rows.stop + 1]))
        W.data[entries] += share * more(rows)[row, W.indices[entries]]
    return ScoreParts(parts.embeddings, parts.pooling_weight, W)


@dataclass(frozen=True)
class Dense(ScoreParts):
    """With dense weights, float32[N, N], in place of W."""

    matrix: NDArray[np.float32]

    def neighbours(self, lists: csr_matrix) -> NDArray[np.float32]:
        return np.asarray(lists @ self.matrix, dtype=np.float32)


def full_ease(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> Dense:
    """EASE (Steck 2019) of the rows that W is solved from, with a weight for every pair. Raises ValueError
    for a catalogue that is too large for a dense matrix."""
    X = vstack([diags_array(_scale(data.train)) @ data.train, _content(data, config)])
    ease = Ease(BaselineConfig(ease_lambda=config.regularisation))
    ease.fit(csr_matrix(X, dtype=np.float32))
    matrix = ease.precision
    matrix /= -np.diag(matrix).copy()
    np.fill_diagonal(matrix, 0)
    return Dense(parts.embeddings, parts.pooling_weight, parts.weights, matrix)


def cut_ease(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> ScoreParts:
    """Full EASE, of which each candidate keeps its largest weights, as many as in W: what a sparse
    approximate inverse (Spišák et al. 2023) approximates."""
    matrix = full_ease(parts, data, config).matrix
    most = config.ridge_neighbours
    kept = []
    for start in range(0, len(matrix), 1024):
        columns = matrix[:, start : start + 1024]
        least = np.partition(np.abs(columns), -most, axis=0)[-most]
        kept.append(csr_matrix(np.where(np.abs(columns) >= least, columns, 0)))
    return ScoreParts(parts.embeddings, parts.pooling_weight, csr_matrix(hstack(kept)))


@dataclass(frozen=True)
class Pairs(ScoreParts):
    """With further weights for pairs of songs: ``first`` and ``second`` int64[P], ``of_pairs`` csr P x N."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    of_pairs: csr_matrix

    def neighbours(self, lists: csr_matrix) -> NDArray[np.float32]:
        pairs = pairs_of(lists, self.first, self.second)
        return np.asarray(super().neighbours(lists) + (pairs @ self.of_pairs).toarray(), dtype=np.float32)


def pairs_of(lists: csr_matrix, first: NDArray[np.int64], second: NDArray[np.int64]) -> csr_matrix:
    """Which lists have both songs of each pair: csr float32 ones, m x P."""
    columns = lists.astype(np.float32).tocsc()
    return csr_matrix(columns[:, first].multiply(columns[:, second]))


def with_pairs(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> Pairs:
    """The 10,000 pairs of neighbours that most users like are further inputs of the ridge, 50 a track (Steck
    and Liang 2021). No pair says anything of its own songs."""
    most, a_track = 10_000, 50
    near = strongest_neighbours(data.train, config.ridge_neighbours)
    first, second = rows_of(near).astype(np.int64), near.indices.astype(np.int64)
    both = near.data * np.sqrt(_degrees(data.train)[first] * _degrees(data.train)[second])
    both[first >= second] = 0
    most = min(most, int(np.count_nonzero(both)))
    best = np.argsort(-both, kind="stable")[:most]
    first, second = first[best], second[best]
    pairs = pairs_of(data.train, first, second)
    content, n_tracks = _content(data, config), data.train.shape[1]
    together = _near_pairs(data.train, pairs, (first, second), a_track)
    neighbours = csr_matrix(
        vstack([hstack([_neighbours(data, content, config), together]), csr_matrix((most, n_tracks + most))])
    )
    # Scaled by the length of the list here, since pairs do not make a list longer.
    inputs = diags_array(_scale(data.train)) @ hstack([data.train, _PAIR * pairs])
    (W,) = local_ridge(
        csr_matrix(inputs, dtype=np.float32),
        neighbours,
        regularisations=(config.regularisation,),
        content=csr_matrix(hstack([content, csr_matrix((content.shape[0], most))]), dtype=np.float32),
        user_exponent=0.0,
        memory_mib=2 * config.memory_mib,
    )
    songs, of_pairs = W[:n_tracks, :n_tracks], _PAIR * W[n_tracks:, :n_tracks]
    return Pairs(parts.embeddings, parts.pooling_weight, songs, first, second, of_pairs)


def _near_pairs(
    likes: csr_matrix, pairs: csr_matrix, songs: tuple[NDArray[np.int64], ...], most: int
) -> csr_matrix:
    """The pairs that are strongest neighbours of each track, ``most`` at most and none with the track itself:
    csr N x P."""
    n_tracks, n_pairs = likes.shape[1], pairs.shape[1]
    rows = csr_matrix((diags_array(_scale(likes) ** 2) @ likes).T)
    scale = _degrees(pairs) ** np.float32(-0.5)
    found = []
    for start in range(0, n_tracks, 512):
        both = (rows[start : start + 512] @ pairs).toarray() * scale
        for song in songs:
            here = np.flatnonzero((song >= start) & (song < start + 512))
            both[song[here] - start, here] = 0
        if n_pairs > most:
            both[both < np.partition(both, -most, axis=1)[:, -most:].min(axis=1, keepdims=True)] = 0
        found.append(csr_matrix(both))
    return csr_matrix(vstack(found))


@dataclass(frozen=True)
class Filtered(ScoreParts):
    """With a filter of the item graph in place of ``kept`` of the neighbour weights.

    ``normalised``: csr users x N, D_u^-½ A D_i^-½; ``degrees`` float32[N]; ``coefficients`` of the filter in
    Chebyshev polynomials of the graph Laplacian; ``scale``: brings it to the size of the weights.
    """

    normalised: csr_matrix
    degrees: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    kept: float
    scale: float

    def neighbours(self, lists: csr_matrix) -> NDArray[np.float32]:
        filtered = self.filtered(lists) * np.float32(self.scale * (1 - self.kept))
        if self.kept:
            filtered += np.float32(self.kept) * super().neighbours(lists)
        return filtered

    def filtered(self, lists: csr_matrix) -> NDArray[np.float32]:
        """float32[m, N]: lists D_i^-½ h(L) D_i^½, where L = I - RᵀR has eigenvalues between 0 and 1."""
        last = (lists @ diags_array(self.degrees**-0.5)).toarray().T.astype(np.float32)
        R = self.normalised

        def step(signal: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(signal - 2 * (R.T @ (R @ signal)), dtype=np.float32)  # 2 L - I, within -1 and 1

        now = step(last)
        total = self.coefficients[0] * last + self.coefficients[1] * now
        for coefficient in self.coefficients[2:]:
            last, now = now, 2 * step(now) - last
            total += coefficient * now
        return np.asarray((total * self.degrees[:, np.newaxis] ** 0.5).T, dtype=np.float32)


def chebyshev(kept: float) -> Callable[[ScoreParts, TrainingData, TrainingConfig], Filtered]:
    """A plateau filter of the item graph (Kim et al. 2025), a Chebyshev polynomial of order 8, in place of W,
    or beside as much of it as is ``kept``."""

    def change(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> Filtered:
        degrees = _degrees(data.train)
        lengths = np.maximum(np.diff(data.train.indptr), 1.0)
        R = csr_matrix(diags_array(lengths**-0.5) @ data.train @ diags_array(degrees**-0.5), dtype=np.float32)
        coefficients = np.asarray(Chebyshev.interpolate(plateau, 8).coef, dtype=np.float64)
        one = Filtered(
            parts.embeddings, parts.pooling_weight, parts.weights, R, degrees, coefficients, kept, 1.0
        )
        some = data.train[np.flatnonzero(np.diff(data.train.indptr) > 1)[:256]]
        is_other = np.ones(some.shape, dtype=np.bool_)
        is_other[some.nonzero()] = False
        scale = np.std(parts.neighbours(some)[is_other]) / np.std(one.filtered(some)[is_other])
        return Filtered(**{**vars(one), "scale": float(scale)})

    return change


def plateau(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The response to frequencies from -1, the lowest, to 1: from 1 it soon falls to a half, and in the end
    to 0."""
    return np.asarray(0.5 * (1 - np.sign(x) * np.abs(x) ** 4))


@dataclass(frozen=True)
class TwoInterests(ScoreParts):
    """With the songs of each list in two groups, and for each track the larger of its two cosines."""

    def cosines(self, lists: csr_matrix) -> NDArray[np.float32]:
        group = np.concatenate(
            [
                two_groups(self.embeddings[lists.indices[start:end]])
                for start, end in zip(lists.indptr[:-1], lists.indptr[1:], strict=True)
            ]
        )
        cosines = []
        for one in (0, 1):
            kept = lists.copy()
            kept.data = np.where(group == one, lists.data, 0).astype(np.float32)
            kept.eliminate_zeros()
            of_group = pooled_queries(kept, self.embeddings, self.pooling_weight) @ self.embeddings.T
            of_group[np.diff(kept.indptr) == 0] = -1
            cosines.append(of_group)
        return np.asarray(np.maximum(*cosines))


def two_groups(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The group of each row, 0 or 1, by 2-means of unit vectors, float32[n, d], from the one farthest from
    the mean and the one farthest from that. Fewer than four rows stay together."""
    if len(vectors) < 4:
        return np.zeros(len(vectors), dtype=np.int64)
    far = int((vectors @ vectors.sum(axis=0)).argmin())
    means = vectors[[far, int((vectors @ vectors[far]).argmin())]]
    group = np.zeros(len(vectors), dtype=np.int64)
    for _ in range(8):
        group = (vectors @ means.T).argmax(axis=1)
        for one in (0, 1):
            if (group == one).any():
                mean = vectors[group == one].sum(axis=0)
                means[one] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return group


def two_interests(parts: ScoreParts, data: TrainingData, config: TrainingConfig) -> TwoInterests:
    return TwoInterests(parts.embeddings, parts.pooling_weight, parts.weights)


WEIGHTS = {
    "as they are": Weights(),
    "EDLAE, p = 0.25": Weights(0.25),
    "EDLAE, p = 0.33": Weights(0.33),
    "EDLAE, p = 0.5": Weights(0.5),
    "200 neighbours": Weights(settings={"ridge_neighbours": 200}),
    "a weight for every pair: full EASE": Weights(change=full_ease, most_tracks=_DENSE),
    "full EASE, 100 a track kept": Weights(change=cut_ease, most_tracks=_DENSE),
    "pairs of songs as further rows": Weights(change=with_pairs),
    "+ 0.3 W²": Weights(change=squared),
    "+ 0.1 ideal low pass": Weights(change=low_pass),
    "a Chebyshev filter in their place": Weights(change=chebyshev(0.0)),
    "half of them, half a Chebyshev filter": Weights(change=chebyshev(0.5)),
    "two interests a list": Weights(change=two_interests),
    "length exponent 0.5": Weights(length_exponent=0.5),
    "a blend for short lists, one for long ones": Weights(by_length=True),
}
