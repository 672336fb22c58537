"""What can be asked of the service.

Here: every endpoint, what it is documented as, and how it turns into a query. Not here: the shape of requests
and answers (`schemas`), what all requests pass (`middleware`), or the arguments of an
endpoint (`fast_route`).
"""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version as program_version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic_core
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.recommender import Query as Question
from tunegraph_pipeline.recommend.recommender import Recommender, SimilarTrack
from tunegraph_pipeline.recommend.song_view import SongView
from tunegraph_pipeline.serve import metrics, schemas
from tunegraph_pipeline.serve.fast_route import FastRoute, checked_by
from tunegraph_pipeline.serve.formats import write_list
from tunegraph_pipeline.serve.live_bundle import ServedBundle
from tunegraph_pipeline.serve.pages import PageFiles
from tunegraph_pipeline.serve.problem_details import MEDIA_TYPE as PROBLEM
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.service import Service

_HERE = Path(__file__).parent
_MOST_BLOCKED_FOUND = 100  # of what a search finds, so many may be blocked and still leave it full
_MOST_MAPS = 8  # kept rendered, of one version

_LISTS = {
    "text/csv": {"schema": {"type": "string"}},
    "audio/x-mpegurl": {"schema": {"type": "string"}},
    "text/plain": {"schema": {"type": "string"}},
}


def _problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The problems a route may answer, for its documentation."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    always = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR)
    return {
        int(status): {"description": status.phrase, "content": content}
        for status in sorted({*statuses, *always})
    }


_BODY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_STORED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_BUSY = HTTPStatus.SERVICE_UNAVAILABLE
_INVALID = HTTPStatus.UNPROCESSABLE_ENTITY


def add_routes(router: APIRouter, service: Service) -> None:
    """Give the router the routes of one worker."""
    router.route_class = FastRoute
    for add in (_add_recommendations, _add_tracks, _add_feedback, _add_state, _add_pages):
        add(router, service)


def _add_recommendations(router: APIRouter, service: Service) -> None:
    async def listed(question: Question, form: str) -> Response:
        recommender, answer = await service.batcher.ask(question)
        if isinstance(answer, InputError):
            if question.user_id is not None and recommender.bundle.users.position(question.user_id) < 0:
                raise Problem(
                    HTTPStatus.NOT_FOUND,
                    f"no user of that id is in bundle {recommender.bundle.version}; they are after a refresh,"
                    " or POST /recommendations takes their songs",
                    name="unknown-user",
                )
            raise Problem(_INVALID, str(answer), name="invalid-input")
        written = write_list(answer, recommender.bundle.model_version, form)
        headers = {"X-Bundle-Version": answer.bundle_version}
        if written.file_name:
            headers["Content-Disposition"] = f'attachment; filename="{written.file_name}"'
        return Response(written.content, headers=headers, media_type=written.media_type)

    @router.post(
        "/recommendations",
        summary="Songs for a list of likes",
        tags=["recommendations"],
        response_model=schemas.RecommendationsAnswer,
        responses={200: {"content": _LISTS}, **_problems(*_BODY, _BUSY)},
    )
    async def recommend(
        body: schemas.RecommendationRequest, how: Annotated[schemas.ListParameters, Query()]
    ) -> Response:
        """Songs for somebody who likes these. The whole catalogue is ranked; nothing is kept."""
        question = Question(
            likes=body.likes,
            k=body.k,
            dislikes=body.dislikes,
            exclude=body.exclude,
            familiarity=body.familiarity,
            diversity=body.diversity,
            max_per_artist=body.max_per_artist,
            explicit=body.explicit,
        )
        return await listed(question, how.format)

    @router.get(
        "/users/{user_id:path}/recommendations",
        summary="Songs for a stored user",
        tags=["recommendations"],
        response_model=schemas.RecommendationsAnswer,
        responses={200: {"content": _LISTS}, **_problems(*_STORED, HTTPStatus.NOT_FOUND, _INVALID, _BUSY)},
    )
    @checked_by(service.access.check)
    async def recommend_user(user_id: str, how: Annotated[schemas.UserParameters, Query()]) -> Response:
        """Songs for a user of the lake, by the likes and dislikes that the live bundle has of them."""
        question = Question(
            user_id=user_id,
            k=how.k,
            familiarity=how.familiarity,
            diversity=how.diversity,
            max_per_artist=how.max_per_artist,
            explicit=how.explicit,
        )
        return await listed(question, how.format)

    @router.post(
        "/explanations",
        summary="Why a song has its score",
        tags=["recommendations"],
        response_model=schemas.ExplanationAnswer,
        responses=_problems(*_BODY, HTTPStatus.NOT_FOUND, _BUSY),
    )
    async def explain(body: schemas.ExplanationRequest) -> Response:
        """What each liked song adds to the score that a song has for somebody with these likes."""
        recommender = service.live_bundle.current.recommender
        _known(recommender, body.track_id)
        found = await service.aside(recommender.explain, body.likes, body.track_id)
        return _json(
            {
                "bundle_version": recommender.bundle.version,
                "track": _track(found.track),
                "score": found.score,
                "prior": found.prior,
                "contributions": [part._asdict() for part in found.contributions],
                "unknown": found.unknown,
            }
        )


