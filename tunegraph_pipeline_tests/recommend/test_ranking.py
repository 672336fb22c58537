import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.models.blend import Blend
from tunegraph_pipeline.recommend.bundle import (
    LEFT_OUT,
    RARE,
    SCREEN_EXTRAS,
    Bundle,
    BundleContent,
    write_bundle,
)
from tunegraph_pipeline.recommend.ranking import (
    _UNIT,
    DISLIKE,
    FAMILIARITY,
    QuerySpec,
    Ranker,
    Rankings,
    _bar,
)
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.recommend.conftest import rank_one, undescribed

RandomBundle = Callable[..., Bundle]
ROOT5 = math.sqrt(5)

# Hypothesis runs many examples in one test; the bundle factory is the same for all of them on purpose.
many_examples = settings(
    max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture]
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


@settings(max_examples=examples(200))
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
    best = rank_one(Ranker(golden_bundle), indices(0, 1), 10)
    assert best.indices.tolist() == [2, 3]
    np.testing.assert_allclose(best.scores, [4.4 / ROOT5 + 1.225, -0.8 / ROOT5 + 1.7], rtol=1e-6)
    # c owes b 2*2*0.8/sqrt5 + 1.5*0.25 = 1.81 and a 2*0.6/sqrt5 + 1.5*0.5 = 1.29; d owes all it has to a.
    assert best.because.tolist() == [[1, 0], [0, -1]]


def test_a_user_with_one_like_is_ranked_by_that_song_alone(golden_bundle: Bundle) -> None:
    # Likes b: q = (0,1). a: 0. c: 2*0.8 + 3*0.25 + 0.1 = 2.45. d: 2*-0.6 + 0.2 = -1.
    best = rank_one(Ranker(golden_bundle), indices(1), 10)
    assert best.indices.tolist() == [2, 0, 3]
    np.testing.assert_allclose(best.scores, [2.45, 0, -1], atol=1e-6)
    # b adds nothing to a and takes from d: neither is recommended because of b.
    assert best.because[:, 0].tolist() == [1, -1, -1]


