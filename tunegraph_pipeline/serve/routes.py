"""The endpoints of the service.

Here: every endpoint with its documentation, and the query it makes. Not here: request and response schemas
(`schemas`), what applies to all requests (`middleware`), or parsing a request (`fast_route`).
"""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from importlib.metadata import version as program_version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.filters import Filters, Passing
from tunegraph_pipeline.recommend.path import find_path
from tunegraph_pipeline.recommend.recommender import Query as Question
from tunegraph_pipeline.recommend.recommender import Recommender, SimilarTrack, SongView
from tunegraph_pipeline.serve import metrics, schemas
from tunegraph_pipeline.serve.answers import (
    BUSY,
    INVALID,
    OF_BODY,
    OF_STORED,
    answer_or_problem,
    json_response,
    problem_of,
    problems,
    require_known,
)
from tunegraph_pipeline.serve.artist_routes import add_artists
from tunegraph_pipeline.serve.fast_route import FastRoute, checked_by
from tunegraph_pipeline.serve.formats import OF_SPOTIFY, write_list
from tunegraph_pipeline.serve.list_routes import add_lists
from tunegraph_pipeline.serve.live_bundle import ServedBundle
from tunegraph_pipeline.serve.map_answer import write_columns, write_map
from tunegraph_pipeline.serve.pages import PageFiles
from tunegraph_pipeline.serve.service import Service

_HERE = Path(__file__).parent
_SPARE_FOR_BLOCKED = 100  # songs searched for beyond the limit, to replace blocked ones
_MOST_MAPS = 8  # rendered maps cached per bundle
_GZIP_LEVEL = 6

