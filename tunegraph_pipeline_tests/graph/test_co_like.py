"""The co-like matrix is AᵀA, however it is cut into blocks, and its pruned form the best of each row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sparse_dot_topn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from tunegraph_pipeline.engine.engine import Parcel
from tunegraph_pipeline.engine.local import LocalEngine
from tunegraph_pipeline.errors import BundleError, InputError, LakeError
from tunegraph_pipeline.graph import co_like, csr
from tunegraph_pipeline.graph.co_like import (
    CoLike,
    build_co_like,
    co_like_blocks,
    co_like_bound,
    neighbours_in,
    strongest_neighbours,
    what_is_wrong,
)

EXAMPLE = csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], dtype=np.float32))
"""Three users, four songs: the example worked by hand in docs/co_like.md."""

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
likes = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0])))
exponents = st.sampled_from([0.0, 0.5, 1.0])


def dense_counts(A: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    B = (A.T @ A).astype(np.int64)
    np.fill_diagonal(B, 0)
    return B


def dense_scores(A: npt.NDArray[np.float32], item: float, user: float) -> npt.NDArray[np.float64]:
    d, n = (np.maximum(A.sum(axis=axis, dtype=np.float64), 1.0) for axis in (0, 1))
    S: npt.NDArray[np.float64] = (A.T.astype(np.float64) * n**-user) @ A * np.outer(d, d) ** -item
    np.fill_diagonal(S, 0)
    return S


def joined(A: npt.NDArray[np.float32], memory_mib: int) -> npt.NDArray[np.int64]:
    lengths, columns, counts = zip(*co_like_blocks(csr_matrix(A), memory_mib=memory_mib), strict=True)
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
    B = csr_matrix((np.concatenate(counts), np.concatenate(columns), indptr), shape=(A.shape[1],) * 2)
    assert B.has_canonical_format
    return B.toarray().astype(np.int64)


def test_three_users_and_four_songs(tmp_path: Path) -> None:
    build_co_like(EXAMPLE, tmp_path / "b", k=2)
    B = CoLike.open(tmp_path / "b")

    assert B.exact
    assert B.degrees.tolist() == [2, 2, 2, 1]
    assert [tuple(part.tolist() for part in B.neighbours(song)) for song in range(4)] == [
        ([1, 2], [2, 1]),
        ([0, 2], [2, 1]),
        ([0, 1, 3], [1, 1, 1]),
        ([2], [1]),
    ]
    # Of song 2's neighbours, each by one user, song 3 is nearest, being rarer; songs 0 and 1 tie, and the
    # smaller index stays.
    assert [B.strongest(song)[0].tolist() for song in range(4)] == [[1, 2], [0, 2], [3, 0], [2]]
    scores = [[1.0, 0.5], [1.0, 0.5], [0.7071, 0.5], [0.7071]]
    for song, expected in enumerate(scores):
        np.testing.assert_allclose(B.strongest(song)[1], expected, atol=5e-5)
    assert B.facts["nnz"] == 8
    assert B.facts["nnz_bound"] == 3 + 3 + 3 + 1


@settings(deadline=None)
@given(likes)
def test_b_is_the_product_without_its_diagonal_whatever_the_blocks(A: npt.NDArray[np.float32]) -> None:
    B = joined(A, memory_mib=64)

    assert np.array_equal(B, dense_counts(A))
    assert np.array_equal(B, B.T)
    with pytest.MonkeyPatch.context() as patch:
        for size in (2**20, 2**18, 2**16):  # bytes a candidate, so that 1 MiB holds 1, 4 or 16 of them
            patch.setattr(co_like, "_BYTES_A_CANDIDATE", size)
            assert np.array_equal(joined(A, memory_mib=1), B)


@pytest.mark.parametrize("cores", [1, 3])
def test_blocks_use_the_threads_of_the_engines_cores(cores: int) -> None:
    asked: list[int] = []

    class OfSomeCores(LocalEngine):
        @property
        def cores(self) -> int:
            return cores

        def run(self, function: Any, blocks: Any, shared: Any) -> Iterator[Parcel]:
            for block in blocks:
                asked.append(block.threads)
                yield from super().run(function, [block], shared)

    list(co_like_blocks(EXAMPLE, engine=OfSomeCores()))
    strongest_neighbours(EXAMPLE, 2, engine=OfSomeCores())

    assert set(asked) == {2 * cores}


def test_a_block_stays_within_its_memory_unless_it_is_one_row() -> None:
    rng = np.random.default_rng(1)
    A = csr_matrix((rng.random((200, 600)) < 0.1).astype(np.float32))
    blocks = list(co_like_blocks(A, memory_mib=1))

    assert len(blocks) > 5
    for lengths, columns, _ in blocks:
        assert len(lengths) == 1 or len(columns) * co_like._BYTES_A_CANDIDATE <= 2**20


@settings(deadline=None)
@given(likes)
def test_the_bound_is_never_below_the_size_of_b(A: npt.NDArray[np.float32]) -> None:
    B = dense_counts(A)

    assert np.count_nonzero(B) <= co_like_bound(csr_matrix(A)) <= max(B.size - len(B), 0)


@settings(deadline=None)
@given(likes, st.integers(1, 10), exponents, exponents, st.sampled_from([1, 3, 16_384]))
def test_the_strongest_are_the_best_of_each_dense_row(
    A: npt.NDArray[np.float32], k: int, item: float, user: float, rows_a_block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_like, "_ROWS_A_BLOCK", rows_a_block)
        S = strongest_neighbours(csr_matrix(A), k, item_exponent=item, user_exponent=user)

    assert S.dtype == np.float32
    for track, row in enumerate(dense_scores(A, item, user)):
        best = np.lexsort((np.arange(len(row)), -row.round(9)))[:k]
        best = best[row[best] > 0]
        found = slice(S.indptr[track], S.indptr[track + 1])
        assert S.indices[found].tolist() == best.tolist()
        np.testing.assert_allclose(S.data[found], row[best], rtol=1e-6)


def test_more_likes_than_a_block_holds_give_the_same_neighbours_with_one_thread_or_two() -> None:
    rng = np.random.default_rng(3)
    A = csr_matrix((rng.random((400, 300)) < 0.1).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_like, "_threads", lambda *_: 1)
        alone = strongest_neighbours(A, 10)
        patch.setattr(co_like, "_threads", lambda *_: 2)
        patch.setattr(co_like, "_ROWS_A_BLOCK", 37)
        shared = strongest_neighbours(A, 10)

    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(alone, part), getattr(shared, part))


def test_more_likes_than_an_int32_counts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    A = (rng.random((40, 30)) < 0.2).astype(np.float32)
    narrow = joined(A, memory_mib=1), strongest_neighbours(csr_matrix(A), 6)
    products = []
    for name in ("sp_matmul", "sp_matmul_topn"):
        whole = getattr(sparse_dot_topn, name)

        def product(rows: csr_matrix, of: csr_matrix, *, _whole: Any = whole, **options: Any) -> Any:
            products.append({rows.indices.dtype, rows.indptr.dtype, of.indices.dtype, of.indptr.dtype})
            return _whole(rows, of, **options)

        monkeypatch.setattr(sparse_dot_topn, name, product)
    monkeypatch.setattr(csr, "_MOST_INT32", np.count_nonzero(A) - 1)
    wide = joined(A, memory_mib=1), strongest_neighbours(csr_matrix(A), 6)

    assert products
    assert all(types == {np.dtype(np.int64)} for types in products)
    assert np.array_equal(wide[0], narrow[0])
    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(wide[1], part), getattr(narrow[1], part))


@settings(deadline=None)
@given(likes, st.integers(1, 10), exponents, exponents, st.sampled_from([1, 7, 30]))
def test_more_likes_than_a_tile_holds_give_the_same_bit_by_bit(
    A: npt.NDArray[np.float32], k: int, item: float, user: float, likes_a_tile: int
) -> None:
    def neighbours() -> csr_matrix:
        return strongest_neighbours(csr_matrix(A), k, item_exponent=item, user_exponent=user)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(co_like, "_ROWS_A_BLOCK", 4)
        whole = neighbours()
        patch.setattr(co_like, "_LIKES_A_TILE", likes_a_tile)
        patch.setattr(co_like, "_LIKES_A_BLOCK", 5)
        tiled = neighbours()

    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(tiled, part), getattr(whole, part))


def test_a_matrix_built_in_tiles_is_the_same_and_leaves_no_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    A = csr_matrix((np.random.default_rng(8).random((60, 40)) < 0.2).astype(np.float32))
    build_co_like(A, tmp_path / "whole", k=5)
    monkeypatch.setattr(co_like, "_LIKES_A_TILE", 50)
    build_co_like(A, tmp_path / "tiled", k=5)

    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "tiled").iterdir()) == names
    for name in names:
        assert (tmp_path / "tiled" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_neighbours_are_counted_in_the_likes_where_b_is_not_kept() -> None:
    A = (np.random.default_rng(6).random((40, 30)) < 0.2).astype(np.float32)
    for track, row in enumerate(dense_counts(A)):
        neighbours, counts = neighbours_in(csr_matrix(A), track)
        assert neighbours.tolist() == np.flatnonzero(row).tolist()
        assert counts.tolist() == row[row > 0].tolist()


def test_a_matrix_too_large_to_keep_is_kept_pruned_and_says_so(tmp_path: Path) -> None:
    build_co_like(EXAMPLE, tmp_path / "b", max_exact_nnz=8)
    B = CoLike.open(tmp_path / "b")

    assert not B.exact
    assert B.facts["exact"] is False
    assert B.facts["nnz"] is None
    assert B.strongest(2)[0].tolist() == [3, 0, 1]
    # The cosine of co-likes: counts over the root of both degrees.
    np.testing.assert_allclose(B.strongest(2)[1], [0.5**0.5, 0.5, 0.5], rtol=1e-6)
    assert B.degrees.tolist() == [2, 2, 2, 1]
    assert not (tmp_path / "b" / "counts.npy").exists()
    with pytest.raises(LakeError, match="raise max_exact_nnz"):
        B.neighbours(0)


def test_a_lookup_is_a_view_of_the_mapped_file(tmp_path: Path) -> None:
    build_co_like(EXAMPLE, tmp_path / "b")
    B = CoLike.open(tmp_path / "b")
    columns, counts = B.neighbours(2)

    assert B.base is not None
    assert np.shares_memory(columns, B.base.indices)
    assert np.shares_memory(counts, B.base.values)
    assert not columns.flags.writeable
    for outside in (-1, 4):
        with pytest.raises(IndexError):
            B.neighbours(outside)
        with pytest.raises(IndexError):
            B.strongest(outside)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3)])
def test_nobody_liking_anything_gives_no_neighbours(tmp_path: Path, shape: tuple[int, int]) -> None:
    build_co_like(csr_matrix(np.zeros(shape, dtype=np.float32)), tmp_path / "b")
    B = CoLike.open(tmp_path / "b")

    assert B.degrees.tolist() == [0] * shape[1]
    assert B.facts["nnz"] == 0
    assert all(not len(B.strongest(track)[0]) for track in range(shape[1]))


def test_building_reports_how_far_it_is(tmp_path: Path) -> None:
    seen: list[Any] = []
    build_co_like(EXAMPLE, tmp_path / "b", progress=lambda *step: seen.append(step))

    assert seen == [("co-likes", 4, 4), ("strongest neighbours", 4, 4)]


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    build_co_like(EXAMPLE, tmp_path / "b")
    (tmp_path / "b" / "counts.npy").write_bytes(b"")

    with pytest.raises(BundleError, match=r"counts\.npy"):
        CoLike.open(tmp_path / "b")


@pytest.mark.parametrize(("k", "memory_mib"), [(0, 512), (100, 0)])
def test_an_option_out_of_range_is_refused(tmp_path: Path, k: int, memory_mib: int) -> None:
    with pytest.raises(InputError, match="is 0; it has to be at least 1"):
        build_co_like(EXAMPLE, tmp_path / "b", k=k, memory_mib=memory_mib)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("part", "value", "what"),
    [
        ("degrees", [2, 2, 2, 2], "degrees"),
        ("counts", [2, 1, 2, 1, 1, 2, 1, 1], "counts of track 2 are not"),
        ("top_scores", [1, 0.5, 1, 0.5, 0.5, 0.7, 0.5, 0.7], "track 2 are not in order"),
        ("top_scores", [1, 0.6, 1, 0.5, 0.8, 0.5, 0.5, 0.7], "scores of track 0"),
        ("top_indices", [1, 3, 0, 2, 3, 0, 1, 2], "scores of track 0"),
    ],
)
def test_what_is_wrong_with_a_matrix_is_found(
    tmp_path: Path, part: str, value: list[float], what: str
) -> None:
    build_co_like(EXAMPLE, tmp_path / "b")
    assert what_is_wrong(CoLike.open(tmp_path / "b"), EXAMPLE) is None
    path = tmp_path / "b" / f"{part}.npy"
    np.save(path, np.array(value, dtype=np.load(path).dtype))
    found = what_is_wrong(CoLike.open(tmp_path / "b"), EXAMPLE)
    assert found is not None
    assert what in found
