"""The page in a real browser, over a real service."""

import re
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, Route, expect

from tunegraph_pipeline_tests.serve.browser import Open
from tunegraph_pipeline_tests.serve.conftest import (
    RunningService,
    StartService,
    below_prefix,
    track_id,
    track_name,
)

pytestmark = pytest.mark.browser


def test_who_arrives_sees_what_is_popular_and_that_it_is_not_personal(visit: Open) -> None:
    seen = visit()
    expect(seen.page.locator("#degraded")).to_contain_text("no liked songs were given")
    assert len(seen.recommended()) == 12
    expect(seen.page.locator("#no-likes")).to_be_visible()
    assert seen.complaints == []


def test_a_song_found_with_a_typing_error_is_ticked_and_answered_with_reasons(visit: Open) -> None:
    seen = visit()
    name = track_name(5)
    assert name.startswith("Neon")
    seen.find(name.replace("Neon", "Noen"))
    seen.after(lambda: seen.page.press("#search", "Enter"))
    assert seen.liked() == [track_id(5)]
    expect(seen.page.locator("#degraded")).to_be_hidden()
    reasons = seen.page.locator("#recommendations .reason")
    expect(reasons.first).to_contain_text(f"because you like {name}")
    # The four scenes of the little world: who likes one of a scene likes others of it.
    assert all(int(track[5:]) % 4 == 1 for track in seen.recommended()[:8])
    assert track_id(5) not in seen.recommended()
    # Ticked again, it is off the list.
    seen.after(lambda: seen.page.press("#search", "Enter"))
    assert seen.liked() == []
    assert seen.complaints == []


def test_a_reason_says_how_many_listeners_like_both(visit: Open) -> None:
    seen = visit()
    seen.tick(track_name(8))
    texts = seen.page.locator("#recommendations .reason").all_inner_texts()
    assert any(re.search(r"\(\d+ likes? both\)", text) for text in texts)


def test_a_disliked_song_goes_at_once_never_returns_and_can_be_taken_back(visit: Open) -> None:
    seen = visit()
    seen.tick(track_name(4))
    gone = seen.recommended()[0]
    body = seen.after(lambda: seen.page.click("#recommendations .song:first-child .dislike"))
    assert body["dislikes"] == [gone]
    assert gone not in seen.recommended()
    for _ in range(3):
        seen.after(lambda: seen.page.click("#recommendations .song:first-child .like"))
        assert gone not in seen.recommended()
    assert len(seen.liked()) == 4
    seen.page.reload()
    expect(seen.page.locator("#disliked")).to_contain_text("Not for me (1)")
    assert gone not in seen.recommended()
    seen.page.click("#disliked summary")
    body = seen.after(lambda: seen.page.click("#dislikes .drop"))
    assert body["dislikes"] == []
    expect(seen.page.locator("#disliked")).to_be_hidden()


def test_undo_takes_back_the_last_click(visit: Open) -> None:
    seen = visit()
    seen.tick(track_name(4))
    first = seen.recommended()
    seen.after(lambda: seen.page.click("#recommendations .song:first-child .dislike"))
    body = seen.after(lambda: seen.page.click("#undo button"))
    assert (body["dislikes"], body["likes"]) == ([], [track_id(4)])
    assert seen.recommended() == first
    seen.after(lambda: seen.page.click("#clear"))
    assert seen.liked() == []
    seen.after(lambda: seen.page.click("#undo button"))
    assert seen.liked() == [track_id(4)]


