"""The map of the page, in a real browser: what it shows, and how it is moved and asked."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tunegraph_pipeline_tests.serve.browser import DESK, PHONE, Open, Visit, context_of
from tunegraph_pipeline_tests.serve.conftest import (
    GENRES,
    N_TRACKS,
    RunningService,
    make_lake,
    small_content,
    start_service,
    track_id,
    track_name,
)

pytestmark = pytest.mark.browser

CORNERS = np.array([[0.25, 0.25], [0.75, 0.3], [0.25, 0.75], [0.75, 0.75]])

WRITTEN = """
window.written = [];
const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.clearRect = function (...box) {
  if (this.canvas.id === "map") window.written = [];
  return clearRect.apply(this, box);
};
CanvasRenderingContext2D.prototype.fillText = function (text, left, top) {
  const from = this.textAlign === "center" ? left - this.measureText(text).width / 2 : left;
  window.written.push([text, from, top - 6, from + this.measureText(text).width, top + 6]);
  return fillText.call(this, text, left, top);
};
"""
LIKE = "async (id) => (await import('./page/store.js')).store.like(id)"
LOSE = """async () => {
  const canvas = document.querySelector("canvas.points");
  const extension = canvas.getContext("webgl").getExtension("WEBGL_lose_context");
  const heard = (kind) => new Promise((done) => canvas.addEventListener(kind, done, { once: true }));
  const lost = heard("webglcontextlost");
  extension.loseContext();
  await lost;
  const restored = heard("webglcontextrestored");
  await new Promise((done) => setTimeout(done, 0));
  extension.restoreContext();
  await restored;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
NO_WEBGL = """
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return kind === "webgl" ? null : context.call(this, kind, options);
};
"""


def place(track: int) -> tuple[float, float]:
    """The songs of a scene lie around a corner of the map, eight in a row."""
    order = track // 4
    x, y = CORNERS[track % 4] + 0.02 * np.array([order % 8 - 3.5, order // 8 - 3.5])
    return float(x), float(y)


@pytest.fixture(scope="module")
def page_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    layout = np.array([place(track) for track in range(N_TRACKS)], dtype=np.float32)
    content = replace(small_content(), layout=layout)
    service = start_service(make_lake(tmp_path_factory.mktemp("map") / "lake", content))
    yield service
    service.stop()


def point_of(page: Page, track: int) -> tuple[float, float]:
    """Where a song is on the page, while the whole map is shown."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    x, y = place(track)
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def shown(seen: Visit) -> None:
    """Wait for the points of the map."""
    seen.page.locator("#map").scroll_into_view_if_needed()
    expect(seen.page.locator("#map-count")).to_have_text("240 songs")


def test_a_song_is_named_before_it_is_liked(visit: Open) -> None:
    seen = visit()
    shown(seen)
    page, card, tip = seen.page, seen.page.locator("#map-card"), seen.page.locator("#tip")
    page.mouse.move(*point_of(page, 9))
    expect(tip).to_contain_text(track_name(9))
    expect(tip).to_contain_text("Jazz")
    page.mouse.click(*point_of(page, 9))
    expect(card).to_contain_text(track_name(9))
    assert seen.liked() == []
    body = seen.after(lambda: card.locator(".like").click())
    assert body["likes"] == [track_id(9)]
    assert seen.liked() == [track_id(9)]
    # The card stays, with the focus where it was, and takes the like back.
    expect(card.locator(".like")).to_have_text("Remove")
    expect(card.locator(".like")).to_be_focused()
    seen.after(lambda: page.keyboard.press("Enter"))
    assert seen.liked() == []
    seen.after(lambda: card.locator(".dislike").click())
    expect(card.locator(".dislike")).to_have_text("Allow again")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(page.locator("#map")).to_be_focused()
    # A click on nothing closes it too, and dragging chooses nothing.
    page.mouse.click(*point_of(page, 12))
    expect(card).to_contain_text(track_name(12))
    x, y = point_of(page, 12)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    expect(card).to_contain_text(track_name(12))
    page.locator("#whole").click()
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(card).to_be_hidden()
    assert seen.complaints == []


def test_the_wheel_scrolls_the_page_until_the_map_was_clicked(visit: Open) -> None:
    seen = visit(viewport={"width": 1000, "height": 700})
    shown(seen)
    page = seen.page
    page.mouse.move(*point_of(page, 200))
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, -120)
    expect(page.locator("#map-hint")).to_be_visible()
    assert wait_for_scroll(page, before) < before
    page.locator("#map").scroll_into_view_if_needed()
    page.mouse.click(*point_of(page, 200))
    before = page.evaluate("scrollY")
    with page.expect_request(re.compile(r"/map\?at=")):  # names, which are shown from near
        for _ in range(8):
            page.mouse.wheel(0, -120)
    assert page.evaluate("scrollY") == before


def wait_for_scroll(page: Page, before: float) -> float:
    """Where the page is when it has moved, or half a second later."""
    for _ in range(20):
        now = page.evaluate("scrollY")
        if now != before:
            return float(now)
        page.wait_for_timeout(25)
    return before


def settle(page: Page) -> float:
    """Where the page is once it scrolls no more."""
    before = -1.0
    while (now := float(page.evaluate("scrollY"))) != before:
        before = now
        page.wait_for_timeout(120)
    return now


def test_two_fingers_move_the_map_and_one_the_page(browser: Browser, visit: Open) -> None:
    seen = visit(viewport=PHONE, has_touch=True, is_mobile=True)
    page = seen.page
    shown(seen)
    page.locator("#map-section").evaluate("part => part.scrollIntoView({ block: 'start' })")
    x, y = point_of(page, 30)
    page.touchscreen.tap(x, y)
    card = page.locator("#map-card")
    expect(card).to_contain_text(track_name(30))
    assert seen.liked() == []
    for one in card.locator(".acts button").all():
        box = one.bounding_box()
        assert box is not None
        assert box["height"] >= 40
    seen.after(lambda: card.locator(".like").tap())
    assert seen.liked() == [track_id(30)]
    card.locator(".close").tap()
    box = page.locator("#map").bounding_box()
    assert box is not None
    left, top = box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    before = page.evaluate("scrollY")
    touch("touchStart", (left, top))
    for step in range(1, 9):
        touch("touchMove", (left, top + 15 * step))
    touch("touchEnd")
    assert wait_for_scroll(page, before) < before
    expect(page.locator("#map-hint")).to_have_text("Two fingers move the map")
    settle(page)
    page.locator("#map-section").evaluate("part => part.scrollIntoView({ block: 'start' })")
    before = settle(page)
    with page.expect_request(re.compile(r"/map\?at=")):
        touch("touchStart", (left, top), (left + 40, top))
        for step in range(1, 16):
            touch("touchMove", (left - 5 * step, top), (left + 40 + 8 * step, top))
        touch("touchEnd")
    assert page.evaluate("scrollY") == before
    # On the whole screen one finger moves it, and the page is back where it was afterwards.
    page.locator("#large").tap()
    expect(page.locator("#large")).to_have_attribute("aria-label", "Back to the page")
    box = page.locator("#chart").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (PHONE["width"], PHONE["height"])
    page.locator("#large").tap()
    assert page.evaluate("scrollY") == before
    assert seen.complaints == []


def test_the_map_by_the_keyboard(visit: Open) -> None:
    seen = visit()
    seen.after(lambda: seen.page.evaluate(LIKE, track_id(8)))
    shown(seen)
    page, press = seen.page, seen.page.keyboard.press
    page.locator("#map").focus()
    press("n")
    first = seen.recommended()[0]
    expect(page.locator("#tip")).to_contain_text(track_name(int(first.removeprefix("track"))))
    expect(page.locator("#said")).to_contain_text(track_name(int(first.removeprefix("track"))))
    seen.after(lambda: press("Enter"))
    assert seen.liked()[0] == first
    with page.expect_request(re.compile(r"/map\?at=")):  # fitted, it is near enough for names
        press("f")
    press("0")
    expect(page.locator("#mine")).to_be_enabled()
    # A song of the list, on the map.
    seen.details("#recommendations .song:first-child")
    page.get_by_role("button", name="Show on the map").focus()
    press("Enter")
    name = page.locator("#recommendations .song .name").first.inner_text()
    expect(page.locator("#map-card")).to_contain_text(name)
    expect(page.locator("#map")).to_be_focused()
    press("Escape")
    expect(page.locator("#map-card")).to_be_hidden()
    genre = page.locator("#map-genres button", has_text="Folk")
    genre.focus()
    press("Enter")
    expect(genre).to_have_attribute("aria-pressed", "true")
    press("Enter")
    expect(genre).to_have_attribute("aria-pressed", "false")
    page.locator("#large").focus()
    press("Enter")
    expect(page.locator("#map")).to_be_focused()
    for _ in range(8):  # on the whole screen, keys stay with the map
        press("Tab")
        assert page.evaluate("document.activeElement.matches('body, #chart *')")
    page.locator("#map").focus()
    press("Escape")
    expect(page.locator("#large")).to_have_attribute("aria-label", "Map on the whole screen")
    assert seen.complaints == []


@pytest.mark.parametrize(("drawn", "scheme"), [("webgl", "light"), ("plain", "dark")])
def test_genres_have_colours_and_regions_have_names(
    browser: Browser, page_service: RunningService, drawn: str, scheme: Any
) -> None:
    with context_of(browser, viewport=DESK, color_scheme=scheme) as context:
        page = context.new_page()
        page.add_init_script(WRITTEN + (NO_WEBGL if drawn == "plain" else ""))
        page.goto(page_service.url)
        seen = Visit(page)
        shown(seen)
        names = page.locator("#map-genres button").all_text_contents()
        assert set(names) == {*GENRES, "other"}
        expect(page.locator("#map-hint")).to_be_hidden()
        for scene, genre in enumerate(GENRES):
            hue = names.index(genre) + 1
            wanted = colour(page, f"--genre-{hue}")
            assert nearest(page, scene, wanted) < 60, genre
        if drawn == "webgl":  # as when a phone sleeps
            page.evaluate(LOSE)
            assert nearest(page, 0, colour(page, f"--genre-{names.index('Rock') + 1}")) < 60
        # One genre stands out: the others are nearly gone.
        page.locator("#map-genres button", has_text="Folk").click()
        page.mouse.move(0, 0)
        folk, rock = (colour(page, f"--genre-{names.index(name) + 1}") for name in ("Folk", "Rock"))
        assert nearest(page, 2, folk) < 60
        assert nearest(page, 0, rock) > 90
        page.locator("#map-genres button", has_text="Folk").click()
        written = page.evaluate("written")
        regions = [one for one in written if one[0] in GENRES]
        assert {one[0] for one in regions} == set(GENRES)
        for place_of_one, (_, left, top, right, bottom) in enumerate(written):
            if written[place_of_one][0].isdigit():
                continue
            for _, a, b, c, d in written[:place_of_one]:
                assert right < a or left > c or bottom < b or top > d


def colour(page: Page, name: str) -> np.ndarray:
    text = page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", name)
    return np.array([int(text.strip()[start : start + 2], 16) for start in (1, 3, 5)])


def nearest(page: Page, scene: int, wanted: np.ndarray) -> float:
    """How near the colour of any pixel around a corner is to this, from 0 to 441."""
    picture = Image.open(io.BytesIO(page.locator("#map").screenshot())).convert("RGB")
    pixels = np.asarray(picture).astype(float)
    size = pixels.shape[0]
    left, top = ((CORNERS[scene] - 0.07) * size).astype(int)
    right, bottom = ((CORNERS[scene] + 0.07) * size).astype(int)
    away = np.linalg.norm(pixels[top:bottom, left:right] - wanted, axis=2)
    return float(away.min())
