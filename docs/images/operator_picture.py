"""Take the picture of the operator page that docs/service.md shows, from a running service.

    make year
    TUNEGRAPH_API_KEY=… tunegraph serve --lake data_lake/year --operator &
    TUNEGRAPH_API_KEY=… python docs/images/operator_picture.py http://127.0.0.1:8000 USER

It looks at the overview, and asks the live bundle and the oldest that is kept for USER. Both, side by side,
are left as `operator.png` beside this file.
"""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURE = Path(__file__).with_name("operator.png")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SIZE = {"width": 1080, "height": 1000}


def main() -> None:
    url, user = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{url}/operator")
        page.fill("#key", os.environ["TUNEGRAPH_API_KEY"])
        page.press("#key", "Enter")
        go(page, "Overview")
        left = page.screenshot()
        go(page, "Playground")
        page.fill("#user", user)
        page.wait_for_selector("#user-found li")
        page.press("#user", "Enter")
        page.wait_for_selector(".song")
        page.select_option("#compared", page.locator("#compared option").last.get_attribute("value"))
        page.wait_for_selector(".across")
        page.click(".song summary >> nth=0")
        right = page.screenshot()
        browser.close()
    halves = [Image.open(io.BytesIO(half)).convert("RGB") for half in (left, right)]
    both = Image.new("RGB", (2 * SIZE["width"] + 4, SIZE["height"]), "#dcd8ea")
    for place, half in enumerate(halves):
        both.paste(half, (place * (SIZE["width"] + 4), 0))
    both.quantize(128).save(PICTURE, optimize=True)
    print(PICTURE)


def go(page: Page, title: str) -> None:
    """Show a subject, and wait for all of it."""
    page.click(f"#subjects a:text-is('{title}')")
    page.wait_for_function(
        "title => document.querySelector('#title').textContent === title"
        " && !document.querySelector('#main').hasAttribute('aria-busy')"
        " && !document.body.textContent.includes('Reading')",
        arg=title,
    )


if __name__ == "__main__":
    main()