def test_every_choice_is_in_the_question(visit: Open) -> None:
    seen = visit()
    seen.unfold()
    body = seen.after(lambda: seen.page.fill("#familiarity", "0.2"))
    assert (body["familiarity"], body["diversity"]) == (0.2, 0)
    body = seen.after(lambda: seen.page.fill("#diversity", "0.75"))
    assert (body["familiarity"], body["diversity"]) == (0.2, 0.75)
    assert not body.keys() & {"surprise", "seed", "mode"}
    body = seen.after(lambda: seen.page.fill("#surprise", "0.5"))
    assert body["surprise"] == 0.5
    seed = body["seed"]
    assert seen.after(lambda: seen.page.click("#dice"))["seed"] != seed
    seen.after(lambda: seen.page.fill("#surprise", "0"))
    seen.after(lambda: seen.page.check("#in-order"))
    seen.tick(track_name(4))
    assert seen.after(lambda: seen.page.uncheck("#in-order")).get("mode") is None
    assert seen.after(lambda: seen.page.check("#in-order"))["mode"] == "continue"
    assert seen.after(lambda: seen.page.select_option("#max-per-artist", "2"))["max_per_artist"] == 2
    assert seen.after(lambda: seen.page.select_option("#max-per-artist", ""))["max_per_artist"] is None
    assert seen.after(lambda: seen.page.uncheck("#explicit"))["explicit"] is False
    assert seen.page.locator("#recommendations .mark").count() == 0
    seen.page.reload()
    expect(seen.page.locator("#familiarity")).to_have_value("0.2")
    expect(seen.page.locator("#explicit")).not_to_be_checked()


def test_the_keyboard_alone_is_enough(visit: Open) -> None:
    seen = visit()
    page = seen.page
    press = page.keyboard.press
    for _ in range(4):
        press("Tab")
        if page.evaluate("document.activeElement.id") == "search":
            break
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("harbour")
    seen.found()
    press("ArrowDown")
    press("ArrowDown")
    active = page.get_attribute("#search", "aria-activedescendant")
    assert active == "found-1"
    seen.after(lambda: press("Enter"))
    expect(page.locator("#found-1")).to_have_attribute("aria-selected", "true")
    seen.after(lambda: (press("ArrowUp"), press("Enter")))
    assert (len(seen.liked()), page.locator("#artists li").count()) == (1, 1)
    press("Escape")
    expect(page.locator("#found")).to_be_hidden()
    expect(page.locator("#search")).to_have_attribute("aria-expanded", "false")
    # On to the first recommendation, which is then disliked, and the keyboard stays in the list.
    page.locator("#recommendations .like").first.focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    press("Tab")
    gone = seen.recommended()[0]
    seen.after(lambda: press("Enter"))
    assert gone not in seen.recommended()
    assert page.evaluate("document.activeElement.closest('#recommendations') !== null")
    # A title opens what can be asked of its song; Escape closes the answer, back to where one was.
    page.locator("#recommendations .name").first.focus()
    press("Enter")
    expect(page.locator("#recommendations .details")).to_be_visible()
    page.get_by_role("button", name="Why this?").focus()
    press("Enter")
    expect(page.locator(".total")).to_be_visible()
    press("Escape")
    expect(page.get_by_role("button", name="Why this?")).to_be_focused()
    page.locator("#bring").focus()
    press("Enter")
    expect(page.get_by_label("Links or lines")).to_be_focused()
    press("Escape")
    expect(page.locator("#bring")).to_be_focused()
    # The map answers the keyboard too, and says what it points at.
    page.locator("#map").focus()
    press("n")
    expect(page.locator("#tip")).to_be_visible()
    seen.after(lambda: press("Enter"))
    assert len(seen.liked()) == 2
    for key in ("+", "ArrowLeft", "-", "0"):
        press(key)
    assert seen.complaints == []


def test_a_slider_moves_with_the_keys_and_says_where_it_is(visit: Open) -> None:
    seen = visit()
    seen.unfold()
    seen.page.locator("#familiarity").focus()
    body = seen.after(lambda: seen.page.keyboard.press("ArrowRight"))
    assert body["familiarity"] == 0.55
    expect(seen.page.locator("#familiarity")).to_have_attribute("aria-valuetext", "55 %")


@pytest.mark.parametrize(
    "width",
    [
        320,
        pytest.param(360, marks=pytest.mark.nightly),  # laid out as for 320, with more room
        pytest.param(720, marks=pytest.mark.nightly),
        1080,
        1400,
    ],
)
def test_nothing_sticks_out_at_any_width(visit: Open, width: int) -> None:
    touch = {"has_touch": True} if width < 800 else {}
    seen = visit(viewport={"width": width, "height": 740}, **touch)
    seen.tick(track_name(8))
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.unfold()
    seen.details("#recommendations .song:first-child")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    for button in seen.page.locator("button:visible:not(.name)").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 32  # large enough for a thumb
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_songs_on_one_place_make_room_so_that_each_can_be_pointed_at(visit: Open) -> None:
    seen = visit()  # all songs lie in the middle of the map
    box = seen.page.locator("#map").bounding_box()
    assert box is not None
    pointed = set()
    for across in range(-56, 57, 8):
        for down in range(-56, 57, 8):
            seen.page.mouse.move(box["x"] + box["width"] / 2 + across, box["y"] + box["height"] / 2 + down)
            pointed |= set(
                seen.page.eval_on_selector_all(
                    "#recommendations .pointed", "rows => rows.map(row => row.dataset.track)"
                )
            )
    assert pointed == set(seen.recommended())
    ranks = seen.page.locator("#recommendations .rank").all_text_contents()
    assert ranks == [str(rank) for rank in range(1, len(pointed) + 1)]


