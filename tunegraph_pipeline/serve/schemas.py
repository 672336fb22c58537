"""Request and response schemas (pydantic); the OpenAPI of the service is generated from them.

Here: request models, which validate the bytes of a body, and response models, which document the responses
but do not write them, for speed. Not here: lists in other formats than JSON (`formats`).

Bodies are validated strictly: a number in quotes is an error. Unknown fields are an error, so that a misspelt
option is not silently ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from tunegraph_pipeline.serve.limits import (
    MOST_ID_CHARACTERS,
    MOST_K,
    MOST_LISTED,
    MOST_LOOKED_UP,
    MOST_MAP_POINTS,
)


def _integral_to_int(value: Any) -> Any:
    """A JSON number such as 10.0 is an integer, as JSON Schema has it; a strict int alone would refuse it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[str, StringConstraints(min_length=1, max_length=MOST_ID_CHARACTERS)]
IdList = Annotated[list[Id], Field(max_length=MOST_LISTED)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST_K), BeforeValidator(_integral_to_int)]
Format = Literal["json", "csv", "m3u", "uris"]

_FORMAT = Field(
    description="`json`; `csv`, a table; `m3u`, a playlist of previews or Spotify links; `uris`, Spotify URIs"
    " a line. The latter two hold the songs that have such a link.",
)
_FAMILIARITY = Field(0.5, description="0 for discoveries, 1 for what is popular; 0.5 as the model weighs it.")
_DIVERSITY = Field(0.0, description="How much the songs should differ from one another, up to 1.")
_MAX_PER_ARTIST = Field(None, description="So many songs of one artist at most.")
_EXPLICIT = Field(True, description="`false` leaves out songs marked as explicit.")


class RequestBody(BaseModel):
    """Base of all request bodies."""

    model_config = ConfigDict(strict=True, extra="forbid")


class QueryParameters(BaseModel):
    """Base of all query strings."""

    model_config = ConfigDict(extra="forbid")


class RecommendationRequest(RequestBody):
    """Songs somebody likes, and what they want to hear next."""

    likes: IdList = Field([], description="Ids of liked songs; without any, what is popular is recommended.")
    dislikes: IdList = Field([], description="Songs to keep away from; never recommended.")
    exclude: IdList = Field([], description="Songs not to recommend, which say nothing about taste.")
    k: Count = Field(10, description="How many songs.")
    familiarity: Share = _FAMILIARITY
    diversity: Share = _DIVERSITY
    max_per_artist: Count | None = _MAX_PER_ARTIST
    explicit: bool = _EXPLICIT


class ListParameters(QueryParameters):
    """How a list of recommendations is written."""

    format: Annotated[Format, _FORMAT] = "json"


class UserParameters(QueryParameters):
    """What a stored user wants to hear next."""

    k: Count = Field(10, description="How many songs.")
    familiarity: Share = _FAMILIARITY
    diversity: Share = _DIVERSITY
    max_per_artist: Count | None = _MAX_PER_ARTIST
    explicit: bool = _EXPLICIT
    format: Annotated[Format, _FORMAT] = "json"


class SimilarParameters(QueryParameters):
    """How many similar songs are wanted."""

    k: Count = Field(10, description="How many songs.")


class TrackParameters(QueryParameters):
    """Ids to look up, and words to look for."""

    query: str | None = Field(
        None, min_length=1, max_length=200, description="Words of names and artists, typing errors allowed."
    )
    ids: str | None = Field(
        None,
        max_length=20_000,
        pattern=f"^[^,]+(,[^,]+){{0,{MOST_LOOKED_UP - 1}}}$",
        description=f"Ids with commas between them, {MOST_LOOKED_UP} at most.",
    )
    limit: int = Field(
        20, ge=1, le=100, description="How many songs are found at most, beside those of `ids`."
    )


class MapParameters(QueryParameters):
    """How much of the map is wanted."""

    limit: int = Field(3_000, ge=1, le=MOST_MAP_POINTS, description="So many of the most liked songs.")


class ExplanationRequest(RequestBody):
    """A song, and the likes to explain it by."""

    likes: IdList = Field(description="Ids of liked songs.")
    track_id: Id = Field(description="The song whose score is to be explained.")


