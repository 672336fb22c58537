"""The frontier of a crawl: whom to visit, the day's answers, and rows not yet in a raw batch, in one file.

Here: the SQLite file of one source below ``<lake>/crawl/``, and every query on it. Not here: the order of
visits (`sources.crawl`), or requests to a service (`sources.api_session`).

Each answer is stored as it arrives. The result of a visit is one transaction: the user's state, the users
found, and rows for the journal. So a process may be killed at any moment: nothing is half written, and only
requests in flight are sent again. The journal is emptied into raw batches in ranges that are fixed before the
batch is written; an interrupted range is written again with the same content, hence as the same batch.

Forgotten users are never added, so they are not visited and have no rows, and answers that name them are not
stored. If a source has a time-to-live, users and tracks it has not named for that long are removed too.
"""

import json
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.ids import composed, forms_of
from tunegraph_pipeline.lake.tombstones import Tombstones

LEFT_ALONE = "forgotten users met again, left alone"
_SCHEMA = files(__package__).joinpath("frontier.sql").read_text("utf-8")


@dataclass(frozen=True)
class Due:
    """A user to visit, how they were found, and how often in a row their visits failed."""

    user_id: str
    discovered_from: str | None
    depth: int
    failures: int


class Frontier:
    """The open file. Threads may share it: one connection behind one lock, each call one transaction.

    ``day`` is the day of the crawl: answers and spending belong to it. Users in ``tombstones`` stay out.
    """

    def __init__(self, path: Path, day: date, tombstones: Tombstones | None = None) -> None:
        self.path = path
        self._tombstones = tombstones or Tombstones()
        self.day = day.isoformat()
        self._lock = threading.RLock()
        self._old_exhausted = False
        self.left_alone = 0
        """How often a forgotten user was found since the file was opened."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # With a write-ahead log, a killed process loses no stored answer.
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA cache_size = -8192")
            _prepare(self._db, self.day)
            with self._transaction():
                self._db.execute("DELETE FROM answers WHERE day < ?", (self.day,))
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise _unusable(self.path, error) from error

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _unusable(self.path, error) from error

    # --- users ---

    def add_start_users(self, user_ids: Iterable[str], source: str) -> None:
        """Add users at depth 0, unless they are known or were forgotten."""
        with self._transaction():
            self._add_users(source, [(user_id, None, 0) for user_id in user_ids])

    def next_users(
        self, how_many: int, *, order: str, visited_before: date, max_failures: int, busy: Iterable[str] = ()
    ) -> list[Due]:
        """At most ``how_many`` users to visit now, except those in ``busy``.

        New users alternate with those whose visit is older than ``visited_before``, or failed on another day,
        fewer than ``max_failures`` times in a row. ``order`` is ``depth_first`` (the latest found first) or
        ``breadth_first``.
        """
        taken = set(busy)
        limit = how_many + len(taken)
        direction = "DESC" if order == "depth_first" else "ASC"
        columns = "user_id, discovered_from, depth, failures"
        new = self._all(
            f"SELECT {columns} FROM users WHERE state = 'found' ORDER BY seq {direction} LIMIT ?",  # noqa: S608
            limit,
        )
        old = []
        if not self._old_exhausted:
            old = self._all(
                f"SELECT {columns} FROM users WHERE visited < ?"  # noqa: S608
                " AND ((visited < ? AND state IN ('listed', 'private'))"
                " OR (state = 'failed' AND failures < ?))"
                " ORDER BY visited, seq LIMIT ?",
                self.day,
                visited_before.isoformat(),
                max_failures,
                limit,
            )
            # Visits only make users newer, so once there is no old one, there is none for the day.
            self._old_exhausted = not old
        chosen = [Due(*row) for pair in zip_longest(new, old) for row in pair if row is not None]
        return [due for due in chosen if due.user_id not in taken][:how_many]

    def finish_user(
        self,
        due: Due,
        state: str,
        found: Sequence[str],
        rows: Iterable[tuple[str, str, list[Any]]],
        track_ids: Sequence[str] = (),
        described: Sequence[str] = (),
        topics: Sequence[str] = (),
        *,
        source: str,
    ) -> None:
        """Store the result of a visit in one transaction.

        ``rows``: (source, part, rows) for the journal. ``found``: the users the page led to. New
        ``track_ids`` are queued for each of ``topics``; those in ``described`` not for a description.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE users SET state = ?1, visited = ?2,"
                " failures = CASE ?1 WHEN 'failed' THEN failures + 1 ELSE 0 END,"
                " met = CASE ?1 WHEN 'failed' THEN met ELSE ?2 END WHERE user_id = ?3",
                (state, self.day, due.user_id),
            )
            self._add_users(source, [(user_id, due.user_id, due.depth + 1) for user_id in found])
            for origin, part, values in rows:
                self._write_journal(origin, part, values)
            known = set(described)
            for track_id in track_ids:
                new = db.execute(
                    "INSERT OR IGNORE INTO tracks (track_id, met) VALUES (?, ?)", (track_id, self.day)
                )
                if new.rowcount:
                    db.executemany(
                        "INSERT INTO waiting (topic, track_id) VALUES (?, ?)",
                        [(t, track_id) for t in topics if t != "describe" or track_id not in known],
                    )
            self._mark_described(described)
            self._spend_one("users")

    def undescribed(self, track_ids: Sequence[str], described_before: date) -> set[str]:
        """Those of ``track_ids`` that were not described since ``described_before``."""
        fresh: set[str] = set()
        for start in range(0, len(track_ids), 500):
            some = track_ids[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self._all(
                f"SELECT track_id FROM tracks WHERE described >= ? AND track_id IN ({marks})",  # noqa: S608
                described_before.isoformat(),
                *some,
            )
            fresh.update(row[0] for row in rows)
        return set(track_ids) - fresh

    def states(self) -> dict[str, int]:
        """How many users are in each state."""
        return dict(self._all("SELECT state, count(*) FROM users GROUP BY state ORDER BY state"))

    def start_states(self) -> dict[str, int]:
        """How many start users are in each state."""
        return dict(self._all("SELECT state, count(*) FROM users WHERE depth = 0 GROUP BY state"))

    def start_over(self) -> None:
        """Remove all users, answers and journal entries, as if the crawl had never run."""
        with self._transaction() as db:
            for table in ("users", "journal", "answers"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608  # the names above

    def _add_users(self, source: str, users: Iterable[tuple[str, str | None, int]]) -> None:
        added = []
        left_alone = 0
        for user_id, discovered_from, depth in users:
            if self._tombstones.buries_one(user_id):
                left_alone += 1
                continue
            cursor = self._db.execute(
                "INSERT INTO users (user_id, discovered_from, depth, state, met) VALUES (?, ?, ?, 'found', ?)"
                " ON CONFLICT (user_id) DO NOTHING",
                (user_id, discovered_from, depth, self.day),
            )
            if cursor.rowcount:
                added.append([user_id, discovered_from, depth, "found"])
            else:
                self._db.execute(
                    "UPDATE users SET met = ?1 WHERE user_id = ?2 AND met < ?1", (self.day, user_id)
                )
        if added:
            self._write_journal(source, "users", added)
        self.left_alone += left_alone
        if left_alone:
            self._write_journal(source, "counts", [[LEFT_ALONE, left_alone]])

    # --- tracks that wait to be described, or for features ---

    def ask_again(self, before: date) -> None:
        """Forget tracks first met before this day, so that they are queued when a list next names them."""
        with self._transaction() as db:
            db.execute("DELETE FROM tracks WHERE met < ?", (before.isoformat(),))

    def claim_tracks(
        self, topic: str, size: int, *, partial: bool, busy: Iterable[int]
    ) -> tuple[int, list[str]]:
        """The number of a batch of queued tracks, and the tracks; an empty list if there is none.

        A batch keeps its tracks until it is finished: after a crash the same requests are repeated, and
        answered from storage. Less than ``size`` tracks make a batch only if ``partial``.
        """
        taken = set(busy)
        with self._transaction() as db:
            for (number,) in db.execute(
                "SELECT DISTINCT batch FROM waiting WHERE topic = ? AND batch IS NOT NULL ORDER BY batch",
                (topic,),
            ):
                if number not in taken:
                    rows = self._all(
                        "SELECT track_id FROM waiting WHERE topic = ? AND batch = ? ORDER BY id",
                        topic,
                        number,
                    )
                    return number, [track_id for (track_id,) in rows]
            free = db.execute(
                "SELECT id, track_id FROM waiting WHERE topic = ? AND batch IS NULL ORDER BY id LIMIT ?",
                (topic, size),
            ).fetchall()
            if not free or (len(free) < size and not partial):
                return 0, []
            number = free[0][0]
            db.executemany("UPDATE waiting SET batch = ? WHERE id = ?", [(number, row[0]) for row in free])
            return number, [row[1] for row in free]

    def finish_tracks(
        self,
        topic: str,
        number: int,
        rows: Iterable[tuple[str, str, list[Any]]],
        described: Sequence[str] = (),
    ) -> None:
        """Write a batch's rows into the journal and remove it from the queue."""
        with self._transaction() as db:
            for origin, part, values in rows:
                self._write_journal(origin, part, values)
            self._mark_described(described)
            db.execute("DELETE FROM waiting WHERE topic = ? AND batch = ?", (topic, number))

    def _mark_described(self, track_ids: Sequence[str]) -> None:
        self._db.executemany(
            "UPDATE tracks SET described = ? WHERE track_id = ?", [(self.day, one) for one in track_ids]
        )

    # --- answers of the day ---

    def answer(self, request: bytes) -> tuple[int, bytes] | None:
        """Status and body of the stored answer to this request of today, or None."""
        rows = self._all("SELECT status, body FROM answers WHERE day = ? AND request = ?", self.day, request)
        return (rows[0][0], zlib.decompress(rows[0][1])) if rows else None

    def keep_answer(self, request: bytes, status: int, body: bytes) -> None:
        """Store the answer to this request for today, unless it names a forgotten user."""
        if self._tombstones.named_in(body):
            return
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                (self.day, request, status, zlib.compress(body, 1)),
            )

    # --- spending and waiting ---

    def spend(self, what: str, most: int) -> bool:
        """Count one request against the day's budget; False, without counting, if ``most`` are spent."""
        with self._transaction():
            if self.spent(what) >= most:
                return False
            self._spend_one(what)
            return True

    def spent(self, what: str) -> int:
        """How many were counted on this day."""
        rows = self._all("SELECT count FROM spending WHERE day = ? AND what = ?", self.day, what)
        return int(rows[0][0]) if rows else 0

    def _spend_one(self, what: str) -> None:
        self._db.execute(
            "INSERT INTO spending VALUES (?, ?, 1) ON CONFLICT (day, what) DO UPDATE SET count = count + 1",
            (self.day, what),
        )

    def not_before(self, api: str) -> datetime | None:
        """The time before which this API wants no requests, or None."""
        rows = self._all("SELECT value FROM facts WHERE name = ?", f"not before: {api}")
        return datetime.fromtimestamp(float(rows[0][0]), UTC) if rows else None

    def keep_not_before(self, api: str, until: datetime) -> None:
        with self._transaction() as db:
            values = (f"not before: {api}", str(until.timestamp()))
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)

    # --- the journal ---

    def _write_journal(self, source: str, part: str, rows: list[Any]) -> None:
        if rows:
            self._db.execute(
                "INSERT INTO journal (day, source, part, rows) VALUES (?, ?, ?, ?)",
                (self.day, source, part, _packed(rows)),
            )

    def journal_length(self) -> int:
        """How many entries are not in a raw batch yet."""
        return int(self._all("SELECT count(*) FROM journal")[0][0])

    def empty_journal(
        self, write: Callable[[date, str, dict[str, list[list[Any]]], Counter[str]], None]
    ) -> None:
        """Pass the journal to ``write``, by day and source, and delete what is written.

        ``write`` gets the rows of each part (users, likes, tracks, features) in the order of their columns,
        and the counts. It has to be deterministic.
        """
        while (bound := self._journal_bound()) is not None:
            pairs = self._all("SELECT DISTINCT day, source FROM journal WHERE id <= ? ORDER BY 1, 2", bound)
            for day, source in pairs:
                parts: dict[str, list[list[Any]]] = {}
                counts: Counter[str] = Counter()
                for part, body in self._all(
                    "SELECT part, rows FROM journal WHERE id <= ? AND day = ? AND source = ? ORDER BY id",
                    bound,
                    day,
                    source,
                ):
                    rows = _unpacked(body)
                    if part == "counts":
                        counts.update(dict(rows))
                    else:
                        parts.setdefault(part, []).extend(rows)
                write(date.fromisoformat(day), source, parts, counts)
            with self._transaction() as db:
                db.execute("DELETE FROM journal WHERE id <= ?", (bound,))
                db.execute("DELETE FROM facts WHERE name = 'emptying the journal up to'")

    def _journal_bound(self) -> int | None:
        """The last entry to write now: that of an interrupted run, else the last one there is."""
        with self._transaction() as db:
            started = db.execute(
                "SELECT value FROM facts WHERE name = 'emptying the journal up to'"
            ).fetchone()
            if started:
                return int(started[0])
            (last,) = db.execute("SELECT max(id) FROM journal").fetchone()
            if last is not None:
                db.execute("INSERT INTO facts VALUES ('emptying the journal up to', ?)", (str(last),))
            return None if last is None else int(last)


