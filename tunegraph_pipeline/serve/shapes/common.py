"""What all shapes have in common: reading the parameters of a request, and asking the one query.

Here: parameters of query string and form, songs and artists by any of their ids and names, and the songs and
artists near them. Not here: what a shape's answers look like (a module each), or the ranking (`recommend`).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import Scope

from tunegraph_pipeline.ids import MOST_ID_BYTES, is_too_long
from tunegraph_pipeline.recommend.lookup import Lookup
from tunegraph_pipeline.recommend.recommender import (
    SONGS_OF_AN_ARTIST,
    Query,
    Recommendations,
    Recommender,
    SimilarTrack,
    SongView,
)
from tunegraph_pipeline.serve.limits import MOST_K, MOST_LISTED, MOST_LOOKED_UP
from tunegraph_pipeline.serve.problem_details import Problem
from tunegraph_pipeline.serve.service import Service
from tunegraph_pipeline.song_ids import clean_id, service_of

_MOST_PARAMETERS = 1_000
_PARAMETERS = "tunegraph.parameters"
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,17})?")
_FORM = "application/x-www-form-urlencoded"


def refused(detail: str) -> Problem:
    """422: a parameter that is wrong, or that this service cannot answer."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, name="invalid-input")


def unknown(detail: str) -> Problem:
    """404: a song or an artist that the bundle does not have."""
    return Problem(HTTPStatus.NOT_FOUND, detail, name="unknown-track")


