"""Several listeners on the page, in a real browser: blends and comparisons."""

import re
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from tunegraph_pipeline_tests.serve.browser import PHONE, Open, Visit
from tunegraph_pipeline_tests.serve.conftest import track_id, track_name

pytestmark = pytest.mark.browser

LIKE = "async (ids) => (await import('./page/store.js')).store.like(...ids)"
ROCK, JAZZ = [track_id(track) for track in (8, 12, 16)], [track_id(track) for track in (9, 13, 17)]


def add(seen: Visit, likes: list[str], *, said: str = "", name: str = "") -> None:
    """Paste the link of a guest, which may say a name of its own."""
    page = seen.page
    page.fill(
        "#guest-link", f"https://example.org/#likes={','.join(likes)}" + (f"&name={said}" if said else "")
    )
    page.fill("#guest-name", name)
    page.press("#guest-name", "Enter")


def asked(seen: Visit, path: str, button: str) -> dict[str, Any]:
    """Press a button; the answer of the service."""
    with seen.page.expect_response(lambda got: got.url.endswith(path)) as told:
        seen.page.click(button)
    answer: dict[str, Any] = told.value.json()
    expect(seen.page.locator("#together-result")).not_to_have_attribute("aria-busy", "true")
    return answer


@pytest.mark.parametrize("options", [{}, {"viewport": PHONE, "has_touch": True, "color_scheme": "dark"}])
def test_a_blend_says_who_each_song_is_for(visit: Open, options: dict[str, Any]) -> None:
    seen = visit(**options)
    page = seen.page
    page.evaluate(LIKE, ROCK)
    expect(page.locator("#make-blend")).to_be_disabled()
    page.fill("#guest-link", "https://example.org/#nothing")
    page.press("#guest-link", "Enter")
    expect(page.locator("#guest-note")).to_contain_text("This link has no list")
    add(seen, JAZZ, said="Anna+Berg")
    add(seen, [track_id(2), track_id(6)], name="Anton Bode")
    expect(page.locator("#members .member")).to_have_count(3)
    # Initials differ where the first letters are the same.
    assert page.locator("#members .initials").all_inner_texts() == ["MS", "AB", "AN"]
    answer = asked(seen, "/blends", "#make-blend")
    assert len(answer["items"]) == 20
    rows = page.locator("#blend .song")
    expect(rows).to_have_count(20)
    names = ["My songs", "Anna Berg", "Anton Bode"]
    for item, text in zip(
        answer["items"], page.locator("#blend .for > span:last-child").all_inner_texts(), strict=True
    ):
        assert text == ("for everybody" if len(item["for"]) == 3 else f"for {listed(item['for'])}")
    shown = page.locator(".fits dt").all_inner_texts()
    assert [text.split("\n")[-1] for text in shown] == names
    shares = [int(text.split()[0]) for text in page.locator(".fits dd").all_inner_texts()]
    worst = answer["worst_off"]
    assert shares[names.index(worst["name"])] == min(shares) == round(100 * worst["score"])
    # A like of a song of the blend is a like as any other.
    first = answer["items"][0]["track_id"]
    seen.after(lambda: rows.first.locator(".like").click())
    assert first in seen.liked()
    expect(rows.first.locator(".like")).to_have_attribute("aria-pressed", "true")
    # Guests stay, and can be sent away.
    page.reload()
    expect(page.locator("#members .member")).to_have_count(3)
    page.locator("#members .drop").last.click()
    expect(page.locator("#members .member")).to_have_count(2)
    assert seen.complaints == []


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def test_two_tastes_are_compared(visit: Open) -> None:
    seen = visit()
    page = seen.page
    page.evaluate(LIKE, ROCK)
    add(seen, [ROCK[0], *JAZZ], said="Anna")
    answer = asked(seen, "/comparisons", "#compare")
    percent = f"{round(100 * answer['likeness'])} %"
    expect(page.locator(".figure")).to_have_text(percent)
    assert seen.tracks("#together-result") == [ROCK[0]]
    expect(page.locator("#said")).to_contain_text(f"My songs and Anna are {percent} alike")
    bridges = page.locator(".bridges li")
    expect(bridges).to_have_count(len(answer["bridges"]))
    expect(bridges.first).to_contain_text(answer["bridges"][0]["a"]["name"])
    expect(bridges.first).to_contain_text(answer["bridges"][0]["b"]["name"])
    assert re.search(r"\d+ % alike", bridges.first.inner_text())
    typical = page.locator(".typical > div")
    expect(typical.last).to_contain_text("Jazz")
    assert track_name(8) in page.locator("#together-result .song").first.inner_text()
    # A service that answers no more says so, and what is there stays.
    page.route("**/comparisons", lambda route: route.abort())
    page.click("#compare")
    expect(page.locator("#together-problem")).to_contain_text("not responding")
    expect(page.locator(".figure")).to_have_text(percent)
