"""The shape of Last.fm's API: `track.getSimilar` and `artist.getSimilar`, as XML and as JSON.

Here: its requests, answers and errors. Not here: the query (`common`, `recommend`).
"""

from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree as Xml

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.answers import json_response
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.shapes.common import (
    Asking,
    Parameters,
    id_of_service,
    mbid_of_artist,
    refused,
    unknown,
)
from tunegraph_pipeline.serve.shapes.xml import xml_response

_ANSWERED = frozenset({"method", "artist", "track", "mbid", "limit", "format", "autocorrect"})
_SIGNED = frozenset({"api_key", "api_sig", "sk", "username"})  # about the account, which nothing depends on
_NO_METHOD = "no-such-method"
_CODES = {
    HTTPStatus.TOO_MANY_REQUESTS: 29,
    HTTPStatus.SERVICE_UNAVAILABLE: 16,
    HTTPStatus.INTERNAL_SERVER_ERROR: 8,
}
_INVALID_METHOD, _INVALID_PARAMETERS = 3, 6


def add(router: APIRouter, asking: Asking) -> None:
    """Add the routes of this shape."""

    async def lastfm(request: Request) -> Response:
        given = await Parameters.of(request)
        method = given.text("method").lower()
        if method not in {"track.getsimilar", "artist.getsimilar"}:
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "this service has the methods track.getSimilar and artist.getSimilar",
                name=_NO_METHOD,
            )
        given.refuse_others(_ANSWERED | _SIGNED, "this service cannot answer this parameter; leave it out")
        if given.text("format") not in {"", "xml", "json"}:
            raise refused("format: has to be xml or json")
        limit = given.count("limit", 100)
        if method == "track.getsimilar":
            kind, name, found = "track", given.text("track"), await _tracks(asking, given, limit)
        else:
            kind, name, found = "artist", given.text("artist"), await _artists(asking, given, limit, request)
        if given.text("format") == "json":
            return json_response(
                {f"similar{kind}s": {kind: found, "@attr": {"artist": given.text("artist")}}}
            )
        root = Xml.Element("lfm", status="ok")
        about = {"artist": given.text("artist")} | ({"track": name} if kind == "track" else {})
        similar = Xml.SubElement(root, f"similar{kind}s", about)
        for fields in found:
            _write(Xml.SubElement(similar, kind), fields)
        return xml_response(root)

    for path in ("/2.0", "/2.0/"):
        router.add_api_route(path, lastfm, methods=["GET", "POST"], include_in_schema=False)


def write_error(problem: Problem, scope: Scope) -> Response:
    """An error as Last.fm writes it, as XML or JSON, with its codes; the HTTP status stays."""
    given = Parameters.of_scope(scope)
    code = _INVALID_METHOD if problem.name == _NO_METHOD else _CODES.get(problem.status, _INVALID_PARAMETERS)
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    if given.values.get("format") == ["json"]:
        return json_response({"error": code, "message": problem.detail, "links": []}, int(status))
    root = Xml.Element("lfm", status="failed")
    Xml.SubElement(root, "error", code=str(code)).text = problem.detail
    return xml_response(root, int(status))


async def _tracks(asking: Asking, given: Parameters, limit: int) -> list[dict[str, Any]]:
    if mbid := given.text("mbid"):
        track = await asking.song(mbid)
    elif given.text("artist") and given.text("track"):
        track = await asking.song_named(given.text("artist"), given.text("track"))
    else:
        raise refused("artist and track, or mbid: one of them is needed")
    recommender, near = await asking.similar(track, limit)
    artists = [recommender.lookup.first_artist(one.song.track_idx) for one in near]
    return [
        {
            "name": one.song.name or one.song.track_id,
            "playcount": one.song.popularity,
            "mbid": id_of_service(one.song, "musicbrainz"),
            "match": round(max(one.cosine, 0.0), 6),
            "url": one.song.link,
            "artist": {
                "name": one.song.artists if artist is None else recommender.bundle.artist_names[artist],
                "mbid": "" if artist is None else mbid_of_artist(recommender, artist),
                "url": "",
            },
            "image": [{"#text": one.song.image_url, "size": "large"}],
        }
        for one, artist in zip(near, artists, strict=True)
    ]


async def _artists(asking: Asking, given: Parameters, limit: int, request: Request) -> list[dict[str, Any]]:
    named = [text for text in (given.text("mbid"), given.text("artist")) if text]
    if not named:
        raise refused("artist or mbid: one of them is needed")
    # The id where it is known, else the name, as Last.fm does.
    known = [text for text in named if await asking.artist(text) is not None][:1]
    if not known:
        raise unknown("the bundle has no artist of this name or id")
    recommender, near = await asking.near_artists([], known, limit, request)
    return [_artist(recommender, one.artist, one.match) for one in near]


def _artist(recommender: Recommender, artist: int, match: float) -> dict[str, Any]:
    mbid = mbid_of_artist(recommender, artist)
    return {
        "name": recommender.bundle.artist_names[artist],
        "mbid": mbid,
        "match": round(match, 6),
        "url": f"https://musicbrainz.org/artist/{mbid}" if mbid else "",
    }


def _write(element: Xml.Element, fields: dict[str, Any]) -> None:
    """Fields as elements with text; of one with ``#text``, the others are attributes."""
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            child = Xml.SubElement(element, name)
            if isinstance(one, dict) and "#text" in one:
                child.text = str(one["#text"])
                child.attrib.update({key: str(part) for key, part in one.items() if key != "#text"})
            elif isinstance(one, dict):
                _write(child, one)
            else:
                child.text = str(one)
