"""The track encoder: one vector of unit length per track, from its id, its content and its neighbours.

Here: the network, the sparse products it needs, its initial id vectors and its graph. Importing this module
imports torch. Not here: the training objective (`training/objective.py`), who is a neighbour
(`graph/co_like.py`).
"""

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunegraph_pipeline.graph.csr import only, over_columns, rows_of
from tunegraph_pipeline.models.placing import Drawn, Placed, ProductWithRows, propagation_rows
from tunegraph_pipeline.models.sparse import SparseMatrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

EncoderKind = Literal["propagation", "transformer", "none"]


class TrackEncoder(nn.Module):
    """x = id + content, E = normalise(graph encoder of x), and a bias a track.

    x of a track is its id vector (none for a track nobody in training likes, which content alone places),
    plus the weighted vectors of its artists and album, plus a small network of its audio features. Then

    - ``propagation``: ``layers`` times x <- x + S x, S the symmetric-normalised co-like graph;
    - ``transformer``: ``layers`` times x <- x + TransformerConv(x) over the same edges (Shi et al. 2021);
    - ``none``: x as it is.

    In training some tracks are placed as if nobody liked them, see `forward`: otherwise content would never
    learn to place a track without likes.

    E may consist of several spaces side by side, d / spaces numbers each: a track has the same length in all
    of them, so a cosine is the mean of the cosines in the spaces. Each is trained on lists of its own, and
    where likes are few, their mean has a smaller error than one space of the same size.

    ``initial`` float32[N, d]: the initial id vectors; ``warm`` bool[N]: tracks that have one; ``tags``
    csr float32[N, T] of `content.content_tags` or None; ``features`` float32[N, F] of
    `content.encode_features` or None; ``graph`` csr float32[N, N]; ``precision``: what messages along it are
    rounded to while the whole catalogue is trained.
    """

    def __init__(
        self,
        initial: NDArray[np.float32],
        warm: NDArray[np.bool_],
        tags: "csr_matrix | None",
        features: NDArray[np.float32] | None,
        graph: "csr_matrix",
        *,
        kind: EncoderKind,
        layers: int,
        heads: int,
        seed: int,
        spaces: int = 1,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        dimension = initial.shape[1]
        self.spaces = spaces
        self.bias = nn.Parameter(torch.zeros(len(initial)))
        self.kind = kind
        self.layers = layers
        self.id = nn.Parameter(torch.from_numpy(initial * warm[:, np.newaxis]))
        self._warm = torch.from_numpy(warm.astype(np.float32))[:, np.newaxis]
        self._all_warm = bool(warm.all())
        # torch draws initial weights from its global state: seeded here and restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._tags = SparseMatrix(tags) if tags is not None and tags.nnz else None
            if tags is not None and self._tags is not None:
                self.tag = nn.Parameter(torch.from_numpy(_tag_means(tags, initial, warm)))
            self._features = torch.from_numpy(features) if features is not None else None
            if self._features is not None:
                hidden = max(32, dimension // 2)
                self.feature_network = nn.Sequential(
                    nn.Linear(self._features.shape[1], hidden), nn.GELU(), nn.Linear(hidden, dimension)
                )
                # Small initial weights, so that features do not drown the likes.
                with torch.no_grad():
                    for parameter in self.feature_network[2].parameters():
                        parameter.mul_(0.1)
            self._graph_matrix = graph
            if kind == "propagation":
                self._graph = SparseMatrix(graph, precision)
            elif kind == "transformer":
                from torch_geometric.nn import TransformerConv

                edges = graph.tocoo()
                self._edges = torch.from_numpy(np.stack([edges.col, edges.row]).astype(np.int64))
                self.convolutions = nn.ModuleList(
                    TransformerConv(dimension, dimension // heads, heads=heads, root_weight=False)
                    for _ in range(layers)
                )

    def forward(self, cold: Tensor | None = None) -> Tensor:
        """Return E, float32[N, d], rows of unit length (zero for a track without any input).

        The tracks in ``cold`` bool[N] are placed as if nobody liked them: without id vector, neighbours, and
        the artists and albums without another liked track, whose vectors would act as ids. Tracks that would
        be left without any input stay unchanged.
        """
        tags, liked = self._tags, self._warm
        if cold is not None:
            tags, cold = self._shared_tags(cold)
            liked = liked * ~cold
        x: Tensor = self.id if self._all_warm and cold is None else self.id * liked
        if tags is not None:
            x = x + (tags @ self.tag)
        if self._features is not None:
            x = x + self._of_features(self._features)
        if self.kind == "propagation":
            for _ in range(self.layers):
                x = x + _to(liked, self._graph @ x, cold)
        elif self.kind == "transformer":
            for convolution in self.convolutions:
                x = x + _to(liked, convolution(x, self._edges), cold)
        return self._unit(x)

    def place(
        self, rows: NDArray[np.int64], cold: Tensor | None = None, drawn: Drawn | None = None
    ) -> Placed:
        """Return the rows of E of the tracks ``rows``, ascending, at the cost of these and of their
        neighbours, of which ``drawn`` may take some; ``cold`` as in `forward`.

        A few vectors of N numbers, which ``cold`` needs, are all that grows with the catalogue. A transformer
        is not linear, and places every track.
        """
        if self.kind == "transformer":
            return Placed(self(cold)[torch.from_numpy(rows)], [])
        shared, liked = None, self._warm[:, 0].numpy()
        receives = np.ones_like(liked)  # what nobody likes has no neighbours
        if cold is not None:
            shared, cold = self._shared(cold)
            receives = liked = liked * ~cold[:, 0].numpy()
        layers = self.layers if self.kind == "propagation" else 0
        inputs, M = propagation_rows(rows, self._graph_matrix, layers, receives, drawn)
        products = [ProductWithRows.of(_scaled(M, liked[inputs]), self.id, inputs)]
        x = products[0].value
        if self._tags is not None:
            tags = self._tags.matrix[inputs]
            if cold is not None and shared is not None:
                tags = only(
                    tags, shared[:, 0].numpy()[tags.indices] | ~cold[:, 0].numpy()[inputs][rows_of(tags)]
                )
            met = np.unique(tags.indices).astype(np.int64)
            products.append(ProductWithRows.of(M @ over_columns(tags, met), self.tag, met))
            x = x + products[1].value
        if self._features is not None:
            # The last layer of the network is linear, so it comes after the graph, for the rows alone.
            features = self._features[torch.from_numpy(inputs)]
            known = SparseMatrix(_scaled(M, features[:, -1].numpy()))
            hidden, activation, last = self.feature_network
            assert isinstance(last, nn.Linear)
            x = x + nn.functional.linear(known @ activation(hidden(features)), last.weight)
            x = x + (known @ torch.ones(len(inputs), 1)) * last.bias
        return Placed(self._unit(x), products)

    def _of_features(self, features: Tensor) -> Tensor:
        # The last column says whether any feature is known; without one nothing is added.
        added: Tensor = self.feature_network(features) * features[:, -1:]
        return added

    def _unit(self, x: Tensor) -> Tensor:
        apart = nn.functional.normalize(x.reshape(len(x), self.spaces, -1), dim=2)
        return apart.reshape(x.shape) / math.sqrt(self.spaces)

    def _shared_tags(self, cold: Tensor) -> tuple[SparseMatrix | None, Tensor]:
        """The tags without those of ``cold`` tracks alone, and the tracks that can be cold, bool[N, 1]."""
        shared, cold = self._shared(cold)
        if self._tags is None or shared is None:
            return None, cold
        columns = self._tags.forward.col_indices().long()
        lengths = self._tags.forward.crow_indices().diff().long()
        return self._tags.only(shared[columns, 0] | ~cold[:, 0].repeat_interleave(lengths)), cold

    def _shared(self, cold: Tensor) -> tuple[Tensor | None, Tensor]:
        """The tags that not only ``cold`` tracks have, bool[T, 1] or None without tags, and the tracks that
        can be cold, bool[N, 1]: those that keep a tag or a feature."""
        cold = cold[:, None]
        left = torch.zeros_like(cold) if self._features is None else self._features[:, -1:] > 0
        if self._tags is None:
            return None, cold & left
        shared = (self._tags.backward @ (self._warm * ~cold)) > 0
        left = left | ((self._tags.forward @ shared.float()) > 0)
        return shared, cold & left


def _to(liked: Tensor, message: Tensor, cold: Tensor | None) -> Tensor:
    """The message, for liked tracks alone; without ``cold`` the others have no edges anyway."""
    return message if cold is None else message * liked


def _scaled(matrix: "csr_matrix", by: NDArray[np.float32]) -> "csr_matrix":
    """The matrix with each column multiplied by its number."""
    return type(matrix)((matrix.data * by[matrix.indices], matrix.indices, matrix.indptr), shape=matrix.shape)


def spectral_start(likes: "csr_matrix", dimension: int, *, seed: int, rounds: int = 4) -> NDArray[np.float32]:
    """Return V sqrt(sigma), float32[N, dimension], of D_u^-1/2 A D_i^-1/2 ~ U sigma Vᵀ, mean row length 1.

    ``likes`` is A, users x N. Subspace iteration (Halko, Martinsson and Tropp 2011) from a seeded start, with
    ``rounds`` products with AᵀA. Where the matrix has fewer than ``dimension`` directions, the remaining
    columns are small noise, so that training can use them.
    """
    from scipy.sparse import csr_matrix, diags_array

    rng = np.random.default_rng(seed)
    n_users, n_tracks = likes.shape
    degrees = np.bincount(likes.indices, minlength=n_tracks)
    by_user = diags_array(np.maximum(np.diff(likes.indptr), 1.0) ** -0.5)
    by_track = diags_array(np.maximum(degrees, 1.0) ** -0.5)
    A = csr_matrix(by_user @ likes @ by_track, dtype=np.float32)
    rank = min(dimension, n_users, n_tracks)
    Y = rng.standard_normal((n_tracks, min(rank + 16, n_users, n_tracks))).astype(np.float32)
    for _ in range(rounds):
        Y, _ = np.linalg.qr(A.T @ (A @ Y))
    projected = A @ Y
    squares, rotation = np.linalg.eigh((projected.T @ projected).astype(np.float64))
    leading = np.argsort(-squares, kind="stable")[:rank]
    # sigma is the root of an eigenvalue, so its own root is the fourth one.
    scale = np.maximum(squares[leading], 0.0) ** 0.25
    start = np.zeros((n_tracks, dimension), dtype=np.float32)
    start[:, :rank] = (Y @ rotation[:, leading].astype(np.float32)) * scale.astype(np.float32)
    length = np.linalg.norm(start, axis=1).mean()
    start /= np.float32(max(float(length), 1e-12))
    noise = rng.standard_normal((n_tracks, dimension - rank)).astype(np.float32)
    start[:, rank:] = 0.01 * noise
    return start


def propagation_graph(neighbours: "csr_matrix", k: int) -> "csr_matrix":
    """Return S = D^-1/2 (P + Pᵀ elementwise maximum) D^-1/2, float32[N, N], of the k strongest neighbours.

    ``neighbours`` is `graph.co_like.strongest_neighbours`: the strongest first in every row.
    """
    from scipy.sparse import csr_matrix, diags_array

    place = np.arange(neighbours.nnz) - neighbours.indptr[rows_of(neighbours)]
    cut = only(neighbours, place < k)
    cut.sort_indices()  # sums over rows run in the order of the columns
    symmetric = cut.maximum(cut.T)
    degree = np.asarray(symmetric.sum(axis=1), dtype=np.float64).ravel()
    scale = diags_array(np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0))
    return csr_matrix(scale @ symmetric @ scale, dtype=np.float32)


def _tag_means(
    tags: "csr_matrix", initial: NDArray[np.float32], warm: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Half the weighted mean of the initial vectors of a tag's trained tracks, float32[T, d]."""
    by_tag = tags.T.tocsr()
    total = by_tag @ (initial * warm[:, np.newaxis])
    weight = by_tag @ warm.astype(np.float32)
    mean: NDArray[np.float32] = (0.5 * total / np.maximum(weight, 1e-12)[:, np.newaxis]).astype(np.float32)
    return mean
