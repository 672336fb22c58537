"""The daily tables as functions of a day's batches, and the current lists as a function of the days."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import tables
from tunegraph_pipeline.lake.parquet import write_rows
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch, empty_frame, read_batches, write_batch
from tunegraph_pipeline.lake.schemas import RAW_SCHEMAS, TABLES
from tunegraph_pipeline.lake.tables import TableFiles
from tunegraph_pipeline_tests.conftest import examples

DAY = date(2026, 3, 1)
Pairs = set[tuple[str, str]]


def likes_frame(pairs: Pairs, liked_at: datetime | None = None) -> pl.DataFrame:
    rows = [{"user_id": user, "track_id": track, "liked_at": liked_at} for user, track in sorted(pairs)]
    return pl.DataFrame(rows, schema=empty_frame("likes").schema)


def users_frame(rows: list[tuple[str, str]]) -> pl.DataFrame:
    table = [{"user_id": user, "discovered_from": None, "depth": 0, "state": state} for user, state in rows]
    return pl.DataFrame(table, schema=empty_frame("users").schema)


def feedback_frame(rows: list[tuple[str, str, str, int]]) -> pl.DataFrame:
    table = [
        {
            "user_id": user,
            "track_id": track,
            "action": action,
            "at": datetime(2026, 3, 1, hour, tzinfo=UTC),
            "shown": [track],
            "bundle_version": "v",
        }
        for user, track, action, hour in rows
    ]
    return pl.DataFrame(table, schema=empty_frame("feedback").schema)


def received(raw: Path, *batches: RawBatch, day: date = DAY) -> list[BatchInfo]:
    for batch in batches:
        write_batch(raw, day, batch)
    return read_batches(raw, day)


def test_a_second_batch_of_a_day_adds_to_the_first(tmp_path: Path) -> None:
    batches = received(
        tmp_path / "raw",
        RawBatch("files", "one", likes=likes_frame({("u", "a")})),
        RawBatch("files", "two", likes=likes_frame({("u", "b"), ("u", "a")})),
    )
    assert tables.derive_likes(batches)["track_id"].to_list() == ["a", "b"]


def test_the_same_batch_twice_is_one_batch(tmp_path: Path) -> None:
    batch = RawBatch("files", "one", likes=likes_frame({("u", "a")}))
    assert len(received(tmp_path / "raw", batch, batch)) == 1


def test_the_order_of_arrival_does_not_show(tmp_path: Path) -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    one = RawBatch("files", "one", likes=likes_frame({("u", "a"), ("v", "c")}, late))
    two = RawBatch("files", "two", likes=likes_frame({("u", "a")}, early))
    forward = tables.derive_likes(received(tmp_path / "a", one, two))
    backward = tables.derive_likes(received(tmp_path / "b", two, one))
    assert forward.equals(backward)
    assert forward.filter(user_id="u")["liked_at"].to_list() == [early]


def test_an_emptied_list_is_an_observation_of_nothing(tmp_path: Path) -> None:
    batches = received(
        tmp_path / "raw",
        RawBatch("files", "x", users=users_frame([("empty", "listed"), ("shy", "private")])),
        RawBatch("files", "y", likes=likes_frame({("u", "b"), ("u", "a")})),
    )
    users = tables.derive_users(batches, DAY)
    seen = tables.derive_observations(users, tables.derive_likes(batches))
    assert dict(seen.select("user_id", "n_likes").iter_rows()) == {"empty": 0, "u": 2}
    assert users.filter(user_id="shy")["state"].item() == "private"


def test_equal_lists_have_equal_hashes_and_others_do_not(tmp_path: Path) -> None:
    pairs = {("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "a")}
    batches = received(tmp_path / "raw", RawBatch("files", "x", likes=likes_frame(pairs)))
    seen = tables.derive_observations(tables.derive_users(batches, DAY), tables.derive_likes(batches))
    of = dict(seen.select("user_id", "list_hash").iter_rows())
    assert of["u"] == of["v"] != of["w"]


def test_what_several_batches_know_of_a_track_is_joined(tmp_path: Path) -> None:
    def known(**columns: str) -> pl.DataFrame:
        return pl.DataFrame([{"track_id": "t", **columns}], schema=empty_frame("tracks").schema)

    batches = received(
        tmp_path / "raw",
        RawBatch("files", "names", tracks=known(name="Song")),
        RawBatch("files", "albums", tracks=known(album_id="A")),
    )
    row = tables.derive_tracks(batches).row(0, named=True)
    assert (row["name"], row["album_id"]) == ("Song", "A")


def test_feedback_is_in_the_order_it_was_said_and_nobody_is_seen_whole_by_it(tmp_path: Path) -> None:
    batches = received(
        tmp_path / "raw",
        RawBatch("feedback", "x", feedback=feedback_frame([("new", "b", "skip", 9), ("u", "a", "like", 7)])),
        RawBatch("feedback", "y", feedback=feedback_frame([("u", "a", "like", 7), ("u", "a", "dislike", 8)])),
        RawBatch("files", "z", likes=likes_frame({("u", "c")})),
    )
    said = tables.derive_feedback(batches)
    assert said.select("user_id", "action", "source").rows() == [
        ("u", "like", "feedback"),
        ("u", "dislike", "feedback"),
        ("new", "skip", "feedback"),
    ]
    users = tables.derive_users(batches, DAY)
    assert users.select("user_id", "source", "state").rows() == [
        ("new", "feedback", "found"),
        ("u", "feedback", "found"),
        ("u", "files", "listed"),
    ]
    seen = tables.derive_observations(users, tables.derive_likes(batches))
    assert seen.select("user_id", "source", "n_likes").rows() == [("u", "files", 1)]


def test_the_id_of_a_content_stays_what_it_is(tmp_path: Path) -> None:
    """Another one would be a second batch of the same file on the day of the change."""
    (batch,) = received(tmp_path / "raw", RawBatch("files", "x", likes=likes_frame({("u", "a")})))
    assert batch.batch_id == "b4daa6ba9e0a0f4be1d2"


def test_a_day_without_batches_is_typed_and_empty(tmp_path: Path) -> None:
    for frame, name in (
        (tables.derive_users([], DAY), "users"),
        (tables.derive_likes([]), "likes"),
        (tables.derive_tracks([]), "tracks"),
        (tables.derive_audio_features([]), "audio_features"),
        (tables.derive_redirects([]), "redirects"),
        (tables.derive_feedback([]), "feedback"),
    ):
        assert frame.is_empty()
        TableFiles(tmp_path).write(name, DAY.isoformat(), frame, "none")
        assert TableFiles(tmp_path).read(name, DAY.isoformat()).schema == tables.empty_table(name).schema


histories = st.lists(
    st.dictionaries(st.sampled_from("uvw"), st.frozensets(st.sampled_from("abcd")), max_size=3), max_size=5
)


@settings(max_examples=examples(60))
@given(histories)
def test_the_current_list_is_that_of_the_latest_day_seen(history: list[dict[str, frozenset[str]]]) -> None:
    """Against the obvious model: a dictionary that each day's observations overwrite."""
    expected: dict[str, frozenset[str]] = {}
    days = []
    for seen in history:
        expected |= seen
        pairs = {(user, track) for user, liked in seen.items() for track in liked}
        likes = likes_frame(pairs).with_columns(source=pl.lit("files"))
        observed = [
            {"source": "files", "user_id": user, "n_likes": len(liked), "list_hash": ""}
            for user, liked in seen.items()
        ]
        days.append((pl.DataFrame(observed, schema=tables.empty_table("observations").schema), likes))
    current = tables.current_lists(reversed(days))
    got = set(current.select("user_id", "track_id").iter_rows())
    assert got == {(user, track) for user, liked in expected.items() for track in liked}


