"""Every split keeps its promise on any likes: nothing to be found is shown, nothing is lost."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.evaluate import HeldOut
from tunegraph_pipeline.evaluation.metrics import Ranked
from tunegraph_pipeline.evaluation.splits import (
    Split,
    cold_start_tracks,
    continuation,
    strong_generalisation,
    temporal,
    weak_generalisation,
)
from tunegraph_pipeline.graph.like_ages import ages_within


def likes_of(seed: int, n_users: int, n_tracks: int, density: float) -> csr_matrix:
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.random((n_users, n_tracks)) < density).astype(np.float32))


def same(one: csr_matrix, other: csr_matrix) -> bool:
    return np.array_equal(one.toarray(), other.toarray())


@st.composite
def any_likes(draw: st.DrawFn) -> csr_matrix:
    return likes_of(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(1, 25)),
        draw(st.integers(1, 25)),
        draw(st.floats(0, 1)),
    )


def split_by(name: str, likes: csr_matrix, share: float, users: int | None, seed: int) -> Split:
    """The split, or a case that hypothesis is to forget where nobody could be judged."""
    times = np.random.default_rng(seed).random(likes.nnz)
    ages = ages_within(likes, np.round(3 * times))  # some are as new as each other
    splits: dict[str, Callable[[], Split]] = {
        "weak": lambda: weak_generalisation(likes, share=share, users=users, seed=seed),
        "strong": lambda: strong_generalisation(likes, user_share=share, share=share, users=users, seed=seed),
        "temporal": lambda: temporal(likes, times, quantile=1 - share, users=users, seed=seed),
        "continuation": lambda: continuation(likes, ages, times, share=share, users=users, seed=seed),
        "cold": lambda: cold_start_tracks(likes, share=share, users=users, seed=seed),
    }
    try:
        return splits[name]()
    except InputError:
        assume(False)
        raise


NAMES = ("weak", "strong", "temporal", "continuation", "cold")


@pytest.mark.parametrize("name", NAMES)
@given(any_likes(), st.floats(0.05, 0.9), st.one_of(st.none(), st.integers(1, 8)), st.integers(0, 99))
def test_what_is_to_be_found_is_a_like_that_is_neither_learnt_nor_shown(
    name: str, likes: csr_matrix, share: float, users: int | None, seed: int
) -> None:
    split = split_by(name, likes, share, users, seed)
    dense, train = likes.toarray() > 0, split.train.toarray() > 0
    shown, relevant = split.held_out.likes.toarray() > 0, split.held_out.relevant.toarray() > 0
    assert (train <= dense).all()
    assert not (shown & relevant).any()
    assert shown.any(axis=1).all()
    assert relevant.any(axis=1).all()
    assert split.held_out.n_held_out.tolist() == relevant.sum(axis=1).tolist()
    if users is not None:
        assert len(relevant) <= users
    for row, user in enumerate(split.users.tolist()):
        if user >= 0:
            assert not (train[user] & relevant[row]).any()
            assert (shown[row] == train[user]).all()
            assert (relevant[row] <= dense[user]).all()
    again = split_by(name, likes, share, users, seed)
    assert same(again.train, split.train)
    assert same(again.held_out.relevant, split.held_out.relevant)


@given(any_likes(), st.floats(0.05, 0.9), st.integers(0, 99))
def test_weak_takes_its_share_of_every_user_and_never_all(likes: csr_matrix, share: float, seed: int) -> None:
    split = split_by("weak", likes, share, None, seed)
    lengths = np.diff(likes.indptr)
    assert split.users.tolist() == np.flatnonzero(lengths >= 2).tolist()
    expected = np.clip(np.round(share * lengths[split.users]), 1, lengths[split.users] - 1)
    assert split.held_out.n_held_out.tolist() == expected.tolist()
    assert split.train.nnz + split.held_out.n_held_out.sum() == likes.nnz


@given(any_likes(), st.floats(0.05, 0.9), st.integers(0, 99))
def test_strong_learns_nothing_of_whom_it_judges(likes: csr_matrix, share: float, seed: int) -> None:
    split = split_by("strong", likes, share, None, seed)
    assert (split.users == -1).all()
    unseen = np.flatnonzero((np.diff(split.train.indptr) == 0) & (np.diff(likes.indptr) > 0))
    whole = split.held_out.likes + split.held_out.relevant
    assert same(whole, likes[unseen])


@given(any_likes(), st.floats(0.05, 0.9), st.integers(0, 99))
def test_cold_tracks_have_no_like_left_and_are_all_that_is_asked_for(
    likes: csr_matrix, share: float, seed: int
) -> None:
    split = split_by("cold", likes, share, None, seed)
    assert not split.train[:, np.flatnonzero(split.cold)].nnz
    assert not split.held_out.relevant[:, np.flatnonzero(~split.cold)].nnz
    warm = np.flatnonzero(~split.cold)
    assert same(split.train[:, warm], likes[:, warm])


def test_time_divides_the_likes_and_what_has_none_is_learnt() -> None:
    likes = csr_matrix(np.array([[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]], dtype=np.float32))
    times = np.array([1.0, 5.0, np.nan, 2.0, 4.0, 5.0, 5.0])  # the third user's likes are late both
    split = temporal(likes, times, quantile=0.5)
    # Known, in order: 1 2 4 5 5 5. The lower median is 4, so what is of 5 is asked for.
    assert split.train.toarray().tolist() == [[1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    assert split.users.tolist() == [0]
    assert split.held_out.relevant.toarray().tolist() == [[0, 1, 0, 0]]


def test_a_split_by_time_says_how_old_the_likes_it_learns_from_are() -> None:
    likes = csr_matrix(np.array([[1, 1, 1], [0, 1, 1]], dtype=np.float32))
    days = np.array([1.0, np.nan, 9.0, 4.0, 6.0])
    split = temporal(likes, 86_400 * days, quantile=0.7)
    assert split.train.toarray().tolist() == [[1, 1, 0], [0, 1, 1]]
    assert split.ages is not None
    np.testing.assert_array_equal(split.ages, [5.0, np.nan, 2.0, 0.0])
    # So what was learnt from can be divided by time again, before what was held out.
    earlier = temporal(split.train, -86_400 * split.ages, quantile=0.5)
    assert earlier.train.toarray().tolist() == [[1, 1, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="the ages of 3, not 4, likes"):
        replace(split, ages=split.ages[:3])


def test_where_tracks_are_cold_a_ranking_is_cut_to_them_in_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    likes = likes_of(2, 30, 12, 0.4)
    split = cold_start_tracks(likes, share=0.4)
    order = np.random.default_rng(0).permutation(12)

    class Fixed:
        def rank(self, likes: csr_matrix, k: int) -> Ranked:
            liked = likes.toarray() > 0
            lists = [[track for track in order.tolist() if not row[track]] for row in liked]
            return np.array([(found + [-1] * 12)[:k] for found in lists], dtype=np.int32)

    monkeypatch.setattr("tunegraph_pipeline.evaluation.splits._BLOCK_ENTRIES", 40)
    cold = [track for track in order.tolist() if split.cold[track]]
    ranked = split.ranking(Fixed())(split.held_out.likes, 7)
    assert ranked.tolist() == [(cold + [-1] * 7)[:7]] * split.held_out.n_users


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_users_is_told_who_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_by(name, likes_of(3, 30, 12, 0.4), 0.3, None, 0)
    told: list[int] = []

    class Knows:
        def rank(self, likes: csr_matrix, k: int) -> Ranked:
            raise AssertionError

        def rank_known(self, users: NDArray[np.int64], likes: csr_matrix, k: int) -> Ranked:
            told.extend(users.tolist())
            return np.full((likes.shape[0], k), -1, dtype=np.int32)

    monkeypatch.setattr("tunegraph_pipeline.evaluation.splits._BLOCK_ENTRIES", 40)
    split.ranking(Knows())(split.held_out.likes, 2)
    assert told == split.users.tolist()


def test_another_seed_is_another_split() -> None:
    likes = likes_of(1, 60, 40, 0.3)
    for name in ("weak", "strong", "cold"):
        one, other = (split_by(name, likes, 0.2, 20, seed) for seed in (0, 1))
        assert not same(one.train, other.train)


def test_a_split_that_leaks_is_refused() -> None:
    likes = csr_matrix(np.array([[1, 1, 0], [0, 1, 1]], dtype=np.float32))
    split = weak_generalisation(likes, share=0.5)
    with pytest.raises(ValueError, match="among the training likes"):
        replace(split, train=likes)
    with pytest.raises(ValueError, match="cold track"):
        replace(split, cold=np.ones(3, dtype=np.bool_))
    relevant = split.held_out.relevant
    with pytest.raises(ValueError, match="among the likes"):
        HeldOut(relevant, relevant, split.held_out.n_held_out)


def test_what_cannot_be_split_is_refused_in_one_line() -> None:
    lonely = csr_matrix(np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="two likes or more"):
        weak_generalisation(lonely)
    with pytest.raises(InputError, match="two likes or more"):
        strong_generalisation(lonely)
    with pytest.raises(InputError, match="no like has a time"):
        temporal(lonely, np.full(3, np.nan))
    with pytest.raises(InputError, match="cold track"):
        cold_start_tracks(lonely)
    with pytest.raises(InputError, match="no track is liked"):
        cold_start_tracks(csr_matrix(np.zeros((2, 2), dtype=np.float32)))
    with pytest.raises(InputError, match="share of 1"):
        weak_generalisation(lonely, share=1.0)
    pair = csr_matrix(np.ones((1, 2), dtype=np.float32))
    with pytest.raises(InputError, match="no user is left"):
        strong_generalisation(pair)


def test_the_newest_fifth_of_each_list_with_an_order_is_hidden_and_the_rest_keeps_its_order() -> None:
    # Of the second list no order is known; of the first, 0 to 9 are ever newer.
    likes = csr_matrix(np.ones((2, 10), dtype=np.float32))
    ages = np.concatenate([np.arange(10)[::-1], np.zeros(10)]).astype(np.uint16)
    split = continuation(likes, ages)
    assert split.users.tolist() == [0]
    assert split.held_out.relevant.indices.tolist() == [8, 9]
    assert split.train.nnz == 18
    assert split.order is not None
    assert split.order.tolist() == [*range(7, -1, -1), *[0] * 10]
    assert split.held_out.order is not None
    assert split.held_out.order.toarray().tolist() == [[8, 7, 6, 5, 4, 3, 2, 1, 0, 0]]
    with pytest.raises(InputError, match="no user has a list with an order"):
        continuation(likes, np.zeros(20, dtype=np.uint16))


class _Ordered:
    """Says what it was asked."""

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        raise AssertionError("asked for sets")

    def rank_ordered(self, lists: csr_matrix, k: int) -> Ranked:
        return lists.data[None, :k].astype(np.int32)


def test_a_model_that_takes_ordered_lists_gets_them() -> None:
    likes = csr_matrix(np.ones((1, 5), dtype=np.float32))
    split = continuation(likes, np.array([2, 0, 1, 4, 3], dtype=np.uint16))
    assert split.ranking(_Ordered())(split.held_out.likes, 4).tolist() == [[2, 1, 4, 3]]
    by_time = temporal(likes, np.array([3.0, 9.0, 4.0, 1.0, 2.0]), quantile=0.8)
    assert by_time.ranking(_Ordered())(by_time.held_out.likes, 4).tolist() == [[2, 1, 4, 3]]
