"""Placing some tracks of a large catalogue: the inputs they need, and gradients in some rows alone.

Here: the sparse matrix from the inputs of tracks to the vectors of some of them, and sparse gradients. Not
here: the inputs themselves (`encoder.py`), or which tracks take part in a step (`training`).

Propagation is linear up to the last normalisation. So the vectors of some tracks are one sparse matrix times
the inputs of these tracks and of their neighbours, ``layers`` steps away, whatever the size of the rest.
"""

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunegraph_pipeline.graph.csr import offsets_of, over_columns
from tunegraph_pipeline.models.sparse import sparse_product, torch_csr

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Drawn(NamedTuple):
    """At most how many neighbours send a message to a track, and what draws them."""

    most: int
    rng: np.random.Generator


class ProductWithRows(NamedTuple):
    """The product of a sparse ``matrix``, P x n, with the n ``rows`` of a ``parameter``, int64, ascending.

    ``value`` float32[P, d] is a leaf: there are many more rows than products, so the gradient in the rows is
    made of that in the product, and neither the rows nor their gradient are copied.
    """

    matrix: "csr_matrix"
    parameter: nn.Parameter
    rows: NDArray[np.int64]
    value: Tensor

    @classmethod
    def of(cls, matrix: "csr_matrix", parameter: nn.Parameter, rows: NDArray[np.int64]) -> Self:
        matrix.sort_indices()  # before it shares its entries
        shape = (matrix.shape[0], len(parameter))
        wide = type(matrix)((matrix.data, rows[matrix.indices], matrix.indptr), shape=shape)
        value = sparse_product(torch_csr(wide), parameter.detach())
        return cls(matrix, parameter, rows, value.requires_grad_(torch.is_grad_enabled()))

    def set_gradient(self) -> None:
        """Set the gradient of the parameter, given that of the value."""
        if self.value.grad is not None:
            values = sparse_product(torch_csr(self.matrix.T.tocsr()), self.value.grad)
            rows = torch.from_numpy(self.rows)
            self.parameter.grad = gradient_of_rows(rows, values, len(self.parameter))


class Placed(NamedTuple):
    """Tracks, as an encoder placed them.

    ``embeddings`` float32[P, d]; ``products``: of each parameter of which some rows alone took part, the
    product that is a leaf of the graph of ``embeddings``.
    """

    embeddings: Tensor
    products: list[ProductWithRows]

    def set_gradients(self, gradient: Tensor) -> None:
        """Set the gradient of every parameter, given that of the embeddings: a sparse one where some rows
        alone took part."""
        torch.autograd.backward(self.embeddings, gradient)
        for product in self.products:
            product.set_gradient()


def gradient_of_rows(rows: Tensor, values: Tensor, n: int) -> Tensor:
    """The sparse gradient of a tensor with ``n`` rows: ``values`` in ``rows``, distinct and ascending."""
    size = (n, *values.shape[1:])
    return torch.sparse_coo_tensor(rows[None], values, size, is_coalesced=True, check_invariants=False)


def propagation_rows(
    rows: NDArray[np.int64],
    graph: "csr_matrix",
    layers: int,
    receives: NDArray[np.float32],
    drawn: Drawn | None = None,
) -> "tuple[NDArray[np.int64], csr_matrix]":
    """Return the tracks whose inputs reach ``rows``, int64[n] ascending, and how strongly, csr float32
    (len(rows) x n), columns ascending: the rows of (I + D S) ** layers, S the ``graph`` and D the diagonal of
    ``receives`` float32[N].

    With ``drawn`` some neighbours of a track stand for all: their weights are scaled up, so that the expected
    message is the same (GraphSAGE, Hamilton et al. 2017).
    """
    from scipy.sparse import csr_matrix, identity

    inputs, M = rows, csr_matrix(identity(len(rows), dtype=np.float32))
    for _ in range(layers):
        message = _messages(graph, inputs, drawn)
        message.data *= np.repeat(receives[inputs], np.diff(message.indptr))
        reached = _distinct(graph.shape[1], inputs, message.indices)
        own = csr_matrix(
            (M.data, np.searchsorted(reached, inputs)[M.indices], M.indptr), shape=(len(rows), len(reached))
        )
        M = csr_matrix(own + M @ over_columns(message, reached))
        inputs = reached
    M.sort_indices()
    return inputs, M


def _messages(graph: "csr_matrix", rows: NDArray[np.int64], drawn: Drawn | None) -> "csr_matrix":
    """The rows of ``graph``. Of a longer row than ``drawn`` allows, a run of entries from a random one on, so
    that each entry is as likely as any."""
    if drawn is None:
        return graph[rows]
    starts = graph.indptr[rows].astype(np.int64)
    lengths = graph.indptr[rows + 1] - starts
    kept = np.minimum(lengths, drawn.most)
    first = np.where(lengths > kept, (drawn.rng.random(len(rows)) * lengths).astype(np.int64), 0)
    indptr = offsets_of(kept)
    place = np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], kept)
    entries = np.repeat(starts, kept) + place % np.repeat(lengths, kept)
    scale = np.repeat((lengths / np.maximum(kept, 1)).astype(np.float32), kept)
    return type(graph)(
        (graph.data[entries] * scale, graph.indices[entries], indptr), shape=(len(rows), graph.shape[1])
    )


def _distinct(n: int, *places: NDArray[np.integer]) -> NDArray[np.int64]:
    """The distinct numbers below ``n`` among ``places``, ascending."""
    met = np.zeros(n, dtype=np.bool_)
    for some in places:
        met[some] = True
    return np.flatnonzero(met)
