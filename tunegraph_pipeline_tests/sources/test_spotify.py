"""Spotify: both generations of its API, whatever a playlist may hold, tokens that die and stay private."""

import json
import logging
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest
import requests

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.storage import private_file
from tunegraph_pipeline.simulator.server import PERSONAL_MARK, Faults, Mode, SimulatorServer
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import AskLater, Like, ProviderClosed, Refusal, Unanswered, UserGone
from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySource
from tunegraph_pipeline.sources.spotify_login import (
    SCOPES,
    SpotifySettings,
    authorise,
    token_files,
    token_folder,
    token_owner,
)

DAY = date(2026, 6, 1)
POLICY = RequestPolicy(requests_per_second=10_000, attempts=4)
SONG = "4uLU6hMCjMI75M1A2tKUQC"
OTHER = "11dFghVXANMlKmJXsNCbNl"
Open = Callable[..., SpotifySource]
OpenFrontier = Callable[..., Frontier]


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig(n_users=120, n_tracks=300, likes_per_user=25))


@pytest.fixture(scope="module")
def extended(world: World) -> Iterator[SimulatorServer]:
    with SimulatorServer(world, DAY) as server:
        yield server


@pytest.fixture
def serve(world: World) -> Iterator[Callable[..., SimulatorServer]]:
    with ExitStack() as running:
        yield lambda **options: running.enter_context(SimulatorServer(world, DAY, **options))