def _add_tracks(router: APIRouter, service: Service) -> None:
    @router.get(
        "/tracks/{track_id:path}/similar",
        summary="Songs near a song",
        tags=["tracks"],
        response_model=schemas.SimilarTracksAnswer,
        responses=_problems(HTTPStatus.NOT_FOUND, _INVALID, _BUSY),
    )
    async def similar(track_id: str, how: Annotated[schemas.SimilarParameters, Query()]) -> Response:
        """The songs nearest to one, and how likely it is that a listener likes both."""
        recommender = service.live_bundle.current.recommender
        _known(recommender, track_id)
        found = await service.aside(recommender.similar, track_id, how.k)
        return _json(
            {
                "bundle_version": recommender.bundle.version,
                "items": [_similar(rank, item) for rank, item in enumerate(found, 1)],
            }
        )

    @router.get(
        "/tracks",
        summary="Find songs",
        tags=["tracks"],
        response_model=schemas.TracksAnswer,
        responses=_problems(_INVALID, _BUSY),
    )
    async def tracks(how: Annotated[schemas.TrackParameters, Query()]) -> Response:
        """Look up songs by `ids`, search by name and artist with `query`, tolerant of typing errors, or both.
        Without either, the most liked songs."""
        version = service.live_bundle.current
        found, unknown = _looked_up(version.recommender, how.ids.split(",") if how.ids is not None else [])
        if how.query is not None:
            found += await service.aside(_search, version, how.query, how.limit)
        elif how.ids is None:
            found += version.recommender.describe(_popular(version.recommender)[: how.limit])
        return _json(
            {
                "bundle_version": version.bundle_version,
                # A song may have been looked up and found, too.
                "items": [_track(track) for track in {track.track_idx: track for track in found}.values()],
                "unknown": unknown,
            }
        )

    @router.get(
        "/map",
        summary="The map of songs",
        tags=["tracks"],
        response_model=schemas.MapAnswer,
        responses=_problems(_INVALID, _BUSY),
    )
    async def song_map(how: Annotated[schemas.MapParameters, Query()], request: Request) -> Response:
        """The most liked songs, placed so that songs liked by the same people lie together."""
        version = service.live_bundle.current
        tag = f'"{version.bundle_version}-{how.limit}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        content = version.maps.get(how.limit)
        if content is None:
            content = await service.aside(_drawn_map, version, how.limit)
        return Response(content, headers=headers, media_type="application/json")


def _add_feedback(router: APIRouter, service: Service) -> None:
    @router.post(
        "/feedback",
        summary="What a listener did",
        tags=["feedback"],
        status_code=HTTPStatus.ACCEPTED,
        response_model=schemas.FeedbackAnswer,
        responses=_problems(*_BODY, *_STORED, _BUSY),
    )
    @checked_by(service.access.check)
    async def feedback(body: schemas.FeedbackRequest) -> Response:
        """Keep likes, dislikes and skips. They are on disk when this answers, and in the next refresh. Of
        songs that nobody knows nothing is kept: an id made up would become a song of the catalogue."""
        recommender = service.live_bundle.current.recommender
        _, unknown = _looked_up(recommender, [event.track_id for event in body.events])
        events = [
            (event.track_id, event.action) for event in body.events if event.track_id not in set(unknown)
        ]
        if events:
            await service.feedback_writer.add(body.user_id, events, body.shown, body.bundle_version)
        for _, action in events:
            service.metrics.feedback(action)
        return _json({"received": len(events), "unknown": unknown}, HTTPStatus.ACCEPTED)


