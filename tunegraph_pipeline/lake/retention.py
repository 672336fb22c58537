"""How long a lake keeps what: its settings, and removing what is older than they say.

Here: raw batches of old days, what a source may not be kept any longer, and old cut-offs. Not here: old
versions of matrices, models and bundles, which are dropped when a new one is written (`lake`,
`recommend.publication`), or the users who asked to go (`purge`).
"""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    pass


class RetentionSettings(BaseModel):
    """Settings of how long what is kept, section ``retention`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: int = Field(default=3, ge=1)
    """How many versions of every matrix, model, bundle and table of recommendations stay."""
    cut_offs: int = Field(default=7, ge=2)
    """How many cut-offs of the current lists stay, with the one that the current is told apart from; an
    earlier day can be asked for all the same."""
    raw_days: int | None = Field(default=None, ge=1)
    """Raw batches older than so many days go once their daily tables are written; null keeps them for ever.
    A day without them can be given nothing more."""
    ttl_days: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By source, after how many days what it said has to be gone, e.g. {"spotify": 30}."""


def expires_before(settings: RetentionSettings, source: str, today: date) -> date | None:
    """The day before which nothing that ``source`` said may be kept; None where it may be for ever."""
    days = settings.ttl_days.get(source)
    return None if days is None else today - timedelta(days=days)


def asked_again_before(settings: RetentionSettings, source: str, day: date, revisit_days: int) -> date | None:
    """The day before which what ``source`` said of a track is asked for anew on ``day``; None where it may be
    kept for ever.

    Early enough that a track in lists which are visited every ``revisit_days`` is known without a gap.
    """
    days = settings.ttl_days.get(source)
    return None if days is None else day - timedelta(days=max(days - revisit_days, 1) - 1)
