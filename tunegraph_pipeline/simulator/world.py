"""A music world to learn from where no real likes are at hand: a pure function of seed, size and date.

Here: the world's songs, listeners and likes, and what a crawl of it sees on a day. The genres are a table in
`music_genres.py`, the words in `music_names.py`. Nothing is read from or written to a disk.

How it works. Songs belong to artists, artists to scenes, scenes to genres; popularity has a long tail at
each of these levels. A listener has a few *interests*, each a scene with some favourite artists, which wax
and wane with the years, and which are also their playlists: taste drifts without anyone's list being
rewritten. All events of a listener's life are drawn once, from generators keyed by seed and purpose; a day
is then only a filter on their times. So any day may be asked for, in any order, and a later day agrees
with an earlier one.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from math import ceil

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.simulator.genres import GENRES, SCENE_GENRE, SCENES, scene_affinity
from tunegraph_pipeline.simulator.names import (
    Dice,
    Songbook,
    artist_name,
    playlist_name,
    song_title,
    user_handle,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Strings = NDArray[np.str_]

_SECONDS = 86_400
_NEVER = 4_000_000  # a day beyond the calendar's last
_AFTER_A_YEAR = 0.8  # share of all users and songs there will ever be that are there after the first year
_INTERESTS = 5  # at most, of one listener
_FAVOURITES = 4  # artists of one interest
_START_USERS = 5
_LISTENERS = (1.25, 0.9, 0.55)  # exponents of popularity: follows the charts, in between, digs deep


class WorldConfig(BaseModel, frozen=True):
    """Seed and size of a world. Sizes are those one year after ``start``; it goes on growing, ever slower."""

    seed: int = 7
    n_users: int = Field(default=2_000, ge=1, description="listeners who have joined after the first year")
    n_tracks: int = Field(default=4_000, ge=1, description="songs released by the end of the first year")
    likes_per_user: float = Field(default=46.0, gt=0, description="about the mean length of a list by then")
    start: date = Field(default=date(2026, 1, 1), description="the first day that may be asked for")
    twins: float = Field(
        default=0.0, ge=0, le=1, description="share of songs released twice: two ids, one recording code"
    )


@dataclass(frozen=True)
class Playlist:
    """A playlist as its owner's page shows it; ``track_ids`` in the order in which they were added.

    ``added_at`` has the time of each in seconds since 1970.
    """

    playlist_id: str
    name: str
    owner_id: str
    track_ids: list[str]
    added_at: list[int]


@dataclass(frozen=True)
class Song:
    """What there is to know of a song under one of its ids.

    ``recording_id`` is the same for both ids of a song that was released twice. ``features`` are there for
    every song, by name, None where undetected; ``measured`` says whether the provider knows them.
    """

    track_id: str
    recording_id: str
    isrc: str
    name: str
    artists: list[str]
    artist_ids: list[str]
    album_id: str
    album: str
    genre: str
    released: date
    duration_ms: int
    explicit: bool
    features: dict[str, float | None]
    measured: bool


@dataclass(frozen=True)
class _Catalogue:
    """All songs there will ever be; arrays over tracks unless they say artist. Days count from the start."""

    track_ids: Strings
    artist_ids: Strings  # over artists
    album_ids: Strings  # over tracks, repeated within an album
    artist: Ints
    guest: Ints  # the second artist, -1 for none
    album: Ints
    scene: Ints
    artist_scene: Ints  # over artists
    artist_weight: Floats  # over artists
    released: Ints
    weight: Floats  # popularity, not normalised
    explicit: Bools
    duration_ms: Ints
    isrc: list[str]
    features: NDArray[np.float32]  # (tracks, 11), NaN where not measured
    measured: Bools  # whether the provider knows the track at all


@dataclass(frozen=True)
class _Population:
    """All listeners there will ever be, in the order of joining, and who follows whom."""

    user_ids: list[str]
    joined: Ints  # day
    gone: Ints  # day from which the account is gone
    private: Bools
    pace: Floats  # days in which about two thirds of a listener's likes are made
    listener: Ints  # index into _LISTENERS
    scenes: Ints  # (users, interests)
    strength: Floats  # (users, interests), 0 where there is none
    peak: Floats  # (users, interests), when an interest is strongest, in units of pace
    favourites: Ints  # (users, interests, favourites): artists
    follower: Ints  # over follows: ascending, each one's follows in the order of time
    followed: Ints
    followed_on: Ints  # day


@dataclass(frozen=True)
class _Likes:
    """Every like that will ever be made, a user's together and in the order of time."""

    user: Ints
    track: Ints
    interest: Ints  # the playlist it went into
    at: Ints  # seconds from the start
    undone: Ints  # second from which it is liked no more


@dataclass(frozen=True)
class _Releases:
    """Every id a track may have: first one for each song, then the second ids; arrays over ids."""

    track_ids: Strings
    album_ids: Strings
    song: Ints
    measured: Bools
    second: Ints  # over songs: the index here of the second id, -1 for none


