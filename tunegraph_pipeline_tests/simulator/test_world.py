"""The simulated world: a pure function of seed, size and date, and worth learning from."""

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.simulator.genres import GENRES, SCENES, scene_affinity
from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline_tests.conftest import examples

YEAR_END = date(2026, 12, 31)


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig(n_users=900, n_tracks=1_500, likes_per_user=40))


@pytest.fixture(scope="module")
def year_end(world: World) -> RawBatch:
    return world.crawl(YEAR_END)


def assert_same(one: RawBatch, other: RawBatch) -> None:
    for part, frame in one.parts().items():
        assert_frame_equal(frame, other.parts()[part])


def end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)


sizes = st.builds(
    WorldConfig,
    seed=st.integers(0, 2**40),
    n_users=st.integers(1, 40),
    n_tracks=st.integers(1, 60),
    likes_per_user=st.floats(0.5, 30),
)
days = st.dates(date(2026, 1, 1), date(2031, 1, 1))


@settings(max_examples=examples(25))
@given(sizes, days, days)
def test_a_day_does_not_depend_on_the_days_asked_for_before(
    config: WorldConfig, one: date, other: date
) -> None:
    forward, backward = World(config), World(config)
    first = forward.crawl(one), forward.crawl(other)
    second = backward.crawl(other), backward.crawl(one)
    assert_same(first[0], second[1])
    assert_same(first[1], second[0])


@settings(max_examples=examples(25))
@given(sizes, days, days)
def test_a_later_day_agrees_with_an_earlier_one(config: WorldConfig, one: date, other: date) -> None:
    early, late = min(one, other), max(one, other)
    world = World(config)
    before, after = world.crawl(early), world.crawl(late)
    still = set(after.users.filter(pl.col("state") == "listed")["user_id"])
    earlier = {row for row in before.likes.rows() if row[0] in still}
    old = {row for row in after.likes.rows() if row[2] < end_of(early)}
    assert old <= earlier, "nothing is liked in the past afterwards, or at another time"
    assert set(before.users["user_id"]) <= set(after.users["user_id"])
    # What is known of a song stays known, and stays the same.
    assert set(before.tracks["track_id"]) <= set(after.tracks["track_id"])
    assert_frame_equal(before.tracks, after.tracks.join(before.tracks, on="track_id", how="semi"))
    assert_frame_equal(before.features, after.features.join(before.features, on="track_id", how="semi"))


@settings(max_examples=examples(25))
@given(sizes, days)
def test_every_world_is_a_sound_batch(config: WorldConfig, day: date) -> None:
    batch = World(config).crawl(day)
    for part, frame in batch.parts().items():
        assert frame.schema == empty_frame(part).schema
    assert batch.users["user_id"].is_unique().all()
    assert batch.tracks["track_id"].is_unique().all()
    assert batch.features["track_id"].is_unique().all()
    assert not batch.likes.select("user_id", "track_id").is_duplicated().any()
    assert not batch.likes["liked_at"].has_nulls()
    assert batch.likes.filter(pl.col("liked_at") >= end_of(day)).is_empty()
    listed = batch.users.filter(pl.col("state") == "listed")["user_id"]
    assert set(batch.likes["user_id"]) <= set(listed)
    assert set(batch.likes["track_id"]) <= set(batch.tracks["track_id"])
    assert set(batch.features["track_id"]) <= set(batch.tracks["track_id"])


def test_another_seed_is_another_world(year_end: RawBatch) -> None:
    other = World(WorldConfig(seed=8, n_users=50, n_tracks=100)).crawl(YEAR_END)
    same_size = World(WorldConfig(seed=7, n_users=50, n_tracks=100)).crawl(YEAR_END)
    assert not set(other.tracks["track_id"]) & set(same_size.tracks["track_id"])
    assert not set(other.tracks["track_id"]) & set(year_end.tracks["track_id"])


def test_a_day_before_the_world_begins_is_refused_with_the_first_day_named(world: World) -> None:
    with pytest.raises(InputError, match="begins on 2026-01-01"):
        world.crawl(date(2025, 12, 31))
    with pytest.raises(InputError, match="begins on 2026-01-01"):
        world.playlists(world.start_users()[0], date(2025, 12, 31))