def _add_state(router: APIRouter, service: Service) -> None:
    program = program_version("tunegraph-pipeline")

    @router.get(
        "/health",
        summary="Is the process alive?",
        tags=["service"],
        response_model=schemas.HealthAnswer,
        responses=_problems(),
    )
    async def health() -> Response:
        """Answers as long as the process does."""
        return _json({"status": "alive"})

    @router.get(
        "/ready",
        summary="Can it answer?",
        tags=["service"],
        response_model=schemas.ReadyAnswer,
        responses=_problems(_BUSY),
    )
    async def ready() -> Response:
        """503 where no bundle is served. Says why where a newer one is refused and the old one stays, or
        where the index of the bundle cannot be used, so that queries take longer."""
        version = service.live_bundle.current
        problem = service.live_bundle.problem or version.recommender.index_problem
        return _json(
            {
                "status": "ready" if problem is None else "degraded",
                "bundle_version": version.bundle_version,
                "problem": problem,
            }
        )

    @router.get(
        "/version",
        summary="What is served?",
        tags=["service"],
        response_model=schemas.VersionAnswer,
        responses=_problems(_BUSY),
    )
    async def version() -> Response:
        """The version of the program, and the bundle it serves."""
        bundle = service.live_bundle.current.recommender.bundle
        cut_off = bundle.facts.get("cut_off")
        return _json(
            {
                "program": program,
                "bundle_version": bundle.version,
                "model_version": bundle.model_version,
                "cut_off": None if cut_off is None else str(cut_off),
                "tracks": bundle.n_tracks,
                "users": bundle.n_users,
            }
        )

    @router.get(
        "/metrics",
        summary="Counts for Prometheus",
        tags=["service"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_problems()},
    )
    async def exposition() -> Response:
        """All counts, of all workers, in the text format of Prometheus."""
        return Response(await service.aside(service.metrics.exposition), media_type=metrics.MEDIA_TYPE)


def _add_pages(router: APIRouter, _service: Service) -> None:
    page, reference = PageFiles(_HERE / "page"), PageFiles(_HERE / "reference")

    @router.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return page.response("index.html", request)

    @router.get("/page/{name:path}", include_in_schema=False)
    async def page_file(name: str, request: Request) -> Response:
        return page.response(name, request)

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return reference.response("index.html", request)

    @router.get("/docs/{name:path}", include_in_schema=False)
    async def docs_file(name: str, request: Request) -> Response:
        return reference.response(name, request)

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return _json(request.app.openapi())


def _json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(pydantic_core.to_json(content), int(status), media_type="application/json")


def _known(recommender: Recommender, track_id: str) -> None:
    if recommender.bundle.tracks.position(track_id) < 0:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"no track of that id is in bundle {recommender.bundle.version}; GET /tracks?query= finds some",
            name="unknown-track",
        )


def _search(version: ServedBundle, query: str, limit: int) -> list[SongView]:
    blocked = version.recommender.blocked
    found = np.array(
        version.search.find(query, limit + min(len(blocked), _MOST_BLOCKED_FOUND)), dtype=np.int32
    )
    return version.recommender.describe(found[np.isin(found, blocked, invert=True)][:limit])


def _looked_up(recommender: Recommender, ids: Sequence[str]) -> tuple[list[SongView], list[str]]:
    found = [(track_id, recommender.track(track_id)) for track_id in dict.fromkeys(ids)]
    return (
        [track for _, track in found if track is not None],
        [track_id for track_id, track in found if track is None],
    )


def _popular(recommender: Recommender) -> NDArray[np.int32]:
    """The tracks that may be shown, most liked first."""
    order = recommender.bundle.popular_order
    shown: NDArray[np.int32] = order[np.isin(order, recommender.blocked, invert=True)]
    return shown


def _drawn_map(version: ServedBundle, limit: int) -> bytes:
    recommender = version.recommender
    content = pydantic_core.to_json(
        {
            "bundle_version": version.bundle_version,
            "points": [
                {
                    "track_id": track.track_id,
                    "name": track.name,
                    "artists": track.artists,
                    "x": round(track.x, 4),  # finer than any screen, and half as long
                    "y": round(track.y, 4),
                    "popularity": track.popularity,
                }
                for track in recommender.describe(_popular(recommender)[:limit])
            ],
        }
    )
    if len(version.maps) < _MOST_MAPS:
        version.maps[limit] = content
    return content


def _track(song: SongView) -> dict[str, Any]:
    return {**song.shown(), "popularity": song.popularity}


def _similar(rank: int, item: SimilarTrack) -> dict[str, Any]:
    return {
        "rank": rank,
        **item.song.shown(),
        "cosine": item.cosine,
        "probability": item.probability,
        "listeners": item.listeners,
    }
