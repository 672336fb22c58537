"""Two models on the same users: the interval of their difference, what they are judged on, and by what."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.gate import (
    GateSettings,
    PairedDifference,
    TrainedOn,
    common_candidates,
    compare_bundles,
    continued_for_both,
    held_out_for_both,
    most_have_an_order,
    paired_bootstrap,
    unseen_gate_likes,
)
from tunegraph_pipeline.graph.like_graph import LikeGraph, build_like_graph
from tunegraph_pipeline.graph.split import GATE, TRAIN
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.publication import Decision

SETTINGS = GateSettings()


def decision(found: PairedDifference, users: int, **settings: object) -> Decision:
    figures = {"map@10": dataclasses.asdict(found)}
    chosen = GateSettings.model_validate(settings).model_dump()
    return Decision("old", "new", "bundle", users, figures, chosen)


# --- the bootstrap ---


def test_of_two_users_the_means_of_samples_are_0_a_half_and_1_in_quarters() -> None:
    before, after = np.array([0.5, 0.0]), np.array([0.5, 1.0])
    wide = paired_bootstrap(before, after, confidence=0.95)
    assert wide == PairedDifference(0.25, 0.75, 0.0, 1.0)
    # A quarter of the samples have mean 0 and a quarter 1: the middle 40 % are all at a half.
    narrow = paired_bootstrap(before, after, confidence=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_of_many_users_the_interval_is_that_of_the_normal_approximation() -> None:
    rng = np.random.default_rng(3)
    before = rng.random(2000)
    after = before + rng.normal(0.02, 0.1, 2000)
    found = paired_bootstrap(before, after, samples=8000)
    mean, error = (after - before).mean(), (after - before).std() / np.sqrt(2000)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_pairing_takes_out_what_makes_a_user_easy_for_both() -> None:
    before = np.random.default_rng(0).random(500)
    found = paired_bootstrap(before, before - 0.01)
    assert found.low == pytest.approx(-0.01)
    assert found.high == pytest.approx(-0.01)


def test_the_interval_follows_from_the_seed() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.random(40), rng.random(40)
    assert paired_bootstrap(before, after, seed=5) == paired_bootstrap(before, after, seed=5)
    assert paired_bootstrap(before, after, seed=5) != paired_bootstrap(before, after, seed=6)


def test_of_nobody_or_nothing_finite_there_is_no_interval() -> None:
    nobody = paired_bootstrap(np.zeros(0), np.zeros(0))
    assert all(np.isnan(value) for value in dataclasses.astuple(nobody))
    broken = paired_bootstrap(np.zeros(3), np.array([0, np.nan, 0]))
    assert np.isnan(broken.low)
    assert np.isnan(broken.high)
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_bootstrap(np.zeros(3), np.zeros(4))


# --- the verdict ---


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.01, 0.5]),
    st.integers(0, 9),
)
def test_equal_rankings_are_never_refused(figures: list[float], margin: float, seed: int) -> None:
    values = np.array(figures)
    found = paired_bootstrap(values, values, samples=100, seed=seed)
    assert decision(found, len(figures), margin=margin, min_users=1).refusal is None


@pytest.mark.slow
@given(st.lists(st.floats(0.1, 1), min_size=30, max_size=80), st.floats(0.1, 0.9))
def test_a_clearly_worse_one_is_refused(figures: list[float], kept: float) -> None:
    values = np.array(figures)
    found = paired_bootstrap(values, values * kept, samples=100)
    assert "of the live model; the difference is between" in (decision(found, len(figures)).refusal or "")


@pytest.mark.parametrize(
    ("high", "refused"), [(0.01, False), (-0.0019, False), (-0.002, False), (-0.0021, True)]
)
def test_refused_is_what_lies_wholly_beyond_the_margin(high: float, refused: bool) -> None:
    found = PairedDifference(champion=0.2, challenger=0.19, low=-0.03, high=high)
    assert (decision(found, 100, margin=0.01).refusal is not None) == refused


def test_too_few_users_refuse_nothing_and_figures_that_are_not_finite_are_refused() -> None:
    worse = PairedDifference(champion=0.5, challenger=0.0, low=-0.5, high=-0.5)
    assert decision(worse, 29).refusal is None
    assert decision(worse, 30).refusal is not None
    broken = PairedDifference(champion=0.5, challenger=float("nan"), low=float("nan"), high=float("nan"))
    assert "not a finite number" in (decision(broken, 30).refusal or "")


# --- what neither was trained on ---


def graph_of(held_out: float, canonical: NDArray[np.int32] | None = None) -> tuple[LikeGraph, list[str]]:
    ids = [f"t{track}" for track in range(40)]
    pairs = [(f"u{user}", track) for user in range(50) for track in ids]
    likes = pl.DataFrame(pairs, schema=["user_id", "track_id"], orient="row")
    graph = build_like_graph(
        likes,
        pl.Series("track_id", ids),
        split_key="key",
        held_out=held_out,
        calibration_share=0.0,
        canonical=canonical,
    )
    return graph, ids


def test_the_whole_gate_fold_is_judged_where_nothing_changed() -> None:
    graph, ids = graph_of(0.2)
    same = TrainedOn(0.2, graph.canonical)
    gate = unseen_gate_likes(graph, ids, split_key="key", held_out=0.2, models=[same, same])
    assert gate.nnz > 100
    np.testing.assert_array_equal(gate.toarray(), graph.fold_matrix(GATE).toarray())


def test_likes_a_model_was_shown_under_a_smaller_share_are_left_out() -> None:
    small, _ = graph_of(0.1)
    graph, ids = graph_of(0.3)
    models = [TrainedOn(0.1, graph.canonical), TrainedOn(0.3, graph.canonical)]
    gate = unseen_gate_likes(graph, ids, split_key="key", held_out=0.3, models=models)
    assert gate.nnz > 50
    np.testing.assert_array_equal(gate.toarray(), small.fold_matrix(GATE).toarray())
    assert small.fold_matrix(TRAIN).multiply(graph.fold_matrix(GATE)).nnz > 0


def test_likes_of_recordings_whose_ids_a_model_knew_as_others_are_left_out() -> None:
    then = np.arange(30, dtype=np.int32)  # ten tracks have come since
    now = np.arange(40, dtype=np.int32)
    now[7], now[35] = 3, 4
    graph, ids = graph_of(0.3, now)
    models = [TrainedOn(0.3, then), TrainedOn(0.3, now)]
    gate = unseen_gate_likes(graph, ids, split_key="key", held_out=0.3, models=models)
    whole = graph.fold_matrix(GATE)
    per_track = np.bincount(gate.indices, minlength=40)
    assert per_track[3] == 0  # the likes of 7 were trained on under another pair
    expected = np.bincount(whole.indices, minlength=40)
    assert expected[3] > 0
    expected[3] = 0
    assert per_track.tolist() == expected.tolist()


def test_only_candidates_are_asked_for_and_a_draw_of_users_stays_the_same() -> None:
    graph, _ = graph_of(0.3)
    candidates = np.arange(40) != 5
    likes, gate = graph.matrix(), graph.fold_matrix(GATE)
    held_out = held_out_for_both(likes, gate, candidates, max_users=1000, seed=0)
    assert held_out.relevant[:, 5].nnz == 0
    assert held_out.likes.multiply(held_out.relevant).nnz == 0
    few = [held_out_for_both(likes, gate, candidates, max_users=10, seed=0) for _ in range(2)]
    assert few[0].n_users == 10
    np.testing.assert_array_equal(few[0].likes.toarray(), few[1].likes.toarray())
    nobody = held_out_for_both(likes, gate, np.zeros(40, dtype=np.bool_), max_users=10, seed=0)
    assert nobody.n_users == 0


# --- two bundles ---


def bundle(
    folder: Path, embeddings: list[list[float]], recommendable: list[bool], recency: float | None = None
) -> Bundle:
    blend = {"embedding": 1.0, "neighbour": 0.0, "length_exponent": 0.0}
    continuation = {"blend": blend, "recency": recency, "neighbour_recency": 0.0, "for_users": True}
    n = len(embeddings)
    content = BundleContent(
        track_ids=[f"t{track}" for track in range(n)],
        embeddings=np.array(embeddings, dtype=np.float32),
        pooling_weight=np.ones(n, dtype=np.float32),
        popularity=np.ones(n, dtype=np.int32),
        recommendable=np.array(recommendable),
        prior=np.zeros(n, dtype=np.float32),
        neighbour_indptr=np.zeros(n + 1, dtype=np.int64),
        neighbour_indices=np.zeros(0, dtype=np.int32),
        neighbour_weight=np.zeros(0, dtype=np.float32),
        user_ids=[],
        user_indptr=np.zeros(1, dtype=np.int64),
        user_tracks=np.zeros(0, dtype=np.int32),
        names=[""] * n,
        artists=[""] * n,
        image_urls=[""] * n,
        preview_urls=[""] * n,
        facts={
            "bundle_version": folder.name,
            "model_version": folder.name,
            "blend": blend,
            **({} if recency is None else {"continuation": continuation}),
        },
    )
    write_bundle(folder, content)
    return Bundle.open(folder)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Bundle]:
    return lambda name, *content: bundle(tmp_path / name, *content)


def test_both_rank_the_same_candidates_for_the_same_likes(make: Callable[..., Bundle]) -> None:
    # Somebody likes track 0 and, held out, track 1. Track 3 is new: the old model cannot recommend it.
    old = make("old", [[1, 0], [0.8, 0.6], [0, 1], [0, 1]], [True, True, True, False])
    new = make("new", [[1, 0], [0.6, 0.8], [0, 1], [1, 0]], [True, True, True, True])
    worse = make("worse", [[1, 0], [0, 1], [0.8, 0.6], [1, 0]], [True, True, True, True])
    candidates = common_candidates(old, new)
    assert candidates.tolist() == [True, True, True, False]
    likes, gate = csr_matrix([[1.0, 1.0, 0.0, 0.0]]), csr_matrix([[0.0, 1.0, 0.0, 0.0]])
    held_out = held_out_for_both(likes, gate, candidates, max_users=10, seed=0)
    settings = GateSettings(k=2, metric="map")
    # Track 3 would come first with the new model, and is no candidate: both put track 1 first.
    same = compare_bundles(old, new, held_out, settings)
    assert list(same) == ["map", "recall"]
    assert same["map"] == PairedDifference(1.0, 1.0, 0.0, 0.0)
    found = compare_bundles(old, worse, held_out, settings)
    assert found["map"] == PairedDifference(1.0, 0.5, -0.5, -0.5)
    assert found["recall"] == PairedDifference(1.0, 1.0, 0.0, 0.0)
    # The bundles themselves are as they were.
    assert new.recommendable.all()
    assert len(new.popular_order) == 4


def test_where_lists_have_an_order_what_was_liked_before_is_given(make: Callable[..., Bundle]) -> None:
    # A list of 0, then 1, then held out 2, then 3: after 1 comes 2 for who hears the newest song most.
    axes = [[0.98, 0.2], [0.0, 1.0], [0.3, 0.95], [0.7, 0.71], [0.8, 0.6]]
    unit = [[x / np.hypot(x, y), y / np.hypot(x, y)] for x, y in axes]
    flat, fading = make("flat", unit, [True] * 5), make("fading", unit, [True] * 5, 3.0)
    likes, gate = csr_matrix([[1.0, 1.0, 1.0, 1.0, 0.0]]), csr_matrix([[0.0, 0.0, 1.0, 0.0, 0.0]])
    ages = np.array([3, 2, 1, 0], dtype=np.uint16)
    assert most_have_an_order(likes, gate, ages)
    assert not most_have_an_order(likes, gate, ages * 0)
    held_out = continued_for_both(likes, gate, common_candidates(flat, fading), ages, max_users=10)
    assert held_out.order is not None
    assert held_out.order.toarray().tolist() == [[2, 1, 0, 0, 0]]
    assert held_out.excluded is not None
    assert held_out.excluded.indices.tolist() == [3]
    found = compare_bundles(flat, fading, held_out, GateSettings(k=2, metric="map"))
    assert (found["map"].champion, found["map"].challenger) == (0.5, 1.0)


def test_a_user_counts_once_however_many_likes_are_held_out(make: Callable[..., Bundle]) -> None:
    # Both held-out likes of one user come first, the only one of the other user third.
    same = make("same", [[1.0, 0.0]] * 4, [True] * 4)
    likes = csr_matrix([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    gate = csr_matrix([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    ages = np.array([2, 1, 0, 1, 0], dtype=np.uint16)
    held_out = continued_for_both(likes, gate, same.recommendable, ages, max_users=10)
    assert (held_out.likes.shape[0], held_out.n_users) == (3, 2)
    found = compare_bundles(same, same, held_out, GateSettings(k=3, metric="map"))
    assert found["map"].champion == pytest.approx((1 + 1 / 3) / 2)