class _Shelf:
    """Weighted draws from the members of a group that are there by a day.

    Members lie sorted by group and day under one running sum of weights, so that "this scene's songs of the
    last ninety days" is an interval of it and a draw two binary searches.
    """

    def __init__(self, group: Ints, day: Ints, weight: Floats) -> None:
        self._first = int(day.min())
        self._span = int(day.max()) - self._first + 2
        self._order = np.lexsort((day, group))
        self._place = group[self._order] * self._span + (day[self._order] - self._first)
        self._sum = np.concatenate([[0.0], np.cumsum(weight[self._order])])

    def draw(
        self, rng: np.random.Generator, group: ArrayLike, until: ArrayLike, since: ArrayLike | None = None
    ) -> Ints:
        """One member for each entry of ``group``, of those with ``since`` <= day <= ``until``; -1 if none."""
        base = np.asarray(group, np.int64) * self._span
        last = np.clip(np.asarray(until, np.int64) - self._first, -1, self._span - 2)
        first = 0 if since is None else np.clip(np.asarray(since, np.int64) - self._first, 0, self._span - 1)
        low = np.searchsorted(self._place, base + first)
        high = np.maximum(np.searchsorted(self._place, base + last, side="right"), low)
        aim = self._sum[low] + rng.random(base.shape) * (self._sum[high] - self._sum[low])
        found = np.clip(np.searchsorted(self._sum, aim, side="right") - 1, low, np.maximum(high - 1, low))
        found = np.minimum(found, len(self._order) - 1)
        return np.where(high > low, self._order[found], -1)


def _key(*parts: object) -> bytes:
    return hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=16).digest()


def _opaque_ids(rng: np.random.Generator, n: int) -> Strings:
    """``n`` ids of 22 base-62 characters, as music services give them."""
    letters = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
    codes = rng.integers(0, 62, (n, 22))
    codes[:, 0] %= 8  # 128 bits do not fill 22 characters
    return np.ascontiguousarray(letters[codes]).view("S22")[:, 0].astype(np.str_)


def _growth(quantile: Floats, before: float, years: float, bend: float) -> Floats:
    """Days from the start at which a share ``quantile`` of all there will ever be is there.

    The share ``before`` came in the ``years`` before the start, ever faster by ``bend``; up to
    `_AFTER_A_YEAR` evenly in the first year; the rest goes on at that pace and tires out.
    """
    past = -365.0 * years * (1 - np.minimum(quantile / before, 1)) ** bend
    first_year = 365.0 * (quantile - before) / (_AFTER_A_YEAR - before)
    left = 1 - _AFTER_A_YEAR
    rest = np.clip((quantile - _AFTER_A_YEAR) / left, 0, 1 - 1e-9)
    later = 365.0 - 365.0 * left / (_AFTER_A_YEAR - before) * np.log1p(-rest)
    return np.where(quantile < before, past, np.where(quantile < _AFTER_A_YEAR, first_year, later))


def _rank_within(group: Ints, rng: np.random.Generator) -> Ints:
    """A random rank, from 1, of each entry among those of its group."""
    order = np.lexsort((rng.random(len(group)), group))
    ordered = group[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(group)))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, sizes) + 1
    return rank


def _pick(rng: np.random.Generator, weights: Floats) -> Ints:
    """A column for each row of ``weights`` (rows, columns), in proportion."""
    sums = np.cumsum(weights, axis=1)
    aim = rng.random(len(weights)) * sums[:, -1]
    chosen: Ints = np.minimum((sums <= aim[:, None]).sum(axis=1), weights.shape[1] - 1)
    return chosen


