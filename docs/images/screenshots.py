"""Take the pictures of the Dagster UI that docs/every_day.md shows, from a running one.

make year && python docs/images/screenshots.py [data_lake/year]

It starts `dagster dev` on the lake on a free port, launches a small backfill, switches the daily refresh on,
opens the pages in Chromium, and leaves the pictures beside this file. The schedule is switched off again.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.run import dagster_home, project_file

IMAGES = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
LOCATION = "__repository__@tunegraph"
DAYS = 30
"""How many days the backfill of the picture has: the last ones of the lake."""
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": "tunegraph"}

LAUNCH = """mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {... on LaunchBackfillSuccess {backfillId}}
}"""
STATUS = (
    "query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"
)
SWITCH = """mutation ($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) {... on ScheduleStateResult {scheduleState {id selectorId}}}
}"""
OFF = """mutation ($id: String!) {stopRunningSchedule(id: $id) {__typename}}"""


def main() -> None:
    lake = Lake.open(Path(sys.argv[1] if len(sys.argv) > 1 else "data_lake/year"))
    with running_dagster(lake) as url, sync_playwright() as playwright:
        ask = asking(url)
        wait(lambda: ask("{repositoriesOrError {... on RepositoryConnection {nodes {name}}}}"))
        last = lake.raw_days()[-1]
        backfill = launch_backfill(ask, [last - timedelta(days=n) for n in range(DAYS - 1, -1, -1)])
        wait(lambda: "COMPLETED" in ask(STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        state = ask(SWITCH, selector={**SELECTOR, "scheduleName": "daily_refresh"})["startSchedule"][
            "scheduleState"
        ]
        try:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            page = browser.new_page(viewport={"width": 1600, "height": 900}, device_scale_factor=1.25)
            take_pictures(page, url, backfill)
            browser.close()
        finally:
            ask(OFF, id=state["id"])


def take_pictures(page: Page, url: str, backfill: str) -> None:
    """Each page once it has settled."""

    def shot(name: str, path: str, width: int, height: int, act: Callable[[], object] = lambda: None) -> None:
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{url}{path}")
        page.wait_for_load_state("load")
        page.wait_for_timeout(6_000)
        act()
        page.wait_for_timeout(2_000)
        page.screenshot(path=IMAGES / f"{name}.png")
        print(IMAGES / f"{name}.png")

    shot("asset_graph", "/asset-groups", 1600, 1100)
    shot("partitions", "/assets/liked_lists?view=partitions", 1500, 850)
    shot("backfill", f"/runs/b/{backfill}", 1500, 700)
    shot("schedules", "/automation", 1500, 560)


def launch_backfill(ask: Callable[..., Any], days: list[date]) -> str:
    """Have the daily tables of ``days`` filled again, as the dialog of the UI does."""
    assets = ["crawled_users", "liked_lists", "tracks", "audio_features", "feedback"]
    asked = {
        "assetSelection": [{"path": [name]} for name in assets],
        "partitionNames": [day.isoformat() for day in days],
        "title": f"{len(days)} days again",
    }
    return str(ask(LAUNCH, params=asked)["launchPartitionBackfill"]["backfillId"])


@contextmanager
def running_dagster(lake: Lake) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(lake)),
        "TUNEGRAPH_LAKE": str(lake.root.resolve()),
    }
    dagster = str(Path(sys.executable).with_name("dagster"))
    workspace = str(project_file("workspace.yaml"))
    process = subprocess.Popen(
        [dagster, "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def asking(url: str) -> Callable[..., Any]:
    def ask(query: str, **variables: object) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    return ask


def wait(look: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            if look():
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        if time.monotonic() > until:
            raise TimeoutError(f"Dagster did not come to it in {seconds:.0f} seconds")
        time.sleep(1)


if __name__ == "__main__":
    main()
