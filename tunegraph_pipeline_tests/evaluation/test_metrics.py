"""Metrics against cases worked out by hand, laws they obey, and other people's implementations."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.metrics import (
    USER_METRICS,
    catalogue_metrics,
    gini,
    intra_list_distance,
    novelty,
    popularity_bands,
    r_precision,
    relevance,
    user_metrics,
)

Case = tuple[NDArray[np.int32], csr_matrix, NDArray[np.int64]]


def held_out_of(rows: list[list[int]], n_tracks: int) -> csr_matrix:
    dense = np.zeros((len(rows), n_tracks), dtype=np.float32)
    for user, tracks in enumerate(rows):
        dense[user, tracks] = 1
    return csr_matrix(dense)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random full rankings, and at least one held-out track for each user, some of them unknown."""
    m, n = draw(st.integers(1, 8)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ranked = np.array([rng.permutation(n) for _ in range(m)], dtype=np.int32)
    held_out = csr_matrix((rng.random((m, n)) < 0.3).astype(np.float32))
    unknown = rng.integers(0, 2, m)
    n_held_out = np.diff(held_out.indptr).astype(np.int64) + unknown
    n_held_out[n_held_out == 0] = 1
    return ranked, held_out, n_held_out


def test_three_hits_worked_out_by_hand() -> None:
    # Held out: 3, 1, 7 and a track nobody knows. The list finds 3 at rank 1 and 7 at rank 4.
    found = user_metrics(
        np.array([[3, 0, 2, 7, 5]], dtype=np.int32), held_out_of([[1, 3, 7]], 10), np.array([4]), k=5
    )
    assert found["recall"][0] == pytest.approx(2 / 4)
    assert found["map"][0] == pytest.approx((1 / 1 + 2 / 4) / 4)
    ideal = 1 + 1 / log2(3) + 1 / log2(4) + 1 / log2(5)
    assert found["ndcg"][0] == pytest.approx((1 + 1 / log2(5)) / ideal)
    assert found["hit_rate"][0] == 1


def test_more_held_out_than_places_is_divided_by_the_places_except_in_recall() -> None:
    found = user_metrics(
        np.array([[0, 1]], dtype=np.int32), held_out_of([[0, 1, 2, 3]], 5), np.array([4]), k=2
    )
    assert {name: value[0] for name, value in found.items()} == {
        "recall": 0.5,
        "ndcg": 1.0,
        "map": 1.0,
        "hit_rate": 1.0,
    }


def test_a_padded_place_is_no_hit_and_no_list_is_worth_nothing() -> None:
    held_out = held_out_of([[9], [0]], 10)
    ranked = np.array([[-1, -1], [0, -1]], dtype=np.int32)
    assert relevance(ranked, held_out).tolist() == [[False, False], [True, False]]
    found = user_metrics(ranked, held_out, np.array([1, 1]), k=2)
    assert [found[name].tolist() for name in USER_METRICS] == [[0.0, 1.0]] * 4


def test_users_whose_held_out_tracks_are_all_unknown_stay_in_the_denominator() -> None:
    found = user_metrics(
        np.array([[0], [0]], dtype=np.int32), held_out_of([[0], []], 3), np.array([1, 2]), k=1
    )
    assert found["recall"].mean() == 0.5


@pytest.mark.parametrize(("k", "n_held_out"), [(3, 1), (0, 1), (2, 0)])
def test_what_is_not_defined_is_refused(k: int, n_held_out: int) -> None:
    with pytest.raises(ValueError, match="judged"):
        user_metrics(np.array([[0, 1]], dtype=np.int32), held_out_of([[1]], 3), np.array([n_held_out]), k)


@settings(deadline=None)
@given(cases())
def test_every_metric_lies_between_0_and_1_and_hits_bound_the_rest(case: Case) -> None:
    ranked, held_out, n_held_out = case
    for k in range(1, ranked.shape[1] + 1):
        found = user_metrics(ranked, held_out, n_held_out, k)
        for name in USER_METRICS:
            assert (found[name] >= 0).all()
            assert (found[name] <= found["hit_rate"] + 1e-12).all()
            assert ((found[name] > 0) == (found["hit_rate"] > 0)).all()


@settings(deadline=None)
@given(cases())
def test_a_perfect_ranking_is_worth_1(case: Case) -> None:
    _, held_out, _ = case
    held_out = held_out[np.flatnonzero(np.diff(held_out.indptr))]
    n_held_out = np.diff(held_out.indptr).astype(np.int64)
    ranked = np.argsort(-held_out.toarray(), axis=1, kind="stable").astype(np.int32)
    for k in range(1, held_out.shape[1] + 1):
        found = user_metrics(ranked, held_out, n_held_out, k)
        assert all(np.allclose(found[name], 1) for name in ("ndcg", "map", "hit_rate"))
        assert np.allclose(found["recall"], np.minimum(k, n_held_out) / n_held_out)


@settings(deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_users_may_stand_in_any_order(case: Case, random: np.random.Generator) -> None:
    ranked, held_out, n_held_out = case
    order = list(range(len(ranked)))
    random.shuffle(order)
    one = user_metrics(ranked, held_out, n_held_out, 2)
    other = user_metrics(ranked[order], held_out[order], n_held_out[order], 2)
    assert all(np.array_equal(one[name][order], other[name]) for name in USER_METRICS)


@settings(deadline=None)
@given(cases())
def test_a_hit_that_moves_up_never_costs_anything(case: Case) -> None:
    ranked, held_out, n_held_out = case
    hits = relevance(ranked, held_out)
    better = ranked.copy()
    for user in range(len(ranked)):
        for place in range(1, ranked.shape[1]):
            if hits[user, place] and not hits[user, place - 1]:
                better[user, [place - 1, place]] = better[user, [place, place - 1]]
                break
    k = ranked.shape[1] - 1
    before, after = (user_metrics(lists, held_out, n_held_out, k) for lists in (ranked, better))
    assert all((after[name] >= before[name] - 1e-12).all() for name in USER_METRICS)


@settings(deadline=None)
@given(cases())
def test_agrees_with_torch_geometric_where_every_held_out_track_is_known(case: Case) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torch_geometric.metrics")
    ranked, held_out, _ = case
    rows = np.flatnonzero(np.diff(held_out.indptr))
    if not rows.size:
        return
    ranked, held_out = ranked[rows], held_out[rows]
    truth = torch.from_numpy(np.stack(held_out.nonzero()).astype(np.int64))
    for k in range(1, ranked.shape[1] + 1):
        ours = user_metrics(ranked, held_out, np.diff(held_out.indptr).astype(np.int64), k)
        for name, theirs in (
            ("recall", metrics.LinkPredRecall(k)),
            ("ndcg", metrics.LinkPredNDCG(k)),
            ("map", metrics.LinkPredMAP(k)),
            ("hit_rate", metrics.LinkPredHitRatio(k)),
        ):
            theirs.update(torch.from_numpy(ranked[:, :k].astype(np.int64)), truth)
            assert ours[name].mean() == pytest.approx(float(theirs.compute()), abs=1e-5)


def test_catalogue_figures_worked_out_by_hand() -> None:
    # Track 0 is shown twice, track 1 once, tracks 2 and 3 never.
    found = catalogue_metrics(
        np.array([[0, 1, 3], [0, -1, -1]], dtype=np.int32), np.array([10, 1, 5, 7]), k=2
    )
    assert found["coverage"] == 0.5
    assert found["mean_popularity"] == pytest.approx((10 + 1 + 10) / 3)
    # Sorted counts 0 0 1 2, weights -3 -1 1 3: (1 + 6) / (4 * 3).
    assert found["gini"] == pytest.approx(7 / 12)


def test_nothing_recommended_has_no_popularity_and_no_inequality() -> None:
    found = catalogue_metrics(np.full((2, 3), -1, dtype=np.int32), np.array([1, 2]), k=3)
    assert found["coverage"] == 0
    assert np.isnan(found["gini"])
    assert np.isnan(found["mean_popularity"])


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_gini_is_half_the_relative_mean_absolute_difference(counts: list[int]) -> None:
    x = np.array(counts)
    differences = np.abs(x[:, None] - x[None, :]).mean()
    assert gini(x) == pytest.approx(differences / (2 * x.mean()))


def test_novelty_is_the_information_in_what_is_shown() -> None:
    ranked = np.array([[0, 1, 3], [0, -1, -1]], dtype=np.int32)
    popularity = np.array([10, 1, 5, 7])
    assert novelty(ranked, popularity, 2) == pytest.approx((2 * log2(23 / 10) + log2(23)) / 3)
    assert novelty(np.array([[0]], dtype=np.int32), np.array([0, 4]), 1) == 2  # as if somebody liked it
    assert np.isnan(novelty(ranked[:0], popularity, 2))


def test_agrees_with_ranx() -> None:
    """Figures of ranx 0.3.21 (which wants numba, so it is not installed here), a user a column."""
    relevant = [[0, 6, 7, 8, 10], [1, 5, 7, 8, 9, 14], [0, 4, 6, 11, 14], [4], [2, 4, 7, 9, 13, 14]]
    ranked = np.array(
        [
            [12, 7, 10, 3, 8, 6, 9, 1, 0, 11, 13, 14],
            [6, 1, 13, 0, 10, 2, 9, 11, 5, 4, 8, 14],
            [8, 5, 7, 11, 1, 3, 4, 12, 13, 14, 10, 6],
            [12, 14, 9, 13, 6, 10, 7, 11, 0, 8, 4, 3],
            [7, 5, 1, 4, 14, 0, 12, 6, 11, 8, 9, 2],
        ],
        dtype=np.int32,
    )
    held_out = held_out_of(relevant, 15)
    n_held_out = np.diff(held_out.indptr).astype(np.int64)
    found = user_metrics(ranked, held_out, n_held_out, k=5)
    assert found["recall"] == pytest.approx([0.6, 0.166667, 0.2, 0.0, 0.5], abs=1e-6)
    assert found["ndcg"] == pytest.approx([0.514771, 0.213986, 0.146068, 0.0, 0.616434], abs=1e-6)
    assert found["hit_rate"].tolist() == [1, 1, 1, 0, 1]
    # Theirs divides by all that was held out, ours by what a list of five can hold.
    theirs = found["map"] * np.minimum(n_held_out, 5) / n_held_out
    assert theirs == pytest.approx([0.353333, 0.083333, 0.05, 0.0, 0.35], abs=1e-6)
    precision = r_precision(ranked, held_out, n_held_out)
    assert precision == pytest.approx([0.6, 0.166667, 0.2, 0.0, 0.5], abs=1e-6)


def test_r_precision_counts_as_many_places_as_were_held_out() -> None:
    ranked = np.array([[0, 9, 1], [9, 0, 1], [0, -1, -1]], dtype=np.int32)
    held_out = held_out_of([[0, 1], [0], [0, 1, 2, 3]], 10)
    assert r_precision(ranked, held_out, np.array([2, 1, 4])).tolist() == [0.5, 0.0, 1 / 3]
    with pytest.raises(ValueError, match="nothing held out"):
        r_precision(ranked, held_out, np.array([2, 0, 4]))


def test_distance_within_a_list_worked_out_by_hand() -> None:
    # Tracks 0 and 1 have the same two users, track 2 shares one of its two with them, track 3 has none.
    likes = csr_matrix(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]], dtype=np.float32))
    vectors = csr_matrix(likes.T)
    one = np.array([[0, 1, -1]], dtype=np.int32)
    assert intra_list_distance(one, vectors, 3) == pytest.approx(0)
    three = np.array([[0, 1, 2]], dtype=np.int32)
    assert intra_list_distance(three, vectors, 3) == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert intra_list_distance(np.array([[0, 3]], dtype=np.int32), vectors, 2) == pytest.approx(1)
    assert intra_list_distance(np.concatenate([three, one, one]), vectors, 3) == pytest.approx(1 / 9)
    assert np.isnan(intra_list_distance(np.array([[1, -1]], dtype=np.int32), vectors, 2))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_distance_within_a_list_is_the_mean_over_its_pairs(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.random((9, 5)) * (rng.random((9, 5)) < 0.6)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    ranked = np.array([rng.permutation(9)[:k] for _ in range(7)], dtype=np.int32)
    pairs = [1 - unit[row[i]] @ unit[row[j]] for row in ranked for i in range(k) for j in range(k) if i < j]
    assert intra_list_distance(ranked, csr_matrix(vectors), k) == pytest.approx(np.mean(pairs))


def test_bands_hold_a_third_of_the_likes_each() -> None:
    assert popularity_bands(np.array([6, 1, 3, 2, 0, 6])).tolist() == [1, 0, 0, 0, 0, 2]
    assert popularity_bands(np.array([0, 0])).tolist() == [0, 0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_bands_rise_with_popularity_and_are_as_even_as_single_tracks_allow(counts: list[int]) -> None:
    popularity = np.array(counts, dtype=np.int64)
    bands = popularity_bands(popularity)
    assert (np.diff(bands[np.argsort(popularity, kind="stable")]) >= 0).all()
    likes = np.bincount(bands, popularity, minlength=3)
    assert (np.abs(likes - popularity.sum() / 3) <= popularity.max() + 1e-9).all()


def test_further_ids_of_a_recording_are_no_part_of_the_catalogue() -> None:
    ranked = np.array([[0, 1], [1, 0]], dtype=np.int32)
    own = np.array([True, True, False, False])
    found = catalogue_metrics(ranked, np.array([3, 2, 0, 0]), 2, own)
    assert found == {"coverage": 1.0, "gini": 0.0, "mean_popularity": 2.5}