def test_repeats_and_order_of_the_likes_do_not_matter(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    for liked in (indices(1, 0), indices(0, 1, 1, 0)):
        assert_same(rank_one(ranker, liked, 10), rank_one(ranker, indices(0, 1), 10))


def test_who_likes_everything_is_recommended_nothing(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    assert rank_one(ranker, indices(0, 1, 2, 3), 10).indices.tolist() == []
    assert ranker.rank([indices(0, 1, 2, 3)], 2).indices.tolist() == [[-1, -1]]


def test_no_likes_get_the_popular_tracks_with_their_number_of_likes(golden_bundle: Bundle) -> None:
    best = rank_one(Ranker(golden_bundle), indices(), 3, exclude=indices(2))
    assert (best.indices.tolist(), best.scores.tolist()) == ([1, 3, 0], [9, 7, 5])
    assert (best.because == -1).all()


def test_excluded_tracks_are_left_out_and_do_not_change_the_scores(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    best, without = (
        rank_one(ranker, indices(0, 1), 10),
        rank_one(ranker, indices(0, 1), 10, exclude=indices(2)),
    )
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
    best = rank_one(Ranker(Bundle.open(tmp_path / "v1")), indices(0, 1), 10)
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


def tied_bundle(
    folder: Path, n_tracks: int, levels: NDArray[np.float32], artists: list[str] | None = None
) -> Bundle:
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
        artists=texts if artists is None else artists,
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
    assert rank_one(ranker, indices(0), k).indices.tolist() == expected[:k]
    assert ranker.rank([indices(0)] * 3, min(k, 999)).indices.tolist() == [expected[: min(k, 999)]] * 3


@many_examples
@given(levels=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=2, max_size=90), k=st.integers(1, 100))
def test_ties_are_ordered_by_index_whatever_the_scores(
    tmp_path_factory: pytest.TempPathFactory, levels: list[float], k: int
) -> None:
    folder = tmp_path_factory.mktemp("tied") / "v1"
    ranker = Ranker(tied_bundle(folder, len(levels), np.array(levels, dtype=np.float32)))
    expected = sorted(range(1, len(levels)), key=lambda track: (-levels[track], track))[:k]
    assert rank_one(ranker, indices(0), k).indices.tolist() == expected


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
    best = rank_one(Ranker(bundle), indices(*liked), k)
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


@pytest.mark.slow
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
        alone = rank_one(ranker, liked, k, explain=explain)
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
        alone = rank_one(ranker, liked, 20)
        assert_same(row_of(together, row, 20), alone)


def test_threads_share_a_ranker(random_bundle: RandomBundle) -> None:
    bundle = random_bundle(2, n_tracks=500, dimension=32, n_users=40)
    ranker = Ranker(bundle)
    lists = [bundle.user_list(user) for user in range(bundle.n_users)]
    expected = [rank_one(ranker, liked, 10) for liked in lists]
    wrong: list[int] = []

    def query(offset: int) -> None:
        for turn in range(200):
            user = (turn * 7 + offset) % len(lists)
            got = rank_one(ranker, lists[user], 10)
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


# ---- what a spec may ask for beyond its likes


def no_more_than(quota: int, artists: list[int]) -> bool:
    named = [artist for artist in artists if artist >= 0]
    return all(named.count(artist) <= quota for artist in named)


def scores_of(bundle: Bundle, spec: QuerySpec) -> NDArray[np.float64]:
    """The rule spelled out in float64, for a spec with likes that are not disliked."""
    blend = Blend.from_facts(bundle.facts["blend"])
    disliked = sorted(set(spec.disliked.tolist()))
    liked = sorted(set(spec.liked.tolist()) - set(disliked))
    _, scores = parts_of_scores(bundle, liked)
    if disliked:
        against, _ = parts_of_scores(bundle, disliked)
        scores = scores - DISLIKE * against.sum(axis=0)
    log_likes = np.log1p(bundle.popularity.astype(np.float64))
    among = log_likes[bundle.recommendable]
    weight = (2 * spec.familiarity - 1) * FAMILIARITY * (abs(blend.embedding) or 1)
    scores += weight * np.maximum((log_likes - among.mean()) / (among.std() or 1), RARE)
    return scores


@st.composite
def specs(draw: st.DrawFn, bundle: Bundle) -> QuerySpec:
    tracks = st.lists(st.integers(0, bundle.n_tracks - 1), max_size=12)
    disliked = draw(tracks)
    liked = draw(tracks.filter(lambda some: bool(set(some) - set(disliked))))
    return QuerySpec(
        indices(*liked),
        indices(*disliked),
        indices(*draw(tracks)),
        familiarity=draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        max_per_artist=draw(st.sampled_from([None, 1, 2])),
        explicit=draw(st.booleans()),
    )


@pytest.mark.slow
@many_examples
@given(seed=st.integers(0, 20), k=st.integers(1, 70), decay=st.sampled_from([1.0, 0.9]), data=st.data())
def test_the_best_are_those_of_the_rule_whatever_is_asked_for(
    random_bundle: RandomBundle, seed: int, k: int, decay: float, data: st.DataObject
) -> None:
    bundle = random_bundle(seed, n_tracks=240, dimension=48, n_users=10, decay=decay)
    blocked = indices(*data.draw(st.lists(st.integers(0, 239), max_size=5)))
    ranker = Ranker(bundle, blocked)
    spec = data.draw(specs(bundle))
    best = ranker.answer([spec], [k])[0]
    scores = scores_of(bundle, spec)
    allowed = bundle.recommendable.copy()
    for left_out in (spec.liked, spec.disliked, spec.excluded, blocked):
        allowed[left_out] = False
    if not spec.explicit:
        allowed[bundle.explicit == 1] = False
    assert allowed[best.indices].all()
    assert len(set(best.indices.tolist())) == len(best.indices) <= k
    assert (np.diff(best.scores) <= 0).all()
    np.testing.assert_allclose(best.scores, scores[best.indices], rtol=1e-5, atol=2e-5)
    quota = len(scores) if spec.max_per_artist is None else spec.max_per_artist
    artists = ranker._first_artists(np.arange(bundle.n_tracks))
    chosen = [artists[track] for track in best.indices.tolist()]
    assert no_more_than(quota, chosen)
    full = {artist for artist in chosen if artist >= 0 and chosen.count(artist) == quota}
    others = [
        track
        for track in np.flatnonzero(allowed).tolist()
        if track not in best.indices and artists[track] not in full
    ]
    if len(best.indices) < k:
        assert others == []
    elif others:
        assert scores[others].max() <= best.scores[-1] + 2e-5


@pytest.mark.slow
@many_examples
@given(seed=st.integers(0, 20), decay=st.sampled_from([1.0, 0.9]), data=st.data())
def test_tastes_answered_together_are_answered_as_each_alone(
    random_bundle: RandomBundle, seed: int, decay: float, data: st.DataObject
) -> None:
    bundle = random_bundle(seed, n_tracks=240, dimension=48, n_users=10, decay=decay)
    ranker = Ranker(bundle)
    asked = [*data.draw(st.lists(specs(bundle), min_size=2, max_size=5)), QuerySpec(indices())]
    asked = [spec._replace(diversity=data.draw(st.sampled_from([0.0, 0.5]))) for spec in asked]
    ks = [data.draw(st.integers(1, 40)) for _ in asked]
    for spec, k, together in zip(asked, ks, ranker.answer(asked, ks), strict=True):
        assert_same(together, ranker.answer([spec], [k])[0])


def test_the_screen_of_a_decaying_space_is_narrow_and_bounds_every_score(random_bundle: RandomBundle) -> None:
    bundle = random_bundle(4, n_tracks=900, dimension=96, n_users=30, decay=0.9)
    screen = bundle.screen.astype(np.float64)
    coordinates = screen.shape[1] - SCREEN_EXTRAS
    assert coordinates < 48
    E = bundle.embeddings.astype(np.float64)
    for direction in E[:50]:
        rest = np.linalg.norm(direction[coordinates:])
        bound = screen[:, :coordinates] @ direction[:coordinates] + rest * screen[:, coordinates]
        assert (bound >= E @ direction - 1e-6).all()
    found, cosines = Ranker(bundle).nearest(3, 25)
    exact = E @ E[3]
    exact[~bundle.recommendable], exact[3] = -2, -2
    np.testing.assert_allclose(cosines, np.sort(exact)[::-1][:25], atol=1e-6)
    assert len(set(found.tolist())) == 25


def test_a_disliked_song_takes_half_of_what_it_would_add_off_the_others(golden_bundle: Bundle) -> None:
    # Likes b, dislikes a. c: 2*(0.8 - 0.6/2) + 3*(0.25 - 0.5/2) + 0.1 = 1.1.
    # d: 2*(-0.6 - 0.8/2) - 3*1/2 + 0.2 = -3.3. And a itself is never in the answer.
    (best,) = Ranker(golden_bundle).answer([QuerySpec(indices(1), indices(0))], [10])
    assert best.indices.tolist() == [2, 3]
    np.testing.assert_allclose(best.scores, [1.1, -3.3], atol=1e-6)
    assert best.because.tolist() == [[1, -1], [-1, -1]]


def test_a_song_that_is_liked_and_disliked_is_disliked(golden_bundle: Bundle) -> None:
    ranker = Ranker(golden_bundle)
    both, disliked = ranker.answer(
        [QuerySpec(indices(0, 1), indices(0)), QuerySpec(indices(1), indices(0))], [10, 10]
    )
    assert_same(both, disliked)
    (nothing_liked,) = ranker.answer([QuerySpec(indices(0), indices(0))], [10])
    assert nothing_liked.indices.tolist() == [1, 2, 3]  # the popular ones, without it


def test_familiarity_moves_known_songs_up_and_discovery_moves_them_down(random_bundle: RandomBundle) -> None:
    bundle = random_bundle(5, n_tracks=240, dimension=48, n_users=10, decay=0.9)
    ranker = Ranker(bundle)
    means = []
    for familiarity in (0.0, 0.5, 1.0):
        specs = [
            QuerySpec(bundle.user_list(user)[:5], familiarity=familiarity) for user in range(bundle.n_users)
        ]
        found = ranker.answer(specs, [10] * len(specs))
        means.append(np.mean([bundle.popularity[best.indices].mean() for best in found]))
    assert means[0] < means[1] < means[2]


def test_diversity_is_maximal_marginal_relevance_worked_out_by_hand(
    golden: Callable[..., BundleContent], tmp_path: Path
) -> None:
    # Likes track 0 at (1, 0). The others have scores 2 cos: 1 and 2 are twins at cos 0.8, 3 has 0.6 on the
    # other side, 4 has 0. Relevance is 1, 1, 0.75, 0. With diversity one half:
    #   first 1 (the smaller of the equals); then 2 has 1/2 - 1/2*1 = 0, 3 has 3/8 - 1/2*0 = 0.375,
    #   4 has 0 - 1/2*0.6 = -0.3: so 3; then 2 with 0 before 4 with 0 - 1/2*0.8.
    content = undescribed(golden())
    embeddings = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [0.6, -0.8], [0, 1]], dtype=np.float32)
    many: dict[str, Any] = {name: [*getattr(content, name), ""] for name in ("names", "artists")}
    write_bundle(
        tmp_path / "v1",
        dataclasses.replace(
            content,
            **many,
            track_ids=["a", "b", "c", "d", "e"],
            isrcs=[""] * 5,
            embeddings=embeddings,
            pooling_weight=np.ones(5, dtype=np.float32),
            popularity=np.ones(5, dtype=np.int32),
            recommendable=np.ones(5, dtype=np.bool_),
            prior=np.zeros(5, dtype=np.float32),
            neighbour_indptr=np.zeros(6, dtype=np.int64),
            neighbour_indices=indices(),
            neighbour_weight=np.zeros(0, dtype=np.float32),
            image_urls=[""] * 5,
            preview_urls=[""] * 5,
        ),
    )
    ranker = Ranker(Bundle.open(tmp_path / "v1"))
    plain, diverse = ranker.answer([QuerySpec(indices(0)), QuerySpec(indices(0), diversity=0.5)], [4, 4])
    assert plain.indices.tolist() == [1, 2, 3, 4]
    assert diverse.indices.tolist() == [1, 3, 2, 4]
    np.testing.assert_allclose(diverse.scores, [1.6, 1.2, 1.6, 0], atol=1e-6)


