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

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.history import dagster_home, project_file

IMAGES = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SCALE = 1.25
SETTLED = 8_000
"""Milliseconds until a page shows all it has."""
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
            page = browser.new_page(viewport={"width": 1600, "height": 900}, device_scale_factor=SCALE)
            page.add_init_script("localStorage.setItem('asset-graph-direction', JSON.stringify('vertical'))")
            take_pictures(page, url, backfill, last - timedelta(days=DAYS))
            browser.close()
        finally:
            ask(OFF, id=state["id"])


def take_pictures(page: Page, url: str, backfill: str, day: date) -> None:
    """Each page once it has settled."""

    def show(path: str, width: int, height: int) -> None:
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{url}{path}")
        page.wait_for_timeout(SETTLED)

    def keep(name: str) -> None:
        page.wait_for_timeout(SETTLED)
        page.screenshot(path=IMAGES / f"{name}.png")
        print(IMAGES / f"{name}.png")

    show("/asset-groups", 2000, 2100)
    page.keyboard.press("Alt+e")  # all groups open
    page.wait_for_timeout(SETTLED)
    page.set_viewport_size({"width": 2150, "height": 2100})  # moves the buttons away from what was drawn
    keep("asset_graph")
    box = page.get_by_text("Search and filter assets").bounding_box()
    assert box is not None
    _cut_out(IMAGES / "asset_graph.png", box["x"] - 30, box["y"] + 60, margin=70)

    show(f"/assets/liked_lists?view=partitions&partition={day}", 1500, 800)
    keep("partitions")

    show(f"/runs/b/{backfill}", 1500, 620)
    keep("backfill")

    show("/automation", 1500, 560)
    keep("schedules")


def _cut_out(path: Path, left: float, top: float, margin: float) -> None:
    """Leave what is drawn right of ``left`` and below ``top``, without the buttons at the right."""
    with Image.open(path) as picture:
        region = picture.crop(
            (int(left * SCALE), int(top * SCALE), picture.width - int(margin * SCALE), picture.height)
        )
    drawn = region.convert("L").point(lambda shade: 255 if shade < 232 else 0).getbbox()
    assert drawn is not None
    pad = 20
    around = (drawn[0] - pad, drawn[1] - pad, drawn[2] + pad, drawn[3] + pad)
    region.crop(around).convert("P", palette=Image.Palette.ADAPTIVE).save(path, optimize=True)


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
        "DAGSTER_HOME": str(dagster_home(lake.root)),
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
