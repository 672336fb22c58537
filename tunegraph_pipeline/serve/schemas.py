"""Request and response schemas (pydantic), from which the OpenAPI document is generated.

Here: request models, which validate the bytes of a body, and response models, which only document the
responses; for speed, they do not write them. Not here: lists in other formats than JSON (`formats`).

Bodies are validated strictly: a number in quotes is an error. Unknown fields are an error, so that a misspelt
option is not silently ignored. Filters are an object in a body, and flat texts in a query string.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from tunegraph_pipeline.ids import MOST_ID_BYTES, is_too_long
from tunegraph_pipeline.lake.audio_features import AUDIO_FEATURES
from tunegraph_pipeline.recommend.filters import MOODS, RANGE_HELP, RANGE_PATTERN, Filters, read_filters
from tunegraph_pipeline.serve.limits import (
    MOST_GENRES,
    MOST_K,
    MOST_LISTED,
    MOST_LOOKED_UP,
    MOST_MAP_POINTS,
)


def _integral_to_int(value: Any) -> Any:
    """An int for a JSON number such as 10.0, which JSON Schema allows but a strict int refuses."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short_id(value: str) -> str:
    if is_too_long(value):
        raise ValueError(f"may have at most {MOST_ID_BYTES:,} bytes")
    return value


def _short_ids(values: list[str]) -> list[str]:
    """The same for a list, in one call."""
    # UTF-8 has at most four bytes for a character.
    if 4 * max(map(len, values), default=0) > MOST_ID_BYTES and any(map(is_too_long, values)):
        raise ValueError(f"has an id of more than {MOST_ID_BYTES:,} bytes")
    return values


# Pydantic itself counts characters, of which an id has no more than bytes.
_Text = Annotated[str, StringConstraints(min_length=1, max_length=MOST_ID_BYTES)]
Id = Annotated[_Text, AfterValidator(_short_id)]
IdList = Annotated[list[_Text], Field(max_length=MOST_LISTED), AfterValidator(_short_ids)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST_K), BeforeValidator(_integral_to_int)]
Format = Literal["json", "csv", "m3u", "uris"]
Service = Literal["spotify", "apple", "youtube", "deezer", "tidal", "musicbrainz"]

_FORMAT = Field(
    description="`json`; `csv`; `m3u`, a playlist of previews or Spotify links; or `uris`, one Spotify URI"
    " per line. The last two contain only songs that have such a link.",
)
_FAMILIARITY = Field(
    0.5, description="0 prefers discoveries, 1 popular songs; 0.5 leaves the model's scores."
)
_DIVERSITY = Field(0.0, description="How much the songs should differ from each other, from 0 to 1.")
_MAX_PER_ARTIST = Field(None, description="Maximum number of songs per artist.")
_EXPLICIT = Field(True, description="`false` leaves out songs marked as explicit.")
_LINKS = Field(
    None,
    description="The service to link to, where a song is known there; otherwise MusicBrainz. By default the"
    " one that most of the given ids are of.",
)


_GENRES = "Genres of which a song has at least one; `GET /genres` lists them. Case and signs do not matter."
_NOT_GENRES = "Genres of which a song has none."
_YEARS = "The year of release"
_MOODS = "Names for ranges of features, all of which have to hold."
_UNKNOWN: Any = Field(
    "exclude",
    description="Songs of which a year, genre or feature that is asked for is unknown: `exclude` or `allow`.",
)


_PASSING = "How many songs of the catalogue pass the filters; null without filters."


def _check(pattern: str, otherwise: str) -> AfterValidator:
    """Refuses a text that is not of this pattern with ``otherwise``, which a pattern does not say."""

    def check(text: str) -> str:
        if len(text) > _LONGEST_TEXT or not re.fullmatch(pattern, text):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": _LONGEST_TEXT})


def _list_of(name: str, most: int) -> str:
    return f"^{name}(,{name}){{0,{most - 1}}}$"


