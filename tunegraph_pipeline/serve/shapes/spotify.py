"""The shape of Spotify's Web API: recommendations, related artists, audio features.

Here: its requests, answers and errors. Not here: the query (`common`, `recommend`).

``min_`` and ``max_`` of the audio features and of the popularity, and ``seed_genres``, are filters of the
query. ``target_`` of the audio features order the songs that it recommends (`recommend.targets`); that of the
popularity, from 0 to 100, is the query's familiarity. A parameter that cannot be answered is refused by
name, never ignored: markets, and what the bundle does not have.
"""

from collections.abc import Sequence
from http import HTTPStatus
from math import isnan
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunegraph_pipeline.lake.audio_features import AUDIO_FEATURES
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.filters import Bounds, Filters
from tunegraph_pipeline.recommend.recommender import Query, Recommender, SongView
from tunegraph_pipeline.recommend.targets import SONGS_ORDERED, order_by_targets
from tunegraph_pipeline.serve.answers import answer_or_problem, json_response
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.shapes.common import (
    Asking,
    Likes,
    Parameters,
    artists_of,
    id_of_service,
    refused,
    unknown,
)
from tunegraph_pipeline.song_ids import service_of

_MOST = 100  # as in Spotify's own API
_SEEDS = {"seed_tracks": "TRACK", "seed_artists": "ARTIST", "seed_genres": "GENRE"}
_TUNED = frozenset(
    f"{side}_{name}" for side in ("min", "max", "target") for name in (*AUDIO_FEATURES, "popularity")
)
_ANSWERED = frozenset({*_SEEDS, *_TUNED, "limit"})


def add(router: APIRouter, asking: Asking) -> None:
    """Add the routes of this shape."""

    @router.get("/v1/recommendations", include_in_schema=False)
    async def spotify_recommendations(request: Request) -> Response:
        given = await Parameters.of(request)
        given.refuse_others(_ANSWERED, "this service cannot answer this parameter; leave it out")
        tracks, artists = given.texts("seed_tracks", split=True), given.texts("seed_artists", split=True)
        genres = given.texts("seed_genres", split=True)
        if not tracks and not artists and not genres:
            raise refused("seed_tracks, seed_artists or seed_genres: at least one seed is needed")
        limit = given.count("limit", 20, _MOST)
        popularity = given.whole("target_popularity", 50, 0, 100)
        targets = _targets(given)
        seeds = await asking.likes(tracks, artists) if tracks or artists else Likes([], [], [])
        bundle = asking.service.live_bundle.current.recommender.bundle
        filters = Filters(genres=genres, features=_ranges(given), listeners=_listeners(given, bundle))
        k = SONGS_ORDERED if targets else limit
        query = Query(seeds.likes, k=k, familiarity=popularity / 100, links="spotify", filters=filters)
        recommender, ranked = await asking.service.ranked(query, request)
        if targets:
            found = ranked.best.indices
            order = answer_or_problem(order_by_targets, recommender.bundle, found, targets)
            ranked = ranked.at(order[:limit])
        answer = await asking.service.described(recommender, ranked, request)
        songs = [item.song for item in answer.items]
        of_seeds = [("TRACK", track) for track in tracks] + [("ARTIST", artist) for artist in artists]
        of_seeds += [("GENRE", genre) for genre in genres]
        sizes = [*seeds.of_seeds, *([answer.passing or 0] * len(genres))]
        return json_response(
            {
                "tracks": _tracks(recommender, songs),
                "seeds": [
                    {
                        "id": given_id,
                        "type": kind,
                        "href": None,
                        "initialPoolSize": size,
                        "afterFilteringSize": size,
                        "afterRelinkingSize": size,
                    }
                    for (kind, given_id), size in zip(of_seeds, sizes, strict=True)
                ],
            }
        )

    @router.get("/v1/recommendations/available-genre-seeds", include_in_schema=False)
    async def spotify_genre_seeds(request: Request) -> Response:
        recommender = asking.service.live_bundle.current.recommender
        counts = await asking.service.in_thread(recommender.ranker.filter.genre_counts)
        return json_response({"genres": list(counts)})

    @router.get("/v1/artists/{artist_id:path}/related-artists", include_in_schema=False)
    async def spotify_related_artists(artist_id: str, request: Request) -> Response:
        recommender, found = await asking.near_artists([], [artist_id], 20, request)
        return json_response({"artists": [_artist(recommender, near.artist) for near in found]})

    @router.get("/v1/audio-features", include_in_schema=False)
    @router.get("/v1/audio-features/", include_in_schema=False)  # as spotipy asks
    async def spotify_audio_features(request: Request) -> Response:
        asked = (await Parameters.of(request)).texts("ids", split=True)
        if not asked:
            raise refused("ids: has to name at least one song")
        return json_response(
            {"audio_features": _features(asking.service.live_bundle.current.recommender, asked)}
        )

    @router.get("/v1/audio-features/{track_id:path}", include_in_schema=False)
    async def spotify_audio_features_of_one(track_id: str, request: Request) -> Response:
        (found,) = _features(asking.service.live_bundle.current.recommender, [track_id])
        if found is None:
            raise unknown("the bundle knows no audio feature of this song")
        return json_response(found)


