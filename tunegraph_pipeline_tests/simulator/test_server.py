"""The simulated world over real HTTP: shapes, limits, tokens, faults."""

import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import polars as pl
import pytest
import requests
from pydantic import ValidationError

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.simulator.server import (
    PERSONAL_MARK,
    Faults,
    Mode,
    SimulatorServer,
    main,
)
from tunegraph_pipeline.simulator.world import World, WorldConfig

DAY = date(2026, 12, 31)
UNKNOWN = "0" * 22
Serve = Callable[..., SimulatorServer]


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig(n_users=150, n_tracks=400, likes_per_user=30, twins=0.2))


@pytest.fixture(scope="module")
def crawl(world: World) -> RawBatch:
    return world.crawl(DAY)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[SimulatorServer]:
    with SimulatorServer(world, DAY) as server:
        yield server


@pytest.fixture
def serve(world: World) -> Iterator[Serve]:
    """Further servers, closed when the test is done."""
    running = []

    def start(**options: Any) -> SimulatorServer:
        server = SimulatorServer(world, DAY, **options)
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.close()


class Client:
    """An app of its own: a session with a token."""

    def __init__(self, server: SimulatorServer, refresh_token: str | None = None) -> None:
        self.server = server
        self.session = requests.Session()
        form = {"grant_type": "client_credentials"}
        if refresh_token is not None:
            form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        answer = ask_token(server, form)
        assert answer.status_code == 200, answer.text
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **query: object) -> requests.Response:
        url = path if path.startswith("http") else self.server.url + path
        return self.session.get(url, params={key: str(value) for key, value in query.items()}, timeout=30)

    def json(self, path: str, **query: object) -> Any:
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pages(self, path: str, **query: object) -> list[Any]:
        page = self.json(path, **query)
        items, total = list(page["items"]), page["total"]
        while page["next"]:
            assert page["next"].startswith(self.server.url + "/")
            page = self.json(page["next"])
            items += page["items"]
        assert len(items) == total
        return items


def ask_token(server: SimulatorServer, form: dict[str, str], client: str = "simulator:simulator") -> Any:
    header = {"Authorization": "Basic " + base64.b64encode(client.encode()).decode()}
    return requests.post(f"{server.url}/api/token", data=form, headers=header, timeout=30)


def of_state(crawl: RawBatch, state: str) -> list[str]:
    return crawl.users.filter(pl.col("state") == state)["user_id"].to_list()


def liked(crawl: RawBatch, user_id: str) -> set[tuple[str, datetime]]:
    mine = crawl.likes.filter(pl.col("user_id") == user_id).select("track_id", "liked_at")
    return {(track_id, at.replace(microsecond=0)) for track_id, at in mine.rows()}


def listed_likes(items: list[Any], key: str = "track") -> set[tuple[str, datetime]]:
    read = [(item[key]["id"], datetime.fromisoformat(item["added_at"])) for item in items]
    assert len(set(read)) == len(read)
    return set(read)


@pytest.mark.slow
def test_following_playlist_owners_finds_the_users_and_likes_of_a_crawl(
    server: SimulatorServer, world: World, crawl: RawBatch
) -> None:
    client = Client(server)
    states: dict[str, str] = {}
    to_visit = world.start_users()
    while to_visit:
        user_id = to_visit.pop(0)
        if user_id in states:
            continue
        page = client.get(f"/v1/users/{quote(user_id)}/playlists", limit=50)
        states[user_id] = {200: "listed", 403: "private", 404: "gone"}[page.status_code]
        if page.status_code != 200:
            assert page.json()["error"]["status"] == page.status_code
            continue
        playlists = client.pages(f"/v1/users/{quote(user_id)}/playlists", limit=3)
        to_visit += [playlist["owner"]["id"] for playlist in playlists]
        items = []
        for playlist in playlists:
            if playlist["owner"]["id"] == user_id:
                found = client.pages(f"/v1/playlists/{playlist['id']}/tracks", limit=7)
                assert len(found) == playlist["tracks"]["total"]
                items += found
        assert listed_likes(items) == liked(crawl, user_id)
    assert states == dict(crawl.users.select("user_id", "state").rows())
    assert set(states.values()) == {"listed", "private", "gone"}


