"""Blends of several lists and comparisons of two, over HTTP."""

from math import log2
from typing import Any

import pytest

from tunegraph_pipeline.recommend.comparison import compare
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline.recommend.together import blend_queries
from tunegraph_pipeline_tests.serve.conftest import GENRES, RunningService, StartService, track_id
from tunegraph_pipeline_tests.serve.test_routes import problem

ANN = [track_id(track) for track in (0, 4, 8)]
BO = [track_id(track) for track in (1, 5, 9)]
CY = [track_id(track) for track in (2, 6)]


@pytest.fixture(scope="module")
def recommender(shared_service: RunningService) -> Recommender:
    return Recommender.open(shared_service.lake / "serving")


def lists(**of: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, "likes": likes} for name, likes in of.items()]


def test_a_blend_says_for_whom_each_song_is_and_who_is_worst_off(
    shared_service: RunningService, recommender: Recommender
) -> None:
    body = {
        "lists": [*lists(Ann=ANN, Bo=BO), {"name": "Cy", "likes": CY, "dislikes": [track_id(12)]}],
        "k": 12,
        "exclude": [track_id(16)],
        "max_per_artist": 2,
    }
    answer = shared_service.post("/blends", body).json()
    options: dict[str, Any] = {"exclude": [track_id(16)], "max_per_artist": 2}
    expected = blend_queries(
        recommender,
        [Query(ANN, **options), Query(BO, **options), Query(CY, dislikes=[track_id(12)], **options)],
        12,
    )
    assert [item["track_id"] for item in answer["items"]] == [one.song.track_id for one in expected.songs]
    assert [item["rank"] for item in answer["items"]] == list(range(1, 13))
    ids = {item["track_id"] for item in answer["items"]}
    assert not ids & {*ANN, *BO, *CY, track_id(12), track_id(16)}
    for item, one in zip(answer["items"], expected.songs, strict=True):
        ranks = dict(zip(("Ann", "Bo", "Cy"), one.ranks, strict=True))
        for name, rank in ranks.items():
            assert item["scores"][name] == (0 if rank is None else pytest.approx(1 / log2(1 + rank)))
        assert item["for"] == sorted(
            (name for name, rank in ranks.items() if rank is not None), key=lambda name: ranks[name] or 0
        )
    got = {name: sum(item["scores"][name] for item in answer["items"]) for name in ("Ann", "Bo", "Cy")}
    assert answer["worst_off"]["name"] == min(got, key=lambda name: got[name])
    most = sum(1 / log2(1 + rank) for rank in range(1, 13))
    assert answer["worst_off"]["score"] == pytest.approx(min(got.values()) / most)
    assert 0.2 < answer["worst_off"]["score"] <= 1


def test_a_blend_passes_filters_and_names_what_it_does_not_know(shared_service: RunningService) -> None:
    body = {"lists": lists(Ann=[*ANN, "nobody"], Bo=BO), "filters": {"genres": ["Jazz"]}, "k": 5}
    answer = shared_service.post("/blends", body).json()
    assert {genre for item in answer["items"] for genre in item["genres"]} == {"Jazz"}
    assert answer["unknown"] == {"Ann": ["nobody"], "Bo": []}
    twice = [{"name": name, "likes": ANN} for name in ("Ann (3)", "Ann", "Ann")]
    names = list(shared_service.post("/blends", {"lists": twice}).json()["unknown"])
    assert names == ["Ann (3)", "Ann", "Ann (3) (3)"]
    unknown = shared_service.post("/blends", {"lists": lists(Ann=["x"], Bo=["y"])})
    problem(unknown, 404, "unknown-songs")
    problem(shared_service.post("/blends", {"lists": lists(Ann=ANN)}), 422, "invalid-input")
    no_genre = {"lists": lists(Ann=ANN, Bo=BO), "filters": {"genres": ["polka"]}}
    problem(shared_service.post("/blends", no_genre), 404, "unknown-filter")


def test_a_blend_counts_for_the_rate_as_its_queries_do(running_service: StartService) -> None:
    service = running_service("--rate-limit", 5, "--limit", "refused_seconds=0")
    body = {"lists": lists(Ann=ANN, Bo=BO)}
    with service.client() as client:
        assert client.post("/blends", json=body).status_code == 200
        assert client.post("/blends", json=body | {"k": 100, "diversity": 0.5}).status_code == 200
        assert client.post("/blends", json=body).status_code == 429


def test_two_tastes_are_compared(shared_service: RunningService, recommender: Recommender) -> None:
    common = [track_id(3), track_id(7)]
    answer = shared_service.post(
        "/comparisons", {"lists": lists(Ann=[*ANN, *common, "nobody"], Bo=[*common, *BO]), "k": 2}
    ).json()
    expected = compare(recommender, [*ANN, *common], [*common, *BO], 2)
    assert answer["likeness"] == pytest.approx(expected.likeness)
    assert [song["track_id"] for song in answer["common"]] == common
    assert len(answer["bridges"]) <= 2
    for pair in answer["bridges"]:
        assert pair["a"]["track_id"] in ANN
        assert pair["b"]["track_id"] in BO
        assert 0 < pair["cosine"] <= 1
    assert answer["only"] == {"Ann": [GENRES[0]], "Bo": [GENRES[1]]}
    assert answer["unknown"] == {"Ann": ["nobody"], "Bo": []}
    problem(shared_service.post("/comparisons", {"lists": lists(A=ANN, B=["x"])}), 404, "unknown-songs")
    problem(shared_service.post("/comparisons", {"lists": lists(A=ANN, B=BO, C=CY)}), 422, "invalid-input")


def test_a_taste_is_like_itself_and_less_like_another(recommender: Recommender) -> None:
    same = compare(recommender, ANN, list(reversed(ANN)))
    assert same.likeness == pytest.approx(1, abs=1e-6)
    assert (same.bridges, same.only) == ([], ([], []))
    assert [song.track_id for song in same.common] == ANN
    scene = [track_id(track) for track in (12, 16, 20)]
    assert 1 > compare(recommender, ANN, scene).likeness > compare(recommender, ANN, BO).likeness >= 0
