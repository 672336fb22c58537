"""`tunegraph refresh` from sources that are crawled: what it says, what it keeps, and what it never keeps."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import DagsterInstance

from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.simulator.server import PERSONAL_MARK, Faults, SimulatorServer
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline_tests.conftest import recorded
from tunegraph_pipeline_tests.test_cli import Done, tunegraph

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

WORLD = WorldConfig(n_users=100, n_tracks=200)
TODAY = datetime.now(UTC).date()
SECRET = "a-secret-nobody-may-see"
QUICK: dict[str, dict[str, Any]] = {
    "training": {"epochs": 1, "dimension": 8, "encoder": "none"},
    "crawl": {"requests_per_second": 5_000, "users_per_day": 10_000, "attempts": 4},
}


@pytest.fixture(scope="module")
def world() -> World:
    return World(WORLD)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def give_credentials(patch: pytest.MonkeyPatch, tokens: Path) -> None:
    patch.setenv("SPOTIPY_CLIENT_ID", "simulator")
    patch.setenv("SPOTIPY_CLIENT_SECRET", SECRET)
    patch.setenv("TUNEGRAPH_TOKENS", str(tokens))


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_credentials(monkeypatch, tmp_path / "tokens")


def lake_for(root: Path, server: SimulatorServer, source: str, **crawl: Any) -> Lake:
    """A lake whose sources are this server."""
    lake = Lake.open_or_create(root)
    for section, values in QUICK.items():
        lake.set_section(section, {**values, **(crawl if section == "crawl" else {})})
    addresses: dict[str, dict[str, Any]] = {
        "spotify": {"api_url": f"{server.url}/v1", "accounts_url": server.url, "reccobeats": False},
        "listenbrainz": {"api_url": f"{server.url}/1"},
    }
    lake.set_section(source, addresses[source])
    return lake


def spotify_server(world: World, **options: object) -> SimulatorServer:
    return SimulatorServer(world, TODAY, client_secret=SECRET, **options)  # type: ignore[arg-type]


def every_byte(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def refresh(root: Path, source: str, *more: str) -> Done:
    return tunegraph("refresh", "--lake", root, "--source", source, *more)


def start(world: World) -> list[str]:
    return [part for user in world.start_users() for part in ("--start-user", user)]


@pytest.fixture(scope="module")
def crawled(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A lake that was refreshed from a Spotify with faults, history included, and what that said."""
    folder = tmp_path_factory.mktemp("crawled")
    with (
        pytest.MonkeyPatch.context() as patch,
        spotify_server(world, faults=Faults(server_error=0.05, token_seconds=2)) as server,
        recorded(),
    ):
        give_credentials(patch, folder / "tokens")
        lake_for(folder / "lake", server, "spotify")
        done = refresh(folder / "lake", "spotify", *start(world))
    assert done.returncode == 0, done.stderr
    return folder / "lake", done


def test_refresh_from_spotify_ends_with_recommendations(world: World, crawled: tuple[Path, Done]) -> None:
    root, done = crawled
    assert "forbid training models" in done.stderr  # the terms, at first use
    likes = Lake.open(root).read("current_likes", TODAY.isoformat())
    assert likes.select("user_id", "track_id").equals(
        world.crawl(TODAY).likes.select("user_id", "track_id").sort("user_id", "track_id")
    )
    user = likes["user_id"][0]
    assert tunegraph("recommend", "--lake", root, "--user", user).returncode == 0
    assert "crawl of spotify" in tunegraph("status", "--lake", root).stdout

    for path, data in every_byte(root):
        assert SECRET.encode() not in data, path
        assert b"Bearer" not in data, path
        assert PERSONAL_MARK.encode() not in data, path
    with spotify_server(world) as server:
        lake = Lake.open(root)
        settings = lake.file.settings["spotify"]
        lake.set_section("spotify", {**settings, "api_url": f"{server.url}/v1", "accounts_url": server.url})
        again = refresh(root, "spotify")
    assert again.returncode == 0
    assert "forbid training models" not in again.stderr


