"""The crawl of one day: visit users of a source within a budget, and store what their pages say.

Here: the order and number of visits, their results, and the raw batches made of them. Not here: requests to a
service (`api_session`), the meaning of its answers (the sources), or the files (`lake`).

A crawl may be killed at any moment and started again: finished users are not visited again that day, and an
interrupted visit continues from the stored answers. See `sources.frontier`.
"""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.retention import RetentionSettings, asked_again_before
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES, RAW_ADDED
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.cells import without_controls, without_other_links
from tunegraph_pipeline.sources.frontier import LEFT_ALONE, Due, Frontier
from tunegraph_pipeline.sources.source import (
    AskLater,
    BudgetSpent,
    CrawlPaused,
    FeatureProvider,
    Features,
    LikedList,
    NoAnswer,
    ProviderClosed,
    Source,
    Track,
    Unanswered,
    UserGone,
    UserPrivate,
)
from tunegraph_pipeline.words import counted

_JOURNAL = 2_000  # entries after which the journal is written as raw batches
_REPORT_SECONDS = 0.5
_FAILED_IN_A_ROW = 25  # visits after which the fault is the service's, not the users'
_DESCRIBE, _FEATURES = "describe", "features"
_NO_EXPIRY = RetentionSettings()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Order(StrEnum):
    BREADTH_FIRST = "breadth_first"
    DEPTH_FIRST = "depth_first"


class CrawlSettings(RequestPolicy):
    """Settings of the crawl of every source: section ``crawl`` of `lake.json`."""

    order: Order = Order.BREADTH_FIRST
    """Whether the users found first, or last, are visited first."""
    users_per_day: int = Field(default=1_000, ge=1)
    """Maximum users visited per day."""
    revisit_days: int = Field(default=7, ge=1)
    """A list older than this is read again; repeat visits and new users alternate."""
    describe_days: int = Field(default=30, ge=1)
    """After this time, a track's name, cover and so on are written again."""
    max_failures: int = Field(default=5, ge=1)
    """A user is given up after failing on this many days in a row."""


@dataclass
class CrawlReport:
    """The progress or result of a crawl. Holds no user id."""

    users: int = 0
    """Users visited in this run."""
    states: Counter[str] = field(default_factory=Counter)
    """Their states after the visit."""
    notes: list[str] = field(default_factory=list)
    """For people: a provider that closed, a budget that is used up."""
    counts: Counter[str] = field(default_factory=Counter)
    """Requests, 429s, retries and so on, as counted by the sessions."""
    known: dict[str, int] = field(default_factory=dict)
    """Users of the frontier by state."""


@dataclass(frozen=True)
class _Visit:
    due: Due
    state: str
    found: list[str] = field(default_factory=list)
    liked: LikedList = field(default_factory=LikedList)


@dataclass(frozen=True)
class _Answered:
    topic: str
    number: int
    tracks: list[Track] = field(default_factory=list)
    features: list[tuple[str, list[list[Any]]]] = field(default_factory=list)
    unknown: int = 0
    put_off: bool = False