class FeedbackEvent(RequestBody):
    """What somebody did with one song."""

    track_id: Id
    action: Literal["like", "dislike", "skip"]


class FeedbackRequest(RequestBody):
    """What a listener did with songs, and the list they were shown."""

    user_id: Id = Field(description="Who; somebody not known yet is welcome.")
    events: Annotated[list[FeedbackEvent], Field(min_length=1, max_length=MOST_K)]
    shown: Annotated[list[Id], Field(max_length=MOST_K)] = Field([], description="The list they chose from.")
    bundle_version: Annotated[str, StringConstraints(max_length=128)] = Field(
        "", description="The `bundle_version` of the answer that was shown."
    )


# --- answers ---


class ReasonAnswer(BaseModel):
    """A liked song that speaks for a recommendation."""

    track_id: str
    name: str
    artists: str
    listeners: int = Field(description="How many listeners like both.")


class ShownSong(BaseModel):
    """The fields of a song that every answer has: `SongView.shown`. Texts are empty where unknown."""

    track_id: str
    name: str
    artists: str
    image_url: str
    preview_url: str
    explicit: bool | None = Field(description="Null where unknown.")
    x: float = Field(description="Its place on the map, from 0 to 1.")
    y: float


class TrackAnswer(ShownSong):
    """A song. Texts are empty where unknown."""

    popularity: int = Field(description="How many listeners like it.")


class RecommendationAnswer(ShownSong):
    """A song to listen to."""

    rank: int
    score: float
    reasons: list[ReasonAnswer] = Field(description="At most two liked songs, the strongest first.")


class RecommendationsAnswer(BaseModel):
    """Songs, best first."""

    bundle_version: str
    model_version: str
    items: list[RecommendationAnswer]
    unknown: list[str] = Field(description="Given ids that nobody knows.")
    degraded: str | None = Field(description="Why these are not personal, null where they are.")


class SimilarAnswer(ShownSong):
    """A song near another one."""

    rank: int
    cosine: float
    probability: float | None = Field(
        description="That a listener likes both; null in an uncalibrated bundle."
    )
    listeners: int = Field(description="How many listeners like both.")


class SimilarTracksAnswer(BaseModel):
    """Songs near one, nearest first."""

    bundle_version: str
    items: list[SimilarAnswer]


class TracksAnswer(BaseModel):
    """Songs: those looked up in the order of their ids, then those found, best first."""

    bundle_version: str
    items: list[TrackAnswer]
    unknown: list[str] = Field(description="Given ids that nobody knows.")


class MapPoint(BaseModel):
    """A song on the map."""

    track_id: str
    name: str
    artists: str
    x: float
    y: float
    popularity: int


class MapAnswer(BaseModel):
    """The most liked songs where they lie: near to one another where the same people like them."""

    bundle_version: str
    points: list[MapPoint]


class ContributionAnswer(BaseModel):
    """What one liked song adds to a score."""

    track_id: str
    name: str
    artists: str
    contribution: float
    cosine: float
    listeners: int = Field(description="How many listeners like both.")


class ExplanationAnswer(BaseModel):
    """A score, taken apart: it is the sum of the contributions and the prior."""

    bundle_version: str
    track: TrackAnswer
    score: float
    prior: float = Field(description="What the song has for everybody.")
    contributions: list[ContributionAnswer] = Field(description="The largest first.")
    unknown: list[str] = Field(description="Given ids that nobody knows.")


class FeedbackAnswer(BaseModel):
    """How many events were kept; they are in the next refresh."""

    received: int
    unknown: list[str] = Field(description="Ids of songs that nobody knows, of which nothing was kept.")


class HealthAnswer(BaseModel):
    """The process is alive."""

    status: Literal["alive"]


class ReadyAnswer(BaseModel):
    """A bundle is served; `degraded` where a newer one is refused or an index cannot be used, and why."""

    status: Literal["ready", "degraded"]
    bundle_version: str
    problem: str | None


class VersionAnswer(BaseModel):
    """Which program serves which bundle."""

    program: str
    bundle_version: str
    model_version: str
    cut_off: str | None = Field(description="The day up to which likes are in it.")
    tracks: int
    users: int