def test_the_run_is_in_the_history_of_the_lake_without_a_user_or_a_secret(
    world: World, crawled: tuple[Path, Done]
) -> None:
    root, _ = crawled
    with recorded(), DagsterInstance.from_config(str(root / ".dagster")) as instance:
        (run,) = instance.get_runs()
    assert run.job_name == "refresh"
    assert run.is_success
    history = list(every_byte(root / ".dagster"))
    assert any(b"refresh" in data for _, data in history)
    for path, data in history:
        for name in [SECRET, *world.start_users()]:
            assert name.encode() not in data, path


def test_refresh_from_listenbrainz_and_of_a_past_day_that_was_kept(world: World, root: Path) -> None:
    with SimulatorServer(world, TODAY) as server:
        lake = lake_for(root, server, "listenbrainz")
        done = refresh(root, "listenbrainz", *start(world))
        assert done.returncode == 0, done.stderr
        likes = Lake.open(root).read("current_likes", TODAY.isoformat())
        listed = world.crawl(TODAY).likes.group_by("user_id").len().sort("user_id")
        assert likes.group_by("user_id").len().sort("user_id").equals(listed.cast({"len": pl.UInt32}))
        assert Lake.open(root).file.source == "listenbrainz"

        kept = lake.read("likes", TODAY.isoformat())
        # The day goes by: what was received today becomes what was received yesterday.
        yesterday = TODAY - timedelta(days=1)
        os.rename(root / "raw" / f"dt={TODAY}", root / "raw" / f"dt={yesterday}")  # noqa: PTH104
        asked = server.requests.total()
        done = refresh(root, "listenbrainz", "--date", yesterday.isoformat())
        assert done.returncode == 0, done.stderr
        assert server.requests.total() == asked
    assert lake.read("likes", yesterday.isoformat()).equals(kept)


