"""Take the picture of the page that README.md shows, from a running service.

    tunegraph serve --lake LAKE &
    python docs/images/page_picture.py http://127.0.0.1:8000 SONG [SONG ...]

It searches for each SONG, ticks the first one found, points at the first recommendation, and leaves
`page.png` beside this file. Covers are drawn here, since those of the services belong to others.
"""

import os
import shutil
import sys
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, expect, sync_playwright

PICTURE = Path(__file__).with_name("page.png")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
COVER = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 60">
<rect width="60" height="60" fill="hsl({0} 55% 30%)"/>
<circle cx="{3}" cy="{4}" r="34" fill="hsl({1} 65% 48%)"/>
<circle cx="{4}" cy="{3}" r="15" fill="hsl({2} 70% 70%)"/></svg>"""


def main() -> None:
    url, *songs = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1320, "height": 840})
        page.route(lambda address: urlsplit(address).hostname != urlsplit(url).hostname, answer_with_a_cover)
        page.goto(url)
        for song in songs:
            tick(page, song)
        page.hover("#recommendations .song:first-child")
        page.wait_for_timeout(1_000)
        page.screenshot(path=PICTURE)
        browser.close()
    print(PICTURE)


def tick(page: Page, song: str) -> None:
    """Like the first song that is found under this name, and wait for the recommendations."""
    with page.expect_response(lambda got: "/tracks?query=" in got.url):
        page.fill("#search", song)
    expect(page.locator("#found li").first).to_be_visible()
    with page.expect_response(lambda got: got.url.endswith("/recommendations")):
        page.press("#search", "Enter")
    page.press("#search", "Escape")
    page.fill("#search", "")


def answer_with_a_cover(route: Route) -> None:
    dice = blake2b(route.request.url.encode(), digest_size=5).digest()
    hues, places = [byte * 360 // 256 for byte in dice[:3]], [15 + byte * 30 // 256 for byte in dice[3:]]
    route.fulfill(body=COVER.format(*hues, *places), content_type="image/svg+xml")


if __name__ == "__main__":
    main()
