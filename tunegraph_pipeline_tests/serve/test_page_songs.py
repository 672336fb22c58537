"""What a listener does with songs and artists on the page, in a real browser: bring, hear, ask, look."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

from tunegraph_pipeline_tests.serve.browser import DESK, PHONE, Open, Visit
from tunegraph_pipeline_tests.serve.conftest import artist_name, track_id, track_name

pytestmark = pytest.mark.browser

# There is no sound card here: what plays is the page's own business, which these stand-ins report.
_SOUND = """
  const on = new WeakSet();
  HTMLMediaElement.prototype.play = function () {
    on.add(this);
    queueMicrotask(() => this.dispatchEvent(new Event("play")));
    return Promise.resolve();
  };
  HTMLMediaElement.prototype.pause = function () {
    on.delete(this);
    queueMicrotask(() => this.dispatchEvent(new Event("pause")));
  };
  Object.defineProperty(HTMLMediaElement.prototype, "paused", { get() { return !on.has(this); } });
  window.Audio = class extends Audio { constructor() { super(); window.sound = this; } };
  window.handlers = {};
  MediaSession.prototype.setActionHandler = (name, act) => { window.handlers[name] = act; };
"""


def _first(seen: Visit) -> str:
    return seen.recommended()[0]


# --- bringing ---


def test_music_is_brought_as_lines_and_files(visit: Open, tmp_path: Path) -> None:
    seen = visit(viewport=PHONE)
    page = seen.page
    page.click("#bring")
    lines = [f"{artist_name(4)} - {track_name(4)}", f"https://open.spotify.com/track/{track_id(8)}"]
    page.get_by_label("Links or lines").fill("\n".join([*lines, "Nobody - A song that is not there"]))
    page.get_by_text("Find my songs").click()
    sheet = page.locator("#sheet")
    expect(sheet).to_contain_text("2 of 3 songs found")
    # Into an empty list they go at once, and recommendations follow.
    expect(page.locator("#likes .song")).to_have_count(2)
    assert seen.liked() == [track_id(8), track_id(4)]
    page.get_by_text("1 song not found").click()
    expect(sheet).to_contain_text("A song that is not there")
    page.get_by_text("See what is recommended").click()
    expect(page.locator("#degraded")).to_be_hidden()
    # A file asks what to do with the list that is there, and each answer can be undone.
    playlist = tmp_path / "evening.csv"
    rows = [f"{artist_name(track)},{track_name(track)}" for track in (5, 9)]
    playlist.write_text("\n".join(["Artist,Title", *rows]) + "\n")
    page.click("#bring")
    page.locator('#sheet input[type="file"]').set_input_files(playlist)
    expect(sheet).to_contain_text("2 of 2 songs found", timeout=30_000)
    page.get_by_role("button", name="Replace My songs").click()
    expect(page.locator("#likes .song")).to_have_count(2)
    assert seen.liked() == [track_id(9), track_id(5)]
    page.locator("#undo button").click()
    expect(page.locator("#likes .song")).to_have_count(2)
    assert seen.liked() == [track_id(8), track_id(4)]
    page.click("#bring")
    page.locator('#sheet input[type="file"]').set_input_files(playlist)
    page.get_by_role("button", name="Add to My songs").click()
    expect(page.locator("#likes .song")).to_have_count(4)
    # Dropped anywhere on the page, a file is brought too; one of another kind is one clear line.
    page.evaluate(
        """() => {
          const files = new DataTransfer();
          files.items.add(new File(["\\x89PNG"], "photo.png"));
          dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
        }"""
    )
    expect(page.locator("#sheet .problem")).to_contain_text("The service reports: photo.png", timeout=30_000)
    page.get_by_role("button", name="Close").click()
    assert len(seen.liked()) == 4
    assert [one for one in seen.complaints if "422" not in one] == []


# --- hearing ---


def test_the_radio_goes_on_and_never_repeats(visit: Open) -> None:
    seen = visit(script=_SOUND)
    page = seen.page
    seen.tick(track_name(8))
    songs = seen.recommended()
    page.locator("#recommendations .song .play").first.click()
    page.get_by_text("Switch on").click()
    player = page.locator("#player")
    expect(player.locator(".name")).to_have_text(
        page.locator("#recommendations .name span").first.inner_text()
    )
    expect(page.locator("#recommendations .song .play").first).to_have_attribute("aria-pressed", "true")
    heard = "[...new Map(JSON.parse(localStorage['tunegraph-heard'])).keys()]"
    assert page.evaluate("sound.src") == f"https://cdn.example.org/{int(songs[0][5:])}.mp3"
    # By the end of a song, by the keys of a keyboard and by the button.
    page.evaluate("sound.dispatchEvent(new Event('ended'))")
    page.evaluate("handlers.nexttrack()")
    page.locator(".player-next").click()
    assert page.evaluate(heard) == songs[:4]
    page.locator(".player-previous").click()
    assert page.evaluate("navigator.mediaSession.metadata.title") == track_name(int(songs[2][5:]))
    page.evaluate("handlers.pause()")
    expect(player.locator(".player-play")).to_be_visible()
    page.locator(".player-play").click()
    expect(player.locator(".player-pause")).to_be_visible()
    # Near its end the queue asks for more, and never for what was heard.
    for _ in range(30):
        expect(page.locator(".player-next")).to_be_enabled()
        page.evaluate("handlers.nexttrack()")
    played = page.evaluate(heard)
    assert len(played) == len(set(played)) == 33
    assert set(songs) <= set(played)
    # The heart of the player likes what plays.
    seen.after(lambda: player.locator(".like").click())
    assert seen.liked()[0] == played[-1]
    player.locator(".player-stop").click()
    expect(player).to_be_hidden()
    # A song without a preview is heard in the player of a service that has it.
    seen.page.evaluate("scrollTo(0, 0)")
    seen.after(lambda: page.click("#clear"))
    seen.tick(track_name(5))
    page.locator("#recommendations .song .play").first.click()
    frame = player.locator("iframe")
    expect(frame).to_have_attribute("src", f"https://open.spotify.com/embed/track/{_first(seen)}")
    page.locator(".player-next").click()
    expect(frame).to_have_attribute("src", f"https://open.spotify.com/embed/track/{seen.recommended()[1]}")
    assert seen.complaints == []


# --- more ---


def test_there_is_more_of_everything(visit: Open) -> None:
    seen = visit()
    page = seen.page
    seen.tick(track_name(8))
    seen.tick(track_name(4))
    few = seen.recommended()
    body = seen.after(lambda: page.click("#more"))
    assert body["k"] == 24
    assert seen.recommended()[:12] == few
    assert len(seen.recommended()) == 24
    focused = page.evaluate("document.activeElement.closest('.song').dataset.track")
    assert focused == seen.recommended()[12]
    # Why: the parts add up to the score.
    seen.details("#recommendations .song:first-child")
    page.get_by_role("button", name="Why this?").click()
    expect(page.locator(".total")).to_be_visible()
    number = "all => all.map((one) => Number(one.textContent.replace('−', '-')))"
    parts = page.eval_on_selector_all(".sum .value", number)
    (score,) = page.eval_on_selector_all(".total strong", number)
    assert len(parts) == 3
    assert sum(parts) == pytest.approx(score, abs=0.002)
    page.keyboard.press("Escape")
    # More like this, which can become a list.
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#sheet .song")).to_have_count(20)
    page.locator("#sheet .song .like").first.click()
    expect(page.locator("#sheet .song .like").first).to_have_attribute("aria-pressed", "true")
    similar = seen.tracks("#sheet")
    page.get_by_role("button", name="More", exact=True).click()
    expect(page.locator("#sheet .song")).to_have_count(40)
    assert seen.tracks("#sheet")[:20] == similar
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "More like this"
    # A path to another song: of songs that are liked together.
    page.get_by_role("button", name="Path to…").click()
    page.locator("#sheet .choice", has_text=track_name(4)).click()
    expect(page.locator("#sheet .song").first).to_be_visible()
    path = seen.tracks("#sheet")
    assert (path[0], path[-1]) == (_first(seen), track_id(4))
    expect(page.locator("#sheet .reason").last).to_contain_text("like it and the one before")
    page.get_by_role("button", name="Make a list of these").click()
    expect(page.locator("#likes .song")).to_have_count(len(path))
    assert seen.complaints == []


def test_artists_are_liked_looked_at_and_never_heard_again(visit: Open) -> None:
    seen = visit()
    page = seen.page
    name = artist_name(8)
    seen.find(name)
    option = page.locator("#found li", has_text="artist,").filter(has_text=name).first
    body = seen.after(option.click)
    (artist,) = body["artists"]
    page.press("#search", "Escape")
    expect(page.locator("#degraded")).to_be_hidden()
    chip = page.locator("#artists li", has_text=name)
    chip.locator(".who").click()
    expect(page.locator("#sheet .song").first).to_contain_text(name)
    body = seen.after(lambda: page.get_by_role("button", name="Never again").click())
    assert body["not_artists"] == [artist]
    assert "artists" not in body
    expect(page.get_by_role("button", name="Never recommended")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    assert not any(name in text for text in page.locator("#recommendations .artists").all_inner_texts())
    # From a song to its artist; and back among those that may be heard.
    page.click("#disliked > summary")
    body = seen.after(lambda: page.locator("#not-artists .drop").click())
    assert "not_artists" not in body
    seen.details("#recommendations .song:first-child")
    of_song = page.locator("#recommendations .artists").first.inner_text().partition(" · ")[0]
    page.get_by_role("button", name="Artist", exact=True).click()
    expect(page.locator("#sheet-title")).to_have_text(of_song)
    expect(page.locator("#sheet .song").first).to_contain_text(of_song)
    body = seen.after(lambda: page.get_by_role("button", name="Like this artist").click())
    assert len(body["artists"]) == 1
    assert seen.complaints == []


# --- looks ---


@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [
        (PHONE, "dark"),
        (DESK, "light"),
        pytest.param(PHONE, "light", marks=pytest.mark.nightly),  # as in dark, in other colours
        pytest.param(DESK, "dark", marks=pytest.mark.nightly),
    ],
    ids=["phone-dark", "desk-light", "phone-light", "desk-dark"],
)
def test_everybody_can_use_it_and_sees_the_first_song_at_once(
    visit: Open, scheme: str, viewport: dict[str, int]
) -> None:
    seen = visit(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", has_touch=viewport is PHONE)
    page = seen.page
    seen.tick(track_name(8))
    page.evaluate("scrollTo(0, 0)")
    dock = page.locator("nav").bounding_box()
    below = dock["y"] if dock is not None else viewport["height"]
    for row in page.locator("#recommendations .song").all()[:3]:
        box = row.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= below
        line = row.locator(".reason").bounding_box()
        assert line is not None
        assert line["height"] < 30  # one line
    assert page.locator("#options").evaluate("one => one.open") is False
    # No two meanings share an icon.
    kinds = page.eval_on_selector_all(
        "svg.icon", "all => all.map((one) => [one.classList[1], one.firstChild.getAttribute('d')])"
    )
    assert len({kind for kind, _ in kinds}) == len({lines for _, lines in kinds})
    seen.details("#recommendations .song:first-child")
    seen.unfold()
    assert _violations(page) == []
    for button, ready in (
        ("#lists", ".lists .list"),
        ("#bring", "textarea"),
        ("#save", ".service"),
        ("#recommendations .more .quiet >> nth=0", "#sheet .song"),
        ("#recommendations .more .quiet >> nth=1", ".total"),
    ):
        page.locator(button).click()
        expect(page.locator(ready).first).to_be_visible()
        assert _violations(page) == [], button
        page.keyboard.press("Escape")
    assert seen.complaints == []


def _violations(page: Page) -> list[str]:
    found = Axe().run(page)
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found.response["violations"]
        for node in one["nodes"]
    ]
