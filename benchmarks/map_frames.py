"""Frames a second while the map of the page is dragged and zoomed, with 100,000 songs.

    tunegraph serve --lake LAKE &
    python benchmarks/map_frames.py http://127.0.0.1:8000 [--songs 100000] [--plain] [--slow 4]

Opens the page of a running service in a headless chromium, answers the map's request with so many songs that
are made up, drags the map in each frame for some seconds, and zooms. It prints frames a second, as the
browser asks for them, and what the script of a frame takes: all callbacks of requestAnimationFrame in it, and
the handlers of the mouse between.

What this shows depends on the machine. Without a graphics card, chromium draws WebGL on the processor, and
then the frames a second are those of that software, not of the page; the script's part is the page's own. A
frame of 60 a second has 16.7 ms. `--plain` has the browser refuse WebGL, for the canvas that is the fallback;
`--slow` divides the speed of the script, as a phone would.
"""

import argparse
import os
import random
import re
import shutil
import statistics
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import Page, Route, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
GENRES = [f"genre {number}" for number in range(20)]
SECONDS = 4.0

# Before the page's own scripts: how long the script of each frame takes, and when each frame begins.
COUNTING = """
window.frames_ = []; window.handlers_ = [];
const ask = window.requestAnimationFrame.bind(window);
let now = null;
window.requestAnimationFrame = (work) => ask((time) => {
  const start = performance.now();
  work(time);
  const spent = performance.now() - start;
  if (now === time) window.frames_[window.frames_.length - 1][1] += spent;
  else window.frames_.push([time, spent]);
  now = time;
});
const listen = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (kind, work, options) {
  if (kind !== "pointermove" && kind !== "wheel") return listen.call(this, kind, work, options);
  return listen.call(this, kind, function (event) {
    const start = performance.now();
    work.call(this, event);
    window.handlers_.push(performance.now() - start);
  }, options);
};
const draw = WebGLRenderingContext.prototype.drawArrays;
window.points_ = [];
WebGLRenderingContext.prototype.drawArrays = function (mode, first, n) {
  window.points_.push(n);
  draw.call(this, mode, first, n);
};
window.rawFrame_ = ask;
const every = () => { window.beats_ = (window.beats_ ?? 0) + 1; ask(every); };
ask(every);
"""
NO_WEBGL = """
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return kind === "webgl" ? null : context.call(this, kind, options);
};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("url")
    parser.add_argument("--songs", type=int, default=100_000)
    parser.add_argument("--plain", action="store_true", help="without WebGL")
    parser.add_argument("--slow", type=float, default=1, help="divide the speed of the script by this")
    parser.add_argument("--picture", type=Path, help="keep a picture of the map")
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.add_init_script(COUNTING + (NO_WEBGL if given.plain else ""))
        answer = made_up(given.songs)
        page.route("**/map/columns*", lambda route: fulfil(route, answer))
        page.goto(given.url)
        expect(page.locator("#map-count")).to_have_text(re.compile("songs"), timeout=60_000)
        page.click("#closer")
        page.wait_for_timeout(1_000)
        if given.slow != 1:
            page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": given.slow})
        renderer = page.evaluate(
            "(() => { const gl = document.createElement('canvas').getContext('webgl');"
            " const known = gl?.getExtension('WEBGL_debug_renderer_info');"
            " return known ? gl.getParameter(known.UNMASKED_RENDERER_WEBGL) : 'canvas without WebGL'; })()"
        )
        print(f"{given.songs:,} songs, drawn by: {renderer}; script slowed {given.slow:g} times")
        for name, act in (("dragging", DRAG), ("zooming", ZOOM)):
            measure(page, name, act)
        if given.picture:
            page.locator("#chart").screenshot(path=given.picture)
        browser.close()


def made_up(songs: int) -> dict[str, object]:
    """The answer of /map/columns: songs in sixty crowds, each of mostly one genre."""
    dice = random.Random(7)
    crowds = [(dice.random(), dice.random(), dice.uniform(0.01, 0.06)) for _ in range(60)]
    x, y, genre = [], [], []
    for _ in range(songs):
        number = dice.randrange(len(crowds))
        left, top, spread = crowds[number]
        x.append(round(65_535 * min(1.0, max(0.0, dice.gauss(left, spread)))))
        y.append(round(65_535 * min(1.0, max(0.0, dice.gauss(top, spread)))))
        genre.append(number % len(GENRES) if dice.random() < 0.9 else -1)
    regions = [
        {"name": GENRES[number % len(GENRES)], "x": left, "y": top, "songs": songs // len(crowds)}
        for number, (left, top, _) in enumerate(crowds[:30])
    ]
    return {"bundle_version": "made-up", "x": x, "y": y, "genre": genre, "genres": GENRES, "regions": regions}


def fulfil(route: Route, answer: dict[str, object]) -> None:
    route.fulfill(json=answer)


DRAG = """step => {
  const box = document.getElementById("map").getBoundingClientRect();
  const across = Math.abs((step * 7) % box.width - box.width / 2);
  const clientX = box.left + box.width / 4 + across;
  const clientY = box.top + box.height / 3 + across / 2;
  const move = new PointerEvent("pointermove", { pointerId: 1, clientX, clientY });
  document.getElementById("map").dispatchEvent(move);
}"""
ZOOM = """step => {
  const box = document.getElementById("map").getBoundingClientRect();
  const [clientX, clientY] = [box.left + box.width / 2, box.top + box.height / 2];
  const deltaY = Math.floor(step / 60) % 2 ? 20 : -20;
  const wheel = new WheelEvent("wheel", { deltaY, cancelable: true, clientX, clientY });
  document.getElementById("map").dispatchEvent(wheel);
}"""


def measure(page: Page, name: str, act: str) -> None:
    """Print frames a second and the script's part of a frame, in milliseconds."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    if act is ZOOM:
        page.mouse.up()  # a click gives the map the focus, with which the wheel zooms
        page.wait_for_timeout(300)
    found = page.evaluate(
        f"""seconds => new Promise((done) => {{
          const act = {act};
          frames_.length = handlers_.length = points_.length = beats_ = 0;
          const start = performance.now();
          let step = 0;
          const next = () => {{
            const passed = (performance.now() - start) / 1000;
            if (passed < seconds) {{
              act(step += 1);
              rawFrame_(next);
            }} else done({{ frames: frames_, handlers: handlers_, points: points_, beats: beats_, passed }});
          }};
          next();
        }})""",
        SECONDS,
    )
    page.mouse.up()
    spent = sorted(part for _, part in found["frames"])
    between = [later[0] - one[0] for one, later in pairwise(found["frames"])]
    print(
        f"{name}: {len(spent) / found['passed']:.0f} frames a second with the map drawn, of"
        f" {found['beats'] / found['passed']:.0f}; between two {statistics.median(between):.1f} ms (median)\n"
        f"  script of a frame: {statistics.median(spent):.2f} ms (median),"
        f" {spent[int(0.99 * (len(spent) - 1))]:.2f} ms (99 %);"
        f" a handler: {statistics.median(found['handlers']):.2f} ms"
    )
    if found["points"]:
        print(f"  points drawn in a frame: {statistics.median(found['points']):,.0f} (median)")


if __name__ == "__main__":
    main()