def test_the_playlists_of_closed_pages_are_gone_and_unknown_things_are_404(
    server: SimulatorServer, world: World, crawl: RawBatch
) -> None:
    client = Client(server)
    closed = {*of_state(crawl, "private"), *of_state(crawl, "gone")}
    shown = [
        playlist
        for user_id in of_state(crawl, "listed")
        for playlist in world.playlists(user_id, DAY, closed=True)
        if playlist.owner_id in closed
    ]
    assert client.get(f"/v1/playlists/{shown[0].playlist_id}/tracks").status_code == 404
    for path in ("users/nobody/playlists", "users/nobody", f"playlists/{UNKNOWN}", f"tracks/{UNKNOWN}"):
        answer = client.get(f"/v1/{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["status"] == 404
    assert client.get("/v1/nothing").status_code == 404
    assert client.get("/nothing/at/all").status_code == 404


def test_a_server_started_anew_knows_playlists_that_another_listed(serve: Serve, crawl: RawBatch) -> None:
    user_id = of_state(crawl, "listed")[0]
    listed = Client(serve()).json(f"/v1/users/{user_id}/playlists")["items"]
    fresh = SimulatorServer(World(WorldConfig(n_users=150, n_tracks=400, likes_per_user=30, twins=0.2)), DAY)
    with fresh:
        playlist = Client(fresh).json(f"/v1/playlists/{listed[0]['id']}")
        assert playlist["name"] == listed[0]["name"]
        assert playlist["tracks"]["total"] == listed[0]["tracks"]["total"] == len(playlist["tracks"]["items"])
        assert Client(fresh).get(f"/v1/playlists/{UNKNOWN}/tracks").status_code == 404


def test_tracks_are_described_as_in_a_crawl(server: SimulatorServer, crawl: RawBatch) -> None:
    client = Client(server)
    rows = crawl.tracks.head(49).rows(named=True)
    said = client.json("/v1/tracks", ids=",".join([*(row["track_id"] for row in rows), UNKNOWN]))["tracks"]
    assert said.pop() is None
    for row, track in zip(rows, said, strict=True):
        assert track["id"] == row["track_id"]
        assert track["name"] == row["name"]
        assert [artist["name"] for artist in track["artists"]] == row["artists"]
        assert [artist["id"] for artist in track["artists"]] == row["artist_ids"]
        assert track["album"]["id"] == row["album_id"]
        assert track["external_ids"] == {"isrc": row["isrc"]}
        assert (track["duration_ms"], track["explicit"]) == (row["duration_ms"], row["explicit"])
        assert (track["genre"], track["preview_url"]) == (row["genre"], None)
        assert track["type"] == "track"
        assert not track["is_local"]
        assert date.fromisoformat(track["album"]["release_date"]) <= DAY
    assert client.json(f"/v1/tracks/{said[0]['id']}") == said[0]


def test_features_are_those_of_a_crawl_and_null_where_it_has_none(
    server: SimulatorServer, crawl: RawBatch
) -> None:
    client = Client(server)
    known = {row["track_id"]: row for row in crawl.features.rows(named=True)}
    ids = crawl.tracks["track_id"].to_list()
    said = []
    for start in range(0, len(ids), 100):
        said += client.json("/v1/audio-features", ids=",".join(ids[start : start + 100]))["audio_features"]
    assert {track_id for track_id, one in zip(ids, said, strict=True) if one is not None} == set(known)
    for one in filter(None, said):
        row = known[one["id"]]
        for name in AUDIO_FEATURES:
            if row[name] is None:
                assert one[name] == (-1 if name == "key" else None)
            else:
                assert np.float32(one[name]) == row[name]
    assert any(one["key"] == -1 for one in filter(None, said))


def test_too_much_at_once_is_a_bad_request(server: SimulatorServer, world: World) -> None:
    client = Client(server)
    user_id = world.start_users()[0]
    playlist_id = world.playlists(user_id, DAY)[0].playlist_id
    ids = world.recording_ids()
    for path, query in (
        ("/v1/tracks", {"ids": ",".join(ids[:51])}),
        ("/v1/tracks", {}),
        ("/v1/audio-features", {"ids": ",".join(ids[:101])}),
        (f"/v1/users/{user_id}/playlists", {"limit": 51}),
        (f"/v1/users/{user_id}/playlists", {"limit": 0}),
        (f"/v1/users/{user_id}/playlists", {"offset": -1}),
        (f"/v1/playlists/{playlist_id}/tracks", {"limit": 101}),
        (f"/v1/playlists/{playlist_id}/tracks", {"limit": "many"}),
    ):
        answer = client.get(path, **query)
        assert answer.status_code == 400, path
        assert answer.json()["error"]["status"] == 400


def test_an_app_without_features_is_told_so(serve: Serve, world: World) -> None:
    answer = Client(serve(audio_features=False)).get("/v1/audio-features", ids=world.recording_ids()[0])
    assert answer.status_code == 403


def test_a_person_who_agreed_sees_what_they_saved_newest_first(serve: Serve, crawl: RawBatch) -> None:
    one, other = of_state(crawl, "listed")[:2]
    server = serve(refresh_tokens={"other's": other})
    for client, user_id in ((Client(server, server.refresh_token), one), (Client(server, "other's"), other)):
        assert client.json("/v1/me")["id"] == user_id
        saved = client.pages("/v1/me/tracks", limit=11)
        assert listed_likes(saved) == liked(crawl, user_id)
        assert [item["added_at"] for item in saved] == sorted(
            (item["added_at"] for item in saved), reverse=True
        )
        assert client.pages("/v1/me/playlists", limit=50) == client.pages(
            f"/v1/users/{user_id}/playlists", limit=50
        )
    assert Client(server).get("/v1/me/tracks").status_code == 401


def test_personal_details_are_sent_and_marked(server: SimulatorServer, world: World) -> None:
    me = Client(server, server.refresh_token).json("/v1/me")
    for name in ("email", "country", "product", "display_name"):
        assert PERSONAL_MARK in me[name]
    assert PERSONAL_MARK in me["images"][0]["url"]
    page = Client(server).json(f"/v1/users/{world.start_users()[0]}/playlists")
    assert PERSONAL_MARK in page["items"][0]["owner"]["display_name"]


def test_development_mode_shows_an_app_its_own_users_alone(serve: Serve, crawl: RawBatch) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    client = Client(server, server.refresh_token)
    me, track_id = client.json("/v1/me")["id"], crawl.tracks["track_id"][0]
    for path in (f"users/{me}/playlists", f"tracks?ids={track_id}", f"audio-features?ids={track_id}"):
        assert client.get(f"/v1/{path}").status_code == 403
    assert "preview_url" not in client.json(f"/v1/tracks/{track_id}")
    playlists = client.pages("/v1/me/playlists", limit=50)
    own = [playlist for playlist in playlists if playlist["owner"]["id"] == me]
    followed = [playlist for playlist in playlists if playlist["owner"]["id"] != me]
    items = [item for one in own for item in client.pages(f"/v1/playlists/{one['id']}/items", limit=9)]
    assert listed_likes(items, "item") == liked(crawl, me)
    assert not any("track" in item for item in items)
    assert client.get(f"/v1/playlists/{own[0]['id']}/tracks").status_code == 404
    assert client.get(f"/v1/playlists/{followed[0]['id']}/items").status_code in {403, 404}
    assert client.json(f"/v1/playlists/{own[0]['id']}")["items"]["total"] == own[0]["items"]["total"]
    others = [one for one in followed if client.get(f"/v1/playlists/{one['id']}").status_code == 200]
    assert "items" not in client.json(f"/v1/playlists/{others[0]['id']}")
    assert Client(server).get(f"/v1/playlists/{own[0]['id']}/items").status_code == 403


def test_the_app_proves_itself_and_a_dead_refresh_token_is_no_use(serve: Serve) -> None:
    server = serve(client_id="app", client_secret="secret")
    credentials = {"grant_type": "client_credentials"}
    for client in ("app:wrong", "other:secret", ":"):
        answer = ask_token(server, credentials, client)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_client"
    assert ask_token(server, credentials, "app:secret").status_code == 200
    in_form = {**credentials, "client_id": "app", "client_secret": "secret"}
    assert requests.post(f"{server.url}/api/token", data=in_form, timeout=30).status_code == 200
    refresh = {"grant_type": "refresh_token", "refresh_token": server.refresh_token}
    assert ask_token(server, refresh, "app:secret").status_code == 200
    server.tokens.revoke(server.refresh_token)
    answer = ask_token(server, refresh, "app:secret")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert ask_token(server, {"grant_type": "none"}, "app:secret").json()["error"] == "unsupported_grant_type"
    for header in ({}, {"Authorization": "Bearer BQnonsense"}):
        answer = requests.get(f"{server.url}/v1/me", headers=header, timeout=30)
        assert answer.status_code == 401


def test_agreeing_in_the_browser_leads_to_a_refresh_token(server: SimulatorServer) -> None:
    query = {"client_id": "simulator", "redirect_uri": "http://127.0.0.1:9/done", "state": "s"}
    answer = requests.get(f"{server.url}/authorize", params=query, allow_redirects=False, timeout=30)
    back = urlsplit(answer.headers["Location"])
    assert (answer.status_code, back.netloc, back.path) == (302, "127.0.0.1:9", "/done")
    given = parse_qs(back.query)
    assert given["state"] == ["s"]
    token = ask_token(server, {"grant_type": "authorization_code", "code": given["code"][0]}).json()
    assert token["refresh_token"] == server.refresh_token
    elsewhere = requests.get(
        f"{server.url}/authorize", params={**query, "redirect_uri": "https://example.com"}, timeout=30
    )
    assert elsewhere.status_code == 400


def test_tokens_die_and_the_next_one_works_until_it_dies(serve: Serve, world: World) -> None:
    server = serve(faults=Faults(token_seconds=1e-6))
    client = Client(server)
    answer = client.get("/v1/tracks", ids=world.recording_ids()[0])
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The access token expired"
    form = {"grant_type": "client_credentials"}
    assert ask_token(server, form).json()["expires_in"] == 3600, "a short life is not announced"


def test_the_rate_is_kept_by_refusing_what_is_above_it(serve: Serve, world: World) -> None:
    server = serve(faults=Faults(requests_per_second=0.05, window_seconds=600, retry_after_seconds=3))
    client = Client(server)
    track_id = world.recording_ids()[0]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get(f"/v1/tracks/{track_id}"), range(40)))
    assert Counter(answer.status_code for answer in answers) == {200: 30, 429: 10}
    assert server.summary()["answered_429"] == 10
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "3"
    # Each service counts for itself.
    assert client.get("/reccobeats/v1/audio-features", ids=track_id).status_code == 200


