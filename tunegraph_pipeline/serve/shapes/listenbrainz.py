"""The shape of ListenBrainz: recordings recommended to a user, as a list and as a playlist created for them,
similar recordings, and LB Radio as JSPF.

Here: its requests, answers and errors. Not here: the query (`common`, `recommend`).

Recommendations of a stored user need the service's key where it has one, which a client of ListenBrainz sends
as its token. What says a MusicBrainz id has only the songs that have one; a JSPF has all songs.

A playlist is not stored. Its id says for which user of which bundle it is, so that every worker can answer
it. With a new bundle there is a new playlist, and the id of the one before is unknown.
"""

import hashlib
import json
import re
import time
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.recommender import Query, Recommendations, Recommender, SongView
from tunegraph_pipeline.serve.answers import charge_request, json_response, unknown_user
from tunegraph_pipeline.serve.fast_route import checked_by
from tunegraph_pipeline.serve.limits import MOST_K, MOST_LOOKED_UP
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.shapes.common import (
    Asking,
    Parameters,
    artists_of,
    id_of_service,
    mbid_of_artist,
    refused,
)

_MOST = 100  # recordings a page, as in ListenBrainz's own API
_FAMILIARITY = {"easy": 0.5, "medium": 0.25, "hard": 0.0}
"""What a mode of LB Radio is: easy leaves the model's scores, hard prefers discoveries."""
_RADIO_SONGS = 50
_TERM = re.compile(r"\s*(artist|recs):(?:\(([^()]*)\)|([^\s():]+))(?=\s|$)")
_PLAYLIST = "https://musicbrainz.org/doc/jspf#playlist"
_PLAYLISTS = "https://listenbrainz.org/playlist/"
_PLAYLIST_SONGS = 50
_MADE_AS = "weekly-exploration"
"""What programs find a playlist of new songs by, as it is called at ListenBrainz."""
_TRACK = "https://musicbrainz.org/doc/jspf#track"