_LONGEST_TEXT = 2_000
_GENRE_LIST = _list_of("[^,]{1,100}", MOST_GENRES)
_MOOD_LIST = _list_of(f"({'|'.join(MOODS)})", len(MOODS))
_GenreNames = Annotated[
    str,
    _check(_GENRE_LIST, f"has to be at most {MOST_GENRES} names of 1 to 100 letters, separated by commas"),
    _schema(_GENRE_LIST),
]
_MoodNames = Annotated[
    str, _check(_MOOD_LIST, f"has to be of {', '.join(MOODS)}, separated by commas"), _schema(_MOOD_LIST)
]
_Range = Annotated[str, _check(RANGE_PATTERN, RANGE_HELP), _schema(RANGE_PATTERN)]


def _parts(text: str | None) -> list[str]:
    return [] if text is None else text.split(",")


class RequestBody(BaseModel):
    """Base of all request bodies."""

    model_config = ConfigDict(strict=True, extra="forbid")


class QueryParameters(BaseModel):
    """Base of all query strings."""

    model_config = ConfigDict(extra="forbid")


Feature = Literal[
    "acousticness",
    "danceability",
    "energy",
    "instrumentalness",
    "key",
    "liveness",
    "loudness",
    "mode",
    "speechiness",
    "tempo",
    "valence",
]
Mood = Literal["acoustic", "calm", "danceable", "energetic", "happy", "instrumental", "sad"]
Genre = Annotated[str, StringConstraints(min_length=1, max_length=100)]
GenreList = Annotated[list[Genre], Field(max_length=MOST_GENRES)]
_Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Bounds = tuple[_Number | None, _Number | None]


class FilterRequest(RequestBody):
    """What songs have to be like. A range is a list of the lowest and the highest value, both included;
    `null` leaves a side open."""

    genres: GenreList = Field([], description=_GENRES)
    not_genres: GenreList = Field([], description=_NOT_GENRES)
    years: Bounds = Field((None, None), description=f"{_YEARS}, such as `[1990, 1999]`.")
    features: dict[Feature, Bounds] = Field(
        {}, description='Ranges of audio features, such as `{"tempo": [90, 120]}`.'
    )
    moods: Annotated[list[Mood], Field(max_length=len(MOODS))] = Field([], description=_MOODS)
    unknown: Literal["exclude", "allow"] = _UNKNOWN

    def filters(self) -> Filters:
        return Filters(**vars(self))


class FilterParameters(QueryParameters):
    """What songs have to be like, in a query string. A range is `90-120`, `90..`, `..120` or one number."""

    genre: _GenreNames | None = Field(None, description=f"{_GENRES} Separated by commas.")
    not_genre: _GenreNames | None = Field(None, description=f"{_NOT_GENRES} Separated by commas.")
    year: _Range | None = Field(None, description=f"{_YEARS}, such as `1990-1999`.")
    mood: _MoodNames | None = Field(None, description=f"{_MOODS} Separated by commas, of {', '.join(MOODS)}.")
    unknown: Literal["exclude", "allow"] = _UNKNOWN
    acousticness: _Range | None = None
    danceability: _Range | None = None
    energy: _Range | None = None
    instrumentalness: _Range | None = None
    key: _Range | None = Field(None, description="0 is C, 11 is B.")
    liveness: _Range | None = None
    loudness: _Range | None = Field(None, description="In decibels, such as `-20..-5`.")
    mode: _Range | None = Field(None, description="0 is minor, 1 major.")
    speechiness: _Range | None = None
    tempo: _Range | None = Field(None, description="In beats per minute, such as `90-120`.")
    valence: _Range | None = None

    def filters(self) -> Filters | None:
        """None if nothing is asked for."""
        if self.model_fields_set.isdisjoint(_FILTER_PARAMETERS):
            return None
        return read_filters(
            genres=_parts(self.genre),
            not_genres=_parts(self.not_genre),
            year=self.year,
            moods=_parts(self.mood),
            features={name: getattr(self, name) for name in AUDIO_FEATURES},
            unknown=self.unknown,
        )


