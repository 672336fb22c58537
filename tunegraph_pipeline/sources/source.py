"""What a source of liked lists is: the one protocol the crawl speaks, and what a source may answer or refuse.

Here: the protocol, the rows that pass through it and the refusals. Not here: how a service is asked
(`api_session`), in what order users are visited (`crawl`), or any one service.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES


class Track(NamedTuple):
    """What a source says of a track; the fields are those of the raw table ``tracks``."""

    track_id: str
    isrc: str | None = None
    name: str | None = None
    artists: list[str] | None = None
    artist_ids: list[str] | None = None
    album_id: str | None = None
    genre: str | None = None
    image_url: str | None = None
    preview_url: str | None = None
    duration_ms: int | None = None
    explicit: bool | None = None


class Like(NamedTuple):
    """One liked track; ``liked_at`` is in UTC, None where the source does not say."""

    track_id: str
    liked_at: datetime | None = None


@dataclass(frozen=True)
class LikedList:
    """The complete list of one user, each track once, and what the listing said of its tracks.

    ``described`` holds the tracks of the list the listing itself describes; the rest is asked for with
    ``describe``. ``counts`` says what was left out and why, by a short description.
    """

    likes: list[Like] = field(default_factory=list)
    described: list[Track] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


Features = Mapping[str, float | None]
"""The 11 audio features of a track by name; None where the provider does not know one."""


@runtime_checkable
class FeatureProvider(Protocol):
    """Somebody who knows audio features of tracks."""

    name: str
    batch_size: int
    """How many tracks one request may ask for."""

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        """The features of those of at most ``batch_size`` tracks that are known; the rest is left out.

        Raises ProviderClosed where this app may not ask, and the refusals of any request.
        """
        ...

    def close(self) -> None:
        """Let go of connections; whoever waits for an answer comes back."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where users, their liked lists and track descriptions come from. Threads may share one.

    A source says nothing about order, budgets, repetition or storage: that is the crawl's.
    """

    name: str
    """The source's name in the lake: the ``source`` column and the name of its raw batches."""
    describe_size: int
    """How many tracks one call of :meth:`describe` may ask for."""

    def start_users(self) -> list[str]:
        """The users a crawl starts from. Raises InputError where none are configured."""
        ...

    def discover(self, user_id: str) -> list[str]:
        """The users that this user's page leads to, each once, themselves left out.

        Raises UserPrivate or UserGone where there is no page to see.
        """
        ...

    def liked_list(self, user_id: str) -> LikedList:
        """Everything this user likes. Raises UserPrivate or UserGone where it cannot be seen."""
        ...

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        """What is known of at most ``describe_size`` tracks; unknown ones are left out."""
        ...

    def feature_providers(self) -> list[FeatureProvider]:
        """Who is asked for audio features of this source's tracks, in this order; may be nobody."""
        ...

    def close(self) -> None:
        """Let go of whatever the source holds; whoever waits for an answer comes back."""
        ...


class Refusal(Exception):  # noqa: N818  # what a source may answer, not a fault of the program
    """A request that was answered, or given up on, without what was asked for."""


class UserPrivate(Refusal):
    """The user exists and shows nothing."""


class UserGone(Refusal):
    """There is no such user, or not any more."""


class ProviderClosed(Refusal):
    """The provider does not serve this app; asking again in this run is in vain."""


class Unanswered(Refusal):
    """No usable answer after every retry: the service is down, or answers what nobody can read."""


class BudgetSpent(Refusal):
    """The requests this day may cost are used up."""


class AskLater(Refusal):
    """The service asks not to be asked before ``until`` (UTC), longer than a run waits."""

    def __init__(self, api: str, until: datetime, reason: str) -> None:
        super().__init__(f"{api} asks not to be asked again before {_moment(until)} ({reason})")
        self.api = api
        self.until = until
        self.reason = reason


class CrawlPaused(InputError):  # noqa: N818  # nothing failed: it is to go on later
    """A crawl that ended early because a service asked for a long wait; what it has is kept."""


class NoAnswer(CrawlPaused):
    """A crawl that ended early because the network or the service is down: it may well go on in a minute."""


def feature_values(answer: Mapping[str, Any]) -> Features:
    """The 11 features of a provider's answer; None for what is no sensible number, and for key -1 (not
    detected)."""
    return {name: _number(answer.get(name), lowest=0 if name == "key" else -1e6) for name in AUDIO_FEATURES}


def _number(value: Any, lowest: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if lowest <= value <= 1e6 else None


def _moment(until: datetime) -> str:
    return until.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
