"""What the endpoints of the operator page take and answer.

Here: the models, of which the OpenAPI document is made. Not here: those of the other endpoints (`schemas`),
or the values (`pipeline.report`, `pipeline.playground`).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from tunegraph_pipeline.serve.schemas import (
    Count,
    FilterRequest,
    Id,
    IdList,
    QueryParameters,
    RecommendationAnswer,
    RequestBody,
    Share,
)

_Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$")]
_VERSION = Field(None, description="A bundle that is kept; by default the live one.")


class UsersParameters(QueryParameters):
    """Which users to show."""

    search: str = Field("", max_length=200, description="A part of an id or an alias, whatever its case.")
    sort: Literal["id", "likes"] = "id"
    offset: int = Field(0, ge=0, le=1_000_000_000)
    limit: int = Field(50, ge=1, le=200)


class UserVersion(QueryParameters):
    """Of which bundle."""

    version: _Version | None = _VERSION


class PlaygroundRequest(RequestBody):
    """A stored user, or liked songs, with the options of a query."""

    version: _Version | None = _VERSION
    user_id: Id | None = Field(None, description="A stored user, whose likes are added to `likes`.")
    likes: IdList = Field([], description="Ids of liked songs.")
    dislikes: IdList = Field([], description="Ids of disliked songs.")
    k: Count = 10
    familiarity: Share = 0.5
    diversity: Share = 0.0
    max_per_artist: Count | None = None
    explicit: bool = True
    filters: FilterRequest | None = None


class Answer(BaseModel):
    """Base of all answers."""


class KeptBundle(BaseModel):
    """A bundle on disk."""

    version: str
    model: str
    cut_off: str | None
    mib: float
    written: str
    live: bool


class OverviewAnswer(Answer):
    """What a lake holds."""

    lake: str
    source: str | None
    status: dict[str, str] = Field(description="A line for each subject.")
    bundles: list[KeptBundle] = Field(description="The newest first.")


class QualityPoint(BaseModel):
    """The judgement of one bundle."""

    bundle: str
    when: str | None = Field(description="When it was first published; null if that is not known.")
    values: dict[str, dict[str, float | None]] = Field(description="By metric, then by model.")


class QualityAnswer(Answer):
    """Quality over time, the oldest bundle first."""

    metrics: list[str]
    models: list[str]
    points: list[QualityPoint]


class GateVerdict(BaseModel):
    """What the gate said of a challenger."""

    challenger: str
    champion: str | None
    protocol: str = Field(description="What the two were judged by: `sets` or `continuation`.")
    users: int
    min_users: int
    margin: float
    metric: str = Field(description="The one that decides.")
    figures: dict[str, dict[str, float | None]]
    refusal: str | None = Field(description="Why the challenger was refused; null if it was accepted.")
    override: str = Field(description="Why it went live in spite of that.")
    counts: dict[str, int]


class PublicationItem(BaseModel):
    """A line of the log of publications."""

    when: str
    outcome: str
    bundle: str
    model: str
    replaced: str | None
    reason: str
    kept: bool = Field(description="Whether the bundle is still on disk.")
    gate: GateVerdict | None


class PublicationsAnswer(Answer):
    """The last publications, the newest first."""

    live: str | None = Field(description="What `CURRENT` names.")
    total: int
    items: list[PublicationItem]


class MovedSong(BaseModel):
    """A song that moved, and the cosine of its embeddings before and after."""

    track_id: str
    name: str
    artists: str
    cosine: float


class Moved(BaseModel):
    """How far the embeddings moved."""

    mean_cosine: float
    overlap: float = Field(description="The share of the nearest songs that stayed the same.")
    neighbours_changed: float = Field(description="The share of songs of which one of the nearest changed.")
    tracks: int | None
    songs: list[MovedSong] = Field(description="Those that moved most.")


class ModelItem(BaseModel):
    """A kept model."""

    version: str
    written: str
    trained: str | None = Field(description="What the training started from, and why.")
    parent: str | None
    epochs: int | None
    validation: float | None = Field(description="MAP@10 on the likes kept for early stopping.")
    popularity: float | None = Field(description="The same of the most popular songs.")
    moved: Moved | None = Field(description="Null for one that was trained from scratch in its own space.")


class DriftPoint(BaseModel):
    """How far a model moved that a run trained, which may be gone by now."""

    version: str
    when: str
    mean_cosine: float
    overlap: float


class DriftAnswer(Answer):
    """The kept models, and the drift of all that the history of runs knows, the oldest first."""

    models: list[ModelItem]
    points: list[DriftPoint]


class RunStep(BaseModel):
    """A step of a run."""

    name: str
    check: bool = Field(description="Whether it checks a stage, and is none.")
    outcome: str | None
    seconds: float | None
    made: str | None = Field(description="`reused`, `updated` or `rebuilt`.")
    version: str | None
    rows: int | None


class RunItem(BaseModel):
    """A run of a job."""

    run_id: str
    job: str
    days: str | None
    outcome: str
    started: str | None
    ended: str | None
    seconds: float | None
    problem: str | None
    steps: list[RunStep]


class RunsAnswer(Answer):
    """The last runs, the newest first."""

    history: bool = Field(description="Whether the lake has a history of runs.")
    items: list[RunItem]


class Spool(BaseModel):
    """What waits for a refresh."""

    bytes: int
    limit: int
    waiting: int = Field(description="Events.")
    oldest: str | None = Field(description="The day on which the first of them was received.")


class Rejected(BaseModel):
    """Lines that refreshes put aside."""

    files: int
    lines: int
    reasons: dict[str, int] = Field(description="Of those of the days shown.")


class FeedbackDay(BaseModel):
    """What was collected on a day."""

    day: str
    like: int
    dislike: int
    skip: int


class FeedbackQueueAnswer(Answer):
    """The queue of feedback."""

    spool: Spool
    rejected: Rejected
    since: str | None = Field(description="The first of the days shown; null if there is none.")
    listeners: int
    days: list[FeedbackDay]


class TableItem(BaseModel):
    """A table of the lake."""

    name: str
    row: str = Field(description="What a row is.")
    partitioned_by: str | None
    partitions: int
    newest: str | None
    newest_rows: int
    rows: int = Field(description="Of all partitions.")
    bytes: int


class TablesAnswer(Answer):
    """The tables of the lake."""

    items: list[TableItem]


class UserItem(BaseModel):
    """A user."""

    user_id: str
    likes: int
    sources: list[str]
    last_observed: str | None = Field(description="When the whole list was last seen.")
    aliases: list[str]


class UsersAnswer(Answer):
    """Some users, and how many there are."""

    total: int
    items: list[UserItem]


class ListedSong(BaseModel):
    """A song of a list."""

    track_id: str
    name: str
    artists: str


class UserAnswer(Answer):
    """The list of a user."""

    user_id: str
    bundle_version: str
    n_likes: int
    n_dislikes: int
    likes: list[ListedSong]
    dislikes: list[ListedSong]


class ScoreParts(BaseModel):
    """What a score is the sum of."""

    embedding: float
    neighbours: float
    prior: float
    familiarity: float


class SongContribution(ListedSong):
    """What a liked song adds to a score."""

    contribution: float


class PlaygroundItem(RecommendationAnswer):
    """A recommended song with the parts of its score."""

    parts: ScoreParts | None = Field(description="Null where the answer is not personal.")
    contributions: list[SongContribution] = Field(description="The liked songs that add most.")


class PlaygroundAnswer(Answer):
    """Songs, best first."""

    bundle_version: str
    model_version: str
    items: list[PlaygroundItem]
    found: int
    passing: int | None
    unknown: list[str]
    degraded: str | None
