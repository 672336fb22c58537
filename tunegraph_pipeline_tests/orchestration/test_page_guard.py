"""What the guard lets through to Dagster's page; the real page behind it is in `test_dagster_dev`."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.orchestration.page_guard import (
    HOSTS_VARIABLE,
    TOKEN_VARIABLE,
    PageGuard,
    PageSettings,
    known_hosts,
)

HOST = "127.0.0.1:3000"
HERE = f"http://{HOST}"
TOKEN = "correct-horse-battery-staple"
HTML = "text/html,application/xhtml+xml"
FETCHED = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}
FOLLOWED = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


async def _graphql(request: Request) -> PlainTextResponse:
    """Executes, like Dagster's, whatever reaches it in whatever way."""
    return PlainTextResponse(f"executed {(await request.body()).decode()}{request.url.query}")


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()


async def _page(_request: Request) -> HTMLResponse:
    return HTMLResponse("a page", headers={"content-security-policy": "object-src 'none'"})


INNER = Starlette(
    routes=[
        Route("/graphql", _graphql, methods=["GET", "POST"]),
        WebSocketRoute("/graphql", _socket),
        Route("/{path:path}", _page),
    ]
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Those of one name are joined by commas."""
    text: str


@dataclass(frozen=True)
class Client:
    """Sends exactly the headers it is told, besides a Host."""

    settings: PageSettings
    host: str = HOST

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, _named(headers))

    def post(self, target: str, body: str = "{}", **headers: str) -> Answer:
        return self.ask("POST", target, _named({"content_type": "application/json", **headers}), body)

    def sign_in(self, target: str, token: str, **headers: str) -> Answer:
        form = {"content_type": "application/x-www-form-urlencoded", **headers}
        return self.ask("POST", target, _named(form), urlencode({"token": token}))

    def ask(self, method: str, target: str, headers: list[tuple[str, str]], body: str = "") -> Answer:
        told = self._run("http", method, target, headers, body)
        found: dict[str, str] = {}
        for raw_name, raw_value in told[0]["headers"]:
            name, value = raw_name.decode(), raw_value.decode()
            found[name] = f"{found[name]}, {value}" if name in found else value
        return Answer(told[0]["status"], found, b"".join(one.get("body", b"") for one in told[1:]).decode())

    def connects(self, **headers: str) -> bool:
        """Whether a websocket is accepted."""
        (told, *_) = self._run("websocket", "GET", "/graphql", _named(headers), "")
        return bool(told["type"] == "websocket.accept")

    def _run(
        self, kind: str, method: str, target: str, headers: list[tuple[str, str]], body: str
    ) -> list[Message]:
        path, _, query = target.partition("?")
        if not any(name == "host" for name, _ in headers):
            headers = [("host", self.host), *headers]
        scope = {
            "type": kind,
            "method": method,
            "scheme": "http" if kind == "http" else "ws",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "server": ("127.0.0.1", 3000),
            "subprotocols": [],
        }
        told: list[Message] = []
        asked = {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request"}

        async def receive() -> Message:
            return {**asked, "body": body.encode()} if kind == "http" else asked

        async def send(message: Message) -> None:
            told.append(message)

        asyncio.run(PageGuard(INNER, self.settings)(scope, receive, send))
        return told


def _named(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in headers.items()]


PAGE = Client(PageSettings())
OWN_NAME = Client(PageSettings(known_hosts(["Dagster.example.org"])))
WITH_TOKEN = Client(PageSettings(token=TOKEN))


@pytest.mark.parametrize("host", [HOST, "localhost:3000", "[::1]:3000", "LOCALHOST", "127.0.0.1:8080"])
def test_it_answers_under_names_of_loopback_at_any_port(host: str) -> None:
    client = Client(PageSettings(), host)
    assert client.get("/runs").text == "a page"
    assert client.post("/graphql", origin=f"http://{host}").text == "executed {}"
    assert client.connects(origin=f"http://{host}")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:3000, evil.example",
        "127.0.0.1:",
        "127.0.0.1:3000x",
        "localhost\t",
        "0x7f.1",
        "[::2]",
        "[::1",
        "",
    ],
)
def test_under_other_names_it_answers_nothing(host: str) -> None:
    foreign = Client(PageSettings(), host)
    for answer in (foreign.get("/runs"), foreign.post("/graphql")):
        assert answer.status == 403
        assert "`tunegraph ui --allow-host NAME` adds one" in answer.text
    assert not foreign.connects(origin=f"http://{host}")


def test_of_two_names_in_one_request_it_believes_neither() -> None:
    assert PAGE.ask("GET", "/runs", [("host", HOST), ("host", "evil.example")]).status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/avif,image/webp,*/*"])
def test_graphql_by_get_is_refused(method: str, accept: str) -> None:
    answer = PAGE.ask(method, "/graphql?query=mutation{launchRun}", [("accept", accept)])
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_graphiql_is_still_shown() -> None:
    assert PAGE.get("/graphql", accept=HTML).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"])
def test_other_methods_are_refused(method: str) -> None:
    assert PAGE.ask(method, "/runs", []).status == 405


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/graphql",
        "application/jsonp",
    ],
)
def test_a_body_that_a_foreign_form_could_send_is_refused(content_type: str | None) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    for path in ("/graphql?query=mutation{launchRun}", "/report_asset_materialization/serving_bundle"):
        assert PAGE.ask("POST", path, headers, "{}").status == 415


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_from_the_page_or_a_program_is_executed(content_type: str) -> None:
    assert PAGE.post("/graphql", content_type=content_type).text == "executed {}"
    own = PAGE.post("/graphql", content_type=content_type, origin=HERE, sec_fetch_site="same-origin")
    assert own.text == "executed {}"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:3001",
        "http://127.0.0.1",
        "http://127.0.0.1:3000.evil.example",
        "http://evil.example/127.0.0.1:3000",
        "chrome-extension://127.0.0.1:3000",
        "127.0.0.1:3000",
        "null",
        "",
    ],
)
def test_a_foreign_page_reaches_nothing(origin: str) -> None:
    assert PAGE.post("/graphql", origin=origin).status == 403
    assert PAGE.get("/runs", origin=origin).status == 403
    assert not PAGE.connects(origin=origin)


def test_a_websocket_of_the_page_or_a_program_is_accepted() -> None:
    assert PAGE.connects()
    assert PAGE.connects(origin=HERE)


def test_a_link_may_be_followed_and_nothing_be_embedded() -> None:
    assert PAGE.get("/runs", **FOLLOWED).status == 200
    for embedded in (FETCHED, {**FOLLOWED, "sec_fetch_dest": "iframe"}, {"sec_fetch_site": "same-site"}):
        assert PAGE.get("/logs/run/compute.out", **embedded).status == 403
    assert PAGE.post("/graphql", **FOLLOWED).status == 403


@pytest.mark.parametrize("target", ["/runs", "/graphql?query={version}"])
def test_every_answer_keeps_the_page_out_of_frames(target: str) -> None:
    headers = PAGE.get(target).headers
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_policy_of_the_page_itself_stays() -> None:
    assert PAGE.get("/runs").headers["content-security-policy"].startswith("object-src 'none'")


# --- behind a proxy ---


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("dagster.example.org", "https://dagster.example.org"),
        ("dagster.example.org", "https://Dagster.example.org:443"),
        ("dagster.example.org:8443", "https://dagster.example.org:8443"),
        ("127.0.0.1:3000", "https://dagster.example.org"),  # a proxy that names itself, as nginx does
    ],
)
def test_a_further_name_is_the_page_too(host: str, origin: str) -> None:
    assert OWN_NAME.get("/runs", host=host).status == 200
    assert OWN_NAME.post("/graphql", host=host, origin=origin).text == "executed {}"
    assert OWN_NAME.connects(host=host, origin=origin)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "https://dagster.example.org:8443"),
        ("dagster.example.org", "https://music.example.org"),
        ("music.example.org", "https://music.example.org"),
    ],
)
def test_with_a_further_name_other_names_and_ports_stay_out(host: str, origin: str) -> None:
    assert OWN_NAME.post("/graphql", host=host, origin=origin).status == 403
    assert not OWN_NAME.connects(host=host, origin=origin)


@pytest.mark.parametrize("name", ["*", "https://dagster.example.org", "a b", "host/path", "host:port", ""])
def test_what_cannot_be_a_name_is_a_line(name: str) -> None:
    with pytest.raises(InputError, match="a host is a name"):
        known_hosts([name])


# --- with a token ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"tunegraph_ui={TOKEN}"},
        {"cookie": "tunegraph_ui=\xe9"},
        {"cookie": "tunegraph_ui="},
    ],
)
def test_without_the_token_nobody_sees_anything(headers: dict[str, str]) -> None:
    for answer in (WITH_TOKEN.get("/server_info", **headers), WITH_TOKEN.post("/graphql", **headers)):
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in answer.text
    assert not WITH_TOKEN.connects(**headers)


def test_a_program_sends_the_token_as_a_header() -> None:
    assert WITH_TOKEN.post("/graphql", authorization=f"Bearer {TOKEN}").text == "executed {}"
    assert WITH_TOKEN.connects(authorization=f"Bearer {TOKEN}")


def test_a_person_signs_in_and_is_shown_what_was_asked_for() -> None:
    form = WITH_TOKEN.get("/runs/1?tab=log", accept=HTML)
    assert (form.status, 'type="password"' in form.text) == (401, True)
    wrong = WITH_TOKEN.sign_in("/runs/1", "guess", accept=HTML, origin=HERE)
    assert (wrong.status, "That is not the token." in wrong.text) == (401, True)
    assert "set-cookie" not in wrong.headers
    right = WITH_TOKEN.sign_in("/runs/1?tab=log", TOKEN, origin=HERE)
    assert (right.status, right.headers["location"]) == (303, "/runs/1?tab=log")
    cookie, *attributes = right.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=lax"} <= set(attributes)
    assert "Secure" not in attributes
    assert TOKEN not in cookie
    assert WITH_TOKEN.get("/runs", cookie=cookie).text == "a page"
    assert WITH_TOKEN.post("/graphql", cookie=cookie, origin=HERE).text == "executed {}"
    assert WITH_TOKEN.connects(cookie=cookie, origin=HERE)
    # The browser sends the cookie for a foreign page, too.
    assert WITH_TOKEN.post("/graphql", cookie=cookie, origin="http://evil.example").status == 403


def test_over_https_the_cookie_stays_on_https() -> None:
    client = Client(PageSettings(known_hosts(["dagster.example.org"]), TOKEN))
    answer = client.sign_in("/", TOKEN, origin="https://dagster.example.org")
    assert "Secure" in answer.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("path", ["//evil.example", "///evil.example/", "/\\evil.example", "/a\r\nb: c"])
def test_signing_in_leads_to_no_other_host(path: str) -> None:
    answer = WITH_TOKEN.sign_in(path, TOKEN)
    assert answer.status == 303
    there = answer.headers["location"]
    assert urlsplit(there).netloc == ""
    assert there.isprintable()
    assert not there.startswith(("//", "/\\"))


def test_a_foreign_page_cannot_sign_in_and_a_long_form_is_not_read() -> None:
    assert WITH_TOKEN.sign_in("/", TOKEN, origin="http://evil.example").status == 403
    assert WITH_TOKEN.sign_in("/", "x" * 5000).status == 401


def test_a_form_is_never_executed() -> None:
    answer = WITH_TOKEN.sign_in("/graphql?query=mutation{launchRun}", TOKEN)
    assert (answer.status, answer.text) == (303, "")


@pytest.mark.parametrize("token", ["short", "with space and more", "quinze-caractères-et-plus"])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_a_line(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(InputError, match=TOKEN_VARIABLE) as error:
        PageSettings.of_environment()
    assert token not in str(error.value)


def test_names_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS_VARIABLE, "dagster.example.org other.example:8443")
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    found = PageSettings.of_environment()
    assert found == PageSettings(frozenset({"dagster.example.org", "other.example:8443"}), TOKEN)