def _make_catalogue(config: WorldConfig, rng: np.random.Generator) -> _Catalogue:
    n = ceil(config.n_tracks / _AFTER_A_YEAR)

    # Albums: a third are singles; cut to n songs in all.
    sizes = np.where(rng.random(n) < 0.35, 1, rng.integers(4, 14, n))
    n_albums = int(np.searchsorted(np.cumsum(sizes), n)) + 1
    album = np.repeat(np.arange(n_albums), sizes[:n_albums])[:n]

    # Artists: every one has an album, some have many. The first of a scene are no different from others.
    n_artists = max(1, round(n_albums * 0.6))
    scene_share = np.array([GENRES[genre].share for genre in SCENE_GENRE]) * rng.lognormal(
        0, 0.35, len(SCENES)
    )
    scene = rng.choice(len(SCENES), n_artists, p=scene_share / scene_share.sum())
    fame = _rank_within(scene, rng) ** -0.8 * rng.lognormal(0, 0.5, n_artists)
    album_artist = np.concatenate(
        [np.arange(n_artists), rng.choice(n_artists, n_albums - n_artists, p=fame**0.6 / (fame**0.6).sum())]
    )[rng.permutation(n_albums)]

    # A career is a stretch of the world's history; one album in five comes from anywhere in it.
    career = rng.random(n_artists)[album_artist] + rng.normal(0, 0.07, n_albums)
    career = np.abs(np.where(rng.random(n_albums) < 0.2, rng.random(n_albums), career))
    career = np.where(career > 1, 2 - career, career)
    ranks = (np.argsort(np.argsort(career)) + rng.random(n_albums)) / n_albums
    album_day = np.floor(_growth(ranks, 0.7, 45, 2.1)).astype(np.int64)
    album_day -= (album_day + config.start.weekday() - 4) % 7  # records come out on Fridays

    artist = album_artist[album]
    released = album_day[album]
    genre = SCENE_GENRE[scene[artist]]
    weight = (
        (scene_share / scene_share.mean())[scene[artist]]
        * fame[artist]
        * _rank_within(artist, rng) ** -0.9
        * rng.lognormal(0, 0.7, n)
    )

    guests = _Shelf(scene, np.zeros(n_artists, np.int64), fame)
    guest_scene = _pick(rng, scene_affinity()[scene[artist]] + 0.8 * np.eye(len(SCENES))[scene[artist]])
    guest = guests.draw(rng, guest_scene, 0)
    featuring = np.array([0.30 if g.explicit > 0.15 else 0.06 for g in GENRES])[genre]
    guest = np.where((rng.random(n) < featuring) & (guest != artist), guest, -1)

    def centre(name: str) -> Floats:
        values: Floats = np.array([getattr(g, name) for g in GENRES], float)[genre]
        return values

    explicit = (rng.random(n_albums)[album] * 0.6 + rng.random(n) * 0.4) < centre("explicit")
    minutes = centre("minutes") * rng.lognormal(0, 0.12, n_artists)[artist] * rng.lognormal(0, 0.17, n)
    duration_ms = (np.maximum(minutes, 0.8) * 60_000).astype(np.int64)

    label = rng.integers(0, 36**3, n_artists)[artist]
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    year = (np.datetime64(config.start, "D") + released).astype("datetime64[Y]").astype(np.int64) + 1970
    # XT is a country code nobody has, so no real recording is meant.
    isrc = [
        f"XT{letters[a // 1296]}{letters[a // 36 % 36]}{letters[a % 36]}{y % 100:02d}{i % 100_000:05d}"
        for i, (a, y) in enumerate(zip(label.tolist(), year.tolist(), strict=True))
    ]

    features, measured = _make_features(rng, scene, artist, album, genre, n_albums)
    return _Catalogue(
        track_ids=_opaque_ids(rng, n),
        artist_ids=_opaque_ids(rng, n_artists),
        album_ids=_opaque_ids(rng, n_albums)[album],
        artist=artist,
        guest=guest,
        album=album,
        scene=scene[artist],
        artist_scene=scene,
        artist_weight=fame,
        released=released,
        weight=weight,
        explicit=explicit,
        duration_ms=duration_ms,
        isrc=isrc,
        features=features,
        measured=measured,
    )


def _make_features(
    rng: np.random.Generator, scene: Ints, artist: Ints, album: Ints, genre: Ints, n_albums: int
) -> tuple[NDArray[np.float32], Bools]:
    """The 11 features: genre, then scene, artist, album and song each move a song a little."""
    n = len(artist)

    def moved(name: str, by_song: float) -> Floats:
        centre = np.array([getattr(g, name) for g in GENRES], float)
        if name not in ("loudness", "tempo"):
            centre = np.log(np.maximum(centre, 1e-4) / (1 - centre))
        values: Floats = (
            centre[genre]
            + rng.normal(0, 0.6 * by_song, len(SCENES))[scene][artist]
            + rng.normal(0, 0.6 * by_song, len(scene))[artist]
            + rng.normal(0, 0.3 * by_song, n_albums)[album]
            + rng.normal(0, by_song, n)
        )
        return values

    def share(logit: Floats) -> Floats:
        values: Floats = 1 / (1 + np.exp(-logit))
        return values

    energy_logit = moved("energy", 0.55)
    energy_centre = np.array([g.energy for g in GENRES])[genre]
    energy = share(energy_logit)
    spread = np.array([g.tempo[1] for g in GENRES])[genre]
    middle = np.array([g.tempo[0] for g in GENRES])[genre]
    live = rng.random(n) < 0.04
    common_keys = np.array([12, 9, 11, 4, 8, 8, 6, 11, 7, 10, 6, 8], float)
    columns = {
        "acousticness": share(moved("acousticness", 0.8)),
        "danceability": share(moved("danceability", 0.4)),
        "energy": energy,
        "instrumentalness": share(moved("instrumentalness", 1.5)),
        "key": rng.choice(12, n, p=common_keys / common_keys.sum()).astype(float),
        "liveness": share(moved("liveness", 0.55) + 3.0 * live),
        "loudness": np.minimum(moved("loudness", 1.2) + 6 * (energy - energy_centre), -0.3),
        "mode": (rng.random(n) < np.array([g.major for g in GENRES])[genre]).astype(float),
        "speechiness": share(moved("speechiness", 0.5)),
        "tempo": np.clip(
            middle + spread * (0.5 * rng.normal(size=len(scene))[artist] + 0.85 * rng.normal(size=n)), 48, 216
        ),
        "valence": share(moved("valence", 0.6)),
    }
    features = np.stack([columns[name] for name in AUDIO_FEATURES], axis=1)
    features = np.round(features, 4)
    no_key = rng.random(n) < 0.015
    for name in ("key", "mode"):
        features[no_key, AUDIO_FEATURES.index(name)] = np.nan
    return features.astype(np.float32), rng.random(n) >= 0.025


def _make_releases(config: WorldConfig, songs: _Catalogue, rng: np.random.Generator) -> _Releases:
    n = len(songs.track_ids)
    again = np.flatnonzero(rng.random(n) < config.twins)
    second = np.full(n, -1)
    second[again] = n + np.arange(len(again))
    return _Releases(
        track_ids=np.concatenate([songs.track_ids, _opaque_ids(rng, len(again))]),
        album_ids=np.concatenate([songs.album_ids, _opaque_ids(rng, len(again))]),
        song=np.concatenate([np.arange(n), again]),
        measured=np.concatenate([songs.measured, rng.random(len(again)) >= 0.025]),
        second=second,
    )


