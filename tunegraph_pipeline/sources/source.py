"""The protocol of a source of liked lists, which the crawl uses: its methods, rows and refusals.

Here: the protocol, and how answers become its values. Not here: requests to a service (`api_session`), the
order of visits (`crawl`), or any one service.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES


class Track(NamedTuple):
    """A source's description of a track; the fields are those of the raw table ``tracks``."""

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
    album: str | None = None
    year: int | None = None


class Like(NamedTuple):
    """One liked track; ``liked_at`` is in UTC, ``position`` its place in the list, the newest last; None if
    unknown."""

    track_id: str
    liked_at: datetime | None = None
    position: int | None = None


@dataclass(frozen=True)
class LikedList:
    """The complete list of one user, each track once.

    ``described`` holds the tracks that the listing itself describes; the others need ``describe``. ``counts``
    says what was left out and why.
    """

    likes: list[Like] = field(default_factory=list)
    described: list[Track] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


Features = Mapping[str, float | None]
"""The 11 audio features of a track by name; None if the provider does not know one."""


@runtime_checkable
class FeatureProvider(Protocol):
    """A service that knows audio features of tracks."""

    name: str
    batch_size: int
    """Maximum tracks per request."""

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        """The features of at most ``batch_size`` tracks; unknown ones are left out.

        Raises ProviderClosed if this app has no access, and the refusals of any request.
        """
        ...

    def close(self) -> None:
        """Close the connections; waiting requests return."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where users, their liked lists and track descriptions come from. Threads may share one.

    Order, budgets, repetition and storage are the crawl's concern.
    """

    name: str
    """The source's name in the lake: the ``source`` column and the name of its raw batches."""
    describe_size: int
    """Maximum tracks per call of :meth:`describe`."""

    def start_users(self) -> list[str]:
        """The users a crawl starts from. Raises InputError if none are configured."""
        ...

    def discover(self, user_id: str) -> list[str]:
        """The other users that this user's page leads to, each once.

        Raises UserPrivate or UserGone if the page is not visible.
        """
        ...

    def liked_list(self, user_id: str) -> LikedList:
        """Everything this user likes. Raises UserPrivate or UserGone if it is not visible."""
        ...

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        """Descriptions of at most ``describe_size`` tracks; unknown ones are left out."""
        ...

    def feature_providers(self) -> list[FeatureProvider]:
        """The providers of audio features for this source's tracks, in order of preference; may be empty."""
        ...

    def close(self) -> None:
        """Release what the source holds; waiting requests return."""
        ...


class Refusal(Exception):  # noqa: N818  # a normal answer of a source, not a bug
    """A request that did not give what was asked for."""


class UserPrivate(Refusal):
    """The user exists but shows nothing."""


class UserGone(Refusal):
    """There is no such user, or no longer."""


class ProviderClosed(Refusal):
    """The provider does not serve this app; do not ask again in this run."""


class Unanswered(Refusal):
    """No usable answer after all retries: the service is down or its answers are unreadable."""


class BudgetSpent(Refusal):
    """The day's budget of requests is used up."""


class AskLater(Refusal):
    """The service wants no requests before ``until`` (UTC), which is longer than a run waits."""

    def __init__(self, api: str, until: datetime, reason: str) -> None:
        moment = until.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        super().__init__(f"{api} asks not to be asked again before {moment} ({reason})")
        self.api = api
        self.until = until
        self.reason = reason


class CrawlPaused(InputError):  # noqa: N818  # nothing failed: the crawl continues later
    """A crawl that ended early because a service asked for a long wait; its results are kept."""


class NoAnswer(CrawlPaused):
    """A crawl that ended early because the network or the service is down, perhaps for a minute."""


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """The earlier of two times, of which either may be unknown."""
    return min(one, other) if one and other else one or other


_YEAR = re.compile(r"(1[89]\d\d|20\d\d)(?:-.*)?")


def year_of(released: Any) -> int | None:
    """The year of a date such as 1997, "1997", "1997-05" or "1997-05-21"; None for anything else.

    >>> year_of("1997-05"), year_of(0), year_of("May 1997")
    (1997, None, None)
    """
    if isinstance(released, bool) or not isinstance(released, int | str):
        return None
    found = _YEAR.fullmatch(str(released).strip())
    return int(found[1]) if found else None


def feature_values(answer: Mapping[str, Any]) -> Features:
    """The 11 features of a provider's answer; None for an implausible number, and for key -1 (undetected)."""
    return {name: _number(answer.get(name), lowest=0 if name == "key" else -1e6) for name in AUDIO_FEATURES}


def _number(value: Any, lowest: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if lowest <= value <= 1e6 else None
