"""The endpoints about whole lists: those that listeners bring.

Here: these endpoints with their documentation. Not here: reading and matching lists (`matches`), or the other
endpoints (`routes`).
"""

from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve import schemas
from tunegraph_pipeline.serve.answers import BUSY, OF_BODY, json_response, problems
from tunegraph_pipeline.serve.fast_route import parse_body
from tunegraph_pipeline.serve.limits import MOST_MISSING
from tunegraph_pipeline.serve.matches import Brought, find_songs
from tunegraph_pipeline.serve.middleware import CHARGE, FILE_TYPE
from tunegraph_pipeline.serve.service import Service

_FILE_COST = 20.0  # requests that a file counts as, for the rate limit
_MATCH_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": schemas.MatchRequest.model_json_schema()},
        FILE_TYPE.decode(): {"schema": {"type": "string", "format": "binary"}},
    },
}


def add_lists(router: APIRouter, service: Service) -> None:
    """Add the endpoints to the router."""

    @router.post(
        "/matches",
        summary="Find the songs that somebody brings",
        tags=["lists"],
        response_model=schemas.MatchesAnswer,
        responses=problems(*OF_BODY, HTTPStatus.REQUEST_TIMEOUT, BUSY),
        openapi_extra={"requestBody": _MATCH_BODY},
    )
    async def match(how: Annotated[schemas.MatchParameters, Query()], request: Request) -> Response:
        """The songs of the catalogue in lines of text, in the file that is the body, or in a playlist. Songs
        are found by id, by ISRC, or by artist and title. Nothing is stored."""
        content_type = request.headers.get("content-type", "").strip().lower().encode()
        if content_type.startswith(FILE_TYPE):
            charge = request.scope.get(CHARGE)
            if charge is not None:
                charge(_FILE_COST)
            brought = await service.lists.of_file(request, how.name, how.user)
        else:
            brought = await service.lists.of_text((await parse_body(request, schemas.MatchRequest)).text)
        recommender = service.live_bundle.current.recommender
        return json_response(await service.in_thread(_matches, recommender, brought))


def _matches(recommender: Recommender, brought: Brought) -> dict[str, Any]:
    matched, missing = find_songs(recommender.bundle, brought)
    songs = recommender.describe(np.array([one.track for one in matched], dtype=np.int32))
    return {
        "bundle_version": recommender.bundle.version,
        "format": brought.form,
        "lists": brought.lists,
        "items": [
            {**song.shown(), "given": one.given, "opinion": one.opinion}
            for song, one in zip(songs, matched, strict=True)
        ],
        "not_found": [one._asdict() for one in missing[:MOST_MISSING]],
        "n_not_found": len(missing),
        "notes": brought.notes,
    }