@dataclass(frozen=True)
class Parameters:
    """The parameters of a request: the values of each name, in the order they came."""

    values: dict[str, list[str]]

    @classmethod
    def parse(cls, *encoded: bytes) -> "Parameters":
        """Raises Problem 422 for more parameters than any request has."""
        values: dict[str, list[str]] = {}
        for part in encoded:
            try:
                pairs = parse_qsl(
                    part.decode(errors="replace"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS
                )
            except ValueError:
                raise refused(f"a request may have at most {_MOST_PARAMETERS:,} parameters") from None
            for name, value in pairs:
                values.setdefault(name, []).append(value)
        return cls(values)

    @classmethod
    async def of(cls, request: Request) -> "Parameters":
        """Those of the query string and of a form in the body. They stay in the scope for `of_scope`."""
        parts = [request.scope["query_string"]]
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
            parts.append(await request.body())
        found: Parameters = cls.parse(*parts)
        request.scope[_PARAMETERS] = found
        return found

    @classmethod
    def of_scope(cls, scope: Scope) -> "Parameters":
        """Those that were read, or those of the query string if none were; for writing an error."""
        read: Parameters | None = scope.get(_PARAMETERS)
        if read is not None:
            return read
        try:
            return cls.parse(scope.get("query_string", b""))
        except Problem:
            return cls({})

    def text(self, name: str) -> str:
        """The value of a parameter, "" without one. Raises Problem 422 if it is too long."""
        value = self.values.get(name, [""])[0]
        if is_too_long(value):
            raise refused(f"{name}: may have at most {MOST_ID_BYTES:,} bytes")
        return value

    def texts(self, name: str, *, split: bool = False) -> list[str]:
        """All values of a parameter; with ``split``, also between commas. Raises Problem 422 if there are too
        many, or one is too long."""
        given = self.values.get(name, [])
        found = [part for value in given for part in (value.split(",") if split else [value]) if part]
        if len(found) > MOST_LOOKED_UP:
            raise refused(f"{name}: may name at most {MOST_LOOKED_UP}")
        if any(map(is_too_long, found)):
            raise refused(f"{name}: has one of more than {MOST_ID_BYTES:,} bytes")
        return found

    def count(self, name: str, default: int, most: int = MOST_K) -> int:
        """A number of songs or artists. Raises Problem 422 if it is not from 1 to ``most``."""
        return self.whole(name, default, 1, most)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number. Raises Problem 422 if it is not from ``least`` to ``most``."""
        value = self.text(name)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
            raise refused(f"{name}: has to be a whole number from {least} to {most}")
        return int(value)

    def number(self, name: str) -> float | None:
        """A number, None without the parameter. Raises Problem 422 if it is none."""
        value = self.text(name)
        if not value:
            return None
        if _NUMBER.fullmatch(value) is None:
            raise refused(f"{name}: has to be a number")
        return float(value)

    def refuse_others(self, known: Collection[str], why: str) -> None:
        """Raise Problem 422 for the first parameter that is not ``known``, and say ``why``."""
        other = next((name for name in self.values if name not in known), None)
        if other is not None:
            raise refused(f"{other[:80]}: {why}")


class NearArtist(NamedTuple):
    """An artist near others, by the place in the bundle; ``match`` is 1 for the nearest, and at least 0."""

    artist: int
    match: float


class Likes(NamedTuple):
    """The songs that a query likes, those of the same artists to leave out, and how many are of each seed (0
    if it is unknown), in the order of tracks, then artists."""

    likes: list[str]
    exclude: list[str]
    of_seeds: list[int]


class Asking:
    """Asks the service for the shapes."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def song(self, track_id: str) -> str:
        """The id in the bundle of the song of this id. Raises Problem 404 if it is unknown."""
        found = await self.service.in_thread(self._lookup().song, track_id)
        if found is None:
            raise unknown("the bundle has no song of this id")
        return found

    async def song_named(self, artist: str, title: str) -> str:
        """The same by artist and title."""
        found = await self.service.in_thread(self._lookup().song_named, artist, title)
        if found is None:
            raise unknown("the bundle has no song of this artist and title")
        return found

    async def artist(self, given: str) -> int | None:
        """The artist of this id or name, None if unknown."""
        return await self.service.in_thread(self._lookup().artist, given)

    async def likes(self, tracks: Sequence[str], artists: Sequence[str], *, alone: bool = False) -> Likes:
        """The songs of these seeds: each track, and of each artist those liked most. With ``alone``, the
        other songs of the artists are to be left out. Raises Problem 404 if all seeds are unknown."""
        found = await self.service.in_thread(_likes, self._lookup(), tracks, artists, alone)
        if not found.likes:
            raise unknown("the bundle knows none of these songs and artists")
        return found

    async def recommend(self, query: Query, request: Request) -> tuple[Recommender, Recommendations]:
        """The answer to a query, and the recommender that gave it; raises as `Service.recommend`."""
        return await self.service.recommend(query, request)

    async def similar(self, track_id: str, k: int) -> tuple[Recommender, list[SimilarTrack]]:
        """The songs near the song of this id in the bundle."""
        recommender = self.service.live_bundle.current.recommender
        if recommender.bundle.tracks.position(track_id) < 0:  # it was in the bundle before this one
            raise unknown("the bundle has no song of this id")
        return recommender, await self.service.in_thread(recommender.similar, track_id, k)

    async def near_artists(
        self, tracks: Sequence[str], artists: Sequence[str], k: int, request: Request
    ) -> tuple[Recommender, list[NearArtist]]:
        """The artists of the songs that are recommended for these seeds, one song of an artist, without the
        artists themselves."""
        seeds = await self.likes(tracks, artists, alone=True)
        query = Query(seeds.likes, k=k, exclude=seeds.exclude, max_per_artist=1)
        recommender, answer = await self.recommend(query, request)
        best = max((item.score for item in answer.items), default=0.0)
        found: dict[int, float] = {}
        for item in answer.items:
            artist = recommender.lookup.first_artist(item.song.track_idx)
            if artist is not None:
                found.setdefault(artist, max(item.score, 0.0) / best if best > 0 else 0.0)
        return recommender, [NearArtist(artist, match) for artist, match in found.items()]

    def _lookup(self) -> Lookup:
        return self.service.live_bundle.current.recommender.lookup


def _likes(lookup: Lookup, tracks: Sequence[str], artists: Sequence[str], alone: bool) -> Likes:
    likes: list[str] = []
    exclude: list[str] = []
    of_seeds: list[int] = []
    ids = lookup.bundle.tracks
    for track in tracks:
        song = lookup.song(track)
        likes += [] if song is None else [song]
        of_seeds.append(int(song is not None))
    for given in artists:
        artist = lookup.artist(given)
        songs = [] if artist is None else lookup.songs_of(artist)[:MOST_LISTED].tolist()
        likes += [ids[song] for song in songs[:SONGS_OF_AN_ARTIST]]
        exclude += [ids[song] for song in songs[SONGS_OF_AN_ARTIST:]] if alone else []
        of_seeds.append(len(songs[:SONGS_OF_AN_ARTIST]))
    distinct = list(dict.fromkeys(likes))[:MOST_LISTED]
    return Likes(distinct, exclude[:MOST_LISTED], of_seeds)


def id_of_service(song: SongView, service: str) -> str:
    """The id of a song in a service, "" where it has none there."""
    return clean_id(song.links.get(service, ""))


def mbid_of_artist(recommender: Recommender, artist: int) -> str:
    """The MusicBrainz id of an artist, "" if it is unknown."""
    own = recommender.bundle.artist_ids[artist]
    return own if service_of(own) == "musicbrainz" else ""


def artists_of(recommender: Recommender, song: SongView) -> list[int]:
    """The artists of a song, in the order they are named."""
    bundle = recommender.bundle
    start, end = bundle.artist_indptr[song.track_idx : song.track_idx + 2].tolist()
    found: list[int] = bundle.artist_indices[start:end].tolist()
    return found
