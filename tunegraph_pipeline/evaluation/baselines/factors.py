"""Latent vectors: implicit ALS and LightGCN, from the libraries that people use.

Here: driving those libraries, and what a user they have not seen is scored with. Not here: our own model
(`training`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines.common import (
    Baseline,
    inverse_root,
    rank_in_blocks,
)
from tunegraph_pipeline.graph.csr import rows_of
from tunegraph_pipeline.training.adam import Adam

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.progress import Progress


class Als(Baseline):
    """Implicit ALS: weighted matrix factorisation (Hu, Koren and Volinsky 2008), by the library `implicit`.

    A like has confidence alpha, its absence 1. Every user is folded in: their vector is the least-squares
    solution for their likes, given the vectors of the tracks, so a user never seen costs the same.

    Raises InputError where the library is not installed.
    """

    name = "als"
    _model: Any

    @property
    def tracks(self) -> NDArray[np.float32]:
        """float32[N, d], the vectors of the tracks."""
        return np.asarray(self._model.item_factors)

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        config = self._config
        try:
            from implicit.cpu.als import AlternatingLeastSquares
        except ImportError:
            raise InputError(
                "baseline als needs the library implicit: pip install 'tunegraph-pipeline[als]'"
            ) from None
        from threadpoolctl import threadpool_limits

        def count(iteration: int, *_: Any) -> None:
            if progress:
                progress("ALS: iterations", iteration + 1, config.als_iterations)

        # It runs its own threads; BLAS threads inside them would compete for the cores.
        with threadpool_limits(1, "blas"):
            self._model = AlternatingLeastSquares(
                factors=config.als_factors,
                regularization=config.als_regularisation,
                alpha=config.als_alpha,
                iterations=config.als_iterations,
                random_state=config.seed,
            )
            self._model.fit(train, show_progress=False, callback=count)

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):
            # `implicit` multiplies its argument by alpha in place, hence the copy.
            users = self._model.recalculate_user(np.arange(likes.shape[0]), likes.copy())
        return np.asarray(users @ self.tracks.T, dtype=np.float32)


class LightGcn(Baseline):
    """LightGCN (He 2020), PyG's, trained with BPR: propagation over the graph of users and tracks.

    e^(l+1) = D^-½ A D^-½ e^(l), and a node is the mean of its layers. A user of the training matrix is scored
    with their own embedding (`rank_known`). One who was never seen has no e^(0); their later layers follow
    from those of the tracks they like, and `rank` scores with those.
    """

    name = "lightgcn"
    users: NDArray[np.float32]
    """float32[U, d], set by ``fit``."""
    tracks: NDArray[np.float32]
    """float32[N, d], set by ``fit``."""
    losses: list[float]
    """Mean loss of each epoch, set by ``fit``."""
    _heard: NDArray[np.float32]  # [N, d], what a track adds to a user who likes it

    def _learn(self, train: csr_matrix, progress: Progress | None) -> None:
        import torch
        from torch_geometric.nn.models import LightGCN

        config = self._config
        n_users, n_tracks = train.shape
        rng = np.random.default_rng(config.seed)
        adjacency = _adjacency(train, self._popularity)
        # Normalised once, above, and not again in every layer of every step.
        network = LightGCN(
            n_users + n_tracks, config.lightgcn_dimension, config.lightgcn_layers, normalize=False
        )
        with torch.no_grad():
            start = rng.standard_normal(network.embedding.weight.shape, dtype=np.float32) * np.float32(0.1)
            network.embedding.weight.copy_(torch.from_numpy(start))
        optimiser = Adam(network.parameters(), config.lightgcn_learning_rate)
        liked_user = rows_of(train)
        steps = max(1, -(-train.nnz // config.lightgcn_batch))
        self.losses = []
        for epoch in range(config.lightgcn_epochs):
            order = rng.permutation(train.nnz)
            total = 0.0
            for step in range(steps):
                batch = order[step * config.lightgcn_batch : (step + 1) * config.lightgcn_batch]
                users = liked_user[batch]
                others = _not_liked(train, users, rng)
                user, liked, other = (
                    torch.from_numpy(part.astype(np.int64))
                    for part in (users, n_users + train.indices[batch], n_users + others)
                )
                optimiser.zero_grad()
                nodes = network.get_embedding(adjacency)
                loss = network.recommendation_loss(
                    (nodes[user] * nodes[liked]).sum(dim=1),
                    (nodes[user] * nodes[other]).sum(dim=1),
                    node_id=torch.cat([user, liked, other]),
                    lambda_reg=config.lightgcn_regularisation,
                )
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(batch)
                if progress:
                    progress("LightGCN: steps", epoch * steps + step + 1, config.lightgcn_epochs * steps)
            self.losses.append(total / max(1, train.nnz))
        self._keep(network, adjacency, n_users)

    def _keep(self, network: Any, adjacency: Any, n_users: int) -> None:
        import torch

        with torch.no_grad():
            nodes = network.get_embedding(adjacency).numpy()
            layer = network.embedding.weight
            heard = torch.zeros_like(layer)
            for conv, share in zip(network.convs, network.alpha[1:], strict=True):
                heard += share * layer
                layer = conv(layer, adjacency)
        self.users, self.tracks = nodes[:n_users].copy(), nodes[n_users:].copy()
        self._heard = heard.numpy()[n_users:] * inverse_root(self._popularity)[:, np.newaxis]

    def _scores(self, likes: csr_matrix) -> NDArray[np.float32]:
        return np.asarray(self._unseen(likes) @ self.tracks.T, dtype=np.float32)

    def _unseen(self, likes: csr_matrix) -> NDArray[np.float32]:
        """The vectors of users who were not in training, float32[m, d]."""
        scale = inverse_root(np.diff(likes.indptr).astype(np.float32))
        vectors: NDArray[np.float32] = scale[:, np.newaxis] * (likes @ self._heard)
        return vectors

    def rank_known(self, users: NDArray[np.int64], likes: csr_matrix, k: int) -> Ranked:
        """As `rank`, with users int64[m] the training row of each, -1 for a user who has none."""
        vectors = self._unseen(likes)
        known = users >= 0
        vectors[known] = self.users[users[known]]
        position = 0  # blocks come in order

        def score(rows: csr_matrix) -> NDArray[np.float32]:
            nonlocal position
            block = vectors[position : position + rows.shape[0]]
            position += rows.shape[0]
            return np.asarray(block @ self.tracks.T, dtype=np.float32)

        return rank_in_blocks(score, likes, k, self._popularity, self._config.score_bytes)


def _adjacency(train: csr_matrix, popularity: NDArray[np.float32]) -> Any:
    """D^-½ [[0, A], [Aᵀ, 0]] D^-½ as a sparse CSR tensor, users first."""
    from scipy.sparse import block_array, csr_matrix, diags_array

    from tunegraph_pipeline.models.sparse import torch_csr

    of_users = inverse_root(np.diff(train.indptr).astype(np.float32))
    scaled = diags_array(of_users) @ train @ diags_array(inverse_root(popularity))
    both = csr_matrix(block_array([[None, scaled], [scaled.T, None]]), dtype=np.float32)
    return torch_csr(both)


def _not_liked(train: csr_matrix, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A track each user does not like, drawn uniformly; after ten tries a liked one may stay: int64[m]."""
    n_tracks = train.shape[1]
    drawn = rng.integers(0, n_tracks, len(users))
    for _ in range(10):
        liked = np.flatnonzero(np.asarray(train[users, drawn]).ravel())
        if not liked.size:
            break
        drawn[liked] = rng.integers(0, n_tracks, len(liked))
    return drawn
