"""The networks of the three generations TuneGraph grew out of: an MLP, and a graph transformer for two.

Here: the networks of V1, V2 and of V3 as it was first written; their only inputs are features. Importing this
module imports torch. Not here: their objectives (`training`), and the encoder of today's model
(`tunegraph_pipeline.models.encoder`).
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import TransformerConv

from tunegraph_pipeline.graph.csr import rows_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class FeatureMlp(nn.Module):
    """V1: features -> 32 -> 32 -> 16, batch norm and ReLU after either hidden layer."""

    dimension = 16

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, self.dimension),
        )

    def forward(self, songs: Tensor) -> Tensor:
        """Features float32[n, F] to float32[n, 16]."""
        out: Tensor = self.layers(songs)
        return out


class BipartiteTransformer(nn.Module):
    """V2 and the first V3: three TransformerConv layers (Shi et al. 2021), features -> 16 -> 32 -> 64.

    Songs and users are the two sides of one graph and share the weights of every layer; ReLU and dropout lie
    between the layers. Edges are int64[2, likes], song over user.
    """

    dimension = 64

    def __init__(self, n_features: int, dropout: float) -> None:
        super().__init__()
        sizes = (n_features, 16, 32, self.dimension)
        self.convolutions = nn.ModuleList(
            TransformerConv(size, following) for size, following in pairwise(sizes)
        )
        self.dropout = dropout

    def forward(self, songs: Tensor, users: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32[N, F] and float32[U, F] to float32[N, 64] and float32[U, 64]."""
        states, users = self.states(songs, users, edges)
        return states[-1], users

    def states(self, songs: Tensor, users: Tensor, edges: Tensor) -> tuple[list[Tensor], Tensor]:
        """The songs after every layer, the last one last, and the users after the last."""
        to_user, to_song = edges, edges.flip(0)
        states = []
        for place, convolution in enumerate(self.convolutions):
            songs, users = convolution((users, songs), to_song), convolution((songs, users), to_user)
            songs, users = self._between(place, songs), self._between(place, users)
            states.append(songs)
        return states, users

    def listen(self, songs: list[Tensor], users: Tensor, edges: Tensor) -> Tensor:
        """Users float32[m, F] who receive messages from the songs but send none: float32[m, 64].

        ``songs``: the features and then every state but the last. A user of the graph comes out as in the
        graph, because they receive the same messages; no user affects another.
        """
        for place, (heard, convolution) in enumerate(zip(songs, self.convolutions, strict=True)):
            users = self._between(place, convolution((heard, users), edges))
        return users

    def _between(self, place: int, x: Tensor) -> Tensor:
        if place == len(self.convolutions) - 1:
            return x
        return nn.functional.dropout(x.relu(), self.dropout, self.training)


def edges_of(likes: "csr_matrix") -> Tensor:
    """The likes (users x N) as edges int64[2, nnz], song over user."""
    return torch.from_numpy(np.stack([likes.indices.astype(np.int64), rows_of(likes)]))
