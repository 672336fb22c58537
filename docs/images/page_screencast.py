"""Take the moving picture of the page that README.md shows, from a running service.

    tunegraph serve --lake LAKE &
    python docs/images/page_screencast.py http://127.0.0.1:8000 SONG SONG SONG

It types the first SONG, brings the others as lines, asks why a song is recommended, moves the map and asks
for a genre, in some twenty seconds. `page.webp` is left beside this file. Needs Pillow, which comes with
matplotlib.
"""

import io
import sys
from pathlib import Path

from page_picture import CHROMIUM, open_page
from PIL import Image
from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

PICTURE = Path(__file__).with_name("page.webp")
VIEW: ViewportSize = {"width": 1280, "height": 760}
WIDTH = 896  # of the frames
QUALITY = 48  # about 1 MB
POINTER = """() => {
  const made = document.createElement("div");
  made.id = "pointer-of-screencast";
  Object.assign(made.style, { position: "fixed", zIndex: 99, width: "22px", height: "22px",
    marginLeft: "-11px", marginTop: "-11px", borderRadius: "50%", background: "rgb(91 63 214 / 45%)",
    border: "2px solid white",
    pointerEvents: "none", left: "640px", top: "500px", boxShadow: "0 2px 8px rgb(0 0 0 / 40%)" });
  made.popover = "manual";
  made.style.inset = "auto";
  made.style.padding = "0";
  document.body.append(made);
  addEventListener("pointermove", (event) => {
    made.style.left = `${event.clientX}px`;
    made.style.top = `${event.clientY}px`;
  }, true);
}"""


class Film:
    """Frames of a page, each for as long as it is to be seen."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._frames: list[Image.Image] = []
        self._seconds: list[float] = []
        self._at = (640.0, 500.0)

    def show(self, seconds: float) -> None:
        """The page as it is now."""
        # Above a dialog, too.
        self.page.evaluate(
            "() => { const one = document.getElementById('pointer-of-screencast');"
            " if (one.matches(':popover-open')) one.hidePopover(); one.showPopover(); }"
        )
        frame = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        height = round(frame.height * WIDTH / frame.width)
        self._frames.append(frame.resize((WIDTH, height), Image.Resampling.LANCZOS))
        self._seconds.append(seconds)

    def move(self, target: Locator, steps: int = 4) -> None:
        """Move the pointer to the middle of an element."""
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        there = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.drag(there, steps)

    def drag(self, there: tuple[float, float], steps: int) -> None:
        start = self._at
        for step in range(1, steps + 1):
            share = step / steps
            self._at = tuple(a + (b - a) * share for a, b in zip(start, there, strict=True))  # type: ignore[assignment]
            self.page.mouse.move(*self._at)
            self.show(0.07)

    def click(self, target: Locator, seconds: float) -> None:
        self.move(target)
        self.page.mouse.down()
        self.page.mouse.up()
        self.page.wait_for_timeout(700)
        self.show(seconds)

    def write(self, path: Path) -> float:
        """Write the film; its seconds."""
        first, *others = self._frames
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=[round(1000 * seconds) for seconds in self._seconds],
            loop=0,
            quality=QUALITY,
            method=6,
        )
        return sum(self._seconds)


def main() -> None:
    url, song, *others = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = open_page(browser, url, VIEW, "light")
        page.evaluate(POINTER)
        film = Film(page)
        act(film, song, others)
        seconds = film.write(PICTURE)
        browser.close()
    print(f"{PICTURE}: {seconds:.0f} s, {PICTURE.stat().st_size:,} bytes")


def act(film: Film, song: str, others: list[str]) -> None:
    page = film.page
    film.show(0.8)
    film.click(page.locator("#search"), 0.1)
    for end in range(2, len(song) + 1, 2):
        page.keyboard.type(song[end - 2 : end])
        film.show(0.12)
    expect(page.locator("#found li").first).to_be_visible()
    film.show(0.5)
    film.click(page.locator("#found li").first, 1.2)
    page.keyboard.press("Escape")
    film.click(page.locator("#bring"), 0.4)
    page.fill("#sheet textarea", "\n".join(others))
    film.show(1.0)
    film.click(page.get_by_text("Find my songs"), 0.2)
    expect(page.locator(".found-count")).to_be_visible()
    film.show(1.4)
    film.click(page.locator("#sheet .row button").first, 1.4)
    film.click(page.locator("#recommendations .name").nth(1), 0.9)
    film.click(page.get_by_role("button", name="Why this?"), 1.9)
    film.click(page.get_by_role("button", name="Close"), 0.4)
    film.click(page.locator("#recommendations .name").nth(1), 0.1)
    film.click(page.locator("#recommendations .like").first, 1.0)
    film.click(page.locator("#mine"), 1.0)
    film.move(page.locator("#map"), 2)
    page.mouse.down()
    x, y = film._at
    film.drag((x - 110, y - 60), 6)
    page.mouse.up()
    film.show(1.0)
    film.click(page.locator("#options > summary"), 0.8)
    film.click(page.locator("#genres button", has_text="hip-hop").first, 1.0)
    film.click(page.locator("#options > summary"), 2.0)


if __name__ == "__main__":
    main()