def test_a_later_day_adds_to_what_is_known_of_a_track() -> None:
    schema = tables.empty_table("tracks").schema
    old = pl.DataFrame([{"track_id": "t", "name": "Old", "isrc": "X", "source": "files"}], schema=schema)
    new = pl.DataFrame([{"track_id": "t", "name": "New", "source": "files"}], schema=schema)
    row = tables.latest_known([old, new]).row(0, named=True)
    assert (row["name"], row["isrc"]) == ("New", "X")


def test_rows_that_do_not_follow_the_schema_are_not_written(tmp_path: Path) -> None:
    good = tables.derive_likes([])
    for bad, says in (
        (good.drop("source"), "columns are"),
        (
            pl.DataFrame(
                [{"user_id": "u", "track_id": "a", "liked_at": "soon", "position": None, "source": "x"}]
            ),
            "soon",
        ),
        (
            pl.DataFrame([{"user_id": None, "track_id": "a"}], schema=good.schema),
            "'user_id' with null values",
        ),
    ):
        with pytest.raises(LakeError, match=says):
            TableFiles(tmp_path).write("likes", "2026-03-01", bad, "")
    assert TableFiles(tmp_path).partitions("likes") == []


def test_rows_that_come_in_blocks_are_one_partition_or_none(tmp_path: Path) -> None:
    files = TableFiles(tmp_path)
    rows = pl.DataFrame(
        {
            "user_id": ["a", "b", "c"],
            "rank": pl.Series([1, 1, 1], dtype=pl.Int32),
            "track_id": ["x", "y", "z"],
            "score": pl.Series([0.5, 0.25, 1.0], dtype=pl.Float32),
            "because_track_id": ["y", None, None],
            "model_version": ["m"] * 3,
            "bundle_version": ["v"] * 3,
        }
    )
    with files.draft("user_recommendations", "v") as draft:
        draft.inputs = "of it"
        for part in (rows[:2], rows[:0], rows[2:]):
            draft.append(part)
    assert files.read("user_recommendations", "v").equals(rows)
    assert files.inputs_of("user_recommendations", "v") == "of it"

    with pytest.raises(LakeError, match="columns are"), files.draft("user_recommendations", "v") as draft:
        draft.append(rows[:1])
        draft.append(rows[1:].drop("score"))
    assert files.read("user_recommendations", "v").equals(rows)


