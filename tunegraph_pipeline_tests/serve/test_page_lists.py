"""What the page keeps in a browser and saves elsewhere, in a real browser."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, Route, expect

from tunegraph_pipeline_tests.serve.browser import PHONE, Open, Visit
from tunegraph_pipeline_tests.serve.conftest import RunningService, track_id, track_name

pytestmark = pytest.mark.browser


def _lists(seen: Visit) -> dict[str, list[str]]:
    """The liked songs of each list, as they are in the browser."""
    found: dict[str, list[str]] = seen.page.evaluate(
        """async () => {
          const { store } = await import("./page/store.js");
          return Object.fromEntries(store.lists.map((list) => [list.name, list.likes]));
        }"""
    )
    return found


def _like(page: Page, *tracks: str) -> None:
    page.evaluate(
        'async (ids) => (await import("./page/store.js")).store.like(...ids)',
        list(tracks),
    )


def test_two_tabs_never_lose_a_like(visit: Open) -> None:
    one = visit(viewport=PHONE)
    other = Visit(one.page.context.new_page())
    other.page.goto(one.page.url)
    expect(other.page.locator("#recommendations .song").first).to_be_visible()
    # Each begins to like before it can know of the other.
    for place in range(6):
        for shift, tab in enumerate((one, other)):
            _like(tab.page, track_id(4 * place + shift))
    wanted = {track_id(4 * place + shift) for place in range(6) for shift in range(2)}
    for tab in (one, other):
        expect(tab.page.locator("#likes .song")).to_have_count(12)
        assert set(tab.liked()) == wanted
    # At the very same moment: both have read what is kept before either writes.
    together = """async (id) => {
      const { store } = await import("./page/store.js");
      const read = Storage.prototype.getItem;
      Storage.prototype.getItem = () => null; // what the other wrote has not arrived
      store.like(id);
      Storage.prototype.getItem = read;
    }"""
    one.page.evaluate(together, track_id(100))
    other.page.evaluate(together, track_id(101))
    wanted |= {track_id(100), track_id(101)}
    for tab in (one, other):
        expect(tab.page.locator("#likes .song")).to_have_count(14)
    # What is removed in one is removed in the other, and stays removed.
    one.page.evaluate('async (id) => (await import("./page/store.js")).store.forget(id)', track_id(0))
    expect(other.page.locator("#likes .song")).to_have_count(13)
    other.page.reload()
    expect(other.page.locator("#likes .song")).to_have_count(13)
    assert set(other.liked()) == wanted - {track_id(0)}
    other.page.close()


def test_a_shared_link_never_touches_the_own_list(visit: Open) -> None:
    seen = visit(permissions=["clipboard-read", "clipboard-write"])
    seen.tick(track_name(4))
    base = seen.page.url.split("#")[0]
    away = track_id(12)
    link = f"{base}#likes={track_id(5)},{track_id(9)}&dislikes={away}&familiarity=0.3&artist=1&name=Road+trip"
    seen.page.goto("about:blank")
    seen.page.goto(link)
    expect(seen.page.locator("#shared")).to_be_visible()
    expect(seen.page.locator("#list-name")).to_have_text("Road trip")
    assert set(seen.liked()) == {track_id(5), track_id(9)}
    # Liking here changes the link alone, so that a reload shows the same.
    seen.after(lambda: seen.page.click("#recommendations .song:first-child .like"))
    shown = seen.liked()
    assert len(shown) == 3
    seen.page.reload()
    expect(seen.page.locator("#likes .song")).to_have_count(3)
    assert seen.liked() == shown
    assert _lists(seen) == {"My songs": [track_id(4)]}
    seen.unfold()
    expect(seen.page.locator("#familiarity")).to_have_value("0.3")
    seen.after(lambda: seen.page.click("#recommendations .song:first-child .dislike"))
    seen.after(lambda: seen.page.click("#leave-shared"))
    assert seen.liked() == [track_id(4)]
    # Nor does Undo of what was done there.
    seen.after(lambda: seen.page.click("#undo button"))
    assert seen.liked() == [track_id(4)]
    expect(seen.page.locator("#disliked")).to_be_hidden()
    expect(seen.page.locator("#familiarity")).to_have_value("0.5")
    assert "#" not in seen.page.url
    # Opened again, it can be kept as a list of its own.
    seen.after(lambda: seen.page.evaluate("link => { location.href = link; }", link))
    expect(seen.page.locator("#shared")).to_be_visible()
    gone = seen.recommended()[0]
    seen.after(lambda: seen.page.click("#recommendations .song:first-child .dislike"))
    seen.page.click("#keep-shared")
    expect(seen.page.locator("#shared")).to_be_hidden()
    assert seen.tracks("#dislikes") == [gone, away]
    seen.after(lambda: seen.page.click("#undo button"))
    assert seen.tracks("#dislikes") == [away]
    assert set(_lists(seen)["Road trip"]) == {track_id(5), track_id(9)}
    assert _lists(seen)["My songs"] == [track_id(4)]
    assert seen.complaints == []


def test_lists_are_made_named_removed_and_backed_up(visit: Open, tmp_path: Path) -> None:
    seen = visit(viewport=PHONE)
    page = seen.page
    _like(page, track_id(4), track_id(8))
    page.click("#lists")
    page.get_by_label("Name of a new list").fill("  For   running ")
    page.keyboard.press("Enter")
    expect(page.locator("#list-name")).to_have_text("For running")
    assert seen.liked() == []
    _like(page, track_id(7))
    page.click("#lists")
    page.get_by_label("Name of this list").fill("Running")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".lists .list[aria-current]")).to_contain_text("Running")
    page.get_by_role("button", name="Remove the list Running").click()
    expect(page.locator(".lists .list")).to_have_count(1)
    page.locator("#undo button").click()
    expect(page.locator(".lists .list")).to_have_count(2)
    with page.expect_download() as coming:
        page.get_by_role("button", name="Save all lists").click()
    coming.value.save_as(tmp_path / "lists.json")
    everything = {"My songs": [track_id(4), track_id(8)], "Running": [track_id(7)]}
    assert _lists(seen) == everything
    # In another browser it adds to what is there; whatever else is given is said not to be one.
    other = visit()
    _like(other.page, track_id(11))
    other.page.click("#lists")
    (tmp_path / "other.json").write_text('{"likes": []}')
    chooser = other.page.locator('#sheet input[type="file"]')
    chooser.set_input_files(tmp_path / "other.json")
    expect(other.page.locator("#sheet-body [role=status]")).to_have_text(
        "This is not a back-up of this page."
    )
    chooser.set_input_files(tmp_path / "lists.json")
    expect(other.page.locator("#sheet-body [role=status]")).to_have_text("Restored 2 lists.")
    restored = _lists(other)
    assert set(restored.pop("My songs")) == {track_id(4), track_id(8), track_id(11)}
    assert restored == {"Running": [track_id(7)]}
    other.page.locator(".lists .list", has_text="Running").click()
    expect(other.page.locator("#likes .song")).to_have_count(1)
    assert seen.complaints == other.complaints == []


def test_a_list_of_an_earlier_version_of_the_page_is_kept(visit: Open) -> None:
    seen = visit()
    likes = [track_id(track) for track in range(4, 134)]
    earlier = {
        "likes": likes,
        "dislikes": [track_id(200)],
        "familiarity": 0.2,
        "media": False,
    }
    seen.page.evaluate("kept => localStorage.setItem('tunegraph', kept)", json.dumps(earlier))
    seen.page.reload()
    # Of a long list the newest are shown, and the others when asked for.
    assert seen.liked() == likes[:-101:-1]
    seen.page.click("#more-likes")
    assert seen.liked() == likes[::-1]
    expect(seen.page.locator("#more-likes")).to_be_hidden()
    expect(seen.page.locator("#likes .name").last).to_have_text(track_name(4))
    assert seen.tracks("#dislikes") == [track_id(200)]
    seen.unfold()
    expect(seen.page.locator("#familiarity")).to_have_value("0.2")


def test_songs_are_saved_in_every_format(visit: Open, page_service: RunningService, tmp_path: Path) -> None:
    seen = visit(permissions=["clipboard-read", "clipboard-write"])
    seen.tick(track_name(8))
    songs = seen.recommended()
    seen.page.click("#save")
    seen.page.locator("#sheet").get_by_label("Name").fill("Evening, by me")
    written = {}
    for ending in ("jspf", "m3u8", "csv", "txt"):
        with seen.page.expect_download() as coming:
            seen.page.click(f"[data-format={ending}]")
        assert coming.value.suggested_filename == f"evening-by-me.{ending}"
        coming.value.save_as(tmp_path / ending)
        written[ending] = (tmp_path / ending).read_text()
    playlist = json.loads(written["jspf"])["playlist"]
    assert playlist["title"] == "Evening, by me"
    assert [track["identifier"] for track in playlist["track"]] == [
        [f"https://open.spotify.com/track/{song}"] for song in songs
    ]
    assert written["m3u8"].startswith("#EXTM3U\n#PLAYLIST:Evening, by me\n#EXTINF:-1,The ")
    rows = list(csv.DictReader(io.StringIO(written["csv"])))
    assert [row["track_id"] for row in rows] == songs
    assert written["txt"].splitlines() == [f"spotify:track:{song}" for song in songs]
    # What the page saves it can bring again.
    with httpx.Client(trust_env=False, timeout=60) as client:
        for ending in ("jspf", "m3u8", "csv", "txt"):
            sent = client.post(
                f"{page_service.url}/matches?name=evening.{ending}",
                content=written[ending],
                headers={"content-type": "application/octet-stream"},
            )
            assert [item["track_id"] for item in sent.json()["items"]] == songs, (ending, sent.text[:500])
    seen.page.locator("#sheet input[value=likes]").check()
    seen.page.get_by_text("Copy as text").click()
    expect(seen.page.locator("#sheet [role=status]").first).to_have_text("Copied 1 song.")
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip().endswith(f" - {track_name(8)}")


@contextmanager
def _service_of_playlists() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Stands in for ListenBrainz and Spotify: its address, and the requests it got."""
    got: list[dict[str, Any]] = []

    class Playlists(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            token = self.headers["authorization"]
            got.append({"path": self.path, "token": token, "body": body})
            refused = token.endswith("wrong")
            made = {"playlist_mbid": "11111111-2222-3333-4444-555555555555", "id": "made", "snapshot_id": "1"}
            content = json.dumps({"error": "Invalid authorization token."} if refused else made).encode()
            self.send_response(401 if refused else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Playlists) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()
        thread.join()


def test_a_playlist_goes_to_a_service_by_a_token_that_nobody_keeps(visit: Open) -> None:
    seen = visit()
    page = seen.page
    seen.tick(track_name(8))
    songs = seen.recommended()
    sent: list[str] = []
    page.on(
        "request", lambda request: sent.append(json.dumps([request.url, request.headers, request.post_data]))
    )
    with _service_of_playlists() as (address, got):

        def to_stand_in(route: Route) -> None:
            asked = route.request
            path = urlsplit(asked.url).path
            headers = {"authorization": asked.headers["authorization"], "content-type": "application/json"}
            answer = httpx.post(address + path, content=asked.post_data, headers=headers, trust_env=False)
            allowed = {"access-control-allow-origin": "*", "content-type": "application/json"}
            route.fulfill(status=answer.status_code, body=answer.content, headers=allowed)

        for site in ("https://api.spotify.com/**", "https://api.listenbrainz.org/**"):
            page.route(site, to_stand_in)
        page.click("#save")
        spotify = page.locator(".service", has_text="Save to Spotify")
        spotify.locator("summary").click()
        note = spotify.locator("[role=status]")

        def save(token: str) -> None:
            spotify.get_by_label("Your token of Spotify").fill(token)
            spotify.get_by_role("button", name="Save", exact=True).click()

        save("secret-wrong")
        expect(note).to_contain_text("api.spotify.com will learn your address")
        assert got == []
        note.get_by_role("button").click()
        expect(note).to_have_text("The token is not accepted: Invalid authorization token.")
        save("secret-right")
        expect(note).to_contain_text("Saved 12 songs in Spotify")
        expect(note.get_by_role("link")).to_have_attribute("href", "https://open.spotify.com/playlist/made")
        made, filled = got[1:]
        assert made["path"] == "/v1/me/playlists"
        assert made["body"] == {"name": "My songs, by TuneGraph", "public": False}
        assert filled["path"] == "/v1/playlists/made/items"
        assert filled["body"] == {"uris": [f"spotify:track:{song}" for song in songs]}
        assert {one["token"] for one in got[1:]} == {"Bearer secret-right"}
        # None of these songs is known by an id of MusicBrainz, so nothing is sent there.
        brainz = page.locator(".service", has_text="Save to ListenBrainz")
        brainz.locator("summary").click()
        brainz.get_by_label("Your token of ListenBrainz").fill("secret-other")
        brainz.get_by_role("button", name="Save", exact=True).click()
        expect(brainz.locator("[role=status]")).to_have_text("None of these songs is known in ListenBrainz.")
        # With ids of recordings they are saved there.
        page.evaluate(
            """async () => {
              const { recommendations } = await import("./page/recommendations.js");
              for (const [place, song] of recommendations.items.slice(0, 2).entries()) {
                const id = `aaaaaaaa-0000-0000-0000-00000000000${place}`;
                song.links = { musicbrainz: `https://musicbrainz.org/recording/${id}` };
              }
            }"""
        )
        brainz.get_by_label("Your token of ListenBrainz").fill("secret-other")
        brainz.get_by_role("button", name="Save", exact=True).click()
        expect(brainz.locator("[role=status]")).to_contain_text(
            "Saved 2 songs in ListenBrainz; 10 not known there."
        )
        assert got[-1]["token"] == "Token secret-other"
        identifiers = [track["identifier"][0] for track in got[-1]["body"]["playlist"]["track"]]
        assert identifiers == [
            f"https://musicbrainz.org/recording/aaaaaaaa-0000-0000-0000-00000000000{n}" for n in (0, 1)
        ]
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    fields = page.eval_on_selector_all("input", "all => all.map(one => one.value)")
    assert "secret" not in kept + "".join(fields)
    own = [one for one in sent if json.loads(one)[0].startswith("http://127.0.0.1")]
    assert not any("secret" in one for one in own)
    # 401 is written to the console by the browser itself; nothing else is complained of.
    assert [one for one in seen.complaints if "401" not in one] == []


def test_without_a_clipboard_the_link_is_in_the_address_until_the_list_changes(visit: Open) -> None:
    seen = visit(script="Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    seen.tick(track_name(4))
    seen.page.click("#share")
    expect(seen.page.locator("#share")).to_have_text("In the address bar")
    assert f"likes={track_id(4)}" in seen.page.url
    seen.tick(track_name(8))
    assert "#" not in seen.page.url
    seen.page.reload()
    expect(seen.page.locator("#likes .song")).to_have_count(2)
    expect(seen.page.locator("#shared")).to_be_hidden()
