"""Songs are linked in the service of the list, where one of their ids is known there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline.song_ids import SERVICES, clean_id, page_of, service_of
from tunegraph_pipeline_tests.recommend.conftest import random_content

SPOTIFY = ["4uLU6hMCjMI75M1A2tKUQ" + letter for letter in "ABCD"]
MBIDS = [f"{n}0000000-0000-4000-8000-000000000000" for n in range(4)]


@pytest.fixture
def recommender(tmp_path: Path) -> Recommender:
    """Twelve tracks: songs 0 to 3 by their MBIDs, of which 0 to 2 have an id of Spotify too (tracks 8 to 10),
    and four songs of other services and of none."""
    content = random_content(3, n_tracks=12, n_users=4)
    ids = [*MBIDS, "deezer:7", "name:a/b", "apple:5", "x", *SPOTIFY[:3], "tidal:9"]
    canonical = np.arange(12, dtype=np.int32)
    canonical[8:11] = [0, 1, 2]
    alias = canonical != np.arange(12)
    content = replace(
        content,
        track_ids=ids,
        canonical=canonical,
        recommendable=~alias,
        years=np.array([1997, *[0] * 11], dtype=np.int32),
        user_ids=["ann"],
        user_indptr=np.array([0, 2]),
        user_tracks=np.array([0, 1], dtype=np.int32),
        disliked_indptr=np.array([0, 0]),
        disliked_tracks=np.array([], dtype=np.int32),
    )
    write_bundle(tmp_path / "links", content)
    return Recommender(Bundle.open(tmp_path / "links"))


def links(recommender: Recommender, query: Query) -> dict[str, str]:
    (answer,) = recommender.answer([query])
    assert not isinstance(answer, InputError)
    return {item.song.track_id: item.song.link for item in answer.items}


def spotify(n: int) -> str:
    return f"https://open.spotify.com/track/{SPOTIFY[n]}"


def musicbrainz(n: int) -> str:
    return f"https://musicbrainz.org/recording/{MBIDS[n]}"


def test_the_service_of_the_list_is_linked_where_known_and_musicbrainz_otherwise(
    recommender: Recommender,
) -> None:
    found = links(recommender, Query([SPOTIFY[0]], k=12))
    assert found[MBIDS[1]] == spotify(1)
    assert found[MBIDS[3]] == musicbrainz(3), "it has no id of Spotify"
    assert found["deezer:7"] == "https://www.deezer.com/track/7", "it has no other page"
    assert found["name:a/b"] == found["x"] == ""
    found = links(recommender, Query([MBIDS[0]], k=12))
    assert found[MBIDS[1]] == musicbrainz(1)


def test_a_song_has_its_pages_in_all_services(recommender: Recommender) -> None:
    songs = {item.song.track_id: item.song for item in recommender.recommend([MBIDS[0]], k=12).items}
    assert songs[MBIDS[1]].links == {"musicbrainz": musicbrainz(1), "spotify": spotify(1)}
    assert songs["deezer:7"].links == {"deezer": "https://www.deezer.com/track/7"}
    assert songs["x"].links == {}


def test_a_link_counts_as_the_id_in_it_and_most_ids_decide(recommender: Recommender) -> None:
    given = [MBIDS[0], f"https://open.spotify.com/track/{SPOTIFY[1]}", f"spotify:track:{SPOTIFY[2]}"]
    assert links(recommender, Query([MBIDS[0], "deezer:7", "deezer:8"], k=12))[MBIDS[3]] == musicbrainz(3)
    assert links(recommender, Query(given[1:], k=12))[MBIDS[0]] == spotify(0)
    assert links(recommender, Query([*given, MBIDS[3], MBIDS[1]], k=12)) == {
        "deezer:7": "https://www.deezer.com/track/7",
        "name:a/b": "",
        "apple:5": "https://music.apple.com/song/5",
        "x": "",
        "tidal:9": "https://tidal.com/track/9",
    }


def test_a_stored_users_service_is_that_of_all_ids_of_their_songs(recommender: Recommender) -> None:
    assert links(recommender, Query(user_id="ann", k=12))[MBIDS[2]] == spotify(2)


def test_a_service_may_be_asked_for(recommender: Recommender) -> None:
    asked = Query([SPOTIFY[0]], k=12, links="musicbrainz")
    assert links(recommender, asked)[MBIDS[1]] == musicbrainz(1)
    with pytest.raises(InputError, match="links is 'napster'; choose one of spotify, "):
        recommender.recommend(["x"], links="napster")


def test_answers_say_the_year_and_how_many_songs_were_found(recommender: Recommender) -> None:
    answer = recommender.recommend([MBIDS[1], SPOTIFY[1], "deezer:7", "nobody knows"], k=12)
    assert (answer.found, answer.unknown) == (2, ["nobody knows"])
    assert {item.song.track_id: item.song.year for item in answer.items}[MBIDS[0]] == 1997
    song = recommender.track(SPOTIFY[2])
    assert song is not None
    assert (song.year, song.link) == (None, musicbrainz(2))


def test_many_queries_have_the_links_of_each_alone(recommender: Recommender) -> None:
    queries = [Query([SPOTIFY[0]], k=3), Query([MBIDS[0]], k=5), Query(user_id="ann", k=2), Query(k=4)]
    together = recommender.answer(queries)
    assert together == [recommender.answer([query])[0] for query in queries]


def test_every_service_has_a_page() -> None:
    ids = [SPOTIFY[0], "apple:1", "youtube:dQw4w9WgXcQ", "deezer:1", "tidal:1", MBIDS[0]]
    assert [service_of(one) for one in ids] == list(SERVICES)
    for one, service in zip(ids, SERVICES, strict=True):
        assert clean_id(page_of(one, service)) == one, "a link is read as the id it was made of"


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "name:a/b",
        "isrc:GBAYE0601498",
        "deezer:1/../2",
        "youtube:a&b=c",
        "apple:",
        SPOTIFY[0] + "x",
        "é" * 22,
    ],
)
def test_other_ids_are_of_no_service(odd: str) -> None:
    assert service_of(odd) is None
