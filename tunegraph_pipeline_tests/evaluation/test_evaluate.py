"""What is held out, how it maps to the catalogue, and the rows that come out."""

from typing import cast

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.evaluate import (
    HeldOut,
    comparison,
    evaluate,
    evaluation_rows,
    held_out_fold,
    held_out_pairs,
    served,
)
from tunegraph_pipeline.evaluation.metrics import Ranked
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.recommend.ranking import Ranker, Rankings

USERS = ["ann", "bob", "cleo"]
TRACKS = ["t0", "t1", "t2", "t3"]
LIKES = csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=np.float32))
POPULARITY = np.array([1, 2, 1, 1], dtype=np.int64)


def pairs(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), {"user_id": pl.String, "track_id": pl.String}, orient="row")


def hold_out(*rows: tuple[str, str]) -> HeldOut:
    return held_out_pairs(pairs(*rows), user_ids=USERS, track_ids=TRACKS, likes=LIKES, origin="held.csv")


def smallest_unliked(likes: csr_matrix, k: int) -> Ranked:
    """A ranking simple enough to follow: what is not liked, by index."""
    ranked = np.full((likes.shape[0], k), -1, dtype=np.int32)
    for row, liked in enumerate(likes.toarray()):
        best = np.flatnonzero(liked == 0)[:k]
        ranked[row, : best.size] = best
    return ranked


def test_users_are_judged_by_id_and_shown_what_they_like() -> None:
    held_out = hold_out(("cleo", "t0"), ("ann", "t3"), ("cleo", "t1"))
    assert held_out.likes.toarray().tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]
    assert held_out.relevant.toarray().tolist() == [[0, 0, 0, 1], [1, 1, 0, 0]]
    assert held_out.n_held_out.tolist() == [1, 2]


def test_unknown_users_and_tracks_are_counted_and_stay_in_the_denominator() -> None:
    held_out = hold_out(
        ("ann", "t2"), ("ann", "nowhere"), ("zoe", "t0"), ("bob", "nowhere"), ("zoe", "never")
    )
    assert (held_out.n_users, held_out.unknown_users, held_out.unknown_tracks) == (3, 1, 3)
    assert held_out.n_held_out.tolist() == [2, 1, 2]
    found = evaluate("simple", smallest_unliked, held_out, POPULARITY, k=1)
    # ann finds t2 of two; bob can find nothing; zoe, of whom nothing is known, finds t0 of two.
    assert found.per_user["recall"].tolist() == [0.5, 0.0, 0.5]
    assert found.values["recall"] == pytest.approx(1 / 3)


def test_a_pair_given_twice_counts_once() -> None:
    assert hold_out(("ann", "t2"), ("ann", "t2")).n_held_out.tolist() == [1]


def test_held_out_ids_of_one_recording_are_judged_as_one_song() -> None:
    # t3 is another id of t2, so its likes lie with t2.
    likes = csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=np.float32))
    held_out = held_out_pairs(
        pairs(
            ("ann", "t3"), ("ann", "t2"), ("ann", "nowhere"), ("bob", "t3"), ("bob", "t0"), ("cleo", "t2"),
            ("zoe", "t3"),
        ),
        user_ids=USERS,
        track_ids=TRACKS,
        likes=likes,
        origin="held.csv",
        canonical=np.array([0, 1, 2, 2], dtype=np.int32),
    )  # fmt: skip
    assert held_out.relevant.toarray().tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    # What bob and cleo like under one of the two ids is missed, and still counted, like what nobody knows.
    assert held_out.n_held_out.tolist() == [2, 2, 1, 1]
    assert (held_out.unknown_users, held_out.unknown_tracks, held_out.liked_already) == (1, 1, 2)
    found = evaluate("simple", smallest_unliked, held_out, POPULARITY, k=3)
    assert found.per_user["recall"].tolist() == [0.5, 0.5, 0.0, 1.0]


def test_a_pair_of_a_recording_with_one_id_is_refused_beside_others_with_several() -> None:
    with pytest.raises(InputError, match=r"1 of 2 .* first of them user 'ann', track 't1'"):
        held_out_pairs(
            pairs(("cleo", "t3"), ("ann", "t1")),
            user_ids=USERS,
            track_ids=TRACKS,
            likes=LIKES,
            origin="held.csv",
            canonical=np.array([0, 1, 2, 2], dtype=np.int32),
        )


