"""How lists are continued follows from what was liked next, where that tells."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph.like_ages import OrderedRows
from tunegraph_pipeline.models.blend import USUAL_RECENCY, Blend, Continuation
from tunegraph_pipeline.training.blend import ScoreParts
from tunegraph_pipeline.training.continuation import choose_continuation

N, SETS = 300, Blend(embedding=1.0, neighbour=1.0, length_exponent=0.5)
EVERY = np.ones(N, dtype=np.bool_)


def rows_of(seed: int, next_of: dict[int, int] | None = None) -> OrderedRows:
    """Lists of ten tracks in random order; what is liked next is what follows the newest, or anything."""
    rng = np.random.default_rng(seed)
    context, targets = np.zeros((200, N), dtype=np.float32), np.zeros((200, N), dtype=np.float32)
    for row in range(200):
        listed = rng.choice(100, 10, replace=False)
        context[row, listed] = np.arange(1, 11)
        targets[row, 100 + rng.integers(100) if next_of is None else next_of[int(listed[0])]] = 1
    nothing = csr_matrix(np.zeros((200, N), dtype=np.float32))
    return OrderedRows(csr_matrix(context), csr_matrix(targets), nothing, np.arange(200))


def parts(next_of: dict[int, int]) -> ScoreParts:
    """Neighbour weights that say what follows each track; embeddings that say nothing."""
    weights = np.zeros((N, N), dtype=np.float32)
    for track, following in next_of.items():
        weights[track, following] = 1
    flat = np.tile(np.array([1, 0], dtype=np.float32), (N, 1))
    return ScoreParts(flat, np.ones(N, dtype=np.float32), csr_matrix(weights))


FOLLOWS = {track: 100 + track for track in range(100)}


def test_where_the_newest_song_says_what_comes_next_it_counts_most_and_users_are_continued() -> None:
    found, figures = choose_continuation(
        rows_of(1, FOLLOWS), parts(FOLLOWS), np.zeros(N, np.float32), EVERY, SETS
    )
    assert found.neighbour_recency >= USUAL_RECENCY
    assert found.for_users
    as_sets, continued = figures.mean(axis=1)
    assert continued == pytest.approx(1.0)
    assert as_sets < 0.5


def test_where_nothing_tells_the_usual_way_stays_and_users_are_not_continued() -> None:
    usual = Continuation(SETS, USUAL_RECENCY, USUAL_RECENCY)
    found, _ = choose_continuation(rows_of(2), parts(FOLLOWS), np.zeros(N, np.float32), EVERY, SETS)
    assert found == usual
    for nothing in (None, rows_of(2).at(np.zeros(0, np.int64))):
        found, figures = choose_continuation(nothing, parts(FOLLOWS), np.zeros(N, np.float32), EVERY, SETS)
        assert (found, figures.shape) == (usual, (2, 0))


def test_other_songs_of_the_list_are_in_no_ranking() -> None:
    rows = rows_of(1, FOLLOWS)
    # Without its own song each of the others would come before what is asked for.
    others = np.zeros((200, N), dtype=np.float32)
    others[:, 200:] = 1
    prior = np.where(np.arange(N) >= 200, np.float32(100), np.float32(0)).astype(np.float32)
    hidden = replace_others(rows, others)
    assert choose_continuation(hidden, parts(FOLLOWS), prior, EVERY, SETS)[1][1].mean() == pytest.approx(1.0)
    assert choose_continuation(rows, parts(FOLLOWS), prior, EVERY, SETS)[1].max() == 0


def replace_others(rows: OrderedRows, others: np.ndarray) -> OrderedRows:
    return rows._replace(others=csr_matrix(others))
