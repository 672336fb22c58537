"""A real `tunegraph ui`, webserver and daemon, on a lake of its own: a backfill of ten days as the UI
launches it, a schedule that ticks and brings a new version live, an alert about a run that failed, and what
its page refuses; and a bare `dagster dev` in a fresh checkout."""

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from dagster import DagsterInstance

from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import DAILY_TABLES, MAY_BE_MISSING, Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.orchestration.history import dagster_home, project_file
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.recommend.bundle import current_version
from tunegraph_pipeline_tests.run_stages import run_stages
from tunegraph_pipeline_tests.running_dagster import RUN, START, STOP, WHERE, Dagster, running_dagster

pytestmark = [pytest.mark.dagster, pytest.mark.slow]

FIRST = datetime.now(UTC).date() - timedelta(days=14)
"""Not longer ago: the tick of the schedule fills every day since."""
DAYS = [FIRST + timedelta(days=number) for number in range(10)]
RECEIVED = DAYS[:9:2]
"""The days on which lists were imported; between and after them nothing happened."""
QUICK = {"dimension": 4, "epochs": 1, "encoder": "none"}
FIRST_TAG, LAST_TAG = (f"dagster/asset_partition_range_{end}" for end in ("start", "end"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that received lists on half of ten days, and one today; nothing is filled."""
    rng = random.Random(3)
    lake = Lake.open_or_create(tmp_path_factory.mktemp("dev") / "lake")
    lake.admit_source("files")
    lake.set_section("training", QUICK)
    lake.set_section("graph", {"held_out": 0.0})  # likes by chance: no model has to foresee them
    lake.set_section("schedules", {"daily": "* * * * *"})
    lake.set_section("generations", {"epochs": 1, "steps": 1, "validation_users": 5})
    lake.set_section("comparison", {"protocols": ["weak"], "models": ["popularity"]})
    for day in [*RECEIVED, datetime.now(UTC).date()]:
        users = [(user, user % 3) for user in rng.sample(range(30), 15)]  # of three scenes
        pairs = {(f"u{user}", f"t{scene}.{rng.randrange(9)}") for user, scene in users for _ in range(6)}
        rows = [{"user_id": user, "track_id": track, "liked_at": None} for user, track in sorted(pairs)]
        likes = pl.DataFrame(rows, schema=empty_frame("likes").schema)
        write_batch(lake.raw, day, RawBatch("files", "test", likes=likes))
    return lake


@pytest.fixture(scope="module")
def twin(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same lake, without what it received today."""
    root = tmp_path_factory.mktemp("twin") / "lake"
    shutil.copytree(lake.root, root)
    shutil.rmtree(root / "raw" / f"dt={datetime.now(UTC).date()}")
    return Lake.open(root)


@pytest.fixture(scope="module")
def dagster(lake: Lake, twin: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        home = dagster_home(lake.root)
    log = tmp_path_factory.mktemp("log") / "dagster.log"
    alerts: list[dict[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    webhook = HTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    chosen = {
        "DAGSTER_HOME": str(home),
        "TUNEGRAPH_LAKE": str(lake.root),
        "TUNEGRAPH_ALERT_WEBHOOK": f"http://127.0.0.1:{webhook.server_port}/",
    }
    try:
        with running_dagster(log, [sys.executable, "-m", "tunegraph_pipeline", "ui"], chosen) as running:
            running.alerts = alerts
            yield running
    finally:
        webhook.shutdown()
        webhook.server_close()


LAUNCH = """mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}
  }
}"""
BACKFILL = """query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status error {message}}}
}"""
AGAIN = """mutation ($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: ALL_STEPS}) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}
  }
}"""
OF_A_JOB = """query ($job: String!, $tags: [ExecutionTag!]) {
  runsOrError(filter: {pipelineName: $job, tags: $tags}) {... on Runs {results {runId runConfigYaml}}}
}"""
DAYS_OF_AN_ASSET = """{
  assetNodeOrError(assetKey: {path: ["liked_lists"]}) {
    ... on AssetNode {partitionKeysByDimension {partitionKeys}}
  }
}"""
ASSETS = """{
  assetNodes {assetKey {path} jobNames freshnessStatusInfo {freshnessStatus}}
}"""


NAMES = """{
  assetNodes {metadataEntries {label ... on TextMetadataEntry {text}}}
  repositoriesOrError {
    ... on RepositoryConnection {nodes {allTopLevelResourceDetails {description}}}
  }
}"""
RELOAD = """mutation {reloadRepositoryLocation(repositoryLocationName: "tunegraph") {__typename}}"""
DAILY_ASSETS = [one.name for one in STAGES if one.daily]


@pytest.mark.timeout(1200)
def test_a_backfill_of_ten_days_is_a_handful_of_runs_and_a_tick_of_the_schedule_goes_live(
    lake: Lake, twin: Lake, dagster: Dagster
) -> None:
    nodes = dagster.ask(ASSETS)["assetNodes"]
    # What "Materialize all" in the UI sends: every asset, research and those without partitions included.
    asked = {
        "assetSelection": [node["assetKey"] for node in nodes],
        "partitionNames": [day.isoformat() for day in DAYS],
        "title": "ten days",
    }
    launched = dagster.ask(LAUNCH, params=asked)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    # Meanwhile the twin is filled day by day, in no order, and some of it twice.
    order = random.Random(5).sample(RECEIVED, len(RECEIVED))
    for day in [*order, order[0]]:
        run_stages(twin, "daily_tables", day, day)
    run_stages(twin, "refresh", RECEIVED[-1], RECEIVED[-1])

    def of_backfill() -> list[dict[str, Any]]:
        runs = [run for run in dagster.runs() if "dagster/backfill" in run["tags"]]
        assert all(run["status"] != "FAILURE" for run in runs), runs
        return runs

    # A run that fails: there is no inbox beside this lake.
    doomed = dagster.ask(RUN, selector={**WHERE, "jobName": "import_inbox"})["launchRun"]
    assert doomed["__typename"] == "LaunchRunSuccess", doomed

    def backfilled() -> str | None:
        found = dagster.ask(BACKFILL, id=launched["backfillId"])["partitionBackfillOrError"]
        assert "FAILED" not in found["status"], found
        return str(found["status"]) if found["status"].startswith("COMPLETED") else None

    assert dagster.wait_for("end of the backfill", backfilled) == "COMPLETED_SUCCESS"
    runs = of_backfill()
    days = [(run["tags"][FIRST_TAG], run["tags"][LAST_TAG]) for run in runs if FIRST_TAG in run["tags"]]
    assert days == [(FIRST.isoformat(), DAYS[-1].isoformat())]
    # All days in one run; what comes before them, what follows from them, and at last research, in one each.
    made = [dagster.materialized(run["runId"]) for run in runs]
    # Where the daemon looks after the last plays and before the end of that run, what these make liked has a
    # run too.
    assert len([assets for assets in made if set(assets) != {"likes_from_plays"}]) <= 4
    assert set(made[-1]) == {"model_comparison", "v1_model", "v2_model", "v3_seed_model"}
    assert made[-2][-1] == "retention"
    assert "serving_bundle" in made[-2]
    _assert_equal_up_to(DAYS[-1], lake, twin)

    # Only now: a tick in between would bring the lake to today before the backfill is done with it.
    selector = {**WHERE, "scheduleName": "daily_refresh"}
    started = dagster.ask(START, selector=selector)["startSchedule"]
    assert started["scheduleState"]["status"] == "RUNNING", started

    def ticked() -> dict[str, Any] | None:
        by_schedule = [run for run in dagster.runs() if "dagster/schedule_name" in run["tags"]]
        assert all(run["status"] not in {"FAILURE", "CANCELED"} for run in by_schedule), by_schedule
        return by_schedule[0] if by_schedule and by_schedule[0]["status"] == "SUCCESS" else None

    run = dagster.wait_for("run of the schedule", ticked)
    dagster.ask(STOP, id=started["scheduleState"]["id"])
    today = run["tags"][LAST_TAG]
    assert today == lake.raw_days()[-1].isoformat()
    assert (lake.current_version("current_likes"), lake.stale_days()) == (today, [])
    live = current_version(lake.serving)
    assert live != current_version(twin.serving)
    status = {
        node["assetKey"]["path"][0]: node["freshnessStatusInfo"] for node in dagster.ask(ASSETS)["assetNodes"]
    }
    assert status["serving_bundle"] is not None

    alert = dagster.wait_for("alert", lambda: dagster.alerts[0] if dagster.alerts else None)
    assert (alert["job"], alert["run_id"]) == ("import_inbox", doomed["run"]["runId"])
    assert alert["error"].startswith("there is no inbox at")
    assert len(dagster.alerts) == 1


@pytest.mark.timeout(1200)
def test_days_begin_with_the_lake_and_a_run_without_one_fills_today(lake: Lake, dagster: Dagster) -> None:
    (dimension,) = dagster.ask(DAYS_OF_AN_ASSET)["assetNodeOrError"]["partitionKeysByDimension"]
    today = str(datetime.now(UTC).date())
    assert (dimension["partitionKeys"][0], dimension["partitionKeys"][-1]) == (str(FIRST), today)

    run = dagster.ended(dagster.launch("daily_tables"))
    assert run["status"] == "SUCCESS"
    assert run["tags"]["dagster/partition"] == today
    assert "liked_lists" in dagster.materialized(run["runId"])


@pytest.mark.nightly  # `test_assets` refuses the same, and the next test has a line
@pytest.mark.timeout(1200)
def test_what_is_wrong_in_the_launchpad_is_a_line(dagster: Dagster) -> None:
    asked = {"ops": {"crawled_users": {"config": {"first": "yesterday"}}}}
    run = dagster.ended(dagster.launch("daily_tables", config=asked))
    assert run["status"] == "FAILURE"
    error, *skipped = dagster.errors(run["runId"])  # Dagster names the steps it skips
    assert all(one.startswith("Dependencies for step") for one in skipped)
    assert error.startswith("first 'yesterday' is not a day; write it as YYYY-MM-DD")
    assert "\n" not in error


@pytest.mark.timeout(1200)
def test_a_day_to_come_is_a_line(dagster: Dagster) -> None:
    run = dagster.ended(
        dagster.launch("daily_tables", tags=[{"key": "dagster/partition", "value": "2999-01-01"}])
    )
    assert run["status"] == "FAILURE"
    (error,) = dagster.errors(run["runId"])
    assert error.startswith("2999-01-01 is outside the days of the lake")
    # Dagster's daemon adds the tag a moment after the end of the run.
    marked = dagster.wait_for(
        "whether it is retried", lambda: dagster.ended(run["runId"])["tags"].get("dagster/will_retry")
    )
    assert marked == "false"


@pytest.mark.timeout(1200)
def test_a_run_of_the_command_line_is_found_under_its_job_and_can_be_repeated(
    lake: Lake, dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(lake.history))
    run_job(lake, "daily_tables", FIRST, FIRST, {"crawled_users": {"retries": 0}})
    label = {"key": ".dagster/repository", "value": "__repository__@tunegraph"}
    (latest, *_) = dagster.ask(OF_A_JOB, job="daily_tables", tags=[label])["runsOrError"]["results"]
    assert latest["runId"] == dagster.runs()[-1]["runId"]
    assert str(lake.root) not in latest["runConfigYaml"]
    launched = dagster.ask(AGAIN, run=latest["runId"])["launchRunReexecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    again = dagster.ended(launched["run"]["runId"])
    assert again["status"] == "SUCCESS", dagster.errors(again["runId"])
    assert again["tags"][FIRST_TAG] == str(FIRST)


FOREIGN_PAGE = """<!doctype html><script>
const graphql = "http://127.0.0.1:%(port)d/graphql";
const mutation = 'mutation {deletePipelineRun(runId: "%(run)s") {__typename}}';
const address = graphql + "?query=" + encodeURIComponent(mutation);
const body = JSON.stringify({query: mutation});
const asked = (how) => fetch(how.method ? graphql : address, how).then(() => "sent", () => "refused");
const image = new Promise((told) => {
  const picture = new Image();
  picture.onerror = picture.onload = told;
  picture.src = address;
});
const socket = new Promise((told) => {
  const opened = new WebSocket(graphql.replace("http", "ws"), "graphql-ws");
  opened.onopen = () => told("opened");
  opened.onerror = () => told("refused");
});
(async () => {
  await image;
  await asked({mode: "no-cors"});
  await asked({method: "POST", mode: "no-cors", body});
  const json = await asked({method: "POST", headers: {"Content-Type": "application/json"}, body});
  document.title = `json ${json}, socket ${await socket}`;
})();
</script>"""


@pytest.mark.browser
@pytest.mark.timeout(1200)
def test_the_page_works_in_a_browser_and_a_foreign_page_reaches_nothing_of_it(dagster: Dagster) -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None and not (os.environ.get("TUNEGRAPH_REQUIRE_BROWSER") or os.environ.get("CI")):
        pytest.skip("no chromium here: apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    # A run to be shown, and for the foreign page to delete; those of a backfill are not in the list of runs.
    runs = [one["runId"] for one in dagster.runs() if "dagster/backfill" not in one["tags"]]
    run = runs[0] if runs else dagster.launch("import_inbox")
    dagster.ended(run)

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = (FOREIGN_PAGE % {"port": dagster.port, "run": run}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    elsewhere = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    answers: list[tuple[str, int]] = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{dagster.port}/runs/{run}")
            with page.expect_websocket() as socket:  # a run's log is followed through it
                page.reload()
            socket.value.wait_for_event("framereceived")
            page.goto(f"http://127.0.0.1:{dagster.port}/runs")
            expect(page.get_by_text(run[:8]).first).to_be_visible(timeout=60_000)

            page.goto("about:blank")  # which ends what the page of Dagster had asked for
            page.on("response", lambda answer: answers.append((answer.url, answer.status)))
            page.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
            page.wait_for_function("document.title")
            assert page.title() == "json refused, socket refused"
            asked = [status for address, status in answers if f":{dagster.port}/" in address]
            assert set(asked) <= {403, 405}, asked
            browser.close()
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()
    # The same without a browser, which would itself keep some of it back.
    mutation = f'mutation {{deletePipelineRun(runId: "{run}") {{__typename}}}}'
    address = f"/graphql?query={quote(mutation)}"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    statuses = []
    for method, headers in [
        ("GET", {}),
        ("POST", {"Content-Type": "text/plain"}),
        ("POST", {"Content-Type": "application/json", "Origin": "http://evil.example"}),
        ("POST", {"Content-Type": "application/json", "Host": "evil.example"}),
        ("GET", {**upgrade, "Origin": "http://evil.example"}),
        ("GET", {**upgrade, "Origin": f"http://127.0.0.1:{dagster.port}"}),
    ]:
        connection = http.client.HTTPConnection("127.0.0.1", dagster.port, timeout=60)
        connection.request(method, address, headers=headers)
        statuses.append(connection.getresponse().status)
        connection.close()
    assert statuses == [405, 415, 403, 403, 403, 101]
    assert run in {one["runId"] for one in dagster.runs()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git has of a fresh checkout, as far as `dagster dev` reads it in its working directory."""
    folder = tmp_path / "checkout"
    (folder / "data_lake").mkdir(parents=True)
    project = project_file("workspace.yaml").parent
    for name in ("workspace.yaml", "dagster.yaml", ".gitignore", "data_lake/.gitkeep"):
        shutil.copyfile(project / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All"]):
        _git(folder, *command)
    return folder


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.nightly  # `test_history` and `test_resources` have its parts
@pytest.mark.timeout(1200)
def test_a_fresh_checkout_shows_the_demo_and_keeps_its_history_there(checkout: Path, tmp_path: Path) -> None:
    """With nothing in the environment, and although `data_lake/main` comes into being meanwhile."""
    demo = Lake.open_or_create(checkout / "data_lake" / "demo")
    demo.set_section("simulator", {"over_http": False, "n_users": 30, "n_tracks": 60})
    days = [datetime.now(UTC).date() - timedelta(days=ago) for ago in (1, 0)]
    crawl_day(demo, "simulator", days[0])
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", "workspace.yaml"]
    with running_dagster(tmp_path / "log", command, {}, checkout) as dagster:
        assert "The lake is data_lake/demo. Its history stays in " in dagster.log.read_text()
        main = Lake.open_or_create(checkout / "data_lake" / "main")
        for reloaded in (False, True):
            if reloaded:
                assert (
                    dagster.ask(RELOAD)["reloadRepositoryLocation"]["__typename"] == "WorkspaceLocationEntry"
                )
            told = dagster.ask(NAMES)
            named = [
                {entry["label"]: entry.get("text") for entry in node["metadataEntries"]}["lake"]
                for node in told["assetNodes"]
            ]
            assert set(named) == {"data_lake/demo"}
            ((resource,),) = [
                one["allTopLevelResourceDetails"] for one in told["repositoriesOrError"]["nodes"]
            ]
            assert resource["description"].startswith("The lake data_lake/demo, ")

        by_hand = dagster.launch("daily_tables")
        assert dagster.ended(by_hand)["status"] == "SUCCESS"
        asked = {
            "assetSelection": [{"path": [name]} for name in DAILY_ASSETS],
            "partitionNames": [str(day) for day in days],
        }
        launched = dagster.ask(LAUNCH, params=asked)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        dagster.wait_for("run of the backfill", lambda: dagster.runs()[1:] or None)
        (_, backfilled) = [run["runId"] for run in dagster.runs()]
        assert dagster.ended(backfilled)["status"] == "SUCCESS"
        assert _git(checkout, "status", "--porcelain") == ""

    assert demo.partitions("likes") == [str(day) for day in days]
    assert (main.raw_days(), main.partitions("likes"), main.history.exists()) == ([], [], False)
    home = dagster_home(demo.root)  # that of `tunegraph ui`
    with DagsterInstance.from_config(str(home)) as instance:
        assert {run.run_id for run in instance.get_runs()} == {by_hand, backfilled}
    assert {folder.name for folder in (home / "storage").iterdir()} >= {
        by_hand,
        backfilled,
    }  # what they printed
    assert _git(checkout, "status", "--porcelain") == ""


def _assert_equal_up_to(last: date, lake: Lake, twin: Lake) -> None:
    """Tables and graph as of ``last`` are the same; days between are there, and empty."""
    days = [day.isoformat() for day in DAYS]
    for table in (table for table in DAILY_TABLES if table not in MAY_BE_MISSING):
        assert lake.partitions(table)[: len(days)] == days
        for key in days:
            if key in twin.partitions(table):
                mine, other = (one.table_path(table, key).read_bytes() for one in (lake, twin))
                assert mine == other, (table, key)
            else:
                assert not len(lake.read(table, key))
    cut_off = twin.current_version("current_likes")
    pair = ["user_id", "track_id"]
    for table in ("current_likes", "current_dislikes"):
        assert (
            lake.read(table, cut_off)
            .select(pair)
            .sort(pair)
            .equals(twin.read(table, cut_off).select(pair).sort(pair))
        )
    assert _edges(lake, cut_off) == _edges(twin, cut_off)


def _edges(lake: Lake, cut_off: str) -> set[tuple[int, str]]:
    """The like graph as of the cut-off: user, by the order of their names, and track id."""
    (folder,) = (lake.root / "like_graph").glob(f"{cut_off}-*")
    graph = LikeGraph.from_arrays(ArrayFolder.open(folder))
    users = np.repeat(np.arange(graph.n_users), np.diff(graph.indptr)).tolist()
    ids = known_track_ids(lake)  # an index follows arrival
    return set(zip(users, ids.gather(graph.indices).to_list(), strict=True))