def test_the_last_day_of_the_calendar_can_be_asked_for(world: World) -> None:
    batch = world.crawl(date.max)
    assert batch.users.height == 1_125, "all there will ever be: a quarter more than after a year"
    assert (
        batch.likes["liked_at"].is_between(datetime(2000, 1, 1, tzinfo=UTC), end_of(date(2100, 1, 1))).all()
    )


def test_after_a_year_the_world_has_the_size_asked_for(year_end: RawBatch) -> None:
    assert year_end.users.height == pytest.approx(900, rel=0.02)
    assert year_end.tracks.height == pytest.approx(1_500, rel=0.05)
    listed = year_end.users.filter(pl.col("state") == "listed").height
    assert year_end.likes.height / listed == pytest.approx(40, rel=0.1)


def test_users_songs_and_likes_come_and_some_likes_go_as_days_go_by(world: World, year_end: RawBatch) -> None:
    months = [world.crawl(date(2026, month, 1)) for month in range(1, 13)]
    for part in ("users", "tracks", "likes"):
        heights = [batch.parts()[part].height for batch in months]
        assert heights == sorted(heights)
        assert heights[0] < 0.93 * heights[-1]
    held = set(year_end.likes.select("user_id", "track_id").rows())
    listed = set(year_end.users.filter(pl.col("state") == "listed")["user_id"])
    before = {row for row in months[0].likes.select("user_id", "track_id").rows() if row[0] in listed}
    unliked = len(before - held) / len(before)
    assert 0.002 < unliked < 0.1


def test_no_song_is_liked_before_its_release_nor_by_a_user_who_has_not_joined(world: World) -> None:
    songs, people, likes = world._songs, world._people, world._likes
    day = likes.at // 86_400
    assert (day >= songs.released[likes.track]).all()
    assert (day >= people.joined[likes.user]).all()
    weekday = (songs.released + world.config.start.weekday()) % 7
    assert (weekday == 4).all(), "records come out on Fridays"


def test_a_few_users_are_private_or_gone_and_show_nothing(world: World, year_end: RawBatch) -> None:
    share = dict(year_end.users["state"].value_counts(normalize=True).iter_rows())
    assert set(share) == {"listed", "private", "gone"}
    assert 0.85 < share["listed"] < 0.98
    for user, state in (
        year_end.users.filter(pl.col("state") != "listed").select("user_id", "state").rows()[:20]
    ):
        assert world.state(user, YEAR_END) == state
        assert world.playlists(user, YEAR_END) == []
        assert world.follows(user, YEAR_END) == []


def test_everyone_is_found_from_the_start_users_by_the_shortest_way_over_open_pages(world: World) -> None:
    day = date(2026, 3, 1)
    users = world.crawl(day).users
    depth = dict(users.select("user_id", "depth").rows())
    assert [name for name, steps in depth.items() if steps == 0] == world.start_users()
    state = dict(users.select("user_id", "state").rows())
    follows = {name: world.follows(name, day) for name in depth}
    for name, source, steps in users.select("user_id", "discovered_from", "depth").rows():
        assert (source is None) == (steps == 0)
        if source is not None:
            assert name in follows[source]
            assert depth[source] == steps - 1
            assert state[source] == "listed"
        assert all(depth[other] <= steps + 1 for other in follows[name])
    # The same by following the owners of the playlists on each page, as a crawler does.
    found, wave = set(world.start_users()), set(world.start_users())
    while wave:
        wave = {p.owner_id for name in wave for p in world.playlists(name, day)} - found
        found |= wave
    assert found >= {name for name in depth if state[name] == "listed"}


def test_people_follow_people_of_like_taste(world: World) -> None:
    people = world._people
    like = (people.scenes[people.follower, 0] == people.scenes[people.followed, 0]).mean()
    share = np.bincount(people.scenes[:, 0], minlength=len(SCENES)) / len(people.scenes)
    assert like > 5 * (share**2).sum()
    assert (people.follower != people.followed).all()