def add(router: APIRouter, asking: Asking) -> None:
    """Add the routes of this shape."""
    access = asking.service.access

    @router.get("/1/validate-token", include_in_schema=False)
    async def listenbrainz_token(request: Request) -> Response:
        try:
            access.check(request)
        except Problem:
            return json_response({"code": 200, "message": "Token invalid.", "valid": False})
        user = access.user_of_token(request)
        return json_response({"code": 200, "message": "Token valid.", "valid": True, "user_name": user})

    @router.get("/1/cf/recommendation/user/{user_name:path}/recording", include_in_schema=False)
    @checked_by(access.check)
    async def listenbrainz_recommendations(user_name: str, request: Request) -> Response:
        given = await Parameters.of(request)
        given.refuse_others({"artist_type", "count", "offset"}, "this service cannot answer this parameter")
        if given.text("artist_type") not in {"", "top", "similar", "raw"}:
            raise refused("artist_type: has to be top, similar or raw; all are answered as raw")
        count = given.count("count", 25, _MOST)
        offset = given.whole("offset", 0, 0, MOST_K - count)
        query = Query(user_id=user_name, k=offset + count, links="musicbrainz")
        recommender, answer = await asking.recommend(query, request)
        found = [
            {"recording_mbid": mbid, "score": item.score, "latest_listened_at": None}
            for item in answer.items[offset:]
            if (mbid := id_of_service(item.song, "musicbrainz"))
        ]
        return json_response(
            {
                "payload": {
                    "count": len(found),
                    "entity": "recording",
                    "last_updated": int(time.time()),
                    "mbids": found,
                    "model_id": recommender.bundle.model_version,
                    "offset": offset,
                    "total_mbid_count": offset + len(found),
                    "type": "raw",
                    "user_name": user_name,
                }
            }
        )

    @router.get("/1/user/{user_name:path}/playlists/createdfor", include_in_schema=False)
    @checked_by(access.check)
    async def listenbrainz_playlists(user_name: str, request: Request) -> Response:
        given = await Parameters.of(request)
        given.refuse_others({"count", "offset"}, "this service cannot answer this parameter")
        count, offset = given.count("count", 25, _MOST), given.whole("offset", 0, 0, 1_000_000)
        bundle = asking.service.live_bundle.current.recommender.bundle
        user = bundle.users.position(user_name)
        if user < 0:
            raise unknown_user(bundle.version)
        found = [{"playlist": _created_for(bundle, user, [])}]
        return json_response(
            {
                "count": count,
                "offset": offset,
                "playlist_count": len(found),
                "playlists": found[offset : offset + count],
            }
        )

    @router.get("/1/playlist/{playlist_mbid}", include_in_schema=False)
    @checked_by(access.check)
    async def listenbrainz_playlist(playlist_mbid: str, request: Request) -> Response:
        given = await Parameters.of(request)
        given.refuse_others({"fetch_metadata"}, "this service cannot answer this parameter")
        if given.text("fetch_metadata").lower() not in {"", "true", "false"}:
            raise refused("fetch_metadata: has to be true or false; the songs are described in either case")
        user = _user_of_playlist(asking.service.live_bundle.current.recommender.bundle, playlist_mbid)
        query = Query(user_id=user, k=_PLAYLIST_SONGS, links="musicbrainz")
        recommender, answer = await asking.recommend(query, request)
        bundle = recommender.bundle
        position = bundle.users.position(user)
        return json_response({"playlist": _created_for(bundle, position, _tracks(recommender, answer))})

    @router.get("/1/explore/lb-radio", include_in_schema=False)
    async def listenbrainz_radio(request: Request) -> Response:
        given = await Parameters.of(request)
        given.refuse_others({"prompt", "mode"}, "this service cannot answer this parameter")
        prompt, mode = given.text("prompt"), given.text("mode") or "easy"
        if mode not in _FAMILIARITY:
            raise refused("mode: has to be easy, medium or hard")
        artists, users = _terms(prompt)
        if users:
            access.check(request)
        likes = (await asking.likes([], artists)).likes if artists else []
        user_id = users[0] if users else None
        query = Query(likes, user_id, _RADIO_SONGS, familiarity=_FAMILIARITY[mode], links="musicbrainz")
        recommender, answer = await asking.recommend(query, request)
        # A title ends up in files, so it names no user.
        title = "LB Radio" if users else f"LB Radio for {prompt}"
        return json_response({"payload": {"jspf": _jspf(recommender, answer, title), "feedback": []}})

    async def similar_recordings(request: Request) -> Response:
        mbids = await _asked_recordings(request)
        charge_request(request, len(mbids) - 1)
        found = []
        for mbid in mbids:
            recommender, near = await asking.similar(await asking.song(mbid), 50)
            for one in near:
                if recording := id_of_service(one.song, "musicbrainz"):
                    found.append(
                        {
                            "recording_mbid": recording,
                            "recording_name": one.song.name,
                            "artist_credit_name": one.song.artists,
                            "artist_credit_mbids": _artist_mbids(recommender, one.song),
                            "score": round(1_000 * max(one.cosine, 0.0)),
                            "reference_mbid": mbid,
                        }
                    )
        return json_response(found)

    router.add_api_route(
        "/similar-recordings/json", similar_recordings, methods=["GET", "POST"], include_in_schema=False
    )


def write_error(problem: Problem, _scope: Scope) -> Response:
    """An error as ListenBrainz writes it, ``{"code": 400, "error": "..."}``."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    return json_response({"code": int(status), "error": problem.detail}, int(status))


def _terms(prompt: str) -> tuple[list[str], list[str]]:
    """The artists and the user of a prompt of LB Radio. Raises Problem 422 for any other term."""
    artists: list[str] = []
    users: list[str] = []
    place = 0
    while place < len(prompt.rstrip()):
        term = _TERM.match(prompt, place)
        value = "" if term is None else (term[2] or term[3] or "").strip()
        if term is None or not value:
            raise refused(
                "prompt: this service understands artist:(NAME OR MBID) and recs:(USER), without weights and"
                " options"
            )
        (artists if term[1] == "artist" else users).append(value)
        place = term.end()
    if not artists and not users:
        raise refused("prompt: is needed, as in artist:(Radiohead)")
    if len(users) > 1 or len(artists) > MOST_LOOKED_UP:
        raise refused(f"prompt: may name one user and {MOST_LOOKED_UP} artists")
    return artists, users


async def _asked_recordings(request: Request) -> list[str]:
    """The recordings of a request to the API of the labs: of its query string, or of its JSON."""
    most = 10  # each is a query of its own
    if request.method == "GET":
        given = await Parameters.of(request)
        given.refuse_others({"recording_mbids", "algorithm"}, "this service cannot answer this parameter")
        asked: list[Any] = given.texts("recording_mbids", split=True)
    else:
        try:
            rows = json.loads(await request.body())
            lists = [row["recording_mbids"] for row in rows]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise refused('the body has to be JSON as [{"recording_mbids": ["..."]}]') from None
        asked = [one for row in lists for one in (row if isinstance(row, list) else [row])]
    if not asked or len(asked) > most or not all(isinstance(one, str) for one in asked):
        raise refused(f"recording_mbids: has to name 1 to {most} recordings")
    return list(dict.fromkeys(asked))


def _artist_mbids(recommender: Recommender, song: SongView) -> list[str]:
    mbids = (mbid_of_artist(recommender, artist) for artist in artists_of(recommender, song))
    return [mbid for mbid in mbids if mbid]


def _playlist_mbid(bundle: Bundle, user: int) -> str:
    """The id of the playlist for a user of a bundle: the user's place, and a digest of user and bundle."""
    content = f"{bundle.version}\0{bundle.users[user]}".encode()
    digest = hashlib.blake2b(content, digest_size=12).digest()
    return str(uuid.UUID(bytes=user.to_bytes(4, "big") + digest, version=5))


