"""What endpoints share: JSON responses, and the problems that they document.

Here: those. Not here: any endpoint (`routes`, `list_routes`), or problems themselves (`problem_details`).
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar, TypeVarTuple

import pydantic_core
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.filters import NotInBundleError
from tunegraph_pipeline.recommend.path import NoPathError
from tunegraph_pipeline.recommend.recommender import Recommender, UnknownSongsError
from tunegraph_pipeline.serve.middleware import CHARGE
from tunegraph_pipeline.serve.problem_details import MEDIA_TYPE as PROBLEM
from tunegraph_pipeline.serve.problem_details import Problem

Args = TypeVarTuple("Args")
T = TypeVar("T")


def problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may respond with, for its documentation."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    always = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR)
    return {
        int(status): {"description": status.phrase, "content": content}
        for status in sorted({*statuses, *always})
    }


OF_BODY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
OF_STORED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
BUSY = HTTPStatus.SERVICE_UNAVAILABLE
INVALID = HTTPStatus.UNPROCESSABLE_ENTITY


def json_response(content: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(pydantic_core.to_json(content), int(status), media_type="application/json")


def require_known(recommender: Recommender, track_id: str) -> None:
    if recommender.bundle.tracks.position(track_id) < 0:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"bundle {recommender.bundle.version} has no track of this id; search with GET /tracks?query=",
            name="unknown-track",
        )


def unknown_user(bundle_version: str) -> Problem:
    """404: the bundle has no user of the id."""
    return Problem(
        HTTPStatus.NOT_FOUND,
        f"bundle {bundle_version} has no user of this id; new users are in it after a refresh, or send their"
        " songs to POST /recommendations",
        name="unknown-user",
    )


def charge_request(request: Request, cost: float) -> None:
    """Count a request as so many more, for the rate limit."""
    charge = request.scope.get(CHARGE)
    if charge is not None:
        charge(cost)


def problem_of(error: InputError) -> Problem:
    """What is wrong with a query, as a response: 404 for a genre or feature that the bundle knows of no song,
    for songs that it does not have, and where there is no path; else 422."""
    if isinstance(error, UnknownSongsError):
        return Problem(HTTPStatus.NOT_FOUND, str(error), name="unknown-songs")
    if isinstance(error, NoPathError):
        return Problem(HTTPStatus.NOT_FOUND, str(error), name="no-path")
    if isinstance(error, NotInBundleError):
        return Problem(HTTPStatus.NOT_FOUND, str(error), name="unknown-filter")
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), name="invalid-input")


def answer_or_problem(work: Callable[[*Args], T], *args: *Args) -> T:
    """What ``work`` returns. Raises Problem where it raises InputError."""
    try:
        return work(*args)
    except InputError as error:
        raise problem_of(error) from None
