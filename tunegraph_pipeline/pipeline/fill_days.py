"""Which days a refresh fills, and which of them it asks the source for.

Here: the one rule, for the command line and for the schedules; it reads the lake, and changes nothing. Not
here: crawling a day (`crawl_day`), or when a schedule ticks (`orchestration.automation`).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.feedback_spool import waiting_days
from tunegraph_pipeline.lake.lake import FIRST_DAY, SIMULATED, Lake
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.pipeline.dump_days import first_day_to_ask
from tunegraph_pipeline.pipeline.settings import FilesSettings
from tunegraph_pipeline.sources.source import NoAnswer

NO_SOURCE = "none"
_LONG_GAP = 7
"""Between days to fill; fewer days in between are filled in one run, which costs less than another run."""


@dataclass(frozen=True)
class DaysToFill:
    """From ``first`` to ``last``; the source is asked only for the days of ``asked``, both ends included.
    ``asked`` is None where no day was chosen and no source is asked by the day."""

    first: date
    last: date
    asked: tuple[date, date] | None = None

    def crawl_config(self) -> dict[str, str]:
        """The config of `crawled_users`."""
        if self.asked is None:
            return {}
        return {"first": self.asked[0].isoformat(), "last": self.asked[1].isoformat()}

    def tags(self) -> dict[str, str]:
        """The tags by which Dagster knows the partitions of one run."""
        bounds = {"start": self.first, "end": self.last}
        return {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in bounds.items()}

    def part(self, first: date, last: date) -> "DaysToFill":
        """The days from ``first`` to ``last`` alone; where the source is asked for none of them, ``asked``
        ends before it begins."""
        return DaysToFill(first, last, self.asked and (max(first, self.asked[0]), min(last, self.asked[1])))

    def stretches(self, lake: Lake) -> list["DaysToFill"]:
        """The same days without long gaps in which nothing is to be done, the earliest first.

        To be done is what is asked for, what is stale, and what was missed since the last filled day. Lists
        of 2012 do not make a refresh fill every day since.
        """
        filled = [date.fromisoformat(day) for day in lake.partitions("observations")]
        known = [day for day in filled if day <= self.last]
        needed = {day for day in lake.stale_days() if self.first <= day <= self.last} | {self.last}
        for first, last in (
            self.asked or (self.last, self.last),
            (known[-1] + timedelta(days=1) if known else self.last, self.last),
        ):
            begin = max(first, self.first)
            needed |= {begin + timedelta(days=number) for number in range((last - begin).days + 1)}
        days = sorted({*needed, self.first})
        ends = [at for at in range(1, len(days)) if (days[at] - days[at - 1]).days > _LONG_GAP]
        return [
            self.part(days[begin], days[end - 1])
            for begin, end in zip([0, *ends], [*ends, len(days)], strict=True)
        ]

    def steps(self, days: int) -> list["DaysToFill"]:
        """The same days in spans of at most ``days``, the earliest first."""
        spans = []
        days = min(days, (self.last - self.first).days + 1)  # more could overflow the calendar
        first = self.first
        while first <= self.last:
            last = min(first + timedelta(days=days - 1), self.last)
            spans.append(self.part(first, last))
            first = last + timedelta(days=1)
        return spans


def days_to_fill(
    lake: Lake, source: str, first: date | None = None, last: date | None = None, *, today: date | None = None
) -> DaysToFill:
    """The chosen days and all stale ones; without a choice today, and with a ``first`` alone all from there
    to today. Of dumps, all days whose dumps the lake lacks: their mirror is asked which there are.

    Stale days are filled from what was received on them, an import or feedback; the source is asked only for
    the chosen ones. ``source`` is "none" where no source is to be asked.

    Raises InputError for days that a lake does not have, and where there is nothing to fill.
    """
    today = today or datetime.now(UTC).date()
    if is_asked_daily(lake, source) and not last:
        first = first or _first_to_ask(lake, source, today)
    # What no source can tell of, the lake has to have received.
    begins = FIRST_DAY if is_asked_daily(lake, source) else lake.first_day(today)
    asked = _chosen_span(first, last, begins, today)
    received = lake.raw_days()
    days = [*(asked or ()), *_until(today, lake.stale_days())] or _until(today, received)[-1:]
    if days:
        return DaysToFill(min(days), max(days), asked)
    if received:
        raise InputError(
            f"{lake.name} received its data on {received[0]}, and today is {today}: check the clock"
        )
    raise InputError(f"{lake.name} has received nothing yet; import files first, or use --source simulator")


def _chosen_span(
    first: date | None, last: date | None, begins: date, today: date
) -> tuple[date, date] | None:
    """The first and last day that were chosen, the last today by default; None where none was."""
    if first is None:
        if last is not None:
            raise InputError(f"--to {last} needs a beginning; give --from too, or --date {last} alone")
        return None
    last = last or today
    for bound in (first, last):
        if not begins <= bound <= today:
            raise InputError(
                f"{bound} is outside the days this lake can have, {begins} to {today};"
                " lists of an earlier day can be imported with --as-of"
            )
    if first > last:
        raise InputError(f"--from {first} is after --to {last}")
    return first, last


def as_day(name: str, text: str) -> date | None:
    """The day that the setting ``name`` of a run names, None where it is empty. Raises InputError where it is
    no day, or one to come."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is not a day; write it as YYYY-MM-DD") from None
    if day > (today := datetime.now(UTC).date()):
        raise InputError(f"{name} {text} is in the future, and today is {today}; choose an earlier day")
    return day


def days_to_catch_up(lake: Lake, *, today: date | None = None) -> DaysToFill:
    """What a schedule fills when it ticks: from the first day that is stale or was missed to today.

    Days since the last filled one were missed. The simulated world is asked for all of them, dumps for those
    that the lake lacks, any other source for today alone.

    Raises InputError where nothing was received yet, and there is no source to ask.
    """
    today = today or datetime.now(UTC).date()
    source = lake.file.source or NO_SOURCE
    asked = is_asked_daily(lake, source)
    filled = [date.fromisoformat(day) for day in lake.partitions("observations")]
    # A future day, filled while the clock was ahead, says nothing about the days before it.
    missed = _until(today, [day + timedelta(days=1) for day in _until(today, filled)[-1:]])
    stale = _until(today, [*lake.stale_days(), *waiting_days(lake.root)])
    if not (asked or filled or stale):
        raise InputError(
            f"{lake.name} has received nothing yet, and has no source to ask; import files first"
        )
    first = min([today, *missed, *stale])
    if not asked:
        return DaysToFill(first, today)
    since = min([today, *missed]) if source in (SIMULATED, DUMPS) else today
    if source == DUMPS:
        # Where the mirror does not answer, the run asks it again, with more patience than a tick has.
        with suppress(NoAnswer):
            since = _first_to_ask(lake, source, today)
    first = min(first, since)
    return DaysToFill(first, today, (since, today))


def _first_to_ask(lake: Lake, source: str, today: date) -> date:
    return first_day_to_ask(lake, today=today) if source == DUMPS else today


def _until(today: date, days: list[date]) -> list[date]:
    """Without future days, which a clock that was ahead left: they are filled when they come."""
    return [day for day in days if FIRST_DAY <= day <= today]


def is_asked_daily(lake: Lake, source: str) -> bool:
    """Whether a source is crawled day by day: none is not, nor are files without paths in the settings."""
    if source == "files":
        return bool(lake.section(source, FilesSettings).paths)
    return source != NO_SOURCE
