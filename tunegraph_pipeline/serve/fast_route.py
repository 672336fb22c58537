"""A route class that skips FastAPI's general request handling, which costs as much as a query.

Here: building the arguments of an endpoint from a request. Not here: any endpoint (`routes`).
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from fastapi.params import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.serve.problem_details import Problem, validation_problem

Check = Callable[[Request], None]
Endpoint = Callable[..., Awaitable[Response]]
Body = TypeVar("Body", bound=BaseModel)

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

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
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

        async def handle(request: Request) -> Response:
            if check is not None:
                check(request)
            arguments: dict[str, Any] = {name: request.path_params[name] for name in path_names}
            if request_name:
                arguments[request_name] = request
            if query_name:
                arguments[query_name] = _parse_query(request, query_model)
            if body_name:
                arguments[body_name] = await parse_body(request, body_model)
            response: Response = await endpoint(**arguments)
            return response

        return handle


def _parse_query(request: Request, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate(dict(request.query_params) if request.scope["query_string"] else {})
    except ValidationError as error:
        raise validation_problem(error, "query") from None


async def parse_body(request: Request, model: type[Body]) -> Body:
    """The JSON body of a request. Raises Problem 415 for another content type, 400 for no JSON, 422 for
    other JSON than the model's."""
    # JSON only: a foreign web page can send other content types without a CORS preflight.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send the body as JSON, with the header `Content-Type: application/json`",
        )
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise validation_problem(error, "body") from None
