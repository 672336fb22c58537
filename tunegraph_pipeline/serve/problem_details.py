"""Error responses as RFC 9457 problem details (Problem Details for HTTP APIs).

Here: the problem as an exception and as a response, and the handlers that turn the exceptions of Starlette
and pydantic into one. Not here: the code that rejects a request.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunegraph_pipeline.words import in_plain_words

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "tunegraph.request_id"
"""The key of the scope under which the middleware stores the id of a request."""

ERROR_WRITER = "tunegraph.error_writer"
"""The key of the scope of a function that writes a problem as another API does (`shapes`)."""

_MOST_ERRORS = 20


class InvalidInput(BaseModel):
    """One error in a request: where, and why."""

    location: str = Field(description="For example `body.likes.3` or `query.k`.")
    reason: str


class ProblemDetails(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="`about:blank`, or `urn:tunegraph:problem:` and a name.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, in one line.")
    request_id: str = Field(description="The same as in `X-Request-ID` and in the service's log.")
    errors: list[InvalidInput] | None = Field(default=None, description="All errors in the input.")


class Problem(Exception):  # noqa: N818  # what RFC 9457 calls it
    """Raised to reject a request; becomes the error response.

    ``detail`` is one line for the client, without internals of the service. ``name`` identifies the problem
    if its status alone does not.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        name: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[InvalidInput] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.name = name
        self.headers = dict(headers or {})
        self.errors = errors

    def response(self, scope: Scope) -> Response:
        """The error response: problem details, or what the API has that the request speaks."""
        write: ErrorWriter | None = scope.get(ERROR_WRITER)
        if write is not None:
            response = write(self, scope)
            response.headers.update(self.headers)
            return response
        content: dict[str, Any] = {
            "type": f"urn:tunegraph:problem:{self.name}" if self.name else "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "request_id": scope.get(REQUEST_ID, ""),
        }
        if self.errors:
            content["errors"] = [error.model_dump() for error in self.errors]
        return Response(
            pydantic_core.to_json(content), int(self.status), headers=self.headers, media_type=MEDIA_TYPE
        )


ErrorWriter = Callable[[Problem, Scope], Response]


def unavailable(detail: str, *, retry_after: int, name: str = "busy") -> Problem:
    """503, with the seconds after which to try again."""
    headers = {"Retry-After": str(retry_after)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, name=name, headers=headers)


def validation_problem(error: ValidationError, part: str) -> Problem:
    """The problem for a pydantic error in a ``part`` of a request: body, query or path."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    found = [
        InvalidInput(location=".".join([part, *map(str, one["loc"])]), reason=in_plain_words(one["msg"]))
        for one in errors
    ]
    if errors[0]["type"] == "json_invalid":
        return Problem(
            HTTPStatus.BAD_REQUEST, f"the body is not JSON: {found[0].reason}", name="not-json", errors=found
        )
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{found[0].location}: {found[0].reason}{more}",
        name="invalid-input",
        errors=found[:_MOST_ERRORS],
    )


async def handle_problem(request: Request, error: Exception) -> Response:
    """Exception handler for :class:`Problem`."""
    assert isinstance(error, Problem)
    return error.response(request.scope)


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for errors of the router: unknown path, method not allowed."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; /docs lists the paths",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not accept this method; /docs lists the methods",
    }
    return Problem(status, details.get(status, status.description), headers=error.headers).response(
        request.scope
    )


async def handle_unexpected_error(request: Request, _error: Exception) -> Response:
    """Exception handler for everything else: the response has the request id and no detail of the error."""
    return internal_error(request.scope)


def internal_error(scope: Scope) -> Response:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "the service failed to answer; see its log under this request id",
    ).response(scope)
