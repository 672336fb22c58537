"""The same recording under several ids is found by its ISRC, and what is no recording is left apart."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.graph.recordings import (
    LENGTH_TOLERANCE_MS,
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
    assert found.facts() == {
        "recordings_merged": 1,
        "ids_merged_away": 2,
        "isrcs_on_too_many_ids": 0,
        "isrcs_of_several_lengths": 0,
    }


def test_the_first_is_so_by_the_id_map_and_not_by_the_table() -> None:
    ids = pl.Series(["z", "nobody described", "a"])
    found = find_recordings(ids, tracks_of(("a", ONE, None), ("not in the map", ONE, None), ("z", ONE, None)))
    assert found.canonical.tolist() == [0, 1, 0]


def test_a_song_known_by_its_names_joins_the_first_of_that_artist_and_title() -> None:
    rows = [
        ("name:the lanterns/intro", None, "Intro", ["The Lanterns"]),
        ("b", ONE, "Intro", ["Bo Reed", "The Lanterns"]),
        ("c", None, "INTRO", ["The Lanterns"]),
        ("d", None, "Intro", ["Ida Quist"]),
        ("e", ONE, None, None),
        ("name:bo reed the lanterns/intro", None, None, None),
        ("name:ida quist/home", None, "Home", ["Ida Quist"]),
    ]
    names = {"name": pl.String(), "artists": pl.List(pl.String)}
    schema = pl.Schema({"track_id": pl.String(), "isrc": pl.String(), **names})
    tracks = pl.DataFrame(rows, schema, orient="row").with_columns(duration_ms=pl.lit(None, pl.Int64))
    found = find_recordings(tracks["track_id"], tracks)
    assert found.canonical.tolist() == [0, 0, 2, 3, 0, 0, 6]
    assert find_recordings(tracks["track_id"], tracks.reverse()).canonical.tolist() == [0, 0, 2, 3, 0, 0, 6]


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
    assert (found.placeholders, found.of_several_lengths) == (1, 0)


def test_ids_of_another_length_are_another_recording() -> None:
    long = 200_000 + LENGTH_TOLERANCE_MS
    within = found_in(("a", ONE, 200_000), ("b", ONE, long), ("c", ONE, None))
    assert within.canonical.tolist() == [0, 0, 0]
    assert within.of_several_lengths == 0
    # Two edits, each under two ids; the one of unknown length may be either.
    beyond = found_in(
        ("a", ONE, long + 1), ("b", ONE, 200_000), ("c", ONE, None), ("d", ONE, 200_500), ("e", ONE, long + 9)
    )
    assert beyond.canonical.tolist() == [0, 1, 2, 1, 0]
    assert beyond.of_several_lengths == 1


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
