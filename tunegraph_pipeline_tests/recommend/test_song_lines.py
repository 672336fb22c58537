"""Lines that people write, and the songs they may mean."""

import pytest

from tunegraph_pipeline.recommend.song_lines import (
    LONGEST_LINE,
    PlaylistLink,
    makers,
    playlist_link,
    read_lines,
)

TRACK, OTHER = "4uLU6hMCjMI75M1A2tKUQC", "2Fxmhks0bxGSBdJ92vM42m"
MBID = "01234567-89ab-4def-8123-456789abcdef"


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        (f"https://open.spotify.com/track/{TRACK}?si=1", [TRACK]),
        (f"spotify:track:{TRACK}, spotify:track:{OTHER}", [TRACK, OTHER]),
        (f"<https://musicbrainz.org/recording/{MBID}>", [MBID]),
        (f"- {TRACK}", [TRACK]),
        ("https://youtu.be/dQw4w9WgXcQ", ["youtube:dQw4w9WgXcQ"]),
        ("GBAYE0601498", ["GBAYE0601498"]),
    ],
)
def test_a_line_may_be_ids_and_links(line: str, ids: list[str]) -> None:
    assert [one.songs[0].track_id for one in read_lines(line)] == ids


@pytest.mark.parametrize(
    ("line", "artist", "title"),
    [
        ("The Lanterns - Blue Harbour", "The Lanterns", "Blue Harbour"),
        ("12. The Lanterns — Blue Harbour (3:45)", "The Lanterns", "Blue Harbour"),
        ("• “The Lanterns” – “Blue Harbour”", "The Lanterns", "Blue Harbour"),
        ("The Lanterns\tBlue Harbour", "The Lanterns", "Blue Harbour"),
        ("Blue Harbour by The Lanterns", "The Lanterns", "Blue Harbour"),
        ("Jay-Z - 99 Problems - Remastered", "Jay-Z", "99 Problems - Remastered"),
    ],
)
def test_a_line_may_be_artist_and_title(line: str, artist: str, title: str) -> None:
    (read,) = read_lines(line)
    assert (read.given, read.why) == (line, "")
    assert (artist, title) in [(song.artists[0], song.name) for song in read.songs if song.name]


def test_the_title_may_come_first() -> None:
    (line,) = read_lines("Blue Harbour - The Lanterns")
    names = [(song.artists[0], song.name) for song in line.songs if song.name]
    assert names == [("Blue Harbour", "The Lanterns"), ("The Lanterns", "Blue Harbour")]


def test_what_names_no_song_says_why() -> None:
    (long,) = read_lines("x" * 2_000)
    assert (len(long.given), long.songs) == (LONGEST_LINE, ())
    assert "letters" in long.why
    (short,) = read_lines("https://spotify.link/AbC")
    assert short.why.startswith("a short link")
    assert read_lines(" \n---\n***\n") == []


@pytest.mark.parametrize(
    ("text", "playlist"),
    [
        (
            "https://open.spotify.com/playlist/37i9dQZF1DXcBWIGoYBM5M?si=1",
            ("spotify", "37i9dQZF1DXcBWIGoYBM5M"),
        ),
        ("spotify:playlist:37i9dQZF1DXcBWIGoYBM5M", ("spotify", "37i9dQZF1DXcBWIGoYBM5M")),
        (f"https://listenbrainz.org/playlist/{MBID}/", ("listenbrainz", MBID)),
        ("www.deezer.com/en/playlist/908622995", ("deezer", "908622995")),
        (f"https://open.spotify.com/track/{TRACK}", None),
        (f"https://listenbrainz.org/playlist/{MBID}\nhttps://listenbrainz.org/playlist/{MBID}", None),
        ("The Lanterns - Playlist", None),
    ],
)
def test_a_text_may_be_one_playlist(text: str, playlist: tuple[str, str] | None) -> None:
    assert playlist_link(text) == (None if playlist is None else PlaylistLink(*playlist))


def test_a_credit_may_be_one_name_or_several() -> None:
    assert makers(["Simon & Garfunkel", "Ann feat. Bo"]) == [
        "Simon & Garfunkel",
        "Simon",
        "Garfunkel",
        "Ann feat. Bo",
        "Ann",
        "Bo",
    ]
