"""Whatever JSON a service answers: sound rows or a refusal in our own terms, never another exception."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.lake.storage import private_file
from tunegraph_pipeline.sources.api_session import ApiSession, RequestPolicy
from tunegraph_pipeline.sources.crawl import _frame, _microseconds
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings, ListenBrainzSource
from tunegraph_pipeline.sources.reccobeats import ReccoBeats
from tunegraph_pipeline.sources.source import FeatureProvider, LikedList, Refusal, Source
from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySource
from tunegraph_pipeline.sources.spotify_login import SCOPES, Mode, SpotifySettings
from tunegraph_pipeline_tests.conftest import examples

pytestmark = pytest.mark.slow

DAY = date(2026, 6, 1)
URL = "http://fuzz.invalid"
POLICY = RequestPolicy(requests_per_second=100_000, requests_per_day=60, attempts=1, longest_wait=0)
SONG, OTHER = "4uLU6hMCjMI75M1A2tKUQC", "11dFghVXANMlKmJXsNCbNl"
MBID, OTHER_MBID = "10000000-0000-4000-8000-000000000000", "20000000-0000-4000-8000-000000000000"

# --- answers as they should be ---

TRACK = {
    "id": SONG,
    "name": "A Song",
    "type": "track",
    "is_local": False,
    "artists": [{"id": "artist", "name": "Someone"}],
    "album": {"id": "album", "images": [{"url": "https://covers.example/1.jpg", "height": 640}]},
    "external_ids": {"isrc": "GBAYE0601498"},
    "preview_url": None,
    "duration_ms": 180_000,
    "explicit": False,
    "genre": "pop",
}
ENTRIES = {
    "items": [
        {"added_at": "2026-01-02T03:04:05Z", "track": TRACK},
        {"added_at": "2026-01-01T00:00:00Z", "item": {**TRACK, "id": OTHER}},
    ],
    "next": None,
    "total": 2,
}
FEATURES = dict.fromkeys(AUDIO_FEATURES, 0.5)
SPOTIFY = {
    "/api/token": {"access_token": "secret", "token_type": "Bearer", "expires_in": 3600},
    "/v1/me/": {"id": "anna", "display_name": "A Person"},
    "/v1/me/tracks": ENTRIES,
    "/v1/me/playlists": {
        "items": [{"id": "one", "owner": {"id": "anna"}, "items": {"total": 2}}],
        "next": None,
    },
    "/v1/users/anna/playlists": {
        "items": [
            {"id": "one", "owner": {"id": "anna"}, "tracks": {"total": 2}},
            {"id": "two", "owner": {"id": "ben"}, "tracks": {"total": 2}},
        ],
        "next": None,
    },
    "/v1/playlists/one/tracks": ENTRIES,
    "/v1/playlists/one/items": ENTRIES,
    "/v1/tracks/": {"tracks": [TRACK, None]},
    f"/v1/tracks/{SONG}": TRACK,
    "/v1/audio-features/": {"audio_features": [{"id": SONG, **FEATURES}, None]},
}
MAPPING = {
    "recording_mbid": MBID,
    "release_mbid": MBID,
    "caa_id": 5,
    "caa_release_mbid": MBID,
    "artists": [{"artist_mbid": MBID, "artist_credit_name": "Someone"}],
}
METADATA = {"track_name": "A Song", "artist_name": "Someone", "mbid_mapping": MAPPING}
LISTENBRAINZ = {
    "/1/user/anna/following": {"following": ["ben"]},
    "/1/user/anna/followers": {"followers": ["carla"]},
    "/1/feedback/user/anna/get-feedback": {
        "feedback": [
            {"created": 1_767_322_800, "recording_mbid": MBID, "score": 1, "track_metadata": METADATA},
            {"created": 1_767_322_801, "recording_mbid": OTHER_MBID, "score": 1, "track_metadata": None},
        ],
        "total_count": 2,
    },
    "/1/metadata/recording/": {
        MBID: {
            "recording": {"name": "A Song", "length": 1_000, "isrcs": ["GBAYE0601498"]},
            "artist": {"artists": [{"artist_mbid": MBID, "name": "Someone"}]},
            "release": {"caa_id": 5, "caa_release_mbid": MBID, "mbid": MBID},
        }
    },
}
RECCOBEATS = {
    "/v1/audio-features": {
        "content": [{"id": "x", "href": f"https://open.spotify.com/track/{SONG}", **FEATURES}]
    }
}

# --- and as they may be ---

DEEP, LONG = "@deep@", "@long@"  # stand for JSON that json.dumps does not write
TEXTS = st.sampled_from(
    [
        *("", " ", "\ud800", "half \udfff pair", "\x00", "a\nb", "😀", "x" * 300, SONG, MBID, "anna", "-1"),
        *(
            "2026-01-02",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+23:59",
            "2026-01-02T03:04:05",
            "NaN",
        ),
        *(
            f"{URL}/v1/me/tracks",
            f"{URL}/v1/none",
            "http://elsewhere.invalid/",
            "http://[",
            "//",
            "../..",
            "%",
        ),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    TEXTS,
    st.text(st.characters(), max_size=4),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**30), 2**31, 2**63, 2**64, 1e308, float("nan"), float("inf"), -0.0, 1.5]),
    st.sampled_from([DEEP, LONG]),
)
NAMES = st.one_of(TEXTS, st.sampled_from(["items", "track", "id", "owner", "name", "next", "*", "content"]))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container below ``value`` with each of its keys."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@st.composite
def answers(draw: st.DrawFn, valid: dict[str, Any]) -> dict[str, tuple[int, bytes]]:
    """Status and body by path: those of ``valid``, some of them spoilt in some places."""
    given_back = copy.deepcopy(valid)
    for path in draw(st.lists(st.sampled_from(sorted(valid)), min_size=1, max_size=3, unique=True)):
        if draw(st.integers(0, 9)) == 0:
            given_back[path] = draw(JSON)
            continue
        for _ in range(draw(st.integers(1, 3))):
            there = list(places(given_back[path])) if isinstance(given_back[path], dict) else []
            if not there:
                break
            container, key = draw(st.sampled_from(there))
            match draw(st.sampled_from(["replace", "replace", "remove", "repeat"])):
                case "remove":
                    del container[key]
                case "repeat" if isinstance(container, list):
                    container.append(container[key])
                case _:
                    container[key] = draw(JSON)
    statuses = st.sampled_from([200] * 12 + [400, 401, 403, 404, 429, 500])
    return {path: (draw(statuses), body(value)) for path, value in given_back.items()}


def body(value: Any) -> bytes:
    text = json.dumps(value)
    text = text.replace(f'"{DEEP}"', "[" * 800 + "]" * 800).replace(f'"{LONG}"', "9" * 6_000)
    return text.encode()


class Answering(BaseAdapter):
    """Gives a session the answers of a test in place of a connection."""

    def __init__(self, given_back: dict[str, tuple[int, bytes]]) -> None:
        super().__init__()
        self.given_back = given_back

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert str(request.url).startswith(f"{URL}/"), request.url
        path = request.path_url.partition("?")[0]
        response = requests.Response()
        response.status_code, response._content = self.given_back.get(path, (404, b"{}"))
        response.headers["Retry-After"] = "0"
        response.url, response.request = str(request.url), request
        return response

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def answering(given_back: dict[str, tuple[int, bytes]]) -> Iterator[Frontier]:
    """A frontier for this example alone; every session made meanwhile gets the answers of the example."""
    with ExitStack() as undone:
        patch = undone.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(ApiSession, "get_adapter", lambda self, url: Answering(given_back))
        yield undone.enter_context(Frontier(Path(":memory:"), DAY))


def asked(ask: Callable[[], Any]) -> Any:
    """What is answered; None for a refusal in our own terms."""
    try:
        return ask()
    except (Refusal, InputError):
        return None


def check(source: Source, user: str, track_ids: list[str]) -> None:
    found = asked(lambda: source.discover(user)) or []
    assert user not in found
    assert len(set(found)) == len(found)
    assert len(_frame("users", [[one, user, 1, "found"] for one in found])) == len(found)

    liked = asked(lambda: source.liked_list(user)) or LikedList()
    ids = [like.track_id for like in liked.likes]
    assert len(set(ids)) == len(ids)
    assert all(like.liked_at is None or like.liked_at.utcoffset() == timedelta(0) for like in liked.likes)
    assert {track.track_id for track in liked.described} <= set(ids)
    rows = [[user, like.track_id, _microseconds(like.liked_at)] for like in liked.likes]
    assert len(_frame("likes", rows)) == len(ids)

    described = asked(lambda: source.describe(track_ids)) or []
    assert {track.track_id for track in described} <= set(track_ids)
    assert len(described) <= len(track_ids)
    for tracks in (liked.described, described):
        rows = [list(track) for track in tracks]
        assert len(_frame("tracks", rows)) == len(rows)
        assert json.loads(json.dumps(rows)) == rows  # as the journal keeps them


def check_features(provider: FeatureProvider, track_ids: list[str]) -> None:
    found = asked(lambda: provider.audio_features(track_ids)) or {}
    assert set(found) <= set(track_ids)
    assert all(tuple(values) == AUDIO_FEATURES for values in found.values())
    rows = [[track_id, *values.values()] for track_id, values in found.items()]
    assert len(_frame("features", rows)) == len(rows)


fuzz = settings(max_examples=examples(120), suppress_health_check=list(HealthCheck))


def spotify_source(frontier: Frontier, mode: Mode) -> SpotifySource | None:
    chosen = SpotifySettings(mode=mode, api_url=f"{URL}/v1", accounts_url=URL, start_users=("anna",))
    made = asked(lambda: SpotifySource(chosen, POLICY, frontier, credentials=("fuzz", "fuzz")))
    return cast("SpotifySource | None", made)


@given(answers(SPOTIFY), st.sampled_from([Mode.EXTENDED, Mode.AUTO]))
@fuzz
def test_spotify_with_extended_quota(given_back: dict[str, tuple[int, bytes]], mode: Mode) -> None:
    with answering(given_back) as frontier:
        source = spotify_source(frontier, mode)
        assume(source is not None)
        assert source is not None
        check(source, "anna", [SONG, OTHER])
        check_features(SpotifyFeatures(source), [SONG, OTHER])
        source.close()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], None]]:
    folder = tmp_path_factory.mktemp("tokens")
    whole = {"access_token": "of-old", "refresh_token": "refresh", "scope": SCOPES, "tunegraph_user": "anna"}

    def put_back() -> None:
        private_file(folder / "spotify-fuzz-1.json", json.dumps({**whole, "expires_at": 0}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEGRAPH_TOKENS", str(folder))
        yield put_back


@given(given_back=answers(SPOTIFY))
@fuzz
def test_spotify_in_development_mode(
    given_back: dict[str, tuple[int, bytes]], token: Callable[[], None]
) -> None:
    token()
    with answering(given_back) as frontier:
        source = spotify_source(frontier, Mode.DEVELOPMENT)
        assume(source is not None)
        assert source is not None
        for user in source.start_users():
            check(source, user, [SONG])
        check_features(SpotifyFeatures(source), [SONG])
        source.close()


@given(answers(LISTENBRAINZ))
@fuzz
def test_listenbrainz(given_back: dict[str, tuple[int, bytes]]) -> None:
    with answering(given_back) as frontier:
        chosen = ListenBrainzSettings(start_users=("anna",), api_url=f"{URL}/1")
        source = ListenBrainzSource(chosen, POLICY, frontier)
        check(source, "anna", [MBID, OTHER_MBID])
        source.close()


@given(answers(RECCOBEATS))
@fuzz
def test_reccobeats(given_back: dict[str, tuple[int, bytes]]) -> None:
    with answering(given_back) as frontier:
        provider = ReccoBeats(POLICY, frontier, f"{URL}/v1")
        check_features(provider, [SONG, OTHER])
        provider.close()


def test_the_answers_as_they_should_be_are_understood(token: Callable[[], None]) -> None:
    """Or the tests above would be about refusals alone."""
    token()
    whole = {path: (200, body(value)) for path, value in {**SPOTIFY, **LISTENBRAINZ, **RECCOBEATS}.items()}
    for mode in (Mode.EXTENDED, Mode.DEVELOPMENT):
        with answering(whole) as frontier:
            source = spotify_source(frontier, mode)
            assert source is not None
            assert len(source.liked_list("anna").likes) == 2
            assert [track.name for track in source.describe([SONG])] == ["A Song"]
            assert set(SpotifyFeatures(source).audio_features([SONG])) == {SONG}
    with answering(whole) as frontier:
        chosen = ListenBrainzSettings(api_url=f"{URL}/1")
        brainz = ListenBrainzSource(chosen, POLICY, frontier)
        assert brainz.discover("anna") == ["ben", "carla"]
        assert len(brainz.liked_list("anna").likes) == 2
        assert len(brainz.describe([MBID])) == 1
        assert set(ReccoBeats(POLICY, frontier, f"{URL}/v1").audio_features([SONG])) == {SONG}