@many_examples
@given(
    seed=st.integers(0, 30), diversity=st.sampled_from([0.1, 0.5, 1.0]), quota=st.sampled_from([None, 1, 2])
)
def test_diverse_tracks_are_chosen_one_by_one_as_the_rule_says(
    random_bundle: RandomBundle, seed: int, diversity: float, quota: int | None
) -> None:
    bundle = random_bundle(seed)
    ranker, liked, k = Ranker(bundle), bundle.user_list(0), 12
    assume(liked.size)  # the most popular songs, which an empty list gets, are not diversified
    pool = rank_one(ranker, liked, 100)
    (found,) = ranker.answer([QuerySpec(liked, diversity=diversity, max_per_artist=quota)], [k])
    rows = bundle.embeddings[pool.indices].astype(np.float64)
    cosines = rows @ rows.T
    spread = float(pool.scores[0] - pool.scores[-1]) or 1.0
    relevance = (pool.scores - pool.scores[-1]) / spread
    places = {track: place for place, track in enumerate(pool.indices.tolist())}
    chosen = [places[track] for track in found.indices.tolist()]
    artists = ranker._first_artists(pool.indices)
    for turn, place in enumerate(chosen):
        before = chosen[:turn]
        had = Counter(artists[p] for p in before if artists[p] >= 0)
        left = [p for p in places.values() if p not in before and (not quota or had[artists[p]] < quota)]
        gain = {
            p: (1 - diversity) * relevance[p] - diversity * max((cosines[p, q] for q in before), default=-1.0)
            for p in left
        }
        assert place in gain
        assert gain[place] >= max(gain.values()) - 1e-6


