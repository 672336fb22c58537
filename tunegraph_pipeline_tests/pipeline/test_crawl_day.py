"""A lake that may keep nothing for long is crawled day by day, and knows what it may know on each of them."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.retention import remove_expired
from tunegraph_pipeline.simulator.server import SimulatorServer
from tunegraph_pipeline.simulator.world import World, WorldConfig

FIRST = date(2026, 6, 1)
TTL, REVISIT = 7, 3
DAYS = 2 * TTL + 2


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "simulator")
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", "secret")
    monkeypatch.setenv("TUNEGRAPH_TOKENS", str(tmp_path / "tokens"))


@pytest.mark.slow
def test_what_expires_is_asked_for_again_before_it_goes(tmp_path: Path) -> None:
    world = World(WorldConfig(n_users=40, n_tracks=100))
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("crawl", {"requests_per_second": 5_000, "revisit_days": REVISIT})
    lake.set_section("retention", {"ttl_days": {"spotify": TTL}})
    with SimulatorServer(world, FIRST, client_secret="secret") as server:
        addresses = {"api_url": f"{server.url}/v1", "accounts_url": server.url, "reccobeats": False}
        lake.set_section("spotify", {**addresses, "start_users": list(world.start_users())})
        asked = []
        for number in range(DAYS):
            day = FIRST + timedelta(number)
            server.day = day
            remove_expired(lake, day)
            before = server.requests.total()
            crawl_day(lake, "spotify", day, today=day)
            asked.append(server.requests.total() - before)
            fill_day(lake, day)
            liked = pl.concat(lake.read("likes", key) for key in lake.partitions("likes"))[
                "track_id"
            ].unique()
            named = lake.known_tracks("tracks", day).filter(pl.col("name").is_not_null())["track_id"]
            measured = lake.known_tracks("audio_features", day)["track_id"]
            assert set(liked) <= set(named), day
            assert set(liked) & set(world.crawl(day).features["track_id"]) <= set(measured), day
    assert min(
        date.fromisoformat(key) for key in lake.partitions("likes") if len(lake.read("likes", key))
    ) >= (day - timedelta(TTL))
    # It is asked for again when it is due, and not every day.
    assert sorted(asked)[len(asked) // 2] < asked[0] / 2
