"""What the crawl relies on, for every source there is; those of the web over real HTTP."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import requests

from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.lake.storage import private_file
from tunegraph_pipeline.pipeline.sources import CRAWLED, open_source
from tunegraph_pipeline.simulator.server import Faults, Mode, SimulatorServer
from tunegraph_pipeline.simulator.source import SimulatorSettings
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.crawl import _frame, _microseconds
from tunegraph_pipeline.sources.files import FileSource
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.listenbrainz import ListenBrainzSettings, ListenBrainzSource
from tunegraph_pipeline.sources.reccobeats import ReccoBeats
from tunegraph_pipeline.sources.source import (
    FeatureProvider,
    LikedList,
    Refusal,
    Source,
    Track,
    UserGone,
    UserPrivate,
)
from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySource
from tunegraph_pipeline.sources.spotify_login import SCOPES, SpotifySettings

# spotipy marks what Spotify took from new apps; pytest undoes how the source silences that.
pytestmark = pytest.mark.filterwarnings("ignore:You're using:DeprecationWarning")

DAY = date(2026, 6, 1)
CONFIG = WorldConfig(n_users=120, n_tracks=300, likes_per_user=25, twins=0.2)
POLICY = RequestPolicy(requests_per_second=10_000)
STRAY = Faults(null_tracks=0.1, local_files=0.1, episodes=0.1)
UNKNOWN = "0" * 22
UNKNOWN_MBID = "00000000-0000-4000-8000-000000000000"


@dataclass
class Case:
    """A source, and what is known of the world behind it.

    ``private``: users who show nothing; ``gone`` and ``unknown``: a user and a track that are not there.
    ``discovers``: users lead to others; ``over_http``: a service is asked; ``theirs``: what a user likes and
    when, None where that is not known.
    """

    name: str
    open: Callable[[Path], Source]
    source: Source
    requests: Callable[[Source], int]
    private: list[str]
    gone: str
    unknown: str
    discovers: bool
    over_http: bool
    theirs: Callable[[str], dict[str, int]] | None


@pytest.fixture(scope="module")
def world() -> World:
    return World(CONFIG)


def spotify(
    server: SimulatorServer, world: World, path: Path, closing: ExitStack, start: list[str]
) -> SpotifySource:
    frontier = closing.enter_context(Frontier(path, DAY))
    return SpotifySource(
        SpotifySettings(start_users=tuple(start), api_url=f"{server.url}/v1", accounts_url=server.url),
        POLICY,
        frontier,
        credentials=("simulator", "simulator"),
        providers=lambda source: [
            SpotifyFeatures(source),
            ReccoBeats(POLICY, frontier, f"{server.url}/reccobeats/v1"),
        ],
    )


CASES = ["spotify extended", "spotify development", "listenbrainz", "files", "simulator"]


def test_every_source_has_a_case() -> None:
    assert {name.partition(" ")[0] for name in CASES} == set(CRAWLED), "add it to CASES, and to `case`"


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("case")
    seen = world.crawl(DAY)
    states = {
        state: seen.users.filter(pl.col("state") == state)["user_id"].to_list()
        for state in ("listed", "private", "gone")
    }
    start = [*world.start_users(), *states["private"]]
    gone = states["gone"][0]
    with ExitStack() as closing:
        patch = closing.enter_context(pytest.MonkeyPatch.context())
        server = closing.enter_context(
            SimulatorServer(
                world,
                DAY,
                mode=Mode.DEVELOPMENT if request.param == "spotify development" else Mode.EXTENDED,
                faults=STRAY,
                covers=True,
                refresh_tokens={f"refresh-{user}": user for user in world.start_users()},
            )
        )

        def asked(source: Source) -> int:
            return sum(server.requests.values())

        def theirs(user: str) -> dict[str, int]:
            return dict(world.liked(user, DAY))

        private: list[str] = states["private"]
        # What holds of a new source too; its branch below opens it, and says what does not.
        unknown, discovers, over_http = UNKNOWN, True, True
        known: Callable[[str], dict[str, int]] | None = theirs
        if request.param == "spotify extended":

            def open_one(path: Path) -> Source:
                return spotify(server, world, path, closing, start)

        elif request.param == "spotify development":
            patch.setenv("TUNEGRAPH_TOKENS", str(folder / "tokens"))
            for number, user in enumerate(world.start_users()):
                token = {
                    "access_token": "of-old",
                    "expires_at": 0,
                    "refresh_token": f"refresh-{user}",
                    "scope": SCOPES,
                    "token_type": "Bearer",
                }
                private_file(folder / "tokens" / f"spotify-simulato-{number}.json", json.dumps(token))
            private, discovers = [], False

            def open_one(path: Path) -> Source:
                return spotify(server, world, path, closing, [])

        elif request.param == "listenbrainz":
            private, unknown = [], UNKNOWN_MBID
            known = None  # it has one id for the two releases of a song

            def open_one(path: Path) -> Source:
                frontier = closing.enter_context(Frontier(path, DAY))
                settings = ListenBrainzSettings(start_users=tuple(start), api_url=f"{server.url}/1")
                return ListenBrainzSource(settings, POLICY, frontier)

        elif request.param == "files":
            discovers = over_http = False
            users = seen.users.filter(pl.col("state") != "gone").with_columns(
                pl.col("state").replace("private", "failed")
            )
            batch = RawBatch("files", "test", users, seen.likes, seen.tracks, seen.features)

            def open_one(path: Path) -> Source:
                return FileSource([], [batch])

        elif request.param == "simulator":
            settings = SimulatorSettings(**CONFIG.model_dump(), server=STRAY.model_dump())

            def open_one(path: Path) -> Source:
                frontier = closing.enter_context(Frontier(path, DAY))
                return open_source("simulator", lambda *_: settings, POLICY, frontier, DAY)  # type: ignore[arg-type]

            def asked(source: Source) -> int:
                assert isinstance(source, SpotifySource)
                summary = requests.get(source.settings.accounts_url + "/simulator", timeout=30).json()
                by_route: dict[str, int] = summary["by_route"]
                return sum(count for route, count in by_route.items() if route.startswith("/v1/"))

        else:
            pytest.fail(f"say above how {request.param} is opened")

        source = open_one(folder / "one.sqlite")
        closing.callback(source.close)
        yield Case(
            request.param, open_one, source, asked, private, gone, unknown, discovers, over_http, known
        )


def visible(case: Case, count: int = 10) -> list[str]:
    """Some users whose page can be seen, found as a crawl finds them."""
    queue, seen = list(case.source.start_users()), []
    for user in queue:
        try:
            queue += [one for one in case.source.discover(user) if one not in queue]
        except (UserGone, UserPrivate):
            continue
        seen.append(user)
        if len(seen) == count:
            break
    return seen


def liked_tracks(case: Case) -> list[str]:
    lists = [case.source.liked_list(user) for user in visible(case)]
    return list(dict.fromkeys(like.track_id for liked in lists for like in liked.likes))


def assert_sound(liked: LikedList) -> None:
    ids = [like.track_id for like in liked.likes]
    assert all(isinstance(track_id, str) and track_id for track_id in ids)
    assert len(set(ids)) == len(ids)
    for like in liked.likes:
        assert like.liked_at is None or like.liked_at.utcoffset() == timedelta(0)
    described = [track.track_id for track in liked.described]
    assert len(set(described)) == len(described)
    assert set(described) <= set(ids)
    assert all(isinstance(count, int) and count > 0 for count in liked.counts.values())
    # And they are the rows the lake takes.
    rows = [["user", like.track_id, _microseconds(like.liked_at)] for like in liked.likes]
    assert len(_frame("likes", rows)) == len(ids)
    assert len(_frame("tracks", [list(track) for track in liked.described])) == len(described)


def test_is_a_source_with_a_name(case: Case) -> None:
    assert isinstance(case.source, Source)
    assert case.source.name == case.name.partition(" ")[0]
    assert case.source.describe_size >= 1


def test_start_users_are_there_and_distinct(case: Case) -> None:
    users = case.source.start_users()
    assert users
    assert all(isinstance(user, str) and user for user in users)
    assert len(set(users)) == len(users)
    assert case.source.start_users() == users


def test_discover_never_leads_back_and_never_twice_to_one(case: Case) -> None:
    found = {user: case.source.discover(user) for user in visible(case)}
    for user, others in found.items():
        assert user not in others
        assert len(set(others)) == len(others)
        assert all(isinstance(other, str) and other for other in others)
    assert any(found.values()) == case.discovers


def test_liked_list_is_whole_and_sound(case: Case) -> None:
    users = visible(case)
    for user in users:
        liked = case.source.liked_list(user)
        assert_sound(liked)
        if case.theirs is not None:
            theirs = case.theirs(user)
            assert {like.track_id for like in liked.likes} == set(theirs)
            for like in liked.likes:
                assert like.liked_at is not None
                assert int(like.liked_at.astimezone(UTC).timestamp()) == theirs[like.track_id]
    assert any(case.source.liked_list(user).likes for user in users)


def test_users_who_are_gone_or_private_are_refused(case: Case) -> None:
    for user in (case.gone, "nobody by this name"):
        with pytest.raises(UserGone):
            case.source.liked_list(user)
        if case.name != "spotify development":  # where nobody leads to anybody
            with pytest.raises(UserGone):
                case.source.discover(user)
    for user in case.private:
        with pytest.raises(UserPrivate):
            case.source.liked_list(user)


def test_describe_says_what_was_asked_and_leaves_out_the_unknown(case: Case) -> None:
    wanted = liked_tracks(case)[: case.source.describe_size - 1]
    described = case.source.describe([case.unknown, *wanted])
    assert sorted(track.track_id for track in described) == sorted(wanted)
    assert case.source.describe([case.unknown]) == []
    assert len(case.source.describe([wanted[0]])) == 1
    assert all(isinstance(track, Track) and track.name and track.artists for track in described)
    assert len(_frame("tracks", [list(track) for track in described])) == len(described)


def test_describe_and_the_listing_say_the_same(case: Case) -> None:
    user = visible(case)[0]
    listed = {track.track_id: track for track in case.source.liked_list(user).described}
    described = case.source.describe(list(listed)[: case.source.describe_size])
    for track in described:
        there = listed[track.track_id]
        for name, value in there._asdict().items():
            assert value in (None, getattr(track, name)), name


def providers(case: Case) -> list[FeatureProvider]:
    return case.source.feature_providers()


def test_providers_know_eleven_features_of_some_and_leave_out_the_rest(case: Case) -> None:
    tracks = liked_tracks(case)
    chain = providers(case)
    assert len({provider.name for provider in chain}) == len(chain)
    for provider in chain:
        assert isinstance(provider, FeatureProvider)
        if case.name == "spotify development" and provider.name == "spotify":
            continue  # refused, see test_spotify
        asked = [UNKNOWN, *tracks][: provider.batch_size]
        found = provider.audio_features(asked)
        assert found
        assert set(found) <= set(tracks)
        for values in found.values():
            assert tuple(values) == AUDIO_FEATURES
            assert all(value is None or isinstance(value, float) for value in values.values())
        rows = [[track_id, *values.values()] for track_id, values in found.items()]
        assert len(_frame("features", rows)) == len(found)
        assert provider.audio_features([UNKNOWN]) == {}


def test_batch_sizes_are_the_most_a_service_takes(case: Case) -> None:
    tracks = [f"{number:022d}" for number in range(2_000)]
    chain = [one for one in providers(case) if (case.name, one.name) != ("spotify development", "spotify")]
    for provider in chain:
        assert provider.audio_features(tracks[: provider.batch_size]) == {}
        if case.over_http:
            with pytest.raises(Refusal):
                provider.audio_features(tracks[: provider.batch_size + 1])
    if case.name in ("spotify extended", "simulator"):
        assert case.source.describe(tracks[: case.source.describe_size]) == []
        with pytest.raises(Refusal):
            case.source.describe(tracks[: case.source.describe_size + 1])


def everything(source: Source, users: list[str], tracks: list[str]) -> list[Any]:
    answers: list[Any] = [source.start_users()]
    for user in users:
        answers += [source.discover(user), source.liked_list(user)]
    answers.append(source.describe(tracks[: source.describe_size]))
    for provider in source.feature_providers():
        try:
            answers.append(provider.audio_features(tracks[: provider.batch_size]))
        except Refusal as refused:
            answers.append(str(refused))
    return answers


def test_asking_twice_on_a_day_costs_nothing(case: Case) -> None:
    users, tracks = visible(case, 3), liked_tracks(case)
    first = everything(case.source, users, tracks)
    before = case.requests(case.source)
    assert everything(case.source, users, tracks) == first
    assert case.requests(case.source) == before


@pytest.mark.slow
def test_threads_share_it_and_closing_lets_go(case: Case, tmp_path: Path) -> None:
    users, tracks = visible(case, 5), liked_tracks(case)
    expected = everything(case.source, users, tracks)
    source = case.open(tmp_path / "threads.sqlite")
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: everything(source, users, tracks), range(8)))
        assert answers == [expected] * 8
        if isinstance(source, SpotifySource | ListenBrainzSource):
            source.session.limiter.stop_for(600)
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(source.describe, [case.unknown])
                source.close()
                with pytest.raises(Refusal):
                    waiting.result(timeout=60)
    finally:
        source.close()
    source.close()  # twice is as good as once
    if case.over_http:
        with pytest.raises(Refusal):
            source.describe([case.unknown.replace("0", "1")])
