"""The catalogue: a row a track of the id map, updated to what a rebuild gives."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.pipeline import catalogue, current_likes, track_ids
from tunegraph_pipeline.pipeline.catalogue import (
    build_catalogue,
    described,
    known_counts,
    read_catalogue,
    rebuilt_catalogue,
)
from tunegraph_pipeline_tests.conftest import examples

FIRST = date(2026, 11, 20)
ISRC = "USRC17607839"


def receive(lake: Lake, day: date, tracks: dict[str, dict[str, object]], tempo: dict[str, float]) -> None:
    """Receive what a day says of tracks, and a like, so that there is a list."""
    likes = pl.DataFrame({"user_id": ["ann"], "track_id": ["a"]})
    rows = [{"track_id": track, **known} for track, known in tracks.items()]
    heard = [{"track_id": track, "tempo": value} for track, value in tempo.items()]
    batch = RawBatch(
        "files",
        f"{day}.csv",
        likes=pl.concat([empty_frame("likes"), likes], how="diagonal"),
        tracks=pl.DataFrame(rows, schema=empty_frame("tracks").schema),
        features=pl.DataFrame(heard, schema=empty_frame("features").schema),
    )
    write_batch(lake.raw, day, batch)
    fill_day(lake, day)


def bring(lake: Lake, day: date) -> str | None:
    """Bring lists, id map and catalogue to a day; how the catalogue was made."""
    current_likes.run(lake, cut_off=day.isoformat())
    track_ids.run(lake)
    result = catalogue.run(lake)
    assert "| imported files | as the owner of each file says |" in str(result.tables["licences"])
    return result.how


def test_a_row_a_track_with_its_recording_and_what_is_known_under_its_own_id() -> None:
    ids = pl.Series("track_id", ["a", "b", "a again", "nothing known"])
    tracks = pl.DataFrame(
        [
            {"track_id": "a", "name": "One", "isrc": ISRC},
            {"track_id": "a again", "artists": ["The Ones"], "isrc": ISRC},
            {"track_id": "b", "name": "Two", "isrc": None},
            {"track_id": "not in the map", "name": "Three", "isrc": ISRC},
        ]
    ).with_columns(duration_ms=pl.lit(None, pl.Int64))
    rows, found = build_catalogue(ids, tracks, pl.DataFrame({"track_id": ["b"], "tempo": [120.0]}))
    assert rows["track_idx"].to_list() == [0, 1, 2, 3]
    assert rows["recording"].to_list() == [0, 1, 0, 3]
    assert rows["name"].to_list() == ["One", "Two", None, None]
    assert rows["tempo"].to_list() == [None, 120.0, None, None]
    assert found.facts()["ids_merged_away"] == 1
    assert described(rows)["name"].to_list() == ["One", "Two", "One", None]
    assert described(rows)["artists"].to_list() == [["The Ones"], None, ["The Ones"], None]
    apart, _ = build_catalogue(ids, tracks, pl.DataFrame({"track_id": ["b"], "tempo": [120.0]}), merge=False)
    assert np.array_equal(apart["recording"], np.arange(4))


def test_a_later_day_updates_a_day_filled_again_rebuilds_and_no_change_reuses(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    with lake.writing("test"):
        receive(lake, FIRST, {"a": {"name": "One"}, "b": {"name": "Two"}}, {"a": 90.0})
        assert bring(lake, FIRST) == "rebuilt"
        assert bring(lake, FIRST) == "reused"
        second = FIRST + timedelta(days=1)
        receive(lake, second, {"a": {"name": "One, remastered"}, "c": {"name": "Three"}}, {})
        assert bring(lake, second) == "updated"
        rows = read_catalogue(lake)
        assert rows.select("track_id", "name", "tempo").rows() == [
            ("a", "One, remastered", 90.0),
            ("b", "Two", None),
            ("c", "Three", None),
        ]
        receive(lake, FIRST, {"b": {"genre": "folk", "album": "First", "year": 1997}}, {})
        assert bring(lake, second) == "rebuilt"
        rows = read_catalogue(lake)
        assert rows["genre"].to_list() == [None, "folk", None]
        assert rows.select("album", "year").row(1) == ("First", 1997)
        assert known_counts(rows) == {
            "tracks with a title": 3,
            "tracks with artists": 0,
            "tracks with ids of artists": 0,
            "tracks with an album": 1,
            "tracks with a year": 1,
            "tracks with a genre": 1,
            "tracks with audio features": 1,
        }


def test_redirects_join_ids_and_a_stage_left_out_undoes_its_joins(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    one, other = (f"{n}0000000-0000-4000-8000-000000000000" for n in "12")
    second = FIRST + timedelta(days=1)
    with lake.writing("test"):
        receive(lake, FIRST, {one: {"name": "One"}, other: {"name": "1"}}, {})
        bring(lake, FIRST)
        assert read_catalogue(lake)["recording"].n_unique() == 3
        redirects = pl.DataFrame({"track_id": [other], "recording_id": [one]})
        write_batch(lake.raw, second, RawBatch("files", "dump.tar.zst", redirects=redirects))
        known = track_ids.songs_of(lake)
        assert (set(known.ids), known.redirects.rows()) == ({"a", one, other}, [(other, one)])
        fill_day(lake, second)
        assert lake.partitions("redirects") == [second.isoformat()], "other days have none"
        assert track_ids.songs_of(lake).redirects.rows() == [(other, one)]
        assert bring(lake, second) == "updated"
        rows = read_catalogue(lake)
        assert rows["recording"].n_unique() == 2
        assert rows.drop_nulls("joined_by").select("track_id", "joined_by").rows() == [(other, "mbid")]
        assert rows.equals(rebuilt_catalogue(lake, second))
        lake.set_section("graph", {"join_by": ["isrc", "name"]})
        bring(lake, second)
        assert read_catalogue(lake)["joined_by"].null_count() == 3


def test_a_lake_without_a_catalogue_says_what_builds_it(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    with lake.writing("test"):
        receive(lake, FIRST, {"a": {"name": "One"}}, {})
        current_likes.run(lake)
    with pytest.raises(LakeError, match=r"has no catalogue of 2026-11-20 yet; run `tunegraph refresh"):
        read_catalogue(lake)


tracks_of_a_day = st.dictionaries(
    st.sampled_from("abcdef"),
    st.fixed_dictionaries(
        {
            "name": st.none() | st.sampled_from(["One", "Two"]),
            "isrc": st.none() | st.sampled_from([ISRC, "GBAYE0601498"]),
            "duration_ms": st.none() | st.sampled_from([100_000, 200_000]),
        }
    ),
    max_size=4,
)
days = st.tuples(
    st.integers(0, 3),
    tracks_of_a_day,
    st.dictionaries(st.sampled_from("abcdef"), st.floats(60, 180, width=32)),
)


@pytest.mark.slow
@settings(max_examples=examples(25))
@given(history=st.lists(days, min_size=1, max_size=5))
def test_after_any_history_the_catalogue_is_what_a_rebuild_gives(
    history: list[tuple[int, dict[str, dict[str, object]], dict[str, float]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = Lake.open_or_create(tmp_path_factory.mktemp("history") / "lake")
    latest = FIRST
    with lake.writing("test"):
        for offset, tracks, tempo in history:
            day = FIRST + timedelta(days=offset)
            latest = max(latest, day)
            receive(lake, day, tracks, tempo)
            bring(lake, latest if latest.isoformat() in lake.partitions("observations") else day)
            key = date.fromisoformat(lake.current_version("catalogue"))
            assert read_catalogue(lake).equals(rebuilt_catalogue(lake, key))
