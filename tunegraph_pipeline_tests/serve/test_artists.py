"""Artists over HTTP: found, liked, and never heard again."""

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tunegraph_pipeline.recommend.recommender import SONGS_OF_AN_ARTIST, Recommender
from tunegraph_pipeline_tests.serve.conftest import (
    N_TRACKS,
    RunningService,
    StartService,
    artist_name,
    track_id,
)
from tunegraph_pipeline_tests.serve.test_routes import LIKES, problem

NAME = artist_name(3)
OTHER = artist_name(1)


@pytest.fixture(scope="module")
def recommender(shared_service: RunningService) -> Recommender:
    return Recommender.open(shared_service.lake / "serving")


def songs_of(name: str) -> set[str]:
    return {track_id(track) for track in range(N_TRACKS) if artist_name(track) == name}


def likes_of(recommender: Recommender, name: str) -> int:
    numbers = [track for track in range(N_TRACKS) if artist_name(track) == name]
    return int(recommender.bundle.popularity[numbers].sum())


def test_artists_are_found_by_the_beginning_of_a_word_and_despite_errors(
    shared_service: RunningService, recommender: Recommender
) -> None:
    def found(**parameters: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = shared_service.get("/artists", params=parameters).json()["items"]
        return items

    (exact, *_) = found(query=NAME.lower())
    assert exact == {
        "artist_id": NAME,
        "name": NAME,
        "songs": len(songs_of(NAME)),
        "popularity": likes_of(recommender, NAME),
    }
    named = found(query="engi", limit=100)
    assert {one["name"] for one in named} == {
        artist_name(track) for track in range(N_TRACKS) if "Engines" in artist_name(track)
    }
    assert [one["popularity"] for one in named] == sorted((one["popularity"] for one in named), reverse=True)
    assert NAME in [one["name"] for one in found(query=NAME.replace("n", "m", 1))]
    assert found(query="qqqqzzzz") == []
    most = found(limit=5)
    assert [one["popularity"] for one in most] == sorted(
        (likes_of(recommender, name) for name in {artist_name(track) for track in range(N_TRACKS)}),
        reverse=True,
    )[:5]
    looked_up = shared_service.get("/artists", params={"ids": f"{NAME},nobody,{OTHER}"}).json()
    assert [one["name"] for one in looked_up["items"]] == [NAME, OTHER]
    assert looked_up["unknown"] == ["nobody"]


def test_an_artist_has_songs_the_most_liked_first(shared_service: RunningService) -> None:
    answer = shared_service.get(f"/artists/{quote(NAME, safe='')}/songs?k=500").json()
    assert answer["artist"]["name"] == NAME
    assert {item["track_id"] for item in answer["items"]} == songs_of(NAME)
    likes = [item["popularity"] for item in answer["items"]]
    assert likes == sorted(likes, reverse=True)
    assert len(shared_service.get(f"/artists/{quote(NAME, safe='')}/songs?k=2").json()["items"]) == 2
    problem(shared_service.get("/artists/nobody/songs"), 404, "unknown-artist")


def test_a_liked_artist_stands_for_their_songs(
    shared_service: RunningService, recommender: Recommender
) -> None:
    most_liked = recommender.lookup.songs_of(recommender.lookup.artist(NAME) or 0)[:SONGS_OF_AN_ARTIST]
    likes = [recommender.bundle.tracks[track] for track in most_liked.tolist()]
    body = {"artists": [NAME, "nobody"], "k": 8}
    answer = shared_service.post("/recommendations", body).json()
    same = shared_service.post("/recommendations", {"likes": likes, "k": 8}).json()
    assert answer["items"] == same["items"]
    assert (answer["unknown"], answer["degraded"], answer["found"]) == (["nobody"], None, 0)


def test_a_song_of_an_artist_who_is_not_wanted_is_never_recommended(shared_service: RunningService) -> None:
    unwanted = [artist_name(track) for track in (1, 5, 21)]
    answer = shared_service.post("/recommendations", {"likes": LIKES, "not_artists": unwanted, "k": 50})
    assert len(answer.json()["items"]) == 50
    assert not {item["artists"] for item in answer.json()["items"]} & set(unwanted)


def test_blocked_songs_are_no_artists_songs(running_service: StartService, tmp_path: Path) -> None:
    blocklist = tmp_path / "blocked.txt"
    kept, *blocked = sorted(songs_of(NAME))
    blocklist.write_text("\n".join([f"artist:{OTHER}", *(f"track:{track}" for track in blocked)]))
    service = running_service("--blocklist", blocklist)
    items = service.get("/artists", params={"query": "the", "limit": 100}).json()["items"]
    assert OTHER not in [one["name"] for one in items]
    assert {one["songs"] for one in items if one["name"] == NAME} == {1}
    songs = service.get(f"/artists/{quote(NAME, safe='')}/songs").json()["items"]
    assert [item["track_id"] for item in songs] == [kept]


def test_surprise_draws_among_the_best_and_the_same_for_a_seed(
    shared_service: RunningService, recommender: Recommender
) -> None:
    def drawn(surprise: float, seed: int, **more: Any) -> list[str]:
        body = {"likes": LIKES, "surprise": surprise, "seed": seed, **more}
        answer = shared_service.post("/recommendations", body).json()
        scores = [item["score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True)
        return [item["track_id"] for item in answer["items"]]

    ranking = [item.song.track_id for item in recommender.recommend(LIKES, k=100).items]
    assert drawn(0, 1) == drawn(0, 2) == ranking[:10]
    assert drawn(0.5, 1) == drawn(0.5, 1) != drawn(0.5, 2)
    assert set(drawn(1, 3)) <= set(ranking)
    assert drawn(0.5, 2**53 - 1) != ranking[:10]
    ranks = [
        np.mean([ranking.index(track) for seed in range(20) for track in drawn(surprise, seed)])
        for surprise in (0, 0.2, 1)
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[1] < ranks[2]
    limited = shared_service.post(
        "/recommendations", {"likes": LIKES, "surprise": 1, "max_per_artist": 1, "diversity": 0.3}
    ).json()["items"]
    assert max(Counter(item["artists"] for item in limited).values()) == 1
    assert len(drawn(0.7, 1, likes=[])) == 10