def test_the_name_of_a_song_moves_with_it(visit: Open) -> None:
    seen = visit()

    def spread_out(route: Route) -> None:
        answer = route.fetch()
        content = answer.json()
        for place, item in enumerate(content["items"]):
            item["x"], item["y"] = 0.3 + 0.04 * place, 0.6
        route.fulfill(response=answer, json=content)

    seen.page.route("**/recommendations", spread_out)
    seen.unfold()
    seen.after(lambda: seen.page.press("#diversity", "ArrowRight"))
    seen.page.focus("#map")
    seen.page.keyboard.press("n")
    tip, chart = seen.page.locator("#tip"), seen.page.locator("#map")
    name = seen.page.locator("#recommendations .name").first.inner_text()
    expect(tip).to_contain_text(name)

    def middle() -> float:
        box, around = tip.bounding_box(), chart.bounding_box()
        assert box is not None
        assert around is not None
        assert around["x"] <= box["x"]
        assert box["x"] + box["width"] <= around["x"] + around["width"] + 1
        return box["x"] + box["width"] / 2 - around["x"] - around["width"] / 2

    assert abs(middle()) < 2  # the song is in the middle of the view
    before = middle()
    seen.page.keyboard.press("ArrowRight")
    width = chart.evaluate("canvas => canvas.clientWidth")
    assert middle() - before == pytest.approx(-width / 8, abs=2)
    expect(tip).to_contain_text(name)


def _contrast(page: Page, text: str, ground: str) -> float:
    """Of two colours of the style, by the formula of WCAG 2."""
    found: float = page.evaluate(
        """([text, ground]) => {
          const luminance = (name) => {
            const probe = document.createElement("i");
            probe.style.color = `var(--${name})`;
            document.body.append(probe);
            const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3);
            probe.remove();
            const [r, g, b] = parts.map((part) => part / 255)
              .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const [light, dark] = [luminance(text), luminance(ground)].sort((a, b) => b - a);
          return (light + 0.05) / (dark + 0.05);
        }""",
        [text, ground],
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(visit: Open, scheme: str) -> None:
    seen = visit(color_scheme=scheme)
    ground = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(246, 245, 251)", "dark": "rgb(20, 18, 29)"}[scheme]
    for text, behind in (
        ("text", "page"),
        ("text", "card"),
        ("soft", "card"),
        ("soft", "page"),
        ("accent", "card"),
        ("on-accent", "accent"),
        ("on-note", "note"),
        ("on-problem", "problem"),
        ("page", "text"),
    ):
        assert _contrast(seen.page, text, behind) >= 4.5, (text, behind)
    for mark in ("others", "liked", "accent"):
        assert _contrast(seen.page, mark, "page") >= 3, mark


def test_everything_that_can_be_used_has_a_name(visit: Open) -> None:
    seen = visit()
    seen.tick(track_name(8))
    nameless = seen.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, canvas, ul, ol")]
          .filter((one) => one.offsetParent !== null)
          .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length
            || one.closest("section")))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert seen.page.locator("h1").count() == 1
    assert seen.page.get_attribute("html", "lang") == "en"
    doubled = seen.page.evaluate(
        "() => { const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);"
        " return ids.filter((id, at) => ids.indexOf(id) !== at); }"
    )
    assert doubled == []


