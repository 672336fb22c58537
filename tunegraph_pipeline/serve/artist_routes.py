"""The endpoints about artists.

Here: these endpoints with their documentation. Not here: finding an artist (`recommend.lookup`), or the other
endpoints (`routes`).
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.responses import Response

from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve import schemas
from tunegraph_pipeline.serve.answers import BUSY, INVALID, json_response, problems
from tunegraph_pipeline.serve.live_bundle import ServedBundle
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.service import Service

_SONGS_SEARCHED = 50  # whose artists are taken where no name is as it was typed


def add_artists(router: APIRouter, service: Service) -> None:
    """Add the endpoints to the router."""

    @router.get(
        "/artists/{artist_id:path}/songs",
        summary="The songs of an artist",
        tags=["artists"],
        response_model=schemas.ArtistSongsAnswer,
        responses=problems(HTTPStatus.NOT_FOUND, INVALID, BUSY),
    )
    async def songs(artist_id: str, how: Annotated[schemas.ArtistSongsParameters, Query()]) -> Response:
        """The songs of an artist, by id or name, that can be recommended, the most liked first."""
        recommender = service.live_bundle.current.recommender
        return json_response(await service.in_thread(_songs, recommender, artist_id, how.k))

    @router.get(
        "/artists",
        summary="Find artists",
        tags=["artists"],
        response_model=schemas.ArtistsAnswer,
        responses=problems(INVALID, BUSY),
    )
    async def artists(how: Annotated[schemas.ArtistParameters, Query()]) -> Response:
        """Look up artists by `ids`, search by name with `query`, or both. Without either, the most liked
        artists."""
        ids = [] if how.ids is None else how.ids.split(",")
        served = service.live_bundle.current
        return json_response(await service.in_thread(_artists, served, ids, how.query, how.limit))


def _songs(recommender: Recommender, artist_id: str, k: int) -> dict[str, Any]:
    place = recommender.lookup.artist(artist_id)
    if place is None:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"bundle {recommender.bundle.version} has no artist of this id; search with GET /artists?query=",
            name="unknown-artist",
        )
    songs = recommender.lookup.songs_of(place)
    shown = songs[recommender.ranker.allowed[songs]][:k]
    return {
        "bundle_version": recommender.bundle.version,
        "artist": _described(recommender, [place])[0],
        "items": [{**song.shown(), "popularity": song.popularity} for song in recommender.describe(shown)],
    }


def _artists(served: ServedBundle, ids: Sequence[str], query: str | None, limit: int) -> dict[str, Any]:
    recommender = served.recommender
    lookup = recommender.lookup
    places = {given: lookup.artist(given) for given in ids}
    found: list[int] = []
    if query is not None:
        found = lookup.artists_named(query, limit) or _by_songs(served, query)
    elif not ids:
        found = lookup.most_liked(limit + len(recommender.blocked))
    with_songs = [one for one in found if recommender.artist_songs[one]][:limit]
    looked_up = [place for place in places.values() if place is not None]
    return {
        "bundle_version": recommender.bundle.version,
        "items": _described(recommender, list(dict.fromkeys([*looked_up, *with_songs]))),
        "unknown": [given for given, place in places.items() if place is None],
    }


def _by_songs(served: ServedBundle, query: str) -> list[int]:
    """The first artists of the songs that words find, which may have typing errors."""
    recommender = served.recommender
    artists = map(recommender.lookup.first_artist, served.search.find(query, _SONGS_SEARCHED))
    return list(dict.fromkeys(artist for artist in artists if artist is not None))


def _described(recommender: Recommender, artists: Sequence[int]) -> list[dict[str, Any]]:
    bundle = recommender.bundle
    places = np.array(artists, dtype=np.intp)
    return [
        {
            "artist_id": bundle.artist_ids[artist],
            "name": bundle.artist_names[artist],
            "songs": songs,
            "popularity": likes,
        }
        for artist, songs, likes in zip(
            artists,
            recommender.artist_songs[places].tolist(),
            recommender.lookup.likes_of_artists[places].tolist(),
            strict=True,
        )
    ]