def test_cosines_of_diverse_tracks_are_the_same_in_any_order_of_summation() -> None:
    rows = np.random.default_rng(3).standard_normal((50, 300))
    rows = np.rint(rows / np.linalg.norm(rows, axis=1, keepdims=True) * _UNIT)
    forwards = rows @ rows[7]
    assert (
        forwards == [sum(int(a) * int(b) for a, b in zip(row, rows[7], strict=True)) for row in rows]
    ).all()
    np.testing.assert_array_equal(rows[:, ::-1] @ rows[7, ::-1], forwards)


def test_an_artist_who_fills_the_first_places_leaves_room_for_the_others(tmp_path: Path) -> None:
    # 900 songs of one artist score above all others, more than are looked at first.
    levels = np.linspace(2, 1, 1000, dtype=np.float32)
    bundle = tied_bundle(tmp_path / "v1", 1000, levels, artists=["x"] * 900 + ["y"] * 50 + [""] * 50)
    (best,) = Ranker(bundle).answer([QuerySpec(indices(0), max_per_artist=2)], [10])
    assert best.indices.tolist() == [1, 2, 900, 901, *range(950, 956)]
    (popular,) = Ranker(bundle).answer([QuerySpec(indices(), max_per_artist=3)], [7])
    assert popular.indices.tolist() == [0, 1, 2, 900, 901, 902, 950]