_USER_OPTIONS = (
    *("k", "familiarity", "diversity", "max_per_artist", "explicit", "links"),
    *("recency", "surprise", "seed"),
)
_TEXT = {"schema": {"type": "string"}}
_LISTS = {"text/csv": _TEXT, "audio/x-mpegurl": _TEXT, "text/plain": _TEXT}


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of one worker to the router."""
    router.route_class = FastRoute
    for add in (
        _add_recommendations,
        _add_tracks,
        add_artists,
        add_lists,
        _add_feedback,
        _add_state,
        _add_pages,
    ):
        add(router, service)


def _add_recommendations(router: APIRouter, service: Service) -> None:
    async def listed(question: Question, form: str, request: Request) -> Response:
        if form in OF_SPOTIFY and question.links is None:
            question = replace(question, links="spotify")
        if form == "json":
            recommender, ranked = await service.ranked(question, request)
            headers = {"X-Bundle-Version": recommender.bundle.version}
            content = service.written(recommender, ranked)
            return Response(content, headers=headers, media_type="application/json")
        recommender, answer = await service.recommend(question, request)
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
        responses={200: {"content": _LISTS}, **problems(*OF_BODY, HTTPStatus.NOT_FOUND, BUSY)},
    )
    async def recommend(
        body: schemas.RecommendationRequest,
        how: Annotated[schemas.ListParameters, Query()],
        request: Request,
    ) -> Response:
        """Songs for somebody who likes these. Ranks the whole catalogue; stores nothing."""
        options = vars(body)
        if body.filters is not None:
            options = options | {"filters": body.filters.filters()}
        return await listed(Question(**options), how.format, request)

    @router.get(
        "/users/{user_id:path}/recommendations",
        summary="Songs for a stored user",
        tags=["recommendations"],
        response_model=schemas.RecommendationsAnswer,
        responses={200: {"content": _LISTS}, **problems(*OF_STORED, HTTPStatus.NOT_FOUND, INVALID, BUSY)},
    )
    @checked_by(service.access.check)
    async def recommend_user(
        user_id: str, how: Annotated[schemas.UserParameters, Query()], request: Request
    ) -> Response:
        """Songs for a user of the lake, by their likes and dislikes in the live bundle."""
        options = {name: getattr(how, name) for name in _USER_OPTIONS} | {"mode": how.list_mode}
        return await listed(Question(user_id=user_id, filters=how.filters(), **options), how.format, request)

    @router.post(
        "/explanations",
        summary="Why a song has its score",
        tags=["recommendations"],
        response_model=schemas.ExplanationAnswer,
        responses=problems(*OF_BODY, HTTPStatus.NOT_FOUND, BUSY),
    )
    async def explain(body: schemas.ExplanationRequest) -> Response:
        """What each liked song adds to the score of a song, for somebody with these likes."""
        recommender = service.live_bundle.current.recommender
        require_known(recommender, body.track_id)
        asked = (body.likes, body.track_id, body.mode, body.recency)
        try:
            found = await service.in_thread(recommender.explain, *asked)
        except InputError as error:
            raise problem_of(error) from None
        return json_response(
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
        responses=problems(HTTPStatus.NOT_FOUND, INVALID, BUSY),
    )
    async def similar(track_id: str, how: Annotated[schemas.SimilarParameters, Query()]) -> Response:
        """The songs nearest to a song, and how likely it is that a listener likes both."""
        recommender = service.live_bundle.current.recommender
        require_known(recommender, track_id)
        filters = how.filters()
        passing, found = await service.in_thread(
            answer_or_problem, _near, recommender, track_id, how.k, filters
        )
        return json_response(
            {
                "bundle_version": recommender.bundle.version,
                "passing": None if passing is None else passing.n_tracks,
                "items": [
                    {
                        "rank": rank,
                        **item.song.shown(),
                        "cosine": item.cosine,
                        "probability": item.probability,
                        "listeners": item.listeners,
                    }
                    for rank, item in enumerate(found, 1)
                ],
            }
        )

    @router.get(
        "/tracks/{track_id:path}/path",
        summary="A path between two songs",
        tags=["tracks"],
        response_model=schemas.PathAnswer,
        responses=problems(HTTPStatus.NOT_FOUND, INVALID, BUSY),
    )
    async def path(track_id: str, how: Annotated[schemas.PathParameters, Query()]) -> Response:
        """Songs that lead from one song to another, each liked by the same people as the one before. As few
        as are found."""
        recommender = service.live_bundle.current.recommender
        require_known(recommender, track_id)
        require_known(recommender, how.to)
        steps = await service.in_thread(answer_or_problem, find_path, recommender, track_id, how.to, how.most)
        return json_response(
            {
                "bundle_version": recommender.bundle.version,
                "items": [{**step.song.shown(), "listeners": step.listeners} for step in steps],
            }
        )

    @router.get(
        "/tracks",
        summary="Find songs",
        tags=["tracks"],
        response_model=schemas.TracksAnswer,
        responses=problems(INVALID, BUSY),
    )
    async def tracks(how: Annotated[schemas.TrackParameters, Query()]) -> Response:
        """Look up songs by `ids`, search by name and artist with `query` (typing errors are tolerated), or
        both. Without either, the most liked songs."""
        served = service.live_bundle.current
        found, unknown = _looked_up(served.recommender, how.ids.split(",") if how.ids is not None else [])
        if how.query is not None:
            found += await service.in_thread(_search, served, how.query, how.limit)
        elif how.ids is None:
            found += served.recommender.describe(served.recommender.popular[: how.limit])
        return json_response(
            {
                "bundle_version": served.bundle_version,
                # A song may have been both looked up and found.
                "items": [_track(track) for track in {track.track_idx: track for track in found}.values()],
                "unknown": unknown,
            }
        )

    @router.get(
        "/genres",
        summary="The genres of songs",
        tags=["tracks"],
        response_model=schemas.GenresAnswer,
        responses=problems(BUSY),
    )
    async def genres() -> Response:
        """The genres that songs can be filtered by, with their numbers of songs."""
        recommender = service.live_bundle.current.recommender
        counts = await service.in_thread(recommender.ranker.filter.genre_counts)
        return json_response(
            {
                "bundle_version": recommender.bundle.version,
                "items": [{"name": name, "songs": songs} for name, songs in counts.items()],
            }
        )

    @router.get(
        "/map",
        summary="The map of songs",
        tags=["tracks"],
        response_model=schemas.MapAnswer,
        responses=problems(INVALID, BUSY),
    )
    async def song_map(how: Annotated[schemas.MapParameters, Query()], request: Request) -> Response:
        """The most liked songs, placed so that songs liked by the same people lie together."""
        if how.at is None:
            return await mapped(request, f"points-{how.limit}", how.limit, write_map)
        served = service.live_bundle.current
        popular = served.recommender.popular
        places = np.array(how.at.split(","), dtype=np.int64)
        chosen = popular[places[places < len(popular)]]
        content = await service.in_thread(write_map, served.recommender, chosen)
        return Response(content, media_type="application/json")

    @router.get(
        "/map/columns",
        summary="The map of many songs",
        tags=["tracks"],
        response_model=schemas.MapColumnsAnswer,
        responses=problems(INVALID, BUSY),
    )
    async def map_columns(
        how: Annotated[schemas.MapColumnsParameters, Query()], request: Request
    ) -> Response:
        """The positions and genres of the most liked songs, as lists in the order of `GET /map`, whose `at`
        names some of them: a tenth of the bytes."""
        return await mapped(request, f"columns-{how.limit}", how.limit, write_columns)

    async def mapped(
        request: Request, form: str, limit: int, write: Callable[[Recommender, NDArray[np.int32]], bytes]
    ) -> Response:
        served = service.live_bundle.current
        compressed = "gzip" in request.headers.get("accept-encoding", "")
        form += "-gzip" * compressed
        tag = f'"{served.bundle_version}-{form}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if compressed:
            headers["Content-Encoding"] = "gzip"

        def render() -> bytes:
            content = write(served.recommender, served.recommender.popular[:limit])
            if compressed:
                content = gzip.compress(content, _GZIP_LEVEL, mtime=0)
            if len(served.maps) >= _MOST_MAPS:
                del served.maps[next(iter(served.maps))]  # the first, or odd ones would stay for ever
            served.maps[form] = content
            return content

        content = served.maps.get(form)
        if content is None:
            content = await service.in_thread(render)
        return Response(content, headers=headers, media_type="application/json")


def _add_feedback(router: APIRouter, service: Service) -> None:
    @router.post(
        "/feedback",
        summary="Report likes, dislikes and skips",
        tags=["feedback"],
        status_code=HTTPStatus.ACCEPTED,
        response_model=schemas.FeedbackAnswer,
        responses=problems(*OF_BODY, *OF_STORED, BUSY),
    )
    @checked_by(service.access.check)
    async def feedback(body: schemas.FeedbackRequest) -> Response:
        """Store likes, dislikes and skips. They are on disk when this responds, and used by the next refresh.
        Events about unknown songs are dropped, so that made-up ids do not enter the catalogue."""
        tracks = service.live_bundle.current.recommender.bundle.tracks
        given = list(dict.fromkeys(event.track_id for event in body.events))
        unknown = [track for track, at in zip(given, tracks.find(given).tolist(), strict=True) if at < 0]
        strange = set(unknown)
        events = [(event.track_id, event.action) for event in body.events if event.track_id not in strange]
        if events:
            await service.feedback_writer.add(body.user_id, events, body.shown, body.bundle_version)
        for _, action in events:
            service.metrics.feedback(action)
        return json_response({"received": len(events), "unknown": unknown}, HTTPStatus.ACCEPTED)


def _add_state(router: APIRouter, service: Service) -> None:
    program = program_version("tunegraph-pipeline")

    @router.get(
        "/health",
        summary="Is the process alive?",
        tags=["service"],
        response_model=schemas.HealthAnswer,
        responses=problems(),
    )
    async def health() -> Response:
        """Responds as long as the process runs."""
        return json_response({"status": "alive"})

    @router.get(
        "/ready",
        summary="Can it answer?",
        tags=["service"],
        response_model=schemas.ReadyAnswer,
        responses=problems(BUSY),
    )
    async def ready() -> Response:
        """503 if no bundle is served. `degraded`, with the reason, if a newer bundle was refused and the old
        one is still served, or if the index of the bundle cannot be used, so that queries take longer."""
        served = service.live_bundle.current
        problem = service.live_bundle.problem or served.recommender.index_problem
        return json_response(
            {
                "status": "ready" if problem is None else "degraded",
                "bundle_version": served.bundle_version,
                "problem": problem,
            }
        )

    @router.get(
        "/version",
        summary="What is served?",
        tags=["service"],
        response_model=schemas.VersionAnswer,
        responses=problems(BUSY),
    )
    async def version() -> Response:
        """The version of the program, and the bundle it serves."""
        recommender = service.live_bundle.current.recommender
        bundle = recommender.bundle
        cut_off = bundle.facts.get("cut_off")
        return json_response(
            {
                "program": program,
                "bundle_version": bundle.version,
                "model_version": bundle.model_version,
                "cut_off": None if cut_off is None else str(cut_off),
                "tracks": bundle.n_tracks,
                "recommendable": int(np.count_nonzero(bundle.recommendable)),
                "users": bundle.n_users,
                "filters": recommender.ranker.filter.known(),
                "licences": [
                    dict(zip(("data", "terms", "url"), one, strict=True))
                    for one in bundle.facts.get("licences", [])
                ],
                "file_bytes": service.settings.limits.file_bytes,
                "playlists": service.settings.playlists,
            }
        )

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        tags=["service"],
        response_class=Response,
        responses={200: {"content": {"text/plain": _TEXT}}, **problems()},
    )
    async def exposition() -> Response:
        """The metrics of all workers, in the text format of Prometheus."""
        return Response(await service.in_thread(service.metrics.exposition), media_type=metrics.MEDIA_TYPE)


def _add_pages(router: APIRouter, _service: Service) -> None:
    add_files(router, PageFiles(_HERE / "page"), "/", "/page/{name:path}")
    add_files(router, PageFiles(_HERE / "reference"), "/docs", "/docs/{name:path}")

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return json_response(request.app.openapi())


def add_files(router: APIRouter, files: PageFiles, index_path: str, file_path: str) -> None:
    """Add the routes of a page: its index, and its other files below ``file_path``, which ends in
    ``{name:path}``. Neither needs a key."""

    @router.get(index_path, include_in_schema=False)
    async def index(request: Request) -> Response:
        return files.response("index.html", request)

    @router.get(file_path, include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return files.response(name, request)


def _near(
    recommender: Recommender, track_id: str, k: int, filters: Filters | None
) -> tuple[Passing | None, list[SimilarTrack]]:
    """The songs near a song, and those that pass the filters, which takes long to find the first time."""
    return recommender.passing(filters), recommender.similar(track_id, k, filters)


def _search(served: ServedBundle, query: str, limit: int) -> list[SongView]:
    blocked = served.recommender.blocked
    found = np.array(served.search.find(query, limit + min(len(blocked), _SPARE_FOR_BLOCKED)), dtype=np.int32)
    return served.recommender.describe(found[np.isin(found, blocked, invert=True)][:limit])


def _looked_up(recommender: Recommender, ids: Sequence[str]) -> tuple[list[SongView], list[str]]:
    found = [(track_id, recommender.track(track_id)) for track_id in dict.fromkeys(ids)]
    return (
        [track for _, track in found if track is not None],
        [track_id for track_id, track in found if track is None],
    )


def _track(song: SongView) -> dict[str, Any]:
    return {**song.shown(), "popularity": song.popularity}