def test_the_liked_list_is_the_songs_of_ones_own_playlists(world: World, year_end: RawBatch) -> None:
    lists: dict[str, set[str]] = {}
    for user, track in year_end.likes.select("user_id", "track_id").rows():
        lists.setdefault(user, set()).add(track)
    for user in year_end.users.filter(pl.col("state") == "listed")["user_id"][:60]:
        pages = world.playlists(user, YEAR_END)
        own = [page for page in pages if page.owner_id == user]
        songs = [track for page in own for track in page.track_ids]
        assert len(songs) == len(set(songs))
        assert set(songs) == lists.get(user, set())
        followed = {page.owner_id for page in pages} - {user}
        assert followed <= set(world.follows(user, YEAR_END))
        assert all(page.name and len(page.playlist_id) == 22 for page in pages)


def test_the_likes_of_a_lifetime_hold_those_that_any_day_shows(world: World, year_end: RawBatch) -> None:
    users, tracks = world.lifetime_likes()
    assert len(users) == len(tracks) > len(year_end.likes)
    assert (np.diff(users) >= 0).all()
    pairs = np.stack([users, tracks], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    ids = np.array(world.recording_ids())
    ever = pl.DataFrame({"track_id": ids[tracks]})["track_id"].value_counts()
    shown = year_end.likes["track_id"].value_counts(name="shown")
    both = shown.join(ever, on="track_id", how="left")
    assert (both["count"] >= both["shown"]).all()


def test_an_unknown_or_future_user_is_refused(world: World) -> None:
    with pytest.raises(InputError, match="nobody"):
        world.playlists("nobody", YEAR_END)
    late = world.crawl(YEAR_END).users["user_id"][-1]
    with pytest.raises(InputError, match=re.escape(late)):
        world.follows(late, date(2026, 1, 1))


TWINS = WorldConfig(n_users=200, n_tracks=500, likes_per_user=30, twins=0.4)


def test_songs_released_twice_leave_all_else_as_it_is() -> None:
    once, twice = World(TWINS.model_copy(update={"twins": 0.0})).crawl(YEAR_END), World(TWINS).crawl(YEAR_END)
    assert_frame_equal(once.users, twice.users)
    song_of = dict(twice.tracks.select("track_id", "isrc").rows())
    single = dict(once.tracks.select("isrc", "track_id").rows())
    merged = twice.likes.with_columns(pl.col("track_id").replace_strict(song_of).replace_strict(single))
    assert_frame_equal(once.likes, merged)
    assert_frame_equal(
        once.tracks.drop("track_id", "album_id", "album"),
        twice.tracks.drop("track_id", "album_id", "album").unique("isrc", keep="first", maintain_order=True),
        check_row_order=False,
    )


def test_both_ids_of_a_song_are_liked_but_never_by_the_same_user() -> None:
    world = World(TWINS)
    batch = world.crawl(YEAR_END)
    assert batch.tracks["track_id"].is_unique().all()
    ids = batch.tracks.group_by("isrc").agg("track_id", "album_id", "name")
    assert 0.2 < (ids["track_id"].list.len() == 2).mean() < 0.4  # type: ignore[operator]
    assert (ids["track_id"].list.len() <= 2).all()
    pairs = ids.filter(pl.col("track_id").list.len() == 2)
    assert (pairs["album_id"].list.n_unique() == 2).all()
    assert (pairs["name"].list.n_unique() == 1).all()
    likes = batch.likes.join(batch.tracks.select("track_id", "isrc"), on="track_id")
    assert not likes.select("user_id", "isrc").is_duplicated().any()
    halves = likes.filter(pl.col("isrc").is_in(pairs["isrc"].implode()))
    firsts = halves["track_id"].is_in(pairs["track_id"].list.first().implode())
    assert 0.4 < firsts.mean() < 0.6  # type: ignore[operator]


def test_a_song_released_twice_has_one_id_in_all_that_is_said_of_a_like() -> None:
    world = World(TWINS)
    batch = world.crawl(YEAR_END)
    listed = batch.users.filter(pl.col("state") == "listed")["user_id"]
    for user_id in listed[:40]:
        rows = batch.likes.filter(pl.col("user_id") == user_id)
        pairs = rows.select("track_id", "liked_at").rows()
        likes = {(track, int(at.timestamp())) for track, at in pairs}
        own = [page for page in world.playlists(user_id, YEAR_END) if page.owner_id == user_id]
        shown = {pair for page in own for pair in zip(page.track_ids, page.added_at, strict=True)}
        assert shown == likes == set(world.liked(user_id, YEAR_END))
        assert all(world.playlist(page.playlist_id, YEAR_END) == page for page in own)
    for row in batch.tracks.rows(named=True):
        song = world.song(row["track_id"], YEAR_END)
        assert song is not None
        assert (song.isrc, song.album_id) == (row["isrc"], row["album_id"])
        assert song.measured == (row["track_id"] in set(batch.features["track_id"]))


def test_a_song_is_not_known_before_it_is_out(world: World) -> None:
    start = world.config.start
    songs = {one: world.song(one, YEAR_END) for one in world.recording_ids()}
    late = [song for song in songs.values() if song is not None and song.released > start]
    assert late
    assert None in songs.values(), "some come out in later years"
    for song in late:
        assert world.song(song.track_id, song.released - timedelta(days=1)) is None
        assert world.song(song.track_id, song.released) == song


def test_popularity_has_a_long_tail(year_end: RawBatch) -> None:
    counts = np.sort(year_end.likes["track_id"].value_counts()["count"].to_numpy())[::-1].astype(float)
    assert 0.3 < counts[: len(counts) // 10].sum() / counts.sum() < 0.7
    ranks = np.arange(1, len(counts) + 1)
    gini = 1 - 2 * (np.cumsum(counts[::-1]) / counts.sum()).mean() + 1 / len(ranks)
    assert 0.4 < gini < 0.85
    lengths = year_end.likes["user_id"].value_counts()["count"]
    assert float(lengths.quantile(0.95) or 0) > 2.5 * float(lengths.median() or 0)  # type: ignore[arg-type]


def test_features_are_in_range_and_a_few_are_missing(year_end: RawBatch) -> None:
    features = year_end.features
    for name in AUDIO_FEATURES:
        values = features[name].drop_nulls()
        low, high = {"loudness": (-60, 0), "tempo": (40, 220), "key": (0, 11)}.get(name, (0, 1))
        assert values.is_between(low, high).all(), name
        assert not values.is_nan().any()
        assert values.n_unique() == {"key": 12, "mode": 2}.get(name, values.n_unique())
    assert 0.01 < 1 - features.height / year_end.tracks.height < 0.05
    assert 0.005 < features["key"].null_count() / features.height < 0.03


def test_features_follow_genre_and_then_artist(year_end: RawBatch) -> None:
    songs = year_end.features.join(year_end.tracks, on="track_id").with_columns(
        artist=pl.col("artist_ids").list.first()
    )

    def explained(name: str, by: str) -> float:
        within = songs[name] - songs.select(pl.col(name).mean().over(by))[name]
        return 1 - float((within**2).sum()) / float(((songs[name] - songs[name].mean()) ** 2).sum())

    for name in ("acousticness", "danceability", "energy", "instrumentalness", "loudness", "valence"):
        by_genre = explained(name, "genre")
        assert 0.25 < by_genre < 0.95, name
        assert explained(name, "artist") > by_genre + 0.02, name
    mean = dict(songs.group_by("genre").agg(pl.col("energy").mean()).rows())
    assert mean["metal"] > mean["pop"] > mean["ambient"]
    assert mean["classical"] < mean["jazz"] < mean["punk"]


def test_tastes_can_be_learnt_from_what_others_like(year_end: RawBatch) -> None:
    users = np.unique(year_end.likes["user_id"].to_numpy(), return_inverse=True)[1]
    tracks = np.unique(year_end.likes["track_id"].to_numpy(), return_inverse=True)[1]
    held_out = np.random.default_rng(0).random(len(users)) < 0.1
    n_users, n_tracks = users.max() + 1, tracks.max() + 1
    A = np.zeros((n_users, n_tracks), np.float32)
    A[users[~held_out], tracks[~held_out]] = 1
    truth = np.zeros((n_users, n_tracks), bool)
    truth[users[held_out], tracks[held_out]] = True
    degree = A.sum(axis=0)
    scaled = A / np.sqrt(np.maximum(degree, 1)) / np.sqrt(np.maximum(A.sum(axis=1, keepdims=True), 1))
    co_like = scaled.T @ scaled
    np.fill_diagonal(co_like, 0)

    def recall_at_20(scores: np.ndarray) -> float:
        top = np.argsort(-np.where(A > 0, -np.inf, scores), axis=1, kind="stable")[:, :20]
        judged = truth.any(axis=1)
        hits = np.take_along_axis(truth, top, axis=1).sum(axis=1)
        return float((hits[judged] / truth.sum(axis=1)[judged]).mean())

    popularity = recall_at_20(np.broadcast_to(degree, A.shape))
    neighbours = recall_at_20(A @ co_like)
    assert neighbours > 2.2 * popularity
    assert neighbours < 0.7, "a world where every like can be foretold teaches nothing"


def test_taste_drifts_so_that_recent_likes_are_from_other_scenes_than_the_first() -> None:
    world = World(WorldConfig(n_users=600, n_tracks=1_200, likes_per_user=60))
    likes, scene = world._likes, world._songs.scene

    def overlap(one: np.ndarray, other: np.ndarray) -> float:
        a, b = (np.bincount(scene[t], minlength=len(SCENES)) / len(t) for t in (one, other))
        return float(np.minimum(a, b).sum())

    far, near = [], []
    for user in range(len(world._people.user_ids)):
        tracks = likes.track[likes.user == user]
        if len(tracks) >= 60:
            third = len(tracks) // 3
            far.append(overlap(tracks[:third], tracks[-third:]))
            near.append(overlap(tracks[0 : 2 * third : 2], tracks[1 : 2 * third : 2]))
    assert len(far) > 50
    assert np.mean(far) < 0.75 * np.mean(near)
    assert np.mean(far) > 0.1, "a person remains, for all that"


def test_names_read_like_names_and_seldom_repeat(year_end: RawBatch) -> None:
    tracks = year_end.tracks.with_columns(artist=pl.col("artists").list.first())
    names = tracks["name"]
    assert names.n_unique() > 0.75 * tracks.height
    assert not tracks.select("name", "artist").is_duplicated().any()
    assert tracks["artist"].n_unique() == tracks["artist_ids"].list.first().n_unique()
    for name in [*names, *tracks["artist"]]:
        assert name == name.strip()
        assert not re.search(r"[{}_|]|  ", name), name
        assert 1 <= len(name) <= 90
    assert names.str.len_chars().mean() == pytest.approx(15, abs=6)  # type: ignore[comparison-overlap,unused-ignore]


def test_ids_look_like_those_of_a_music_service(year_end: RawBatch) -> None:
    tracks = year_end.tracks
    base62 = r"^[0-7][0-9A-Za-z]{21}$"
    assert tracks["track_id"].str.contains(base62).all()
    assert tracks["album_id"].str.contains(base62).all()
    assert tracks["artist_ids"].explode().str.contains(base62).all()
    assert tracks["isrc"].str.contains(r"^XT[0-9A-Z]{3}\d{7}$").all()
    assert tracks["isrc"].is_unique().all()
    assert year_end.users["user_id"].str.contains(r"^[a-z]+[._a-z0-9]*$").all()


def test_an_album_has_one_artist_and_songs_of_likely_length(year_end: RawBatch) -> None:
    albums = year_end.tracks.group_by("album_id").agg(
        pl.col("artist_ids").list.first().n_unique().alias("artists")
    )
    assert (albums["artists"] == 1).all()
    minutes = year_end.tracks["duration_ms"] / 60_000
    assert minutes.is_between(0.7, 16).all()
    assert 3 < float(minutes.median() or 0) < 5  # type: ignore[arg-type]
    by_genre = dict(year_end.tracks.group_by("genre").agg(pl.col("explicit").mean()).rows())
    assert by_genre["hip-hop"] > 0.4
    assert by_genre["classical"] < 0.1


def test_genres_name_their_neighbours_and_scenes_are_nearest_to_their_own_genre() -> None:
    names = {genre.name for genre in GENRES}
    assert all(set(genre.neighbours) <= names - {genre.name} for genre in GENRES)
    assert len({scene for _, scene in SCENES}) == len(SCENES)
    affinity = scene_affinity()
    np.testing.assert_allclose(affinity.sum(axis=1), 1)
    assert (np.diag(affinity) == 0).all()
    at = {scene: number for number, (_, scene) in enumerate(SCENES)}
    row = affinity[at["trap"]]
    assert row[at["boom bap"]] > row[at["neo soul"]] > row[at["chamber music"]] > 0
