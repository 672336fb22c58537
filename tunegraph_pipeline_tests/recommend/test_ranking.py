import dataclasses
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import LEFT_OUT, Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.ranking import Blend, Ranker, Rankings, _bar

RandomBundle = Callable[..., Bundle]
ROOT5 = math.sqrt(5)

# Hypothesis runs many examples in one test; the bundle factory is the same for all of them on purpose.
many_examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def indices(*tracks: int) -> NDArray[np.int32]:
    return np.array(tracks, dtype=np.int32)


def parts_of_scores(bundle: Bundle, liked: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rule spelled out in float64: what each liked track adds to each track, [n, N], and the scores."""
    blend = Blend.from_facts(bundle.facts["blend"])
    E = bundle.embeddings.astype(np.float64)
    weights = bundle.pooling_weight.astype(np.float64)
    length = np.linalg.norm(sum(weights[i] * E[i] for i in liked))
    contributions = np.zeros((len(liked), bundle.n_tracks))
    for row, i in enumerate(liked):
        contributions[row] = blend.embedding * weights[i] * (E @ E[i]) / length
        for entry in range(bundle.neighbour_indptr[i], bundle.neighbour_indptr[i + 1]):
            share = blend.neighbour * len(liked) ** -blend.length_exponent
            contributions[row, bundle.neighbour_indices[entry]] += share * bundle.neighbour_weight[entry]
    return contributions, contributions.sum(axis=0) + bundle.prior


# ---- the shortlist


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 3000),
    k=st.integers(1, 40),
    distinct=st.sampled_from([2, 30, 10**6]),
    seed=st.integers(0, 10**6),
)
def test_the_shortlist_holds_all_that_the_best_k_may_be_and_little_more(
    size: int, k: int, distinct: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(distinct, size=size) / distinct).astype(np.float32)
    scores[rng.random(size) < rng.random()] = LEFT_OUT  # from none left out to nearly all
    rounding = 64.0
    bar, reached = _bar(scores, k, rounding)
    found = reached(bar)
    assert (np.diff(found) > 0).all()
    allowed = np.flatnonzero(scores > LEFT_OUT)
    assert np.isin(found, allowed).all()
    if len(allowed) > k:
        # Off by at most this much each, a track below the k-th may yet be among the best k.
        slack = 2 * float(np.finfo(np.float32).eps) * (rounding + 8)
        best = np.sort(scores[allowed].astype(np.float64))[-k]
        assert np.isin(np.flatnonzero(scores >= best - slack / 2), found).all()
    else:
        assert found.tolist() == allowed.tolist()


def test_the_shortlist_of_a_large_catalogue_is_short() -> None:
    scores = np.random.default_rng(3).standard_normal(20_635).astype(np.float32)
    bar, reached = _bar(scores, 10, 64.0)
    assert 10 <= len(reached(bar)) < 40


# ---- by hand


def test_the_scores_of_two_liked_songs_are_those_worked_out_on_paper(golden_bundle: Bundle) -> None:
    # Likes a and b: pooled = 1*(1,0) + 2*(0,1) = (1,2), length sqrt 5.
    # c: 2*(0.6 + 2*0.8)/sqrt5 + 3/2*(0.5 + 0.25) + 0.1 = 4.4/sqrt5 + 1.225
    # d: 2*(0.8 - 2*0.6)/sqrt5 + 3/2*1.0 + 0.2          = -0.8/sqrt5 + 1.7
    best = Ranker(golden_bundle).rank_one(indices(0, 1), 10)
    assert best.indices.tolist() == [2, 3]
    np.testing.assert_allclose(best.scores, [4.4 / ROOT5 + 1.225, -0.8 / ROOT5 + 1.7], rtol=1e-6)
    # c owes b 2*2*0.8/sqrt5 + 1.5*0.25 = 1.81 and a 2*0.6/sqrt5 + 1.5*0.5 = 1.29; d owes all it has to a.
    assert best.because.tolist() == [[1, 0], [0, -1]]


def test_a_user_with_one_like_is_ranked_by_that_song_alone(golden_bundle: Bundle) -> None:
    # Likes b: q = (0,1). a: 0. c: 2*0.8 + 3*0.25 + 0.1 = 2.45. d: 2*-0.6 + 0.2 = -1.
    best = Ranker(golden_bundle).rank_one(indices(1), 10)
    assert best.indices.tolist() == [2, 0, 3]
    np.testing.assert_allclose(best.scores, [2.45, 0, -1], atol=1e-6)
    # b adds nothing to a and takes from d: neither is recommended because of b.
    assert best.because[:, 0].tolist() == [1, -1, -1]


def test_repeats_and_order_of_the_likes_do_not_matter(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    for liked in (indices(1, 0), indices(0, 1, 1, 0)):
        assert_same(ranker.rank_one(liked, 10), ranker.rank_one(indices(0, 1), 10))


def test_who_likes_everything_is_recommended_nothing(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    assert ranker.rank_one(indices(0, 1, 2, 3), 10).indices.tolist() == []
    assert ranker.rank([indices(0, 1, 2, 3)], 2).indices.tolist() == [[-1, -1]]


def test_no_likes_get_the_popular_tracks_with_their_number_of_likes(golden_bundle: Bundle) -> None:
    best = Ranker(golden_bundle).rank_one(indices(), 3, exclude=indices(2))
    assert (best.indices.tolist(), best.scores.tolist()) == ([1, 3, 0], [9, 7, 5])
    assert (best.because == -1).all()


def test_excluded_tracks_are_left_out_and_do_not_change_the_scores(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    best, without = ranker.rank_one(indices(0, 1), 10), ranker.rank_one(indices(0, 1), 10, exclude=indices(2))
    assert without.indices.tolist() == [3]
    assert without.scores[0] == best.scores[1]


def test_rows_are_padded_where_fewer_than_k_can_be_recommended(golden_bundle: Bundle) -> None:
    rankings = Ranker(golden_bundle).rank([indices(0, 1), indices(1), indices()], 4, explain=True)
    assert rankings.indices.tolist() == [[2, 3, -1, -1], [2, 0, 3, -1], [1, 2, 3, 0]]
    assert rankings.scores[0, 2:].tolist() == [-np.inf, -np.inf]
    assert rankings.because[:, :, 0].tolist() == [[1, 0, -1, -1], [1, -1, -1, -1], [-1] * 4]


def test_likes_that_cancel_out_leave_the_neighbours_to_decide(
    golden: Callable[..., BundleContent], tmp_path: Path
) -> None:
    opposite = np.array([[1, 0], [-1, 0], [0.6, 0.8], [0.8, -0.6]], dtype=np.float32)
    content = dataclasses.replace(golden(), embeddings=opposite, pooling_weight=np.ones(4, dtype=np.float32))
    write_bundle(tmp_path / "v1", content)
    best = Ranker(Bundle.open(tmp_path / "v1")).rank_one(indices(0, 1), 10)
    assert best.indices.tolist() == [3, 2]
    np.testing.assert_allclose(best.scores, [1.5 + 0.2, 1.5 * 0.75 + 0.1], rtol=1e-6)
    assert best.because[:, 0].tolist() == [0, 0]


def test_the_nearest_tracks_are_those_of_the_largest_cosine(golden_bundle: Bundle) -> None:
    # From a = (1,0): d 0.8, c 0.6, b 0.
    found, cosines = Ranker(golden_bundle).nearest(0, 2)
    assert found.tolist() == [3, 2]
    np.testing.assert_allclose(cosines, [0.8, 0.6], rtol=1e-6)


def test_an_index_outside_the_catalogue_is_an_error(golden_bundle: Bundle) -> None:
    for wrong in (-1, 4):
        with pytest.raises(IndexError):
            Ranker(golden_bundle).rank([indices(wrong)], 2)


# ---- ties


def tied_bundle(folder: Path, n_tracks: int, levels: NDArray[np.float32]) -> Bundle:
    """Track 0 is liked; every other one has cosine 0 with it, no neighbour, and its prior for a score."""
    embeddings = np.zeros((n_tracks, 2), dtype=np.float32)
    embeddings[0, 0] = embeddings[1:, 1] = 1
    none = np.zeros(0, dtype=np.int32)
    texts = [""] * n_tracks
    content = BundleContent(
        track_ids=[str(track) for track in range(n_tracks)],
        embeddings=embeddings,
        pooling_weight=np.ones(n_tracks, dtype=np.float32),
        popularity=np.ones(n_tracks, dtype=np.int32),
        recommendable=np.ones(n_tracks, dtype=np.bool_),
        prior=levels,
        neighbour_indptr=np.zeros(n_tracks + 1, dtype=np.int64),
        neighbour_indices=none,
        neighbour_weight=none.astype(np.float32),
        user_ids=[],
        user_indptr=np.zeros(1, dtype=np.int64),
        user_tracks=none,
        names=texts,
        artists=texts,
        image_urls=texts,
        preview_urls=texts,
        facts={
            "bundle_version": folder.name,
            "model_version": "m",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.5},
        },
    )
    write_bundle(folder, content)
    return Bundle.open(folder)


@pytest.mark.parametrize("k", [1, 9, 10, 11, 60, 999, 1000, 5000])
def test_among_equal_scores_the_smaller_index_comes_first_also_where_the_list_ends(
    tmp_path: Path, k: int
) -> None:
    levels = np.zeros(1000, dtype=np.float32)
    levels[[7, 500, 900]] = 2  # three tie for the first place
    levels[400:460] = 1  # sixty for the fourth, among which most lists end
    ranker = Ranker(tied_bundle(tmp_path / "v1", 1000, levels))
    expected = [7, 500, 900, *range(400, 460)]
    expected += [track for track in range(1, 1000) if track not in set(expected)]
    assert ranker.rank_one(indices(0), k).indices.tolist() == expected[:k]
    assert ranker.rank([indices(0)] * 3, min(k, 999)).indices.tolist() == [expected[: min(k, 999)]] * 3


@many_examples
@given(levels=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=2, max_size=90), k=st.integers(1, 100))
def test_ties_are_ordered_by_index_whatever_the_scores(
    tmp_path_factory: pytest.TempPathFactory, levels: list[float], k: int
) -> None:
    folder = tmp_path_factory.mktemp("tied") / "v1"
    ranker = Ranker(tied_bundle(folder, len(levels), np.array(levels, dtype=np.float32)))
    expected = sorted(range(1, len(levels)), key=lambda track: (-levels[track], track))[:k]
    assert ranker.rank_one(indices(0), k).indices.tolist() == expected


# ---- against the rule spelled out, and one against many


def row_of(rankings: Rankings, row: int, found: int) -> Rankings:
    """One row as a list ranked alone has it: without padding."""
    indices, scores, because = rankings
    return Rankings(indices[row, :found], scores[row, :found], because[row, :found])


def assert_same(one: Rankings, other: Rankings) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@many_examples
@given(seed=st.integers(0, 30), k=st.integers(1, 70), data=st.data())
def test_the_ranking_is_the_rule_spelled_out(
    random_bundle: RandomBundle, seed: int, k: int, data: st.DataObject
) -> None:
    bundle = random_bundle(seed)
    liked = sorted(data.draw(st.sets(st.integers(0, bundle.n_tracks - 1), min_size=1)))
    contributions, scores = parts_of_scores(bundle, liked)
    allowed = bundle.recommendable.copy()
    allowed[liked] = False
    best = Ranker(bundle).rank_one(indices(*liked), k)
    assert len(best.indices) == min(k, allowed.sum())
    assert allowed[best.indices].all()
    assert (np.diff(best.scores) <= 0).all()
    np.testing.assert_allclose(best.scores, scores[best.indices], rtol=1e-5, atol=1e-5)
    allowed[best.indices] = False
    if allowed.any() and len(best.indices):
        assert scores[allowed].max() <= best.scores[-1] + 1e-5
    for track, because in zip(best.indices.tolist(), best.because[:, 0].tolist(), strict=True):
        column = contributions[:, track]
        if because < 0:
            assert column.max() <= 1e-6
        else:
            assert column[liked.index(because)] >= column.max() - 1e-6


@many_examples
@given(seed=st.integers(0, 30), k=st.integers(1, 70), rows_a_block=st.integers(1, 7), explain=st.booleans())
def test_many_lists_rank_exactly_as_each_alone(
    random_bundle: RandomBundle, seed: int, k: int, rows_a_block: int, explain: bool
) -> None:
    bundle = random_bundle(seed)
    ranker = Ranker(bundle)
    lists = [bundle.user_list(user) for user in range(bundle.n_users)] + [indices()]
    together = ranker.rank(lists, k, explain=explain, block_bytes=rows_a_block * 4 * bundle.n_tracks)
    for row, liked in enumerate(lists):
        alone = ranker.rank_one(liked, k, explain=explain)
        found = len(alone.indices)
        assert_same(row_of(together, row, found), alone)
        assert (together.indices[row, found:] == -1).all()


def test_twins_do_not_change_places_between_one_and_many_at_the_size_of_a_catalogue(
    random_bundle: RandomBundle,
) -> None:
    # Large enough that BLAS takes other paths for one user than for many, with songs a last bit apart.
    bundle = random_bundle(1, n_tracks=1500, dimension=96, n_users=150)
    ranker = Ranker(bundle)
    lists = [bundle.user_list(user)[:40] for user in range(bundle.n_users)]
    together = ranker.rank(lists, 20, explain=True)
    for row, liked in enumerate(lists):
        alone = ranker.rank_one(liked, 20)
        assert_same(row_of(together, row, 20), alone)


def test_threads_share_a_ranker(random_bundle: RandomBundle) -> None:
    bundle = random_bundle(2, n_tracks=500, dimension=32, n_users=40)
    ranker = Ranker(bundle)
    lists = [bundle.user_list(user) for user in range(bundle.n_users)]
    expected = [ranker.rank_one(liked, 10) for liked in lists]
    wrong: list[int] = []

    def query(offset: int) -> None:
        for turn in range(200):
            user = (turn * 7 + offset) % len(lists)
            got = ranker.rank_one(lists[user], 10)
            if not all(np.array_equal(a, b) for a, b in zip(got, expected[user], strict=True)):
                wrong.append(user)

    threads = [threading.Thread(target=query, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_progress_ends_with_everyone(random_bundle: RandomBundle) -> None:
    bundle = random_bundle(3)
    told: list[tuple[int, int]] = []
    lists = [bundle.user_list(user) for user in range(bundle.n_users)]
    Ranker(bundle).rank(
        lists,
        5,
        block_bytes=6 * 4 * bundle.n_tracks,
        progress=lambda _, done, total: told.append((done, total)),
    )
    assert told == [(6, 20), (12, 20), (18, 20), (20, 20)]