def _make_population(config: WorldConfig, songs: _Catalogue, rng: np.random.Generator) -> _Population:
    n = ceil(config.n_users / _AFTER_A_YEAR)
    joined = np.floor(_growth((np.arange(n) + rng.random(n)) / n, 0.58, 4, 1.3)).astype(np.int64)
    starting = np.arange(n) < _START_USERS
    private = (rng.random(n) < 0.03) & ~starting
    leaving = (rng.random(n) < 0.05) & ~starting
    gone = np.where(leaving, joined + 30 + rng.exponential(700, n).astype(np.int64), _NEVER)

    # Tastes: at home in one scene, then wandering from interest to interest along the affinities.
    sizes = np.bincount(songs.scene, weights=songs.weight, minlength=len(SCENES))
    affinity = scene_affinity() * (sizes > 0) + 1e-12
    scenes = np.empty((n, _INTERESTS), np.int64)
    scenes[:, 0] = rng.choice(len(SCENES), n, p=sizes / sizes.sum())
    for i in range(1, _INTERESTS):
        origin = scenes[np.arange(n), rng.integers(0, i, n)]
        scenes[:, i] = _pick(rng, affinity[origin])
    how_many = 1 + rng.binomial(_INTERESTS - 1, rng.beta(1.6, 1.8, n))
    strength = rng.gamma(2.0, 0.5, (n, _INTERESTS)) * (np.arange(_INTERESTS) < how_many[:, None])
    strength[:, 0] += 0.6
    peak = np.sort(rng.random((n, _INTERESTS)) * 2.2, axis=1)
    peak[:, 0] = 0.0

    listener = rng.choice(len(_LISTENERS), n, p=[0.35, 0.4, 0.25])
    favourites = np.empty((n, _INTERESTS, _FAVOURITES), np.int64)
    by_debut = np.full(len(songs.artist_ids), _NEVER)
    np.minimum.at(by_debut, songs.artist, songs.released)
    for kind, exponent in enumerate(_LISTENERS):
        shelf = _Shelf(songs.artist_scene, by_debut, songs.artist_weight**exponent)
        who = np.flatnonzero(listener == kind)
        drawn = shelf.draw(
            rng,
            np.broadcast_to(scenes[who, :, None], (len(who), _INTERESTS, _FAVOURITES)),
            joined[who, None, None] + 200,  # the coming year's debuts are not known yet
        )
        favourites[who] = drawn

    follower, followed, followed_on = _make_follows(rng, joined, gone, private, scenes)
    dice, taken = Dice(rng), set[str]()
    return _Population(
        user_ids=[user_handle(dice, taken) for _ in range(n)],
        joined=joined,
        gone=gone,
        private=private,
        pace=np.clip(rng.lognormal(np.log(600), 0.5, n), 120, 2_500),
        listener=listener,
        scenes=scenes,
        strength=strength,
        peak=peak,
        favourites=favourites,
        follower=follower,
        followed=followed,
        followed_on=followed_on,
    )


def _make_follows(
    rng: np.random.Generator, joined: Ints, gone: Ints, private: Bools, scenes: Ints
) -> tuple[Ints, Ints, Ints]:
    """Who follows whom and since when, mostly among people of like taste; arrays over follows.

    Everyone but the start users was brought along by somebody who joined before them, has an open page and
    stays: so a crawl from the start users finds all.
    """
    n = len(joined)
    order = np.arange(n)
    standing = rng.pareto(1.6, n) + 0.3
    hosts = np.flatnonzero(~private & (gone == _NEVER))
    near = _Shelf(scenes[hosts, 0], hosts, standing[hosts])
    anyone = _Shelf(np.zeros(len(hosts), np.int64), hosts, standing[hosts])
    guest = order[_START_USERS:]
    host = near.draw(rng, scenes[guest, 0], guest - 1)
    host = hosts[np.where(host >= 0, host, anyone.draw(rng, np.zeros(len(guest), np.int64), guest - 1))]

    degree = np.minimum(rng.geometric(1 / 7, n) - 1, n - 1)
    follower = np.repeat(order, degree)
    interest = np.minimum(rng.geometric(0.6, len(follower)) - 1, _INTERESTS - 1)
    kin = _Shelf(scenes[:, 0], order, standing).draw(rng, scenes[follower, interest], n)
    chance = _Shelf(np.zeros(n, np.int64), order, standing).draw(rng, np.zeros(len(follower), np.int64), n)
    followed = np.where((kin < 0) | (rng.random(len(follower)) < 0.1), chance, kin)
    on = np.maximum(joined[follower], joined[followed]) + rng.exponential(90, len(follower)).astype(np.int64)
    back = rng.random(len(follower)) < 0.35
    back_on = on[back] + rng.exponential(20, int(back.sum())).astype(np.int64)

    one = np.concatenate([host, follower, followed[back]])
    two = np.concatenate([guest, followed, follower[back]])
    day = np.concatenate([joined[guest], on, back_on])
    by_day = np.lexsort((two, one, day))
    one, two, day = one[by_day], two[by_day], day[by_day]
    _, first = np.unique(one * n + two, return_index=True)  # the first time only
    first = np.sort(first[one[first] != two[first]])
    first = first[np.argsort(one[first], kind="stable")]
    return one[first], two[first], day[first]


