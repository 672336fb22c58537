"""What can be asked, asked over HTTP: answers, and every way in which a request can be wrong."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunegraph_pipeline.ids import MOST_ID_BYTES
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.limits import MOST_BODY_BYTES, MOST_K, MOST_LISTED
from tunegraph_pipeline_tests.serve.conftest import (
    GENRES,
    N_TRACKS,
    N_USERS,
    RunningService,
    StartService,
    artist_name,
    track_id,
    track_name,
)

LIKES = [track_id(track) for track in (1, 5, 9)]


def problem(response: Any, status: int, name: str = "") -> dict[str, Any]:
    """The problem a response is, after what all problems have in common has been checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert content["status"] == status
    assert content["type"] == (f"urn:tunegraph:problem:{name}" if name else "about:blank")
    assert content["title"]
    assert content["request_id"] == response.headers["x-request-id"]
    assert content["detail"]
    assert "\n" not in content["detail"]
    assert "Traceback" not in response.text
    assert "/tunegraph_pipeline/" not in response.text
    return content


@pytest.fixture(scope="module")
def recommender(shared_service: RunningService) -> Recommender:
    return Recommender.open(shared_service.lake / "serving")


# --- recommendations ---


def test_a_list_of_likes_is_answered_as_the_recommender_answers_it(
    shared_service: RunningService, recommender: Recommender
) -> None:
    options: dict[str, Any] = {
        "k": 7,
        "dislikes": [track_id(13)],
        "exclude": [track_id(17)],
        "familiarity": 0.25,
        "diversity": 0.5,
        "max_per_artist": 2,
        "explicit": False,
    }
    response = shared_service.post("/recommendations", {"likes": [*LIKES, "nobody"], **options})
    assert response.status_code == 200
    answer = response.json()
    expected = recommender.recommend([*LIKES, "nobody"], **options)
    assert answer["unknown"] == ["nobody"]
    assert answer["degraded"] is None
    assert (answer["bundle_version"], answer["model_version"]) == ("v1", "m1")
    assert [item["rank"] for item in answer["items"]] == list(range(1, 8))
    for found, item in zip(answer["items"], expected.items, strict=True):
        assert found["reasons"] == [reason._asdict() for reason in item.reasons]
        for name in (
            "track_id",
            "name",
            "artists",
            "image_url",
            "preview_url",
            "explicit",
            "x",
            "y",
        ):
            assert found[name] == getattr(item.song, name)
        assert found["score"] == item.score
    assert not {item["track_id"] for item in answer["items"]} & {track_id(13), track_id(17), *LIKES}


def test_without_options_the_answer_is_that_of_the_defaults(
    shared_service: RunningService, recommender: Recommender
) -> None:
    response = shared_service.post("/recommendations", {"likes": LIKES})
    assert [item["track_id"] for item in response.json()["items"]] == [
        item.song.track_id for item in recommender.recommend(LIKES).items
    ]
    assert response.headers["X-Bundle-Version"] == recommender.bundle.version


@pytest.mark.parametrize("likes", [[], ["who", "knows"]])
def test_likes_nobody_knows_are_answered_by_what_is_popular_which_is_said(
    shared_service: RunningService, likes: list[str]
) -> None:
    answer = shared_service.post("/recommendations", {"likes": likes}).json()
    assert "most popular" in answer["degraded"]
    assert answer["unknown"] == likes
    assert len(answer["items"]) == 10


def test_a_stored_user_is_answered_with_the_same_options(
    shared_service: RunningService, recommender: Recommender
) -> None:
    response = shared_service.get(
        "/users/listener-3/recommendations",
        params={"k": 4, "familiarity": 0.9, "diversity": 0.2, "max_per_artist": 1, "explicit": "false"},
    )
    expected = recommender.recommend_user(
        "listener-3", 4, familiarity=0.9, diversity=0.2, max_per_artist=1, explicit=False
    )
    assert [item["track_id"] for item in response.json()["items"]] == [
        item.song.track_id for item in expected.items
    ]


def test_a_user_nobody_knows_is_not_found_and_not_repeated(shared_service: RunningService) -> None:
    response = shared_service.get("/users/some-secret-name/recommendations")
    problem(response, 404, "unknown-user")
    assert "some-secret-name" not in response.text


@pytest.mark.parametrize("user", ["a%2Fb", "%00", "%ff", "x" * 2_000])
def test_odd_names_of_users_are_merely_unknown(shared_service: RunningService, user: str) -> None:
    assert shared_service.get(f"/users/{user}/recommendations").status_code == 404


