"""How long a lake keeps what: the settings, and the rules that follow from them alone.

Here: the section ``retention`` of `lake.json`, and the days before which data expires. Not here: removing
what has expired (`pipeline.retention`), or users who asked to be forgotten (`pipeline.forgetting`).
"""

from datetime import date, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


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
    """The day before which what ``source`` said of a track is fetched again on ``day``; None where it may be
    kept for ever.

    Early enough that a track in lists which are visited every ``revisit_days`` is known without a gap.
    """
    days = settings.ttl_days.get(source)
    return None if days is None else day - timedelta(days=max(days - revisit_days, 1) - 1)