def _make_likes(
    config: WorldConfig, songs: _Catalogue, people: _Population, rng: np.random.Generator
) -> _Likes:
    n = len(people.joined)

    # How many in a lifetime: more than enough to have the lists as long as asked for after a year.
    age = np.maximum(365 - people.joined, 0)
    lived = (1 - np.exp(-age / people.pace))[age > 0].mean() if (age > 0).any() else 1.0
    lifetime = np.clip(rng.lognormal(-0.32, 0.8, n), 0.05, 8) * config.likes_per_user * 2.1 / max(lived, 0.05)
    mean_sitting = 3.5
    sittings = rng.poisson(np.minimum(lifetime, len(songs.track_ids)) / mean_sitting) + 1

    # A sitting: one evening, one interest, a few songs of one artist, album or scene.
    who = np.repeat(np.arange(n), sittings)
    x = rng.exponential(1.0, len(who))
    seconds = ((people.joined[who] + x * people.pace[who]).astype(np.int64) + 1) * _SECONDS
    clock = np.where(
        rng.random(len(who)) < 0.75, rng.normal(20.0, 2.2, len(who)), rng.normal(12.5, 3.0, len(who))
    )
    seconds += (np.mod(clock, 24) * 3600).astype(np.int64)
    wave = 0.04 + np.exp(-((x[:, None] - people.peak[who]) ** 2) / (2 * 0.45**2))
    interest = _pick(rng, people.strength[who] * wave)
    day = seconds // _SECONDS
    listener = people.listener[who]
    favourite = people.favourites[who, interest, _pick(rng, np.tile([0.42, 0.27, 0.19, 0.12], (len(who), 1)))]

    size = rng.geometric(1 / mean_sitting, len(who)).clip(max=25)
    sitting = np.repeat(np.arange(len(who)), size)
    home = people.scenes[who, interest][sitting]
    day_of, listener_of = day[sitting], listener[sitting]
    # What a sitting is about: a favourite artist, one album, the scene, what is new in it, the charts.
    about = _pick(
        rng,
        np.array(
            [[0.24, 0.13, 0.38, 0.09, 0.16], [0.26, 0.13, 0.45, 0.09, 0.07], [0.27, 0.13, 0.52, 0.07, 0.01]]
        )[listener],
    )[sitting]
    stray = rng.random(len(sitting))
    about = np.where(stray < 0.2, 2, np.where(stray > 0.94, 4, about))
    affinity = scene_affinity()
    wander = rng.random(len(sitting)) < 0.15
    home[wander] = _pick(rng, affinity[home[wander]])

    flat = songs.weight**0.5
    nobody = np.zeros(len(songs.track_ids), np.int64)
    by_artist = _Shelf(songs.artist, songs.released, songs.weight**0.8)
    by_album = _Shelf(songs.album, songs.released, flat)
    lead = by_artist.draw(rng, favourite, day)
    record = songs.album[np.maximum(lead, 0)][sitting]
    lead_of = lead[sitting]

    track = np.full(len(sitting), -1, np.int64)
    for kind, exponent in enumerate(_LISTENERS):
        by_scene = _Shelf(songs.scene, songs.released, songs.weight**exponent)
        of_all = _Shelf(nobody, songs.released, songs.weight**exponent)
        mine = listener_of == kind

        def where(topic: int, mine: Bools = mine) -> Ints:
            return np.flatnonzero(mine & (about == topic) & (track < 0))

        at = where(0)
        track[at] = by_artist.draw(rng, favourite[sitting[at]], day_of[at])
        at = where(1)
        track[at] = np.where(lead_of[at] >= 0, by_album.draw(rng, record[at], day_of[at]), -1)
        at = where(3)
        track[at] = by_scene.draw(rng, home[at], day_of[at], day_of[at] - 120)
        at = where(4)
        track[at] = of_all.draw(rng, np.zeros(len(at), np.int64), day_of[at])
        # Where that has nothing to give yet, the scene has; and where not even that, the world.
        at = np.flatnonzero(mine & (track < 0))
        track[at] = by_scene.draw(rng, home[at], day_of[at])
        at = np.flatnonzero(mine & (track < 0))
        track[at] = of_all.draw(rng, np.zeros(len(at), np.int64), day_of[at])

    within = np.arange(len(sitting)) - np.repeat(np.cumsum(size) - size, size)
    at_second = np.minimum(
        seconds[sitting] + within * rng.integers(30, 260, len(sitting)), (day_of + 1) * _SECONDS - 1
    )
    user = who[sitting]
    kept = np.flatnonzero(track >= 0)
    kept = kept[np.lexsort((track[kept], at_second[kept], user[kept]))]
    # A song is liked once: the first time counts.
    _, first = np.unique(user[kept] * len(songs.track_ids) + track[kept], return_index=True)
    kept = kept[np.sort(first)]
    # More were drawn than asked for, because songs are hit upon twice; how many too many is known now.
    a_year = at_second[kept] < 365 * _SECONDS
    wanted = config.likes_per_user * max(int((people.joined < 365).sum()), 1)
    kept = kept[rng.random(len(kept)) < wanted / max(0.95 * int(a_year.sum()), 1)]
    undone = at_second[kept] + 3_600 + rng.exponential(120 * _SECONDS, len(kept)).astype(np.int64)
    never = rng.random(len(kept)) >= 0.07
    return _Likes(
        user=user[kept],
        track=track[kept],
        interest=interest[sitting[kept]],
        at=at_second[kept],
        undone=np.where(never, _NEVER * _SECONDS, undone),
    )


