"""Which of ListenBrainz's dumps a lake needs, on which days, and making raw batches of them.

Here: the plan, and one day of it. Not here: how a dump is fetched and counted (`sources.dumps`), or which
days a refresh fills (`fill_days`).

A lake begins with the newest full export, of which it takes the last months, and goes on with every
incremental dump since: the listens that were submitted after the dump before, of whatever date. Each dump is
a raw batch of the day on which it was made. Where dumps are gone from the mirror before they were fetched,
the next full export fills the gap. A full export is also taken every `full_days`: it replaces all before it,
so listens that people deleted go. What the lake has is in the names of its raw batches; there is no other
state.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

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
    """A dump, and the day it belongs to in the lake."""

    dump: Dump
    day: date


@dataclass(frozen=True)
class Plan:
    """The dumps to fetch, in this order, and what a person should know."""

    due: list[DatedDump] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
        if not self._known:
            begin = self._full_after(-1)
            if begin is None:
                raise InputError("the mirror has no full export to begin with; run it again later")
            return self._from(begin)
        last = self._known[-1].dump
        following = self._increments(last.number)
        if following and not self._goes_on(last, following[0]):
            begin = self._full_after(last.number)
            gone = f"dumps between {last.number} and {following[0].number} are gone from the mirror"
            if begin is not None:
                return self._from(begin, [f"{gone}; full export {begin.dump.number} fills the gap"])
            wait = "nothing is added until the next full export, which fills the gap"
            return Plan(notes=[f"{gone}; {wait}"])
        fulls = [one for one in self._known if one.dump.is_full]
        since = fulls[-1].dump if fulls else self._known[0].dump
        begin = self._full_after(since.number)
        # Without a full export among them, those received were pruned: the next one will do.
        overdue = begin is not None and (not fulls or (begin.dump.day - since.day).days >= self._full_days)
        if begin is not None and overdue:
            return self._from(begin)
        return self._chain(DatedDump(last, fulls[-1].day if fulls else since.day), [])

    def _from(self, begin: DatedDump, notes: Sequence[str] = ()) -> Plan:
        rest = self._chain(begin, [one.dump for one in self._known])
        return Plan([begin, *rest.due], [*notes, *rest.notes])

    def _full_after(self, number: int) -> DatedDump | None:
        """The newest full export after this number that is complete, on a day that can take it."""
        for dump in reversed(self._there):
            if not dump.is_full or dump.number <= number:
                continue
            # On the day of a full export everything counts that came on it: an older dump may not be there.
            older = {one.day for one in self._known if one.dump.number < dump.number}
            day = dump.day + _ONE_DAY if dump.day in older else dump.day
            if day <= self._today and not self._is_closed(day) and self._is_complete(dump):
                return DatedDump(dump, day)
        return None

    def _chain(self, begin: DatedDump, known: Sequence[Dump]) -> Plan:
        """The incremental dumps after ``begin``, without a gap, that are not ``known``."""
        plan = Plan()
        last = begin.dump
        for dump in self._increments(last.number):
            if dump not in known:
                if not self._goes_on(last, dump):
                    plan.notes.append(
                        f"dumps between {last.number} and {dump.number} are missing on the mirror; the next"
                        " full export fills the gap"
                    )
                    break
                if not self._is_complete(dump):
                    plan.notes.append(f"dump {dump.number} is listed, and its archive is not there yet")
                    break
                day = max(dump.day, begin.day)
                while self._is_closed(day) and day < self._today:
                    day += _ONE_DAY
                plan.due.append(DatedDump(dump, day))
            last = dump
        return plan

    def _increments(self, after: int) -> list[Dump]:
        return [dump for dump in self._there if dump.number > after and not dump.is_full]

    def _goes_on(self, last: Dump, dump: Dump) -> bool:
        """Whether nothing is missing between two dumps. A number in between may be a full export's."""
        return dump.number == last.number + 1 or self._begins(dump) <= last.made_at + _SMALL_GAP


def received(lake: Lake) -> list[DatedDump]:
    """The dumps that the lake has as raw batches, by number."""
    found = [
        DatedDump(dump, day)
        for day in lake.raw_days()
        for batch in lake.batches(day)
        if batch.source == DUMPS and (dump := read_name(batch.origin)) is not None
    ]
    return sorted(found, key=lambda one: one.dump)


def first_day_to_ask(lake: Lake, *, today: date | None = None) -> date:
    """The first day of which a dump is due; today where none is. Asks the mirror what there is.

    Raises InputError where the mirror cannot be used, and its NoAnswer where it does not answer.
    """
    today = today or datetime.now(UTC).date()
    with _mirror(lake, most_attempts=_QUICKLY) as mirror:
        due = _plan(lake, mirror, today).due
    return min([today, *(one.day for one in due)])


def fetch_day(
    lake: Lake, day: date, tell: Callable[[DumpReport], None], *, today: date | None = None
) -> DumpReport | None:
    """Make raw batches of the dumps that belong to ``day``; None where it has none. Needs the lake's lock.

    Raises InputError where earlier dumps have to come first, and what `fetch_dump` raises.
    """
    today = today or datetime.now(UTC).date()
    settings = lake.section(SECTION, DumpSettings)
    report = DumpReport()
    with _mirror(lake) as mirror:
        try:
            plan = _plan(lake, mirror, today)
        except NoAnswer as error:
            if day == today or not any(one.day == day for one in received(lake)):
                raise
            report.notes.append(f"{error}; {day} is filled from what was kept")
            return report
        report.traffic = mirror.counts
        due = [one for one in plan.due if one.day == day]
        if due and plan.due[0].day < day:
            raise InputError(
                f"the dump of {plan.due[0].day} comes before that of {day}: leave --date out, or give --from"
                f" {plan.due[0].day}"
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
    )
    with disk_errors(folder):
        shutil.rmtree(folder)
    report.dumps.append(one.dump.title)
    report.rows.update(info.rows)
    report.counts.update(info.counts)
    tell(report)


def _plan(lake: Lake, mirror: Mirror, today: date) -> Plan:
    return Planner(
        received(lake),
        published(mirror),
        today=today,
        full_days=lake.section(SECTION, DumpSettings).full_days,
        begins=lambda dump: begins_at(mirror, dump),
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
    """Remove downloads of dumps that are not due: received, or replaced by newer ones."""
    folder = lake.downloads_of(DUMPS)
    due = {one.dump.name for one in plan.due}
    with disk_errors(folder):
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in due:
                shutil.rmtree(path)