class Crawl:
    """One crawl of ``source`` for the frontier's day, writing raw batches below ``raw``.

    ``has_features`` says which of some tracks already have features in the lake, so that they are not
    requested; ``report`` is called from time to time. Data that ``retention`` will expire is requested again
    before it does.
    """

    def __init__(
        self,
        source: Source,
        frontier: Frontier,
        raw: Path,
        settings: CrawlSettings,
        *,
        retention: RetentionSettings = _NO_EXPIRY,
        has_features: Callable[[Sequence[str]], set[str]] = lambda _: set(),
        report: Callable[[CrawlReport], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._frontier = frontier
        self._raw = raw
        self._settings = settings
        self._retention = retention
        self._has_features = has_features
        self._on_report = report
        self._day = date.fromisoformat(frontier.day)
        ttl = retention.ttl_days.get(source.name, settings.revisit_days)
        self._revisit_days = min(settings.revisit_days, ttl)
        self._chain: list[FeatureProvider] = []
        self._closed: set[str] = set()
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self._busy_users: dict[str, Due] = {}
        self._busy_batches: dict[str, set[int]] = {_DESCRIBE: set(), _FEATURES: set()}
        self._put_off: dict[str, set[int]] = {_DESCRIBE: set(), _FEATURES: set()}
        self._ended: AskLater | BudgetSpent | Unanswered | None = None
        self._failed_in_a_row = 0
        self._report_at = 0.0
        self.report = CrawlReport()

    def run(self) -> CrawlReport:
        """Crawl until no user is due or the day's budget is used up.

        Raises CrawlPaused if the service asks for a longer wait than a run waits, NoAnswer if it does not
        answer, and InputError for what a person has to fix (credentials, start users). In every case the
        answers so far are in raw batches.
        """
        self.write_journal()
        try:
            self._frontier.add_start_users(self._source.start_users(), self._source.name)
            self._chain = self._source.feature_providers()
            if before := self._asked_again_before(self._source.name, *(part.name for part in self._chain)):
                self._frontier.ask_again(before)
            self._work()
            self._check_start()
        finally:
            self.write_journal()
            self._update_report()
        if isinstance(self._ended, AskLater):
            raise paused(self._ended, self.report.users)
        if isinstance(self._ended, Unanswered):
            raise NoAnswer(
                f"{self._ended}; visited and kept: {counted(self.report.users, 'user')}; check the network"
                " and run it again"
            )
        if self._ended is not None:
            self.report.notes.append(str(self._ended))
        if self._frontier.left_alone:
            self.report.notes.append(f"{LEFT_ALONE}: {self._frontier.left_alone:,}")
        return self.report

    def _asked_again_before(self, *names: str) -> date | None:
        days = (asked_again_before(self._retention, name, self._day, self._revisit_days) for name in names)
        return max((day for day in days if day is not None), default=None)

    def _check_start(self) -> None:
        """Raise InputError, and discard the frontier, if no start user is visible and no other user known."""
        states = self._frontier.start_states()
        if self._ended is not None or set(states) - {"gone", "failed"} or self._frontier.states() != states:
            return
        self._frontier.start_over()
        name = self._source.name
        if not states:
            raise InputError(
                f"every start user of {name} was forgotten and is not crawled; name others with --start-user"
            )
        if "failed" in states:
            raise NoAnswer(f"{name} did not answer; check the network, or its address in lake.json")
        raise InputError(
            f"none of the {states['gone']} start users is known to {name}; check settings.{name}.start_users"
            " in lake.json, or name others with --start-user"
        )

    def write_journal(self) -> None:
        """Write the journal as raw batches."""

        def write(day: date, source: str, parts: dict[str, list[list[Any]]], counts: Counter[str]) -> None:
            frames = {part: _frame(part, rows) for part, rows in parts.items()}
            if "tracks" in frames:
                named = without_controls(frames["tracks"], counts)
                frames["tracks"] = without_other_links(named, counts)
            batch = RawBatch(
                source, f"crawl of {source}", **frames, counts=dict(sorted(counts.items())), licence=None
            )
            write_batch(self._raw, day, batch)

        self._frontier.empty_journal(write)

    # --- the loop: this thread decides and writes, the others send requests ---

    def _work(self) -> None:
        pool = ThreadPoolExecutor(self._settings.threads, thread_name_prefix="crawl")
        running: set[Future[_Visit | _Answered]] = set()
        try:
            while True:
                while len(running) < self._settings.threads and self._ended is None:
                    job = self._next_job(idle=not running)
                    if job is None:
                        break
                    running.add(pool.submit(job))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._finish(future)
                if self._frontier.journal_length() >= _JOURNAL:
                    self.write_journal()
                if time.monotonic() >= self._report_at:
                    # Not after each visit: counting every known user would cost more than the visits.
                    self._update_report()
                    self._report_at = time.monotonic() + _REPORT_SECONDS
        finally:
            if running:  # after an error: make waiting threads return at once
                self._source.close()
                for provider in self._chain:
                    provider.close()
            pool.shutdown(wait=True, cancel_futures=True)

    def _next_job(self, *, idle: bool) -> Callable[[], _Visit | _Answered] | None:
        """Full batches of tracks first, then users, then smaller batches if nothing else is left."""
        job = self._next_batch(partial=False)
        if job is not None:
            return job
        if self._frontier.spent("users") + len(self._busy_users) < self._settings.users_per_day:
            due = self._frontier.next_users(
                1,
                order=self._settings.order,
                visited_before=self._day - timedelta(days=self._revisit_days - 1),
                max_failures=self._settings.max_failures,
                busy=self._busy_users,
            )
            if due:
                self._busy_users[due[0].user_id] = due[0]
                return functools.partial(self._visit, due[0])
        return self._next_batch(partial=True) if idle or not self._busy_users else None

    def _next_batch(self, *, partial: bool) -> Callable[[], _Answered] | None:
        sizes = {_DESCRIBE: self._source.describe_size}
        if self._chain:
            sizes[_FEATURES] = max(provider.batch_size for provider in self._chain)
        for topic, size in sizes.items():
            number, track_ids = self._frontier.claim_tracks(
                topic, size, partial=partial, busy=self._busy_batches[topic] | self._put_off[topic]
            )
            if track_ids:
                self._busy_batches[topic].add(number)
                return functools.partial(
                    self._describe if topic == _DESCRIBE else self._ask_features, number, track_ids
                )
        return None

    def _visit(self, due: Due) -> _Visit:
        try:
            found = self._source.discover(due.user_id)
            return _Visit(due, "listed", found, self._source.liked_list(due.user_id))
        except UserPrivate:
            return _Visit(due, "private")
        except UserGone:
            return _Visit(due, "gone")
        except Unanswered:
            return _Visit(due, "failed")

    def _describe(self, number: int, track_ids: list[str]) -> _Answered:
        try:
            return _Answered(_DESCRIBE, number, self._source.describe(track_ids))
        except Unanswered:
            return _Answered(_DESCRIBE, number, put_off=True)

    def _ask_features(self, number: int, track_ids: list[str]) -> _Answered:
        """Ask one provider after the other, each for what those before it do not know."""
        known = self._has_features(track_ids)
        missing = [track_id for track_id in track_ids if track_id not in known]
        rows: list[tuple[str, list[list[Any]]]] = []
        try:
            for provider in self._chain:
                found = self._features_of(provider, missing)
                if found:
                    values = [
                        [i, *(by_name[name] for name in AUDIO_FEATURES)] for i, by_name in found.items()
                    ]
                    rows.append((provider.name, values))
                missing = [track_id for track_id in missing if track_id not in found]
        except (AskLater, BudgetSpent, Unanswered):
            # A provider that cannot be asked now may know these tracks: they wait for another run.
            return _Answered(_FEATURES, number, put_off=True)
        return _Answered(_FEATURES, number, features=rows, unknown=len(missing))

    def _features_of(self, provider: FeatureProvider, track_ids: list[str]) -> dict[str, Features]:
        """What one provider knows of the tracks, nothing if it is closed. Raises its other refusals."""
        if track_ids and provider.name in self._waiting:
            raise Unanswered(provider.name)
        found: dict[str, Features] = {}
        for start in range(0, len(track_ids), provider.batch_size):
            if provider.name in self._closed:
                break
            try:
                found.update(provider.audio_features(track_ids[start : start + provider.batch_size]))
            except ProviderClosed as error:
                self._close(provider, str(error))
            except (AskLater, BudgetSpent) as error:
                self._waiting.add(provider.name)
                self._close(provider, str(error))
                raise
        return found

    def _close(self, provider: FeatureProvider, why: str) -> None:
        with self._lock:
            if provider.name not in self._closed:
                self._closed.add(provider.name)
                self.report.notes.append(f"{why}; not asked again in this run")

    def _finish(self, future: "Future[_Visit | _Answered]") -> None:
        try:
            answer = future.result()
        except (AskLater, BudgetSpent) as error:
            if self._ended is None or isinstance(error, AskLater):
                self._ended = error
            return
        if isinstance(answer, _Visit):
            self._finish_visit(answer)
        else:
            self._finish_batch(answer)

    def _finish_visit(self, visit: _Visit) -> None:
        due, liked, name = visit.due, visit.liked, self._source.name
        likes = [
            [due.user_id, like.track_id, _microseconds(like.liked_at), like.position] for like in liked.likes
        ]
        before = self._day - timedelta(days=self._settings.describe_days - 1)
        before = max(before, self._asked_again_before(name) or before)
        fresh = self._frontier.undescribed([track.track_id for track in liked.described], before)
        described = [list(track) for track in liked.described if track.track_id in fresh]
        state = [[due.user_id, due.discovered_from, due.depth, visit.state]]
        self._frontier.finish_user(
            due,
            visit.state,
            visit.found,
            [
                (name, "users", state),
                (name, "likes", likes),
                (name, "tracks", described),
                (name, "counts", list(map(list, liked.counts.items()))),
            ],
            [like.track_id for like in liked.likes],
            sorted(fresh),
            [_DESCRIBE, _FEATURES] if self._chain else [_DESCRIBE],
            source=name,
        )
        del self._busy_users[due.user_id]
        self._failed_in_a_row = self._failed_in_a_row + 1 if visit.state == "failed" else 0
        if self._failed_in_a_row >= _FAILED_IN_A_ROW:
            # The service or the network is down; going on would only mark a day's users as failed.
            self._ended = Unanswered(f"{name} failed to answer for {self._failed_in_a_row} users in a row")
        self.report.users += 1
        self.report.states[visit.state] += 1

    def _finish_batch(self, answered: _Answered) -> None:
        topic, number = answered.topic, answered.number
        self._busy_batches[topic].discard(number)
        if answered.put_off:
            self._put_off[topic].add(number)  # the next run asks again
            self.report.counts[f"batches of tracks put off ({topic})"] += 1
            return
        rows: list[tuple[str, str, list[Any]]] = [
            (self._source.name, "tracks", [list(track) for track in answered.tracks])
        ]
        rows += [(provider, "features", values) for provider, values in answered.features]
        if answered.unknown:
            rows.append((self._source.name, "counts", [["tracks nobody has features of", answered.unknown]]))
        self._frontier.finish_tracks(topic, number, rows, [track.track_id for track in answered.tracks])

    def _update_report(self) -> None:
        counted: Counter[str] = Counter()
        for part in (self._source, *self._chain):
            if (counts := getattr(part, "counts", None)) is not None:
                counted += counts()
            elif (session := getattr(part, "session", None)) is not None:
                counted += session.counts
        put_off = {what: n for what, n in self.report.counts.items() if what.startswith("batches")}
        self.report.counts = counted + Counter(put_off)
        self.report.known = self._frontier.states()
        self._on_report(self.report)


def paused(asked: AskLater, visited: int = 0) -> CrawlPaused:
    """The message for a person when a service asks for a long wait."""
    kept = f"visited and kept: {counted(visited, 'user')}; " if visited else ""
    return CrawlPaused(
        f"{asked}; {kept}run it again then, or `tunegraph refresh --source none` to build from what there is"
    )


def _frame(part: str, rows: list[list[Any]]) -> pl.DataFrame:
    schema = empty_frame(part).schema
    if part in RAW_ADDED:
        # An earlier version journalled fewer columns.
        rows = [row + [None] * (len(schema) - len(row)) for row in rows]
    # Times are journalled as microseconds, which is what the column holds.
    carried = {name: pl.Int64 if name == "liked_at" else kind for name, kind in schema.items()}
    return pl.DataFrame(rows, schema=carried, orient="row", strict=True).cast(schema)


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else int((at - _EPOCH) / timedelta(microseconds=1))
