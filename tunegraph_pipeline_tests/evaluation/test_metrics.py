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
