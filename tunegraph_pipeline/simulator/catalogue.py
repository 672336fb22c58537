"""The songs of the simulated world: artists, albums, release dates, popularity and audio features.

Here: the arrays of all songs, past and future, and their ids. Not here: names and titles (`world`), or likes
(`listeners`). Songs belong to artists, artists to scenes, scenes to genres; popularity has a long tail at
each level.
"""

from dataclasses import dataclass
from datetime import date
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.simulator.draws import (
    SHARE_AFTER_A_YEAR,
    Bools,
    Floats,
    Ints,
    Shelf,
    Strings,
    growth,
    opaque_ids,
    pick,
    rank_within,
)
from tunegraph_pipeline.simulator.genres import GENRES, SCENE_GENRE, SCENES, scene_affinity


@dataclass(frozen=True)
class Song:
    """A song under one of its ids.

    ``recording_id`` is the same for both ids of a song that was released twice. ``features`` holds every
    feature by name, None if undetected; ``measured`` says whether the provider knows them.
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
class Catalogue:
    """All songs, past and future; arrays over tracks unless marked. Days count from the start."""

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
class Releases:
    """Every track id: one per song, then the second ids; arrays over ids."""

    track_ids: Strings
    album_ids: Strings
    song: Ints
    measured: Bools
    second: Ints  # over songs: the index here of the second id, -1 for none


def make_catalogue(n_tracks: int, start: date, rng: np.random.Generator) -> Catalogue:
    """Draw all songs; ``n_tracks`` of them are out one year after ``start``."""
    n = ceil(n_tracks / SHARE_AFTER_A_YEAR)

    # Albums: a third are singles; cut to n songs in all.
    sizes = np.where(rng.random(n) < 0.35, 1, rng.integers(4, 14, n))
    n_albums = int(np.searchsorted(np.cumsum(sizes), n)) + 1
    album = np.repeat(np.arange(n_albums), sizes[:n_albums])[:n]

    # Artists: each has an album, some have many.
    n_artists = max(1, round(n_albums * 0.6))
    scene_share = np.array([GENRES[genre].share for genre in SCENE_GENRE]) * rng.lognormal(
        0, 0.35, len(SCENES)
    )
    scene = rng.choice(len(SCENES), n_artists, p=scene_share / scene_share.sum())
    fame = rank_within(scene, rng) ** -0.8 * rng.lognormal(0, 0.5, n_artists)
    album_artist = np.concatenate(
        [np.arange(n_artists), rng.choice(n_artists, n_albums - n_artists, p=fame**0.6 / (fame**0.6).sum())]
    )[rng.permutation(n_albums)]

    # A career is a stretch of the world's history; one album in five comes from anywhere in it.
    career = rng.random(n_artists)[album_artist] + rng.normal(0, 0.07, n_albums)
    career = np.abs(np.where(rng.random(n_albums) < 0.2, rng.random(n_albums), career))
    career = np.where(career > 1, 2 - career, career)
    ranks = (np.argsort(np.argsort(career)) + rng.random(n_albums)) / n_albums
    album_day = np.floor(growth(ranks, 0.7, 45, 2.1)).astype(np.int64)
    album_day -= (album_day + start.weekday() - 4) % 7  # records come out on Fridays

    artist = album_artist[album]
    released = album_day[album]
    genre = SCENE_GENRE[scene[artist]]
    weight = (
        (scene_share / scene_share.mean())[scene[artist]]
        * fame[artist]
        * rank_within(artist, rng) ** -0.9
        * rng.lognormal(0, 0.7, n)
    )

    guests = Shelf(scene, np.zeros(n_artists, np.int64), fame)
    guest_scene = pick(rng, scene_affinity()[scene[artist]] + 0.8 * np.eye(len(SCENES))[scene[artist]])
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
    year = (np.datetime64(start, "D") + released).astype("datetime64[Y]").astype(np.int64) + 1970
    # XT is no country's code, so these are not codes of real recordings.
    isrc = [
        f"XT{letters[a // 1296]}{letters[a // 36 % 36]}{letters[a % 36]}{y % 100:02d}{i % 100_000:05d}"
        for i, (a, y) in enumerate(zip(label.tolist(), year.tolist(), strict=True))
    ]

    features, measured = _make_features(rng, scene, artist, album, genre, n_albums)
    return Catalogue(
        track_ids=opaque_ids(rng, n),
        artist_ids=opaque_ids(rng, n_artists),
        album_ids=opaque_ids(rng, n_albums)[album],
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


def make_releases(twins: float, songs: Catalogue, rng: np.random.Generator) -> Releases:
    """Give a share ``twins`` of the songs a second id, on an album of its own."""
    n = len(songs.track_ids)
    again = np.flatnonzero(rng.random(n) < twins)
    second = np.full(n, -1)
    second[again] = n + np.arange(len(again))
    return Releases(
        track_ids=np.concatenate([songs.track_ids, opaque_ids(rng, len(again))]),
        album_ids=np.concatenate([songs.album_ids, opaque_ids(rng, len(again))]),
        song=np.concatenate([np.arange(n), again]),
        measured=np.concatenate([songs.measured, rng.random(len(again)) >= 0.025]),
        second=second,
    )
