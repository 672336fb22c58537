"""Spotify's answers: the fields that are kept, their models, and likes gathered from listings.

Here: parsing an answer of any shape; an invalid field is dropped rather than its row. Not here: which calls
are made (`spotify`), or tokens (`spotify_login`).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    WrapValidator,
)

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.api_session import Keep, fields
from tunegraph_pipeline.sources.source import Like, LikedList, Track, Unanswered, earlier, year_of

_FIRST_YEAR = 2006  # an older "added at" means unknown

_TRACK = fields(
    *("id", "name", "type", "is_local", "preview_url", "duration_ms", "explicit", "genre"),
    artists=fields("id", "name"),
    album=fields("id", "name", "release_date", images=fields("url")),
    external_ids=fields("isrc"),
)
KEEP: Keep = {
    **_TRACK,  # a track requested alone; an answer about a person has none of these fields but the id
    "next": True,
    "items": fields(
        "id",
        "added_at",
        owner=fields("id"),
        tracks=fields("total"),
        items=fields("total"),
        track=_TRACK,
        item=_TRACK,
    ),
    "tracks": _TRACK,
    "audio_features": fields("id", *AUDIO_FEATURES),
}
"""The fields kept of any answer: of a person only the id."""

_Model = TypeVar("_Model", bound=BaseModel)

UserId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
TrackId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,64}$")]


def _or_none(value: Any) -> Any:
    """Optional text: None for anything else, so that one bad field does not cost the row."""
    return value if isinstance(value, str) and value else None


def _none_if_invalid(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


Text = Annotated[str | None, BeforeValidator(_or_none)]
NoneIfInvalid = WrapValidator(_none_if_invalid)
"""The same for fields of another kind."""


class _Artist(BaseModel):
    id: Text = None
    name: Text = None


class _Image(BaseModel):
    url: Text = None


class TrackObject(BaseModel):
    """A track as any call of the API returns it."""

    id: TrackId
    name: Text = None
    artists: Annotated[list[_Artist] | None, NoneIfInvalid] = None
    album_id: Text = Field(None, validation_alias=AliasPath("album", "id"))
    images: Annotated[list[_Image] | None, NoneIfInvalid] = Field(
        None, validation_alias=AliasPath("album", "images")
    )
    isrc: Text = Field(None, validation_alias=AliasPath("external_ids", "isrc"))
    preview_url: Text = None
    duration_ms: Annotated[int | None, Field(ge=0, le=2**40), NoneIfInvalid] = None
    explicit: Annotated[bool | None, NoneIfInvalid] = None
    genre: Text = None  # the simulator's own
    album: Text = Field(None, validation_alias=AliasPath("album", "name"))
    released: Any = Field(None, validation_alias=AliasPath("album", "release_date"))

    def track(self) -> Track:
        artists = [artist for artist in self.artists or [] if artist.name and artist.id]
        return Track(
            track_id=self.id,
            isrc=self.isrc,
            name=self.name,
            artists=[str(artist.name) for artist in artists] or None,
            artist_ids=[str(artist.id) for artist in artists] or None,
            album_id=self.album_id,
            genre=self.genre,
            image_url=next((image.url for image in self.images or [] if image.url), None),
            preview_url=self.preview_url,
            duration_ms=self.duration_ms,
            explicit=self.explicit,
            album=self.album,
            year=year_of(self.released),
        )


class Owner(BaseModel):
    id: UserId


_Total = Annotated[int | None, NoneIfInvalid]


class Playlist(BaseModel):
    id: UserId
    owner_id: UserId = Field(validation_alias=AliasPath("owner", "id"))
    # Either generation of the API gives one of them.
    tracks: _Total = Field(None, validation_alias=AliasPath("tracks", "total"))
    items: _Total = Field(None, validation_alias=AliasPath("items", "total"))

    @property
    def empty(self) -> bool:
        return 0 in (self.tracks, self.items)


class Page(BaseModel):
    items: list[Any]
    next: str | None = None


class GatheredLikes:
    """Likes gathered from several listings: each track once, with the earliest known time."""

    def __init__(self) -> None:
        self._times: dict[str, datetime | None] = {}
        self._tracks: dict[str, Track] = {}
        self.counts: Counter[str] = Counter()

    def add(self, entries: Iterator[Any] | list[Any]) -> None:
        for entry in entries:
            value = (entry.get("track") or entry.get("item")) if isinstance(entry, dict) else None
            if not isinstance(value, dict):
                self.counts["entries without a track"] += 1
            elif value.get("is_local"):
                self.counts["local files"] += 1
            elif value.get("type") not in (None, "track"):
                self.counts["podcast episodes"] += 1
            elif (track := parsed(TrackObject, value)) is None:
                self.counts["entries that make no sense"] += 1
            else:
                self._tracks.setdefault(track.id, track.track())
                self._times[track.id] = earlier(_moment(entry.get("added_at")), self._times.get(track.id))

    def liked_list(self) -> LikedList:
        likes = [Like(track_id, at) for track_id, at in self._times.items()]
        return LikedList(likes, list(self._tracks.values()), self.counts)


def page(answer: Any) -> Page:
    """A page of a listing. Raises Unanswered for anything else."""
    found = parsed(Page, answer)
    if found is None:
        raise Unanswered("Spotify answered with a listing that cannot be read")
    return found


def rows(answer: Any, name: str) -> list[Any]:
    """The list of that name in an answer, empty if there is none."""
    found = answer.get(name) if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def parsed(model: type[_Model], value: Any) -> _Model | None:
    """The value as that model, None if it is invalid."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _moment(value: Any) -> datetime | None:
    """A time of the API, in UTC; None if it is missing, unreadable or from before Spotify existed."""
    try:
        at = datetime.fromisoformat(value)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return at if at.year >= _FIRST_YEAR else None