def test_a_list_comes_as_a_table_a_playlist_or_uris(shared_service: RunningService) -> None:
    def ask(form: str) -> Any:
        return shared_service.post(f"/recommendations?format={form}", {"likes": LIKES, "k": 5})

    ids = [item["track_id"] for item in ask("json").json()["items"]]
    table = ask("csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.headers["content-disposition"] == 'attachment; filename="recommendations.csv"'
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert [row["track_id"] for row in rows] == ids
    assert all(row["because"] for row in rows)
    playlist = ask("m3u")
    assert playlist.headers["content-type"] == "audio/x-mpegurl; charset=utf-8"
    assert playlist.text.splitlines()[0] == "#EXTM3U"
    assert len(playlist.text.splitlines()) == 11
    uris = ask("uris")
    assert uris.headers["content-type"] == "text/plain; charset=utf-8"
    assert uris.text.splitlines() == [f"spotify:track:{track}" for track in ids]
    user = shared_service.get("/users/listener-1/recommendations?format=uris&k=3")
    assert len(user.text.splitlines()) == 3


WRONG_BODIES = [
    ({"likes": "a"}, "body.likes"),
    ({"likes": [1]}, "body.likes.0"),
    ({"likes": [""]}, "body.likes.0"),
    ({"likes": ["x" * (MOST_ID_BYTES + 1)]}, "body.likes.0"),
    ({"likes": ["a"] * (MOST_LISTED + 1)}, "body.likes"),
    ({"dislikes": ["a"] * (MOST_LISTED + 1)}, "body.dislikes"),
    ({"exclude": ["a"] * (MOST_LISTED + 1)}, "body.exclude"),
    ({"k": 0}, "body.k"),
    ({"k": MOST_K + 1}, "body.k"),
    ({"k": "10"}, "body.k"),
    ({"k": True}, "body.k"),
    ({"k": None}, "body.k"),
    ({"familiarity": -0.1}, "body.familiarity"),
    ({"familiarity": 1.1}, "body.familiarity"),
    ({"diversity": 2}, "body.diversity"),
    ({"max_per_artist": 0}, "body.max_per_artist"),
    ({"explicit": "no"}, "body.explicit"),
    ({"like": ["a"]}, "body.like"),
    ([], "body"),
    ("likes", "body"),
]


@pytest.mark.parametrize(("body", "location"), WRONG_BODIES)
def test_what_is_wrong_with_a_body_is_named(shared_service: RunningService, body: Any, location: str) -> None:
    found = problem(shared_service.post("/recommendations", body), 422, "invalid-input")
    assert found["detail"].startswith(f"{location}: ")
    assert found["errors"][0]["location"] == location


def test_whole_numbers_may_be_written_with_a_point(shared_service: RunningService) -> None:
    answer = shared_service.post("/recommendations", {"likes": LIKES, "k": 3.0, "max_per_artist": 1.0})
    assert len(answer.json()["items"]) == 3
    problem(shared_service.post("/recommendations", {"k": 3.5}), 422, "invalid-input")


def test_limits_are_where_they_are_said_to_be(shared_service: RunningService) -> None:
    longest = ["\xe4" * (MOST_ID_BYTES // 2)] + ["a"] * (MOST_LISTED - 1)
    response = shared_service.post("/recommendations", {"likes": longest, "k": MOST_K})
    assert response.status_code == 200
    assert len(response.json()["items"]) == N_TRACKS


def test_the_limit_of_an_id_is_in_bytes_as_for_imports(shared_service: RunningService) -> None:
    long = "\xe4" * (MOST_ID_BYTES // 2) + "x"
    said = "of more than 1,024 bytes"
    assert (
        said
        in problem(shared_service.post("/recommendations", {"likes": [long]}), 422, "invalid-input")["detail"]
    )
    event = {"track_id": track_id(1), "action": "like"}
    for user, song in ((long, event), ("me", {**event, "track_id": long})):
        refused = shared_service.post("/feedback", {"user_id": user, "events": [song]})
        assert "at most 1,024 bytes" in problem(refused, 422, "invalid-input")["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"k": 1}x', b"\xff\xfe", b'{"likes": ["\\ud800"]}', b'{"familiarity": NaN}', b"[" * 5_000],
)
def test_what_is_not_json_is_a_bad_request(shared_service: RunningService, body: bytes) -> None:
    with shared_service.client() as client:
        response = client.post(
            "/recommendations", content=body, headers={"content-type": "application/json; charset=utf-8"}
        )
    assert response.status_code in {400, 422}
    problem(response, response.status_code, "not-json" if response.status_code == 400 else "invalid-input")
    if b"NaN" not in body:
        assert response.status_code == 400


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_of_another_type_is_not_read(shared_service: RunningService, kind: str) -> None:
    with shared_service.client() as client:
        response = client.post("/recommendations", content=b"{}", headers={"content-type": kind})
    problem(response, 415)


def test_a_body_that_is_too_large_is_refused_declared_or_not(shared_service: RunningService) -> None:
    body = b'{"likes":[' + b" " * MOST_BODY_BYTES + b"]}"
    with shared_service.client() as client:
        headers = {"content-type": "application/json"}
        problem(client.post("/recommendations", content=body, headers=headers), 413, "body-too-large")
        parts = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
        problem(client.post("/recommendations", content=parts, headers=headers), 413, "body-too-large")
        fits = body.replace(b" ", b"", 20)
        assert client.post("/recommendations", content=fits, headers=headers).status_code == 200
        assert client.post("/recommendations", content=iter([fits]), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/users/listener-1/recommendations?k=0", "query.k"),
        ("/users/listener-1/recommendations?k=ten", "query.k"),
        (f"/users/listener-1/recommendations?k={MOST_K + 1}", "query.k"),
        ("/users/listener-1/recommendations?familiarity=nan", "query.familiarity"),
        ("/users/listener-1/recommendations?diversity=inf", "query.diversity"),
        ("/users/listener-1/recommendations?format=xml", "query.format"),
        ("/users/listener-1/recommendations?kk=3", "query.kk"),
        (f"/tracks/{track_id(1)}/similar?k=-1", "query.k"),
        ("/tracks?ids=", "query.ids"),
        ("/tracks?ids=a,,b", "query.ids"),
        (f"/tracks?ids={'a,' * 200}a", "query.ids"),
        ("/tracks?query=", "query.query"),
        (f"/tracks?query={'x' * 201}", "query.query"),
        ("/tracks?query=a&limit=101", "query.limit"),
        ("/map?limit=0", "query.limit"),
        ("/map?limit=20001", "query.limit"),
        ("/map?at=1,,2", "query.at"),
        (f"/map?at={'1,' * 200}1", "query.at"),
        ("/map/columns?limit=100001", "query.limit"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(
    shared_service: RunningService, path: str, location: str
) -> None:
    found = problem(shared_service.get(path), 422, "invalid-input")
    assert found["errors"][0]["location"] == location


def test_a_wrong_format_of_a_posted_list_is_named(shared_service: RunningService) -> None:
    problem(shared_service.post("/recommendations?format=pdf", {}), 422, "invalid-input")


# --- tracks ---


def test_similar_songs_are_those_of_the_recommender(
    shared_service: RunningService, recommender: Recommender
) -> None:
    answer = shared_service.get(f"/tracks/{track_id(8)}/similar?k=5").json()
    expected = recommender.similar(track_id(8), 5)
    assert [(item["track_id"], item["cosine"]) for item in answer["items"]] == [
        (item.song.track_id, item.cosine) for item in expected
    ]
    assert answer["items"][0]["rank"] == 1
    assert answer["bundle_version"] == "v1"
    problem(shared_service.get("/tracks/nobody/similar"), 404, "unknown-track")


def test_songs_are_found_by_what_is_typed(shared_service: RunningService) -> None:
    answer = shared_service.get("/tracks", params={"query": "habour river song", "limit": 5}).json()
    assert answer["items"][0]["track_id"] == track_id(0)
    assert answer["items"][0]["name"] == track_name(0)
    assert answer["items"][0]["artists"] == artist_name(0)
    assert len(answer["items"]) <= 5
    assert shared_service.get("/tracks", params={"query": "qqqqzzzz"}).json()["items"] == []


def test_songs_are_looked_up_by_their_ids_in_their_order(shared_service: RunningService) -> None:
    ids = f"{track_id(4)},nobody,{track_id(2)},{track_id(4)}"
    answer = shared_service.get("/tracks", params={"ids": ids}).json()
    assert [item["track_id"] for item in answer["items"]] == [track_id(4), track_id(2)]
    assert answer["unknown"] == ["nobody"]
    assert answer["items"][0]["image_url"] == "https://img.example.org/4.jpg"
    assert (
        len(
            shared_service.get("/tracks", params={"ids": ",".join(map(track_id, range(200)))}).json()["items"]
        )
        == 200
    )
    both = shared_service.get(
        "/tracks", params={"ids": track_id(2), "query": track_name(2), "limit": 3}
    ).json()
    found = [item["track_id"] for item in both["items"]]
    assert found[0] == track_id(2)
    assert found.count(track_id(2)) == 1


def test_without_words_and_ids_the_most_liked_songs_are_shown(shared_service: RunningService) -> None:
    points = shared_service.get("/map?limit=7").json()["points"]
    items = shared_service.get("/tracks?limit=7").json()["items"]
    assert [item["track_id"] for item in items] == [point["track_id"] for point in points]


def test_the_map_has_the_most_liked_songs(shared_service: RunningService, recommender: Recommender) -> None:
    answer = shared_service.get("/map?limit=20")
    points = answer.json()["points"]
    assert [point["track_id"] for point in points] == [
        recommender.bundle.tracks[int(track)] for track in recommender.bundle.popular_order[:20]
    ]
    assert all(0 <= point["x"] <= 1 and 0 <= point["y"] <= 1 for point in points)
    likes = [point["popularity"] for point in points]
    assert likes == sorted(likes, reverse=True)
    again = shared_service.get("/map?limit=20", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert shared_service.get("/map?limit=21", headers={"if-none-match": answer.headers["etag"]}).json()[
        "points"
    ]


def test_songs_of_an_answer_have_genres_and_links(shared_service: RunningService) -> None:
    answers = (
        shared_service.post("/recommendations", {"likes": LIKES}),
        shared_service.get(f"/tracks/{track_id(6)}/similar"),
        shared_service.get("/tracks", params={"ids": ",".join(map(track_id, range(5, 8)))}),
    )
    for answer in answers:
        for item in answer.json()["items"]:
            number = int(item["track_id"].removeprefix("track"))
            assert item["genres"] == ([GENRES[number % 4]] if number % 5 else [])
            assert item["links"] == {"spotify": item["link"]}


def test_places_on_the_map_have_names(shared_service: RunningService) -> None:
    answer = shared_service.get("/map?limit=240").json()
    assert set(answer["genres"]) == set(GENRES)
    for point in answer["points"]:
        number = int(point["track_id"].removeprefix("track"))
        genre = None if point["genre"] < 0 else answer["genres"][point["genre"]]
        assert genre == (GENRES[number % 4] if number % 5 else None)
    assert answer["regions"]
    for region in answer["regions"]:
        assert region["name"] in GENRES
        assert 0 <= region["x"] <= 1
        assert 0 < region["songs"] <= 240


def test_the_map_of_many_songs_is_that_of_few_as_columns(shared_service: RunningService) -> None:
    answer = shared_service.get("/map/columns", headers={"accept-encoding": "gzip"})
    columns = answer.json()
    points = shared_service.get("/map?limit=20000").json()
    assert len(columns["x"]) == len(columns["y"]) == len(columns["genre"]) == len(points["points"]) == 240
    for x, y, genre, point in zip(
        columns["x"], columns["y"], columns["genre"], points["points"], strict=True
    ):
        assert (x / 65_535, y / 65_535) == pytest.approx((point["x"], point["y"]), abs=1e-4)
        assert genre == point["genre"]
    assert columns["genres"] == points["genres"]
    assert columns["regions"] == points["regions"]
    assert answer.headers["content-encoding"] == "gzip"
    plain = shared_service.get("/map/columns", headers={"accept-encoding": "identity"})
    assert plain.json() == columns
    assert "content-encoding" not in plain.headers
    assert len(plain.content) < len(shared_service.get("/map?limit=20000").content) / 5
    # What a browser has of the one form is not what it asks for in the other.
    for first, encoding, status in ((answer, "gzip", 304), (plain, "gzip", 200), (answer, "identity", 200)):
        headers = {"if-none-match": first.headers["etag"], "accept-encoding": encoding}
        assert shared_service.get("/map/columns", headers=headers).status_code == status


def test_songs_of_the_map_are_named_by_their_places(shared_service: RunningService) -> None:
    points = shared_service.get("/map?limit=240").json()["points"]
    answer = shared_service.get("/map?at=7,0,239,240,999999999").json()
    assert [point["track_id"] for point in answer["points"]] == [
        points[place]["track_id"] for place in (7, 0, 239)
    ]
    assert answer["points"][0]["name"] == points[7]["name"]


def test_what_can_be_filtered_by_is_told(shared_service: RunningService) -> None:
    assert shared_service.get("/version").json()["filters"] == ["genre", "year", "tempo", "energy"]


def test_a_score_is_explained_by_its_parts(shared_service: RunningService, recommender: Recommender) -> None:
    asked = {"likes": [*LIKES, "nobody"], "track_id": track_id(21)}
    answer = shared_service.post("/explanations", asked).json()
    assert answer["unknown"] == ["nobody"]
    assert answer["track"]["name"] == track_name(21)
    assert sum(part["contribution"] for part in answer["contributions"]) + answer["prior"] == pytest.approx(
        answer["score"], abs=1e-5
    )
    assert {part["track_id"] for part in answer["contributions"]} == set(LIKES)
    assert answer["score"] == pytest.approx(recommender.explain(LIKES, track_id(21)).score)
    problem(shared_service.post("/explanations", {**asked, "track_id": "nobody"}), 404, "unknown-track")
    problem(shared_service.post("/explanations", {"likes": LIKES}), 422, "invalid-input")


def test_a_link_to_a_song_is_answered_as_its_id(shared_service: RunningService) -> None:
    by_id, by_link = (
        shared_service.post("/recommendations", {"likes": [written], "k": 5}).json()
        for written in (track_id(1), f"https://open.spotify.com/track/{track_id(1)}?si=1")
    )
    assert by_link["items"] == by_id["items"]
    assert by_link["unknown"] == []


# --- feedback ---


def spooled(lake: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in lake.glob("feedback_spool/*/*.jsonl")
        for line in path.read_text().splitlines()
    ]


def test_feedback_is_kept_before_it_is_acknowledged(running_service: StartService) -> None:
    service = running_service()
    body = {
        "user_id": "a new listener",
        "events": [
            {"track_id": track_id(1), "action": "like"},
            {"track_id": f"https://open.spotify.com/intl-de/track/{track_id(2)}?si=1", "action": "dislike"},
            {"track_id": "made up", "action": "like"},
        ],
        "shown": [track_id(1), track_id(2), track_id(3)],
        "bundle_version": "v1",
    }
    response = service.post("/feedback", body)
    assert (response.status_code, response.json()) == (202, {"received": 2, "unknown": ["made up"]})
    service.process.kill()
    service.process.wait()
    kept = spooled(service.lake)
    assert [(line["user_id"], line["track_id"], line["action"]) for line in kept] == [
        ("a new listener", track_id(1), "like"),
        ("a new listener", track_id(2), "dislike"),
    ]
    assert [line["shown"] for line in kept] == [body["shown"], []]
    assert all(line["bundle_version"] == "v1" for line in kept)


WRONG_FEEDBACK = [
    {},
    {"user_id": "a", "events": []},
    {"user_id": "", "events": [{"track_id": "t", "action": "like"}]},
    {"user_id": "a", "events": [{"track_id": "t", "action": "love"}]},
    {"user_id": "a", "events": [{"track_id": "t"}]},
    {"user_id": "a", "events": [{"track_id": "t", "action": "like"}] * (MOST_K + 1)},
    {"user_id": "a", "events": [{"track_id": "t", "action": "like"}], "shown": ["t"] * (MOST_K + 1)},
    {"user_id": "a", "events": [{"track_id": "t", "action": "like", "at": "2020-01-01"}]},
]


@pytest.mark.parametrize("body", WRONG_FEEDBACK)
def test_wrong_feedback_is_refused_and_not_kept(shared_service: RunningService, body: dict[str, Any]) -> None:
    problem(shared_service.post("/feedback", body), 422, "invalid-input")
    assert spooled(shared_service.lake) == []


# --- state and pages ---


def test_the_service_says_what_it_is(shared_service: RunningService) -> None:
    assert shared_service.get("/health").json() == {"status": "alive"}
    assert shared_service.get("/ready").json() == {"status": "ready", "bundle_version": "v1", "problem": None}
    version = shared_service.get("/version").json()
    assert version["bundle_version"] == "v1"
    assert version["model_version"] == "m1"
    assert version["cut_off"] == "2026-06-01"
    assert (version["tracks"], version["users"]) == (N_TRACKS, N_USERS)
    assert version["recommendable"] == N_TRACKS
    assert re.fullmatch(r"\d+\.\d+.*", version["program"])
    assert version["licences"] == [
        {
            "data": "ListenBrainz",
            "terms": "CC0-1.0",
            "url": "https://creativecommons.org/publicdomain/zero/1.0/",
        },
        {"data": "imported files", "terms": "as the owner of each file says", "url": ""},
    ]
    assert (version["file_bytes"], version["playlists"]) == (2**26, [])


def test_songs_are_linked_in_the_service_that_is_asked_for(shared_service: RunningService) -> None:
    for body in ({"likes": [track_id(4)]}, {"links": "musicbrainz"}):
        answer = shared_service.post("/recommendations", body).json()
        assert answer["found"] == len(body.get("likes", []))
        for item in answer["items"]:
            # The songs have no id but Spotify's.
            assert item["link"] == f"https://open.spotify.com/track/{item['track_id']}"
    wrong = shared_service.post("/recommendations", {"links": "napster"})
    assert wrong.status_code == 422


def test_the_reference_loads_nothing_from_elsewhere(shared_service: RunningService) -> None:
    page = shared_service.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/reference.css", "docs/reference.js", "openapi.json"} <= set(links)
    assert not [link for link in links if "//" in link]
    for link in links:
        if link.startswith("docs/"):
            assert shared_service.get(f"/{link}").status_code == 200
    assert not re.search(r"https?://", shared_service.get("/docs/reference.js").text)
    again = shared_service.get("/docs", headers={"if-none-match": page.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/docs/..%2f..%2fsettings.py",
        "/docs/nothing.js",
        "/page/..%2fapp.py",
        "/page/",
        "/nothing",
        "/users/x",
    ],
)
def test_what_is_not_there_is_not_found(shared_service: RunningService, path: str) -> None:
    problem(shared_service.get(path), 404)


def test_the_openapi_describes_what_is_there(shared_service: RunningService) -> None:
    schema = shared_service.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/recommendations",
        "/users/{user_id}/recommendations",
        "/explanations",
        "/tracks",
        "/tracks/{track_id}/similar",
        "/tracks/{track_id}/path",
        "/genres",
        "/artists",
        "/artists/{artist_id}/songs",
        "/blends",
        "/comparisons",
        "/matches",
        "/map",
        "/map/columns",
        "/feedback",
        "/health",
        "/ready",
        "/version",
        "/metrics",
    }
    text = json.dumps(schema)
    assert "HTTPValidationError" not in text
    for reference in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert reference in schema["components"]["schemas"]


@pytest.mark.slow
def test_nothing_of_a_blocklist_is_shown(running_service: StartService, tmp_path: Path) -> None:
    asked = {"likes": LIKES, "k": MOST_K}
    unblocked = running_service().post("/recommendations", asked).json()["items"]
    track, artist = unblocked[0]["track_id"], unblocked[1]["artists"]
    path = tmp_path / "blocked.txt"
    path.write_text(f"track:{track}\nartist:{artist.upper()}\nartist:Nobody At All\n")
    service = running_service("--blocklist", path)

    def is_blocked(item: dict[str, Any]) -> bool:
        return bool(item["track_id"] == track or item["artists"] == artist)

    left = service.post("/recommendations", asked).json()["items"]
    assert [item["track_id"] for item in left] == [
        item["track_id"] for item in unblocked if not is_blocked(item)
    ]
    assert len(left) < len(unblocked) - 1
    similar = service.get(f"/tracks/{LIKES[0]}/similar?k={MOST_K}").json()["items"]
    points = service.get("/map?limit=1000").json()["points"]
    found = service.get("/tracks", params={"query": artist, "limit": 100}).json()["items"]
    lists = [{"name": "A", "likes": LIKES[:1]}, {"name": "B", "likes": LIKES[1:]}]
    blended = service.post("/blends", {"lists": lists, "k": 100}).json()["items"]
    assert not [item for item in [*similar, *points, *found, *blended] if is_blocked(item)]
    all_blocked = [
        track_id(at) for at in range(N_TRACKS) if track_id(at) == track or artist_name(at) == artist
    ]
    assert len(points) == N_TRACKS - len(all_blocked)
    assert any("Nobody At All" in line for line in service.said)


def test_numbers_travel_to_the_last_bit(shared_service: RunningService, recommender: Recommender) -> None:
    answer = shared_service.post("/recommendations", {"likes": LIKES, "k": 50}).json()
    expected = recommender.recommend(LIKES, 50)
    found = np.array([item["score"] for item in answer["items"]], dtype=np.float32)
    assert np.array_equal(found, np.array([item.score for item in expected.items], dtype=np.float32))
