"""A real `dagster dev` whose schedule takes ListenBrainz's dumps from a mirror, over three days."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.orchestration.history import dagster_home, project_file
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.simulator.dump_server import DumpServer
from tunegraph_pipeline.simulator.dumps.archives import publish
from tunegraph_pipeline_tests.dump_world import (
    SERVED,
    Plays,
    account_export,
    archive_of,
    make_world,
    number_of,
    plays,
)
from tunegraph_pipeline_tests.running_dagster import START, STOP, WHERE, Dagster, running_dagster
from tunegraph_pipeline_tests.test_cli import tunegraph

pytestmark = [pytest.mark.dagster, pytest.mark.slow, pytest.mark.nightly]

# The clock cannot be set. A dump counts for the day in its name, so the mirror goes through the last three
# days while the schedule ticks every minute: at each tick it finds the one dump that came since.
TODAY = datetime.now(UTC).date()
FULL = TODAY - timedelta(days=3)
DAYS = [FULL + timedelta(days=number) for number in (1, 2, 3)]
WORLD = make_world(FULL, (FULL.day,))
SCHEDULE = {**WHERE, "scheduleName": "daily_refresh"}
METADATA = """query ($day: [String!]) {
  assetNodeOrError(assetKey: {path: ["crawled_users"]}) {
    ... on AssetNode {
      assetMaterializations(partitions: $day) {
        metadataEntries {label ... on TextMetadataEntry {text} ... on IntMetadataEntry {intValue}}
      }
    }
  }
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DumpServer]:
    with DumpServer(tmp_path / "dumps") as running:
        yield running


@pytest.fixture
def lake(tmp_path: Path, server: DumpServer) -> Lake:
    """A lake that a first refresh took a full export into."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("training", {"dimension": 8, "epochs": 2, "encoder": "none"})
    lake.set_section("plays", {"min_plays": 2, "min_days": 1})  # a month of a small world
    lake.set_section("schedules", {"daily": "* * * * *"})
    publish(WORLD, server.folder, FULL)
    mirror = f"{server.url}/{SERVED}"
    done = tunegraph("refresh", "--source", DUMPS, "--mirror", mirror, "--months", 1, "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    return Lake.open(lake.root)


@pytest.fixture
def dagster(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dagster]:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    chosen = {"DAGSTER_HOME": str(dagster_home(lake.root)), "TUNEGRAPH_LAKE": str(lake.root)}
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w"]
    workspace = project_file("workspace.yaml")
    with running_dagster(tmp_path / "log", [*command, str(workspace)], chosen, workspace.parent) as running:
        yield running


def tick(dagster: Dagster) -> None:
    """Let the schedule tick, and wait for the run that it asks for, and for one of a tick just after."""
    before = {run["runId"] for run in dagster.runs()}
    started = dagster.ask(START, selector=SCHEDULE)["startSchedule"]
    assert started["scheduleState"]["status"] == "RUNNING", started
    dagster.wait_for("run of the schedule", lambda: dagster.runs()[len(before) :] or None)
    dagster.ask(STOP, id=started["scheduleState"]["id"])
    for run in [one["runId"] for one in dagster.runs() if one["runId"] not in before]:
        ended = dagster.ended(run)
        assert ended["tags"]["dagster/schedule_name"] == "daily_refresh"
        assert ended["status"] == "SUCCESS", dagster.errors(run)


def metadata(dagster: Dagster, day: date) -> dict[str, Any]:
    """What Dagster shows of the dumps of a day: that of the run which fetched them."""
    found = dagster.ask(METADATA, day=[str(day)])["assetNodeOrError"]["assetMaterializations"]
    shown = [
        {one["label"]: one.get("text", one.get("intValue")) for one in each["metadataEntries"]}
        for each in found
    ]
    return next(one for one in shown if one.get("dumps"))


def received_plays(lake: Lake, day: date) -> Plays:
    """What the table `plays` has of a day."""
    found: Plays = Counter()
    columns = ["user_id", "track_id", "played_on", "plays", "source"]
    for user, track, played_on, n, source in lake.read("plays", str(day), columns).iter_rows():
        if source == DUMPS:
            found[user, track, played_on] += n
    return found


@pytest.mark.timeout(1800)
def test_each_new_dump_is_live_after_a_tick_and_somebody_with_an_export_is_served(
    lake: Lake, server: DumpServer, dagster: Dagster, tmp_path: Path
) -> None:
    dumps = server.folder
    played = [FULL - timedelta(days=ago) for ago in (1, 2, 3)]
    export, theirs = account_export(lake, tmp_path / "my_spotify_data.zip", played)
    done = tunegraph("import", export, "--as-of", FULL, "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    for day in DAYS:
        publish(WORLD, dumps, day)
        tick(dagster)
        lake = Lake.open(lake.root)
        assert received_plays(lake, day) == plays(archive_of(dumps, day))
        assert lake.current_version("current_likes") == str(day)
        assert lake.row_count("likes_from_plays", str(day)) > 0
        assert Bundle.open(read_current(lake.serving)).facts["cut_off"] == str(day)
        archive = archive_of(dumps, day)
        shown = metadata(dagster, day)
        assert shown["dumps"] == f"incremental dump {number_of(dumps, day)}"
        assert shown["bytes fetched"] == archive.stat().st_size
        assert shown["rows of plays"] == len(received_plays(lake, day)) > 0

        answer = tunegraph("recommend", "--user", "me", "-k", 5, "--lake", lake.root, "--json")
        assert answer.returncode == 0, answer.stderr
        items = json.loads(answer.stdout)["items"]
        assert len(items) == 5
        assert not theirs & {item["track_id"] for item in items}
        assert all(item["reasons"] for item in items)
    assert "me" in set(lake.read("current_likes", str(TODAY), ["user_id"])["user_id"])
    assert not [path for path in server.bytes_sent_again() if path.endswith(".tar")]