def _user_of_playlist(bundle: Bundle, playlist_mbid: str) -> str:
    """The id of the user that a playlist is for. Raises Problem 422 for what is no UUID, 404 for one that
    belongs to no playlist of the bundle."""
    try:
        given = uuid.UUID(playlist_mbid)
    except ValueError:
        raise refused("the id of a playlist has to be a UUID") from None
    user = int.from_bytes(given.bytes[:4], "big")
    if user >= bundle.n_users or _playlist_mbid(bundle, user) != str(given):
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"bundle {bundle.version} has no playlist of this id; with each bundle there are new ones, so ask"
            " /1/user/USER/playlists/createdfor again",
            name="unknown-playlist",
        )
    return bundle.users[user]


def _created_for(bundle: Bundle, user: int, tracks: list[dict[str, Any]]) -> dict[str, Any]:
    """The playlist for a user of a bundle. Its date is the last day of likes in the bundle."""
    day = bundle.facts.get("cut_off")
    date = _now() if day is None else f"{day}T00:00:00+00:00"
    about = {
        "public": False,
        "creator": "tunegraph",
        "created_for": bundle.users[user],
        "last_modified_at": date,
        "additional_metadata": {"algorithm_metadata": {"source_patch": _MADE_AS}},
    }
    return {
        # A title ends up in files, so it names no user.
        "title": "Weekly Exploration" if day is None else f"Weekly Exploration, {day}",
        "annotation": f"Songs that TuneGraph recommends by the likes in bundle {bundle.version}",
        "creator": "tunegraph",
        "date": date,
        "identifier": _PLAYLISTS + _playlist_mbid(bundle, user),
        "track": tracks,
        "extension": {_PLAYLIST: about},
    }


def _tracks(recommender: Recommender, answer: Recommendations) -> list[dict[str, Any]]:
    """The songs of an answer as tracks of a JSPF."""
    names = recommender.bundle.artist_names
    found = []
    for song in (item.song for item in answer.items):
        mbid = id_of_service(song, "musicbrainz")
        artists = [(names[one], mbid_of_artist(recommender, one)) for one in artists_of(recommender, song)]
        page = f"https://musicbrainz.org/recording/{mbid}" if mbid else song.link
        about = {
            "added_by": "tunegraph",
            "artist_identifiers": [f"https://musicbrainz.org/artist/{one}" for _, one in artists if one],
            "additional_metadata": {
                "artists": [
                    {"artist_credit_name": name, "artist_mbid": artist or None} for name, artist in artists
                ]
            },
        }
        found.append(
            {
                "title": song.name,
                "creator": song.artists,
                "identifier": [page] if page else [],
                "extension": {_TRACK: about},
            }
        )
    return found


def _jspf(recommender: Recommender, answer: Recommendations, title: str) -> dict[str, Any]:
    now = _now()
    return {
        "playlist": {
            "title": title,
            "creator": "tunegraph",
            "date": now,
            "identifier": "",
            "track": _tracks(recommender, answer),
            "extension": {_PLAYLIST: {"public": False, "last_modified_at": now}},
        }
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
