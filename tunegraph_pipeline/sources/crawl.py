"""The crawl of one day: visits users of a source within a budget, and keeps what they said.

Here: in what order and how many at once, what becomes of a visit, and the raw batches made of it. Not here:
how a service is asked (`api_session`), what its answers mean (the sources), or the files (`lake`).

A crawl may be ended at any moment, by kill -9 too, and begun again: who is finished is not visited again that
day, and a visit cut short goes on from the answers that were kept. See `sources.frontier`.
"""

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
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import LEFT_ALONE, Due, Frontier
from tunegraph_pipeline.sources.source import (
    AskLater,
    BudgetSpent,
    CrawlPaused,
    FeatureProvider,
    LikedList,
    NoAnswer,
    ProviderClosed,
    Source,
    Track,
    Unanswered,
    UserGone,
    UserPrivate,
)

_JOURNAL = 2_000  # entries after which the journal is written as raw batches
_REPORT_SECONDS = 0.5
_FAILED_IN_A_ROW = 25  # visits after which it is not about the users
_DESCRIBE, _FEATURES = "describe", "features"
_KEPT_FOR_EVER = RetentionSettings()


class Order(StrEnum):
    BREADTH_FIRST = "breadth_first"
    DEPTH_FIRST = "depth_first"


class CrawlSettings(RequestPolicy):
    """Settings of the crawl, section ``crawl`` of `lake.json`, for every source."""

    order: Order = Order.BREADTH_FIRST
    """Whether the users found first or last are visited first."""
    users_per_day: int = Field(default=1_000, ge=1)
    """Users visited a day at most."""
    revisit_days: int = Field(default=7, ge=1)
    """A list older than this is looked at again; re-visits and new users take turns."""
    describe_days: int = Field(default=30, ge=1)
    """A track's name, cover and so on are written again after this long."""
    max_failures: int = Field(default=5, ge=1)
    """Days in a row on which a user's page may fail before it is given up."""


