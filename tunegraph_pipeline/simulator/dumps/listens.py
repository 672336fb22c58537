"""Who listens to what, and when: the listens of the invented dumps, in any amount and bounded memory.

Here: the settings, the listeners and their tastes, and the listens of a *stretch* of time, drawn from a
generator of its own. So any stretch can be asked for, in any order, and is the same each time. Not here:
songs (`songs`), or which listens are in which dump (`archives`).

Listeners have scenes, favourites that stay and favourites that change. Half of the time they play something
else: of their scenes, or whatever runs, such as the radio, which says nothing of their taste. So one listener
plays a song two to three times on average in three months; in a collection from Last.fm it is 3.4 times over
years (LFM-1b, Schedl 2016).
Bots and shared accounts play far more than a person can. Late listens are those of people who bring a history
from elsewhere: submitted on one day, played in any month since 2005. Listens begin at odd seconds, late ones
at even ones, so that none occurs twice.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.draws import SECONDS_PER_DAY, Bools, Floats, Ints, Shelf, key_of, pick
from tunegraph_pipeline.simulator.dumps.songs import Songs, make_songs
from tunegraph_pipeline.simulator.genres import SCENES, scene_affinity

FOREVER = np.iinfo(np.int64).max
"""When a listen that stays is deleted, in milliseconds."""
OLDEST = date(2005, 1, 1)
"""The day of the first listen."""
_MEDIAN, _SPREAD = 23.0, 1.249  # of the listens of a user on a day: log-normal, its 90th percentile is 114
_SPREAD_BETWEEN_USERS = 0.8
_MEAN = _MEDIAN * float(np.exp(_SPREAD**2 / 2))
_MOST = 900  # that a person plays on a day
_SCENE_SHARES = (0.6, 0.25, 0.15)  # of a listener's taste
_HITS = 0.25  # of favourites: what everybody hears, whatever the scene
_STAYING, _CHANGING = 0.3, 0.2  # of plays: favourites that stay, and those that change
_WHAT_RUNS = 0.5  # of the others: of any scene


class ListensConfig(BaseModel, frozen=True, extra="forbid"):
    """Seed, size and dates. The default has 30 million listens in the three months before its first full
    export.

    Sizes are means; shares are from 0 to 1.
    """

    seed: int = 7
    n_users: int = Field(default=30_000, ge=1)
    n_songs: int = Field(default=250_000, ge=1, description="other recordings of them come on top")
    start: date = Field(default=date(2026, 6, 1), description="the first day on which everybody listens")
    first_full: date = Field(default=date(2026, 9, 1), description="of the first full export")
    full_days: tuple[int, ...] = Field(default=(1, 15), description="days of a month with a full export")
    listens_a_day: int = Field(default=280_000, ge=1, description="of people, from the start on")
    history: int = Field(default=300_000, ge=0, description="listens from before the start")
    late_share: float = Field(
        default=0.68,
        ge=0,
        lt=1,
        description="of a day's submissions, from the first full export on: of any month",
    )
    mapped_share: float = Field(default=0.74, ge=0, le=1, description="of listens with a recording's id")
    deleted_share: float = Field(default=0.003, ge=0, le=1, description="of listens, within some weeks")
    bots: int = Field(default=3, ge=0)
    bot_listens: int = Field(default=12_000, ge=1, description="of a bot on a day, at least")
    shared_accounts: int = Field(default=10, ge=0)
    shared_listens: int = Field(default=1_200, ge=1, description="of a shared account on a day, at least")
    member_rows: int = Field(default=1_680_000, ge=1, description="of a file of a dump")
    row_group_rows: int = Field(default=1_048_576, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not OLDEST < self.start < self.first_full:
            raise ValueError(f"the dates must be in this order: {OLDEST}, start, first_full")
        if self.first_full.day not in self.full_days:
            raise ValueError("first_full must be one of the full_days of its month")
        if self.listens_a_day > 0.8 * _MEAN * self.n_users:
            raise ValueError(f"listens_a_day may be {int(0.8 * _MEAN)} for each of n_users at most")
        if self.bots + self.shared_accounts >= self.n_users:
            raise ValueError("bots and shared_accounts must be fewer than n_users")
        return self


def config_of_size(n_users: int, n_songs: int, seed: int, day: date) -> ListensConfig:
    """A config in proportion to its users, with three months of listens before the newest full export by
    ``day``.

    Raises InputError for a day before 2006.
    """
    first_full = day.replace(day=15 if day.day >= 15 else 1)
    if first_full.year < 2006:
        raise InputError(f"there are no dumps of {day}; ask for a day from 2006 on")
    return ListensConfig(
        seed=seed,
        n_users=n_users,
        n_songs=n_songs,
        start=first_full - timedelta(days=92),
        first_full=first_full,
        listens_a_day=11 * n_users,
        history=10 * n_users,
        bots=n_users // 10_000,
        shared_accounts=n_users // 2_000,
    )


@dataclass(frozen=True)
class Listens:
    """Some listens; arrays over them. Times are in UTC, from 1970 on."""

    user: Ints  # the place in `ListenWorld.user_ids`
    writing: Ints  # the number of the writing
    at: Ints  # seconds: played
    created: Ints  # milliseconds: submitted
    deleted: Ints  # milliseconds, FOREVER if it stays

    def where(self, kept: Bools | Ints) -> "Listens":
        """Those that ``kept`` marks, or in its order."""
        return Listens(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


def together(parts: list[Listens]) -> Listens:
    """All listens of ``parts``, one after the other; there must be one part at least."""
    return Listens(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Listens.__dataclass_fields__)
    )


@dataclass(frozen=True)
class _People:
    user_ids: Ints  # ascending
    active: Floats  # the probability of listening on a day
    amount: Floats  # a factor of the listens of a day
    hour: Floats  # seconds into the day around which they listen
    scenes: Ints  # (users, 3)
    size: Ints  # favourites of each of the two sorts
    first: Ints  # of their favourites
    favourites: Ints  # recordings, of all users
    pace: Floats  # new favourites a day
    gone: Ints  # milliseconds: the account and its listens are deleted
    varied: Bools  # whether they play other songs than their favourites
    bots: Ints  # users
    shared: Ints  # users


def seconds(day: date) -> int:
    """The beginning of a day in seconds since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


