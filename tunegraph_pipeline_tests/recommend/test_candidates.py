"""The ranking from candidates against the exact one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.index import CandidateIndex, Probes, read_index
from tunegraph_pipeline.recommend.indexing import recall_of, write_index
from tunegraph_pipeline.recommend.list_search import Found
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.recommend.conftest import rank_one

pytestmark = pytest.mark.slow

# Hypothesis runs many examples in one test; the bundles are the same for all of them on purpose.
many_examples = settings(
    max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def some(rng: np.random.Generator, n: int, most: int) -> NDArray[np.int32]:
    return rng.integers(n, size=rng.integers(most + 1)).astype(np.int32)


def random_spec(rng: np.random.Generator, n: int) -> QuerySpec:
    return QuerySpec(
        some(rng, n, 12),
        some(rng, n, 4),
        some(rng, n, 20),
        familiarity=float(rng.choice([0.0, 0.3, 0.5, 0.5, 1.0])),
        diversity=float(rng.choice([0.0, 0.0, 0.5])),
        max_per_artist=(None, 1, 3)[rng.integers(3)],
        explicit=bool(rng.random() < 0.7),
    )


@pytest.fixture(scope="module")
def indexed(
    random_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Bundle, CandidateIndex]]:
    """A random bundle, with ties, and an index of it in 32 bits, of which every list is looked into."""
    kept: dict[int, tuple[Bundle, CandidateIndex]] = {}

    def make(seed: int) -> tuple[Bundle, CandidateIndex]:
        if seed not in kept:
            bundle = random_bundle(seed, n_tracks=300)
            path = tmp_path_factory.mktemp("index") / "index.faiss"
            form = write_index(bundle, path, "float32")
            kept[seed] = bundle, CandidateIndex(read_index(path), form, Probes.everywhere(10_000))
        return kept[seed]

    return make


@many_examples
@given(seed=st.integers(0, 3), taste_seed=st.integers(0, 10**6), k=st.sampled_from([1, 5, 40, 500]))
def test_an_index_that_overlooks_nothing_gives_the_exact_ranking_to_the_last_bit(
    indexed: Callable[[int], tuple[Bundle, CandidateIndex]], seed: int, taste_seed: int, k: int
) -> None:
    bundle, index = indexed(seed)
    rng = np.random.default_rng(taste_seed)
    blocked = np.unique(some(rng, bundle.n_tracks, 30))
    spec = random_spec(rng, bundle.n_tracks)
    (found,) = Ranker(bundle, blocked, index=index).answer([spec], [k])
    (exact,) = Ranker(bundle, blocked).answer([spec], [k])
    for table, right in zip(found, exact, strict=True):
        np.testing.assert_array_equal(table, right)


@pytest.fixture(scope="module")
def scattered(
    clustered: Callable[..., BundleContent], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, CandidateIndex]:
    """Songs whose neighbours lie anywhere, so that the index alone would not find them, and some of which add
    as much to a score as the embedding does."""
    content = clustered()
    rng = np.random.default_rng(9)
    far = rng.integers(len(content.track_ids), size=len(content.neighbour_indices))
    weight = rng.choice([-2.0, 2.0, 2.0, 2.5], len(far))
    folder = tmp_path_factory.mktemp("scattered") / "clustered"
    write_bundle(
        folder,
        dataclasses.replace(
            content, neighbour_indices=far.astype(np.int32), neighbour_weight=weight.astype(np.float32)
        ),
    )
    bundle = Bundle.open(folder)
    form = write_index(bundle, folder.parent / "index", "float32")
    return bundle, CandidateIndex(read_index(folder.parent / "index"), form, Probes.everywhere(10_000))


@many_examples
@given(taste_seed=st.integers(0, 10**6), k=st.sampled_from([1, 3, 10, 50]))
def test_neighbours_from_anywhere_are_candidates(
    scattered: tuple[Bundle, CandidateIndex], taste_seed: int, k: int
) -> None:
    bundle, index = scattered
    rng = np.random.default_rng(taste_seed)
    spec = random_spec(rng, bundle.n_tracks)._replace(liked=rng.integers(6_000, size=40).astype(np.int32))
    (found,) = Ranker(bundle, index=index).answer([spec], [k])
    (exact,) = Ranker(bundle).answer([spec], [k])
    for table, right in zip(found, exact, strict=True):
        np.testing.assert_array_equal(table, right)


@many_examples
@given(taste_seed=st.integers(0, 10**6), k=st.integers(1, 200))
def test_what_may_not_be_recommended_never_is(clustered_bundle: Bundle, taste_seed: int, k: int) -> None:
    bundle = clustered_bundle
    rng = np.random.default_rng(taste_seed)
    home = bundle.user_list(int(rng.integers(bundle.n_users)))
    # What lies nearest is what would come up: it is excluded, blocked, or marked explicit.
    near, _ = Ranker(bundle).nearest(int(home[0]), 60)
    spec = QuerySpec(home, near[40:43], near[:20], explicit=bool(rng.random() < 0.5))
    ranker = Ranker(bundle, near[20:40], index=CandidateIndex.open(bundle))
    (best,) = ranker.answer([spec], [k])
    left_out = np.concatenate([home, near[:43], np.flatnonzero(~bundle.recommendable)])
    assert len(best.indices) == k
    assert len(np.unique(best.indices)) == k
    assert not np.isin(best.indices, left_out).any()
    assert spec.explicit or not (bundle.explicit[best.indices] == 1).any()
    assert not np.isin(ranker.nearest(int(home[0]), k)[0], [home[0], *near[20:40]]).any()


def test_candidates_find_what_they_should_and_score_it_exactly(clustered_bundle: Bundle) -> None:
    bundle = clustered_bundle
    rng = np.random.default_rng(1)
    approximate, exact = Ranker(bundle, index=CandidateIndex.open(bundle)), Ranker(bundle)
    lists = [bundle.user_list(user) for user in range(100)]
    kinds = {
        "stored": [QuerySpec(liked) for liked in lists],
        "few": [QuerySpec(rng.permutation(liked)[:2]) for liked in lists],
        "familiar": [QuerySpec(liked, familiarity=0.9) for liked in lists],
        "unknown": [QuerySpec(liked, familiarity=0.1) for liked in lists],
        "disliked": [QuerySpec(liked[3:], liked[:3]) for liked in lists],
        "not explicit": [QuerySpec(liked, explicit=False) for liked in lists],
        "diverse": [QuerySpec(liked, diversity=0.3) for liked in lists],
    }
    for kind, specs in kinds.items():
        found = approximate.answer(specs, [50] * len(specs), explain=False)
        right = exact.answer(specs, [50] * len(specs), explain=False)
        recall = recall_of([one.indices for one in found], [one.indices for one in right])
        assert recall >= 0.98, kind
        for one, other in zip(found, right, strict=True):
            _, mine, theirs = np.intersect1d(one.indices, other.indices, return_indices=True)
            np.testing.assert_array_equal(one.scores[mine], other.scores[theirs])


def test_the_index_is_what_answers(clustered_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    index = CandidateIndex.open(clustered_bundle)
    assert index is not None
    asked: list[int] = []

    def search(direction: Any, prior: float, familiarity: float, m: int, probes: int, chosen: Any) -> Found:
        asked.append(probes)
        return CandidateIndex.search(index, direction, prior, familiarity, m, probes, chosen)

    monkeypatch.setattr(index, "search", search)
    ranker = Ranker(clustered_bundle, index=index)
    liked = clustered_bundle.user_list(0)
    rank_one(ranker, liked[:3], 10)
    rank_one(ranker, liked, 10)
    ranker.nearest(int(liked[0]), 10)
    assert asked == [index.probes.of(3, 0.5), index.probes.of(len(liked), 0.5), index.probes.similar]


def test_what_the_index_is_not_good_enough_for_is_answered_exactly(clustered_bundle: Bundle) -> None:
    bundle = clustered_bundle
    index = CandidateIndex.open(bundle)
    assert index is not None
    # Two lists find next to nothing; but for these kinds of queries nobody is to ask them.
    blind = index.with_probes(Probes(((0.0, None), (0.5, 2), (1.0, 2)), ((0.0, 2), (1.0, None)), None))
    ranker, exact = Ranker(bundle, index=blind), Ranker(bundle)
    liked = bundle.user_list(0)
    for spec in (QuerySpec(liked[:3], familiarity=0.2), QuerySpec(liked, familiarity=0.9)):
        (found,), (right,) = (one.answer([spec], [20]) for one in (ranker, exact))
        np.testing.assert_array_equal(found.indices, right.indices)
    np.testing.assert_array_equal(ranker.nearest(7, 20)[0], exact.nearest(7, 20)[0])
    (few,), (right,) = (one.answer([QuerySpec(liked[:3])], [500], explain=False) for one in (ranker, exact))
    np.testing.assert_array_equal(few.indices, right.indices)  # the lists hold less than is asked for


def test_no_likes_get_the_popular_tracks(clustered_bundle: Bundle) -> None:
    nothing = QuerySpec(np.zeros(0, dtype=np.int32))
    ranker = Ranker(clustered_bundle, index=CandidateIndex.open(clustered_bundle))
    (best,), (right,) = (one.answer([nothing], [5]) for one in (ranker, Ranker(clustered_bundle)))
    assert best.indices.tolist() == right.indices.tolist() == clustered_bundle.popular_order[:5].tolist()


def test_a_query_leaves_nothing_behind_for_the_next(clustered_bundle: Bundle) -> None:
    ranker = Ranker(clustered_bundle, index=CandidateIndex.open(clustered_bundle))
    specs = [QuerySpec(clustered_bundle.user_list(user)) for user in range(20)]
    fresh = [
        Ranker(clustered_bundle, index=ranker_index).answer([spec], [20])[0].indices.tolist()
        for spec in specs
        for ranker_index in [CandidateIndex.open(clustered_bundle)]
    ]
    with pytest.raises(IndexError):
        ranker.answer([QuerySpec(np.array([10**6], dtype=np.int32))], [20])
    ranker.answer([specs[0]._replace(excluded=np.arange(3_000, dtype=np.int32))], [20])
    assert [ranker.answer([spec], [20])[0].indices.tolist() for spec in specs] == fresh


def test_both_paths_are_mixed_in_one_batch(clustered_bundle: Bundle, tmp_path: Path) -> None:
    index = CandidateIndex.open(clustered_bundle)
    assert index is not None
    half = index.with_probes(Probes(((0.0, None), (1.0, None)), index.probes.many, index.probes.similar))
    ranker = Ranker(clustered_bundle, index=half)
    lists = [clustered_bundle.user_list(user) for user in range(12)]
    specs = [QuerySpec(liked[:3] if place % 2 else liked) for place, liked in enumerate(lists)]
    together = ranker.answer(specs, list(range(5, 17)))
    for spec, k, one in zip(specs, range(5, 17), together, strict=True):
        (alone,) = ranker.answer([spec], [k])
        for table, right in zip(one, alone, strict=True):
            np.testing.assert_array_equal(table, right)
