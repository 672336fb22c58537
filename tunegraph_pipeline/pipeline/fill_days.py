"""Which days a refresh fills, and which of them it asks the source for.

Here: the one rule, for the command line and for the schedules. Not here: what is done with a day
(`crawl_day`), or when a schedule ticks (`orchestration.automation`). Reads the lake, and writes nothing.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.feedback_spool import waiting_days
from tunegraph_pipeline.lake.lake import FIRST_DAY, SIMULATED, Lake
from tunegraph_pipeline.pipeline.settings import FilesSettings

NO_SOURCE = "none"


@dataclass(frozen=True)
class DaysToFill:
    """From ``first`` to ``last``; the source is asked for the days of ``asked`` alone, both ends included.

    ``asked`` is None where nobody chose a day: there is no source, or none that is asked by the day.
    """

    first: date
    last: date
    asked: tuple[date, date] | None = None

    def crawl_config(self) -> dict[str, str]:
        """What `crawled_users` has to know of it."""
        if self.asked is None:
            return {}
        return {"first": self.asked[0].isoformat(), "last": self.asked[1].isoformat()}

    def tags(self) -> dict[str, str]:
        """How Dagster is told the partitions of one run."""
        bounds = {"start": self.first, "end": self.last}
        return {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in bounds.items()}

    def steps(self, days: int) -> list["DaysToFill"]:
        """The same days in spans of at most ``days``, the earliest first."""
        spans = []
        days = min(days, (self.last - self.first).days + 1)  # more would lead past the last day of calendars
        first = self.first
        while first <= self.last:
            last = min(first + timedelta(days=days - 1), self.last)
            asked = self.asked and (max(first, self.asked[0]), min(last, self.asked[1]))
            # A span of which no day is asked for says so by an end that lies before its beginning.
            spans.append(DaysToFill(first, last, asked))
            first = last + timedelta(days=1)
        return spans


def days_to_fill(
    lake: Lake, source: str, first: date | None = None, last: date | None = None, *, today: date | None = None
) -> DaysToFill:
    """The days that a person asks for, with all those that are stale; without days, today is asked for, and
    with a ``first`` alone all from there to today.

    Other days are filled because something was received on them, an import or feedback. A live source could
    not tell of them any more, and nobody asked for them. ``source`` is "none" where nobody is to be asked.

    Raises InputError for days that a lake does not have, and where there is nothing to fill.
    """
    today = today or _today()
    if last and not first:
        raise InputError(
            f"--to {last} is an end without a beginning; give --from too, or --date {last} alone"
        )
    if _is_asked_daily(lake, source):
        first = first or today
    if first:
        last = last or today
    chosen = [bound for bound in (first, last) if bound]
    for bound in chosen:
        if not FIRST_DAY <= bound <= today:
            raise InputError(f"{bound} is outside of the days a lake has, {FIRST_DAY} to {today}")
    if first and last and first > last:
        raise InputError(f"--from {first} is after --to {last}")
    received = lake.raw_days()
    wanted = [*chosen, *_until(today, lake.stale_days())] or _until(today, received)[-1:]
    if not wanted and received:
        raise InputError(
            f"{lake.root} received on {received[0]} what it has, and today is {today}: check the clock"
        )
    if not wanted:
        raise InputError(
            f"{lake.root} has received nothing yet; import files first, or use --source simulator"
        )
    return DaysToFill(min(wanted), max(wanted), (min(chosen), max(chosen)) if chosen else None)


def days_to_catch_up(lake: Lake, *, today: date | None = None) -> DaysToFill:
    """What a schedule fills on the day it ticks: from the first day that is stale or was missed to today.

    Missed are the days since the last that was filled. Of them the simulated world is asked for all, and any
    other source for today alone.

    Raises InputError where nothing was received yet, and there is no source to ask.
    """
    today = today or _today()
    source = lake.file.source or NO_SOURCE
    asked = _is_asked_daily(lake, source)
    filled = [date.fromisoformat(day) for day in lake.partitions("observations")]
    # A day to come, filled while the clock was ahead, says nothing of those before it.
    missed = _until(today, [day + timedelta(days=1) for day in _until(today, filled)[-1:]])
    stale = _until(today, [*lake.stale_days(), *waiting_days(lake.root)])
    if not (asked or filled or stale):
        raise InputError(
            f"{lake.root} has received nothing yet, and has no source to ask; import files first"
        )
    first = min([today, *missed, *stale])
    if not asked:
        return DaysToFill(first, today)
    since = min([today, *missed]) if source == SIMULATED else today
    return DaysToFill(first, today, (since, today))


def _until(today: date, days: list[date]) -> list[date]:
    """Without what a clock that was set back left in the future: it is filled when its day comes."""
    return [day for day in days if FIRST_DAY <= day <= today]


def _is_asked_daily(lake: Lake, source: str) -> bool:
    if source == "files":
        return bool(lake.section(source, FilesSettings).paths)
    return source != NO_SOURCE


def _today() -> date:
    return datetime.now(UTC).date()