@contextmanager
def _maintenance(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction on a frontier's file that no crawl has open; what it deletes is overwritten. Raises
    LakeError if the file cannot be used."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA temp_store = MEMORY")
            _prepare(db, datetime.now(UTC).date().isoformat())
            db.execute("BEGIN IMMEDIATE")
            yield db
    except (sqlite3.Error, OSError, ValueError, zlib.error) as error:
        raise _unusable(path, error) from error


def expire(path: Path, source: str, before: Mapping[str, date]) -> int:
    """Remove what is older than the days in ``before``, by source, from the file of ``source``.

    That is users and tracks that the source has not named since, its answers, and journal rows, also of
    feature providers. A removed user counts as new when found again. Only while no crawl is running. Returns
    the number of removed entries; raises LakeError if the file cannot be used.
    """
    gone = 0
    with _maintenance(path) as db:
        if source in before:
            day = before[source].isoformat()
            db.execute(
                "UPDATE users SET discovered_from = NULL"
                " WHERE discovered_from IN (SELECT user_id FROM users WHERE met < ?)",
                (day,),
            )
            # A track described since was named since.
            for query in (
                "DELETE FROM users WHERE met < ?1",
                "DELETE FROM tracks WHERE met < ?1 AND (described IS NULL OR described < ?1)",
                "DELETE FROM answers WHERE day < ?1",
            ):
                gone += db.execute(query, (day,)).rowcount
            db.execute("DELETE FROM waiting WHERE track_id NOT IN (SELECT track_id FROM tracks)")
        for name, bound in before.items():
            gone += db.execute(
                "DELETE FROM journal WHERE source = ? AND day < ?", (name, bound.isoformat())
            ).rowcount
        db.execute("COMMIT")
        if gone:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return gone