def test_a_name_that_looks_like_html_stays_text(visit: Open) -> None:
    seen = visit()
    seen.tick("onerror")
    expect(seen.page.locator("#likes .name")).to_have_text(
        '<img src=x onerror="document.title = 1"> & <b>bold</b>'
    )
    assert seen.page.title() == "TuneGraph"
    assert seen.page.locator("#likes b, #recommendations .name img").count() == 0
    assert seen.complaints == []


def test_nothing_leaves_this_machine_before_it_is_allowed(visit: Open) -> None:
    seen = visit()
    seen.tick(track_name(8))
    seen.details("#recommendations .song:first-child")
    assert {urlsplit(address).hostname for address in seen.requests} == {"127.0.0.1"}
    assert seen.page.locator("#recommendations svg.cover").count() == 12
    # A press on play asks first; what follows comes from where the links of songs lead, and nowhere else.
    seen.page.locator("#likes .play").click()
    expect(seen.page.locator("#sheet")).to_contain_text("cdn.example.org")
    with seen.page.expect_request(re.compile("cdn.example.org")):
        seen.page.get_by_text("Switch on").click()
    expect(seen.page.locator("#recommendations img.cover").first).to_be_visible()
    elsewhere = {urlsplit(address).hostname for address in seen.requests} - {"127.0.0.1"}
    assert elsewhere == {"img.example.org", "cdn.example.org"}
    seen.unfold()
    seen.page.uncheck("#media")
    expect(seen.page.locator("#player")).to_be_hidden()
    expect(seen.page.locator("#recommendations img.cover")).to_have_count(0)
    seen.page.reload()
    expect(seen.page.locator("#recommendations svg.cover")).to_have_count(12)
    assert seen.complaints == []


def test_the_same_song_is_always_drawn_the_same(visit: Open) -> None:
    pictures = []
    for _ in range(2):
        seen = visit()
        pictures.append(seen.page.locator("#recommendations .cover").first.evaluate("one => one.outerHTML"))
    assert pictures[0] == pictures[1]


def test_a_link_opens_the_page_with_the_same_songs(visit: Open) -> None:
    likes, away = f"{track_id(4)},{track_id(8)}", track_id(12)
    followed = f"/#likes={likes}&dislikes={away}&familiarity=0.3&artist=1&explicit=no"
    seen = visit(followed, permissions=["clipboard-read", "clipboard-write"])
    assert set(seen.liked()) == {track_id(4), track_id(8)}
    expect(seen.page.locator("#likes .name").first).to_have_text(track_name(8))
    expect(seen.page.locator("#familiarity")).to_have_value("0.3")
    expect(seen.page.locator("#max-per-artist")).to_have_value("1")
    expect(seen.page.locator("#explicit")).not_to_be_checked()
    seen.page.click("#share")
    expect(seen.page.locator("#share")).to_have_text("Copied")
    link = seen.page.evaluate("navigator.clipboard.readText()")
    copy = visit("/" + link[link.index("#") :])
    assert set(copy.liked()) == set(seen.liked())


def test_songs_are_linked_and_whose_data_they_are_is_said(visit: Open) -> None:
    seen = visit(f"/#likes={track_id(4)}")
    seen.details("#recommendations .song:first-child")
    first = seen.page.locator("#recommendations .song").first
    address = f"https://open.spotify.com/track/{seen.recommended()[0]}"
    expect(first.locator("a.page")).to_have_attribute("href", address)
    expect(seen.page.locator("#licences")).to_have_text(
        "About the data: ListenBrainz: CC0-1.0; imported files: as the owner of each file says"
    )
    seen.unfold()
    asked = seen.after(lambda: seen.page.select_option("#links", "musicbrainz"))
    assert asked["links"] == "musicbrainz"
    seen.page.reload()
    expect(seen.page.locator("#links")).to_have_value("musicbrainz")
    assert seen.complaints == []


def test_unknown_songs_of_a_link_are_told_of(visit: Open) -> None:
    seen = visit(f"/#likes=nobody-knows-this,{track_id(4)}")
    expect(seen.page.locator("#unknown")).to_have_text(
        "1 of your songs found. Not in this catalogue: nobody-knows-this."
    )
    assert len(seen.liked()) == 2
    assert seen.complaints == []


