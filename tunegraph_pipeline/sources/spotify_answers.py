"""What Spotify's answers mean: the fields that are kept, their models, and likes gathered from listings.

Here: reading an answer, whatever shape it has; a field that makes no sense is left out rather than its row.
Not here: which calls are made (`spotify`), or tokens (`spotify_login`).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError, WrapValidator

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.api_session import Keep
from tunegraph_pipeline.sources.source import Like, LikedList, Track, Unanswered

_FIRST_YEAR = 2006  # an older "added at" means unknown

_TRACK: Keep = {
    "id": True,
    "name": True,
    "type": True,
    "is_local": True,
    "artists": {"id": True, "name": True},
    "album": {"id": True, "images": {"url": True}},
    "external_ids": {"isrc": True},
    "preview_url": True,
    "duration_ms": True,
    "explicit": True,
    "genre": True,
}
KEEP: Keep = {
    **_TRACK,  # a track asked for alone; no answer about a person has more of these fields than the id
    "next": True,
    "items": {
        "id": True,
        "owner": {"id": True},
        "tracks": {"total": True},
        "items": {"total": True},
        "added_at": True,
        "track": _TRACK,
        "item": _TRACK,
    },
    "tracks": _TRACK,
    "audio_features": {"id": True, **dict.fromkeys(AUDIO_FEATURES, True)},
}
"""What is kept of any answer: of a person nothing but the id."""

_Model = TypeVar("_Model", bound=BaseModel)

UserId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
TrackId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,64}$")]


def _or_none(value: Any) -> Any:
    """Optional text: None for whatever is no text, for the row is worth more than one field of it."""
    return value if isinstance(value, str) and value else None


def _if_sound(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


Text = Annotated[str | None, BeforeValidator(_or_none)]
IfSound = WrapValidator(_if_sound)
"""The same for fields of another kind."""


class _Artist(BaseModel):
    id: Text = None
    name: Text = None


class _Image(BaseModel):
    url: Text = None


class _Album(BaseModel):
    id: Text = None
    images: Annotated[list[_Image] | None, IfSound] = None


class _ExternalIds(BaseModel):
    isrc: Text = None


class TrackObject(BaseModel):
    """A track as any call of the API returns it."""

    id: TrackId
    name: Text = None
    artists: Annotated[list[_Artist] | None, IfSound] = None
    album: Annotated[_Album | None, IfSound] = None
    external_ids: Annotated[_ExternalIds | None, IfSound] = None
    preview_url: Text = None
    duration_ms: Annotated[int | None, Field(ge=0, le=2**40), IfSound] = None
    explicit: Annotated[bool | None, IfSound] = None
    genre: Text = None  # the simulator's own

    def track(self) -> Track:
        artists = [artist for artist in self.artists or [] if artist.name and artist.id]
        images = [image.url for image in (self.album.images if self.album else None) or [] if image.url]
        return Track(
            track_id=self.id,
            isrc=self.external_ids.isrc if self.external_ids else None,
            name=self.name,
            artists=[str(artist.name) for artist in artists] or None,
            artist_ids=[str(artist.id) for artist in artists] or None,
            album_id=self.album.id if self.album else None,
            genre=self.genre,
            image_url=images[0] if images else None,
            preview_url=self.preview_url,
            duration_ms=self.duration_ms,
            explicit=self.explicit,
        )


class Owner(BaseModel):
    id: UserId


class _Total(BaseModel):
    total: Annotated[int | None, IfSound] = None


class Playlist(BaseModel):
    id: UserId
    owner: Owner
    tracks: Annotated[_Total | None, IfSound] = None
    items: Annotated[_Total | None, IfSound] = None

    @property
    def empty(self) -> bool:
        return any(part is not None and part.total == 0 for part in (self.tracks, self.items))


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
                at, known = _moment(entry.get("added_at")), self._times.get(track.id)
                self._times[track.id] = min(at, known) if at and known else at or known

    def liked_list(self) -> LikedList:
        likes = [Like(track_id, at) for track_id, at in self._times.items()]
        return LikedList(likes, list(self._tracks.values()), self.counts)


def page(answer: Any) -> Page:
    """A page of a listing. Raises Unanswered for what is none."""
    found = parsed(Page, answer)
    if found is None:
        raise Unanswered("Spotify answered with a listing that cannot be read")
    return found


def rows(answer: Any, name: str) -> list[Any]:
    """The list of that name in an answer, empty where it has none."""
    found = answer.get(name) if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def parsed(model: type[_Model], value: Any) -> _Model | None:
    """The value as that model, None where it does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _moment(value: Any) -> datetime | None:
    """A time of the API, in UTC; None where it is missing, unreadable or from before there was Spotify."""
    try:
        at = datetime.fromisoformat(value)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return at if at.year >= _FIRST_YEAR else None
