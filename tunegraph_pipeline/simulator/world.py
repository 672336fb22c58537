"""A simulated music world for when there are no real likes: a function of seed, size and date.

Here: the world's config, what a crawl finds on a given day, and each song, user and playlist by id. Not here:
how songs (`catalogue`), listeners and likes (`listeners`) are drawn. Nothing is written to disk.

All events are drawn once, from generators keyed by seed and purpose; a day only filters them by time. So days
may be asked for in any order, and a later day agrees with an earlier one.
"""

from datetime import UTC, date, datetime
from functools import cached_property
from itertools import product

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.simulator.catalogue import Catalogue, Releases, Song, make_catalogue, make_releases
from tunegraph_pipeline.simulator.draws import SECONDS_PER_DAY, Bools, Ints, key_of, opaque_ids
from tunegraph_pipeline.simulator.genres import GENRES, SCENE_GENRE, SCENES
from tunegraph_pipeline.simulator.listeners import (
    INTERESTS,
    START_USERS,
    Likes,
    Playlist,
    Population,
    make_likes,
    make_population,
)
from tunegraph_pipeline.simulator.names import Dice, Songbook, artist_name, playlist_name, song_title


class WorldConfig(BaseModel, frozen=True):
    """Seed and size of a world. Sizes are as of one year after ``start``; growth slows down after that."""

    seed: int = 7
    n_users: int = Field(default=2_000, ge=1, description="listeners who have joined after the first year")
    n_tracks: int = Field(default=4_000, ge=1, description="songs released by the end of the first year")
    likes_per_user: float = Field(default=46.0, gt=0, description="about the mean length of a list by then")
    start: date = Field(default=date(2026, 1, 1), description="the first day that may be asked for")
    twins: float = Field(
        default=0.0, ge=0, le=1, description="share of songs released twice: two ids, one recording code"
    )


