"""Routes that skip FastAPI's general request handling, which costs as much as a query.

Here: building the arguments of an endpoint from a request, and finding the endpoint of a path without
parameters. Not here: any endpoint (`routes`).
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from http import HTTPStatus
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from fastapi.params import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tunegraph_pipeline.serve.problem_details import Problem, validation_problem

Check = Callable[[Request], None]
Endpoint = Callable[..., Awaitable[Response]]
Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_CHECK = "_tunegraph_check"


def checked_by(check: Check) -> Callable[[Endpoint], Endpoint]:
    """Run ``check`` on each request before its body is read; it raises Problem to reject the request."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _CHECK, check)
        return endpoint

    return mark


class FastRoute(APIRoute):
    """A route whose endpoint returns a Response and takes, by annotation,

    - a pydantic model: the body, JSON, validated from its bytes;
    - ``Annotated[model, Query()]``: the query string;
    - ``Request``: the request;
    - ``str``: the path parameter of that name.

    FastAPI understands the same signature and generates the OpenAPI document from it, but its general request
    handling costs about as much as a query over the whole catalogue.
    """

    def get_route_handler(self) -> Handler:
        endpoint = self.endpoint
        check: Check | None = getattr(endpoint, _CHECK, None)
        body_name, body_model = "", BaseModel
        query_name, query_model = "", BaseModel
        request_name = ""
        path_names: list[str] = []
        hints = get_type_hints(endpoint, include_extras=True)
        for name in inspect.signature(endpoint).parameters:
            hint = hints[name]
            if get_origin(hint) is Annotated and any(isinstance(mark, Query) for mark in get_args(hint)[1:]):
                query_name, query_model = name, get_args(hint)[0]
            elif hint is Request:
                request_name = name
            elif isinstance(hint, type) and issubclass(hint, BaseModel):
                body_name, body_model = name, hint
            else:
                path_names.append(name)

        # What most requests ask for: nothing. A model is not changed once it is there, so all may have this.
        no_query = None if query_model is BaseModel else _of_nothing(query_model)

        async def handle(request: Request) -> Response:
            if check is not None:
                check(request)
            arguments: dict[str, Any] = {name: request.path_params[name] for name in path_names}
            if request_name:
                arguments[request_name] = request
            if query_name:
                asked = request.scope["query_string"] or no_query is None
                arguments[query_name] = _parse_query(request, query_model) if asked else no_query
            if body_name:
                arguments[body_name] = await parse_body(request, body_model)
            response: Response = await endpoint(**arguments)
            return response

        return handle


class ExactPaths:
    """An ASGI application that answers requests to the exact paths of ``routes`` by itself, and leaves all
    others to ``app``.

    FastAPI passes every request through six layers, each of which awaits the next, and compares its path with
    a pattern for each route. A `FastRoute` without parameters in its path needs none of them.
    ``disconnected`` makes the response where the client is gone before its body has arrived. Exceptions other
    than `Problem` are raised, for whoever logs them (`middleware`).
    """

    def __init__(
        self, app: ASGIApp, routes: Iterable[BaseRoute], disconnected: Callable[[], Response]
    ) -> None:
        self._app = app
        self._disconnected = disconnected
        self._routes: dict[tuple[str, str], tuple[FastRoute, Handler]] = {}
        for route in routes:
            if isinstance(route, FastRoute) and not route.param_convertors:
                handler = route.get_route_handler()
                for method in route.methods or ():
                    self._routes.setdefault((method, route.path), (route, handler))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], handle = found
        scope["app"] = self._app
        try:
            response = await handle(Request(scope, receive, send))
        except Problem as problem:
            response = problem.response(scope)
        except ClientDisconnect:
            response = self._disconnected()
        await response(scope, receive, send)


def _parse_query(request: Request, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise validation_problem(error, "query") from None


def _of_nothing(model: type[BaseModel]) -> BaseModel | None:
    """What an empty query string says, None if it is not enough."""
    try:
        return model.model_validate({})
    except ValidationError:
        return None


async def parse_body(request: Request, model: type[Body]) -> Body:
    """The JSON body of a request. Raises Problem 415 for another content type, 400 for no JSON, 422 for
    other JSON than the model's."""
    # JSON only: a foreign web page can send other content types without a CORS preflight.
    headers = request.scope["headers"]
    kind: bytes = next((value for name, value in headers if name == b"content-type"), b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send the body as JSON, with the header `Content-Type: application/json`",
        )
    try:
        return model.model_validate_json(await _received(request))
    except ValidationError as error:
        raise validation_problem(error, "body") from None


async def _received(request: Request) -> bytes:
    """The body, which is mostly in the first message; `Request.body` costs three times as much for that."""
    body = b""
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        body = body + part if body else part
        if not message.get("more_body", False):
            return body