def take_users_out(path: Path, user_ids: Collection[str]) -> Counter[str]:
    """Remove every trace of these users from a frontier's file; returns how often it named each of them.

    All answers of the day are deleted, since one may be about a user without naming them; those still needed
    are requested again. The file is then rewritten, so that no page or log keeps an id. Only while no crawl
    is running. Raises LakeError if the file cannot be used.
    """
    gone = {form for user_id in user_ids for form in forms_of(user_id)}
    named: Counter[str] = Counter()
    with _maintenance(path) as db:
        db.execute("CREATE TEMP TABLE gone (user_id TEXT PRIMARY KEY) WITHOUT ROWID")
        db.executemany("INSERT INTO gone VALUES (?)", [(user_id,) for user_id in gone])
        for column in ("user_id", "discovered_from"):
            named.update(
                composed(user_id)
                for (user_id,) in db.execute(
                    f"SELECT {column} FROM users WHERE {column} IN (SELECT user_id FROM gone)"  # noqa: S608
                )
            )
        db.execute("DELETE FROM users WHERE user_id IN (SELECT user_id FROM gone)")
        db.execute(
            "UPDATE users SET discovered_from = NULL WHERE discovered_from IN (SELECT user_id FROM gone)"
        )
        for entry, part, body in db.execute(
            "SELECT id, part, rows FROM journal WHERE part IN ('users', 'likes')"
        ).fetchall():
            rows = _unpacked(body)
            if met := [value for row in rows for value in row[:2] if value in gone]:
                named.update(map(composed, met))
                kept = _rows_without(gone, part, rows)
                db.execute("UPDATE journal SET rows = ? WHERE id = ?", (_packed(kept), entry))
        db.execute("DELETE FROM answers")
        db.execute("COMMIT")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return named


