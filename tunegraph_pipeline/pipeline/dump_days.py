"""Which of ListenBrainz's dumps a lake needs, on which days, and making raw batches of them.

Here: the plan, and one day of it. Not here: how a dump is fetched and counted (`sources.dumps`), or which
days a refresh fills (`fill_days`).

A lake begins with the newest full export, of which it takes the last months, and goes on with every
incremental dump since: the listens that were submitted after the dump before, of whatever date. Each dump is
a raw batch of the day on which it was made. Dumps that are gone from the mirror leave a gap, which is
reported until a full export fills it; the dumps after it are taken. A full export is also taken every
`full_days`: it replaces all before it, so listens that people deleted go. What the lake has is in its raw
batches; there is no other state.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import is_pruned, write_files
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.lake.storage import disk_errors
from tunegraph_pipeline.progress import report_note
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.crawl import CrawlSettings
from tunegraph_pipeline.sources.dumps.fetch import DumpReport, begins_at, fetch_dump
from tunegraph_pipeline.sources.dumps.mirror import Mirror
from tunegraph_pipeline.sources.dumps.published import Dump, has_archive, published, read_name
from tunegraph_pipeline.sources.dumps.settings import DumpSettings
from tunegraph_pipeline.sources.source import NoAnswer
from tunegraph_pipeline.words import counted

SECTION = "listenbrainz_dumps"
"""The section of its settings."""
_ONE_DAY = timedelta(days=1)
_QUICKLY = 3
"""How often a request is sent where somebody waits for the answer, such as a tick of a schedule."""
_SMALL_GAP = timedelta(minutes=1)
"""Between two incremental dumps lies a full export of the same night, and the later one begins with its end.
What was submitted in these seconds comes with the next full export."""


@dataclass(frozen=True)
class DatedDump:
    """A dump, and the day it belongs to in the lake. ``since``: from when on it has what was submitted (UTC);
    None for all, or from the dump before it on."""

    dump: Dump
    day: date
    since: datetime | None = None


@dataclass(frozen=True)
class Gap:
    """What was submitted from ``since`` to ``until`` (UTC) is missing: the incremental dumps between two
    numbers."""

    numbers: tuple[int, int]
    since: datetime
    until: datetime

    def __str__(self) -> str:
        after, before = self.numbers
        return (
            f"the incremental dumps between {after} and {before} are missing, with what was submitted from"
            f" {self.since:%Y-%m-%d} to {self.until:%Y-%m-%d}"
        )


@dataclass(frozen=True)
class Plan:
    """The dumps to fetch, in this order, and what a person should know. ``wanted``: all that the mirror lists
    and the lake may still take, those without an archive yet included."""

    due: list[DatedDump] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wanted: frozenset[Dump] = frozenset()


class Planner:
    """Decides which dumps are due.

    ``known`` is what the lake received, ``there`` what the mirror lists, both by number. ``begins`` tells
    from when on an incremental dump has listens, ``is_complete`` whether the archive of a dump is there, and
    ``is_closed`` whether a day takes no more batches.
    """

    def __init__(
        self,
        known: Sequence[DatedDump],
        there: Sequence[Dump],
        *,
        today: date,
        full_days: int,
        begins: Callable[[Dump], datetime],
        is_complete: Callable[[Dump], bool],
        is_closed: Callable[[date], bool] = lambda _: False,
    ) -> None:
        self._known = known
        self._there = [dump for dump in there if dump.day <= today]
        self._today = today
        self._full_days = full_days
        self._begins = begins
        self._is_complete = is_complete
        self._is_closed = is_closed

    def plan(self) -> Plan:
        """Raises InputError where there is nothing to begin with."""
        base = newest_base(self._known)
        chain, notes = self._chain(base) if base else ([], [])
        newer = self._full_after(base.dump.number if base else -1)
        if newer is not None and self._is_due(newer, chain):
            filled = [gap for gap in gaps(chain) if _reaches_into(newer.dump, gap)]
            chain, notes = self._chain(newer)
            notes = [*(f"{gap}; {newer.dump.title} fills the gap" for gap in filled), *notes]
        if not chain:
            raise InputError("the mirror has no full export to begin with; run it again later")
        notes += [f"{gap}; the next full export fills the gap" for gap in gaps(chain)]
        due = [one for one in chain if one not in self._known]
        has = {one.dump for one in chain} - {one.dump for one in due}
        wanted = frozenset(dump for dump in self._there if dump >= chain[0].dump and dump not in has)
        return Plan(due, notes, wanted)

    def _is_due(self, full: DatedDump, chain: Sequence[DatedDump]) -> bool:
        """Whether a full export newer than all of ``chain`` is taken."""
        if not chain or not chain[0].dump.is_full:
            return True  # there is none yet, or it was pruned
        days = (full.dump.day - chain[0].dump.day).days
        return days >= self._full_days or any(_reaches_into(full.dump, gap) for gap in gaps(chain))

    def _full_after(self, number: int) -> DatedDump | None:
        """The newest full export after this number that is complete, on a day that can take it."""
        for dump in reversed(self._there):
            if not dump.is_full or dump.number <= number:
                continue
            # On the day of a full export everything counts that came on it: an older dump may not be there.
            older = [one.day + _ONE_DAY for one in self._known if one.dump.number < dump.number]
            day = max([dump.day, *older])
            if day <= self._today and not self._is_closed(day) and self._is_complete(dump):
                return DatedDump(dump, day)
        return None

    def _chain(self, begin: DatedDump) -> tuple[list[DatedDump], list[str]]:
        """``begin`` and the incremental dumps after it that the lake has or can get, by number; and notes
        about those that it cannot get yet."""
        has = {one.dump: one for one in self._known if one.day >= begin.day}  # the others were replaced
        chain, notes = [begin], []
        for dump in sorted({*has, *self._there}):
            if dump.is_full or dump.number <= begin.dump.number:
                continue
            if dump in has:
                chain.append(has[dump])
            elif self._is_complete(dump):
                last = chain[-1].dump.number
                since = self._begins(dump) if dump.number != last + 1 else None
                chain.append(DatedDump(dump, self._open_day(max(dump.day, begin.day)), since))
            else:
                notes.append(f"{dump.title} is listed, and its archive is not there yet")
        return chain, notes

    def _open_day(self, day: date) -> date:
        """The first day from ``day`` on that takes batches, today at the latest."""
        while self._is_closed(day) and day < self._today:
            day += _ONE_DAY
        return day


def newest_base(known: Sequence[DatedDump]) -> DatedDump | None:
    """Of what a lake received, by number, what counts begins with this: the newest full export. Without one,
    because days were pruned, it is the first dump; None where there is none."""
    fulls = [one for one in known if one.dump.is_full]
    return fulls[-1] if fulls else next(iter(known), None)


def gaps(chain: Sequence[DatedDump]) -> list[Gap]:
    """What is missing between the dumps of ``chain``, which are in order. A number that is left out may be
    that of a full export, so the times decide."""
    return [
        Gap((last.dump.number, one.dump.number), last.dump.made_at, one.since)
        for last, one in pairwise(chain)
        if one.dump.number != last.dump.number + 1
        and one.since is not None
        and one.since > last.dump.made_at + _SMALL_GAP
    ]


def _reaches_into(full: Dump, gap: Gap) -> bool:
    """Whether a full export fills a gap, or a part of it."""
    return full.made_at > gap.since + _SMALL_GAP


def received(lake: Lake) -> list[DatedDump]:
    """The dumps that the lake has as raw batches, by number."""
    found = [
        DatedDump(dump, day, batch.since)
        for day in lake.raw_days()
        for batch in lake.batches(day)
        if batch.source == DUMPS and (dump := read_name(batch.origin)) is not None
    ]
    return sorted(found, key=lambda one: one.dump)


def received_line(lake: Lake) -> str:
    """Which dumps the lake has that count, and which are missing among them, for people; "" where it has
    none."""
    known = received(lake)
    base = newest_base(known)
    if base is None:
        return ""
    chain = [one for one in known if one.dump >= base.dump and one.day >= base.day]
    told = base.dump.title
    if chain[1:]:
        told += f" and {counted(len(chain) - 1, 'incremental dump')} until {chain[-1].dump.day}"
    return "; ".join([told, *map(str, gaps(chain))])


def first_day_to_ask(lake: Lake, *, today: date | None = None) -> date:
    """The first day of which a dump is due; today where none is. Asks the mirror what there is.

    Raises InputError where the mirror cannot be used, and its NoAnswer where it does not answer.
    """
    today = today or datetime.now(UTC).date()
    # Nothing is written into the lake, whose lock somebody else may hold.
    with _mirror(lake, most_attempts=_QUICKLY) as mirror, TemporaryDirectory() as scratch:
        due = _plan(lake, mirror, today, Path(scratch)).due
    return min([today, *(one.day for one in due)])


def fetch_day(
    lake: Lake, day: date, tell: Callable[[DumpReport], None], *, today: date | None = None
) -> DumpReport | None:
    """Make raw batches of the dumps that belong to ``day``; None where it has none. Needs the lake's lock.

    Raises InputError where a full export has to come first, and what `fetch_dump` raises.
    """
    today = today or datetime.now(UTC).date()
    settings = lake.section(SECTION, DumpSettings)
    report = DumpReport()
    with _mirror(lake) as mirror:
        try:
            plan = _plan(lake, mirror, today, lake.downloads_of(DUMPS))
        except NoAnswer as error:
            if day == today or not any(one.day == day for one in received(lake)):
                raise
            report.notes.append(f"{error}; {day} is filled from what was kept")
            return report
        report.traffic = mirror.counts
        due = [one for one in plan.due if one.day == day]
        first = plan.due[0] if plan.due else None
        if due and first and first.dump.is_full and first.day < day:
            raise InputError(
                f"{first.dump.title} comes before the dump of {day}: leave --date out, or give --from"
                f" {first.day}"
            )
        if day == today:
            report.notes += plan.notes
        _remove_others(lake, plan)
        for one in due:
            _receive(lake, one, mirror, settings, report, tell)
    return report if due or report.notes else None


def _receive(
    lake: Lake,
    one: DatedDump,
    mirror: Mirror,
    settings: DumpSettings,
    report: DumpReport,
    tell: Callable[[DumpReport], None],
) -> None:
    """Make one dump a raw batch, and remove what was downloaded of it."""

    def note(sentence: str) -> None:
        report_note(sentence)
        tell(report)

    known = [other.dump for other in received(lake) if other.dump.number < one.dump.number]
    folder = lake.downloads_of(DUMPS) / one.dump.name
    fetched = fetch_dump(
        mirror,
        one.dump,
        folder,
        settings,
        received_until=known[-1].made_at if known and not one.dump.is_full else None,
        tell=note,
    )
    lake.admit_source(DUMPS)  # only now: a source that cannot be used changes nothing
    info = write_files(
        lake.raw,
        one.day,
        DUMPS,
        one.dump.name,
        fetched.batch_id,
        fetched.files,
        fetched.counts,
        whole=one.dump.is_full,
        since=fetched.since,
    )
    with disk_errors(folder):
        shutil.rmtree(folder)
    report.dumps.append(one.dump.title)
    report.rows.update(info.rows)
    report.counts.update(info.counts)
    tell(report)


def _plan(lake: Lake, mirror: Mirror, today: date, downloads: Path) -> Plan:
    """What is due; what is read of dumps for it stays in ``downloads``."""
    return Planner(
        received(lake),
        published(mirror),
        today=today,
        full_days=lake.section(SECTION, DumpSettings).full_days,
        begins=lambda dump: begins_at(mirror, dump, downloads / dump.name),
        is_complete=lambda dump: has_archive(mirror, dump),
        is_closed=lambda day: is_pruned(lake.raw, day),
    ).plan()


@contextmanager
def _mirror(lake: Lake, most_attempts: int = 1_000) -> Iterator[Mirror]:
    settings = lake.section(SECTION, DumpSettings)
    crawl = lake.section("crawl", CrawlSettings)
    attempts = min(crawl.attempts, most_attempts)
    policy = RequestPolicy(attempts=attempts, longest_wait=crawl.longest_wait)
    mirror = Mirror(settings.mirror, policy, settings.timeout)
    try:
        yield mirror
    finally:
        mirror.close()


def _remove_others(lake: Lake, plan: Plan) -> None:
    """Remove downloads of dumps that are not wanted any more: received, replaced by newer ones, or gone."""
    folder = lake.downloads_of(DUMPS)
    wanted = {dump.name for dump in plan.wanted}
    with disk_errors(folder):
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in wanted:
                shutil.rmtree(path)
