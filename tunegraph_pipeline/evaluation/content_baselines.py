"""Rankings by content alone: how a track sounds, and who made it.

Here: the two rules that a model has to beat on tracks nobody likes yet, as contenders. They learn nothing;
they use likes only to count popularity, for users without other information. Not here: baselines that learn
from likes (`baselines`), generations that learn from features (`generations`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig, ScoreRanking, likes_per_track
from tunegraph_pipeline.graph.csr import lists_of
from tunegraph_pipeline.models.content import encode_features

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.contender import Material
    from tunegraph_pipeline.progress import Progress

_UNKNOWN = -2.0  # the score of a track without features, below every cosine


class FeatureNeighbours(ScoreRanking):
    """Neighbours in the space of standardised features (`models.content.encode_features`).

    With x_i the encoded features of track i and L the liked tracks that have any,

        score(j) = 1/|L| sum_{i in L} cos(x_i, x_j),     or with ``nearest``   max_{i in L} cos(x_i, x_j).

    Tracks without features come last. A list without a track that has features gets the most popular.
    """

    def __init__(self, config: BaselineConfig, *, nearest: bool = False) -> None:
        super().__init__(config)
        self._nearest = nearest
        self._known: NDArray[np.bool_]
        self._directions: NDArray[np.float32]
        """float32[N, F], encoded features of unit length, zero where unknown; set by ``fit``."""

    def fit(self, material: Material, progress: Progress | None = None) -> None:
        """Encode the features. Raises InputError where none are known."""
        features = material.data.features
        self._known = np.asarray(np.isfinite(features).any(axis=1))
        if not self._known.any():
            raise InputError("it ranks by audio features, and no track has any")
        self._popularity = likes_per_track(material.likes)
        # Without the last column, which only says whether any are known.
        encoded = encode_features(features, self._popularity > 0)[:, :-1]
        length = np.linalg.norm(encoded, axis=1, keepdims=True)
        self._directions = encoded / np.maximum(length, 1e-12).astype(np.float32)

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        scores = self.cosines(likes)
        without_features = np.asarray(likes @ self._known.astype(np.float32)) == 0
        scores[without_features] = self._popularity
        return scores

    def cosines(self, likes: csr_matrix) -> NDArray[np.float32]:
        """The score of every track for each row of ``likes``: float32[m, N], 0 where the row has no features.

        Tracks without features have -2, less than any cosine.
        """
        scores = np.zeros(likes.shape, dtype=np.float32)
        for row, liked in enumerate(lists_of(likes)):
            rows = self._directions[liked[self._known[liked]]]
            if len(rows) and self._nearest:
                scores[row] = (self._directions @ rows.T).max(axis=1)
            elif len(rows):
                scores[row] = self._directions @ rows.mean(axis=0)
        scores[:, ~self._known] = _UNKNOWN
        return scores


class SameArtist(ScoreRanking):
    """More by the artists of what is liked.

        score(j) = sum_{a in artists(j)} |{i in L : a in artists(i)}|  +  tie(j),    0 <= tie(j) < 1,

    with ties broken by the mean cosine of `FeatureNeighbours`, or by popularity where no track has features.
    """

    _artists: csr_matrix
    """csr float32, N x artists; set by ``fit``."""
    _sound: FeatureNeighbours | None

    def fit(self, material: Material, progress: Progress | None = None) -> None:
        """Read the artists. Raises InputError where none are known."""
        from scipy.sparse import csr_matrix

        self._artists = csr_matrix(material.data.track_artists, dtype=np.float32)
        if not self._artists.nnz:
            raise InputError("it ranks by artists, and no track has any")
        self._popularity = likes_per_track(material.likes)
        self._sound = None
        if np.isfinite(material.data.features).any():
            self._sound = FeatureNeighbours(self._config)
            self._sound.fit(material)

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        of_lists = likes @ self._artists
        scores: NDArray[np.float32] = (of_lists @ self._artists.T).toarray().astype(np.float32)
        scores += self._popularity / (self._popularity.max() + 1) if self._sound is None else self._tie(likes)
        return scores

    def _tie(self, likes: csr_matrix) -> NDArray[np.float32]:
        """Cosines scaled to between 0 and 1, both excluded."""
        assert self._sound is not None
        return ((1.001 + self._sound.cosines(likes).clip(-1, 1)) / 2.003).astype(np.float32)