class World:
    """A world of songs and listeners, the same for the same config; parts are made when first needed.

    >>> world = World(WorldConfig(n_users=50, n_tracks=200))
    >>> world.crawl(date(2026, 3, 1)).source
    'simulator'
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self._titles: dict[tuple[int, int], tuple[str, str]] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._all_placed = False

    def crawl(self, day: date) -> RawBatch:
        """What a crawl at the end of ``day`` finds: everyone who has joined, the liked list of each whose
        page is open, and tracks and features of all songs liked on an open page so far.

        Raises InputError for a day before the world's start.
        """
        today = self._number(day)
        people, likes, releases = self._people, self._likes, self._releases
        n_users = self._joined_by(today)
        listed = self._listed(today)

        states = np.where(
            people.gone[:n_users] <= today, "gone", np.where(people.private[:n_users], "private", "listed")
        )
        parent, depth = self._discovery(today)
        user_ids = pl.Series("user_id", people.user_ids, dtype=pl.String)
        users = pl.DataFrame(
            {
                "user_id": user_ids.head(n_users),
                "discovered_from": user_ids.gather(pl.Series(np.where(parent < 0, 0, parent))).set(
                    pl.Series(parent < 0), None
                ),
                "depth": depth.astype(np.int32),
                "state": states,
            },
            schema=empty_frame("users").schema,
        )

        end = (today + 1) * _SECONDS
        seen = (
            (likes.at < end) & (likes.at < people.gone[likes.user] * _SECONDS) & ~people.private[likes.user]
        )
        held = np.flatnonzero(seen & listed[likes.user] & (likes.undone >= end))
        like_frame = pl.DataFrame(
            {
                "user_id": user_ids.gather(likes.user[held]),
                "track_id": self._track_column.gather(self._release_of[held]),
                "liked_at": pl.Series((likes.at[held] + self._midnight) * 1_000_000).cast(
                    pl.Datetime("us", "UTC")
                ),
            },
            schema=empty_frame("likes").schema,
        )
        known = np.zeros(len(releases.track_ids), bool)
        known[self._release_of[seen]] = True
        features = self._feature_table.filter(pl.Series(known & releases.measured))
        return RawBatch(
            source="simulator",
            origin=f"world of seed {self.config.seed} on {day:%Y-%m-%d}",
            users=users,
            likes=like_frame,
            tracks=self._track_table.filter(pl.Series(known)),
            features=features,
        )

    def lifetime_likes(self) -> tuple[Ints, Ints]:
        """Every like ever made, undone ones too: the numbers of users and of songs, a user's together.

        Songs are numbered as `recording_ids` lists them. For experiments that need no ids, dates or names.
        """
        return self._likes.user, self._likes.track

    def start_users(self) -> list[str]:
        """The users that a crawl of the social graph starts from."""
        return self._people.user_ids[: self._joined_by(0)][:_START_USERS]

    def state(self, user_id: str, day: date) -> str:
        """``listed``, ``private`` or ``gone``. Raises InputError for a user who has not joined by then."""
        user, today = self._user(user_id, day)
        return self._state(user, today)

    def follows(self, user_id: str, day: date) -> list[str]:
        """Whom a user follows at the end of ``day``, the longest-standing first; none if not listed."""
        return [self._people.user_ids[other] for other in self._follows(*self._user(user_id, day))]

    def followers(self, user_id: str, day: date) -> list[str]:
        """Who among those with an open page follows a user at the end of ``day``; none if not listed."""
        user, today = self._user(user_id, day)
        if self._state(user, today) != "listed":
            return []
        people, by_followed = self._people, self._by_followed
        first, last = np.searchsorted(people.followed, [user, user + 1], sorter=by_followed)
        mine = by_followed[int(first) : int(last)]
        others = people.follower[mine][people.followed_on[mine] <= today].tolist()
        return [people.user_ids[other] for other in others if self._state(other, today) == "listed"]

    def liked(self, user_id: str, day: date) -> list[tuple[str, int]]:
        """The liked list of a user at the end of ``day``, the oldest like first, with its time in seconds
        since 1970; nothing if not listed."""
        user, today = self._user(user_id, day)
        if self._state(user, today) != "listed":
            return []
        held = self._held(user, today)
        tracks = self._releases.track_ids[self._release_of[held]].tolist()
        return list(zip(tracks, (self._likes.at[held] + self._midnight).tolist(), strict=True))

    def song(self, track_id: str, day: date) -> Song | None:
        """The song of that id, None where there is none or it is not out by the end of ``day``."""
        today = self._number(day)
        release = self._release_number.get(track_id)
        if release is None or self._songs.released[self._releases.song[release]] > today:
            return None
        return self._song(release)

    def recording_ids(self) -> list[str]:
        """One id for every song there will ever be, the one that songs released twice share."""
        ids: list[str] = self._songs.track_ids.tolist()
        return ids

    def _song(self, release: int) -> Song:
        songs, number = self._songs, int(self._releases.song[release])
        row = self._track_table.row(release, named=True)
        day = self.config.start.toordinal() + int(songs.released[number])
        return Song(
            track_id=row["track_id"],
            recording_id=str(songs.track_ids[number]),
            isrc=row["isrc"],
            name=row["name"],
            artists=row["artists"],
            artist_ids=row["artist_ids"],
            album_id=row["album_id"],
            album=self._album_names[row["album_id"]],
            genre=row["genre"],
            released=date.fromordinal(min(max(day, 1), date.max.toordinal())),
            duration_ms=row["duration_ms"],
            explicit=row["explicit"],
            features={
                name: None if np.isnan(value) else round(value, 4)
                for name, value in zip(AUDIO_FEATURES, songs.features[number].tolist(), strict=True)
            },
            measured=bool(self._releases.measured[release]),
        )

    def playlist(self, playlist_id: str, day: date) -> Playlist | None:
        """The playlist of that id; None where there is none or its owner's page is not open on ``day``."""
        today = self._number(day)
        if playlist_id not in self._places and not self._all_placed:
            for number in range(len(self._people.user_ids)):
                for interest in range(_INTERESTS):
                    self._title(number, interest)
            self._all_placed = True
        place = self._places.get(playlist_id)
        if place is None or place[0] >= self._joined_by(today) or self._state(place[0], today) != "listed":
            return None
        return self._playlist(*place, today)

    def playlists(self, user_id: str, day: date, *, closed: bool = False) -> list[Playlist]:
        """The playlists on a user's page at the end of ``day``: their own, then those they follow.

        Their own make up the liked list, each song in one of them. Of everyone they follow whose page is
        open they follow the first playlist; with ``closed``, of the others too. A page that is not open
        shows none.
        """
        user, today = self._user(user_id, day)
        if self._state(user, today) != "listed":
            return []
        likes = self._likes
        first, last = np.searchsorted(likes.user, [user, user + 1])
        begun = np.flatnonzero(likes.at[first:last] < (today + 1) * _SECONDS) + first
        interests = sorted({0, *likes.interest[begun].tolist()})
        others = [
            other for other in self._follows(user, today) if closed or self._state(other, today) == "listed"
        ]
        return [
            *(self._playlist(user, interest, today) for interest in interests),
            *(self._playlist(other, 0, today) for other in others),
        ]

    def _playlist(self, user: int, interest: int, today: int) -> Playlist:
        likes, held = self._likes, self._held(user, today)
        held = held[likes.interest[held] == interest]
        playlist_id, name = self._title(user, interest)
        return Playlist(
            playlist_id=playlist_id,
            name=name,
            owner_id=self._people.user_ids[user],
            track_ids=self._releases.track_ids[self._release_of[held]].tolist(),
            added_at=(likes.at[held] + self._midnight).tolist(),
        )

    def _held(self, user: int, today: int) -> Ints:
        """The likes of a user that stand at the end of a day, as indices, in the order of time."""
        likes, end = self._likes, (today + 1) * _SECONDS
        first, last = np.searchsorted(likes.user, [user, user + 1])
        mine = slice(int(first), int(last))
        return np.flatnonzero((likes.at[mine] < end) & (likes.undone[mine] >= end)) + int(first)

    def _title(self, user: int, interest: int) -> tuple[str, str]:
        """Id and name of a playlist."""
        known = self._titles.get((user, interest))
        if known is None:
            key = _key(self.config.seed, "playlist", self._people.user_ids[user], interest)
            rng = np.random.default_rng(np.frombuffer(key, np.uint32))
            playlist_id = str(_opaque_ids(rng, 1)[0])
            known = playlist_id, playlist_name(SCENES[self._people.scenes[user, interest]][1], Dice(rng))
            self._titles[user, interest] = known
            self._places[playlist_id] = user, interest
        return known

    def _follows(self, user: int, today: int) -> list[int]:
        if self._state(user, today) != "listed":
            return []
        people = self._people
        first, last = np.searchsorted(people.follower, [user, user + 1])
        mine = slice(int(first), int(last))
        followed: list[int] = people.followed[mine][people.followed_on[mine] <= today].tolist()
        return followed

    def _state(self, user: int, today: int) -> str:
        if self._people.gone[user] <= today:
            return "gone"
        return "private" if self._people.private[user] else "listed"

    def _number(self, day: date) -> int:
        today = (day - self.config.start).days
        if today < 0:
            raise InputError(
                f"the simulated world begins on {self.config.start}, so there is nothing to see on {day}; "
                "ask for a later day"
            )
        return today

    def _user(self, user_id: str, day: date) -> tuple[int, int]:
        today = self._number(day)
        user = self._number_of.get(user_id)
        if user is None or user >= self._joined_by(today):
            raise InputError(f"there is no user {user_id!r} in the simulated world on {day}")
        return user, today

    def _joined_by(self, today: int) -> int:
        joined: int = np.searchsorted(self._people.joined, today, side="right").item()
        return joined

    def _listed(self, today: int) -> Bools:
        return ~self._people.private & (self._people.gone > today)

    def _discovery(self, today: int) -> tuple[Ints, Ints]:
        """Breadth first from the start users over the pages open on a day: the user whose page led to each
        of those who have joined (-1: none), and the number of steps."""
        people = self._people
        n = self._joined_by(today)
        visible = (people.followed_on <= today) & self._listed(today)[people.follower]
        follower, followed = people.follower[visible], people.followed[visible]
        parent = np.full(n, -1, np.int64)
        depth = np.where(np.arange(n) < _START_USERS, 0, -1)
        level = 0
        while True:
            reached = np.flatnonzero((depth[follower] == level) & (depth[followed] < 0))
            if not len(reached):
                return parent, depth
            new, first = np.unique(followed[reached], return_index=True)
            parent[new] = follower[reached[first]]
            level += 1
            depth[new] = level

    def _generator(self, purpose: str) -> np.random.Generator:
        # A world with second releases is the same world in everything else.
        key = _key(self.config.model_dump_json(exclude={"twins"}), purpose)
        return np.random.default_rng(np.frombuffer(key, np.uint32))

    @cached_property
    def _songs(self) -> _Catalogue:
        return _make_catalogue(self.config, self._generator("songs"))

    @cached_property
    def _releases(self) -> _Releases:
        return _make_releases(self.config, self._songs, self._generator("releases"))

    @cached_property
    def _people(self) -> _Population:
        return _make_population(self.config, self._songs, self._generator("listeners"))

    @cached_property
    def _likes(self) -> _Likes:
        return _make_likes(self.config, self._songs, self._people, self._generator("likes"))

    @cached_property
    def _release_of(self) -> Ints:
        """For every like the id it was given to: that of a song released twice is chosen by a hash."""
        likes, second = self._likes, self._releases.second[self._likes.track]
        mixed = (likes.user * len(self._songs.track_ids) + likes.track).astype(np.uint64)
        mixed = (mixed + np.uint64(self.config.seed % 2**63)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        chosen: Ints = np.where((second >= 0) & (mixed >> np.uint64(63) == 1), second, likes.track)
        return chosen

    @cached_property
    def _release_number(self) -> dict[str, int]:
        return {track_id: number for number, track_id in enumerate(self._releases.track_ids.tolist())}

    @cached_property
    def _by_followed(self) -> Ints:
        return np.argsort(self._people.followed, kind="stable")

    @cached_property
    def _midnight(self) -> int:
        """The start in seconds since 1970."""
        return int(datetime.combine(self.config.start, datetime.min.time(), UTC).timestamp())

    @cached_property
    def _album_names(self) -> dict[str, str]:
        """An album is called as the first of its songs."""
        albums = self._track_table.group_by("album_id", maintain_order=True).agg(pl.col("name").first())
        return dict(albums.rows())

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {user_id: number for number, user_id in enumerate(self._people.user_ids)}

    @cached_property
    def _track_column(self) -> pl.Series:
        return pl.Series("track_id", self._releases.track_ids.tolist(), dtype=pl.String)

    @cached_property
    def _track_table(self) -> pl.DataFrame:
        """Every id of every song, as raw tracks; the names are made here."""
        songs = self._songs
        dice = Dice(self._generator("names"))
        taken: set[str] = set()
        names = [artist_name(GENRES[SCENE_GENRE[scene]].name, dice, taken) for scene in songs.artist_scene]
        books = [Songbook() for _ in names]
        titles, artists, artist_ids = [], [], []
        columns = zip(songs.artist.tolist(), songs.guest.tolist(), songs.scene.tolist(), strict=True)
        for artist, guest, scene in columns:
            genre, scene_name = SCENES[scene]
            title = song_title(GENRES[genre].name, scene_name, dice, books[artist])
            if guest >= 0 and dice.roll() < 0.6:
                title = f"{title} (feat. {names[guest]})"
            who = [artist] if guest < 0 else [artist, guest]
            titles.append(title)
            artists.append([names[i] for i in who])
            artist_ids.append([str(songs.artist_ids[i]) for i in who])
        n = len(titles)
        tracks = pl.DataFrame(
            {
                "track_id": self._track_column.head(n),
                "isrc": songs.isrc,
                "name": titles,
                "artists": artists,
                "artist_ids": artist_ids,
                "album_id": songs.album_ids.tolist(),
                "genre": [GENRES[SCENE_GENRE[scene]].name for scene in songs.scene],
                "image_url": pl.Series([None] * n, dtype=pl.String),
                "preview_url": pl.Series([None] * n, dtype=pl.String),
                "duration_ms": songs.duration_ms,
                "explicit": songs.explicit,
            },
            schema=empty_frame("tracks").schema,
        )
        releases = self._releases
        return tracks[releases.song].with_columns(
            self._track_column, pl.Series("album_id", releases.album_ids.tolist(), dtype=pl.String)
        )

    @cached_property
    def _feature_table(self) -> pl.DataFrame:
        columns = {
            name: pl.Series(self._songs.features[self._releases.song, i]).fill_nan(None)
            for i, name in enumerate(AUDIO_FEATURES)
        }
        return pl.DataFrame(
            {"track_id": self._track_column, **columns}, schema=empty_frame("features").schema
        )