def test_whatever_was_kept_the_page_opens(visit: Open) -> None:
    seen = visit()
    for kept in ("not json", '{"likes": 7, "familiarity": "x"}', "null", '{"likes": [1]}'):
        seen.page.evaluate("kept => localStorage.setItem('tunegraph', kept)", kept)
        seen.page.reload()
        expect(seen.page.locator("#recommendations .song").first).to_be_visible()
        assert seen.liked() == [], kept
        assert seen.complaints == [], kept


def test_below_a_prefix_of_a_proxy_everything_works(visit: Open, page_service: RunningService) -> None:
    with below_prefix(page_service.url, "/tg/") as address:
        opened = visit(url=address.removesuffix("/"))
        opened.tick("neon song")
        assert opened.recommended()
        own = [one for one in opened.requests if urlsplit(one).hostname == "127.0.0.1"]
        assert all(one.startswith(address) for one in own)
        assert not opened.complaints
        opened.page.click("text=API")
        version = opened.page.locator("details", has_text="What is served?")
        version.locator("summary").click()
        version.locator("button").click()
        expect(version).to_contain_text(f"curl '{address}version'")
        expect(version).to_contain_text("200 OK")


def test_a_search_without_a_match_says_so(visit: Open) -> None:
    seen = visit()
    seen.page.fill("#search", "zzzzqqqq xxyyzz")
    expect(seen.page.locator("#search-note")).to_have_text("Nothing found.")
    expect(seen.page.locator("#found")).to_be_hidden()


def test_who_presses_enter_before_an_answer_came_ticks_nothing_that_was_found_for_other_words(
    visit: Open,
) -> None:
    seen = visit()
    seen.find(track_name(5))
    with seen.page.expect_response(lambda got: "/tracks?query=" in got.url):
        seen.page.fill("#search", track_name(8))
        seen.page.press("#search", "Enter")
    assert seen.liked() == []
    seen.found()
    seen.after(lambda: seen.page.press("#search", "Enter"))
    assert seen.liked() == [track_id(8)]


def test_only_the_last_of_quick_changes_is_shown(visit: Open) -> None:
    seen = visit()
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    seen.page.route("**/recommendations", hold_the_first)
    seen.unfold()
    seen.page.fill("#familiarity", "0")
    seen.page.wait_for_timeout(400)
    assert len(held) == 1
    body = seen.after(lambda: seen.page.fill("#familiarity", "1"))
    assert body["familiarity"] == 1
    expect(seen.page.locator("#recommendations")).not_to_have_class(re.compile("loading"))
    assert seen.complaints == []


def test_a_service_that_is_gone_is_told_of_and_asked_again(
    visit: Open, running_service: StartService
) -> None:
    service = running_service()
    seen = visit(url=service.url)
    seen.unfold()
    service.stop()
    seen.page.fill("#familiarity", "0.9")
    problem = seen.page.locator("#problem")
    expect(problem).to_contain_text("The service is not responding.")
    port = str(urlsplit(service.url).port)
    again = running_service("--port", port)
    assert again.url == service.url
    # It is asked again by itself, and at once when the browser is online again.
    seen.page.evaluate("dispatchEvent(new Event('online'))")
    expect(problem).to_be_hidden()
    assert seen.recommended()


def test_a_limit_of_questions_is_waited_for(visit: Open, running_service: StartService) -> None:
    seen = visit(url=running_service().url)
    refusals = iter([True, True])

    def refuse_twice(route: Route) -> None:
        if next(refusals, False):
            route.fulfill(status=429, headers={"Retry-After": "1"}, body="{}")
        else:
            route.continue_()

    seen.page.route("**/recommendations", refuse_twice)
    seen.unfold()
    seen.page.fill("#familiarity", "0.9")
    expect(seen.page.locator("#problem")).to_contain_text("Too many requests; trying again in 1 s.")
    expect(seen.page.locator("#problem")).to_be_hidden(timeout=10_000)


def test_what_the_service_objects_to_is_shown_in_its_words(visit: Open) -> None:
    seen = visit()
    body = '{"title": "Bad Request", "detail": "familiarity is 7; it goes from 0 to 1"}'
    seen.page.route("**/recommendations", lambda route: route.fulfill(status=400, body=body))
    seen.unfold()
    seen.page.fill("#familiarity", "0.9")
    expect(seen.page.locator("#problem")).to_contain_text("familiarity is 7; it goes from 0 to 1")
