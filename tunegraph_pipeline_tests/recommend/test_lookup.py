"""Songs and artists by what other programs call them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.lookup import Lookup
from tunegraph_pipeline_tests.recommend.conftest import OpenBundle, random_content

ISRC = "GBAYE0601498"
ARTIST = "8f6bd1e4-fbe1-4f50-aa9b-94c450ec0f11"


def open_with(open_bundle: OpenBundle, titles: list[str], by: list[list[tuple[str, str]]]) -> Lookup:
    """A bundle of these titles; an artist is an id and a name. The later a song, the more listeners it has,
    and songs 1 and 3 have one ISRC."""
    content = random_content(3, n_tracks=len(titles), n_users=0)
    return Lookup(
        open_bundle(
            replace(
                content,
                names=titles,
                artists=[", ".join(name for _, name in one) for one in by],
                by=Artists.of_lists(
                    [[key for key, _ in one] for one in by], [[name for _, name in one] for one in by]
                ),
                isrcs=["", ISRC, "", ISRC, *[""] * (len(titles) - 4)],
                popularity=np.arange(len(titles), dtype=np.int32),
                canonical=np.arange(len(titles), dtype=np.int32),
                recommendable=np.ones(len(titles), dtype=np.bool_),
            )
        )
    )


@pytest.fixture
def lookup(tmp_path: Path) -> Lookup:
    def opened(content: object) -> Bundle:
        write_bundle(tmp_path / "v1", content)  # type: ignore[arg-type]
        return Bundle.open(tmp_path / "v1")

    one, other, third = ("one", "Björk"), (ARTIST, "BJORK"), ("third", "Nobody Else")
    return open_with(
        opened,
        ["Home", "Home (Live)", "Harbour - Remastered 2017", "Home", "Away", "Home"],
        [[one], [one], [one], [other], [other, third], [third]],
    )


def test_songs_are_found_by_isrc_and_of_several_the_most_liked(lookup: Lookup) -> None:
    ids = lookup.bundle.tracks
    for written in (ISRC, f"isrc:{ISRC}", "gb-aye-06-01498"):
        assert lookup.song(written) == ids[3]
    assert lookup.song(ids[2]) == ids[2]
    for unknown in ("isrc:GBAYE0601499", "isrc:", "", "name:", "name:/", "nobody"):
        assert lookup.song(unknown) is None


def test_artists_are_found_by_id_link_and_name_the_most_liked_first(lookup: Lookup) -> None:
    names = lookup.bundle.artist_ids

    def found(given: str) -> str | None:
        place = lookup.artist(given)
        return None if place is None else names[place]

    assert found("one") == "one"
    assert found(ARTIST) == found(f"https://musicbrainz.org/artist/{ARTIST.upper()}") == ARTIST
    assert found("björk") == found("Bjork") == ARTIST
    assert found("") is found("...") is found("Björk Quartet") is None


def test_the_songs_of_an_artist_are_the_most_liked_first(lookup: Lookup) -> None:
    place = lookup.artist(ARTIST)
    assert place is not None
    assert lookup.songs_of(place).tolist() == [4, 3]
    assert lookup.first_artist(4) == place


def test_songs_are_found_by_artist_and_title(lookup: Lookup) -> None:
    ids = lookup.bundle.tracks
    assert lookup.song_named("Björk", "HOME") == ids[3]
    assert lookup.song("name:nobody else/home") == ids[5]
    assert lookup.song_named("one", "harbour") == ids[2]  # by the one without remarks
    assert lookup.song_named("one", "Home (Live)") == ids[1]
    for artist, title in (("Björk", ""), ("", "Home"), ("Björk", "Harbour"), ("x", "y")):
        assert lookup.song_named(artist, title) is None