_FILTER_PARAMETERS = frozenset(FilterParameters.model_fields)


class RecommendationRequest(RequestBody):
    """Liked and disliked songs, and options for the recommendations."""

    likes: IdList = Field([], description="Ids of liked songs; without any, popular songs are recommended.")
    # pydantic copies a default list at great length, and makes one at once.
    dislikes: IdList = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="Disliked songs: never recommended, and similar songs rank lower.",
    )
    exclude: IdList = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="Songs not to recommend, without effect on other songs.",
    )
    k: Count = Field(10, description="Number of songs.")
    familiarity: Share = _FAMILIARITY
    diversity: Share = _DIVERSITY
    max_per_artist: Count | None = _MAX_PER_ARTIST
    explicit: bool = _EXPLICIT
    links: Service | None = _LINKS
    filters: FilterRequest | None = Field(None, description="What the songs have to be like.")


class ListParameters(QueryParameters):
    """The format of a list of recommendations."""

    format: Annotated[Format, _FORMAT] = "json"


class UserParameters(ListParameters, FilterParameters):
    """Options for the recommendations of a stored user."""

    k: Count = Field(10, description="Number of songs.")
    familiarity: Share = _FAMILIARITY
    diversity: Share = _DIVERSITY
    max_per_artist: Count | None = _MAX_PER_ARTIST
    explicit: bool = _EXPLICIT
    links: Service | None = _LINKS


class SimilarParameters(FilterParameters):
    """The number of similar songs, and what they have to be like."""

    k: Count = Field(10, description="Number of songs.")


class TrackParameters(QueryParameters):
    """Ids to look up, and words to search for."""

    query: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Words of names and artists; typing errors are tolerated.",
    )
    ids: str | None = Field(
        None,
        max_length=20_000,
        pattern=f"^[^,]+(,[^,]+){{0,{MOST_LOOKED_UP - 1}}}$",
        description=f"Ids separated by commas, {MOST_LOOKED_UP} at most.",
    )
    limit: int = Field(
        20, ge=1, le=100, description="Maximum number of songs found, in addition to those of `ids`."
    )


class MapParameters(QueryParameters):
    """The size of the map."""

    limit: int = Field(3_000, ge=1, le=MOST_MAP_POINTS, description="Number of songs, the most liked first.")


class ExplanationRequest(RequestBody):
    """A song, and the liked songs to explain its score by."""

    likes: IdList = Field(description="Ids of liked songs.")
    track_id: Id = Field(description="The song whose score to explain.")


class FeedbackEvent(RequestBody):
    """What a listener did with one song."""

    track_id: Id
    action: Literal["like", "dislike", "skip"]


class FeedbackRequest(RequestBody):
    """What a listener did with songs, and the list they saw."""

    user_id: Id = Field(description="The listener; may be a new one.")
    events: Annotated[list[FeedbackEvent], Field(min_length=1, max_length=MOST_K)]
    shown: Annotated[list[_Text], Field(max_length=MOST_K), AfterValidator(_short_ids)] = Field(
        [], description="The list they chose from."
    )
    bundle_version: Annotated[str, StringConstraints(max_length=128)] = Field(
        "", description="The `bundle_version` of the answer they saw."
    )


# --- answers ---


class ReasonAnswer(BaseModel):
    """A liked song that is a reason for a recommendation."""

    track_id: str
    name: str
    artists: str
    listeners: int = Field(description="Number of listeners who like both.")


class ShownSong(BaseModel):
    """The fields of a song in every answer: `SongView.shown`. Texts are empty if unknown."""

    track_id: str
    name: str
    artists: str
    image_url: str
    preview_url: str
    explicit: bool | None = Field(description="Null if unknown.")
    x: float = Field(description="Its position on the map, from 0 to 1.")
    y: float
    year: int | None = Field(description="The year of its release; null if unknown.")
    link: str = Field(description="A page about it.")


class TrackAnswer(ShownSong):
    """A song. Texts are empty if unknown."""

    popularity: int = Field(description="Number of listeners who like it.")


