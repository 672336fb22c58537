"""The crawl against the simulated world over real HTTP: complete, undisturbed by faults, and safe to kill."""

import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tunegraph_pipeline.lake.raw import read_batches
from tunegraph_pipeline.lake.tables import derive_audio_features, derive_likes, derive_tracks, derive_users
from tunegraph_pipeline.simulator.server import Faults, SimulatorServer
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.crawl import Crawl, CrawlReport, CrawlSettings, Order
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.reccobeats import ReccoBeats
from tunegraph_pipeline.sources.source import (
    AskLater,
    CrawlPaused,
    FeatureProvider,
    Features,
    Like,
    LikedList,
    Track,
    Unanswered,
    feature_values,
)
from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySource
from tunegraph_pipeline.sources.spotify_login import SpotifySettings

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

DAY = date(2026, 6, 1)
WORLD = WorldConfig(n_users=80, n_tracks=200)
EVERY_FAULT = Faults(
    too_many=0.05,
    retry_after_seconds=0,
    server_error=0.05,
    bad_gateway=0.05,
    drop=0.05,
    truncate=0.05,
    bad_json=0.05,
    empty=0.05,
    null_tracks=0.05,
    local_files=0.05,
    episodes=0.05,
    token_seconds=0.5,
)
Tables = dict[str, pl.DataFrame]


@pytest.fixture(scope="module")
def world() -> World:
    return World(WORLD)


def settings(**changes: Any) -> CrawlSettings:
    return CrawlSettings(**{"requests_per_second": 5_000, "users_per_day": 10**6, **changes})


@contextmanager
def opened(
    url: str, root: Path, world: "World | Starts", day: date, chosen: CrawlSettings
) -> Iterator[Crawl]:
    with Frontier(root / "crawl" / "simulator.sqlite", day) as frontier:
        source = SpotifySource(
            SpotifySettings(start_users=tuple(world.start_users()), api_url=f"{url}/v1", accounts_url=url),
            chosen,
            frontier,
            name="simulator",
            credentials=("simulator", "simulator"),
            providers=lambda source: [
                SpotifyFeatures(source),
                ReccoBeats(chosen, frontier, f"{url}/reccobeats/v1", ceiling=5_000),
            ],
        )
        try:
            yield Crawl(source, frontier, root / "raw", chosen)
        finally:
            source.close()


def crawl(server: SimulatorServer, root: Path, day: date = DAY, **changes: Any) -> CrawlReport:
    with opened(server.url, root, server.world, day, settings(**changes)) as crawling:
        return crawling.run()


def tables(root: Path, day: date = DAY) -> Tables:
    batches = read_batches(root / "raw", day)
    return {
        "users": derive_users(batches, day).drop("depth", "discovered_from"),
        "likes": derive_likes(batches),
        "tracks": derive_tracks(batches),
        "audio_features": derive_audio_features(batches),
    }


def assert_same(one: Tables, two: Tables) -> None:
    for name, frame in one.items():
        assert frame.equals(two[name]), name