@many_examples
@given(seed=st.integers(0, 20), data=st.data())
def test_the_listeners_of_both_are_counted_from_the_stored_lists(
    random_bundle: RandomBundle, seed: int, data: st.DataObject
) -> None:
    bundle = random_bundle(seed)
    track = st.integers(0, bundle.n_tracks - 1)
    pairs = data.draw(st.lists(st.tuples(track, track), max_size=8))
    lists = [set(bundle.user_list(user).tolist()) for user in range(bundle.n_users)]
    expected = [sum({i, j} <= likes for likes in lists) for i, j in pairs]
    some, others = (indices(*(pair[side] for pair in pairs)) for side in (0, 1))
    assert Ranker(bundle).listeners_of_both(some, others).tolist() == expected


@many_examples
@given(seed=st.integers(0, 20), data=st.data())
def test_the_parts_of_a_score_add_up_to_it(
    random_bundle: RandomBundle, seed: int, data: st.DataObject
) -> None:
    bundle = random_bundle(seed, n_tracks=240, dimension=48, n_users=10, decay=0.9)
    ranker = Ranker(bundle)
    spec = data.draw(specs(bundle))
    (best,) = ranker.answer([spec], [5])
    for track, score in zip(best.indices.tolist(), best.scores.tolist(), strict=True):
        total, liked, contributions = ranker.parts(spec, track)
        assert total == pytest.approx(score, rel=1e-5, abs=1e-5)
        if not spec.disliked.size and spec.familiarity == 0.5:
            assert contributions.sum() + bundle.prior[track] == pytest.approx(score, rel=1e-5, abs=1e-5)
        assert liked.tolist() == sorted(set(spec.liked.tolist()) - set(spec.disliked.tolist()))
