"""Thin routes take from a request what FastAPI would, and are documented by FastAPI as such."""

import asyncio
import json
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from tunegraph_pipeline.serve import problem_details
from tunegraph_pipeline.serve.fast_route import ExactPaths, FastRoute, checked_by


class Body(BaseModel):
    """A body."""

    words: list[str]


class How(BaseModel):
    """A query."""

    model_config = ConfigDict(extra="forbid")

    times: int = 1


def only_members(request: Request) -> None:
    if "member" not in request.headers:
        raise problem_details.Problem(HTTPStatus.FORBIDDEN, "members only")


def application(route_class: type[Any]) -> FastAPI:
    app = FastAPI(exception_handlers={problem_details.Problem: problem_details.handle_problem})
    app.router.route_class = route_class

    @app.post("/rooms/{room}/{door:path}")
    async def everything(
        room: str, door: str, body: Body, how: Annotated[How, Query()], request: Request
    ) -> Response:
        return JSONResponse([room, door, body.words * how.times, request.method])

    @app.get("/plain")
    async def plain() -> Response:
        return JSONResponse("plain")

    @app.post("/members")
    @checked_by(only_members)
    async def members(body: Body) -> Response:
        return JSONResponse(body.words)

    return app


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    content: Any = None,
    query: dict[str, Any] | None = None,
    **headers: str,
) -> tuple[int, Any]:
    """Status and JSON of the answer of an application."""
    sent: list[dict[str, Any]] = []
    body = b"" if content is None else json.dumps(content).encode()
    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": urlencode(query or {}).encode(),
        "headers": [(b"content-type", b"application/json"), *listed],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "root_path": "",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    asyncio.run(run())
    received = b"".join(message.get("body", b"") for message in sent)
    return int(sent[0]["status"]), json.loads(received)


def test_every_kind_of_argument_arrives() -> None:
    app = application(FastRoute)
    found = ask(app, "POST", "/rooms/blue/a/b", {"words": ["x"]}, {"times": "2"})
    assert found == (200, ["blue", "a/b", ["x", "x"], "POST"])
    assert ask(app, "POST", "/rooms/blue/a", {"words": ["x"]}) == (200, ["blue", "a", ["x"], "POST"])
    assert ask(app, "GET", "/plain") == (200, "plain")


def test_what_is_wrong_is_a_problem_that_says_where() -> None:
    app = application(FastRoute)
    for query, content, where in (
        ({"times": "x"}, {"words": []}, "query.times"),
        ({"time": "1"}, {"words": []}, "query.time"),
        ({}, {"words": [1]}, "body.words.0"),
    ):
        status, problem = ask(app, "POST", "/rooms/a/b", content, query)
        assert (status, problem["errors"][0]["location"]) == (422, where)


def test_a_check_comes_before_anything_is_read() -> None:
    app = application(FastRoute)
    assert ask(app, "POST", "/members", {"words": 3})[0] == 403
    assert ask(app, "POST", "/members", {"words": 3}, member="yes")[0] == 422
    assert ask(app, "POST", "/members", {"words": ["a"]}, member="yes") == (200, ["a"])


def test_it_is_documented_as_fastapi_documents_the_same_endpoints() -> None:
    from fastapi.routing import APIRoute

    assert application(FastRoute).openapi() == application(APIRoute).openapi()


def test_an_exact_path_is_answered_past_fastapi_as_fastapi_would() -> None:
    app = application(FastRoute)
    exact = ExactPaths(app, app.routes, lambda: Response(status_code=499))
    for asked in (
        ("GET", "/plain"),
        ("GET", "/nowhere"),
        ("DELETE", "/plain"),
        ("POST", "/rooms/blue/a/b", {"words": ["x"]}, {"times": "2"}),
        ("POST", "/members", {"words": ["a"]}),
        ("POST", "/members", {"words": 3}),
    ):
        assert ask(exact, *asked) == ask(app, *asked)
    assert ask(exact, "POST", "/members", {"words": ["a"]}, member="yes") == (200, ["a"])

    async def unreachable(*_: Any) -> None:
        raise AssertionError("it goes past this")

    past = ExactPaths(unreachable, app.routes, lambda: Response(b"0", 499))
    assert ask(past, "GET", "/plain") == (200, "plain")
    assert ask(past, "POST", "/members", {"words": 3}, member="yes")[0] == 422
