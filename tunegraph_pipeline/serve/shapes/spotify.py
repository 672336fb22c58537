"""The shape of Spotify's Web API: recommendations, related artists, audio features.

Here: its requests, answers and errors. Not here: the query (`common`, `recommend`).

A parameter that the bundle cannot answer is refused by name, never ignored: most attributes (`tempo`,
`energy`, ...), genres and markets. ``target_popularity``, from 0 to 100, is the query's familiarity.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunegraph_pipeline.recommend.recommender import Query, Recommender, SongView
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.shapes.common import (
    Asking,
    Parameters,
    artists_of,
    ids_of_service,
    json_response,
    refused,
)
from tunegraph_pipeline.song_ids import service_of

_MOST = 100  # as in Spotify's own API
_SEEDS = {"seed_tracks": "TRACK", "seed_artists": "ARTIST", "seed_genres": "GENRE"}
_ANSWERED = frozenset({*_SEEDS, "limit", "target_popularity"})
_NO_FEATURES = "the bundle that this service answers from has no audio features"


def add(router: APIRouter, asking: Asking) -> None:
    """Add the routes of this shape."""

    @router.get("/v1/recommendations", include_in_schema=False)
    async def spotify_recommendations(request: Request) -> Response:
        given = await Parameters.of(request)
        if given.texts("seed_genres", split=True):
            raise refused("seed_genres: the bundle that this service answers from has no genres")
        given.refuse_others(_ANSWERED, "this service cannot answer this parameter; leave it out")
        tracks, artists = given.texts("seed_tracks", split=True), given.texts("seed_artists", split=True)
        if not tracks and not artists:
            raise refused("seed_tracks or seed_artists: at least one seed is needed")
        limit = given.count("limit", 20, _MOST)
        popularity = given.whole("target_popularity", 50, 0, 100)
        seeds = await asking.likes(tracks, artists)
        query = Query(seeds.likes, k=limit, familiarity=popularity / 100, links="spotify")
        recommender, answer = await asking.recommend(query, request)
        of_seeds = [("TRACK", track) for track in tracks] + [("ARTIST", artist) for artist in artists]
        return json_response(
            {
                "tracks": _tracks(recommender, [item.song for item in answer.items]),
                "seeds": [
                    {
                        "id": given_id,
                        "type": kind,
                        "href": None,
                        "initialPoolSize": size,
                        "afterFilteringSize": size,
                        "afterRelinkingSize": size,
                    }
                    for (kind, given_id), size in zip(of_seeds, seeds.of_seeds, strict=True)
                ],
            }
        )

    @router.get("/v1/recommendations/available-genre-seeds", include_in_schema=False)
    async def spotify_genre_seeds(request: Request) -> Response:
        return json_response({"genres": []})

    @router.get("/v1/artists/{artist_id:path}/related-artists", include_in_schema=False)
    async def spotify_related_artists(artist_id: str, request: Request) -> Response:
        recommender, found = await asking.near_artists([], [artist_id], 20, request)
        return json_response({"artists": [_artist(recommender, near.artist) for near in found]})

    async def no_features(request: Request) -> Response:
        raise Problem(HTTPStatus.NOT_FOUND, _NO_FEATURES, name="no-audio-features")

    for path in ("/v1/audio-features", "/v1/audio-features/{track_id:path}"):
        router.add_api_route(path, no_features, include_in_schema=False)


def write_error(problem: Problem, _scope: Scope) -> Response:
    """An error as Spotify writes it, ``{"error": {"status": 400, "message": "..."}}``."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return json_response({"error": {"status": int(status), "message": problem.detail}}, int(status))


def _tracks(recommender: Recommender, songs: Sequence[SongView]) -> list[dict[str, Any]]:
    """Songs as Spotify's track objects. The id is the one at Spotify where there is one, else the song's own;
    what the bundle does not know is null or empty."""
    bundle = recommender.bundle
    most = float(np.log1p(bundle.popularity.max(initial=0))) or 1.0
    found = []
    for song, spotify_id in zip(songs, ids_of_service(recommender, songs, "spotify"), strict=True):
        isrc = bundle.isrcs[song.track_idx]
        year = None if song.year is None else f"{song.year:04d}"
        found.append(
            {
                "type": "track",
                "id": spotify_id or song.track_id,
                "uri": f"spotify:track:{spotify_id}" if spotify_id else song.link,
                "href": None,
                "name": song.name,
                "artists": [_artist(recommender, artist) for artist in artists_of(recommender, song)],
                "album": {
                    "type": "album",
                    "id": None,
                    "name": "",
                    "artists": [],
                    "images": [{"url": song.image_url, "height": None, "width": None}]
                    if song.image_url
                    else [],
                    "release_date": year,
                    "release_date_precision": None if year is None else "year",
                },
                "duration_ms": None,
                "explicit": song.explicit,
                "external_ids": {"isrc": isrc} if isrc else {},
                "external_urls": {"spotify": song.link} if spotify_id else {},
                "is_local": False,
                "popularity": round(100 * float(np.log1p(song.popularity)) / most),
                "preview_url": song.preview_url or None,
            }
        )
    return found


def _artist(recommender: Recommender, artist: int) -> dict[str, Any]:
    """An artist as Spotify's artist object; the id is that of the bundle, or the name without one."""
    own = recommender.bundle.artist_ids[artist]
    of_spotify = service_of(own) == "spotify"
    page = f"https://open.spotify.com/artist/{own}"
    return {
        "type": "artist",
        "id": own,
        "uri": f"spotify:artist:{own}" if of_spotify else "",
        "href": None,
        "name": recommender.bundle.artist_names[artist],
        "external_urls": {"spotify": page} if of_spotify else {},
        "genres": [],
        "images": [],
    }
