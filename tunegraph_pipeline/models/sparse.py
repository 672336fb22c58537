"""Constant sparse matrices for torch.

Here: their products with dense ones, forwards and backwards. Not here: what the matrices are (`encoder`,
`placing`).
"""

import warnings
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tunegraph_pipeline.graph.csr import index_type

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class SparseMatrix:
    """A constant sparse matrix M with its transpose, for differentiable products.

    PyG's scatter holds ``d`` numbers per edge in memory; a CSR product holds none, and its gradient is the
    product with the transpose. Products that will have a gradient round their factors to ``precision``.
    """

    def __init__(self, matrix: "csr_matrix", precision: torch.dtype = torch.float32) -> None:
        self.matrix = matrix
        self.precision = precision
        self.forward = torch_csr(matrix)

    @cached_property
    def backward(self) -> Tensor:
        """The transpose, which only a gradient needs."""
        return torch_csr(self.matrix.T.tocsr())

    @cached_property
    def _order(self) -> Tensor:
        """The place of each entry of the transpose in the matrix, int64[nnz]."""
        matrix = self.matrix
        places = np.arange(matrix.nnz)
        entries = type(matrix)((places, matrix.indices, matrix.indptr), shape=matrix.shape)
        return torch.from_numpy(entries.T.tocsr().data)

    def only(self, kept: Tensor) -> "SparseMatrix":
        """The same matrix without the stored entries for which ``kept`` bool[nnz], row by row, is false."""
        values = self.forward.values() * kept
        one = copy(self)
        one.forward = _with_values(self.forward, values)
        one.backward = _with_values(self.backward, values[self._order])
        return one

    def __matmul__(self, dense: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # the finished model
            return sparse_product(self.forward, dense)
        product: Tensor = _SparseProduct.apply(self, dense)  # type: ignore[no-untyped-call]
        return product


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        return sparse_product(matrix.forward, dense, matrix.precision)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        matrix = ctx.matrix
        return None, sparse_product(matrix.backward, grads[0].contiguous(), matrix.precision)


def sparse_product(matrix: Tensor, dense: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """The product of a CSR matrix and a dense one, float32 both, without a gradient: each row is a weighted
    sum of rows, for which torch's ``embedding_bag`` takes 0.4 to 0.6 of the time of its sparse product.
    Factors and rows of the product are rounded to ``precision``, the sums within a row are not."""
    return torch.nn.functional.embedding_bag(
        matrix.col_indices(),
        dense.to(precision),
        matrix.crow_indices(),
        mode="sum",
        per_sample_weights=matrix.values().to(precision),
        include_last_offset=True,
    ).float()


def _with_values(matrix: Tensor, values: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(
        matrix.crow_indices(), matrix.col_indices(), values, size=matrix.shape, check_invariants=False
    )


def torch_csr(matrix: "csr_matrix") -> Tensor:
    """The matrix as a sparse tensor of float32, its indices sorted."""
    matrix.sort_indices()
    kind = index_type(matrix)
    with warnings.catch_warnings():
        # torch warns once that CSR is in beta; only the product with a dense matrix is used here.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(kind, copy=False)),
            torch.from_numpy(matrix.indices.astype(kind, copy=False)),
            torch.from_numpy(matrix.data.astype(np.float32, copy=False)),
            size=matrix.shape,
            check_invariants=True,
        )
