"""The id of a raw batch says what is in it, however it lies in memory or on disk."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.lake.parquet import write_rows
from tunegraph_pipeline.lake.raw import (
    BATCH,
    RawBatch,
    content_id,
    empty_frame,
    id_is_comparable,
    read_batches,
    write_batch,
)
from tunegraph_pipeline.lake.schemas import RAW_ADDED, RAW_SCHEMAS
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline_tests.conftest import examples

DAY = date(2026, 3, 1)

times = st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))
texts = st.text(max_size=5)
likes = st.lists(st.tuples(texts, texts, times, st.none() | st.integers(0, 3)), max_size=20)
tracks = st.lists(
    st.fixed_dictionaries(
        {
            "track_id": texts,
            "name": st.none() | texts,
            "artists": st.none() | st.lists(texts, max_size=3),
            "duration_ms": st.none() | st.integers(0, 10**6),
            "explicit": st.none() | st.booleans(),
        }
    ),
    max_size=20,
)


def batch_of(
    some_likes: list[tuple[str, str, object, object]], some_tracks: list[dict[str, object]]
) -> RawBatch:
    return RawBatch(
        "files",
        "test",
        likes=pl.DataFrame(some_likes, schema=empty_frame("likes").schema, orient="row"),
        tracks=pl.DataFrame(some_tracks, schema=empty_frame("tracks").schema),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(50))
@given(likes, tracks, st.integers(0, 5))
def test_a_batch_read_from_disk_gives_the_id_it_was_written_with(
    tmp_path: Path,
    some_likes: list[tuple[str, str, object, object]],
    some_tracks: list[dict[str, object]],
    skipped: int,
) -> None:
    whole = batch_of(some_likes, some_tracks)
    # A slice and a filter: what lies before it, and where nulls are, is anything.
    cut = RawBatch(
        "files", "test", likes=whole.likes[skipped:], tracks=whole.tracks.filter(pl.lit(value=True))
    )
    info = write_batch(tmp_path / "raw", DAY, cut)
    again = {part: info.read(part).to_arrow().cast(RAW_SCHEMAS[part]) for part in info.rows}
    assert content_id(info.source, again) == info.batch_id
    assert id_is_comparable(info.folder)


@settings(max_examples=examples(50))
@given(likes, likes)
def test_other_rows_have_another_id(
    one: list[tuple[str, str, object, object]], other: list[tuple[str, str, object, object]]
) -> None:
    ids = [
        content_id("files", {"likes": batch_of(rows, []).likes.to_arrow().cast(RAW_SCHEMAS["likes"])})
        for rows in (one, other)
    ]
    assert (ids[0] == ids[1]) == (one == other)


def test_a_batch_from_before_has_an_id_that_cannot_be_compared(tmp_path: Path) -> None:
    info = write_batch(tmp_path / "raw", DAY, batch_of([("u", "t", None, None)], []))
    path = info.folder / BATCH
    facts = read_json(path.read_bytes())
    del facts["id_form"]
    path.write_text(json.dumps(facts))
    assert not id_is_comparable(info.folder)
    assert [found.batch_id for found in read_batches(tmp_path / "raw", DAY)] == [info.batch_id]


def test_a_batch_of_an_earlier_version_opens_without_the_columns_that_came_later(tmp_path: Path) -> None:
    info = write_batch(tmp_path / "raw", DAY, batch_of([], [{"track_id": "a", "name": "One"}]))
    now = info.read("tracks")
    earlier = RAW_SCHEMAS["tracks"].names[: -len(RAW_ADDED["tracks"])]
    rows = (
        now.select(earlier).to_arrow().cast(pa.schema([RAW_SCHEMAS["tracks"].field(one) for one in earlier]))
    )
    assert content_id("files", {"tracks": rows}) == info.batch_id, "it is the batch that it always was"
    write_rows(rows, info.path("tracks"))
    assert info.read("tracks").equals(now)
    assert info.read("tracks", ["year", "name"]).rows() == [(None, "One")]
    assert info.check("tracks") == 1
