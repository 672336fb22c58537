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
from tunegraph_pipeline.recommend.recommender import MODES, MOST_RECENCY, SONGS_OF_AN_ARTIST
from tunegraph_pipeline.serve.limits import (
    MOST_ARTISTS,
    MOST_BLENDED,
    MOST_BLENDED_SONGS,
    MOST_BODY_BYTES,
    MOST_GENRES,
    MOST_K,
    MOST_LISTED,
    MOST_LOOKED_UP,
    MOST_MAP_COLUMNS,
    MOST_MAP_POINTS,
    MOST_MISSING,
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
Recency = Annotated[float, Field(ge=0, le=MOST_RECENCY, allow_inf_nan=False)]
Mode = Literal["mix", "continue"]
Seed = Annotated[int, Field(ge=0, lt=2**53), BeforeValidator(_integral_to_int)]
ArtistList = Annotated[list[_Text], Field(max_length=MOST_ARTISTS), AfterValidator(_short_ids)]
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
_ARTISTS = f"Liked artists, by id or name: the {SONGS_OF_AN_ARTIST} most liked songs of each count as liked."
_SURPRISE = Field(
    0.0, description="0 takes the best songs; above it, songs are drawn among the best, up to 1."
)
_SEED = Field(0, description="The same seed draws the same songs.")
_IDS = Field(
    None,
    max_length=20_000,
    pattern=f"^[^,]+(,[^,]+){{0,{MOST_LOOKED_UP - 1}}}$",
    description=f"Ids separated by commas, {MOST_LOOKED_UP} at most.",
)
_EXPLICIT = Field(True, description="`false` leaves out songs marked as explicit.")
_LINKS = Field(
    None,
    description="The service to link to, where a song is known there; otherwise MusicBrainz. By default the"
    " one that most of the given ids are of.",
)


_MODE: Any = Field(
    "mix",
    description="`mix` takes the likes as a set; with `continue` their order counts, the last being the"
    " newest, and what is recommended is what comes next.",
)
_RECENCY = Field(
    None,
    description="With `continue`: how much more newer songs count. A song of which n others are newer weighs"
    " (1 + n)^-recency; at 0 all count alike. By default what the bundle found best.",
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
_MODE_OR_RANGE = f"^({'|'.join(MODES)})$|{RANGE_PATTERN}"
_ModeOrRange = Annotated[
    str, _check(_MODE_OR_RANGE, f"has to be {' or '.join(MODES)}, or {RANGE_HELP}"), _schema(_MODE_OR_RANGE)
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
    mode: Mode = _MODE
    recency: Recency | None = _RECENCY
    artists: ArtistList = Field(default_factory=list, json_schema_extra={"default": []}, description=_ARTISTS)
    not_artists: ArtistList = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="Artists, by id or name, of whom no song is recommended.",
    )
    surprise: Share = _SURPRISE
    seed: Seed = _SEED


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
    mode: _ModeOrRange | None = Field(
        None,
        description="`mix` takes the list as a set; with `continue` its order counts, where it has one, and"
        " what is recommended is what comes next. By default what the bundle found best for stored lists. Or"
        " a range of the audio feature mode, of which 0 is minor and 1 major.",
    )
    recency: Recency | None = _RECENCY
    surprise: Share = _SURPRISE
    seed: Seed = _SEED

    @property
    def list_mode(self) -> Mode | None:
        """What `mode` says of the list."""
        return next((mode for mode in MODES if mode == self.mode), None)

    def filters(self) -> Filters | None:
        """The same, `mode` being a filter only where it is a range."""
        if self.list_mode is None:
            return super().filters()
        return self.model_copy(update={"mode": None}).filters()


class SimilarParameters(FilterParameters):
    """The number of similar songs, and what they have to be like."""

    k: Count = Field(10, description="Number of songs.")


class PathParameters(QueryParameters):
    """Where a path leads to."""

    to: Id = Field(description="The song that the path leads to.")
    most: int = Field(12, ge=2, le=50, description="Maximum number of songs on it, both ends included.")


class TrackParameters(QueryParameters):
    """Ids to look up, and words to search for."""

    query: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Words of names and artists; typing errors are tolerated.",
    )
    ids: str | None = _IDS
    limit: int = Field(
        20, ge=1, le=100, description="Maximum number of songs found, in addition to those of `ids`."
    )


class ArtistParameters(QueryParameters):
    """Ids to look up, and words to search for."""

    query: str | None = Field(
        None, min_length=1, max_length=200, description="A name, or the beginning of a word in it."
    )
    ids: str | None = _IDS
    limit: int = Field(
        20, ge=1, le=100, description="Maximum number of artists found, in addition to those of `ids`."
    )


class ArtistSongsParameters(QueryParameters):
    """The number of songs."""

    k: Count = Field(20, description="Number of songs.")


class MapParameters(QueryParameters):
    """The size of the map, or some of its songs."""

    limit: int = Field(3_000, ge=1, le=MOST_MAP_POINTS, description="Number of songs, the most liked first.")
    at: str | None = Field(
        None,
        max_length=2_000,
        pattern=f"^[0-9]{{1,9}}(,[0-9]{{1,9}}){{0,{MOST_LOOKED_UP - 1}}}$",
        description="Only the songs at these places of that order, from 0, separated by commas,"
        f" {MOST_LOOKED_UP} at most. `limit` is then of no effect; places beyond the last are left out.",
    )


class MapColumnsParameters(QueryParameters):
    """The size of the map."""

    limit: int = Field(
        20_000, ge=1, le=MOST_MAP_COLUMNS, description="Number of songs, the most liked first."
    )


class MatchRequest(RequestBody):
    """Songs as people write them."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MOST_BODY_BYTES)] = Field(
        description="Ids, links, or artist - title, one a line; or the link of one playlist."
    )


class MatchParameters(QueryParameters):
    """What is known of a file."""

    name: Annotated[str, StringConstraints(max_length=255)] = Field(
        "", description="The name of the file, which may tell its format."
    )
    user: Annotated[str, StringConstraints(max_length=255)] = Field(
        "", description="Whose list counts in a file of several people."
    )


class NamedList(RequestBody):
    """Somebody's songs. Of two lists of one name, the second is called so with its number, as "Ann (2)"."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    likes: IdList
    dislikes: IdList = []


class BlendRequest(RequestBody):
    """Several lists, and options for the songs that suit all of them."""

    lists: Annotated[list[NamedList], Field(min_length=2, max_length=MOST_BLENDED)]
    k: Annotated[int, Field(ge=1, le=MOST_BLENDED_SONGS), BeforeValidator(_integral_to_int)] = Field(
        20, description="Number of songs."
    )
    exclude: IdList = Field([], description="Songs not to recommend.")
    familiarity: Share = _FAMILIARITY
    diversity: Share = _DIVERSITY
    max_per_artist: Count | None = _MAX_PER_ARTIST
    explicit: bool = _EXPLICIT
    links: Service | None = _LINKS
    filters: FilterRequest | None = Field(None, description="What the songs have to be like.")


class ComparisonRequest(RequestBody):
    """Two lists to compare."""

    lists: Annotated[list[NamedList], Field(min_length=2, max_length=2)]
    k: Annotated[int, Field(ge=1, le=100), BeforeValidator(_integral_to_int)] = Field(
        10, description="Number of pairs of songs that are alike."
    )


class ExplanationRequest(RequestBody):
    """A song, and the liked songs to explain its score by."""

    likes: IdList = Field(description="Ids of liked songs.")
    mode: Mode = _MODE
    recency: Recency | None = _RECENCY
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
    genres: list[str] = Field(description="At most three, those of most songs first.")
    links: dict[Service, str] = Field(description="The pages about it, by service.")


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


class MatchedSong(ShownSong):
    """A song of the catalogue that somebody brought."""

    given: str = Field(description="The line or row that names it.")
    opinion: Literal["like", "dislike"]


class MissingSong(BaseModel):
    """What was not found in the catalogue."""

    given: str
    why: str


class BroughtList(BaseModel):
    """A list in what was brought, such as one file of a zip."""

    name: str
    owner: str = Field(description="Whose it is, as it says itself; empty if it does not.")
    songs: int


class MatchesAnswer(BaseModel):
    """What somebody brought, as the catalogue knows it. None of it is stored."""

    bundle_version: str
    format: str = Field(description="What it was taken for.")
    lists: list[BroughtList]
    items: list[MatchedSong] = Field(description="Each song once, in the order of the list.")
    not_found: list[MissingSong] = Field(description=f"The first {MOST_MISSING}.")
    n_not_found: int
    notes: list[str] = Field(description="What was decided or left out, one line each.")


class BlendedAnswer(ShownSong):
    """A song for several listeners."""

    rank: int
    for_: list[str] = Field(alias="for", description="For whom it is good, best first.")
    scores: dict[str, float] = Field(
        description="What it is worth to each: `1 / log2(1 + rank)`, by its rank among what is recommended to"
        " them alone; 0 where it is not."
    )


class WorstOff(BaseModel):
    """The listener who gets least."""

    name: str
    score: float = Field(
        description="What the songs are worth to them, as a share of what as many of their own would be."
    )


class BlendAnswer(BaseModel):
    """Songs for several listeners, in the order in which they were chosen. Who has got least so far chooses
    next."""

    bundle_version: str
    items: list[BlendedAnswer]
    worst_off: WorstOff
    unknown: dict[str, list[str]] = Field(description="Given ids that are not in the catalogue, by list.")


class BridgeAnswer(BaseModel):
    """A song of the first list and one of the second that are alike."""

    a: ShownSong
    b: ShownSong
    cosine: float


class ComparisonAnswer(BaseModel):
    """How alike two lists are."""

    bundle_version: str
    likeness: float = Field(description="The cosine of the two tastes, from 0 to 1.")
    common: list[ShownSong] = Field(description="The songs in both.")
    bridges: list[BridgeAnswer] = Field(description="The most alike first; each song in one pair.")
    only: dict[str, list[str]] = Field(
        description="Genres most typical of each beside the other; artists where no genre is known."
    )
    unknown: dict[str, list[str]] = Field(description="Given ids that are not in the catalogue, by list.")


class ArtistAnswer(BaseModel):
    """An artist."""

    artist_id: str = Field(description="The id in the source of the data; the name where that has none.")
    name: str
    songs: int = Field(description="Number of their songs that can be recommended.")
    popularity: int = Field(description="The likes of their songs, added up.")


class ArtistsAnswer(BaseModel):
    """Artists: those looked up, in the order of their ids, then those found, best first."""

    bundle_version: str
    items: list[ArtistAnswer]
    unknown: list[str] = Field(description="Given ids that are not in the catalogue.")


class ArtistSongsAnswer(BaseModel):
    """The songs of an artist, most liked first."""

    bundle_version: str
    artist: ArtistAnswer
    items: list[TrackAnswer]


class StepAnswer(ShownSong):
    """A song on a path."""

    listeners: int = Field(
        description="Number of listeners who like it and the song before; 0 for the first."
    )


class PathAnswer(BaseModel):
    """The songs from one to another, both included."""

    bundle_version: str
    items: list[StepAnswer]


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
    genre: int = Field(description="Its place in `genres` of the answer; -1 if unknown.")


class MapRegion(BaseModel):
    """A place on the map and what is typical of it: a genre, or without genres a liked artist."""

    name: str
    x: float
    y: float
    songs: int = Field(description="Songs of that name there, among the points.")


class MapAnswer(BaseModel):
    """The most liked songs with their positions: close together if the same people like them."""

    bundle_version: str
    points: list[MapPoint]
    genres: list[str] = Field(description="Of the points, those of most songs first.")
    regions: list[MapRegion] = Field(description="At most 30 places, those of most songs first.")


class MapColumnsAnswer(BaseModel):
    """The positions and genres of the most liked songs, as lists of one length in the order of `GET /map`."""

    bundle_version: str
    x: list[int] = Field(description="From 0 to 65,535.")
    y: list[int]
    genre: list[int] = Field(description="Places in `genres`; -1 if unknown.")
    genres: list[str] = Field(description="Of the songs, those of most songs first.")
    regions: list[MapRegion] = Field(description="At most 30 places, those of most songs first.")


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
    filters: list[str] = Field(
        description="What is known of any song and can be filtered by: `genre`, `year`, audio features."
    )
    licences: list[LicenceAnswer] = Field(description="Empty for a bundle of an earlier version.")
    file_bytes: int = Field(description="How large a file for `POST /matches` may be.")
    playlists: list[str] = Field(description="The services whose playlists `POST /matches` fetches.")