def test_listenbrainz_says_how_much_is_left(serve: Serve, world: World) -> None:
    server = serve(faults=Faults(requests_per_second=0.005, window_seconds=600))
    user_id = world.start_users()[0]
    left = []
    for _ in range(4):
        answer = requests.get(f"{server.url}/1/user/{user_id}/following", timeout=30)
        left.append((answer.status_code, answer.headers["X-RateLimit-Remaining"]))
        assert answer.headers["X-RateLimit-Limit"] == "3"
        assert 1 <= int(answer.headers["X-RateLimit-Reset-In"]) <= 600
    assert left == [(200, "2"), (200, "1"), (200, "0"), (429, "0")]


def test_a_used_up_quota_asks_to_come_back_tomorrow(serve: Serve, world: World) -> None:
    client = Client(serve(faults=Faults(long_wait_after=2)))
    track_id = world.recording_ids()[0]
    answers = [client.get(f"/v1/tracks/{track_id}") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[2].headers["Retry-After"] == "86400"
    assert answers[2].json()["error"]["reason"] == "QUOTA_EXCEEDED"


KINDS = ("too_many", "server_error", "bad_gateway", "drop", "truncate", "bad_json", "empty")


def outcome(client: Client, path: str) -> str:
    try:
        answer = client.get(path)
    except requests.exceptions.ChunkedEncodingError:
        return "truncate"
    except requests.exceptions.ConnectionError:
        return "drop"
    if answer.status_code != 200:
        return {429: "too_many", 500: "server_error", 502: "bad_gateway"}[answer.status_code]
    if not answer.content:
        return "empty"
    try:
        answer.json()
    except ValueError:
        return "bad_json"
    return "fine"


@pytest.mark.slow
def test_faults_are_the_same_in_any_order_and_give_way(serve: Serve, crawl: RawBatch) -> None:
    faults = Faults.model_validate({"seed": 3, **dict.fromkeys(KINDS, 0.1)})
    paths = [f"/v1/tracks/{track_id}" for track_id in crawl.tracks["track_id"][:90]]
    runs = []
    for order in (paths, paths[::-1]):
        server = serve(faults=faults, log=True)
        # Tokens meet faults too, so this one was issued beforehand by a server without.
        client = Client(serve())
        server.tokens.issued.update(client.server.tokens.issued)
        client.server = server
        seen: dict[str, list[str]] = {path: [] for path in paths}
        for _ in range(6):
            for path in order:
                seen[path].append(outcome(client, path))
        runs.append(seen)
        counted = Counter(what for outcomes in seen.values() for what in outcomes if what != "fine")
        assert server.faults_made == counted
        assert len(server.asked) == 6 * len(paths)
    assert runs[0] == runs[1]
    first = Counter(outcomes[0] for outcomes in runs[0].values())
    assert set(first) == {*KINDS, "fine"}
    assert 0.15 < first["fine"] / len(paths) < 0.45
    for outcomes in runs[0].values():
        in_a_row = "".join("." if what == "fine" else "x" for what in outcomes)
        assert "xxx" not in in_a_row
    assert any("xx" in "".join("." if w == "fine" else "x" for w in o) for o in runs[0].values())


def test_token_requests_go_wrong_as_well_and_give_way(serve: Serve) -> None:
    server = serve(faults=Faults(server_error=1.0))
    form = {"grant_type": "client_credentials"}
    assert [ask_token(server, form).status_code for _ in range(6)] == [500, 500, 200, 500, 500, 200]
    too_many = serve(faults=Faults(too_many=1.0))
    assert ask_token(too_many, form).status_code == 200


def test_stray_items_come_in_addition(serve: Serve, world: World, crawl: RawBatch) -> None:
    server = serve(faults=Faults(null_tracks=0.2, local_files=0.2, episodes=0.2))
    client = Client(server)
    kinds: Counter[str] = Counter()
    for user_id in of_state(crawl, "listed")[:20]:
        items = []
        for playlist in client.pages(f"/v1/users/{user_id}/playlists", limit=50):
            if playlist["owner"]["id"] == user_id:
                found = client.pages(f"/v1/playlists/{playlist['id']}/tracks", limit=13)
                assert len(found) == playlist["tracks"]["total"]
                items += found
        tracks = [item["track"] for item in items]
        real = [item for item in items if item["track"] and item["track"].get("type") == "track"]
        real = [item for item in real if not item["track"]["is_local"]]
        assert listed_likes(real) == liked(crawl, user_id)
        kinds["null"] += sum(track is None for track in tracks)
        kinds["local"] += sum(bool(track and track["is_local"] and track["id"] is None) for track in tracks)
        kinds["episode"] += sum(bool(track and track["type"] == "episode") for track in tracks)
        assert len(items) == len(real) + sum(
            track is None or track["is_local"] or track["type"] == "episode" for track in tracks
        )
        loved = client.json(f"/1/feedback/user/{user_id}/get-feedback", score=1, count=1000)
        without = sum(one["recording_mbid"] is None for one in loved["feedback"])
        assert loved["total_count"] == len(real) + without
    assert min(kinds["null"], kinds["local"], kinds["episode"]) > 20


@pytest.mark.slow
def test_listenbrainz_follows_and_loves(server: SimulatorServer, world: World, crawl: RawBatch) -> None:
    client = Client(server)
    listed = of_state(crawl, "listed")
    by_code = {row["track_id"]: row for row in crawl.tracks.rows(named=True)}
    recordings: dict[str, str] = {}
    for user_id in listed[:25]:
        assert client.json(f"/1/user/{user_id}/following")["following"] == world.follows(user_id, DAY)
        for other in client.json(f"/1/user/{user_id}/followers")["followers"]:
            assert user_id in world.follows(other, DAY)
        path, query = f"/1/feedback/user/{user_id}/get-feedback", {"score": 1, "metadata": "true"}
        whole = client.json(path, count=1000, **query)
        cut = [client.json(path, count=7, offset=start, **query) for start in range(0, 400, 7)]
        assert [one for page in cut for one in page["feedback"]] == whole["feedback"]
        assert whole["count"] == whole["total_count"] == len(whole["feedback"])
        expected = sorted(liked(crawl, user_id), key=lambda like: like[1], reverse=True)
        assert [datetime.fromtimestamp(one["created"], UTC) for one in whole["feedback"]] == [
            at for _, at in expected
        ]
        names = Counter(one["track_metadata"]["track_name"] for one in whole["feedback"])
        assert names == Counter(by_code[track_id]["name"] for track_id, _ in expected)
        for one in whole["feedback"]:
            mapping = one["track_metadata"]["mbid_mapping"]
            assert mapping["recording_mbid"] == one["recording_mbid"]
            recordings[one["recording_mbid"]] = one["track_metadata"]["track_name"]
    ids = [*list(recordings)[:60], "00000000-0000-4000-8000-000000000000"]
    said = client.json("/1/metadata/recording/", recording_mbids=",".join(ids), inc="artist release")
    assert set(said) == set(ids[:-1])
    for one, metadata in said.items():
        assert metadata["recording"]["name"] == recordings[one]
        assert metadata["artist"]["artists"][0]["artist_mbid"]
        assert metadata["release"]["mbid"]
    for closed in ("nobody", of_state(crawl, "private")[0], of_state(crawl, "gone")[0]):
        for path in (f"/1/user/{closed}/following", f"/1/feedback/user/{closed}/get-feedback"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert answer.json() == {"code": 404, "error": f"Cannot find user: {closed}"}


def test_followers_are_the_other_side_of_following(world: World, crawl: RawBatch) -> None:
    listed = set(of_state(crawl, "listed"))
    one_way = {(a, b) for a in listed for b in world.follows(a, DAY) if b in listed}
    assert one_way == {(a, b) for b in listed for a in world.followers(b, DAY)}
    assert world.followers(of_state(crawl, "private")[0], DAY) == []


def test_two_ids_of_a_song_are_one_recording(server: SimulatorServer, crawl: RawBatch) -> None:
    client = Client(server)
    by_isrc = crawl.tracks.group_by("isrc").agg("track_id").filter(pl.col("track_id").list.len() == 2)
    assert by_isrc.height > 20
    one, other = by_isrc["track_id"][0].to_list()
    said = client.json("/v1/tracks", ids=f"{one},{other}")["tracks"]
    assert said[0]["external_ids"] == said[1]["external_ids"]
    assert said[0]["album"]["id"] != said[1]["album"]["id"]
    codes: dict[str, set[str]] = {}
    isrc_of = dict(crawl.tracks.select("track_id", "isrc").rows())
    for user_id in of_state(crawl, "listed"):
        loved = client.json(f"/1/feedback/user/{user_id}/get-feedback", count=1000)["feedback"]
        likes = sorted(liked(crawl, user_id), key=lambda like: like[1], reverse=True)
        if len({at for _, at in likes}) == len(likes):
            for love, (track_id, _) in zip(loved, likes, strict=True):
                codes.setdefault(isrc_of[track_id], set()).add(love["recording_mbid"])
    assert all(len(mbids) == 1 for mbids in codes.values())


def test_reccobeats_matches_by_link_and_knows_some_that_spotify_does_not(
    serve: Serve, crawl: RawBatch
) -> None:
    client = Client(serve(reccobeats_knows=0.5))
    knows_all, knows_none = Client(serve(reccobeats_knows=1.0)), Client(serve(reccobeats_knows=0.0))
    measured = set(crawl.features["track_id"])
    ids = crawl.tracks["track_id"].to_list()
    missing = [track_id for track_id in ids if track_id not in measured]

    def known(client: Client, asked: list[str]) -> list[str]:
        content = client.json("/reccobeats/v1/audio-features", ids=",".join(asked))["content"]
        assert all(set(AUDIO_FEATURES) <= set(one) for one in content)
        return [one["href"].rsplit("/", 1)[1] for one in content]

    asked = [*ids[:39], UNKNOWN]
    answered = known(client, asked)
    assert UNKNOWN not in answered
    assert measured.intersection(asked) <= set(answered)
    assert answered != [track_id for track_id in asked if track_id in answered], "not in the order asked"
    missing = missing[:40]
    assert known(knows_none, missing) == []
    assert sorted(known(knows_all, missing)) == sorted(missing)
    assert set(known(client, missing)) <= set(missing)
    assert client.get("/reccobeats/v1/audio-features", ids=",".join(ids[:41])).status_code == 400


def test_another_day_may_be_set_while_it_runs(serve: Serve, world: World) -> None:
    server = serve()
    user_id = world.start_users()[0]
    server.day = world.config.start
    early = Client(server).json(f"/v1/users/{user_id}/playlists")["items"]
    totals = {one["id"]: one["tracks"]["total"] for one in early if one["owner"]["id"] == user_id}
    assert sum(totals.values()) == len(world.liked(user_id, world.config.start))
    server.day = DAY
    late = Client(server).json(f"/v1/users/{user_id}/playlists")["items"]
    assert sum(one["tracks"]["total"] for one in late if one["owner"]["id"] == user_id) == len(
        world.liked(user_id, DAY)
    )


def test_covers_are_there_when_asked_for(serve: Serve, world: World, server: SimulatorServer) -> None:
    track_id = world.recording_ids()[0]
    assert Client(server).json(f"/v1/tracks/{track_id}")["album"]["images"] == []
    images = Client(serve(covers=True)).json(f"/v1/tracks/{track_id}")["album"]["images"]
    assert [image["width"] for image in images] == [640, 300, 64]


def test_spotipy_reads_it(server: SimulatorServer, crawl: RawBatch) -> None:
    spotipy = pytest.importorskip("spotipy")
    manager = spotipy.SpotifyClientCredentials(
        "simulator", "simulator", cache_handler=spotipy.MemoryCacheHandler()
    )
    manager.OAUTH_TOKEN_URL = f"{server.url}/api/token"
    spotify = spotipy.Spotify(auth_manager=manager, requests_session=requests.Session())
    spotify.prefix = f"{server.url}/v1/"
    user_id = of_state(crawl, "listed")[0]
    page = spotify.user_playlists(user_id, limit=2)
    names = [one["name"] for one in page["items"]]
    while page["next"]:
        page = spotify.next(page)
        names += [one["name"] for one in page["items"]]
    assert len(names) == page["total"]
    ids = crawl.features["track_id"].to_list()[:3]
    assert [one["id"] for one in spotify.audio_features(ids)] == ids
    assert [one["id"] for one in spotify.tracks(ids)["tracks"]] == ids
    with pytest.raises(spotipy.SpotifyException) as refused:
        spotify.user_playlists(of_state(crawl, "private")[0])
    assert refused.value.http_status == 403


def test_it_counts_what_it_was_asked(serve: Serve, world: World) -> None:
    server = serve(log=True)
    client = Client(server)
    track_id = world.recording_ids()[0]
    client.get(f"/v1/tracks/{track_id}")
    client.get("/v1/nothing")
    assert server.requests == {("/api/token", 200): 1, ("/v1/tracks/{id}", 200): 1, ("unknown", 404): 1}
    assert [(one.key, one.status) for one in server.asked] == [
        ("POST /api/token client_credentials", 200),
        (f"GET /v1/tracks/{track_id}", 200),
        ("GET /v1/nothing", 404),
    ]
    summary = requests.get(f"{server.url}/simulator", timeout=30).json()
    assert (summary["requests"], summary["answered_429"]) == (3, 0)


def test_a_closed_server_answers_nobody(world: World) -> None:
    with SimulatorServer(world, DAY) as server:
        client = Client(server)
        path = f"/v1/tracks/{world.recording_ids()[0]}"
        assert client.get(path).status_code == 200
    with pytest.raises(requests.exceptions.ConnectionError):
        client.get(path)
    server.close()


def test_a_taken_port_and_a_day_before_the_world_are_refused(server: SimulatorServer, world: World) -> None:
    with pytest.raises(InputError, match=f"port {server.port}"):
        SimulatorServer(world, DAY, port=server.port)
    with pytest.raises(InputError, match="begins on 2026-01-01"):
        SimulatorServer(world, date(2025, 12, 31))


def test_faults_that_make_no_sense_are_refused() -> None:
    for wrong in ({"drop": 0.6, "empty": 0.6}, {"drop": -0.1}, {"dorp": 0.1}, {"requests_per_second": 0}):
        with pytest.raises(ValidationError):
            Faults.model_validate(wrong)


def run_server(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tunegraph_pipeline.simulator.server", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_as_a_process_it_ends_when_its_standard_input_does() -> None:
    config = WorldConfig(n_users=30, n_tracks=60)
    with run_server(
        "--world", config.model_dump_json(), "--day", "2026-02-01", "--until-stdin-closes"
    ) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        url = one.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        user_id = World(config).start_users()[0]
        following = requests.get(f"{url}/1/user/{user_id}/following", timeout=30).json()["following"]
        assert following == World(config).follows(user_id, date(2026, 2, 1))
        one.stdin.close()
        assert one.wait(60) == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [("--faults", json.dumps({"drop": 2})), ("--world", "{"), ("--day", "soon"), ("--day", "2020-01-01")],
)
def test_it_refuses_nonsense_in_one_line(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option, value]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