@dataclass
class CrawlReport:
    """How a crawl went, so far or in the end. Holds no user id."""

    users: int = 0
    """Visited in this run."""
    states: Counter[str] = field(default_factory=Counter)
    """What became of them."""
    notes: list[str] = field(default_factory=list)
    """What a person should know: a provider that closed, a budget that ended."""
    counts: Counter[str] = field(default_factory=Counter)
    """Requests, 429, retries and the like, as the sessions counted them."""
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

    ``has_features`` tells which of some tracks have features in the lake already, so that nobody is asked
    for them; ``report`` is called now and then with how it goes. What ``retention`` lets go is asked for
    again before it goes.
    """

    def __init__(
        self,
        source: Source,
        frontier: Frontier,
        raw: Path,
        settings: CrawlSettings,
        *,
        retention: RetentionSettings = _KEPT_FOR_EVER,
        has_features: Callable[[Sequence[str]], set[str]] = lambda _: set(),
        report: Callable[[CrawlReport], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._frontier = frontier
        self._raw = raw
        self._settings = settings
        self._retention = retention
        self._has_features = has_features
        self._tell = report
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
        """Crawl until nobody is due or the day's budget is spent.

        Raises CrawlPaused where the service asks for a wait longer than a run waits, NoAnswer where it gives
        none, and InputError for
        what only a person can mend (credentials, start users); in either case what was said so far is in
        raw batches.
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
                f"{self._ended}; {self.report.users:,} users were visited and are kept: check the network and"
                " run it again"
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
        """Raise InputError, and keep nothing, where no start user could be seen and nobody else is known."""
        states = self._frontier.start_states()
        if self._ended is not None or set(states) - {"gone", "failed"} or self._frontier.states() != states:
            return
        self._frontier.start_over()
        name = self._source.name
        if not states:
            raise InputError(
                f"every start user of {name} is somebody who was forgotten, and stays away; name others with"
                " --start-user"
            )
        if "failed" in states:
            raise NoAnswer(f"{name} did not answer; check the network, or its address in lake.json")
        raise InputError(
            f"none of the {states['gone']} start users is known to {name}; check settings.{name}.start_users"
            " in lake.json, or name others with --start-user"
        )

    def write_journal(self) -> None:
        """Write what is journalled as raw batches."""
        self._frontier.empty_journal(
            lambda day, source, parts, counts: _write(self._raw, day, source, parts, counts)
        )

    # --- the loop: this thread decides and writes, the others ask ---

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
                    # It counts every known user, which after each visit would cost more than the visits.
                    self._update_report()
                    self._report_at = time.monotonic() + _REPORT_SECONDS
        finally:
            if running:  # something went wrong: whoever still waits for an answer comes back at once
                self._source.close()
                for provider in self._chain:
                    provider.close()
            pool.shutdown(wait=True, cancel_futures=True)

    def _next_job(self, *, idle: bool) -> Callable[[], _Visit | _Answered] | None:
        """Full batches of tracks first, then users; smaller batches when there is nothing else to do."""
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
                return lambda: self._visit(due[0])
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
                ask = self._describe if topic == _DESCRIBE else self._ask_features
                return lambda ask=ask, number=number, ids=track_ids: ask(number, ids)  # type: ignore[misc]
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
        said: list[tuple[str, list[list[Any]]]] = []
        for provider in self._chain:
            if missing and provider.name in self._waiting:
                return _Answered(_FEATURES, number, put_off=True)
            found: dict[str, Any] = {}
            for start in range(0, len(missing), provider.batch_size):
                if provider.name in self._closed:
                    break
                some = missing[start : start + provider.batch_size]
                try:
                    found.update(provider.audio_features(some))
                except ProviderClosed as error:
                    self._close(provider, str(error))
                except (AskLater, BudgetSpent) as error:
                    # Whoever is not to be asked now is not unknowing: these tracks wait for another run.
                    self._waiting.add(provider.name)
                    self._close(provider, str(error))
                    return _Answered(_FEATURES, number, put_off=True)
                except Unanswered:
                    return _Answered(_FEATURES, number, put_off=True)
            if found:
                said.append(
                    (provider.name, [[i, *(f[name] for name in AUDIO_FEATURES)] for i, f in found.items()])
                )
            missing = [track_id for track_id in missing if track_id not in found]
        return _Answered(_FEATURES, number, features=said, unknown=len(missing))

    def _close(self, provider: FeatureProvider, why: str) -> None:
        with self._lock:
            if provider.name not in self._closed:
                self._closed.add(provider.name)
                self.report.notes.append(f"{why}; it is not asked again in this run")

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
        likes = [[due.user_id, like.track_id, _microseconds(like.liked_at)] for like in liked.likes]
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
            # A day's users would fail one by one; that is a fault of the service or the network, not theirs.
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
            counts = getattr(part, "counts", None)
            session = getattr(part, "session", None)
            counted += (
                counts() if counts is not None else session.counts if session is not None else Counter()
            )
        put_off = {what: n for what, n in self.report.counts.items() if what.startswith("batches")}
        self.report.counts = counted + Counter(put_off)
        self.report.known = self._frontier.states()
        self._tell(self.report)


def paused(asked: AskLater, visited: int = 0) -> CrawlPaused:
    """What a person is told when a service asks for a long wait."""
    kept = f"{visited:,} users were visited and are kept; " if visited else ""
    return CrawlPaused(
        f"{asked}; {kept}run it again then, or `tunegraph refresh --source none` to build from what there is"
    )


_COLUMNS: dict[str, dict[str, Any]] = {
    part: dict(empty_frame(part).schema) for part in ("users", "likes", "tracks", "features")
}


def _write(
    raw: Path, day: date, source: str, parts: dict[str, list[list[Any]]], counts: Counter[str]
) -> None:
    frames = {part: _frame(part, rows) for part, rows in parts.items()}
    write_batch(
        raw, day, RawBatch(source, f"crawl of {source}", **frames, counts=dict(sorted(counts.items())))
    )


def _frame(part: str, rows: list[list[Any]]) -> pl.DataFrame:
    schema = _COLUMNS[part]
    # Times are journalled as microseconds, which is what the column holds.
    carried = {name: pl.Int64 if name == "liked_at" else kind for name, kind in schema.items()}
    return pl.DataFrame(rows, schema=carried, orient="row", strict=True).cast(pl.Schema(schema))


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else int((at - _EPOCH) / timedelta(microseconds=1))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
