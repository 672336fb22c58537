"""The split is a function of the ids and the key, and of nothing else."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.graph.split import (
    EARLY_STOPPING,
    GATE,
    TRAIN,
    calibration_judges,
    calibration_users,
    id_hashes,
    mix,
    pair_folds,
)

hashes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20).map(lambda x: np.array(x, np.uint64))


def random_hashes(n: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def test_an_id_hashes_to_its_keyed_blake2b() -> None:
    key = hashlib.blake2b(b"lake key", digest_size=32).digest()
    expected = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "little")
        for text in ("a", "é", "")
    ]

    assert id_hashes(["a", "é", ""], "lake key").tolist() == expected
    assert id_hashes(["a"], "another key")[0] != expected[0]


def test_the_finaliser_is_that_of_splitmix64() -> None:
    # The first three numbers of the published generator seeded with 0.
    gamma = 0x9E3779B97F4A7C15
    seeds = np.array([0, gamma, 2 * gamma % 2**64], dtype=np.uint64)

    assert [hex(x) for x in mix(seeds).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_the_fold_of_a_pair_is_the_same_in_every_release() -> None:
    users = np.repeat(id_hashes([f"user {i}" for i in range(20)], "k"), 20)
    tracks = np.tile(id_hashes([f"track {i}" for i in range(20)], "k"), 20)
    folds = pair_folds(users, tracks, 0.02)

    assert {int(fold): np.flatnonzero(folds == fold).tolist() for fold in (EARLY_STOPPING, GATE)} == {
        EARLY_STOPPING: [155],
        GATE: [376, 387],
    }


def test_the_folds_have_their_shares() -> None:
    folds = pair_folds(random_hashes(400_000, 1), random_hashes(400_000, 2), 0.02)
    shares = np.bincount(folds, minlength=3) / len(folds)

    np.testing.assert_allclose(shares, [0.98, 0.01, 0.01], atol=0.0006)  # four standard deviations


def test_every_user_and_every_track_gets_its_share_of_held_out_pairs() -> None:
    users = np.repeat(random_hashes(300, 3), 300)
    tracks = np.tile(random_hashes(300, 4), 300)
    held = (pair_folds(users, tracks, 0.2) != TRAIN).reshape(300, 300)

    for counts in (held.sum(axis=0), held.sum(axis=1)):
        assert abs(counts.mean() - 60) < 1
        assert 5.5 < counts.std() < 8.5  # binomial: 6.9


@settings(deadline=None)
@given(hashes, st.integers(0, 2**64 - 1))
def test_a_pair_falls_where_it_falls_whatever_stands_beside_it(
    users: np.ndarray[tuple[int], np.dtype[np.uint64]], track: int
) -> None:
    tracks = np.full(len(users), track, dtype=np.uint64)
    together = pair_folds(users, tracks, 0.5)

    alone = [pair_folds(users[i : i + 1], tracks[i : i + 1], 0.5)[0] for i in range(len(users))]
    assert together.tolist() == alone
    assert pair_folds(users[::-1], tracks, 0.5).tolist() == alone[::-1]


def test_a_larger_share_moves_no_held_out_pair() -> None:
    users, tracks = random_hashes(20_000, 5), random_hashes(20_000, 6)
    few, many = pair_folds(users, tracks, 0.1), pair_folds(users, tracks, 0.3)

    assert np.array_equal(few[few != TRAIN], many[few != TRAIN])
    assert (many != TRAIN).sum() > 2 * (few != TRAIN).sum()


def test_a_user_and_a_track_of_the_same_name_are_told_apart() -> None:
    one, other = random_hashes(2000, 7), random_hashes(2000, 8)

    assert (pair_folds(one, other, 0.5) != pair_folds(other, one, 0.5)).any()


def test_calibration_users_are_drawn_apart_from_the_pairs_and_split_in_two() -> None:
    users = random_hashes(200_000, 9)
    drawn, judges = calibration_users(users, 0.05), calibration_judges(users)

    assert abs(drawn.mean() - 0.05) < 0.002
    assert abs(judges[drawn].mean() - 0.5) < 0.02
    held = pair_folds(users, random_hashes(200_000, 10), 0.5) != TRAIN
    assert abs(held[drawn].mean() - 0.5) < 0.02


def test_a_share_of_nothing_holds_nothing_out() -> None:
    users = random_hashes(1000, 11)

    assert not pair_folds(users, users, 0.0).any()
    assert not calibration_users(users, 0.0).any()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    users = random_hashes(3, 12)
    with pytest.raises(InputError, match="held_out is"):
        pair_folds(users, users, share)
    with pytest.raises(InputError, match="calibration_share is"):
        calibration_users(users, share)