class World:
    """A world of songs and listeners, the same for the same config. Each part is made on first use.

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
        visible_state = np.where(people.private[:n_users], "private", "listed")
        states = np.where(people.gone[:n_users] <= today, "gone", visible_state)
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

        end = (today + 1) * SECONDS_PER_DAY
        seen = (
            (likes.at < end)
            & (likes.at < people.gone[likes.user] * SECONDS_PER_DAY)
            & ~people.private[likes.user]
        )
        held = np.flatnonzero(seen & self._listed(today)[likes.user] & (likes.undone >= end))
        liked_at = pl.Series((likes.at[held] + self._midnight) * 1_000_000)
        like_frame = pl.DataFrame(
            {
                "user_id": user_ids.gather(likes.user[held]),
                "track_id": self._track_column.gather(self._release_of[held]),
                "liked_at": liked_at.cast(pl.Datetime("us", "UTC")),
                "position": pl.repeat(None, len(held), dtype=pl.Int32, eager=True),
            },
            schema=empty_frame("likes").schema,
        )
        known = np.zeros(len(releases.track_ids), bool)
        known[self._release_of[seen]] = True
        return RawBatch(
            source="simulator",
            origin=f"world of seed {self.config.seed} on {day:%Y-%m-%d}",
            users=users,
            likes=like_frame,
            tracks=self._track_table.filter(pl.Series(known)),
            features=self._feature_table.filter(pl.Series(known & releases.measured)),
        )

    def lifetime_likes(self) -> tuple[Ints, Ints]:
        """Every like ever made, undone ones too: the numbers of users and of songs, a user's together.

        Songs are numbered in the order of `recording_ids`. For experiments without ids, dates and names.
        """
        return self._likes.user, self._likes.track

    def start_users(self) -> list[str]:
        """The users that a crawl of the social graph starts from."""
        return self._people.user_ids[: self._joined_by(0)][:START_USERS]

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
        """The song of that id; None if there is none, or it is not out by the end of ``day``."""
        today = self._number(day)
        release = self._release_number.get(track_id)
        if release is None or self._songs.released[self._releases.song[release]] > today:
            return None
        songs, number = self._songs, int(self._releases.song[release])
        row = self._track_table.drop("image_url", "preview_url", "year").row(release, named=True)
        return Song(
            **row,
            recording_id=str(songs.track_ids[number]),
            released=self._released(number),
            features={
                name: None if np.isnan(value) else round(value, 4)
                for name, value in zip(AUDIO_FEATURES, songs.features[number].tolist(), strict=True)
            },
            measured=bool(self._releases.measured[release]),
        )

    def recording_ids(self) -> list[str]:
        """The id of every song, past and future; both releases of a song share it."""
        return list(map(str, self._songs.track_ids))

    def playlist(self, playlist_id: str, day: date) -> Playlist | None:
        """The playlist of that id; None if there is none, or its owner's page is not visible on ``day``."""
        today = self._number(day)
        if playlist_id not in self._places and not self._all_placed:
            for number, interest in product(range(len(self._people.user_ids)), range(INTERESTS)):
                self._title(number, interest)
            self._all_placed = True
        place = self._places.get(playlist_id)
        if place is None or place[0] >= self._joined_by(today) or self._state(place[0], today) != "listed":
            return None
        return self._playlist(*place, today)

    def playlists(self, user_id: str, day: date, *, closed: bool = False) -> list[Playlist]:
        """The playlists on a user's page at the end of ``day``: their own, then those they follow.

        Their own make up the liked list, each song in one of them. They follow the first playlist of everyone
        they follow whose page is open; with ``closed``, of the others too. A page that is not open shows
        none.
        """
        user, today = self._user(user_id, day)
        if self._state(user, today) != "listed":
            return []
        mine = _span(self._likes.user, user)
        started = self._likes.at[mine] < (today + 1) * SECONDS_PER_DAY
        interests = sorted({0, *self._likes.interest[mine][started].tolist()})
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
        """The indices of a user's likes that hold at the end of a day, by time."""
        likes, end = self._likes, (today + 1) * SECONDS_PER_DAY
        mine = _span(likes.user, user)
        held: Ints = np.flatnonzero((likes.at[mine] < end) & (likes.undone[mine] >= end)) + mine.start
        return held

    def _title(self, user: int, interest: int) -> tuple[str, str]:
        """Id and name of a playlist."""
        known = self._titles.get((user, interest))
        if known is None:
            key = key_of(self.config.seed, "playlist", self._people.user_ids[user], interest)
            rng = np.random.default_rng(np.frombuffer(key, np.uint32))
            playlist_id = str(opaque_ids(rng, 1)[0])
            known = playlist_id, playlist_name(SCENES[self._people.scenes[user, interest]][1], Dice(rng))
            self._titles[user, interest] = known
            self._places[playlist_id] = user, interest
        return known

    def _follows(self, user: int, today: int) -> list[int]:
        if self._state(user, today) != "listed":
            return []
        people = self._people
        mine = _span(people.follower, user)
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
                f"the simulated world begins on {self.config.start}, after {day}; ask for a later day"
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
        """Breadth first from the start users over the pages open on a day: for each user who has joined, who
        led to them (-1: nobody), and the number of steps."""
        people = self._people
        n = self._joined_by(today)
        visible = (people.followed_on <= today) & self._listed(today)[people.follower]
        follower, followed = people.follower[visible], people.followed[visible]
        parent = np.full(n, -1, np.int64)
        depth = np.where(np.arange(n) < START_USERS, 0, -1)
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
        # Second releases change nothing else about a world.
        key = key_of(self.config.model_dump_json(exclude={"twins"}), purpose)
        return np.random.default_rng(np.frombuffer(key, np.uint32))

    @cached_property
    def _songs(self) -> Catalogue:
        return make_catalogue(self.config.n_tracks, self.config.start, self._generator("songs"))

    @cached_property
    def _releases(self) -> Releases:
        return make_releases(self.config.twins, self._songs, self._generator("releases"))

    @cached_property
    def _people(self) -> Population:
        return make_population(self.config.n_users, self._songs, self._generator("listeners"))

    @cached_property
    def _likes(self) -> Likes:
        return make_likes(self.config.likes_per_user, self._songs, self._people, self._generator("likes"))

    @cached_property
    def _release_of(self) -> Ints:
        """For every like, the release of the song; a hash chooses between two."""
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

    def _released(self, song: int) -> date:
        """The day on which a song came out, as near as a date can be."""
        day = self.config.start.toordinal() + int(self._songs.released[song])
        return date.fromordinal(min(max(day, 1), date.max.toordinal()))

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {user_id: number for number, user_id in enumerate(self._people.user_ids)}

    @cached_property
    def _track_column(self) -> pl.Series:
        return pl.Series("track_id", self._releases.track_ids.tolist(), dtype=pl.String)

    @cached_property
    def _track_table(self) -> pl.DataFrame:
        """Every id of every song, as raw tracks, with generated names."""
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
                "album": pl.Series([None] * n, dtype=pl.String),
                "year": [self._released(song).year for song in range(n)],
            },
            schema=empty_frame("tracks").schema,
        )
        releases = self._releases
        # An album has the name of its first song.
        return (
            tracks[releases.song]
            .with_columns(
                self._track_column, pl.Series("album_id", releases.album_ids.tolist(), dtype=pl.String)
            )
            .with_columns(album=pl.col("name").first().over("album_id"))
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


def _span(ascending: Ints, value: int) -> slice:
    """Where ``value`` stands in a sorted array."""
    first, last = np.searchsorted(ascending, [value, value + 1])
    return slice(int(first), int(last))
