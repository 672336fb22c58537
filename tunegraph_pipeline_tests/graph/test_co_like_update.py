"""An updated B is the B of today's likes, whatever the days that led there, in the files of both."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph import co_like_update
from tunegraph_pipeline.graph.co_like import CoLike, build_co_like, what_is_wrong
from tunegraph_pipeline.graph.co_like_update import added_counts, compact_co_like, update_co_like
from tunegraph_pipeline_tests.conftest import examples

Dense = npt.NDArray[np.int8]
CASES = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])


def history(seed: int, users: int, tracks: int, days: int) -> list[Dense]:
    """A life of likes: lists that change a little, new tracks, users who come and vanish, empty days."""
    rng = np.random.default_rng(seed)
    A = (rng.random((users, tracks)) < rng.choice([0.1, 0.3, 0.6])).astype(np.int8)
    told = [A]
    for _ in range(days):
        A = np.pad(A, ((0, 0), (0, int(rng.integers(0, 3)))))
        change = rng.random(A.shape) < rng.choice([0.0, 0.02, 0.15])
        A = np.where(change, 1 - A, A).astype(np.int8)
        if rng.random() < 0.3:
            A[rng.integers(users)] = 0
        if rng.random() < 0.3:
            A[rng.integers(users)] = rng.random(A.shape[1]) < 0.5
        told.append(A)
    return told


def update(before: CoLike, old: Dense, new: Dense, folder: Path, drift: float) -> CoLike:
    old = np.pad(old, ((0, 0), (0, new.shape[1] - old.shape[1])))
    likes, change = csr_matrix(old.astype(np.float32)), csr_matrix((new - old).astype(np.int8))
    update_co_like(before, likes, change, folder, drift=drift)
    return CoLike.open(folder)


def counts(matrix: CoLike) -> npt.NDArray[np.int64]:
    B = np.zeros((matrix.n_tracks,) * 2, dtype=np.int64)
    for track in range(matrix.n_tracks):
        columns, values = matrix.neighbours(track)
        assert (np.diff(columns) > 0).all()
        B[track, columns] = values
    return B


def dense_counts(A: Dense) -> npt.NDArray[np.int64]:
    B = A.T.astype(np.int64) @ A
    np.fill_diagonal(B, 0)
    return B


def check(matrix: CoLike, A: Dense, drift: float) -> None:
    B = dense_counts(A)
    assert np.array_equal(counts(matrix), B)
    assert what_is_wrong(matrix, csr_matrix(A.astype(np.float32))) is None
    degrees = A.sum(axis=0, dtype=np.int64)
    assert matrix.degrees.tolist() == degrees.tolist()
    assert (np.abs(degrees - matrix.frozen) <= drift * matrix.frozen).all()
    weight = np.maximum(matrix.frozen, 1.0) ** -0.5
    for track, row in enumerate(B * np.outer(weight, weight)):
        best = np.lexsort((np.arange(len(row)), -row.round(9)))[: matrix.facts["k"]]
        best = best[row[best] > 0]
        columns, scores = matrix.strongest(track)
        assert columns.tolist() == best.tolist()
        np.testing.assert_allclose(scores, row[best], rtol=1e-6)


@pytest.mark.slow
@CASES
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 14), st.sampled_from([0.0, 0.2, 5.0]))
def test_any_history_ends_with_the_matrix_of_its_last_day(
    tmp_path_factory: pytest.TempPathFactory, seed: int, users: int, tracks: int, drift: float
) -> None:
    folder = tmp_path_factory.mktemp("b")
    told = history(seed, users, tracks, days=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunegraph_pipeline.graph.co_like._SPARE", 1)  # so that rows run out of successors
        patch.setattr(co_like_update, "_CHUNK", 7)
        patch.setattr(co_like_update, "_ENTRIES_A_BLOCK", 5)
        build_co_like(csr_matrix(told[0].astype(np.float32)), folder / "0", k=2)
        matrix = CoLike.open(folder / "0")
        for day in range(1, len(told)):
            matrix = update(matrix, told[day - 1], told[day], folder / str(day), drift)
            check(matrix, told[day], drift)
            if day == 3:
                compact_co_like(matrix, folder / "compact")
                matrix = CoLike.open(folder / "compact")
                assert not len(matrix.delta.indices)
                check(matrix, told[day], drift)


@CASES
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 9))
def test_what_is_added_is_the_difference_of_the_products(seed: int, users: int, tracks: int) -> None:
    old, new = history(seed, users, tracks, days=1)
    old = np.pad(old, ((0, 0), (0, new.shape[1] - old.shape[1])))
    added = added_counts(csr_matrix(old), csr_matrix(new - old))

    assert np.array_equal(added.toarray(), dense_counts(new) - dense_counts(old))
    assert (added.data != 0).all()


def test_a_day_by_hand(tmp_path: Path) -> None:
    """Ana likes s0 and s1, Ben s0, s1 and s2, Cho s2 and s3. Then Cho likes s1 as well and a new song s4, and
    Ben no longer likes s1."""
    old = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], dtype=np.int8)
    new = np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=np.int8)
    build_co_like(csr_matrix(old.astype(np.float32)), tmp_path / "0")
    B = update(CoLike.open(tmp_path / "0"), old, new, tmp_path / "1", drift=0.2)

    rows = [tuple(part.tolist() for part in B.neighbours(song)) for song in range(5)]
    assert rows == [
        ([1, 2], [1, 1]),
        ([0, 2, 3, 4], [1, 1, 1, 1]),
        ([0, 1, 3, 4], [1, 1, 1, 1]),
        ([1, 2, 4], [1, 1, 1]),
        ([1, 2, 3], [1, 1, 1]),
    ]
    assert B.degrees.tolist() == [2, 2, 2, 1, 1]
    # s3 and s4 are liked by Cho alone, and by nobody without the other: their cosine is 1.
    assert B.strongest(4)[0].tolist() == [3, 1, 2]
    assert B.strongest(4)[1].tolist() == pytest.approx([1, 0.5**0.5, 0.5**0.5])


def test_the_base_is_shared_and_outlives_the_version_it_came_from(tmp_path: Path) -> None:
    old, new = history(3, 8, 6, days=1)
    build_co_like(csr_matrix(old.astype(np.float32)), tmp_path / "0")
    matrix = update(CoLike.open(tmp_path / "0"), old, new, tmp_path / "1", drift=0.2)

    assert (tmp_path / "0" / "counts.npy").samefile(tmp_path / "1" / "counts.npy")
    matrix.parts.verify()
    for path in (tmp_path / "0").iterdir():
        path.unlink()
    check(CoLike.open(tmp_path / "1"), new, drift=0.2)


def test_a_day_without_changes_adds_nothing(tmp_path: Path) -> None:
    (A,) = history(1, 9, 9, days=0)
    build_co_like(csr_matrix(A.astype(np.float32)), tmp_path / "0")
    matrix = update(CoLike.open(tmp_path / "0"), A, A, tmp_path / "1", drift=0.2)

    assert (len(matrix.delta.indices), len(matrix.moved)) == (0, 0)
    check(matrix, A, drift=0.2)


def test_a_matrix_without_counts_cannot_be_updated(tmp_path: Path) -> None:
    A = np.eye(3, dtype=np.int8)[:, [0, 0, 1]]
    build_co_like(csr_matrix(A.astype(np.float32)), tmp_path / "0", max_exact_nnz=0)

    with pytest.raises(LakeError, match="rebuild it"):
        update(CoLike.open(tmp_path / "0"), A, A, tmp_path / "1", drift=0.2)
    with pytest.raises(LakeError, match="nothing to merge"):
        compact_co_like(CoLike.open(tmp_path / "0"), tmp_path / "1")


def test_an_update_reports_how_far_it_is(tmp_path: Path) -> None:
    seen: list[Any] = []
    old, new = history(3, 8, 6, days=1)
    build_co_like(csr_matrix(old.astype(np.float32)), tmp_path / "0")
    old = np.pad(old, ((0, 0), (0, new.shape[1] - old.shape[1])))
    update_co_like(
        CoLike.open(tmp_path / "0"),
        csr_matrix(old.astype(np.float32)),
        csr_matrix(new - old),
        tmp_path / "1",
        progress=lambda *step: seen.append(step),
    )

    assert seen == [("updating co-likes", step, 5) for step in range(1, 6)]
