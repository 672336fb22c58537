"""The listeners of the simulated world: their tastes, follows and likes.

Here: the arrays of all listeners, follows and likes, past and future. Not here: the songs (`catalogue`), or
what is visible on a given day (`world`).

A listener has a few *interests*, each a scene with some favourite artists, and each one of their playlists.
Interests grow and fade over the years, so that taste drifts.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from tunegraph_pipeline.simulator.catalogue import Catalogue
from tunegraph_pipeline.simulator.draws import (
    NEVER,
    SECONDS_PER_DAY,
    SHARE_AFTER_A_YEAR,
    Bools,
    Floats,
    Ints,
    Shelf,
    growth,
    pick,
)
from tunegraph_pipeline.simulator.genres import SCENES, scene_affinity
from tunegraph_pipeline.simulator.names import Dice, user_handle

INTERESTS = 5
"""At most, of one listener."""
START_USERS = 5
"""The first listeners; a crawl of the social graph starts from them."""
_FAVOURITES = 4  # artists of one interest
_LISTENERS = (1.25, 0.9, 0.55)  # exponents of popularity, from chart listeners to explorers


@dataclass(frozen=True)
class Playlist:
    """A playlist on its owner's page; tracks in the order they were added, times in seconds since 1970."""

    playlist_id: str
    name: str
    owner_id: str
    track_ids: list[str]
    added_at: list[int]


@dataclass(frozen=True)
class Population:
    """All listeners, past and future, in the order of joining, and who follows whom."""

    user_ids: list[str]
    joined: Ints  # day
    gone: Ints  # day from which the account is gone
    private: Bools
    pace: Floats  # days that about two thirds of a listener's likes take
    listener: Ints  # index into _LISTENERS
    scenes: Ints  # (users, interests)
    strength: Floats  # (users, interests), 0 if unused
    peak: Floats  # (users, interests), when an interest is strongest, in units of pace
    favourites: Ints  # (users, interests, favourites): artists
    follower: Ints  # over follows: ascending, then by time
    followed: Ints
    followed_on: Ints  # day


@dataclass(frozen=True)
class Likes:
    """Every like, past and future, by user, then by time."""

    user: Ints
    track: Ints
    interest: Ints  # the playlist it went into
    at: Ints  # seconds from the start
    undone: Ints  # the second at which the like ends


