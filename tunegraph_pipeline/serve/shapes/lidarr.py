"""The shape of an import list of Lidarr: the artists near some songs and artists.

Here: the list that Lidarr's "Custom List" reads. Not here: the query (`common`, `recommend`).
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.serve.answers import json_response
from tunegraph_pipeline.serve.shapes.common import (
    Asking,
    Parameters,
    mbid_of_artist,
    refused,
    unknown,
)


def add(router: APIRouter, asking: Asking) -> None:
    """Add the routes of this shape."""

    @router.get("/lidarr", include_in_schema=False)
    async def lidarr(request: Request) -> Response:
        given = await Parameters.of(request)
        given.refuse_others({"artist", "track", "limit"}, "this list has artist, track and limit")
        artists, tracks = given.texts("artist"), given.texts("track")
        if not artists and not tracks:
            raise refused("artist or track: at least one is needed, by id, or artists by name; repeat it")
        recommender, near = await asking.near_artists(tracks, artists, given.count("limit", 20), request)
        found = [
            {"MusicBrainzId": mbid, "ArtistName": recommender.bundle.artist_names[one.artist]}
            for one in near
            if (mbid := mbid_of_artist(recommender, one.artist))
        ]
        if near and not found:
            raise unknown("none of the artists found has a MusicBrainz id, by which Lidarr knows artists")
        return json_response(found)
