"""Filters asked for over HTTP: in a body and in a query string, and every way in which they can be wrong."""

from typing import Any, get_args

import pytest

from tunegraph_pipeline.lake.audio_features import AUDIO_FEATURES
from tunegraph_pipeline.recommend.filters import MOODS, Filters
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve import schemas
from tunegraph_pipeline_tests.recommend.conftest import undescribed
from tunegraph_pipeline_tests.serve.conftest import (
    GENRES,
    RunningService,
    StartService,
    publish_version,
    small_content,
    track_id,
)
from tunegraph_pipeline_tests.serve.test_routes import LIKES, problem

ASKED = Filters(
    ["rock", "hip hop"],
    ["jazz"],
    (1985, 2015),
    {"tempo": (80, 150.5), "energy": (0.2, None)},
    ["calm"],
    "allow",
)
BODY = {
    "genres": ["rock", "hip hop"],
    "not_genres": ["jazz"],
    "years": [1985, 2015],
    "features": {"tempo": [80, 150.5], "energy": [0.2, None]},
    "moods": ["calm"],
    "unknown": "allow",
}
QUERY = {
    "genre": "rock,hip hop",
    "not_genre": "jazz",
    "year": "1985-2015",
    "tempo": "80..150.5",
    "energy": "0.2..",
    "mood": "calm",
    "unknown": "allow",
}


@pytest.fixture(scope="module")
def recommender(shared_service: RunningService) -> Recommender:
    return Recommender.open(shared_service.lake / "serving")


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["track_id"] for item in answer.json()["items"]]


def test_a_filtered_list_is_what_the_recommender_gives_and_the_answer_says_how_many_pass(
    shared_service: RunningService, recommender: Recommender
) -> None:
    response = shared_service.post("/recommendations", {"likes": LIKES, "k": 30, "filters": BODY})
    expected = recommender.recommend(LIKES, 30, filters=ASKED)
    assert ids(response) == [item.song.track_id for item in expected.items]
    assert expected.passing == response.json()["passing"]
    assert expected.passing is not None
    assert 0 < len(expected.items) < expected.passing < 240
    plain = shared_service.post("/recommendations", {"likes": LIKES, "filters": {}})
    assert plain.json() == shared_service.post("/recommendations", {"likes": LIKES}).json()
    assert plain.json()["passing"] is None


def test_a_stored_user_and_similar_songs_are_filtered_by_the_same_texts(
    shared_service: RunningService, recommender: Recommender
) -> None:
    response = shared_service.get("/users/listener-3/recommendations", params={"k": 25, **QUERY})
    expected = recommender.recommend_user("listener-3", 25, filters=ASKED)
    assert ids(response) == [item.song.track_id for item in expected.items]
    assert response.json()["passing"] == expected.passing
    response = shared_service.get(f"/tracks/{track_id(7)}/similar", params={"k": 25, **QUERY})
    assert ids(response) == [
        item.song.track_id for item in recommender.similar(track_id(7), 25, filters=ASKED)
    ]
    assert response.json()["passing"] == expected.passing
    assert shared_service.get(f"/tracks/{track_id(7)}/similar").json()["passing"] is None


def test_where_nothing_passes_the_answer_says_so(shared_service: RunningService) -> None:
    answer = shared_service.post(
        "/recommendations", {"likes": LIKES, "filters": {"years": [2100, None]}}
    ).json()
    assert (answer["items"], answer["passing"]) == ([], 0)
    assert answer["degraded"] == "no song passes the filters; ask for less"


def test_the_genres_are_listed_with_their_songs(shared_service: RunningService) -> None:
    answer = shared_service.get("/genres").json()
    assert answer["bundle_version"] == "v1"
    assert {item["name"]: item["songs"] for item in answer["items"]} == dict.fromkeys(GENRES, 48)


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ({"genre": ["rock"]}, "body.filters.genre"),
        ({"genres": "rock"}, "body.filters.genres"),
        ({"genres": [""]}, "body.filters.genres.0"),
        ({"genres": ["x" * 101]}, "body.filters.genres.0"),
        ({"genres": ["rock"] * 51}, "body.filters.genres"),
        ({"years": [1990]}, "body.filters.years"),
        ({"years": ["1990", None]}, "body.filters.years.0"),
        ({"features": {"bpm": [1, 2]}}, "body.filters.features.bpm"),
        ({"features": {"tempo": [1, 1e9]}}, "body.filters.features.tempo.1"),
        ({"moods": ["angry"]}, "body.filters.moods.0"),
        ({"unknown": "maybe"}, "body.filters.unknown"),
    ],
)
def test_a_wrong_filter_is_named(shared_service: RunningService, filters: Any, where: str) -> None:
    response = shared_service.post("/recommendations", {"likes": LIKES, "filters": filters})
    assert problem(response, 422, "invalid-input")["detail"].startswith(where)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"tempo": "90-"}, "query.tempo: write a range as 90-120, 90.. or ..120, or one number"),
        ({"year": "x"}, "query.year: write a range as 90-120, 90.. or ..120, or one number"),
        ({"mood": "calm,angry"}, f"query.mood: has to be of {', '.join(MOODS)}, separated by commas"),
        (
            {"genre": "a,,b"},
            "query.genre: has to be at most 50 names of 1 to 100 letters, separated by commas",
        ),
        ({"unknown": "maybe"}, "query.unknown: has to be 'exclude' or 'allow'"),
        ({"genres": "rock"}, "query.genres: is not known here"),
    ],
)
@pytest.mark.parametrize("path", ["/users/listener-1/recommendations", f"/tracks/{track_id(7)}/similar"])
def test_a_wrong_filter_in_a_query_string_is_explained(
    shared_service: RunningService, path: str, query: dict[str, str], detail: str
) -> None:
    response = shared_service.get(path, params=query)
    assert problem(response, 422, "invalid-input")["detail"] == detail


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"genre": "rok"}, "bundle v1 has no genre 'rok'; near it: Rock"),
        ({"valence": "0.5.."}, "bundle v1 knows the valence of no song; import songs with it, and refresh"),
    ],
)
@pytest.mark.parametrize("path", ["/users/listener-1/recommendations", f"/tracks/{track_id(7)}/similar"])
def test_what_the_bundle_does_not_know_is_not_found(
    shared_service: RunningService, path: str, query: dict[str, str], detail: str
) -> None:
    response = shared_service.get(path, params=query)
    assert problem(response, 404, "unknown-filter")["detail"] == detail


def test_a_bundle_without_the_data_is_served_and_says_what_it_lacks(running_service: StartService) -> None:
    service = running_service()
    publish_version(service.lake, undescribed(small_content("v2")))
    service.wait_for(lambda: service.get("/version").json()["bundle_version"] == "v2")
    assert service.get("/genres").json() == {"bundle_version": "v2", "items": []}
    assert len(ids(service.post("/recommendations", {"likes": LIKES}))) == 10
    response = service.post("/recommendations", {"likes": LIKES, "filters": {"genres": ["rock"]}})
    assert problem(response, 404, "unknown-filter")["detail"] == (
        "bundle v2 knows the genre of no song; import songs with it, and refresh"
    )


def test_the_description_names_every_feature_and_mood() -> None:
    assert get_args(schemas.Feature) == AUDIO_FEATURES
    assert get_args(schemas.Mood) == tuple(MOODS)
    assert set(AUDIO_FEATURES) < set(schemas.UserParameters.model_fields)