def make_population(n_users: int, songs: Catalogue, rng: np.random.Generator) -> Population:
    """Draw all listeners; ``n_users`` of them have joined after the first year."""
    n = ceil(n_users / SHARE_AFTER_A_YEAR)
    joined = np.floor(growth((np.arange(n) + rng.random(n)) / n, 0.58, 4, 1.3)).astype(np.int64)
    starting = np.arange(n) < START_USERS
    private = (rng.random(n) < 0.03) & ~starting
    leaving = (rng.random(n) < 0.05) & ~starting
    gone = np.where(leaving, joined + 30 + rng.exponential(700, n).astype(np.int64), NEVER)

    # Tastes: at home in one scene, then wandering from interest to interest along the affinities.
    sizes = np.bincount(songs.scene, weights=songs.weight, minlength=len(SCENES))
    affinity = scene_affinity() * (sizes > 0) + 1e-12
    scenes = np.empty((n, INTERESTS), np.int64)
    scenes[:, 0] = rng.choice(len(SCENES), n, p=sizes / sizes.sum())
    for i in range(1, INTERESTS):
        origin = scenes[np.arange(n), rng.integers(0, i, n)]
        scenes[:, i] = pick(rng, affinity[origin])
    how_many = 1 + rng.binomial(INTERESTS - 1, rng.beta(1.6, 1.8, n))
    strength = rng.gamma(2.0, 0.5, (n, INTERESTS)) * (np.arange(INTERESTS) < how_many[:, None])
    strength[:, 0] += 0.6
    peak = np.sort(rng.random((n, INTERESTS)) * 2.2, axis=1)
    peak[:, 0] = 0.0

    listener = rng.choice(len(_LISTENERS), n, p=[0.35, 0.4, 0.25])
    favourites = np.empty((n, INTERESTS, _FAVOURITES), np.int64)
    by_debut = np.full(len(songs.artist_ids), NEVER)
    np.minimum.at(by_debut, songs.artist, songs.released)
    for kind, exponent in enumerate(_LISTENERS):
        shelf = Shelf(songs.artist_scene, by_debut, songs.artist_weight**exponent)
        who = np.flatnonzero(listener == kind)
        drawn = shelf.draw(
            rng,
            np.broadcast_to(scenes[who, :, None], (len(who), INTERESTS, _FAVOURITES)),
            joined[who, None, None] + 200,  # later debuts are not known yet
        )
        favourites[who] = drawn

    follower, followed, followed_on = _make_follows(rng, joined, gone, private, scenes)
    dice, taken = Dice(rng), set[str]()
    return Population(
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
    """Who follows whom and since when, mostly among people of similar taste; arrays over follows.

    Everyone but the start users is followed by an earlier user who has an open page and stays, so that a
    crawl from the start users finds everyone.
    """
    n = len(joined)
    order = np.arange(n)
    standing = rng.pareto(1.6, n) + 0.3
    hosts = np.flatnonzero(~private & (gone == NEVER))
    near = Shelf(scenes[hosts, 0], hosts, standing[hosts])
    anyone = Shelf(np.zeros(len(hosts), np.int64), hosts, standing[hosts])
    guest = order[START_USERS:]
    host = near.draw(rng, scenes[guest, 0], guest - 1)
    host = hosts[np.where(host >= 0, host, anyone.draw(rng, np.zeros(len(guest), np.int64), guest - 1))]

    degree = np.minimum(rng.geometric(1 / 7, n) - 1, n - 1)
    follower = np.repeat(order, degree)
    interest = np.minimum(rng.geometric(0.6, len(follower)) - 1, INTERESTS - 1)
    kin = Shelf(scenes[:, 0], order, standing).draw(rng, scenes[follower, interest], n)
    chance = Shelf(np.zeros(n, np.int64), order, standing).draw(rng, np.zeros(len(follower), np.int64), n)
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


def make_likes(
    likes_per_user: float, songs: Catalogue, people: Population, rng: np.random.Generator
) -> Likes:
    """Draw every like, about ``likes_per_user`` for each user after the first year."""
    n = len(people.joined)

    # Likes per lifetime: more than enough for lists of the right length after a year.
    age = np.maximum(365 - people.joined, 0)
    lived = (1 - np.exp(-age / people.pace))[age > 0].mean() if (age > 0).any() else 1.0
    lifetime = np.clip(rng.lognormal(-0.32, 0.8, n), 0.05, 8) * likes_per_user * 2.1 / max(lived, 0.05)
    mean_sitting = 3.5
    sittings = rng.poisson(np.minimum(lifetime, len(songs.track_ids)) / mean_sitting) + 1

    # A sitting: one evening, one interest, a few songs of one artist, album or scene.
    who = np.repeat(np.arange(n), sittings)
    x = rng.exponential(1.0, len(who))
    seconds = ((people.joined[who] + x * people.pace[who]).astype(np.int64) + 1) * SECONDS_PER_DAY
    clock = np.where(
        rng.random(len(who)) < 0.75, rng.normal(20.0, 2.2, len(who)), rng.normal(12.5, 3.0, len(who))
    )
    seconds += (np.mod(clock, 24) * 3600).astype(np.int64)
    wave = 0.04 + np.exp(-((x[:, None] - people.peak[who]) ** 2) / (2 * 0.45**2))
    interest = pick(rng, people.strength[who] * wave)
    day = seconds // SECONDS_PER_DAY
    listener = people.listener[who]
    favourite = people.favourites[who, interest, pick(rng, np.tile([0.42, 0.27, 0.19, 0.12], (len(who), 1)))]

    size = rng.geometric(1 / mean_sitting, len(who)).clip(max=25)
    sitting = np.repeat(np.arange(len(who)), size)
    home = people.scenes[who, interest][sitting]
    day_of, listener_of = day[sitting], listener[sitting]
    # The topic of a sitting: a favourite artist, an album, the scene, its new songs, the charts.
    about = pick(
        rng,
        np.array(
            [[0.24, 0.13, 0.38, 0.09, 0.16], [0.26, 0.13, 0.45, 0.09, 0.07], [0.27, 0.13, 0.52, 0.07, 0.01]]
        )[listener],
    )[sitting]
    stray = rng.random(len(sitting))
    about = np.where(stray < 0.2, 2, np.where(stray > 0.94, 4, about))
    affinity = scene_affinity()
    wander = rng.random(len(sitting)) < 0.15
    home[wander] = pick(rng, affinity[home[wander]])

    flat = songs.weight**0.5
    one_group = np.zeros(len(songs.track_ids), np.int64)
    by_artist = Shelf(songs.artist, songs.released, songs.weight**0.8)
    by_album = Shelf(songs.album, songs.released, flat)
    lead = by_artist.draw(rng, favourite, day)
    record = songs.album[np.maximum(lead, 0)][sitting]
    lead_of = lead[sitting]

    track = np.full(len(sitting), -1, np.int64)
    for kind, exponent in enumerate(_LISTENERS):
        by_scene = Shelf(songs.scene, songs.released, songs.weight**exponent)
        of_all = Shelf(one_group, songs.released, songs.weight**exponent)
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
        # If that has no song yet, draw from the scene, else from all songs.
        at = np.flatnonzero(mine & (track < 0))
        track[at] = by_scene.draw(rng, home[at], day_of[at])
        at = np.flatnonzero(mine & (track < 0))
        track[at] = of_all.draw(rng, np.zeros(len(at), np.int64), day_of[at])

    within = np.arange(len(sitting)) - np.repeat(np.cumsum(size) - size, size)
    at_second = np.minimum(
        seconds[sitting] + within * rng.integers(30, 260, len(sitting)), (day_of + 1) * SECONDS_PER_DAY - 1
    )
    user = who[sitting]
    kept = np.flatnonzero(track >= 0)
    kept = kept[np.lexsort((track[kept], at_second[kept], user[kept]))]
    # A song is liked once: the first time counts.
    _, first = np.unique(user[kept] * len(songs.track_ids) + track[kept], return_index=True)
    kept = kept[np.sort(first)]
    # More were drawn than needed, since some were repeats; now the surplus is known.
    a_year = at_second[kept] < 365 * SECONDS_PER_DAY
    wanted = likes_per_user * max(int((people.joined < 365).sum()), 1)
    kept = kept[rng.random(len(kept)) < wanted / max(0.95 * int(a_year.sum()), 1)]
    undone = at_second[kept] + 3_600 + rng.exponential(120 * SECONDS_PER_DAY, len(kept)).astype(np.int64)
    never = rng.random(len(kept)) >= 0.07
    return Likes(
        user=user[kept],
        track=track[kept],
        interest=interest[sitting[kept]],
        at=at_second[kept],
        undone=np.where(never, NEVER * SECONDS_PER_DAY, undone),
    )
