"""Lists as CSV, M3U and Spotify URIs."""

import csv
import io
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.recommend.recommender import Reason, Recommendation, Recommendations, SongView
from tunegraph_pipeline.serve.formats import write_list
from tunegraph_pipeline.spreadsheet_cells import MARKED, harmless

SPOTIFY = "4uLU6hMCjMI75M1A2tKUQC"


def song(
    track_id: str,
    name: str = "",
    artists: str = "",
    preview: str = "",
    *,
    explicit: bool | None = None,
    reasons: tuple[Reason, ...] = (),
) -> Recommendation:
    view = SongView(track_id, 0, name, artists, "", preview, 3, explicit, x=0.25, y=0.75)
    return Recommendation(view, 0.5, reasons)


def written(form: str, *songs: Recommendation) -> str:
    return write_list(Recommendations(list(songs), [], None, "v1"), "m1", form).content.decode()


def test_json_has_what_the_api_promises() -> None:
    reasons = (Reason("r", "Reason", "Who", 3),)
    answer = json.loads(written("json", song("a", "A", "B", explicit=True, reasons=reasons), song("b")))
    assert (answer["bundle_version"], answer["model_version"]) == ("v1", "m1")
    assert [item["rank"] for item in answer["items"]] == [1, 2]
    assert answer["items"][0]["reasons"] == [
        {"track_id": "r", "name": "Reason", "artists": "Who", "listeners": 3}
    ]
    assert answer["items"][0]["explicit"] is True
    assert answer["items"][1]["explicit"] is None


# A carriage return alone, or NUL, the csv module does not read back.
words = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(words, words, words), max_size=5))
def test_a_table_gives_back_every_text(texts: list[tuple[str, str, str]]) -> None:
    table = written("csv", *(song(*row) for row in texts))
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    cells = [(row["track_id"], row["name"], row["artists"]) for row in rows]
    assert cells == [tuple(map(harmless, row)) for row in texts]
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, len(texts) + 1)]


@given(words)
def test_no_cell_runs_as_a_formula_and_the_mark_comes_off(text: str) -> None:
    cell = harmless(text)
    assert isinstance(cell, str)
    assert cell[:1] not in set("=+-@\t\r\n")
    assert pl.Series([cell]).str.replace(MARKED, "${1}").to_list() == [text]


def test_a_playlist_has_previews_before_spotify_links_and_leaves_out_what_has_neither() -> None:
    playlist = written(
        "m3u",
        song(SPOTIFY, "With preview", "Ann", "https://cdn.example.org/1.mp3"),
        song(SPOTIFY, "Linked", "Ben"),
        song(f"spotify:track:{SPOTIFY}", "", ""),
        song("local-7", "Nowhere", "Cem"),
    )
    assert playlist.splitlines() == [
        "#EXTM3U",
        "#EXTINF:-1,Ann - With preview",
        "https://cdn.example.org/1.mp3",
        "#EXTINF:-1,Ben - Linked",
        f"https://open.spotify.com/track/{SPOTIFY}",
        f"#EXTINF:-1,spotify:track:{SPOTIFY}",
        f"https://open.spotify.com/track/{SPOTIFY}",
    ]


@pytest.mark.parametrize(
    "preview",
    ["https://x.org/a\nfile:///etc/passwd", "file:///etc/passwd", "javascript:alert(1)", "https://x y"],
)
def test_a_playlist_takes_no_other_links_for_previews(preview: str) -> None:
    assert written("m3u", song("local", "A\nB\r#EXT", "C", preview)) == "#EXTM3U\n"
    lines = written("m3u", song(SPOTIFY, "A\nB\r#EXT", "C", preview)).splitlines()
    assert lines[1:] == ["#EXTINF:-1,C - A B #EXT", f"https://open.spotify.com/track/{SPOTIFY}"]


def test_uris_are_of_spotify_ids_alone() -> None:
    uris = written(
        "uris", song(SPOTIFY), song("local-7"), song(f"spotify:track:{SPOTIFY}"), song(SPOTIFY + "x")
    )
    assert uris == f"spotify:track:{SPOTIFY}\n" * 2
    linked = song("b1a9c0e9-d987-4042-ae91-78d6a3267d69")
    linked = linked._replace(song=linked.song._replace(link=f"https://open.spotify.com/track/{SPOTIFY}"))
    assert written("uris", linked) == f"spotify:track:{SPOTIFY}\n", "another id of the recording is Spotify's"
    elsewhere = linked.song._replace(link="https://musicbrainz.org/recording/x")
    assert written("uris", linked._replace(song=elsewhere)) == ""