def write_error(problem: Problem, _scope: Scope) -> Response:
    """An error as Spotify writes it, ``{"error": {"status": 400, "message": "..."}}``."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return json_response({"error": {"status": int(status), "message": problem.detail}}, int(status))


def _ranges(given: Parameters) -> dict[str, Bounds]:
    """The bounds of features that a request gives. Raises Problem 422 for what is no number."""
    found: dict[str, Bounds] = {}
    for feature in AUDIO_FEATURES:
        bounds = given.number(f"min_{feature}"), given.number(f"max_{feature}")
        if bounds != (None, None):
            found[feature] = bounds
    return found


def _targets(given: Parameters) -> dict[str, float]:
    """The targets of features that a request gives. Raises Problem 422 for what is no number."""
    found = {feature: given.number(f"target_{feature}") for feature in AUDIO_FEATURES}
    return {feature: target for feature, target in found.items() if target is not None}


def _listeners(given: Parameters, bundle: Bundle) -> Bounds:
    """The numbers of listeners of the songs whose popularity is within the bounds that a request gives.
    Raises Problem 422 for a bound that is not from 0 to 100."""
    least, most = given.whole("min_popularity", 0, 0, 100), given.whole("max_popularity", 100, 0, 100)
    if (least, most) == (0, 100):
        return None, None
    unit = _log_of_most(bundle) / 100
    return (
        float(np.expm1((least - 0.5) * unit)) if least > 0 else None,
        float(np.expm1((most + 0.5) * unit)) if most < 100 else None,
    )


def _log_of_most(bundle: Bundle) -> float:
    """Of the number of listeners that is the popularity of 100."""
    return float(np.log1p(bundle.popularity.max(initial=0))) or 1.0


def _features(recommender: Recommender, asked: Sequence[str]) -> list[dict[str, Any] | None]:
    """The features of songs as Spotify's objects, None for a song of which none is known."""
    bundle = recommender.bundle
    names = bundle.feature_names.tolist()
    found: list[dict[str, Any] | None] = []
    for track_id, track in zip(asked, bundle.tracks.find(asked).tolist(), strict=True):
        column = bundle.features[:, bundle.canonical[track]].tolist() if track >= 0 else []
        known = {
            name: round(value, 4) for name, value in zip(names, column, strict=False) if not isnan(value)
        }
        if not known:
            found.append(None)
            continue
        whole = {name: int(known[name]) for name in ("key", "mode") if name in known}
        uri = f"spotify:track:{track_id}" if service_of(track_id) == "spotify" else ""
        found.append({"type": "audio_features", "id": track_id, "uri": uri} | known | whole)
    return found


def _tracks(recommender: Recommender, songs: Sequence[SongView]) -> list[dict[str, Any]]:
    """Songs as Spotify's track objects. The id is the one at Spotify where there is one, else the song's own;
    what the bundle does not know is null or empty."""
    bundle = recommender.bundle
    most = _log_of_most(bundle)
    found = []
    for song in songs:
        spotify_id = id_of_service(song, "spotify")
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
