"""Who plays what, and when: the published distributions, and the same listens whatever is asked for first."""

from datetime import date, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.dumps.listens import (
    FOREVER,
    Listens,
    ListensConfig,
    ListenWorld,
    config_of_size,
    seconds,
    together,
)

START, FULL = date(2026, 6, 1), date(2026, 9, 1)
CONFIG = ListensConfig(
    n_users=2_000, n_songs=2_000, listens_a_day=20_000, bots=1, shared_accounts=2, history=2_000
)


@pytest.fixture(scope="module")
def world() -> ListenWorld:
    return ListenWorld(CONFIG)


@pytest.fixture(scope="module")
def month(world: ListenWorld) -> Listens:
    return together([world.of_day(START + timedelta(days=i)) for i in range(12)])


def people(world: ListenWorld, listens: Listens) -> Listens:
    """Without bots and shared accounts."""
    return listens.where(~np.isin(world.user_ids[listens.user], world.bots + world.shared_accounts))


def equal(one: Listens, other: Listens) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in Listens.__dataclass_fields__
    )


def test_a_stretch_is_the_same_whatever_was_asked_before(world: ListenWorld) -> None:
    fresh = ListenWorld(CONFIG)
    late = fresh.of_import(FULL, date(2015, 1, 1), date(2016, 1, 1))

    assert equal(late, world.of_import(FULL, date(2015, 1, 1), date(2016, 1, 1)))
    assert equal(fresh.of_day(START), world.of_day(START))
    assert not equal(fresh.of_day(START), world.of_day(START + timedelta(days=1)))


def test_people_play_as_much_as_was_published(world: ListenWorld, month: Listens) -> None:
    own = people(world, month)
    _, counts = np.unique(own.user * 1_000 + own.at // 86_400 % 1_000, return_counts=True)

    assert 20 <= np.median(counts) <= 26
    assert 100 <= np.quantile(counts, 0.9) <= 130
    assert 17_000 <= len(own.at) / 12 <= 23_000


def test_bots_and_shared_accounts_play_more_than_a_person_can(world: ListenWorld) -> None:
    day = world.of_day(START)
    played = dict(zip(*np.unique(world.user_ids[day.user], return_counts=True), strict=True))

    assert len(world.bots) == 1
    assert len(world.shared_accounts) == 2
    # Two plays in one second are one.
    assert played.pop(world.bots[0]) > 9_000
    assert all(played.pop(user) > 1_000 for user in world.shared_accounts)
    assert max(played.values()) <= 900


def test_three_listens_in_four_show_an_id(world: ListenWorld, month: Listens) -> None:
    own = people(world, month)
    shown = np.array(world.songs.shown["recording_mbid"].is_valid())[own.writing]

    assert 0.70 <= shown.mean() <= 0.78


def test_people_have_favourites_and_scenes(world: ListenWorld, month: Listens) -> None:
    own = people(world, month)
    recording = world.songs.recording[own.writing]
    pair = own.user * 10_000 + recording
    day_keys = np.unique(pair * 100_000 + own.at // 86_400)
    _, of, plays = np.unique(pair, return_inverse=True, return_counts=True)
    on_days = np.unique(day_keys // 100_000, return_counts=True)[1]
    of_scene, in_scene = np.unique(own.user * 1_000 + world.songs.scene[recording], return_counts=True)
    most = np.zeros(CONFIG.n_users)
    np.maximum.at(most, of_scene // 1_000, in_scene)

    assert 0.35 <= ((plays >= 3) & (on_days >= 2))[of].mean() <= 0.9
    # A scene of their own, and much that just runs.
    assert 0.33 <= most.sum() / len(own.at) <= 0.5
    assert 1.5 <= plays.mean() <= 3
    # One person writes a song in one way.
    assert len(np.unique(pair * 100_000 + own.writing)) == len(plays)


def test_nothing_is_played_twice_at_once(world: ListenWorld, month: Listens) -> None:
    late = [
        world.of_import(FULL + timedelta(days=i), *s) for i in range(2) for s in world.stretches(FULL)[-3:]
    ]
    history = [world.of_history(*stretch) for stretch in world.stretches(START)]
    everything = together([month, *late, *history])

    assert len(np.unique(everything.user * 2**33 + everything.at)) == len(everything.at)
    assert sum(len(part.at) for part in history) == pytest.approx(CONFIG.history, rel=0.02)


def test_late_listens_are_of_any_year_and_two_thirds_of_a_day(world: ListenWorld) -> None:
    day = FULL + timedelta(days=3)
    late = together([world.of_import(day, *stretch) for stretch in world.stretches(day)])
    years = np.unique(late.at // (365 * 86_400))

    assert len(late.at) / (len(late.at) + CONFIG.listens_a_day) == pytest.approx(0.68, abs=0.02)
    assert len(years) > 18
    assert (late.created >= seconds(day) * 1000).all()
    assert (late.at * 1000 < late.created).all()


def test_some_listens_are_deleted_later(month: Listens) -> None:
    gone = month.deleted != FOREVER

    assert 0.001 < gone.mean() < 0.02
    assert (month.deleted > month.created).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"first_full": date(2026, 9, 2)}, "one of the full_days"),
        ({"start": date(2026, 9, 1)}, "in this order"),
        ({"n_users": 1_000}, "may be 40 for each of n_users"),
        ({"n_users": 20, "listens_a_day": 10, "bots": 20}, "fewer than n_users"),
    ],
)
def test_an_impossible_config_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ListensConfig.model_validate(wrong)


def test_a_config_of_a_size_ends_at_the_newest_full_export() -> None:
    config = config_of_size(100, 50, 3, date(2026, 11, 29))

    assert config.first_full == date(2026, 11, 15)
    assert (config.seed, config.n_users, config.n_songs) == (3, 100, 50)
    with pytest.raises(InputError, match="from 2006 on"):
        config_of_size(100, 50, 3, date(2005, 6, 1))
