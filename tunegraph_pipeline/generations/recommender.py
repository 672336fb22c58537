"""The earlier generations as contenders, each with its own way of searching.

Here: fitting a generation and ranking the whole catalogue with it, the K-d tree of V1 and V2, what a new user
costs V2, and the 300 candidates of the first V3. Not here: how they learn (`training`), judging a ranking
(`evaluation.compare`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig, rank_in_blocks, top_k
from tunegraph_pipeline.generations.training import (
    V1,
    V2,
    GenerationConfig,
    TrainedGeneration,
    V3Seed,
    train_generation,
)
from tunegraph_pipeline.graph.csr import lists_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    from tunegraph_pipeline.evaluation.contender import Material
    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.progress import Progress

CANDIDATES = 300
"""Tracks that a query of the first V3 considers."""


class GenerationRanking:
    """A generation as a `Contender`. ``by_search``: rank by :meth:`search`, not the whole catalogue."""

    def __init__(self, config: GenerationConfig, *, by_search: bool = False) -> None:
        self.config = config
        self._by_search = by_search
        self.trained: TrainedGeneration

    def fit(self, material: Material, progress: Progress | None = None) -> None:
        """Learn from likes and audio features. Raises InputError as `train_generation` does."""
        self.trained = train_generation(material.data, self.config, progress=progress)
        self.__dict__.pop("_tree", None)

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best of all placed tracks for each row of ``likes`` (m x N): int32[m, k], padded with -1.

        What a row likes is left out; ties go to the smaller index; an empty row gets the most popular.
        """
        return self.search(likes, k) if self._by_search else self._rank_all(likes, k)

    def _rank_all(self, likes: csr_matrix, k: int) -> Ranked:
        generation = self.trained.generation
        score_bytes = BaselineConfig().score_bytes
        return rank_in_blocks(generation.scores, likes, k, generation.popularity, score_bytes)

    def search(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best for each row of ``likes`` as the generation itself found them: int32[m, k].

        V1 and V2 query a K-d tree for the nearest points. As all points have unit length, ``|x - y|² = 2 - 2
        cos(x, y)``: the nearest have the highest cosine, and the answer equals that of :meth:`rank` except
        for ties. V3 draws `CANDIDATES` tracks, others for every list but the same for the same list and seed,
        and returns the best k of them. A row without a placed track gets the most popular.
        """
        generation = self.trained.generation
        usable = generation.usable(likes)
        asked = np.flatnonzero(np.diff(usable.indptr))
        if len(asked) < likes.shape[0]:
            ranked = self._rank_all(likes, k)
            ranked[asked] = self.search(likes[asked], k)
            return ranked
        if isinstance(generation, V3Seed):
            return self._best_candidates(generation, usable, likes, k)
        assert isinstance(generation, V1 | V2)
        return _nearest(*self._tree, generation.queries(usable), likes, k)

    def new_user(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best for somebody who has just arrived with these likes (1 x N): int32[1, k].

        V2 has to add them to its graph, run the model on all of it and rebuild its tree; the others answer as
        they answer anyone.
        """
        generation = self.trained.generation
        usable = generation.usable(likes)
        if not isinstance(generation, V2) or not usable.nnz:
            return self.search(likes, k)
        songs, user = generation.with_new_user(usable)
        return _nearest(*_tree_of(songs, generation.placed), user[np.newaxis], likes, k)

    @cached_property
    def _tree(self) -> tuple[cKDTree, NDArray[np.int64]]:
        generation = self.trained.generation
        return _tree_of(generation.embeddings, generation.placed)

    def _best_candidates(self, generation: V3Seed, usable: csr_matrix, likes: csr_matrix, k: int) -> Ranked:
        placed = np.flatnonzero(generation.placed)
        ranked = np.full((likes.shape[0], k), -1, dtype=np.int32)
        for row, (known, liked) in enumerate(zip(lists_of(usable), lists_of(likes), strict=True)):
            rng = np.random.default_rng([self.config.seed, *np.sort(liked).tolist()])
            others = np.setdiff1d(placed, liked)
            drawn = np.sort(rng.choice(others, size=min(CANDIDATES, len(others)), replace=False))
            cosines = (generation.embeddings[known] @ generation.embeddings[drawn].T).max(axis=0)
            best = top_k(cosines[np.newaxis], min(k, len(drawn)))[0]
            ranked[row, : len(best)] = drawn[best]
        return ranked


def _tree_of(embeddings: NDArray[np.float32], placed: NDArray[np.bool_]) -> tuple[cKDTree, NDArray[np.int64]]:
    """The tree over the placed tracks, and the track of each of its points."""
    from scipy.spatial import cKDTree

    tracks = np.flatnonzero(placed)
    return cKDTree(embeddings[tracks]), tracks


def _nearest(
    tree: cKDTree, tracks: NDArray[np.int64], queries: NDArray[np.float32], likes: csr_matrix, k: int
) -> Ranked:
    """The k tracks nearest to each point that its row of ``likes`` does not hold, padded with -1."""
    ranked = np.full((len(queries), k), -1, dtype=np.int32)
    for row, (query, liked) in enumerate(zip(queries, lists_of(likes), strict=True)):
        # As many more as there are likes, which may all be nearer; ties go to the smaller index.
        answer = tree.query(query, k=np.arange(1, min(k + len(liked), len(tracks)) + 1))
        distance, found = (np.atleast_1d(part) for part in answer)
        track = tracks[found[np.lexsort((found, distance))]]
        best = track[~np.isin(track, liked)][:k]
        ranked[row, : len(best)] = best
    return ranked
