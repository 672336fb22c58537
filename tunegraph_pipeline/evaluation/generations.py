"""The generations and today's model as rankings that can be judged, and searched as each of them was.

Here: fitting a generation and ranking the whole catalogue with it, the K-d tree of V1 and V2, what a new user
costs V2, the 300 candidates of the first V3, and today's model behind the bundle it is served from. Not here:
how they learn (`training`) and what a ranking is worth (`evaluate`).
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.evaluation.baselines import BaselineConfig, likes_per_track, rank_in_blocks, top_k
from tunegraph_pipeline.evaluation.evaluate import served
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.training.generations import (
    V1,
    V2,
    GenerationConfig,
    TrainedGeneration,
    V3Seed,
    train_generation,
)
from tunegraph_pipeline.training.train import TrainedModel, TrainingConfig, TrainingData, train

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.training.loop import Progress

CANDIDATES = 300
"""Tracks a query of the first V3 looks at."""


class GenerationRanking:
    """A generation behind ``fit`` and ``rank``, like `baselines.Baseline`; it needs features as well."""

    def __init__(self, config: GenerationConfig, score_bytes: int = BaselineConfig().score_bytes) -> None:
        self.config = config
        self.name: str = config.generation
        self._score_bytes = score_bytes
        self.trained: TrainedGeneration

    def fit(self, train: csr_matrix, features: NDArray[np.float32], progress: Progress | None = None) -> None:
        """Learn from ``train``, csr float32 of ones, users x N, and ``features`` float32[N, 11] with NaN
        where unknown, for all epochs. Raises InputError as `train_generation` does."""
        self.fit_data(only(train, features), progress)

    def fit_data(self, data: TrainingData, progress: Progress | None = None) -> None:
        """Learn from data with users to stop early by."""
        self.trained = train_generation(data, self.config, progress=progress)
        self.__dict__.pop("_tree", None)

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best of all placed tracks for each row of ``likes`` (m x N): int32[m, k], padded with -1.

        What a row likes is left out; ties go to the smaller index; an empty row gets what is popular.
        """
        generation = self.trained.generation
        return rank_in_blocks(generation.scores, likes, k, generation.popularity, self._score_bytes)

    def search(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best for each row of ``likes`` as the generation itself found them: int32[m, k].

        V1 and V2 ask a K-d tree for the nearest points. As all points have unit length, ``|x - y|² = 2 - 2
        cos(x, y)``: the nearest are those of highest cosine, and the answer is that of :meth:`rank` but for
        ties. V3 draws `CANDIDATES` tracks, anew for every list but the same for the same list and seed, and
        returns the best k of them. A row without a placed track gets what is popular.
        """
        generation = self.trained.generation
        usable = generation.usable(likes)
        asked = np.flatnonzero(np.diff(usable.indptr))
        if len(asked) < likes.shape[0]:
            ranked = self.rank(likes, k)
            ranked[asked] = self.search(likes[asked], k)
            return ranked
        if isinstance(generation, V3Seed):
            return self._best_candidates(generation, usable, likes, k)
        assert isinstance(generation, V1 | V2)
        return _nearest(*self._tree, generation.queries(usable), likes, k)

    def new_user(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best for somebody who has just arrived with these likes (1 x N): int32[1, k].

        V2 has to put them into its graph, run the model on all of it and build its tree anew; the others
        answer as they answer anyone.
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
        for row, (known, liked) in enumerate(zip(_lists(usable), _lists(likes), strict=True)):
            rng = np.random.default_rng([self.config.seed, *np.sort(liked).tolist()])
            others = np.setdiff1d(placed, liked)
            drawn = np.sort(rng.choice(others, size=min(CANDIDATES, len(others)), replace=False))
            cosines = (generation.embeddings[known] @ generation.embeddings[drawn].T).max(axis=0)
            best = top_k(cosines[np.newaxis], min(k, len(drawn)))[0]
            ranked[row, : len(best)] = drawn[best]
        return ranked


class ServedModel:
    """Today's model, judged by what a bundle of it answers."""

    name = "tunegraph"

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.trained: TrainedModel
        self.recommender: Recommender
        self._folder: tempfile.TemporaryDirectory[str]

    def fit(self, train: csr_matrix, features: NDArray[np.float32], progress: Progress | None = None) -> None:
        """Learn from likes and features alone, for all epochs; see :meth:`GenerationRanking.fit`."""
        self.fit_data(only(train, features), progress)

    def fit_data(self, data: TrainingData, progress: Progress | None = None) -> None:
        """Learn from all there is, and write the bundle."""
        self.trained = train(data, self.config, progress=progress)
        self._folder = tempfile.TemporaryDirectory()
        bundle = Path(self._folder.name) / "bundle"
        write_bundle(bundle, bundle_of(self.trained, data.train))
        self.recommender = Recommender(Bundle.open(bundle))

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        """As `Baseline.rank`, by the very ranking that is served."""
        return served(self.recommender)(likes, k)

    def search(self, likes: csr_matrix, k: int) -> Ranked:
        return self.rank(likes, k)

    def new_user(self, likes: csr_matrix, k: int) -> Ranked:
        """A new user is a query like any other."""
        return self.rank(likes, k)


def only(train: csr_matrix, features: NDArray[np.float32]) -> TrainingData:
    """Likes and features, with neither artists and albums nor anything held out."""
    from scipy.sparse import csr_matrix

    n_tracks = train.shape[1]
    nobody = csr_matrix(np.zeros((0, n_tracks), dtype=np.float32))
    return TrainingData(
        train=train,
        context=nobody,
        targets=nobody,
        features=features,
        track_artists=csr_matrix(np.zeros((n_tracks, 0), dtype=np.bool_)),
        album=np.full(n_tracks, -1, dtype=np.int32),
    )


def bundle_of(model: TrainedModel, train: csr_matrix) -> BundleContent:
    """A bundle of a model and its training likes, in which ids are numbers and nothing has a name."""
    n_users, n_tracks = train.shape
    facts: dict[str, Any] = {
        "bundle_version": "judged",
        "model_version": "judged",
        "blend": {
            "embedding": model.blend.embedding,
            "neighbour": model.blend.neighbour,
            "length_exponent": model.blend.length_exponent,
        },
    }
    popularity = likes_per_track(train).astype(np.int32)
    return BundleContent(
        track_ids=[str(track) for track in range(n_tracks)],
        embeddings=model.embeddings,
        pooling_weight=model.pooling_weight,
        popularity=popularity,
        recommendable=popularity > 0,
        prior=model.prior,
        neighbour_indptr=model.neighbour_indptr,
        neighbour_indices=model.neighbour_indices,
        neighbour_weight=model.neighbour_weight,
        user_ids=[str(user) for user in range(n_users)],
        user_indptr=train.indptr.astype(np.int64),
        user_tracks=train.indices.astype(np.int32),
        names=[""] * n_tracks,
        artists=[""] * n_tracks,
        image_urls=[""] * n_tracks,
        preview_urls=[""] * n_tracks,
        facts=facts,
    )


def _tree_of(embeddings: NDArray[np.float32], placed: NDArray[np.bool_]) -> tuple[cKDTree, NDArray[np.int64]]:
    """The tree over the placed tracks, and which track each of its points is."""
    from scipy.spatial import cKDTree

    tracks = np.flatnonzero(placed)
    return cKDTree(embeddings[tracks]), tracks


def _nearest(
    tree: cKDTree, tracks: NDArray[np.int64], queries: NDArray[np.float32], likes: csr_matrix, k: int
) -> Ranked:
    """The k tracks nearest to each point that its row of ``likes`` does not hold, padded with -1."""
    ranked = np.full((len(queries), k), -1, dtype=np.int32)
    for row, (query, liked) in enumerate(zip(queries, _lists(likes), strict=True)):
        # As many more as there are likes, which may all be nearer; ties in the order of the index.
        answer = tree.query(query, k=np.arange(1, min(k + len(liked), len(tracks)) + 1))
        distance, found = (np.atleast_1d(part) for part in answer)
        track = tracks[found[np.lexsort((found, distance))]]
        best = track[~np.isin(track, liked)][:k]
        ranked[row, : len(best)] = best
    return ranked


def _lists(likes: csr_matrix) -> list[NDArray[np.int32]]:
    """The tracks of each row."""
    return [likes.indices[start:end] for start, end in pairwise(likes.indptr.tolist())]