@pytest.fixture(autouse=True)
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test looks at the tokens or credentials of whoever runs it."""
    monkeypatch.setenv("TUNEGRAPH_TOKENS", str(tmp_path / "tokens"))
    for name in ("SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET", "SPOTIPY_REDIRECT_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "tokens"


@pytest.fixture
def open_source(frontier: Frontier) -> Iterator[Open]:
    with ExitStack() as opened:

        def start(url: str, *, frontier: Frontier = frontier, **options: Any) -> SpotifySource:
            settings = SpotifySettings(
                api_url=f"{url}/v1",
                accounts_url=url,
                **{name: options.pop(name) for name in ("mode", "start_users") if name in options},
            )
            options = {"credentials": ("simulator", "simulator"), "policy": POLICY, **options}
            source = SpotifySource(settings, options.pop("policy"), frontier, **options)
            opened.callback(source.close)
            return source

        yield start


@pytest.fixture
def login(tokens: Path) -> Callable[..., Path]:
    """A token file as `tunegraph login` writes it."""

    def write(refresh_token: str, number: int = 1, **changes: Any) -> Path:
        path = tokens / f"spotify-simulato-{number}.json"
        token = {"access_token": "of-old", "expires_at": 0, "refresh_token": refresh_token, "scope": SCOPES}
        private_file(path, json.dumps({**token, **changes}))
        return path

    return write


def respond_to(routes: dict[str, Any], reply: Any) -> Callable[[Any], Any]:
    """Answers by path; tokens for whoever asks, 404 for the rest."""

    def respond(request: Any) -> Any:
        path = request.path.partition("?")[0]
        if path == "/api/token":
            said: Any = {"access_token": "secret-token", "token_type": "Bearer", "expires_in": 3600}
        elif path in routes:
            said = routes[path]
        else:
            return reply(b'{"error": {"status": 404, "message": "no"}}', 404)
        return reply(json.dumps(said).encode())

    return respond


def playlist(playlist_id: str, owner: str, **more: Any) -> dict[str, Any]:
    return {"id": playlist_id, "owner": {"id": owner, "display_name": "A Person"}, "name": "x", **more}


def entry(track: Any, at: Any = "2026-01-02T03:04:05Z", key: str = "track") -> dict[str, Any]:
    return {"added_at": at, key: track}


def song(track_id: str = SONG, **more: Any) -> dict[str, Any]:
    return {"id": track_id, "name": "A Song", "type": "track", "is_local": False, **more}


def of_anna(entries: list[Any]) -> dict[str, Any]:
    return {
        "/v1/users/anna/playlists": {"items": [playlist("one", "anna", tracks={"total": 1})], "next": None},
        "/v1/playlists/one/tracks": {"items": entries, "next": None},
    }


# --- which generation ---


def test_extended_quota_is_found_out(extended: SimulatorServer, open_source: Open) -> None:
    source = open_source(extended.url, start_users=("anna",))
    assert source.mode.value == "extended"
    assert source.start_users() == ["anna"]


def test_development_mode_is_found_out_and_needs_a_login(
    serve: Callable[..., SimulatorServer], open_source: Open, login: Callable[..., Path], world: World
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    with pytest.raises(InputError, match="run `tunegraph login`"):
        open_source(server.url)
    login(server.refresh_token)
    source = open_source(server.url)
    assert source.mode.value == "development"
    assert source.start_users() == world.start_users()[:1]
    assert source.discover(source.start_users()[0]) == []
    with pytest.raises(UserGone):
        source.liked_list(world.start_users()[1])


def test_a_named_mode_costs_no_request(extended: SimulatorServer, open_source: Open) -> None:
    before = sum(extended.requests.values())
    open_source(extended.url, mode="extended")
    assert sum(extended.requests.values()) == before


def test_extended_quota_named_for_an_app_without_it_is_one_line(
    serve: Callable[..., SimulatorServer], open_source: Open
) -> None:
    source = open_source(serve(mode=Mode.DEVELOPMENT).url, mode="extended")
    with pytest.raises(InputError, match=r"refuses this app .*settings\.spotify\.mode"):
        source.describe([SONG])


def test_start_users_have_to_be_named_with_extended_quota(
    extended: SimulatorServer, open_source: Open
) -> None:
    with pytest.raises(InputError, match="--start-user"):
        open_source(extended.url).start_users()


def test_a_service_that_is_down_is_one_line(stub: Any, reply: Any, open_source: Open) -> None:
    stub.say(reply(b"", 503))
    with pytest.raises(InputError, match="check the network"):
        open_source(stub.url, policy=RequestPolicy(requests_per_second=10_000, attempts=2))


def test_a_long_wait_is_kept_and_the_next_run_asks_nothing(
    serve: Callable[..., SimulatorServer], open_source: Open, make_frontier: OpenFrontier
) -> None:
    server = serve(faults=Faults(long_wait_after=0))
    with pytest.raises(AskLater):
        open_source(server.url)
    before = sum(server.requests.values())
    with pytest.raises(AskLater, match="Spotify asks not to be asked again before"):
        open_source(server.url, frontier=make_frontier(DAY + timedelta(days=1)))
    assert sum(server.requests.values()) == before


# --- what a list may hold ---


def test_entries_that_are_no_songs_are_counted(stub: Any, reply: Any, open_source: Open) -> None:
    entries = [
        entry(song()),
        entry(None),
        None,
        {},
        {"added_at": "2026-01-01T00:00:00Z"},
        entry({**song(), "id": None, "is_local": True}),
        entry({**song("7episode"), "type": "episode"}),
        entry({**song(), "id": "../../etc"}),
        entry({"name": "no id"}),
        entry(["list"]),
    ]
    stub.respond = respond_to(of_anna(entries), reply)
    liked = open_source(stub.url, mode="extended").liked_list("anna")
    assert [like.track_id for like in liked.likes] == [SONG]
    assert liked.counts == {
        "entries without a track": 5,
        "local files": 1,
        "podcast episodes": 1,
        "entries that make no sense": 2,
    }


def test_stray_entries_of_the_world_change_no_list(
    serve: Callable[..., SimulatorServer], open_source: Open, world: World
) -> None:
    server = serve(faults=Faults(null_tracks=0.2, local_files=0.2, episodes=0.2))
    source = open_source(server.url)
    counted: set[str] = set()
    for user in world.start_users():
        liked = source.liked_list(user)
        assert {like.track_id for like in liked.likes} == {track for track, _ in world.liked(user, DAY)}
        counted |= set(liked.counts)
    assert counted == {"entries without a track", "local files", "podcast episodes"}


@pytest.mark.parametrize("key", ["track", "item"])
def test_both_shapes_of_an_entry_are_read(key: str, stub: Any, reply: Any, open_source: Open) -> None:
    stub.respond = respond_to(of_anna([entry(song(), key=key)]), reply)
    liked = open_source(stub.url, mode="extended").liked_list("anna")
    assert [like.track_id for like in liked.likes] == [SONG]
    assert [track.name for track in liked.described] == ["A Song"]


def test_a_song_in_two_playlists_is_liked_once_since_the_first_time(
    stub: Any, reply: Any, open_source: Open
) -> None:
    entries = [
        entry(song(), "2026-03-01T00:00:00Z"),
        entry(song(), "2026-02-01T02:00:00+02:00"),
        entry(song(), None),
        entry(song(OTHER), "1970-01-01T00:00:00Z"),  # what Spotify says of very old playlists
        entry(song(OTHER), "yesterday"),
        entry(song(OTHER), 5),
    ]
    stub.respond = respond_to(of_anna(entries), reply)
    liked = open_source(stub.url, mode="extended").liked_list("anna")
    first, second = liked.likes
    assert first.liked_at is not None
    assert first.liked_at.isoformat() == "2026-02-01T00:00:00+00:00"
    assert second == Like(OTHER, None)


def test_one_field_that_makes_no_sense_costs_that_field_alone(
    stub: Any, reply: Any, open_source: Open
) -> None:
    odd = song(duration_ms="long", explicit=[], artists=5, album="none", external_ids=7, preview_url={})
    images = {"id": "album", "images": [None, 3], "name": "First Light", "release_date": "1997-05"}
    stub.respond = respond_to(of_anna([entry(odd), entry(song(OTHER, album=images))]), reply)
    one, two = open_source(stub.url, mode="extended").liked_list("anna").described
    assert one == (SONG, None, "A Song", *[None] * 10)
    assert (two.album_id, two.album, two.year) == ("album", "First Light", 1997)
    assert two.image_url is None


def test_only_own_and_readable_playlists_say_what_somebody_likes(
    stub: Any, reply: Any, open_source: Open
) -> None:
    routes = {
        "/v1/users/anna/playlists": {
            "items": [
                playlist("own", "anna"),
                playlist("followed", "ben"),
                playlist("empty", "anna", tracks={"total": 0}),
                playlist("closed", "anna"),
                playlist("mix", "spotify"),
                playlist("of two", "car la"),
                None,
                {"id": "no owner"},
            ],
            "next": None,
        },
        "/v1/playlists/own/tracks": {"items": [entry(song())], "next": None},
    }
    stub.respond = respond_to(routes, reply)
    source = open_source(stub.url, mode="extended")
    assert source.discover("anna") == ["ben"]
    liked = source.liked_list("anna")
    assert [like.track_id for like in liked.likes] == [SONG]
    assert liked.counts == {"playlists that cannot be read": 1}
    asked = [request.path.partition("?")[0] for request in stub.asked]
    assert "/v1/playlists/empty/tracks" not in asked
    assert "/v1/playlists/followed/tracks" not in asked


def test_pages_are_followed_on_the_same_host_alone(
    stub: Any, make_stub: Any, reply: Any, open_source: Open
) -> None:
    other = make_stub()
    routes = of_anna([entry(song())])
    routes["/v1/playlists/one/tracks"]["next"] = f"{stub.url}/v1/page/2"
    routes["/v1/page/2"] = {"items": [entry(song(OTHER))], "next": None}
    stub.respond = respond_to(routes, reply)
    source = open_source(stub.url, mode="extended")
    assert len(source.liked_list("anna").likes) == 2

    for number, following in enumerate((f"{other.url}/v1/page/2", f"{stub.url}/v1/page/3", "http://[", 7)):
        routes[f"/v1/users/anna{number}/playlists"] = {
            "items": [playlist(f"p{number}", f"anna{number}")],
            "next": None,
        }
        # The third page leads to itself.
        routes["/v1/page/3"] = {"items": [], "next": f"{stub.url}/v1/page/3"}
        routes[f"/v1/playlists/p{number}/tracks"] = {"items": [], "next": following}
        with pytest.raises(Unanswered):
            source.liked_list(f"anna{number}")
    assert other.asked == []


@pytest.mark.parametrize("user", ["an/na", "an na", "100%", "../me", "ännä", "a?limit=1", "a#b"])
def test_user_ids_are_quoted(user: str, stub: Any, reply: Any, open_source: Open) -> None:
    stub.respond = respond_to({}, reply)
    source = open_source(stub.url, mode="extended")
    with pytest.raises(UserGone):
        source.discover(user)
    path = unquote(stub.asked[-1].path.partition("?")[0])
    assert path == f"/v1/users/{user}/playlists"
    assert stub.asked[-1].path.count("/") == 4


def test_describe_returns_what_was_asked_whatever_is_answered(
    stub: Any, reply: Any, open_source: Open
) -> None:
    stub.respond = respond_to({"/v1/tracks/": {"tracks": [song(), song(), song(OTHER), None, 5]}}, reply)
    source = open_source(stub.url, mode="extended")
    assert [track.track_id for track in source.describe([SONG, "9"])] == [SONG]


# --- features ---


def test_an_app_without_features_is_told_so_once(
    serve: Callable[..., SimulatorServer], open_source: Open
) -> None:
    source = open_source(serve(audio_features=False).url)
    with pytest.raises(ProviderClosed, match=r"no audio features .*403"):
        SpotifyFeatures(source).audio_features([SONG])


def test_development_mode_has_no_features(
    serve: Callable[..., SimulatorServer], open_source: Open, login: Callable[..., Path]
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    login(server.refresh_token)
    source = open_source(server.url)
    with pytest.raises(ProviderClosed):
        SpotifyFeatures(source).audio_features([SONG])
    assert [provider.name for provider in source.feature_providers()] == ["spotify", "reccobeats"]


def test_features_are_those_of_the_tracks_asked_for(stub: Any, reply: Any, open_source: Open) -> None:
    said = [None, {"id": OTHER, "energy": 1}, {"id": SONG, "energy": 0.5, "key": -1, "tempo": "fast"}, 3]
    stub.respond = respond_to({"/v1/audio-features/": {"audio_features": said}}, reply)
    found = SpotifyFeatures(open_source(stub.url, mode="extended")).audio_features([SONG])
    assert set(found) == {SONG}
    assert {name: value for name, value in found[SONG].items() if value is not None} == {"energy": 0.5}


# --- tokens ---


@pytest.mark.parametrize("mode", [Mode.EXTENDED, Mode.DEVELOPMENT])
def test_tokens_that_die_young_are_survived(
    mode: Mode,
    serve: Callable[..., SimulatorServer],
    open_source: Open,
    login: Callable[..., Path],
    world: World,
) -> None:
    server = serve(mode=mode, faults=Faults(token_seconds=0.3))
    login(server.refresh_token)
    source = open_source(server.url)
    user = world.start_users()[0]
    ids = [track_id for track_id, _ in world.liked(user, DAY)]
    assert {like.track_id for like in source.liked_list(user).likes} == set(ids)
    for track_id in ids[:2]:
        time.sleep(0.35)  # the server's token is dead; nothing here waits for it
        assert [track.track_id for track in source.describe([track_id])] == [track_id]
    tokens = sum(count for (route, _), count in server.requests.items() if route == "/api/token")
    assert tokens >= 3


def test_a_broken_token_answer_is_no_crash_and_costs_no_login(
    stub: Any, reply: Any, open_source: Open, login: Callable[..., Path]
) -> None:
    path = login("refresh")
    before = path.read_bytes()
    for said in (
        b"{}",
        b"[]",
        b'{"access_token": null, "expires_in": 3600}',
        b'{"access_token": "a b", "expires_in": 3600}',
        b'{"access_token": "x\\ud800", "expires_in": 3600}',
        b'{"access_token": "x\\nHost: evil", "expires_in": 3600}',
        b'{"access_token": "abc"}',
        b'{"access_token": "abc", "expires_in": "soon"}',
        b'{"access_token": "abc", "expires_in": 1e999}',
        b'{"access_token": "abc", "expires_in": 3600, "refresh_token": null}',
    ):
        stub.respond = lambda request, said=said: reply(said)
        with pytest.raises(InputError):
            open_source(
                stub.url, mode="development", policy=RequestPolicy(requests_per_second=9_999, attempts=1)
            )
        assert path.read_bytes() == before
    for status, said in ((400, b"[]"), (400, b'"no"'), (403, b"<html>"), (401, b'{"error": {"a": 1}}')):
        stub.respond = lambda request, said=said, status=status: reply(said, status)
        with pytest.raises((InputError, Unanswered)):
            open_source(stub.url, mode="extended").describe([SONG])
        with pytest.raises(InputError):
            open_source(stub.url)


@pytest.mark.parametrize("wrong", [("simulator", "wrong"), ("nobody", "simulator")])
def test_wrong_credentials_are_one_line(
    wrong: tuple[str, str], extended: SimulatorServer, open_source: Open
) -> None:
    with pytest.raises(InputError, match="check SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET") as refused:
        open_source(extended.url, credentials=wrong)
    assert "\n" not in str(refused.value)


def test_missing_credentials_are_one_line(
    extended: SimulatorServer, open_source: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "simulator")
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", " ")
    with pytest.raises(InputError, match="set SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET"):
        open_source(extended.url, credentials=None)
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", "simulator")
    assert open_source(extended.url, credentials=None).mode.value == "extended"


def test_an_authorisation_that_ended_is_one_line(
    serve: Callable[..., SimulatorServer], open_source: Open, login: Callable[..., Path]
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    server.tokens.revoke(server.refresh_token)
    login(server.refresh_token)
    with pytest.raises(InputError, match=r"six months.*run `tunegraph login` again"):
        open_source(server.url)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '{"access_token": 5}', "\ufeff{}", "\0"])
def test_a_broken_token_file_is_one_line(
    content: str, serve: Callable[..., SimulatorServer], open_source: Open, login: Callable[..., Path]
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    path = login(server.refresh_token)
    path.write_text(content)
    with pytest.raises(InputError, match=r"spotify-simulato-1.json cannot be read; remove it"):
        open_source(server.url)


def test_an_authorisation_for_less_is_one_line(
    serve: Callable[..., SimulatorServer], open_source: Open, login: Callable[..., Path]
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    login(server.refresh_token, scope="user-read-email")
    with pytest.raises(InputError, match="lacks a scope"):
        open_source(server.url)


def test_two_users_are_never_given_the_lists_of_the_other(
    serve: Callable[..., SimulatorServer],
    open_source: Open,
    login: Callable[..., Path],
    make_frontier: OpenFrontier,
    world: World,
) -> None:
    anna, ben = world.start_users()[:2]
    theirs = {user: {track_id for track_id, _ in world.liked(user, DAY)} for user in (anna, ben)}
    assert theirs[anna] != theirs[ben]
    server = serve(mode=Mode.DEVELOPMENT, refresh_tokens={"of-anna": anna, "of-ben": ben})
    login("of-anna", 1)
    login("of-ben", 2)
    source = open_source(server.url)
    assert source.start_users() == [anna, ben]
    for user in (anna, ben):
        assert {like.track_id for like in source.liked_list(user).likes} == theirs[user]
    # On the same day somebody else takes the place of the first.
    source.close()
    login("of-ben", 1)
    (path_of_two,) = [path for path in token_files("simulator") if path.stem.endswith("-2")]
    path_of_two.unlink()
    source = open_source(server.url, frontier=make_frontier())
    assert source.start_users() == [ben]
    assert {like.track_id for like in source.liked_list(ben).likes} == theirs[ben]


def test_nothing_personal_and_no_token_is_stored_or_logged(
    serve: Callable[..., SimulatorServer],
    open_source: Open,
    login: Callable[..., Path],
    frontier: Frontier,
    kept_bytes: Callable[[Path], bytes],
    caplog: pytest.LogCaptureFixture,
    world: World,
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = world.crawl(DAY)
    for mode in (Mode.EXTENDED, Mode.DEVELOPMENT):
        server = serve(mode=mode, covers=True, faults=Faults(token_seconds=0.3), audio_features=False)
        path = login(server.refresh_token)
        source = open_source(server.url)
        user = world.start_users()[0]
        source.discover(user)
        liked = source.liked_list(user)
        assert liked.likes
        time.sleep(0.35)
        assert source.describe([like.track_id for like in liked.likes[:2]])
        for refused in (
            lambda source=source: SpotifyFeatures(source).audio_features([SONG]),
            lambda source=source: source.liked_list(
                seen.users.filter(pl.col("state") == "private")["user_id"][0]
            ),
        ):
            with pytest.raises(Refusal):
                refused()
        secrets = [*server.tokens.issued, server.refresh_token, json.loads(path.read_bytes())["access_token"]]
        kept = kept_bytes(frontier.path)
        assert PERSONAL_MARK.encode() not in kept
        for name in (b"display_name", b"email", b"country", b"product"):
            assert b'"%s":' % name not in kept
        for secret in secrets:
            assert secret.encode() not in kept
            assert secret not in caplog.text
        assert PERSONAL_MARK not in caplog.text


def test_token_files_are_private_and_replaced_whole(
    serve: Callable[..., SimulatorServer], open_source: Open, login: Callable[..., Path]
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    path = login(server.refresh_token)
    path.chmod(0o644)  # copied there by hand
    open_source(server.url)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["access_token"] != "of-old"
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_token_folder_is_the_users_configuration_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNEGRAPH_TOKENS")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert token_folder().parts[-2:] == ("tunegraph", "tokens")


# --- login ---


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A browser whose user agrees at once; returns the addresses it was sent to."""
    sent: list[str] = []
    visits: list[threading.Thread] = []

    def visit(url: str) -> bool:
        sent.append(url)
        visits.append(threading.Thread(target=requests.get, args=(url,), kwargs={"timeout": 30}))
        visits[-1].start()
        return True

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("SPOTIPY_REDIRECT_URI", f"http://127.0.0.1:{port}/callback")
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "simulator")
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", "simulator")
    monkeypatch.setattr("webbrowser.open", visit)
    yield sent
    for thread in visits:
        thread.join()