def test_a_file_that_is_not_as_declared_is_not_read(tmp_path: Path) -> None:
    path = TableFiles(tmp_path).table_path("track_ids", None)
    path.parent.mkdir()
    pl.DataFrame({"track_idx": ["0"], "track_id": ["a"]}).write_parquet(path)
    with pytest.raises(LakeError, match="track_idx is"):
        TableFiles(tmp_path).read("track_ids", None)
    path.write_bytes(b"garbage")
    with pytest.raises(LakeError, match="cannot be read"):
        TableFiles(tmp_path).read("track_ids", None)
    path.unlink()
    with pytest.raises(LakeError, match="does not exist"):
        TableFiles(tmp_path).read("track_ids", None)


@pytest.mark.slow
@pytest.mark.parametrize("bit", [3, pytest.param(7, marks=pytest.mark.nightly)])
def test_a_flipped_bit_in_a_footer_is_told_or_does_no_harm(tmp_path: Path, bit: int) -> None:
    """The footer has no checksum, and holds names, types and numbers of rows."""
    (batch,) = received(
        tmp_path / "raw", RawBatch("files", "x", feedback=feedback_frame([("u", "a", "like", 1)]))
    )
    key = DAY.isoformat()
    TableFiles(tmp_path).write("feedback", key, tables.derive_feedback([batch]), "inputs")
    files: dict[Path, Callable[[], pl.DataFrame]] = {
        TableFiles(tmp_path).table_path("feedback", key): lambda: TableFiles(tmp_path).read("feedback", key),
        batch.folder / "feedback.parquet": lambda: batch.read("feedback"),
    }
    for path, read in files.items():
        content = path.read_bytes()
        told = 0
        for place in range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content)):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            TableFiles(tmp_path).inputs_of("feedback", key)
            try:
                assert len(read()) == 1, place
            except LakeError:
                told += 1
        assert told > 100


def test_every_column_says_what_it_means() -> None:
    schemas = [spec.schema for spec in TABLES.values()] + list(RAW_SCHEMAS.values())
    for schema in schemas:
        assert all((column.metadata or {}).get(b"description") for column in schema)


def test_a_column_that_an_earlier_version_did_not_write_is_null(tmp_path: Path) -> None:
    lake = TableFiles(tmp_path)
    rows = (
        tables.empty_table("catalogue")
        .clear(1)
        .with_columns(track_idx=pl.lit(0, pl.Int32), track_id=pl.lit("a"), recording=pl.lit(0, pl.Int32))
    )
    lake.write("catalogue", "2026-11-20", rows)
    path = lake.table_path("catalogue", "2026-11-20")
    write_rows(pq.read_table(path).drop_columns(["joined_by"]), path)
    assert lake.read("catalogue", "2026-11-20").equals(rows)
    assert lake.read("catalogue", "2026-11-20", ["joined_by"])["joined_by"].to_list() == [None]
    write_rows(pq.read_table(path).drop_columns(["recording"]), path)
    with pytest.raises(LakeError, match="declared are"):
        lake.read("catalogue", "2026-11-20")
