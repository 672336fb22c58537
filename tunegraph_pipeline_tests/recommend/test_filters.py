"""Which songs pass a filter, and that a filtered ranking is the plain one without the others."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend import ranking
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.filters import MOODS, Bounds, Filters, Passing, Rest, read_bounds
from tunegraph_pipeline.recommend.genres import Genres
from tunegraph_pipeline.recommend.index import CandidateIndex, Probes, read_index
from tunegraph_pipeline.recommend.indexing import recall_of, write_index
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.recommend.conftest import (
    clustered_content,
    golden_content,
    random_content,
    undescribed,
)

N = 300
GENRES = ("Rock", "Jazz", "Folk")
many_examples = settings(
    max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def described(seed: int) -> tuple[dict[str, NDArray[Any]], Any]:
    """A random bundle's content with genres, years and two features, each unknown of some songs; and the
    facts by themselves."""
    rng = np.random.default_rng(seed)
    facts = {
        "genre": rng.integers(-1, len(GENRES), N),
        "year": rng.choice([0, 1960, 1975, 1990, 1999, 2020], N),
        "tempo": rng.choice([60.0, 90.0, 120.0, 180.5], N),
        "loudness": rng.choice([-30.0, -12.5, 0.0, 1.5], N),
    }
    for name in ("tempo", "loudness"):
        facts[name][rng.random(N) < 0.2] = np.nan
    genres = Genres.of_texts(GENRES, facts["genre"].astype(np.int32))
    content = dataclasses.replace(
        random_content(seed, n_tracks=N),
        years=facts["year"].astype(np.int32),
        feature_names=["tempo", "loudness"],
        features=np.array([facts["tempo"], facts["loudness"]], dtype=np.float16),
        genre_names=genres.names,
        genre_indptr=genres.indptr,
        genre_tracks=genres.tracks,
    )
    return facts | {"listeners": content.popularity}, content


@pytest.fixture(scope="module")
def catalogue(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[int], tuple[dict[str, NDArray[Any]], Bundle, CandidateIndex]]:
    """The same as an open bundle, with an index of which every list is searched."""
    kept: dict[int, tuple[dict[str, NDArray[Any]], Bundle, CandidateIndex]] = {}

    def make(seed: int) -> tuple[dict[str, NDArray[Any]], Bundle, CandidateIndex]:
        if seed not in kept:
            folder = tmp_path_factory.mktemp("described")
            facts, content = described(seed)
            write_bundle(folder / "v1", content)
            bundle = Bundle.open(folder / "v1")
            form = write_index(bundle, folder / "index", "float32")
            index = CandidateIndex(read_index(folder / "index"), form, Probes.everywhere(10_000))
            kept[seed] = facts, bundle, index
        return kept[seed]

    return make


def passes(facts: dict[str, NDArray[Any]], filters: Filters, track: int) -> bool:
    """The rule spelled out for one song."""

    def within(value: float, bounds: tuple[float | None, float | None], *, known: bool) -> bool:
        if not known:
            return filters.unknown == "allow"
        low, high = bounds
        return (low is None or value >= low) and (high is None or value <= high)

    genre = int(facts["genre"][track])
    if filters.genres and genre < 0 and filters.unknown == "exclude":
        return False
    if filters.genres and genre >= 0 and GENRES[genre] not in filters.genres:
        return False
    if genre >= 0 and GENRES[genre] in filters.not_genres:
        return False
    year = int(facts["year"][track])
    if filters.years != (None, None) and not within(year, filters.years, known=year > 0):
        return False
    if not within(facts["listeners"][track], filters.listeners, known=True):
        return False
    return all(
        within(facts[name][track], bounds, known=not np.isnan(facts[name][track]))
        for name, bounds in filters.features.items()
    )


bounds_of = {
    "tempo": st.sampled_from([(90.0, 120.0), (None, 90.0), (180.5, None), (90.0, 90.0), (500.0, None)]),
    "loudness": st.sampled_from([(-12.5, 0.0), (None, -12.5), (0.0, None), (-50.0, -20.0), (-0.0, 1.0)]),
}
some_filters = st.builds(
    Filters,
    genres=st.lists(st.sampled_from(GENRES), max_size=2),
    not_genres=st.lists(st.sampled_from(GENRES), max_size=2),
    years=st.sampled_from([(None, None), (1970, 1999), (None, 1960), (2000, None)]),
    features=st.fixed_dictionaries({}, optional=bounds_of),
    unknown=st.sampled_from(["exclude", "allow"]),
    listeners=st.sampled_from([(None, None), (2, None), (None, 4), (1.5, 6.5)]),
)


@many_examples
@given(seed=st.integers(0, 2), filters=some_filters)
def test_the_songs_that_pass_are_those_of_the_rule(catalogue: Any, seed: int, filters: Filters) -> None:
    facts, bundle, _ = catalogue(seed)
    found = Ranker(bundle).filter.passing(filters)
    expected = [bundle.recommendable[track] and passes(facts, filters, track) for track in range(N)]
    assert found.tracks.tolist() == expected
    assert found.n_tracks == sum(expected)


def random_spec(rng: np.random.Generator) -> QuerySpec:
    def some(most: int) -> NDArray[np.int32]:
        return rng.integers(N, size=rng.integers(most + 1)).astype(np.int32)

    return QuerySpec(
        some(12),
        some(4),
        some(20),
        familiarity=float(rng.choice([0.0, 0.5, 0.5, 1.0])),
        explicit=bool(rng.random() < 0.7),
    )


@many_examples
@given(
    seed=st.integers(0, 2),
    filters=some_filters,
    taste_seed=st.integers(0, 10**6),
    k=st.sampled_from([1, 7, 40, N]),
    indexed=st.booleans(),
    rows_bytes=st.sampled_from([0, 16 << 20]),
)
def test_a_filtered_ranking_is_the_plain_one_without_what_does_not_pass(
    catalogue: Any, seed: int, filters: Filters, taste_seed: int, k: int, indexed: bool, rows_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # By themselves where they are few, or else by the index, or all songs without the others.
        patch.setattr(ranking, "MOST_ROWS_BYTES", rows_bytes)
        compare_with_the_plain_one(catalogue(seed), filters, taste_seed, k, indexed=indexed)


def compare_with_the_plain_one(
    made: tuple[dict[str, NDArray[Any]], Bundle, CandidateIndex],
    filters: Filters,
    taste_seed: int,
    k: int,
    *,
    indexed: bool,
) -> None:
    _, bundle, index = made
    ranker = Ranker(bundle, np.arange(0, N, 41, dtype=np.int32), index=index if indexed else None)
    if taste_seed % 4:
        ranker.prepare()
    passing = ranker.filter.passing(filters)
    rng = np.random.default_rng(taste_seed)
    specs = [random_spec(rng) for _ in range(5)]
    together = ranker.answer([spec._replace(passing=passing) for spec in specs] + specs[:2], [k] * 7)
    for spec, filtered in zip(specs, together, strict=False):
        (everything,) = ranker.answer([spec], [N])
        kept = passing.tracks[everything.indices]
        for table, whole in zip(filtered, everything, strict=True):
            np.testing.assert_array_equal(table, whole[kept][:k])
        (alone,) = ranker.answer([spec._replace(passing=passing)], [k])
        for table, right in zip(alone, filtered, strict=True):
            np.testing.assert_array_equal(table, right)
    for spec, plain in zip(specs, together[5:], strict=False):
        (unfiltered,) = ranker.answer([spec], [k])
        np.testing.assert_array_equal(plain.indices, unfiltered.indices)
    near, cosines = ranker.nearest(3, k, passing)
    all_near, all_cosines = Ranker(bundle, np.arange(0, N, 41, dtype=np.int32)).nearest(3, N)
    kept = passing.tracks[all_near]
    np.testing.assert_array_equal(near, all_near[kept][:k])
    np.testing.assert_array_equal(cosines, all_cosines[kept][:k])


@settings(max_examples=examples(60))
@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), width=st.integers(1, 40), far=st.booleans())
def test_what_is_kept_in_8_bits_bounds_a_product_and_closely(
    seed: int, n: int, width: int, far: bool
) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((n + 5, width + 3)).astype(np.float32)
    embeddings *= rng.choice([0.0, 1e-6, 1.0, 30.0], (n + 5, 1)).astype(np.float32)
    direction = rng.standard_normal(width).astype(np.float32)
    tracks = np.sort(rng.permutation(n + 5)[:n])
    rest = Rest.of(embeddings, tracks, 3)
    places = rng.integers(0, n, 60) if n else np.zeros(0, np.intp)
    rows, length = embeddings[tracks[places], 3:].astype(np.float64), float(np.linalg.norm(direction))
    lengths = np.linalg.norm(rows, axis=1)
    bounds = lengths * length - rest.less_than(places, direction)
    products = rows @ direction
    slack = 1e-5 * lengths * length
    assert (bounds >= products - slack).all()
    assert (bounds <= products + slack + length * lengths * 0.02 * np.sqrt(width)).all()


def test_few_songs_of_a_large_catalogue_rank_exactly_where_bounds_are_loose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(11)
    content = clustered_content(n_tracks=3_000, dimension=64)
    noise = rng.standard_normal((3_000, 64)).astype(np.float32)  # of which the screen holds a part
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    write_bundle(tmp_path / "v1", dataclasses.replace(content, embeddings=noise))
    bundle = Bundle.open(tmp_path / "v1")
    assert bundle.screen.shape[1] < bundle.dimension
    form = write_index(bundle, tmp_path / "index", "int8")
    index = CandidateIndex(read_index(tmp_path / "index"), form, Probes.everywhere(10_000))
    ranker, exact = Ranker(bundle, index=index), Ranker(bundle)
    tracks = bundle.recommendable & (rng.random(bundle.n_tracks) < 0.4)
    passing, alike = (Passing(tracks, int(tracks.sum())) for _ in range(2))
    used, less_than = [], Rest.less_than

    def noting(rest: Rest, places: NDArray[np.intp], direction: NDArray[np.float32]) -> NDArray[np.float32]:
        used.append(len(places))
        return less_than(rest, places, direction)

    monkeypatch.setattr(Rest, "less_than", noting)
    for user in range(40):
        spec = QuerySpec(bundle.user_list(user), bundle.user_list(user + 50)[:2], passing=passing)
        for k in (1, 7, 20):
            (found,) = ranker.answer([spec], [k])
            (right,) = exact.answer([spec._replace(passing=None)], [bundle.n_tracks])
            kept = tracks[right.indices]
            for table, whole in zip(found, right, strict=True):
                np.testing.assert_array_equal(table, whole[kept][:k])
        near, _ = ranker.nearest(user, 5, passing)
        np.testing.assert_array_equal(near, exact.nearest(user, 5, alike)[0])
    assert len(used) > 40


@pytest.mark.parametrize("apart", [False, True])
def test_the_index_finds_what_passes_near_the_likes_or_far_from_them(
    clustered_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    monkeypatch.setattr(ranking, "MOST_ROWS_BYTES", 0)
    bundle, rng = clustered_bundle, np.random.default_rng(5)
    index = CandidateIndex.open(bundle)
    assert index is not None
    ranker, exact = Ranker(bundle, index=index), Ranker(bundle)
    ranker.prepare()
    monkeypatch.setattr(ranker, "_products", lambda all_songs: [pytest.fail("ranked") for _ in all_songs])
    found, truth = [], []
    for _ in range(60):
        liked = bundle.user_list(int(rng.integers(bundle.n_users)))
        tracks = bundle.recommendable & (rng.random(bundle.n_tracks) < 0.3)
        if apart:  # of the third of all songs that is the least like the list
            likeness = bundle.embeddings @ bundle.embeddings[liked].mean(axis=0)
            tracks = bundle.recommendable & (likeness < np.quantile(likeness, 0.33))
        spec = QuerySpec(liked, passing=Passing(tracks, int(tracks.sum())))
        found += [best.indices for best in ranker.answer([spec], [20])]
        truth += [best.indices for best in exact.answer([spec], [20])]
        assert tracks[found[-1]].all()
    assert recall_of(found, truth) > 0.98


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_in_an_indexed_catalogue_hundreds_of_filtered_lists_rank_as_one_by_one_exactly(
    clustered_bundle: Bundle, share: float
) -> None:
    bundle = clustered_bundle
    index = CandidateIndex.open(bundle)
    assert index is not None
    tracks = (np.random.default_rng(3).random(bundle.n_tracks) < share) & bundle.recommendable
    passing = Passing(tracks, int(tracks.sum()))
    specs = [QuerySpec(bundle.user_list(user), passing=passing) for user in range(bundle.n_users)]
    many = Ranker(bundle, index=index).rank_specs(specs, 10)
    exact = Ranker(bundle)
    for user in range(0, bundle.n_users, 11):
        (right,) = exact.answer([specs[user]._replace(passing=None)], [bundle.n_tracks])
        right_tracks = right.indices[tracks[right.indices]][:10]
        found = many.indices[user]
        np.testing.assert_array_equal(found[found >= 0], right_tracks)


def test_diverse_and_mixed_artists_are_chosen_among_what_passes(catalogue: Any) -> None:
    _, bundle, _ = catalogue(1)
    ranker = Ranker(bundle)
    passing = ranker.filter.passing(Filters(genres=["jazz"]))
    spec = QuerySpec(bundle.user_list(1), diversity=0.5, max_per_artist=1, passing=passing)
    (best,) = ranker.answer([spec], [20])
    assert len(best.indices)
    assert passing.tracks[best.indices].all()
    blocked = np.flatnonzero(~passing.tracks & bundle.recommendable).astype(np.int32)
    (right,) = Ranker(bundle, blocked).answer([spec._replace(passing=None)], [20])
    np.testing.assert_array_equal(best.indices, right.indices)


# ---- by hand: of four songs, a is jazz of 1999, b of 1967, c jazz and hip-hop, d of 2004


def ids(bundle: Bundle, filters: Filters) -> list[str]:
    found = Recommender(bundle).passing(filters)
    assert found is not None
    return [bundle.tracks[track] for track in np.flatnonzero(found.tracks).tolist()]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(genres=["hip hop"]), ["c"]),
        (Filters(genres=["JAZZ", "hip-hop"]), ["a", "c"]),
        (Filters(genres=["jazz"], not_genres=["hip-hop"]), ["a"]),
        (Filters(not_genres=["jazz"]), ["b", "d"]),
        (Filters(genres=["hip-hop"], unknown="allow"), ["b", "c", "d"]),
        (Filters(years=(1967, 1999)), ["a", "b"]),
        (Filters(years=(2000, None), unknown="allow"), ["c", "d"]),
        (Filters(moods=["energetic"]), ["b"]),
        (Filters(moods=["calm"], unknown="allow"), ["a", "c"]),
        (Filters(features={"loudness": (None, -7.5)}), ["a", "c"]),
        (Filters(features={"loudness": (-7.5, -5)}), ["b", "c"]),
        (Filters(features={"energy": (0.5, 0.75), "loudness": (-10, None)}), ["b"]),
        (Filters(features={"energy": (None, 0.3)}, moods=["calm"]), ["a"]),
        (Filters(features={"energy": (0.9, 0.1)}), []),
        (Filters(moods=["calm", "energetic"]), []),
        (Filters(years=(2000, 1990)), []),
    ],
)
def test_what_passes_worked_out_by_hand(golden_bundle: Bundle, filters: Filters, expected: list[str]) -> None:
    assert ids(golden_bundle, filters) == expected


@pytest.mark.parametrize(
    ("filters", "complaint"),
    [
        (Filters(genres=["jaz"]), r"^bundle v1 has no genre 'jaz'; near it: Jazz$"),
        (Filters(not_genres=["schlager"]), r"no genre 'schlager'; most songs have: Jazz, Hip-Hop$"),
        (Filters(moods=["angry"]), "mood is 'angry'; choose one of acoustic, calm"),
        (Filters(moods=["happy"]), "bundle v1 knows the valence of no song; import songs with it, and ref"),
        (Filters(features={"bpm": (1, 2)}), "'bpm' is no feature; choose one of acousticness, "),
        (Filters(features={"tempo": (90, None)}), "knows the tempo of no song"),
    ],
)
def test_what_the_bundle_does_not_know_is_refused_in_one_line(
    golden_bundle: Bundle, filters: Filters, complaint: str
) -> None:
    (answer,) = Recommender(golden_bundle).answer([Query(["a"], filters=filters)])
    assert isinstance(answer, InputError)
    with pytest.raises(InputError, match=complaint):
        raise answer
    assert "\n" not in str(answer)


def test_a_bundle_of_before_filters_opens_and_says_what_it_lacks(tmp_path: Path) -> None:
    write_bundle(tmp_path / "v1", undescribed(golden_content()))
    assert not list((tmp_path / "v1").glob("genre*")) + list((tmp_path / "v1").glob("feature*"))
    recommender = Recommender(Bundle.verified(tmp_path / "v1"))
    assert [item.song.track_id for item in recommender.recommend(["a", "b"]).items] == ["c", "d"]
    assert recommender.ranker.filter.genre_counts() == {}
    for filters in (Filters(genres=["jazz"]), Filters(years=(1990, None)), Filters(moods=["calm"])):
        with pytest.raises(InputError, match=r"^bundle v1 knows the (genre|year|energy) of no song"):
            recommender.recommend(["a"], filters=filters)


def test_the_answer_says_how_many_songs_pass(golden_bundle: Bundle) -> None:
    recommender = Recommender(golden_bundle, blocked_tracks=["d"])
    plain = recommender.recommend(["a"])
    assert (plain.passing, plain.shown("m")["passing"]) == (None, None)
    assert recommender.recommend(["a"], filters=Filters()).passing is None
    found = recommender.recommend(["a"], filters=Filters(years=(1960, None)))
    assert ([item.song.track_id for item in found.items], found.passing) == (["b"], 2)
    assert found.items[0].score == next(item.score for item in plain.items if item.song.track_id == "b")
    none = recommender.recommend(["a"], filters=Filters(years=(2050, None)))
    assert (none.items, none.passing, none.degraded) == ([], 0, "no song passes the filters; ask for less")


def test_what_is_popular_and_what_is_similar_pass_too(golden_bundle: Bundle) -> None:
    recommender = Recommender(golden_bundle)
    jazz = Filters(genres=["jazz"])
    assert [item.song.track_id for item in recommender.recommend([], filters=jazz).items] == ["c", "a"]
    assert [item.song.track_id for item in recommender.similar("b", filters=jazz)] == ["c", "a"]


def test_genres_are_counted_without_blocked_songs(golden_bundle: Bundle) -> None:
    assert Recommender(golden_bundle).ranker.filter.genre_counts() == {"Jazz": 2, "Hip-Hop": 1}
    blocked = Recommender(golden_bundle, blocked_tracks=["c"])
    assert blocked.ranker.filter.genre_counts() == {"Jazz": 1}


def test_filters_are_values_that_no_later_change_of_their_parts_reaches(golden_bundle: Bundle) -> None:
    names = ["jazz"]
    sound: dict[str, Bounds] = {"energy": (None, 0.5)}
    filters = Filters(names, features=sound)
    assert ids(golden_bundle, filters) == ["a"]
    names.append("hip-hop")
    sound["energy"] = (0.5, None)
    assert filters == Filters(("jazz",), features={"energy": (None, 0.5)})
    assert hash(filters) == hash(Filters(("jazz",), features={"energy": (None, 0.5)}))


def test_many_filters_one_after_another_are_each_answered(golden_bundle: Bundle) -> None:
    recommender = Recommender(golden_bundle)
    for _ in range(2):
        for year in range(1950, 2050):
            found = recommender.passing(Filters(years=(year, None)))
            assert found is not None
            assert found.n_tracks == (year <= 1967) + (year <= 1999) + (year <= 2004)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("90-120", (90, 120)),
        ("0.5..0.75", (0.5, 0.75)),
        ("-20--5.5", (-20, -5.5)),
        ("..-5", (None, -5)),
        (" 90.. ", (90, None)),
        ("-5", (-5, -5)),
        ("1999", (1999, 1999)),
    ],
)
def test_bounds_are_read(text: str, bounds: tuple[float | None, float | None]) -> None:
    assert read_bounds("tempo", text) == bounds


@pytest.mark.parametrize("text", ["", "-", "..", "90-", "a-b", "1-2-3", "1e5", "nan", "90 - 120", "1234567"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^tempo is .*; write a range as 90-120"):
        read_bounds("tempo", text)


def test_every_mood_can_be_asked_for() -> None:
    for mood, bounds in MOODS.items():
        for feature, (low, high) in bounds.items():
            assert (low is None) != (high is None), (mood, feature)