def settings_of(url: str) -> SpotifySettings:
    return SpotifySettings(api_url=f"{url}/v1", accounts_url=url)


def test_login_keeps_the_token_of_who_agrees(
    serve: Callable[..., SimulatorServer], browser: list[str], open_source: Open, world: World
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    user = world.start_users()[0]
    for _ in range(2):  # the same user again takes the same file
        assert authorise(settings_of(server.url)) == user
        (path,) = token_files("simulator")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert token_owner(path) == user
    assert len(browser) == 2
    source = open_source(server.url)
    assert source.start_users() == [user]
    assert source.liked_list(user).likes


def test_login_takes_the_place_of_nobody_else(
    serve: Callable[..., SimulatorServer], browser: list[str], login: Callable[..., Path], world: World
) -> None:
    server = serve(mode=Mode.DEVELOPMENT)
    other = login("of-ben", 2, tunegraph_user="ben")  # whoever was first has left
    kept = other.read_bytes()
    authorise(settings_of(server.url))
    assert other.read_bytes() == kept
    assert {token_owner(path) for path in token_files("simulator")} == {"ben", world.start_users()[0]}


def test_login_that_fails_is_one_line(
    serve: Callable[..., SimulatorServer],
    browser: list[str],
    stub: Any,
    reply: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(mode=Mode.DEVELOPMENT, client_secret="another")
    with pytest.raises(InputError, match="does not know this app"):
        authorise(settings_of(server.url))
    good = serve(mode=Mode.DEVELOPMENT)
    half = SpotifySettings(api_url=f"{stub.url}/v1", accounts_url=good.url)
    for said, status in ((b"<html>", 500), (b"{}", 200), (b"[]", 403), (b"{", 200), (b"[]", 200)):
        stub.say(reply(said, status))
        with pytest.raises(InputError):
            authorise(half)
    stub.close()
    with pytest.raises(InputError):
        authorise(half)
    assert token_files("simulator") == []
