"""Tuning recommendations on the page, in a real browser: filters, their cost, what does not come again."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from tunegraph_pipeline_tests.serve.browser import PHONE, Open, Visit
from tunegraph_pipeline_tests.serve.conftest import track_id

pytestmark = pytest.mark.browser


def asked(seen: Visit, act: Callable[[], object]) -> dict[str, Any]:
    """Do something and wait for the list it asks for; the body of that request."""

    def is_for_list(got: Any) -> bool:
        return bool(got.url.endswith("/recommendations") and got.request.post_data_json["k"] > 1)

    with seen.page.expect_response(is_for_list) as told:
        act()
    expect(seen.page.locator("#recommendations.loading")).to_have_count(0)
    body: Any = told.value.request.post_data_json
    assert isinstance(body, dict)
    return body


def scenes(seen: Visit) -> set[int]:
    """The numbers modulo four of the recommended songs, which is their genre: see `small_content`."""
    return {int(track.removeprefix("track")) % 4 for track in seen.recommended()}


def test_songs_are_tuned_by_genre_year_and_sound(visit: Open) -> None:
    seen = visit()
    page = seen.page
    seen.unfold()
    genre = page.locator("#genres button")
    expect(genre.first).to_be_visible()
    # Searched for without its sign, and pressed by Enter.
    page.fill("#genre-search", "hip hop")
    expect(genre).to_have_count(1)
    assert asked(seen, lambda: page.press("#genre-search", "Enter"))["filters"] == {"genres": ["Hip-Hop"]}
    assert scenes(seen) == {3}
    expect(page.locator("#tuned-cost")).to_have_text("48 of 240 songs, 20 %, pass")
    jazz = page.locator("#genres button", has_text="Jazz")
    assert asked(seen, jazz.click)["filters"]["genres"] == ["Hip-Hop", "Jazz"]
    expect(jazz).to_be_focused()
    assert scenes(seen) == {1, 3}
    # A mood and a year on top; each part says how many more songs there were without it.
    calm = page.locator("[aria-label=Moods] button", has_text="calm")
    assert asked(seen, calm.click)["filters"]["moods"] == ["calm"]
    body = asked(seen, lambda: page.locator("[data-range=year] [data-side=from]").fill("2000"))
    assert body["filters"]["years"] == [2000, None]
    chips = page.locator("#tuned-chips button")
    expect(chips.locator("small").last).to_contain_text("+")
    parts = [text.split("+")[0].strip() for text in chips.all_inner_texts()]
    assert parts == ["Hip-Hop", "Jazz", "calm", "from 2000", "Clear"]
    passing = int(page.locator("#tuned-cost").inner_text().split()[0])
    more = int(chips.nth(2).locator("small").inner_text())
    expect(chips.nth(2)).to_have_attribute(
        "aria-label", f"Remove the filter: calm; {more} more songs would pass"
    )
    asked(seen, chips.nth(2).click)
    expect(page.locator("#tuned-cost")).to_contain_text(f"{passing + more} of 240")
    # The sides of a range cannot pass each other.
    body = asked(seen, lambda: page.locator("[data-range=year] [data-side=to]").fill("1990"))
    assert body["filters"]["years"] == [2000, 2000]
    body = asked(seen, lambda: page.locator("[data-range=tempo] [data-side=to]").press("ArrowLeft"))
    assert body["filters"]["features"] == {"tempo": [None, 215]}
    # Genres left out.
    asked(seen, chips.last.click)
    expect(page.locator("#tuned")).to_be_hidden()
    page.locator(".ways label", has_text="none of").click()
    assert asked(seen, jazz.click)["filters"] == {"not_genres": ["Jazz"]}
    assert 1 not in {int(t.removeprefix("track")) % 4 for t in seen.recommended() if int(t[5:]) % 5}
    # What is known of no song here is not offered.
    page.locator("#tune .sound > summary").click()
    expect(page.locator("[data-range=energy]")).to_be_visible()
    for unknown in ("valence", "loudness", "key"):
        expect(page.locator(f"[data-range={unknown}]")).to_be_hidden()
    assert seen.complaints == []


def test_filters_survive_a_reload_and_are_in_links(visit: Open) -> None:
    seen = visit(viewport=PHONE, has_touch=True)
    page = seen.page
    seen.unfold()
    asked(seen, page.locator("#genres button", has_text="Folk").tap)
    asked(seen, page.locator("[aria-label=Moods] button", has_text="energetic").tap)
    asked(seen, page.locator("#unknown-too").check)
    seen.unfold()
    page.reload()
    expect(page.locator("#tuned-chips button").first).to_contain_text("Folk")
    asked(seen, lambda: page.evaluate(LIKE, track_id(6)))
    link = page.evaluate(LINK)
    given = parse_qs(link.partition("#")[2])
    assert "Folk" in given["filters"][0]
    other = visit(path=link.removeprefix(page.url.split("#")[0].rstrip("/")), viewport=PHONE)
    expect(other.page.locator("#tuned-chips button").first).to_contain_text("Folk")
    expect(other.page.locator("#tuned-chips button").nth(1)).to_contain_text("energetic")
    expect(other.page.locator("#unknown-too")).to_be_checked()


LIKE = "async (id) => (await import('./page/store.js')).store.like(id)"
LINK = "async () => (await import('./page/store.js')).store.link()"
HEAR = "async (id) => (await import('./page/store.js')).store.hear(id)"


def test_what_was_shown_or_heard_does_not_come_again(visit: Open) -> None:
    seen = visit()
    page = seen.page
    asked(seen, lambda: page.evaluate(LIKE, track_id(8)))
    first = seen.recommended()
    seen.unfold()
    # The lists of one visit do not exclude each other.
    body = asked(seen, lambda: page.select_option("#no-repeats", "7"))
    assert "exclude" not in body
    assert seen.recommended() == first
    # On another day they do, until the days are over.
    page.evaluate("sessionStorage.removeItem('tunegraph-since')")
    page.evaluate(BACK, 2)
    page.reload()
    expect(page.locator("#recommendations .song").first).to_be_visible()
    assert not set(seen.recommended()) & set(first)
    page.evaluate("sessionStorage.removeItem('tunegraph-since')")
    page.evaluate(BACK, 6)
    page.reload()
    expect(page.locator("#recommendations .song").first).to_be_visible()
    assert seen.recommended() == first
    # Never again what was heard here.
    seen.unfold()
    asked(seen, lambda: page.select_option("#no-repeats", "0"))
    page.evaluate(HEAR, first[0])
    body = asked(seen, page.locator("#unheard").check)
    assert body["exclude"] == [first[0]]
    assert first[0] not in seen.recommended()


BACK = """days => {
  const shown = JSON.parse(localStorage.getItem("tunegraph-shown"));
  const earlier = shown.map(([id, time]) => [id, time - days * 86400000]);
  localStorage.setItem("tunegraph-shown", JSON.stringify(earlier));
}"""