def _rows_without(gone: set[str], part: str, rows: list[list[Any]]) -> list[list[Any]]:
    """Journal rows without these users. The second value of a row is who led to a user, or a like's track."""
    return [
        [row[0], None, *row[2:]] if part == "users" and row[1] in gone else row
        for row in rows
        if row[0] not in gone
    ]


def _packed(rows: list[Any]) -> bytes:
    return zlib.compress(json.dumps(rows, ensure_ascii=False).encode(), 1)


def _unpacked(body: bytes) -> list[Any]:
    rows: list[Any] = json.loads(zlib.decompress(body))
    return rows


def crawl_summary(path: Path) -> tuple[dict[str, int], datetime | None]:
    """Users by state, and the latest time until which a service asked to wait. Only reads the file."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            states = dict(db.execute("SELECT state, count(*) FROM users GROUP BY state ORDER BY state"))
            waits = db.execute("SELECT value FROM facts WHERE name LIKE 'not before: %'").fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    moments = [datetime.fromtimestamp(float(value), UTC) for (value,) in waits]
    return states, max(moments, default=None)


def _prepare(db: sqlite3.Connection, day: str) -> None:
    """Create missing tables and columns. What an older file holds counts as named on ``day``."""
    db.executescript(_SCHEMA)
    for table in ("users", "tracks"):
        if "met" not in {column[1] for column in db.execute(f"PRAGMA table_info({table})")}:
            db.execute(f"ALTER TABLE {table} ADD COLUMN met TEXT NOT NULL DEFAULT '{day}'")


def _unusable(path: Path, error: Exception) -> LakeError:
    full = "full" in str(error)
    what = "free some space and run it again" if full else "remove it to start the crawl from the beginning"
    return LakeError(f"{path} cannot be used ({error}); {what}")
