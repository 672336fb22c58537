"""Take the picture of the page that README.md shows, from a running service.

    tunegraph serve --lake LAKE &
    python docs/images/page_picture.py http://127.0.0.1:8000 SONG [SONG ...]

It searches for each SONG, ticks the first one found, and leaves `page.png` beside this file: the page on a
desk in light, and on a phone in dark. Covers are drawn here, since those of the services belong to others.
"""

import base64
import os
import shutil
import sys
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Route, ViewportSize, expect, sync_playwright

PICTURE = Path(__file__).with_name("page.png")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
DESK: ViewportSize = {"width": 1360, "height": 850}
PHONE: ViewportSize = {"width": 390, "height": 800}
COVER = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 60">
<rect width="60" height="60" fill="hsl({0} 55% 30%)"/>
<circle cx="{3}" cy="{4}" r="34" fill="hsl({1} 65% 48%)"/>
<circle cx="{4}" cy="{3}" r="15" fill="hsl({2} 70% 70%)"/></svg>"""
BOTH = """<style>
  body {{ margin: 0; width: 1500px; height: 900px; position: relative;
         background: #e6e0fb }}
  img {{ position: absolute; display: block; box-shadow: 0 24px 70px rgb(40 20 90 / 30%) }}
  .desk {{ right: 36px; top: 36px; width: 1310px; border-radius: 16px }}
  .phone {{ left: 36px; bottom: 26px; width: 262px; border: 7px solid #0b0910; border-radius: 34px }}
</style><img class="desk" src="{desk}"><img class="phone" src="{phone}">"""


def main() -> None:
    url, *songs = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        desk = open_page(browser, url, DESK, "light")
        for song in songs:
            tick(desk, song)
        desk.hover("#recommendations .song:first-child")
        phone = open_page(browser, url, PHONE, "dark")
        for song in songs:
            tick(phone, song)
        phone.evaluate("scrollTo(0, 0)")
        phone.locator("#recommendations .name").nth(1).click()
        both = browser.new_page(viewport={"width": 1500, "height": 900})
        both.set_content(BOTH.format(desk=as_link(desk), phone=as_link(phone)))
        both.screenshot(path=PICTURE)
        browser.close()
    print(PICTURE)


def open_page(browser: Browser, url: str, viewport: ViewportSize, scheme: str) -> Page:
    """The page with covers, which are drawn here."""
    page = browser.new_page(viewport=viewport, color_scheme="dark" if scheme == "dark" else "light")
    page.route(lambda address: urlsplit(address).hostname != urlsplit(url).hostname, answer_with_a_cover)
    page.goto(url)
    expect(page.locator("#recommendations .song").first).to_be_visible()
    return page


def as_link(page: Page) -> str:
    page.wait_for_timeout(1_000)
    return "data:image/png;base64," + base64.b64encode(page.screenshot()).decode()


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
