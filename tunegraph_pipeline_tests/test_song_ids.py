import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.song_ids import clean_id, isrc_id, read_id

SPOTIFY = "4uLU6hMCjMI75M1A2tKUQC"
MBID = "11111111-1111-4111-8111-11111111111a"


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        (SPOTIFY, SPOTIFY),
        (f"  {SPOTIFY}\n", SPOTIFY),
        (f"spotify:track:{SPOTIFY}", SPOTIFY),
        (f"https://open.spotify.com/track/{SPOTIFY}", SPOTIFY),
        (f"http://open.spotify.com/track/{SPOTIFY}?si=abc&utm_source=copy-link", SPOTIFY),
        (f"https://open.spotify.com/intl-de/track/{SPOTIFY}?si=abc", SPOTIFY),
        (f"https://open.spotify.com/embed/track/{SPOTIFY}#top", SPOTIFY),
        (f"open.spotify.com/track/{SPOTIFY}/", SPOTIFY),
        (f"https://play.spotify.com/track/{SPOTIFY}", SPOTIFY),
        (MBID.upper(), MBID),
        (f"https://musicbrainz.org/recording/{MBID}", MBID),
        (f"https://listenbrainz.org/track/{MBID}/", MBID),
        (f"mbid:{MBID}", MBID),
        ("https://music.apple.com/us/album/blue-harbour/182889200?i=182889262", "apple:182889262"),
        ("https://music.apple.com/de/song/182889262", "apple:182889262"),
        ("https://music.apple.com/de/song/blue-harbour/182889262?l=en", "apple:182889262"),
        ("apple:182889262", "apple:182889262"),
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&list=LM", "youtube:dQw4w9WgXcQ"),
        ("https://music.youtube.com/watch?v=dQw4w9WgXcQ", "youtube:dQw4w9WgXcQ"),
        ("https://youtu.be/dQw4w9WgXcQ?t=3", "youtube:dQw4w9WgXcQ"),
        ("https://www.youtube.com/shorts/dQw4w9WgXcQ", "youtube:dQw4w9WgXcQ"),
        ("https://www.deezer.com/en/track/3135556", "deezer:3135556"),
        ("https://deezer.com/track/3135556?utm=1", "deezer:3135556"),
        ("https://tidal.com/browse/track/77646169", "tidal:77646169"),
        ("https://listen.tidal.com/album/1/track/77646169", "tidal:77646169"),
        ("ISRC:gb-aye-06-01498", "isrc:GBAYE0601498"),
        ("GBAYE0601498", "GBAYE0601498"),  # bare, it could be anything; a column named ISRC says what it is
        ("S1", "S1"),
        ("12", "12"),
        ("rock:12", "rock:12"),
        ("deezer:track:3135556", "deezer:3135556"),
        ("deezer:album:302127", "deezer:album:302127"),
        ("https://example.com/track/12", "https://example.com/track/12"),
        ("spotify:track:", "spotify:track:"),
        ("", ""),
    ],
)
def test_every_way_to_write_a_track_is_one_id(written: str, cleaned: str) -> None:
    assert read_id(written) == (cleaned, "track")
    assert clean_id(cleaned) == cleaned


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("spotify:episode:512ojhOuo1ktJprKbVcKyQ", "episode"),
        ("https://open.spotify.com/show/512ojhOuo1ktJprKbVcKyQ", "episode"),
        ("spotify:local:Band:Album:Song:200", "local file"),
        ("spotify:artist:512ojhOuo1ktJprKbVcKyQ", "artist"),
        ("https://open.spotify.com/intl-fr/album/512ojhOuo1ktJprKbVcKyQ", "album"),
        ("spotify:user:spotify:playlist:37i9dQZF1DX1", "playlist"),
        ("https://open.spotify.com/user/spotify/playlist/37i9dQZF1DX3", "playlist"),
        ("https://music.youtube.com/playlist?list=PL1", "playlist"),
        ("https://music.apple.com/us/album/tides/182889200", "album"),
        ("https://www.deezer.com/en/artist/27", "artist"),
        (f"https://musicbrainz.org/artist/{MBID}", "artist"),
        ("https://spotify.link/AbC", "short link"),
    ],
)
def test_what_is_no_track_says_what_it_is(written: str, kind: str) -> None:
    assert read_id(written).kind == kind


def test_a_playlist_keeps_its_own_id() -> None:
    assert {
        clean_id(written)
        for written in (
            "spotify:user:spotify:playlist:37i9dQZF1DX3",
            "spotify:playlist:37i9dQZF1DX3",
            "https://open.spotify.com/user/spotify/playlist/37i9dQZF1DX3",
        )
    } == {"37i9dQZF1DX3"}


@given(st.text(max_size=60))
def test_any_text_has_an_id_and_cleaning_it_again_changes_nothing(text: str) -> None:
    cleaned = clean_id(text)
    assert clean_id(cleaned) == cleaned
    assert text.strip() == "" or cleaned


@given(
    st.sampled_from(["spotify:track:", "https://open.spotify.com/track/", "deezer:", "youtu.be/"]),
    st.text(max_size=30),
)
def test_damaged_links_are_read_too(start: str, rest: str) -> None:
    cleaned = clean_id(start + rest)
    assert clean_id(cleaned) == cleaned


def test_an_isrc_is_known_by_its_form() -> None:
    assert isrc_id(" gb-aye-06-01498 ") == "isrc:GBAYE0601498"
    assert isrc_id("GBAYE060149") is None