def test_files_named_in_the_lake_are_read_again(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "likes.csv"
    file.write_text("user_id,track_id\n" + "".join(f"u{i % 9},t{i % 7}\n" for i in range(63)))
    lake = Lake.open_or_create(root)
    lake.set_section("training", QUICK["training"])
    lake.set_section("files", {"paths": [str(file)]})
    done = tunegraph("refresh", "--lake", root, "--source", "files")
    assert "files" in done.stderr
    assert len(Lake.open(root).read("current_likes", TODAY.isoformat())) == 63
    file.write_text(file.read_text() + "u10,t1\n")
    tunegraph("refresh", "--lake", root, "--source", "files")
    assert "u10" in Lake.open(root).read("users", TODAY.isoformat())["user_id"].to_list()


def complaint(done: Done) -> str:
    """The one line of a failed command; anything else fails the test."""
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("tunegraph:")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    return lines[0]


def holds_nothing(root: Path) -> bool:
    return not (root / "raw").exists() and Lake.open(root).file.source is None


def test_credentials_that_are_missing(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOTIPY_CLIENT_SECRET")
    line = complaint(refresh(root, "spotify", *start(world)))
    assert "SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET" in line
    assert holds_nothing(root)


def test_credentials_that_are_wrong(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", "wrong-" + SECRET)
    with spotify_server(world) as server:
        lake_for(root, server, "spotify")
        done = refresh(root, "spotify", *start(world))
    assert "check SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET" in complaint(done)
    assert SECRET not in done.stderr + done.stdout
    assert holds_nothing(root)


def _token(world: World, server: SimulatorServer, tokens: Path) -> None:
    tokens.mkdir()
    info = {
        "access_token": "none",
        "refresh_token": server.refresh_token,
        "expires_at": 0,
        "expires_in": 3600,
    }
    info |= {"scope": "user-library-read playlist-read-private playlist-read-collaborative"}
    info |= {"token_type": "Bearer", "tunegraph_user": world.start_users()[0]}
    (tokens / "spotify-simulato-1.json").write_text(json.dumps(info))


def test_development_mode_reads_the_library_of_who_authorised_it(
    world: World, root: Path, tmp_path: Path
) -> None:
    from tunegraph_pipeline.simulator.server import Mode

    with spotify_server(world, mode=Mode.DEVELOPMENT) as server:
        lake_for(root, server, "spotify")
        nobody = complaint(refresh(root, "spotify"))
        assert "development mode" in nobody
        assert "tunegraph login" in nobody
        _token(world, server, tmp_path / "tokens")
        refresh(root, "spotify")
        (batch,) = Lake.open(root).batches(TODAY)
        mine = world.crawl(TODAY).likes.filter(user_id=world.start_users()[0])
        assert set(batch.read("likes")["track_id"]) == set(mine["track_id"])
        server.tokens.revoke(server.refresh_token)
        (tmp_path / "tokens" / "spotify-simulato-1.json").unlink()
        (tmp_path / "tokens").rmdir()
        _token(world, server, tmp_path / "tokens")
        assert "run `tunegraph login` again" in complaint(refresh(root, "spotify"))


def test_a_start_user_who_does_not_exist(world: World, root: Path) -> None:
    with spotify_server(world) as server:
        lake_for(root, server, "spotify")
        line = complaint(refresh(root, "spotify", "--start-user", "nobody-of-that-name"))
    assert "start_users" in line
    assert not (root / "raw").exists()


def test_no_network(world: World, root: Path) -> None:
    with spotify_server(world) as server:
        lake_for(root, server, "spotify", attempts=2)
    assert "check the network" in complaint(refresh(root, "spotify", *start(world)))
    assert holds_nothing(root)


def test_a_past_day_of_a_live_source(world: World, root: Path) -> None:
    yesterday = (TODAY - timedelta(days=1)).isoformat()
    with SimulatorServer(world, TODAY) as server:
        lake_for(root, server, "listenbrainz")
        line = complaint(refresh(root, "listenbrainz", *start(world), "--date", yesterday))
        assert "the day is over" in line
        assert not server.requests
    assert holds_nothing(root)


def test_feedback_of_a_past_day_is_taken_in_without_asking_the_source_for_it(
    world: World, root: Path
) -> None:
    """Nor is the day between asked for, on which nothing was received."""
    now = datetime.now(UTC)
    with SimulatorServer(world, TODAY) as server:
        lake = lake_for(root, server, "listenbrainz")
        append(root, "w", "a new listener", [("a song", "like")], at=now - timedelta(days=2))
        done = refresh(root, "listenbrainz", *start(world))
        assert done.returncode == 0, done.stderr
    said_on = (TODAY - timedelta(days=2)).isoformat()
    assert f"feedback: 1 of {said_on}" in done.stderr
    assert lake.partitions("feedback") == [(TODAY - timedelta(days=days)).isoformat() for days in (2, 1, 0)]
    likes = lake.read("current_likes", TODAY.isoformat())
    assert likes.filter(user_id="a new listener")["track_id"].to_list() == ["a song"]
    assert lake.stale_days() == []


def test_a_wait_of_a_day_ends_the_run_and_the_next_one_asks_nothing(world: World, root: Path) -> None:
    with spotify_server(world, faults=Faults(long_wait_after=40)) as server:
        lake_for(root, server, "spotify")
        line = complaint(refresh(root, "spotify", *start(world)))
        assert f"before {date.today() + timedelta(days=1):%Y}" in line or "UTC" in line
        assert "visited and kept: " in line
        asked = server.requests.total()
        again = complaint(refresh(root, "spotify"))
        assert "not to be asked again before" in again
        assert server.requests.total() == asked
    assert (root / "raw").exists()
    assert "asked to be left alone until" in lake_status(Lake.open(root))["crawl of spotify"]
    # What was kept can be built from, though a model of so few users may not pass its check.
    tunegraph("refresh", "--lake", root, "--source", "none")
    lake = Lake.open(root)
    assert len(lake.read("likes", lake.partitions("likes")[0]))


def test_start_users_go_with_a_source_that_has_them(root: Path) -> None:
    line = complaint(refresh(root, "simulator", "--start-user", "someone"))
    assert "--start-user goes with" in line


def test_simulated_likes_are_not_mixed_with_real_ones(world: World, root: Path) -> None:
    Lake.open_or_create(root).admit_source("simulator")
    with SimulatorServer(world, TODAY) as server:
        lake_for(root, server, "listenbrainz")
        assert "mix" in complaint(refresh(root, "listenbrainz", *start(world)))
        assert not server.requests
