"""How long a lake keeps what: the settings, and the rules that follow from them.

Here: the section ``retention`` of `lake.json`, and the days before which data expires. Not here: removing
what has expired (`pipeline.retention`), or users who asked to be forgotten (`pipeline.forgetting`).
"""

from datetime import date, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RetentionSettings(BaseModel):
    """How long what is kept, section ``retention`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: int = Field(default=3, ge=1)
    """How many versions of every matrix, model, bundle and table of recommendations stay."""
    cut_offs: int = Field(default=7, ge=2)
    """How many cut-offs of the current lists stay, among them the one that the current is compared with; an
    earlier day can still be asked for."""
    raw_days: int | None = Field(default=None, ge=1)
    """Raw batches older than this many days are removed once their daily tables are written; null keeps them
    forever. Nothing can be added to a day without them."""
    ttl_days: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By source, after how many days its data must be removed, e.g. {"spotify": 30}."""


def expires_before(settings: RetentionSettings, source: str, today: date) -> date | None:
    """The day before which nothing from ``source`` may be kept; None for no limit."""
    days = settings.ttl_days.get(source)
    return None if days is None else today - timedelta(days=days)


def asked_again_before(settings: RetentionSettings, source: str, day: date, revisit_days: int) -> date | None:
    """On ``day``, track data that ``source`` gave before the returned day is fetched again; None: never.
    Early enough that a track in lists visited every ``revisit_days`` is always known."""
    days = settings.ttl_days.get(source)
    return None if days is None else day - timedelta(days=max(days - revisit_days, 1) - 1)
