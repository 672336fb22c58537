"""The shape of OpenSubsonic: similar songs, similar artists, and the sonic similarity extension.

Here: its requests, answers and errors, as XML and as JSON. Not here: the query (`common`, `recommend`).

Ids are those of any service, ``isrc:`` and a code, or ``name:artist/title`` for songs, and names for artists;
songs in answers say their MusicBrainz id and ISRC, so that a program finds them among its files. Nearness is
that of listeners' likes, not of sound.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunegraph_pipeline.recommend.recommender import Query, Recommender, SongView
from tunegraph_pipeline.serve.answers import json_response
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.shapes.common import (
    Asking,
    Parameters,
    artists_of,
    id_of_service,
    mbid_of_artist,
    refused,
    unknown,
)
from tunegraph_pipeline.serve.shapes.xml import xml_response

_VERSION = "1.16.1"
_ABOUT_CLIENT = frozenset({"u", "p", "t", "s", "apiKey", "v", "c", "f"})
_OF_THE_API = {"invalid-input": 0, "missing-parameter": 10, "unknown-track": 70}
"""The code of each problem that this API answers with HTTP status 200."""
_EXTENSIONS = [{"name": "formPost", "versions": [1]}, {"name": "sonicSimilarity", "versions": [1]}]
_ELEMENTS = frozenset({"musicBrainzId"})
"""Texts of `artistInfo2` that XML has as elements."""

Answer = dict[str, Any]
Method = Callable[[Parameters, Request], Awaitable[Answer]]


def add(router: APIRouter, asking: Asking) -> None:
    """Add the routes of this shape."""
    methods: dict[str, tuple[Method, frozenset[str]]] = {
        "ping": (_ping, frozenset()),
        "getOpenSubsonicExtensions": (_extensions, frozenset()),
        "getSimilarSongs": (partial(_similar_songs, asking, "similarSongs"), frozenset({"id", "count"})),
        "getSimilarSongs2": (partial(_similar_songs, asking, "similarSongs2"), frozenset({"id", "count"})),
        "getArtistInfo2": (
            partial(_artist_info, asking),
            frozenset({"id", "count", "includeNotPresent"}),
        ),
        "getSonicSimilarTracks": (partial(_sonic_similar, asking), frozenset({"id", "count"})),
        "findSonicPath": (
            partial(_sonic_path, asking),
            frozenset({"startSongId", "endSongId", "count"}),
        ),
    }
    for name, (method, known) in methods.items():
        for path in (f"/rest/{name}", f"/rest/{name}.view"):
            endpoint = _endpoint(method, known)
            router.add_api_route(path, endpoint, methods=["GET", "POST"], include_in_schema=False)


def write_error(problem: Problem, scope: Scope) -> Response:
    """An error as Subsonic writes it: with HTTP status 200 where it is one of this API, so that clients read
    it; the others, such as that of the rate limit, keep theirs."""
    code = _OF_THE_API.get(problem.name)
    status = int(problem.status) if code is None else HTTPStatus.OK
    error = {"code": code or 0, "message": problem.detail}
    return _response({"error": error}, Parameters.of_scope(scope), "failed", int(status))


def _endpoint(method: Method, known: frozenset[str]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        given = await Parameters.of(request)
        if given.text("f") not in {"", "xml", "json"}:
            raise refused("f: has to be xml or json")
        given.refuse_others(known | _ABOUT_CLIENT, "this service cannot answer this parameter; leave it out")
        return _response(await method(given, request), given)

    return answer


def _response(content: Answer, given: Parameters, status: str = "ok", code: int = 200) -> Response:
    about = {
        "status": status,
        "version": _VERSION,
        "type": "tunegraph",
        "serverVersion": version("tunegraph-pipeline"),
        "openSubsonic": True,
    }
    if given.values.get("f") == ["json"]:
        return json_response({"subsonic-response": about | content}, code)
    root = Xml.Element("subsonic-response", xmlns="http://subsonic.org/restapi")
    _write(root, about | content)
    return xml_response(root, code)


def _write(element: Xml.Element, fields: Answer) -> None:
    """Fields as attributes; lists and what has fields of its own as elements."""
    for name, value in fields.items():
        if isinstance(value, list | dict):
            for one in value if isinstance(value, list) else [value]:
                child = Xml.SubElement(element, name)
                if isinstance(one, dict):
                    _write(child, one)
                else:
                    child.text = _text(one)
        elif element.tag == "artistInfo2" and name in _ELEMENTS:
            Xml.SubElement(element, name).text = _text(value)
        else:
            element.set(name, _text(value))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _needed(given: Parameters, name: str) -> str:
    value = given.text(name)
    if not value:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name}: is needed", name="missing-parameter")
    return value


async def _ping(_given: Parameters, _request: Request) -> Answer:
    return {}


async def _extensions(_given: Parameters, _request: Request) -> Answer:
    return {"openSubsonicExtensions": _EXTENSIONS}


async def _similar_songs(asking: Asking, key: str, given: Parameters, request: Request) -> Answer:
    """Songs for who likes those of an artist; for the id of a song, those near it."""
    wanted, count = _needed(given, "id"), given.count("count", 50)
    if await asking.artist(wanted) is None:
        recommender, near = await asking.similar(await asking.song(wanted), count)
        songs = [one.song for one in near]
    else:
        seeds = await asking.likes([], [wanted])
        recommender, answer = await asking.recommend(Query(seeds.likes, k=count), request)
        songs = [item.song for item in answer.items]
    return {key: {"song": _children(recommender, songs)}}


async def _artist_info(asking: Asking, given: Parameters, request: Request) -> Answer:
    wanted, count = _needed(given, "id"), given.count("count", 20)
    artist = await asking.artist(wanted)
    if artist is None:
        raise unknown("the bundle has no artist of this id or name")
    recommender, near = await asking.near_artists([], [wanted], count, request)
    bundle = recommender.bundle
    own = await asking.artist(wanted)
    mbid = "" if own is None else mbid_of_artist(recommender, own)
    similar = [{"id": bundle.artist_ids[one.artist], "name": bundle.artist_names[one.artist]} for one in near]
    return {"artistInfo2": ({"musicBrainzId": mbid} if mbid else {}) | {"similarArtist": similar}}


async def _sonic_similar(asking: Asking, given: Parameters, _request: Request) -> Answer:
    track = await asking.song(_needed(given, "id"))
    recommender, near = await asking.similar(track, given.count("count", 10))
    children = _children(recommender, [one.song for one in near])
    return {
        "sonicMatch": [
            {"entry": child, "similarity": _similarity(one.cosine)}
            for child, one in zip(children, near, strict=True)
        ]
    }


async def _sonic_path(asking: Asking, given: Parameters, request: Request) -> Answer:
    """From one song to another, by way of what is recommended to who likes both, in the order of how much
    nearer a song is to the first. ``similarity`` is that to the first."""
    ends = [await asking.song(_needed(given, name)) for name in ("startSongId", "endSongId")]
    count = given.count("count", 25)
    recommender, answer = await asking.recommend(Query(ends, k=count), request)
    views = [recommender.track(end) for end in ends]
    first, last = (view for view in views if view is not None)
    between = [item.song for item in answer.items][: max(0, count - 2)]
    embeddings = recommender.bundle.embeddings

    def nearness(songs: list[SongView], to: SongView) -> NDArray[np.float32]:
        near: NDArray[np.float32] = embeddings[[song.track_idx for song in songs]] @ embeddings[to.track_idx]
        return near

    if between:
        order = np.argsort(nearness(between, last) - nearness(between, first), kind="stable")
        between = [between[place] for place in order.tolist()]
    songs = [first, *between] if first.track_idx == last.track_idx else [first, *between, last]
    return {
        "sonicMatch": [
            {"entry": child, "similarity": _similarity(cosine)}
            for child, cosine in zip(
                _children(recommender, songs), nearness(songs, first).tolist(), strict=True
            )
        ]
    }


def _similarity(cosine: float) -> float:
    """From 0 to 1, as this API has it."""
    return round(min(max(cosine, 0.0), 1.0), 6)


def _children(recommender: Recommender, songs: list[SongView]) -> list[Answer]:
    """Songs as this API has them (`Child`); what is unknown is left out."""
    bundle = recommender.bundle
    found = []
    for song in songs:
        artists = artists_of(recommender, song)
        isrc = bundle.isrcs[song.track_idx]
        child: Answer = {
            "id": song.track_id,
            "isDir": False,
            "type": "music",
            "mediaType": "song",
            "title": song.name or song.track_id,
            "artist": song.artists,
        }
        if artists:
            child["artistId"] = bundle.artist_ids[artists[0]]
            child["artists"] = [
                {"id": bundle.artist_ids[artist], "name": bundle.artist_names[artist]} for artist in artists
            ]
        if song.year is not None:
            child["year"] = song.year
        if mbid := id_of_service(song, "musicbrainz"):
            child["musicBrainzId"] = mbid
        if isrc:
            child["isrc"] = [isrc]
        if song.explicit is not None:
            child["explicitStatus"] = "explicit" if song.explicit else "clean"
        found.append(child)
    return found