class RecommendationAnswer(ShownSong):
    """A recommended song."""

    rank: int
    score: float = Field(
        description="Likeness to the list, with what neighbours and popularity add: it orders the songs of an"
        " answer. The number of listeners where the answer is not personal."
    )
    reasons: list[ReasonAnswer] = Field(description="At most two liked songs, the strongest reason first.")


class RecommendationsAnswer(BaseModel):
    """Songs, best first."""

    bundle_version: str
    model_version: str
    items: list[RecommendationAnswer]
    found: int = Field(description="How many of the liked songs are in the catalogue.")
    passing: int | None = Field(description=_PASSING)
    unknown: list[str] = Field(description="Given ids that are not in the catalogue.")
    degraded: str | None = Field(
        description="Why these are not personal, or why there are none; null if they are personal."
    )


class SimilarAnswer(ShownSong):
    """A song near another."""

    rank: int
    cosine: float = Field(description="Likeness of the two songs, at most 1.")
    probability: float | None = Field(
        description="The probability that a listener likes both; null in an uncalibrated bundle."
    )
    listeners: int = Field(description="Number of listeners who like both.")


class SimilarTracksAnswer(BaseModel):
    """Songs near a song, nearest first."""

    bundle_version: str
    items: list[SimilarAnswer]
    passing: int | None = Field(description=_PASSING)


class GenreAnswer(BaseModel):
    """A genre of the catalogue."""

    name: str
    songs: int = Field(description="Number of songs that can be recommended.")


class GenresAnswer(BaseModel):
    """The genres of the catalogue, those of most songs first."""

    bundle_version: str
    items: list[GenreAnswer]


class TracksAnswer(BaseModel):
    """Songs: those looked up, in the order of their ids, then those found, best first."""

    bundle_version: str
    items: list[TrackAnswer]
    unknown: list[str] = Field(description="Given ids that are not in the catalogue.")


class MapPoint(BaseModel):
    """A song on the map."""

    track_id: str
    name: str
    artists: str
    x: float
    y: float
    popularity: int


class MapAnswer(BaseModel):
    """The most liked songs with their positions: close together if the same people like them."""

    bundle_version: str
    points: list[MapPoint]


class ContributionAnswer(ReasonAnswer):
    """What one liked song adds to a score."""

    contribution: float
    cosine: float


class ExplanationAnswer(BaseModel):
    """A score and its parts: it is the sum of the contributions and the prior."""

    bundle_version: str
    track: TrackAnswer
    score: float
    prior: float = Field(description="The part of the score that is the same for everybody.")
    contributions: list[ContributionAnswer] = Field(description="Largest first.")
    unknown: list[str] = Field(description="Given ids that are not in the catalogue.")


class FeedbackAnswer(BaseModel):
    """How many events were stored; the next refresh uses them."""

    received: int
    unknown: list[str] = Field(description="Ids that are not in the catalogue; their events were dropped.")


class HealthAnswer(BaseModel):
    """The process is running."""

    status: Literal["alive"]


class ReadyAnswer(BaseModel):
    """A bundle is served; `degraded`, with the reason, if a newer one is refused or its index is unusable."""

    status: Literal["ready", "degraded"]
    bundle_version: str
    problem: str | None


class LicenceAnswer(BaseModel):
    """Under which terms data came that the bundle is made of."""

    data: str = Field(description="Whose it is.")
    terms: str
    url: str = Field(description="Where the terms are; empty if nowhere.")


class VersionAnswer(BaseModel):
    """The versions of the program and of the served bundle, and whose data it is made of."""

    program: str
    bundle_version: str
    model_version: str
    cut_off: str | None = Field(description="The last day of likes in the bundle.")
    tracks: int = Field(description="Ids of songs in the bundle.")
    recommendable: int = Field(description="Those that can be recommended: one for each recording.")
    users: int
    licences: list[LicenceAnswer] = Field(description="Empty for a bundle of an earlier version.")
