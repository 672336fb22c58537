"""The same recording under several ids is found by its ISRC, and what is no recording is left apart."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.graph.joined_tracks import LENGTH_TOLERANCE_MS
from tunegraph_pipeline.graph.recordings import (
    MAX_IDS,
    Recordings,
    find_recordings,
    known_under_any_id,
)

ONE, OTHER = "USRC17607839", "GBAYE0601498"
Row = tuple[str, str | None, int | None]


def tracks_of(*rows: Row) -> pl.DataFrame:
    schema = {"track_id": pl.String, "isrc": pl.String, "duration_ms": pl.Int64}
    return pl.DataFrame(list(rows), schema, orient="row")


def found_in(*rows: Row) -> Recordings:
    return find_recordings(pl.Series([row[0] for row in rows], dtype=pl.String), tracks_of(*rows))


def test_ids_of_one_isrc_are_the_first_of_them() -> None:
    found = found_in(("a", ONE, None), ("b", OTHER, None), ("c", ONE, None), ("d", None, None), ("e", ONE, 1))
    assert found.canonical.tolist() == [0, 1, 0, 3, 0]
    assert found.canonical.dtype == np.int32
    assert found.aliases.tolist() == [2, 4]
    assert found.joined_by.to_list() == [None, None, "isrc", None, "isrc"]
    assert {what: count for what, count in found.facts().items() if count} == {
        "recordings_merged": 1,
        "ids_merged_away": 2,
        "joined by isrc": 2,
    }


def test_the_first_is_so_by_the_id_map_and_not_by_the_table() -> None:
    ids = pl.Series(["z", "nobody described", "a"])
    found = find_recordings(ids, tracks_of(("a", ONE, None), ("not in the map", ONE, None), ("z", ONE, None)))
    assert found.canonical.tolist() == [0, 1, 0]


def songs(*rows: tuple[str, str | None, list[str] | None, int | None]) -> pl.DataFrame:
    """A track a row: id, title, artists and length in seconds."""
    names = {"track_id": pl.String(), "name": pl.String(), "artists": pl.List(pl.String)}
    schema = pl.Schema({**names, "duration_ms": pl.Int64()})
    tracks = pl.DataFrame(list(rows), schema, orient="row")
    return tracks.with_columns(pl.col("duration_ms") * 1000, isrc=pl.lit(None, pl.String))


def joined(tracks: pl.DataFrame, redirects: pl.DataFrame | None = None) -> list[tuple[int, str | None]]:
    """Of each track, the one that stands for it and how it came there; whatever the order of the tracks."""
    found = find_recordings(tracks["track_id"], tracks, redirects)
    backwards = find_recordings(tracks["track_id"].reverse(), tracks, redirects).canonical[::-1]
    assert len(set(zip(found.canonical, backwards, strict=True))) == len(set(found.canonical))
    return list(zip(found.canonical.tolist(), found.joined_by.to_list(), strict=True))


def test_a_song_known_by_its_names_joins_those_of_that_credit_and_title() -> None:
    lanterns, both = ["The Lanterns"], ["Bo Reed", "The Lanterns"]
    tracks = songs(
        ("name:the lanterns/intro", "Intro", lanterns, None),
        ("b", "Intro", both, None),
        ("c", "INTRO", lanterns, None),
        ("d", "Intro", ["Ida Quist"], None),
        ("name:bo reed the lanterns/intro", None, None, None),
        ("name:ida quist/home", "Home", ["Ida Quist"], None),
    )
    assert joined(tracks) == [(0, None), (1, None), (0, "name"), (3, None), (1, "name"), (5, None)]


def test_a_song_known_by_its_names_joins_one_that_has_the_artist_among_others() -> None:
    tracks = songs(
        ("name:the lanterns/intro", "Intro", ["The Lanterns"], None),
        ("b", "Intro", ["Bo Reed", "The Lanterns"], None),
        ("name:cy/two", "Two", ["Cy"], None),
        ("e", "Two", ["Bo Reed", "Cy"], None),
        ("f", "Two", ["Ann", "Cy"], None),
    )
    assert joined(tracks)[:2] == [(0, None), (0, "stripped name")]
    assert [first for first, _ in joined(tracks)[2:]] == [2, 3, 4], "it could be either"


def test_ids_that_musicbrainz_redirects_to_one_are_one() -> None:
    one, other, third = (f"{n}0000000-0000-4000-8000-000000000000" for n in "123")
    tracks = songs((one, "Day", ["A"], 200), (other, "Night", ["B"], 201), (third, "Dawn", ["A"], 300))
    gone = "40000000-0000-4000-8000-000000000000"
    rows = [(one, gone), (other, gone), (third, gone)]
    redirects = pl.DataFrame(rows, {"track_id": pl.String, "recording_id": pl.String}, orient="row")
    assert joined(tracks, redirects) == [(0, None), (0, "mbid"), (2, None)], "the third is longer"
    assert joined(tracks) == [(0, None), (1, None), (2, None)]
    assert joined(tracks, redirects.with_columns(recording_id=pl.lit(other))[:1])[1] == (0, "mbid")


@pytest.mark.parametrize(
    ("written", "artists"),
    [
        ("Blue Harbour - Remastered 2017", ["The Lanterns"]),
        ("Blue Harbour (2011 Digital Remaster)", ["The Lanterns"]),
        ("Blue Harbour (feat. Ida Quist)", ["The Lanterns"]),
        ("Blue Harbour (with Ida Quist) [Deluxe Edition]", ["The Lanterns", "Ida Quist"]),
        ("Blue Harbour", ["The Lanterns", "Ida Quist"]),
        ("blue-harbour", ["The Lanterns ft. Ida Quist"]),
        ("Blue Harbour - Mono", ["The Lanterns"]),
    ],
)
def test_a_remark_on_the_issue_or_a_guest_makes_no_other_recording(written: str, artists: list[str]) -> None:
    tracks = songs(("a", "Blue Harbour", ["The Lanterns"], None), ("b", written, artists, None))
    assert joined(tracks) == [(0, None), (0, "stripped name")]


@pytest.mark.parametrize(
    "take",
    [
        "Live",
        "Acoustic",
        "Demo",
        "Remix",
        "Instrumental",
        "Karaoke Version",
        "Cover",
        "Radio Edit",
        "Taylor's Version",
    ],
)
@pytest.mark.parametrize("form", ["Blue Harbour ({})", "Blue Harbour - {} - Remastered 2011"])
def test_another_take_is_another_recording(take: str, form: str) -> None:
    tracks = songs(("a", "Blue Harbour", ["A"], None), ("b", form.format(take), ["A"], None))
    assert joined(tracks) == [(0, None), (1, None)]


def test_a_name_in_another_script_joins_its_transliteration() -> None:
    tracks = songs(("a", "Группа крови", ["Кино"], None), ("b", "Gruppa krovi", ["Kino"], None))
    assert joined(tracks) == [(0, None), (0, "stripped name")]


@pytest.mark.parametrize(
    ("title", "artist"),
    [
        ("Intro", "Various Artists"),
        ("Intro", "Unknown Artist"),
        ("Track 01", "A"),
        ("[untitled]", "A"),
        ("07", "A"),
    ],
)
def test_names_that_name_nothing_join_nothing(title: str, artist: str) -> None:
    assert joined(songs(("a", title, [artist], None), ("b", title, [artist], None))) == [(0, None), (1, None)]


def test_songs_of_other_artists_and_guests_that_exclude_each_other_stay_apart() -> None:
    tracks = songs(
        ("a", "Home", ["A"], None),
        ("b", "Home", ["B"], None),
        ("c", "Home (feat. C)", ["A"], None),
        ("d", "Home (feat. D)", ["A"], None),
        ("e", "Home - Remastered", ["A", "D"], None),
    )
    found = find_recordings(tracks["track_id"], tracks)
    assert joined(tracks) == [(0, None), (1, None), (2, None), (3, None), (3, "stripped name")]
    assert found.apart["stripped name"] == 1


def test_a_name_of_two_lengths_is_two_recordings_and_what_could_be_either_stays_apart() -> None:
    tracks = songs(
        ("a", "Home", ["A"], 200),
        ("b", "Home", ["A"], 205),
        ("c", "Home", ["A"], 300),
        ("d", "Home", ["A"], None),
        ("e", "Home - Remastered", ["A"], 302),
        ("f", "Home - Mono", ["A"], None),
    )
    found = find_recordings(tracks["track_id"], tracks)
    assert [first for first, _ in joined(tracks)] == [0, 0, 2, 3, 2, 5]
    assert (found.apart["name"], found.apart["stripped name"]) == (1, 1)


def test_only_the_stages_asked_for_join() -> None:
    tracks = songs(("a", "Home", ["A"], 200), ("b", "HOME", ["A"], 200), ("c", "Home - Mono", ["A"], 200))
    assert find_recordings(tracks["track_id"], tracks, join_by=["name"]).canonical.tolist() == [0, 0, 2]
    assert find_recordings(tracks["track_id"], tracks, join_by=[]).canonical.tolist() == [0, 1, 2]


@pytest.mark.parametrize("written", ["us-rc1-76-07839", " USRC17607839 ", "US RC1 76 07839"])
def test_an_isrc_is_one_however_it_is_written(written: str) -> None:
    assert found_in(("a", ONE, None), ("b", written, None)).canonical.tolist() == [0, 0]


@pytest.mark.parametrize(
    "no_isrc",
    ["", "-", "UNKNOWN", "USRC1760783", "USRC176078399", "U1RC17607839", "USRC1760783X", "USRC1٧607839"],
)
def test_what_has_not_the_shape_of_an_isrc_joins_nothing(no_isrc: str) -> None:
    assert found_in(("a", no_isrc, None), ("b", no_isrc, None)).aliases.tolist() == []


def test_an_isrc_on_too_many_ids_is_a_placeholder() -> None:
    rows: list[Row] = [(f"t{place}", ONE, None) for place in range(MAX_IDS + 1)]
    assert len(found_in(*rows[:-1]).aliases) == MAX_IDS - 1
    found = found_in(*rows, ("x", OTHER, None), ("y", OTHER, None))
    assert found.aliases.tolist() == [MAX_IDS + 2]
    assert (found.placeholders, found.apart["isrc"]) == (1, 0)


def test_ids_of_another_length_are_another_recording() -> None:
    long = 200_000 + LENGTH_TOLERANCE_MS
    within = found_in(("a", ONE, 200_000), ("b", ONE, long), ("c", ONE, None))
    assert within.canonical.tolist() == [0, 0, 0]
    assert within.apart["isrc"] == 0
    # Two edits, each under two ids; the one of unknown length may be either.
    beyond = found_in(
        ("a", ONE, long + 1), ("b", ONE, 200_000), ("c", ONE, None), ("d", ONE, 200_500), ("e", ONE, long + 9)
    )
    assert beyond.canonical.tolist() == [0, 1, 2, 1, 0]
    assert beyond.apart["isrc"] == 1


def test_a_length_of_nothing_is_unknown() -> None:
    assert found_in(("a", ONE, 0), ("b", ONE, 200_000)).canonical.tolist() == [0, 0]


def test_an_empty_lake_has_no_recordings() -> None:
    assert found_in().canonical.tolist() == []


lengths = st.one_of(st.none(), st.integers(0, 60).map(lambda seconds: seconds * 1000))
described = st.lists(st.tuples(st.sampled_from([ONE, OTHER, "?", None]), lengths), max_size=30)


@given(described, st.randoms())
def test_the_map_is_stable_lawful_and_guarded(
    rows: list[tuple[str | None, int | None]], dice: object
) -> None:
    table = [(f"t{place}", isrc, length) for place, (isrc, length) in enumerate(rows)]
    ids = pl.Series([row[0] for row in table], dtype=pl.String)
    canonical = find_recordings(ids, tracks_of(*table)).canonical
    shuffled = list(table)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert np.array_equal(find_recordings(ids, tracks_of(*shuffled)).canonical, canonical)
    assert np.array_equal(canonical[canonical], canonical)
    assert (canonical <= np.arange(len(rows))).all()
    for track, first in enumerate(canonical.tolist()):
        if track == first:
            continue
        (isrc, length), (same, other) = rows[track], rows[first]
        assert isrc == same
        assert isrc in (ONE, OTHER)
        if length and other:
            assert abs(length - other) <= LENGTH_TOLERANCE_MS


titles = st.sampled_from(
    ["One", "ONE", "One (feat. Bo)", "One (feat. Cy)", "One - Mono", "One (Live)", "Один"]
)
makers = st.sampled_from([["A"], ["A", "Bo"], ["Bo", "A"], ["B"], None])


@given(st.lists(st.tuples(titles, makers, st.sampled_from([ONE, None]), lengths), max_size=12), st.randoms())
def test_names_join_the_same_in_any_order_and_never_two_lengths(
    rows: list[tuple[str, list[str] | None, str | None, int | None]], dice: object
) -> None:
    ids = [f"t{place}" for place in range(len(rows))]
    kinds = {"name": pl.String(), "artists": pl.List(pl.String), "isrc": pl.String()}
    schema = pl.Schema({**kinds, "duration_ms": pl.Int64()})
    tracks = pl.DataFrame(rows, schema, orient="row").insert_column(0, pl.Series("track_id", ids, pl.String))
    found = dict(zip(ids, find_recordings(tracks["track_id"], tracks).canonical.tolist(), strict=True))
    order = list(ids)
    dice.shuffle(order)  # type: ignore[attr-defined]
    again = find_recordings(pl.Series(order, dtype=pl.String), tracks).canonical
    other = {one: order[int(first)] for one, first in zip(order, again, strict=True)}
    assert {(found[one], found[other[one]]) for one in ids} == {(found[one], found[one]) for one in ids}
    assert len({other[one] for one in ids}) == len(set(found.values()))
    for one, length in zip(ids, tracks["duration_ms"], strict=True):
        first = tracks["duration_ms"][found[one]]
        assert not length or not first or abs(length - first) <= LENGTH_TOLERANCE_MS


def test_what_one_id_lacks_is_taken_from_the_others() -> None:
    ids = pl.Series(["a", "b", "c", "d"])
    canonical = np.array([0, 1, 0, 0], dtype=np.int32)
    described = pl.DataFrame(
        {
            "track_id": ["d", "c", "a"],
            "name": ["of d", "of c", None],
            "artists": [["D"], None, None],
            "genre": ["of d", "of c", "of a"],
        }
    )
    rows = known_under_any_id(ids, canonical, described)
    assert rows["track_id"].to_list() == ["a", "b", "c", "d"]
    assert rows["name"].to_list() == ["of c", None, "of c", "of d"]
    assert rows["artists"].to_list() == [["D"], None, ["D"], ["D"]]
    assert rows["genre"].to_list() == ["of a", None, "of c", "of d"]


def test_without_several_ids_rows_are_only_lined_up() -> None:
    described = pl.DataFrame({"track_id": ["b"], "name": ["of b"]})
    rows = known_under_any_id(pl.Series(["a", "b"]), np.arange(2, dtype=np.int32), described)
    assert rows.rows() == [("a", None), ("b", "of b")]