@pytest.fixture(scope="module")
def faultless(world: World, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    root = tmp_path_factory.mktemp("faultless")
    with SimulatorServer(world, DAY) as server:
        crawl(server, root)
    return tables(root)


@pytest.mark.slow
def test_crawl_finds_what_the_world_holds(world: World, faultless: Tables) -> None:
    seen = world.crawl(DAY)
    assert dict(faultless["users"].select("user_id", "state").iter_rows()) == dict(
        seen.users.select("user_id", "state").iter_rows()
    )
    pairs = ["user_id", "track_id", "liked_at"]
    assert faultless["likes"].select(pairs).equals(seen.likes.select(pairs).sort("user_id", "track_id"))
    assert set(faultless["tracks"]["track_id"]) == set(seen.likes["track_id"])


def test_providers_are_asked_in_turn_and_every_row_says_whose_it_is(world: World, faultless: Tables) -> None:
    measured = set(world.crawl(DAY).features["track_id"])
    by_provider = dict(faultless["audio_features"].group_by("provider").agg("track_id").iter_rows())
    assert set(by_provider["simulator"]) <= measured
    assert by_provider["reccobeats"]
    assert not set(by_provider["reccobeats"]) & measured
    assert set(faultless["likes"]["track_id"]) & measured == set(by_provider["simulator"])


@pytest.mark.slow
def test_tracks_nobody_has_features_of_are_counted(world: World, tmp_path: Path, faultless: Tables) -> None:
    with SimulatorServer(world, DAY, audio_features=False, reccobeats_knows=0.0) as server:
        report = crawl(server, tmp_path)
    counted: Counter[str] = Counter()
    for batch in read_batches(tmp_path / "raw", DAY):
        counted.update(batch.counts)
    known = len(tables(tmp_path)["audio_features"])
    assert counted["tracks nobody has features of"] + known == len(faultless["tracks"])
    assert len([note for note in report.notes if "audio features" in note]) == 1
    assert server.requests["/v1/audio-features", 403] <= settings().threads


@pytest.mark.slow
def test_faults_leave_no_trace_in_the_tables(world: World, tmp_path: Path, faultless: Tables) -> None:
    with SimulatorServer(world, DAY, faults=EVERY_FAULT) as server:
        report = crawl(server, tmp_path)
    assert_same(faultless, tables(tmp_path))
    assert report.counts["retries"] > 50
    assert {"too_many", "server_error", "bad_gateway", "drop", "truncate", "bad_json", "empty"} <= set(
        server.faults_made
    )
    stray = Counter[str]()
    for batch in read_batches(tmp_path / "raw", DAY):
        stray.update(batch.counts)
    assert stray["entries without a track"] > 0
    assert stray["local files"] > 0
    assert stray["podcast episodes"] > 0


class Resting:
    """A provider that asks to be left alone, until it does not."""

    name, batch_size = "resting", 40

    def __init__(self, awake: bool) -> None:
        self.awake, self.asked = awake, 0

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        self.asked += 1
        if not self.awake:
            raise AskLater("resting", datetime.now(UTC) + timedelta(hours=3), "it rests")
        return {track_id: feature_values({"energy": 0.5}) for track_id in track_ids}

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.slow
def test_a_provider_that_rests_does_not_end_the_crawl_and_is_asked_another_time(
    world: World, tmp_path: Path, faultless: Tables
) -> None:
    def crawl_with(provider: Resting) -> CrawlReport:
        with Frontier(tmp_path / "crawl" / "simulator.sqlite", DAY) as frontier:
            source = SpotifySource(
                SpotifySettings(
                    start_users=tuple(world.start_users()), api_url=f"{url}/v1", accounts_url=url
                ),
                settings(threads=1),
                frontier,
                name="simulator",
                credentials=("simulator", "simulator"),
                providers=lambda _: [provider],
            )
            with closing(source):
                return Crawl(source, frontier, tmp_path / "raw", settings(threads=1)).run()

    with SimulatorServer(world, DAY) as server:
        url = server.url
        resting = Resting(awake=False)
        report = crawl_with(resting)
        assert resting.asked == 1
        assert any("not to be asked again before" in note for note in report.notes)
        assert tables(tmp_path)["likes"].equals(faultless["likes"])
        assert not len(tables(tmp_path)["audio_features"])
        crawl_with(Resting(awake=True))
    assert set(tables(tmp_path)["audio_features"]["track_id"]) == set(faultless["likes"]["track_id"])


class Silent:
    """A source that stops answering after some users."""

    name, describe_size = "silent", 50

    def __init__(self, answers: int) -> None:
        self.left = answers

    def start_users(self) -> list[str]:
        return [f"user {number}" for number in range(400)]

    def discover(self, user_id: str) -> list[str]:
        self.left -= 1
        if self.left < 0:
            raise Unanswered("nothing but silence")
        return []

    def liked_list(self, user_id: str) -> LikedList:
        return LikedList([Like("a track")])

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        return []

    def feature_providers(self) -> list[FeatureProvider]:
        return []

    def close(self) -> None:
        """Nothing is held."""


def test_a_service_that_falls_silent_ends_the_run_and_not_every_user(tmp_path: Path) -> None:
    with Frontier(tmp_path / "crawl.sqlite", DAY) as frontier:
        with pytest.raises(CrawlPaused, match=r"failed to answer for \d+ users in a row.*check the network"):
            Crawl(Silent(answers=100), frontier, tmp_path / "raw", settings(threads=4)).run()
        states = frontier.states()
    assert states["listed"] == 100
    assert states["failed"] < 40
    assert len(tables(tmp_path)["likes"]) == 100


@pytest.mark.slow
def test_order_does_not_change_what_is_found(world: World, tmp_path: Path, faultless: Tables) -> None:
    other = Order.DEPTH_FIRST
    assert settings().order != other
    with SimulatorServer(world, DAY) as server:
        crawl(server, tmp_path, order=other)
    assert_same(faultless, tables(tmp_path))


def test_depth_first_follows_the_latest_found(world: World, tmp_path: Path) -> None:
    depth = {}
    for order in Order:
        root = tmp_path / order
        with SimulatorServer(world, DAY) as server:
            crawl(server, root, order=order, threads=1, users_per_day=30)
        visited = derive_users(read_batches(root / "raw", DAY), DAY).filter(pl.col("state") != "found")
        depth[order] = max(visited["depth"].to_list())
    assert depth[Order.DEPTH_FIRST] > depth[Order.BREADTH_FIRST]


def test_a_days_budget_of_users_is_kept_over_several_runs(world: World, tmp_path: Path) -> None:
    with SimulatorServer(world, DAY) as server:
        first = crawl(server, tmp_path, users_per_day=20)
        second = crawl(server, tmp_path, users_per_day=30)
        third = crawl(server, tmp_path, users_per_day=30)
    assert (first.users, second.users, third.users) == (20, 10, 0)


def test_a_spent_budget_of_requests_ends_the_run_and_is_said(world: World, tmp_path: Path) -> None:
    with SimulatorServer(world, DAY) as server:
        report = crawl(server, tmp_path, requests_per_day=60)
        asked = sum(n for (route, _), n in server.requests.items() if route.startswith("/v1"))
    assert asked <= 60
    assert 0 < report.users < 60
    assert any("used up" in note for note in report.notes)
    assert len(tables(tmp_path)["likes"])


@pytest.mark.slow
def test_the_same_day_again_makes_no_request(world: World, tmp_path: Path, faultless: Tables) -> None:
    with SimulatorServer(world, DAY) as server:
        crawl(server, tmp_path)
        asked = server.requests.total()
        crawl(server, tmp_path)
        again = Counter(server.requests)
    assert again.total() - asked <= 1  # a token for the new process; everything else is known
    assert_same(faultless, tables(tmp_path))


@pytest.mark.slow
def test_lists_are_looked_at_again_when_they_are_old(world: World, tmp_path: Path) -> None:
    days = [DAY, DAY + timedelta(days=3), DAY + timedelta(days=7)]
    visits = []
    with SimulatorServer(world, DAY) as server:
        for day in days:
            server.day = day
            report = crawl(server, tmp_path, day, revisit_days=7)
            visits.append(report.users)
    joined = [len(world.crawl(day).users) for day in days]
    assert visits[0] == joined[0]
    # On the fourth day nobody's list is old. On the eighth everybody's of the first day is, but who had
    # gone by then is not asked for again. Who joined meanwhile is found on a page that is read again.
    assert visits[1] == 0
    gone = (world.crawl(days[0]).users["state"] == "gone").sum()
    assert visits[2] == joined[2] - gone
    seen = world.crawl(days[2])
    pairs = ["user_id", "track_id", "liked_at"]
    assert (
        tables(tmp_path, days[2])["likes"]
        .select(pairs)
        .equals(seen.likes.select(pairs).sort("user_id", "track_id"))
    )


def test_a_long_wait_ends_the_run_keeps_what_there_is_and_is_respected(world: World, tmp_path: Path) -> None:
    with SimulatorServer(world, DAY, faults=Faults(long_wait_after=80)) as server:
        started = time.monotonic()
        with pytest.raises(CrawlPaused, match=r"not to be asked again before 20\d\d-\d\d-\d\d \d\d:\d\d UTC"):
            crawl(server, tmp_path)
        assert time.monotonic() - started < 30  # not a day; the benchmark has the figure
        assert len(tables(tmp_path)["likes"])
        asked = server.requests.total()
        with pytest.raises(Exception, match="not to be asked again before"):
            crawl(server, tmp_path)
        assert server.requests.total() == asked


def test_a_user_who_fails_is_counted_and_tried_on_another_day(world: World, tmp_path: Path) -> None:
    user = world.start_users()[0]
    with Frontier(tmp_path / "crawl" / "simulator.sqlite", DAY) as frontier:
        frontier.add_start_users([user], "simulator")
        (due,) = frontier.next_users(1, order="breadth_first", visited_before=DAY, max_failures=2)
        frontier.finish_user(due, "failed", [], [], source="simulator")
        assert frontier.next_users(1, order="breadth_first", visited_before=DAY, max_failures=2) == []
    tomorrow = DAY + timedelta(days=1)
    with Frontier(tmp_path / "crawl" / "simulator.sqlite", tomorrow) as frontier:
        (due,) = frontier.next_users(1, order="breadth_first", visited_before=DAY, max_failures=2)
        assert due.failures == 1
        frontier.finish_user(due, "failed", [], [], source="simulator")
        assert frontier.states() == {"failed": 1}
    with Frontier(tmp_path / "crawl" / "simulator.sqlite", tomorrow + timedelta(days=1)) as frontier:
        assert frontier.next_users(1, order="breadth_first", visited_before=DAY, max_failures=2) == []


class Starts:
    """As much of a world as a crawl needs to know of it."""

    def __init__(self, users: list[str]) -> None:
        self.users = users

    def start_users(self) -> list[str]:
        return self.users


def crawl_to_be_killed(url: str, root: Path, starts: list[str], ready: "Event") -> None:
    with opened(url, root, Starts(starts), DAY, settings(threads=4)) as crawling:
        ready.set()
        crawling.run()


@pytest.mark.kill
def test_killed_at_any_moment_it_goes_on_where_it_was(
    world: World, tmp_path: Path, faultless: Tables
) -> None:
    """30 kills at random moments: the same tables, and nothing asked for twice but what was in flight."""
    moments = random.Random(1)
    kills = 0
    # Children of a server that has imported everything start in no time, and die like any process.
    children = multiprocessing.get_context("forkserver")
    children.set_forkserver_preload(["tunegraph_pipeline_tests.sources.test_crawl", "spotipy"])
    with SimulatorServer(world, DAY, faults=Faults(latency_ms=3), log=True) as server:
        while True:
            ready = children.Event()
            child = children.Process(
                target=crawl_to_be_killed, args=(server.url, tmp_path, world.start_users(), ready)
            )
            child.start()
            assert ready.wait(60)
            if kills < 30:
                time.sleep(moments.random() * 0.06)
                child.kill()
                kills += 1
            child.join(120)
            if child.exitcode == 0:
                break
            assert child.exitcode == -signal.SIGKILL
        asked = Counter(entry.key for entry in server.asked if "/v1/" in entry.key)
    assert kills == 30
    assert_same(faultless, tables(tmp_path))
    repeated = sum(n - 1 for n in asked.values())
    assert repeated <= 30 * 4  # four threads a kill
    rows = sum(batch.rows.get("likes", 0) for batch in read_batches(tmp_path / "raw", DAY))
    assert rows == len(faultless["likes"])  # in the raw batches too, each like is there once
