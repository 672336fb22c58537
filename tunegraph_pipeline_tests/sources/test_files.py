"""What files become: every format that is read, what is skipped and counted, and what is refused and how."""

import gzip
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.recommend.recommender import Recommendation, Recommendations, SongView
from tunegraph_pipeline.serve.formats import write_list
from tunegraph_pipeline.sources import content
from tunegraph_pipeline.sources.cells import NO_IDS
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline_tests.conftest import examples

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes text or bytes into a file of a fresh folder and gives its path."""

    def to_file(content: str | bytes, name: str = "given.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def read_one(path: Path, **options: Any) -> RawBatch:
    [batch] = read_files([path], **options)
    for part, frame in batch.parts().items():
        assert frame.schema == empty_frame(part).schema
    return batch


def pairs(batch: RawBatch) -> set[tuple[str, str]]:
    return set(batch.likes.select("user_id", "track_id").iter_rows())


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_files([path], **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- tables ------------------------------------------------------------------------------------------------

EXPECTED = {("u1", "s1"), ("u1", "s2"), ("u2", "s1")}


@pytest.mark.parametrize(
    "text",
    [
        "user_id,track_id\nu1,s1\nu1,s2\nu2,s1\n",
        "u1,s1\nu1,s2\nu2,s1\n",
        "u1\ts1\nu1\ts2\nu2\ts1",
        "u1;s1\r\nu1;s2\r\nu2;s1\r\n",
        "u1|s1\nu1|s2\n\nu2|s1\n",
        "u1 s1\nu1 s2\nu2 s1\n",
        "  u1   s1 5\nu1 s2   1\nu2  s1\t3.2466e+05\n",
        "u1,s1,3\nu1,s2,1.5\nu2,s1,3.2466e+05\n",
        "Song,When,User ID\ns1,x,u1\ns2,y,u1\ns1,z,u2\n",
        "\ufeffplaylistId\ttrack_uri\nu1\tspotify:track:s1\nu1\tspotify:track:s2\nu2\tspotify:track:s1\n",
        'user,item\n"u1","s1"\n"u1","s2"\n"u2","s1"\n',
        '{"user":"u1","item":"s1"}\n{"user":"u1","item":"s2"}\n\n{"item":"s1","user":"u2"}',
        "u1 s1 s2\nu2 s1\n",
        "userID\tartistID\tweight\nu1\ts1\t13883\nu1\ts2\t1\nu2\ts1\t7\n",
        '{"u1": ["s1", "s2"], "u2": ["s1"]}',
        '{\n "u1": ["s1", "s2"],\n "u2": ["s1"]\n}\n',
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_likes_are_read_from_every_shape_of_text(text: str, packed: bool, write: Write) -> None:
    data = gzip.compress(text.encode()) if packed else text.encode()
    batch = read_one(write(data, "misleading.parquet"))
    assert pairs(batch) == EXPECTED
    assert batch.users["user_id"].to_list() == ["u1", "u2"]
    assert set(batch.users["state"]) == {"listed"}
    assert (batch.source, batch.origin, batch.counts) == ("files", "misleading.parquet", {})


_ids = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=8)
_ids = _ids.filter(lambda text: text not in NO_IDS)
_ids |= st.integers(0, 10**12).map(str) | st.sampled_from(["1.0", "007", 'a"b', "x,y", "a b"])


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(_ids, _ids), min_size=1, max_size=12),
    form=st.sampled_from(["csv", "tsv", "parquet", "ndjson"]),
    packed=st.booleans(),
)
def test_pairs_that_were_written_are_read_back_as_they_were(
    rows: list[tuple[str, str]], form: str, packed: bool, tmp_path: Path
) -> None:
    frame = pl.DataFrame(rows, schema={"user_id": pl.String, "track_id": pl.String}, orient="row")
    sink = io.BytesIO()
    if form == "parquet":
        frame.write_parquet(sink)
    elif form == "ndjson":
        frame.write_ndjson(sink)
    else:
        frame.write_csv(sink, separator={"csv": ",", "tsv": "\t"}[form], quote_style="always")
    path = tmp_path / "any"
    path.write_bytes(gzip.compress(sink.getvalue()) if packed else sink.getvalue())
    batch = read_one(path)
    expected = {(composed(user), composed(track)) for user, track in rows}
    assert pairs(batch) == expected
    assert len(batch.likes) == len(expected)
    assert batch.counts.get("repeated likes", 0) == len(rows) - len(expected)
    assert batch.users["user_id"].to_list() == list(dict.fromkeys(user for user, _ in rows))


def test_integers_of_a_table_become_strings_without_a_decimal_point(write: Write, tmp_path: Path) -> None:
    for frame in (
        pl.DataFrame({"pid": [7, 7, None], "track_id": [1, 2, 3]}),
        pl.DataFrame({"pid": [7.0, 7.0, float("nan")], "track_id": [1.0, 2.0, 3.0]}),
    ):
        frame.write_parquet(tmp_path / "numbers.parquet")
        batch = read_one(tmp_path / "numbers.parquet")
        assert pairs(batch) == {("7", "1"), ("7", "2")}
        assert batch.counts == {"rows without a user": 1}
    mixed = write('{"user": 1, "track": 10}\n{"user": "1a", "track": 12345678901234567890123}\n')
    assert pairs(read_one(mixed)) == {("1", "10"), ("1a", "12345678901234567890123")}


def test_ids_are_stripped_and_freed_of_spotify_prefixes(write: Write) -> None:
    batch = read_one(
        write(
            "user,track_uri\n"
            " my list ,spotify:track:4uLU6hMCjMI75M1A2tKUQC\n"
            "spotify:user:ann,https://open.spotify.com/track/4uLU6hMCjMI75M1A2tKUQC?si=1\n"
            "ann,spotify:local:A:B:C:10\n"
        )
    )
    assert pairs(batch) == {("my list", "4uLU6hMCjMI75M1A2tKUQC"), ("ann", "4uLU6hMCjMI75M1A2tKUQC")}
    assert batch.counts == {"local files, which have no id": 1}


def test_ids_of_users_and_names_of_artists_are_kept_as_they_are(write: Write) -> None:
    user = "0A11AAAA-1111-4111-8111-111111111111"
    rows = [
        "user,track_id,artist",
        f"{user},0A11AAAA-1111-4111-8111-111111111112,Tidal:Wave",
        "deezer:ann:7,s1,AC/DC",
    ]
    batch = read_one(write("\n".join(rows)))
    assert pairs(batch) == {(user, "0a11aaaa-1111-4111-8111-111111111112"), ("deezer:ann:7", "s1")}
    assert batch.tracks["artists"].to_list() == [["Tidal:Wave"], ["AC/DC"]]


def test_what_is_no_track_is_left_out_and_counted_once(write: Write) -> None:
    rows = [
        "user,track",
        "ann,https://open.spotify.com/intl-de/track/4uLU6hMCjMI75M1A2tKUQC?si=1",
        "ben,spotify:track:4uLU6hMCjMI75M1A2tKUQC",
        "ben,spotify:episode:4uLU6hMCjMI75M1A2tKUQD",
        "ben,https://open.spotify.com/artist/4uLU6hMCjMI75M1A2tKUQE",
        "ben,https://spotify.link/AbC",
        "https://open.spotify.com/user/spotify/playlist/37i9dQZF1DX3,https://youtu.be/dQw4w9WgXcQ",
    ]
    batch = read_one(write("\n".join(rows)))
    assert pairs(batch) == {
        ("ann", "4uLU6hMCjMI75M1A2tKUQC"),
        ("ben", "4uLU6hMCjMI75M1A2tKUQC"),
        ("37i9dQZF1DX3", "youtube:dQw4w9WgXcQ"),
    }
    assert batch.counts == {
        "podcast episodes": 1,
        "artists": 1,
        "shortened links, which only their service can follow": 1,
    }


def test_bad_rows_are_skipped_and_counted_by_what_is_wrong_with_them(write: Write) -> None:
    rows = [
        "user_id,track_id,weight",
        "ann,s1,2",
        "ann,s1,4",
        "ann,,1",
        " ,s2,1",
        "ann,s3",
        "ann,s4,1,1",
        "ann,s5,0",
        "ann,s6,-1",
        "ann,s7,NaN",
        "ann,s8,",
        "ann,s9,often",
        f"ann,{'x' * 1025},1",
        f"ann,{'x' * 1024},1",
    ]
    batch = read_one(write("\n".join(rows)))
    assert pairs(batch) == {("ann", "s1"), ("ann", "x" * 1024)}
    assert batch.counts == {
        "rows with too few columns": 1,
        "rows with too many columns": 1,
        "ids longer than 1,024 bytes": 1,
        "rows without a track": 1,
        "rows without a user": 1,
        "plays values that are no numbers": 1,
        "rows without plays": 5,
        "repeated plays": 1,
    }


def test_the_id_of_a_song_known_by_its_names_has_the_same_limit(write: Write) -> None:
    """Else a service would refuse an id that was imported."""
    title = "\xe9" * 1010
    batch = read_one(write(f"user,artist,title\nann,Bo,Sea\nann,Bo,{title}x\nann,Bo,{title * 2}\n"))
    assert pairs(batch) == {("ann", "name:bo/sea"), ("ann", f"name:bo/{'e' * 1010}x")}
    assert batch.counts == {"ids longer than 1,024 bytes": 1}


def test_forms_of_an_id_in_one_file_are_one(write: Write) -> None:
    rows = ["user,track", "zo\xeb,caf\xe9", "zoe\u0308,cafe\u0301", "zoe\u0308,b"]
    assert pairs(read_one(write("\n".join(rows)))) == {("zo\xeb", "caf\xe9"), ("zo\xeb", "b")}


def test_columns_named_by_option_win_over_the_names_that_are_known(write: Write) -> None:
    path = write("user_id,melody,song,when\n1,m1,s1,2020-01-01\n1,m2,s2,2020-01-02\n")
    assert pairs(read_one(path)) == {("1", "s1"), ("1", "s2")}
    batch = read_one(path, track_column="melody", time_column="When")
    assert pairs(batch) == {("1", "m1"), ("1", "m2")}
    assert batch.likes["liked_at"][0] == datetime(2020, 1, 1, tzinfo=UTC)
    unknown = write("melody,listener_name\nm1,ann\n")
    assert pairs(read_one(unknown, user_column="listener_name", track_column="melody")) == {("ann", "m1")}


def test_columns_of_a_file_without_a_header_are_named_by_position(write: Write) -> None:
    path = write("x,s1,ann,2020-01-01\ny,s2,ann,2020-01-01\n")
    batch = read_one(path, user_column="3", track_column="2", time_column="4")
    assert pairs(batch) == {("ann", "s1"), ("ann", "s2")}
    assert batch.likes["liked_at"].null_count() == 0


@pytest.mark.parametrize(
    "time",
    [
        "2021-03-04T05:06:07Z",
        "2021-03-04 05:06:07",
        "2021-03-04T05:06:07.000Z",
        "2021-03-04T07:06:07+02:00",
        "2021-03-04T07:06:07+0200",
        "1614834367",
        "1614834367000",
        "1614834367000000",
    ],
)
def test_a_time_is_understood_in_the_ways_people_write_it(time: str, write: Write) -> None:
    batch = read_one(write(f"user,track,added_at\nann,s1,{time}\nann,s2,\nann,s3,soon\n"))
    assert batch.likes["liked_at"].to_list() == [datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC), None, None]
    assert batch.counts == {"times not understood": 1}


def test_a_repeated_like_keeps_its_earliest_time(write: Write) -> None:
    batch = read_one(write("user,track,ts\nann,s1,2020-05-05\nann,s1,2020-01-01\nann,s1,\nbob,s1,\n"))
    assert batch.likes.drop("position").rows() == [
        ("ann", "s1", datetime(2020, 1, 1, tzinfo=UTC)),
        ("bob", "s1", None),
    ]
    assert batch.counts == {"repeated likes": 2}


def test_quoted_cells_may_hold_separators_quotes_and_line_breaks(write: Write) -> None:
    batch = read_one(write('track_id,name,artist\ns1,"A, ""B""\nC","Tyler, The Creator"\ns2,5" cut,x\n'))
    assert batch.tracks["name"].to_list() == ['A, "B" C', '5" cut']
    assert batch.tracks["artists"].to_list() == [["Tyler, The Creator"], ["x"]]


def test_a_lone_quote_in_a_table_with_tabs_is_a_letter(write: Write) -> None:
    batch = read_one(write('user\ttrack\nann\t"s1\nann\ts2\n'))
    assert pairs(batch) == {("ann", '"s1'), ("ann", "s2")}


def test_a_row_longer_than_any_buffer_is_read(write: Write) -> None:
    row = "u1 " + " ".join(f"s{i}" for i in range(300_000))
    batch = read_one(write(row + "\nu2 s1\n"))
    assert len(batch.likes) == 300_001


# --- tracks and features -----------------------------------------------------------------------------------


def test_a_table_of_tracks_is_read_with_lists_of_artists_and_lengths_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "tracks.parquet"
    pl.DataFrame(
        {"track_id": [0, 1], "album_id": [10, 11], "artist_id": [4, None], "duration_sec": [167, 0]}
    ).write_parquet(path)
    batch = read_one(path)
    assert batch.tracks.select("track_id", "album_id", "artist_ids", "duration_ms").rows() == [
        ("0", "10", ["4"], 167_000),
        ("1", "11", None, None),
    ]
    assert batch.counts == {"lengths out of range": 1}
    assert batch.likes.is_empty()
    assert batch.users.is_empty()


@pytest.mark.parametrize(
    ("column", "length"), [("duration", 200), ("duration", 200_000), ("length_ms", 200_000)]
)
def test_a_length_is_taken_for_seconds_or_milliseconds_by_its_name_or_size(
    column: str, length: int, write: Write
) -> None:
    assert read_one(write(f"track_id,{column}\ns1,{length}\n")).tracks["duration_ms"].to_list() == [200_000]


def test_lists_in_a_table_stay_lists_without_blanks(tmp_path: Path) -> None:
    path = tmp_path / "tracks.parquet"
    pl.DataFrame(
        {
            "id": ["s1", "s2"],
            "artists": [["A", None, " B "], []],
            "explicit": [True, None],
            "title": ["x", "y"],
        }
    ).write_parquet(path)
    tracks = read_one(path).tracks
    assert tracks["artists"].to_list() == [["A", "B"], None]
    assert tracks["explicit"].to_list() == [True, None]


def test_features_out_of_range_infinite_or_missing_become_null(write: Write) -> None:
    batch = read_one(
        write(
            "track_id,energy,key,loudness,tempo\n"
            "s1,0.5,11,-7.5,120\n"
            "s2,1.5,-1,inf,NaN\n"
            "s3,NA,12,-3,-Infinity\n"
            "s4,high,0,-60,0\n"
            "s5,,,,\n"
        )
    )
    values = batch.features.select("track_id", "energy", "key", "loudness", "tempo").rows()
    assert values == [
        ("s1", 0.5, 11.0, -7.5, 120.0),
        ("s3", None, None, -3.0, None),
        ("s4", None, 0.0, -60.0, 0.0),
    ]
    assert batch.counts == {
        "energy values that are no numbers": 1,
        "keys not detected": 1,
        "feature values out of range": 4,
    }
    assert batch.features["valence"].null_count() == 3


def test_of_a_repeated_track_the_first_value_known_wins_column_by_column(write: Write) -> None:
    batch = read_one(
        write("track_id,name,genre,energy,mode\ns1,,pop,0.5,\ns1,Song,rock,0.9,1\ns1,Other,,,0\n")
    )
    assert batch.tracks.select("track_id", "name", "genre").rows() == [("s1", "Song", "pop")]
    assert batch.features.select("track_id", "energy", "mode").rows() == [("s1", 0.5, 1.0)]


def test_a_file_of_all_three_kinds_is_read_whole_or_as_the_kind_that_is_named(write: Write) -> None:
    path = write("playlist_id,track_id,track_name,energy\np1,s1,Song,0.5\n,s2,Other,0.7\n")
    batch = read_one(path)
    assert pairs(batch) == {("p1", "s1")}
    assert batch.tracks["name"].to_list() == ["Song", "Other"]
    assert batch.features["track_id"].to_list() == ["s1", "s2"]
    for kind in ("likes", "tracks", "features"):
        only = read_one(path, kind=kind)
        filled = {part for part, frame in only.parts().items() if len(frame)}
        assert filled == ({"users", "likes"} if kind == "likes" else {kind})


# --- other people's formats --------------------------------------------------------------------------------


def test_an_adjacency_line_without_a_track_is_a_user_who_likes_nothing(write: Write) -> None:
    batch = read_one(write("0 10 11 12\n1\n2 10\n0 12 13\n"))
    assert pairs(batch) == {("0", "10"), ("0", "11"), ("0", "12"), ("0", "13"), ("2", "10")}
    assert batch.users["user_id"].to_list() == ["0", "1", "2"]
    assert batch.counts == {"repeated likes": 1}


def test_lines_of_equal_length_can_be_called_adjacency(write: Write) -> None:
    path = write("1 10 1100\n2 10 1200\n")
    assert pairs(read_one(path)) == {("1", "10"), ("2", "10")}
    every = {("1", "10"), ("1", "1100"), ("2", "10"), ("2", "1200")}
    assert pairs(read_one(path, format="adjacency")) == every


def test_plays_of_lastfm_1k_become_distinct_likes_dated_by_the_first_play(write: Write) -> None:
    lines = [
        'user_000001\t2009-05-04T23:08:57Z\tart-1\tDeep Dish\ttrk-1\tFuck Me I\'m "Famous" (Live)',
        'user_000001\t2009-05-01T10:00:00Z\tart-1\tDeep Dish\ttrk-1\tFuck Me I\'m "Famous" (Live)',
        "user_000001\t2009-05-04T13:54:10Z\tart-2\t坂本龍一\t\tComposition 0919",
        'user_000002\t2009-05-04T13:52:04Z\t\t"Q\ttrk-2\tMc2',
    ]
    batch = read_one(write("\n".join(lines)))
    assert batch.likes.drop("position").rows() == [
        ("user_000001", "trk-1", datetime(2009, 5, 1, 10, tzinfo=UTC)),
        ("user_000001", "name:坂本龍一/composition 0919", datetime(2009, 5, 4, 13, 54, 10, tzinfo=UTC)),
        ("user_000002", "trk-2", datetime(2009, 5, 4, 13, 52, 4, tzinfo=UTC)),
    ]
    assert batch.tracks.select("track_id", "artists", "artist_ids").rows() == [
        ("trk-1", ["Deep Dish"], ["art-1"]),
        ("name:坂本龍一/composition 0919", ["坂本龍一"], ["art-2"]),
        ("trk-2", ['"Q'], None),
    ]
    assert batch.counts == {"repeated plays": 1}


def _slice(*playlists: dict[str, Any]) -> str:
    return json.dumps({"info": {"version": "v1"}, "playlists": playlists}, indent=1)


_MPD_TRACK = {
    "pos": 0,
    "track_uri": "spotify:track:s1",
    "track_name": "Song",
    "artist_name": "Band",
    "artist_uri": "spotify:artist:a1",
    "album_name": "Album",
    "album_uri": "spotify:album:l1",
    "duration_ms": 226863,
}


def test_a_slice_of_the_million_playlists_gives_likes_and_tracks(write: Write) -> None:
    text = _slice({"pid": 5, "name": "x", "tracks": [_MPD_TRACK]}, {"pid": 6, "name": "y", "tracks": []})
    batch = read_one(write(text, "mpd.slice.0-999.json"))
    assert pairs(batch) == {("5", "s1")}
    assert batch.users.select("user_id", "state").rows() == [("5", "listed"), ("6", "listed")]
    fields = batch.tracks.select("track_id", "name", "artists", "artist_ids", "album_id", "duration_ms")
    assert fields.rows() == [("s1", "Song", ["Band"], ["a1"], "l1", 226863)]


def test_a_folder_of_slices_gives_a_batch_a_slice(write: Write, tmp_path: Path) -> None:
    for pid in (0, 1):
        write(_slice({"pid": pid, "tracks": [_MPD_TRACK]}), f"mpd.slice.{pid}.json")
    write("about these files", "README.md")
    batches = read_files([tmp_path])
    assert [pairs(batch) for batch in batches] == [{("0", "s1")}, {("1", "s1")}]


EXPORTIFY = (
    "\ufeffTrack URI,Track Name,Album Name,Artist Name(s),Duration (ms),Explicit,Added By,Added At,"
    "Danceability,Key\n"
    'spotify:track:s1,One,Album,"Tyler\\, The Creator,Frank Ocean",200000,true,me,2021-03-04T05:06:07Z,'
    "0.5,7\n"
    "spotify:track:s2,Two,Album,A;B,1000,false,me,2021-03-05T05:06:07Z,0.75,-1\n"
)


def test_an_exportify_table_is_one_persons(write: Write) -> None:
    batch = read_one(write(gzip.compress(EXPORTIFY.encode()), "road_trip.csv.gz"))
    assert batch.likes.drop("position").rows() == [
        ("me", "s1", datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("me", "s2", datetime(2021, 3, 5, 5, 6, 7, tzinfo=UTC)),
    ]
    assert batch.tracks["artists"].to_list() == [["Tyler, The Creator", "Frank Ocean"], ["A", "B"]]
    assert batch.tracks["duration_ms"].to_list() == [200_000, 1000]
    assert batch.tracks["explicit"].to_list() == [True, False]
    assert batch.features.select("danceability", "key").row(1) == (0.75, None)
    assert batch.counts == {"keys not detected": 1}


def test_a_file_name_that_is_no_text_is_spelt_out(write: Write) -> None:
    batch = read_one(write(EXPORTIFY, os.fsdecode(b"caf\xe9.csv")))
    assert batch.origin == "caf\\xe9.csv"


def test_a_file_of_one_person_without_a_song_never_empties_their_list(write: Write) -> None:
    assert "has a header and no rows" in refusal(write(EXPORTIFY.partition("\n")[0], "empty.csv"))
    episode = (
        "Track URI,Track Name,Artist Name(s),Added At\nspotify:episode:e,Podcast,Show,2024-01-01T00:00:00Z\n"
    )
    message = refusal(write(episode, "episodes.csv"))
    assert "no like that can be read (podcast episodes: 1); the list of me stays as it is" in message


def _seed(write: Write) -> list[Path]:
    row = ",".join(["0.5"] * 4 + ["5", "0.5", "-7", "1", "0.5", "120", "0.25"])
    return [
        write(json.dumps({"ann": ["s1", "s2", "s1"], "bob": None, "cid": []}), "user_like.json"),
        write(json.dumps({"s2": "0", "s1": 1}), "id_map.json"),
        write(f"{row}\n{row.replace('0.25', '0.75')}\n", "id_map.csv"),
    ]


def test_the_three_files_of_the_seed_project_make_one_batch(write: Write, tmp_path: Path) -> None:
    paths = _seed(write)
    for given_paths in ([tmp_path], paths, paths[::-1]):
        [batch] = read_files(given_paths)
        assert pairs(batch) == {("ann", "s1"), ("ann", "s2")}
        assert dict(batch.users.select("user_id", "state").iter_rows()) == {
            "ann": "listed",
            "bob": "failed",
            "cid": "listed",
        }
        assert dict(batch.features.select("track_id", "valence").iter_rows()) == {"s1": 0.75, "s2": 0.25}
        assert batch.features["key"].to_list() == [5.0, 5.0]
        assert batch.counts == {"repeated likes": 1, "users whose list is unknown": 1}


def test_seed_files_that_do_not_fit_together_are_refused(write: Write) -> None:
    likes, ids, features = _seed(write)
    assert "needs id_map.csv" in refusal(ids)
    assert "needs id_map.json" in refusal(features)
    assert pairs(read_one(likes)) == {("ann", "s1"), ("ann", "s2")}
    write(json.dumps({"s1": 2}), "id_map.json")
    with pytest.raises(InputError, match=r"'s1' points at row 2; id_map\.csv has rows 0 to 1"):
        read_files([ids, features])
    write("1,2\n", "id_map.csv")
    with pytest.raises(InputError, match="has 2 columns; it has to have the 11 features"):
        read_files([ids, features])
    write(json.dumps({"ann": "s1"}), "user_like.json")
    assert "'ann' has no list of tracks" in refusal(likes)


# --- what is refused ---------------------------------------------------------------------------------------


def _parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pl.DataFrame(columns).write_parquet(sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(b"ann,s1\n" * 99, mtime=0)[:-9], "truncated or damaged gzip"),
        (b"\x1f\x8bgarbage", "truncated or damaged gzip"),
        (_parquet(user=["a"], track=["b"])[:-20], "truncated or damaged parquet"),
        (b"PAR1 and then nothing", "truncated or damaged parquet"),
        (_parquet(user=["a"], melody=["b"]), "no column of tracks among 'user', 'melody'"),
        (_parquet(user=["a"], track=[1.5]), "column track_id holds fractional numbers"),
        (_parquet(user=["a"], track=[[["b"]]]), "column track_id is of type List"),
        (_parquet(user=["a"], track=[float("inf")]), "column track_id holds infinite numbers"),
        (_parquet(user=[None, None], track=["a", "b"]), "no usable row (rows without a user: 2)"),
        (b"\x7fELF\x02\x01\x00\x00\x00", "binary file"),
        (b"PK\x03\x04zip", "zip archive"),
        ("user,track\n".encode("utf-16"), "has a header and no rows"),
        ("user,track\nann,s1\n".encode("utf-16")[:-1], "truncated or damaged UTF-16 text"),
        (b"\xef\xbb\xbfuser,track\nann,s1\nbj\xf6rn,s2\n", "is not the UTF-8 text its first bytes say (row"
                                                           " 3)"),
        (b"<html><body>404</body></html>", "HTML"),
        (b'[{"user": 1}]', "no column of tracks among 'user'"),
        (b"[1, 2]", "JSON array of no known kind"),
        (b'{"a": {"b": 1}}', "JSON of no known service (its keys: 'a')"),
        (b'{"user": "ann", "track": "s1"}\n{"user": "bob", "tra', "line 2 is damaged or truncated JSON"),
        (b'{"user": "ann", "track": "s1"}\n[1]\n', "line 2 is no JSON object"),
        (b'{"playlists": [{"pid": 1, "tracks": [', "damaged or truncated JSON"),
        (b'{"playlists": ' + b"[" * 100 + b"]" * 100 + b"}", "JSON nested too deep to be a list of likes"),
        (b'{"playlists": [{"pid": 1}]}', "playlist 1 has no pid or no list of tracks"),
        (b"user_id,track_id\n", "has a header and no rows"),
        (b"user_id,melody\nann,m1\n", "no column of tracks among 'user_id', 'melody'"),
        (b"track_id\ns1\ns2\n", "lacks users; name their column with --user-column"),
        (b"s1\ns2\ns3\n", "is not a table of users and tracks"),
        (b"listener_nr,melody_nr\n1,2\n3,4\n", "--user-column and --track-column"),
        (b"alpha,beta,gamma,delta\na,b,c,d\n", "--user-column and --track-column"),
        (b"Dear Ann,\nthis is no table of likes.\n", "has no header, and words in its columns"),
        (b"Queen,Bohemian\nABBA,Dancing\n", "has no header, and words in its columns"),
        (b"Intro The Lanterns\nHome Ida Quist\n", "is not a table of users and tracks"),
        (b"Queen - Bohemian Rhapsody\nABBA - SOS\n", "does not say which is the artist"),
        (b"user,song\nann,Blue Harbour\n", "a title alone is no song"),
        (b"track_id,energy\ns1,high\ns2,low\n", "column energy holds no numbers (row 1 has 'high')"),
        (b'user,track\nann,"s1\nbob,s2\ncid,s3\n', "quotation mark in row 2 is never closed"),
        (b'user,track\nann,"s1\nbob"\n', "ids with a line break: 1"),
        (b"user,track\nann,s1,x\n", "no usable row (rows with too many columns: 1)"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line_that_names_the_file(
    content: bytes, says: str, write: Write
) -> None:
    path = write(content)
    message = refusal(path)
    assert message.startswith(str(path))
    assert says in message


@pytest.mark.parametrize("line", ['{"user": "u", "tra', "[1]", "7", "garbage"])
def test_a_bad_line_deep_in_ndjson_is_found(line: str, write: Write) -> None:
    good = [json.dumps({"user": "u", "track": str(number)}) for number in range(1500)]
    assert "line 1501 is" in refusal(write("\n".join([*good, line])))
    assert "line 1001 is" in refusal(write("\n".join([*good[:1000], line, *good[1000:]])))


def test_a_missing_file_an_empty_folder_and_an_unreadable_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere.csv")
    assert "has no file to import" in refusal(tmp_path)
    path = write("ann,s1\n")

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(content, "open_regular", denied)
    assert refusal(path) == f"{path} cannot be read: Permission denied"


def test_options_that_do_not_fit_the_file_are_refused(write: Write) -> None:
    path = write("user_id,track_id\nann,s1\n")
    assert "--format vinyl is not known" in refusal(path, format="vinyl")
    assert "--kind songs is not known" in refusal(path, kind="songs")
    assert "holds no features, only likes" in refusal(path, kind="features")
    assert "no column 'who'; --user-column can be one of: 'user_id', 'track_id'" in refusal(
        path, user_column="who"
    )
    assert "no time in --time-column is readable" in refusal(
        write("user,track,when\nann,s1,soon\n"), time_column="when"
    )
    adjacency = write("u1 s1 s2\nu2 s1\n")
    assert "has no columns to name" in refusal(adjacency, user_column="1").replace("which has", "has")


@pytest.mark.parametrize("name", ["parquet", "ndjson", "hetrec", "lastfm1k", "mpd", "exportify", "seed"])
def test_a_format_that_is_named_has_to_be_the_format_of_the_file(name: str, write: Write) -> None:
    message = refusal(write("user_id,track_id\nann,s 1,\n"), format=name)
    assert f"is not {name}" in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("csv", "u1,s1\n"),
        ("tsv", "u1\ts1\n"),
        ("ndjson", '{"user": "u1", "track": "s1"}'),
        ("adjacency", "u1 s1\n"),
        ("hetrec", "userID\tartistID\tweight\nu1\ts1\t1\n"),
        ("lastfm1k", "user_1\t2009-05-04T23:08:57Z\ta\tA\ts1\tS\n"),
        ("mpd", _slice({"pid": "u1", "tracks": [{"track_uri": "spotify:track:s1"}]})),
        ("seed", '{"u1": ["s1"]}'),
    ],
)
def test_every_format_can_be_named(name: str, text: str, write: Write) -> None:
    path = write(text)
    user = "user_1" if name == "lastfm1k" else "u1"
    assert pairs(read_one(path, format=name)) == {(user, "s1")}
    assert pairs(read_one(path)) == {(user, "s1")}


@given(damage=st.data())
@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_is_read_or_refused_but_never_a_crash(damage: st.DataObject, tmp_path: Path) -> None:
    table = pl.DataFrame({"user": [f"u{i % 7}" for i in range(50)], "track": [f"s{i}" for i in range(50)]})
    sink = io.BytesIO()
    if damage.draw(st.booleans()):
        table.write_parquet(sink)
    else:
        table.write_csv(sink)
    data = bytearray(sink.getvalue())
    if damage.draw(st.booleans()):
        data = bytearray(gzip.compress(bytes(data)))
    for _ in range(damage.draw(st.integers(1, 4))):
        data[damage.draw(st.integers(0, len(data) - 1))] = damage.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(bytes(data[: damage.draw(st.integers(0, len(data)))]))
    try:
        outcome: RawBatch | str = read_one(path)
    except InputError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert outcome.startswith(str(path))
        assert "\n" not in outcome
    else:
        assert any(len(frame) for frame in outcome.parts().values())


# --- real files --------------------------------------------------------------------------------------------


def test_real_playlists_and_their_tracks_are_read_whole(shared_data: Path) -> None:
    folder = shared_data / "playlists2018"
    likes, tracks = read_files([folder / "train.parquet", folder / "tracks.parquet"])
    assert len(likes.likes) == 1_156_367
    assert likes.likes["user_id"].n_unique() == len(likes.users) == 50_446
    assert likes.likes.row(0) == ("0", "1220", None, None)
    assert len(tracks.tracks) == 20_635
    assert tracks.tracks["artist_ids"].null_count() == 0
    assert tracks.tracks.select("track_id", "album_id", "artist_ids", "duration_ms").row(0) == (
        "0",
        "6306",
        ["449"],
        167_000,
    )


def test_real_songs_bring_playlists_names_and_features(shared_data: Path) -> None:
    batch = read_one(shared_data / "spotify_songs" / "spotify_songs.csv.gz")
    assert batch.users["user_id"].n_unique() == 471
    assert len(batch.likes) == 32_251
    assert len(batch.tracks) == len(batch.features) == 28_356
    assert sum(batch.features.select(AUDIO_FEATURES).null_count().row(0)) == 0
    song = batch.tracks.row(by_predicate=pl.col("track_id") == "6f807x0ima9a1j3VPbc7VN", named=True)
    assert song["name"] == "I Don't Care (with Justin Bieber) - Loud Luxury Remix"
    assert song["artists"] == ["Ed Sheeran"]
    assert song["genre"] == "pop"
    assert batch.counts == {
        "repeated likes": 582,
        "names with control characters, which were taken out": 2,
    }


def test_real_plays_with_weights_in_scientific_notation_are_likes(shared_data: Path) -> None:
    path = shared_data / "lastfm" / "lf_train.txt"
    expected = {tuple(line.split("\t")[:2]) for line in path.read_text().splitlines()}
    assert pairs(read_one(path)) == expected


def test_names_cannot_steer_a_terminal_and_links_lead_to_the_web_alone(write: Write) -> None:
    rows = [
        ["a", "One\x1b[2J\u202eTwo\tThree", "file:///etc/passwd", "javascript:alert(1)"],
        ["b", "Four", "https://a.example/1.jpg", "HTTP://a.example/1.mp3"],
        ["c", "Five", "https://a.example/1 .jpg", "data:text/html,x"],
        ["d\x1b[2J", "Six", "", ""],
    ]
    lines = [dict(zip(("track_id", "name", "image_url", "preview_url"), row, strict=True)) for row in rows]
    batch = read_one(write(json.dumps([{"user_id": "ann"} | line for line in lines]), "a.json"))
    assert batch.tracks["name"].to_list() == ["One[2JTwo Three", "Four", "Five"]
    assert batch.tracks["image_url"].to_list() == [None, "https://a.example/1.jpg", None]
    assert batch.tracks["preview_url"].to_list() == [None, "HTTP://a.example/1.mp3", None]
    assert batch.counts["names with control characters, which were taken out"] == 1
    assert batch.counts["links that are neither http nor https"] == 4
    assert batch.counts["ids with a control character"] == 1


def test_a_list_that_tunegraph_wrote_comes_back_with_its_own_ids(write: Write) -> None:
    ids = ["=1+1", "-x", "@a", "+b", "'=c", "plain"]
    views = [SongView(one, 0, one, "Ann", "", "", 3, None, x=0.0, y=0.0) for one in ids]
    answer = Recommendations([Recommendation(view, 0.5, ()) for view in views], [], None, "v1")
    written = write_list(answer, "m1", "csv").content
    assert b"\r\n1,=" not in written
    batch = read_one(write(written, "recommendations.csv"), kind="tracks")
    assert batch.tracks["track_id"].to_list() == ids
    foreign = read_one(write("user_id,track_id\nann,'=c\n"))
    assert foreign.likes["track_id"].to_list() == ["'=c"]


def test_albums_and_years_of_songs_are_kept(tmp_path: Path) -> None:
    table = tmp_path / "Liked_Songs.csv"
    rows = [
        ("4uLU6hMCjMI75M1A2tKUQC", "Whenever\tYou", "1987-11"),
        ("3WibbMr6canxRJXhNtAvLU", "", "2000"),
        ("0I3q5fE6wg7LIfHGngUTnV", "Stankonia", "31 Oct"),
    ]
    header = "Track URI,Track Name,Artist Name(s),Album Name,Album Release Date,Added At\n"
    text = "".join(
        f'spotify:track:{one},A,B,"{album}",{date},2020-01-01T00:00:00Z\n' for one, album, date in rows
    )
    table.write_text(header + text)
    (batch,) = read_files([table])
    found = batch.tracks.select("track_id", "album", "year").rows()
    assert found == [
        (rows[0][0], "Whenever You", 1987),
        (rows[1][0], None, 2000),
        (rows[2][0], "Stankonia", None),
    ]
