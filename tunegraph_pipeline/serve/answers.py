"""What endpoints share: JSON responses, and the problems that they document.

Here: those. Not here: any endpoint (`routes`, `list_routes`), or problems themselves (`problem_details`).
"""

from http import HTTPStatus
from typing import Any

import pydantic_core
from starlette.responses import Response

from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.problem_details import MEDIA_TYPE as PROBLEM
from tunegraph_pipeline.serve.problem_details import Problem


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


def json_response(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(pydantic_core.to_json(content), int(status), media_type="application/json")


def require_known(recommender: Recommender, track_id: str) -> None:
    if recommender.bundle.tracks.position(track_id) < 0:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"bundle {recommender.bundle.version} has no track of this id; search with GET /tracks?query=",
            name="unknown-track",
        )