@cache
def _stretches(start: date, end: date) -> tuple[tuple[date, date], ...]:
    found = []
    first = OLDEST
    while first < end:
        next_year = min(date(first.year + 1, 1, 1), start)
        after = first + timedelta(days=1) if first >= start else next_year
        found.append((first, after))
        first = after
    return tuple(found)


class ListenWorld:
    """Songs, listeners and listens, the same for the same config. Each part is made on first use.

    >>> config = ListensConfig(n_users=50, n_songs=100, listens_a_day=200, bots=0, shared_accounts=0)
    >>> len(ListenWorld(config).of_day(date(2026, 6, 1)).at) > 20
    True
    """

    def __init__(self, config: ListensConfig | None = None) -> None:
        self.config = config or ListensConfig()

    @cached_property
    def songs(self) -> Songs:
        """Recordings and writings; `Songs.truth` says which track ids are one recording."""
        config = self.config
        return make_songs(config.n_songs, config.start, config.seed, config.mapped_share)

    @property
    def user_ids(self) -> Ints:
        """ListenBrainz's numbers of the users."""
        return self._people.user_ids

    @property
    def bots(self) -> list[int]:
        """The numbers of the bots."""
        return list(map(int, self._people.user_ids[self._people.bots]))

    @property
    def shared_accounts(self) -> list[int]:
        """The numbers of the accounts that many people use."""
        return list(map(int, self._people.user_ids[self._people.shared]))

    def stretches(self, end: date) -> tuple[tuple[date, date], ...]:
        """The stretches of time from `OLDEST` to ``end``, as (first day, day after): years before the start,
        days from then on."""
        return _stretches(self.config.start, end)

    def of_day(self, day: date) -> Listens:
        """What is played on a day from the start on, and submitted soon after; in no order."""
        rng = self._generator("day", day)
        people, config = self._people, self.config
        active = np.flatnonzero(rng.random(len(people.active)) < people.active)
        spread = np.sqrt(_SPREAD**2 - _SPREAD_BETWEEN_USERS**2)
        amount = _MEDIAN * people.amount[active] * rng.lognormal(0, spread, len(active))
        counts = np.clip(np.rint(amount), 1, _MOST).astype(np.int64)
        many = np.concatenate(
            [
                config.shared_listens * rng.lognormal(0.3, 0.2, len(people.shared)).clip(1),
                config.bot_listens * rng.lognormal(0.3, 0.3, len(people.bots)).clip(1),
            ]
        ).astype(np.int64)
        user = np.repeat(np.concatenate([active, people.shared, people.bots]), np.concatenate([counts, many]))
        n = len(user)
        person = np.arange(n) < counts.sum()
        into = np.where(person, people.hour[user] + rng.normal(0, 10_000, n), rng.random(n) * SECONDS_PER_DAY)
        into = into.astype(np.int64) % SECONDS_PER_DAY | 1
        played = self._taken_once(user, into)
        user, into = user[played], into[played]
        day_number = (day - config.start).days
        return self._listens(rng, user, seconds(day) + into, np.full(len(user), day_number))

    def of_history(self, first: date, after: date) -> Listens:
        """What was played from ``first`` to the day before ``after``, a stretch before the start."""
        years = self.stretches(self.config.start)
        n = self._counts(self.config.history, np.arange(1.0, len(years) + 1))[years.index((first, after))]
        rng = self._generator("history", first)
        user = rng.choice(len(self._people.active), int(n), p=self._people.active / self._people.active.sum())
        at = rng.integers(seconds(first), seconds(after), int(n)) | 1
        kept = self._taken_once(user, at)
        user, at = user[kept], at[kept]
        return self._listens(rng, user, at, (at - seconds(self.config.start)) // SECONDS_PER_DAY)

    def of_import(self, submitted: date, first: date, after: date) -> Listens:
        """What people submitted on one day and played in one of the stretches before it."""
        rng = self._generator("import", submitted)
        stretches = self.stretches(submitted)
        days = sum(day >= self.config.start for day, _ in stretches)
        weights = np.arange(1.0, len(stretches) + 1)
        weights[len(stretches) - days :] *= 0.1 * (len(stretches) - days) / max(days, 1)
        share = self.config.late_share
        all_late = round(self.config.listens_a_day * share / (1 - share))
        n = int(self._counts(all_late, weights)[stretches.index((first, after))])
        of_day = (submitted - self.config.first_full).days
        people = len(self._people.active)
        each = max(people // 500, 1)
        importers = self._order[(of_day * each + np.arange(each)) % people]
        importance = rng.lognormal(0, 1, each)
        rng = self._generator("import", submitted, first)
        user = rng.choice(importers, n, p=importance / importance.sum())
        at = rng.integers(seconds(first) // 2, seconds(after) // 2, n) * 2
        kept = self._taken_once(user, at)
        user, at = user[kept], at[kept]
        created = seconds(submitted) * 1000 + rng.integers(10_000, SECONDS_PER_DAY * 1000, len(user))
        numbers = (at - seconds(self.config.start)) // SECONDS_PER_DAY
        return self._listens(rng, user, at, numbers, created)

    def _listens(
        self, rng: np.random.Generator, user: Ints, at: Ints, day: Ints, created: Ints | None = None
    ) -> Listens:
        people = self._people
        n = len(user)
        delay = rng.integers(30_000, 300_000, n)
        slow = np.flatnonzero(rng.random(n) < 0.02)  # players that were offline
        delay[slow] = (rng.random(len(slow)) * 2.9 * SECONDS_PER_DAY * 1000).astype(np.int64)
        created = at * 1000 + delay if created is None else created
        unwanted = rng.random(n) < self.config.deleted_share
        later = created + (rng.random(n) * 20 * SECONDS_PER_DAY * 1000).astype(np.int64)
        deleted = np.minimum(np.where(unwanted, later, FOREVER), people.gone[user])
        recording = self._recordings(rng, user, day)
        listens = Listens(user, self._writing(user, recording), at, created, deleted)
        return listens.where(created < people.gone[user])

    def _recordings(self, rng: np.random.Generator, user: Ints, day: Ints) -> Ints:
        """What each of the users plays."""
        people = self._people
        n = len(user)
        size = people.size[user]
        # Log-uniform: a favourite of rank r is played 1 / r as often as the first.
        rank = np.exp(rng.random(n) * np.log(size + 1)).astype(np.int64) - 1
        rank = np.minimum(rank, size - 1)
        newest = np.floor(day * people.pace[user]).astype(np.int64)
        mood = rng.random(n)
        place = np.where(mood < _STAYING, rank, size + (newest - rank) % size)
        chosen = people.favourites[people.first[user] + place]
        other = np.flatnonzero((mood > _STAYING + _CHANGING) & people.varied[user])
        shares = np.searchsorted(np.cumsum(_SCENE_SHARES[:-1]), rng.random(len(other)))
        scene = people.scenes[user[other], shares]
        runs = np.flatnonzero(rng.random(len(other)) < _WHAT_RUNS)
        scene[runs] = rng.choice(len(SCENES), len(runs), p=self._scene_share())
        found = self._shelf.draw(rng, scene, 0)
        chosen[other] = np.where(found >= 0, found, chosen[other])
        return chosen

    def _writing(self, user: Ints, recording: Ints) -> Ints:
        """How each user writes each recording: always the same way."""
        mixed = (user * len(self.songs.weight) + recording).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        aim = recording + (mixed >> np.uint64(40)).astype(np.float64) / 2**24 * (1 - 1e-6)
        found: Ints = np.searchsorted(self.songs.until, aim, side="right")
        return np.clip(found, self.songs.first[recording], self.songs.first[recording + 1] - 1)

    @cached_property
    def _order(self) -> Ints:
        """The users in the order in which they bring their history."""
        return self._generator("order").permutation(self.config.n_users)

    @cached_property
    def _shelf(self) -> Shelf:
        return Shelf(self.songs.scene, np.zeros(len(self.songs.scene), np.int64), self.songs.weight)

    @cached_property
    def _people(self) -> _People:
        config = self.config
        rng = self._generator("people")
        n = config.n_users
        special = config.bots + config.shared_accounts
        chosen = rng.permutation(n)[:special]
        bots, shared = chosen[: config.bots], chosen[config.bots :]
        active = rng.gamma(0.9, 1.0, n)
        active[chosen] = 0
        for _ in range(20):
            active = np.minimum(active * (config.listens_a_day / _MEAN) / active.sum(), 0.97)
        scene_share = self._scene_share()
        scenes = np.stack([rng.choice(len(SCENES), n, p=scene_share)] * 3, axis=1)
        affinity = scene_affinity()
        for place in (1, 2):
            scenes[:, place] = pick(rng, affinity[scenes[:, 0]] * (scene_share > 0))
        size = np.clip(60 * rng.lognormal(0, 0.7, n), 8, 400).astype(np.int64)
        size[shared] = 600
        size[bots] = 25
        first = np.concatenate([[0], np.cumsum(2 * size)])
        of = np.repeat(np.arange(n), 2 * size)
        which = np.searchsorted(np.cumsum(_SCENE_SHARES[:-1]), rng.random(len(of)))
        scene = scenes[of, which]
        anywhere = np.flatnonzero(np.isin(of, shared))
        scene[anywhere] = rng.choice(len(SCENES), len(anywhere), p=scene_share)
        favourites = self._shelf.draw(rng, scene, 0)
        # Also where a scene has no songs.
        hits = np.flatnonzero((rng.random(len(of)) < _HITS) | (favourites < 0))
        weight = self.songs.weight
        favourites[hits] = rng.choice(len(weight), len(hits), p=weight / weight.sum())
        leaves = np.flatnonzero(rng.random(n) < 0.004)
        gone = np.full(n, FOREVER)
        gone[leaves] = seconds(config.start) * 1000 + rng.integers(
            0, 180 * SECONDS_PER_DAY * 1000, len(leaves)
        )
        return _People(
            user_ids=np.cumsum(rng.integers(1, 4, n)),
            active=active,
            amount=rng.lognormal(0, _SPREAD_BETWEEN_USERS, n),
            hour=rng.normal(18 * 3600, 10_000, n),
            scenes=scenes,
            size=size,
            first=first[:-1],
            favourites=favourites,
            pace=rng.lognormal(-1.5, 0.6, n),
            gone=gone,
            varied=~np.isin(np.arange(n), bots),
            bots=bots,
            shared=shared,
        )

    def _scene_share(self) -> Floats:
        """How many of all people are of each scene that has songs."""
        weight = np.bincount(self.songs.scene, self.songs.weight, len(SCENES))
        share: Floats = weight / weight.sum()
        return share

    def _counts(self, n: int, weights: Floats) -> Ints:
        """``n`` in proportion to the weights, as whole numbers."""
        ends = np.rint(np.cumsum(weights) / weights.sum() * n).astype(np.int64)
        counts: Ints = np.diff(ends, prepend=0)
        return counts

    def _taken_once(self, user: Ints, at: Ints) -> NDArray[np.int64]:
        """The places at which a user has not yet played something at the same second."""
        key = user * 2**33 + at
        return np.sort(np.unique(key, return_index=True)[1])

    def _generator(self, *purpose: object) -> np.random.Generator:
        sizes = self.config.model_dump_json(include={"seed", "n_users", "n_songs", "start", "listens_a_day"})
        return np.random.default_rng(np.frombuffer(key_of(sizes, *purpose), np.uint32))
