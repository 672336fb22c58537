"""The page in a real browser, for tests: Debian's chromium, driven by Playwright.

Here: opening the page and what a visit did. Not here: the fixtures (`conftest`), or what is tested.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Route,
    expect,
    sync_playwright,
)

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1400, "height": 900}
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Visit:
    """A page that is open, and what it did: every request, and what a console or a policy complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def recommended(self) -> list[str]:
        return self.tracks("#recommendations")

    def liked(self) -> list[str]:
        return self.tracks("#likes")

    def tracks(self, where: str) -> list[str]:
        """The ids of the songs of a list, in order."""
        found: list[str] = self.page.eval_on_selector_all(
            f"{where} .song", "rows => rows.map(row => row.dataset.track)"
        )
        return found

    def after(self, act: Callable[[], object]) -> dict[str, Any]:
        """Do something and wait for the recommendations it asks for; the body of the request."""
        with self.page.expect_response(lambda got: got.url.endswith("/recommendations")) as told:
            act()
        body: Any = told.value.request.post_data_json
        expect(self.page.locator("#recommendations")).not_to_have_class(re.compile("loading"))
        assert isinstance(body, dict)
        return body

    def tick(self, text: str) -> None:
        """Search, tick the first song found, and close what was found."""
        self.find(text)
        self.after(lambda: self.page.press("#search", "Enter"))
        self.page.press("#search", "Escape")

    def find(self, text: str) -> None:
        with self.page.expect_response(lambda got: "/tracks?query=" in got.url):
            self.page.fill("#search", text)
        self.found()

    def found(self) -> None:
        """Wait for what is found for the whole text in the search field."""
        expect(self.page.locator('#found[aria-busy="false"] li').first).to_be_visible()

    def unfold(self, where: str = "#options") -> None:
        """Open a folded part."""
        if not self.page.locator(where).evaluate("part => part.open"):
            self.page.locator(f"{where} > summary").click()

    def details(self, row: str) -> None:
        """Open what a row of a song has below its title."""
        self.page.locator(f"{row} .title .name").click()
        expect(self.page.locator(f"{row} .details")).to_be_visible()


Open = Callable[..., Visit]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips the test where there is none, but not where one is required."""
    if CHROMIUM is None and not (os.environ.get("TUNEGRAPH_REQUIRE_BROWSER") or os.environ.get("CI")):
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@contextmanager
def context_of(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """A context of its own, for which the world outside is one pixel."""
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    context.route(lambda address: urlsplit(address).hostname != "127.0.0.1", _a_picture)
    yield context
    context.close()


def _a_picture(route: Route) -> None:
    pixel = "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
    route.fulfill(body=pixel, content_type="image/svg+xml")


def _cleared(page: Page, origin: str) -> Page:
    """The page as if nobody had ever used it."""
    page.unroute_all(behavior="ignoreErrors")
    page.goto(f"{origin}/health")  # of the same site, which goes on in the same process
    page.evaluate("sessionStorage.clear()")
    page.mouse.move(0, 0)
    session = page.context.new_cdp_session(page)
    session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    session.send("Network.clearBrowserCache")
    session.detach()
    return page


@contextmanager
def visits(browser: Browser, usual: Page, url: str) -> Iterator[Open]:
    """Opens the page, with nothing kept from one visit to the next: the ``usual`` one, cleared, for the first
    visit of a test, and one in a context of its own for others and for whoever has options. ``script`` runs
    before those of the page."""
    with ExitStack() as ended:
        free = [usual]
        url_of_service = url

        def open_page(path: str = "/", url: str = url_of_service, **options: Any) -> Visit:
            viewport, script = options.pop("viewport", DESK), options.pop("script", None)
            if options or script or not free:
                page = ended.enter_context(context_of(browser, viewport=viewport, **options)).new_page()
            else:
                page = _cleared(free.pop(), url)
                page.set_viewport_size(viewport)
            if script is not None:
                page.add_init_script(script)
            found = watched(page, ended)
            page.goto(url + path)
            expect(page.locator("#recommendations .song").first).to_be_visible()
            return found

        yield open_page


def watched(page: Page, ended: ExitStack) -> Visit:
    """A visit that writes down what the page does, until ``ended``."""
    found = Visit(page)

    def watch(event: Any, note: Callable[[Any], None]) -> None:
        page.on(event, note)
        ended.callback(page.remove_listener, event, note)

    def complain(said: ConsoleMessage) -> None:
        # A driver without a graphics card tells of its speed.
        if said.type in ("error", "warning") and "GL Driver Message" not in said.text:
            found.complaints.append(said.text)

    watch("request", lambda request: found.requests.append(request.url))
    watch("console", complain)
    watch("pageerror", lambda error: found.complaints.append(str(error)))
    return found
