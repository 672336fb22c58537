"""Searching for many queries at once finds what each of them finds alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.recommend import list_search, ranking
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.index import CandidateIndex
from tunegraph_pipeline.recommend.list_search import best_of, lists_reached, search_lists
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline_tests.conftest import examples


@settings(max_examples=examples(100))
@given(
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(1, 14),
    st.integers(0, 40),
    st.sampled_from([1, 64]),
)
def test_the_best_of_the_nearest_lists_are_found_for_each_query(
    seed: int, queries: int, lists: int, longest: int, at_a_time: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = [rng.integers(-2, 3, (rng.integers(longest + 1), 3)).astype(np.float32) for _ in range(lists)]
    sizes = np.array([len(some) for some in vectors])
    numbers = rng.permutation(int(sizes.sum())).astype(np.int64)
    tracks = np.split(numbers, sizes.cumsum()[:-1])
    asked = rng.integers(-2, 3, (queries, 3)).astype(np.float32)
    near = rng.integers(-3, 4, (queries, lists)).astype(np.float32)
    probes, wanted = rng.integers(1, lists + 3, queries).tolist(), rng.integers(1, 20, queries).tolist()

    def read(number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return vectors[number], tracks[number]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_search, "_PRODUCTS", at_a_time)
        found = search_lists(asked, near, probes, wanted, sizes, read)
    for query, m in enumerate(wanted):
        reached = np.flatnonzero(lists_reached(near[query], probes[query]))
        assert len(reached) >= min(probes[query], lists)
        theirs = np.concatenate([tracks[number] for number in reached])
        products = np.concatenate([vectors[number] @ asked[query] for number in reached])
        expected, best = best_of(theirs, products, m, 0.5), best_of(*found[query], m, 0.5)
        np.testing.assert_array_equal(best.tracks, expected.tracks)
        np.testing.assert_array_equal(best.products, expected.products)
        assert (best.bound, best.asked) == (expected.bound, m)
        # In any order the same are found, and none above the bound is missing.
        kept = products * np.float32(0.5) > best.bound
        assert set(theirs[kept]) <= set(best.tracks.tolist())
        assert len(best.tracks) <= m


@pytest.mark.slow
def test_the_index_finds_for_many_what_it_finds_for_one(clustered_bundle: Bundle) -> None:
    index = CandidateIndex.open(clustered_bundle)
    assert index is not None
    rng = np.random.default_rng(3)
    n = 200
    directions = [clustered_bundle.embeddings[track] * rng.uniform(0.2, 3) for track in range(n)]
    familiarities = rng.choice([-0.15, 0.0, 0.1], n).tolist()
    ms, probes = rng.choice([1, 5, 40, 10_000], n).tolist(), rng.choice([1, 3, 8, 10_000], n).tolist()
    many = index.search_many(directions, 1.0, familiarities, ms, probes)
    assert many is not None
    for found, *query in zip(many, directions, [1.0] * n, familiarities, ms, probes, strict=True):
        alone = index.search(*query)
        np.testing.assert_array_equal(found.tracks, alone.tracks)
        np.testing.assert_array_equal(found.products, alone.products)
        assert (found.bound, found.asked) == (alone.bound, alone.asked)


@pytest.mark.slow
def test_lists_ranked_at_once_have_the_answers_of_single_queries(
    clustered_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rng = clustered_bundle, np.random.default_rng(4)
    monkeypatch.setattr(ranking, "_FEW", 2)
    monkeypatch.setattr(ranking, "_SEARCHED", 37)
    ranker = Ranker(bundle, bundle.popular_order[:20], index=CandidateIndex.open(bundle))
    specs = [
        QuerySpec(
            bundle.user_list(user)[: rng.integers(0, 30)],
            rng.integers(bundle.n_tracks, size=rng.integers(3)).astype(np.int32),
            familiarity=float(rng.choice([0.0, 0.5, 0.5, 1.0])),
            diversity=float(rng.choice([0.0, 0.0, 0.4])),
            max_per_artist=(None, 2)[rng.integers(2)],
        )
        for user in range(150)
    ]
    at_once = ranker.rank_specs(specs, 7, explain=True)
    for place, spec in enumerate(specs):
        (alone,) = ranker.answer([spec], [7])
        n = len(alone.indices)
        for table, right in zip(at_once, alone, strict=True):
            np.testing.assert_array_equal(table[place, :n], right)
        assert (at_once.indices[place, n:] == -1).all()
