"""The endpoints about whole lists: those that listeners bring, blends of several, and two compared.

Here: these endpoints with their documentation. Not here: reading and matching lists (`matches`), or the other
endpoints (`routes`).
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
import pydantic_core
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.recommend.comparison import compare
from tunegraph_pipeline.recommend.recommender import Query as Question
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.recommend.together import DEPTH, blend_queries
from tunegraph_pipeline.serve import schemas
from tunegraph_pipeline.serve.answers import (
    BUSY,
    OF_BODY,
    answer_or_problem,
    charge_request,
    json_response,
    problems,
)
from tunegraph_pipeline.serve.batching import cost_of
from tunegraph_pipeline.serve.fast_route import parse_body
from tunegraph_pipeline.serve.limits import MOST_MISSING
from tunegraph_pipeline.serve.matches import Brought, find_songs
from tunegraph_pipeline.serve.middleware import FILE_TYPE
from tunegraph_pipeline.serve.service import Service

_FILE_COST = 20.0  # requests that a file counts as, for the rate limit
_BLEND_OPTIONS = ("exclude", "familiarity", "diversity", "max_per_artist", "explicit", "links")
_NOT_RANKED = 10**9
_MATCH_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": schemas.MatchRequest.model_json_schema()},
        FILE_TYPE.decode(): {"schema": {"type": "string", "format": "binary"}},
    },
}


def add_lists(router: APIRouter, service: Service) -> None:
    """Add the endpoints to the router."""
    _add_matches(router, service)
    _add_blends(router, service)


def _add_matches(router: APIRouter, service: Service) -> None:
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
            charge_request(request, _FILE_COST)
            brought = await service.lists.of_file(request, how.name, how.user)
        else:
            brought = await service.lists.of_text((await parse_body(request, schemas.MatchRequest)).text)
        recommender = service.live_bundle.current.recommender
        content = await service.lists.in_thread(_matches, recommender, brought)
        return Response(content, media_type="application/json")


def _add_blends(router: APIRouter, service: Service) -> None:
    @router.post(
        "/blends",
        summary="Songs for several listeners",
        tags=["lists"],
        response_model=schemas.BlendAnswer,
        responses=problems(*OF_BODY, HTTPStatus.NOT_FOUND, BUSY),
    )
    async def blend(body: schemas.BlendRequest, request: Request) -> Response:
        """Songs for listeners together, fair to the one who gets least. No song that one of them likes
        already or dislikes is in it."""
        queries = _queries_of(body)
        charge_request(request, sum(map(cost_of, queries)) - 1.0)
        recommender = service.live_bundle.current.recommender
        return json_response(await service.in_thread(answer_or_problem, _blend, recommender, body, queries))

    @router.post(
        "/comparisons",
        summary="Compare two lists",
        tags=["lists"],
        response_model=schemas.ComparisonAnswer,
        responses=problems(*OF_BODY, HTTPStatus.NOT_FOUND, BUSY),
    )
    async def comparison(body: schemas.ComparisonRequest) -> Response:
        """How alike the tastes of two listeners are: the songs they share, pairs of songs that are alike, and
        what is typical of each."""
        recommender = service.live_bundle.current.recommender
        return json_response(await service.in_thread(answer_or_problem, _comparison, recommender, body))


def _queries_of(body: schemas.BlendRequest) -> list[Question]:
    """The query of each listener, for as many songs as a blend ranks."""
    options = {name: getattr(body, name) for name in _BLEND_OPTIONS} | {"k": DEPTH * body.k}
    filters = None if body.filters is None else body.filters.filters()
    return [Question(one.likes, dislikes=one.dislikes, filters=filters, **options) for one in body.lists]


def _blend(
    recommender: Recommender, body: schemas.BlendRequest, queries: Sequence[Question]
) -> dict[str, Any]:
    blended = blend_queries(recommender, queries, body.k)
    names = _names_of(body.lists)
    shares = {name: share for name, share in zip(names, blended.shares, strict=True) if share is not None}
    worst = min(shares, key=lambda name: shares[name])
    return {
        "bundle_version": recommender.bundle.version,
        "items": [
            {
                **one.song.shown(),
                "rank": rank,
                "for": [
                    name
                    for name, place in sorted(
                        zip(names, one.ranks, strict=True), key=lambda two: two[1] or _NOT_RANKED
                    )
                    if place is not None
                ],
                "scores": dict(zip(names, one.worths, strict=True)),
            }
            for rank, one in enumerate(blended.songs, 1)
        ],
        "worst_off": {"name": worst, "score": shares[worst]},
        "unknown": {
            name: recommender.look_up([*one.likes, *one.dislikes])[1]
            for name, one in zip(names, body.lists, strict=True)
        },
    }


def _names_of(lists: list[schemas.NamedList]) -> list[str]:
    """The names of lists, of which a second one of the same name has its number behind it."""
    names: dict[str, None] = {}
    for number, one in enumerate(lists, 1):
        name = one.name
        while name in names:
            name += f" ({number})"
        names[name] = None
    return list(names)


def _comparison(recommender: Recommender, body: schemas.ComparisonRequest) -> dict[str, Any]:
    one, other = body.lists
    found = compare(recommender, one.likes, other.likes, body.k)
    names = _names_of(body.lists)
    return {
        "bundle_version": recommender.bundle.version,
        "likeness": found.likeness,
        "common": [song.shown() for song in found.common],
        "bridges": [
            {"a": pair.a.shown(), "b": pair.b.shown(), "cosine": pair.cosine} for pair in found.bridges
        ],
        "only": dict(zip(names, found.only, strict=True)),
        "unknown": dict(zip(names, found.unknown, strict=True)),
    }


def _matches(recommender: Recommender, brought: Brought) -> bytes:
    matched, missing = find_songs(recommender.bundle, brought)
    songs = recommender.describe(np.array([one.track for one in matched], dtype=np.int32))
    return pydantic_core.to_json(
        {
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
    )