def test_pairs_that_are_in_the_lake_are_refused_with_their_number_and_the_first() -> None:
    with pytest.raises(
        InputError,
        match=r"held\.csv: in the lake already are 2 of 3 .* first of them user 'bob', track 't1'",
    ) as caught:
        hold_out(("ann", "t3"), ("bob", "t1"), ("ann", "t0"))
    assert "\n" not in str(caught.value)


def test_an_absurdly_long_id_does_not_flood_the_message() -> None:
    long = "x" * 10_000
    with pytest.raises(InputError) as caught:
        held_out_pairs(
            pairs((long, "t0")),
            user_ids=[long],
            track_ids=TRACKS,
            likes=csr_matrix(np.ones((1, 4), dtype=np.float32)),
            origin="held.csv",
        )
    assert len(str(caught.value)) < 300


def test_no_pairs_at_all_are_refused() -> None:
    with pytest.raises(InputError, match=r"held\.csv holds no user/track pair"):
        hold_out()


def test_a_fold_is_hidden_from_the_ranking_that_is_judged_on_it() -> None:
    fold = csr_matrix(np.array([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float32))
    held_out = held_out_fold(LIKES, fold)
    assert held_out.likes.toarray().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert held_out.relevant.toarray().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert evaluate("simple", smallest_unliked, held_out, POPULARITY, k=1).values["recall"] == 0.5


def test_an_empty_fold_is_refused() -> None:
    with pytest.raises(InputError, match="no like is held out"):
        held_out_fold(LIKES, csr_matrix(np.zeros(LIKES.shape, dtype=np.float32)))


def test_training_on_what_is_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="among the likes the ranking is shown"):
        HeldOut(LIKES, LIKES, np.array([2, 2, 1]))


@pytest.mark.parametrize(
    ("row", "fault"),
    [([2, 3, 1], "ranked"), ([2, 2], "twice"), ([0, 2], "likes already"), ([2, 4], "outside")],
)
def test_a_ranking_that_cheats_gets_no_figure(row: list[int], fault: str) -> None:
    def cheat(likes: csr_matrix, k: int) -> Ranked:
        return np.array([row], dtype=np.int32)

    with pytest.raises(ValueError, match=fault):
        evaluate("cheat", cheat, hold_out(("ann", "t3")), POPULARITY, k=2)


def test_the_rows_are_those_of_the_evaluation_table() -> None:
    found = evaluate("simple", smallest_unliked, hold_out(("ann", "t3")), POPULARITY, k=2)
    rows = evaluation_rows([found], dataset="held.csv", split="held_out_file", run_id="r1")
    declared = TABLES["evaluation"].schema
    assert rows.columns == declared.names
    assert rows.to_arrow().cast(declared).num_rows == len(found.values) == 7
    assert rows.filter(pl.col("metric") == "ndcg")["value"].to_list() == [pytest.approx(1 / np.log2(3))]


def test_figures_are_printed_one_a_line_and_side_by_side() -> None:
    found = evaluate("simple", smallest_unliked, hold_out(("ann", "t3")), POPULARITY, k=2)
    assert "map@2 0.5000" in found.lines()
    table = comparison([found, found])
    assert table["model"].to_list() == ["simple", "simple"]
    assert table["recall@2"].to_list() == [1.0, 1.0]


class _RecordingRanker:
    """Stands in for the query: remembers the lists it was given and ranks nothing."""

    def __init__(self) -> None:
        self.lists: list[list[int]] = []

    def rank(self, lists: list[NDArray[np.int32]], k: int, **_: object) -> Rankings:
        self.lists = [liked.tolist() for liked in lists]
        shape = (len(lists), k)
        indices = np.full(shape, -1, dtype=np.int32)
        return Rankings(indices, np.full(shape, -np.inf, dtype=np.float32), indices)


def test_what_is_served_is_asked_with_each_users_own_list() -> None:
    ranker = _RecordingRanker()
    held_out = hold_out(("ann", "t3"), ("zoe", "t0"), ("cleo", "t1"))
    found = evaluate("served", served(cast(Ranker, ranker)), held_out, POPULARITY, k=2)
    assert ranker.lists == [[0, 1], [3], []]
    assert found.values["recall"] == 0
