"""Paths from one song to another over the neighbour weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend import path as path_module
from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.path import NoPathError, find_path
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline_tests.recommend.conftest import random_content

_N = 40


def opened(folder: Path, edges: dict[tuple[int, int], float], **blocked: list[str]) -> Recommender:
    """A bundle of songs "0" to "39" with these neighbour weights."""
    rows = np.array([row for row, _ in sorted(edges)], dtype=np.int64)
    content = replace(
        random_content(3, n_tracks=_N, n_users=4),
        track_ids=[str(track) for track in range(_N)],
        canonical=np.arange(_N, dtype=np.int32),
        recommendable=np.ones(_N, dtype=np.bool_),
        neighbour_indptr=np.searchsorted(rows, np.arange(_N + 1)).astype(np.int64),
        neighbour_indices=np.array([column for _, column in sorted(edges)], dtype=np.int32),
        neighbour_weight=np.array([edges[edge] for edge in sorted(edges)], dtype=np.float32),
    )
    write_bundle(folder / "path", content)
    return Recommender(Bundle.open(folder / "path"), **blocked)


def ids(recommender: Recommender, start: int, end: int, most: int = 12) -> list[int]:
    return [int(step.song.track_id) for step in find_path(recommender, str(start), str(end), most)]


def test_the_shortest_path_is_taken_and_of_two_the_strongest(tmp_path: Path) -> None:
    line = {(track, track + 1): 0.9 for track in range(6)}
    recommender = opened(tmp_path, {**line, (0, 10): 0.2, (10, 6): 0.2, (0, 11): 0.3, (6, 11): 0.3})
    assert ids(recommender, 0, 6) == [0, 11, 6]
    assert ids(recommender, 6, 0) == [6, 11, 0]
    assert ids(recommender, 0, 1) == [0, 1]
    assert ids(recommender, 3, 3) == [3]


def test_a_path_has_at_most_so_many_songs_and_there_may_be_none(tmp_path: Path) -> None:
    recommender = opened(tmp_path, {(track, track + 1): 0.9 for track in range(14)})
    assert ids(recommender, 0, 11) == list(range(12))
    assert ids(recommender, 11, 0, most=12) == list(range(11, -1, -1))
    for start, end, most in ((0, 12, 12), (0, 5, 5), (0, 30, 50)):
        with pytest.raises(NoPathError, match=f"at most {most} songs"):
            ids(recommender, start, end, most)
    with pytest.raises(InputError, match="track 'x' is not in bundle"):
        find_path(recommender, "0", "x")
    with pytest.raises(InputError, match="most is 1"):
        find_path(recommender, "0", "1", 1)


def test_blocked_songs_are_on_no_path_but_at_its_ends(tmp_path: Path) -> None:
    edges = {(0, 1): 0.9, (1, 2): 0.9, (0, 3): 0.1, (3, 4): 0.1, (4, 2): 0.1}
    recommender = opened(tmp_path, edges, blocked_tracks=["1", "2"])
    assert ids(recommender, 0, 2) == [0, 3, 4, 2]
    assert ids(recommender, 1, 0) == [1, 0]


def test_a_step_says_how_many_like_both(tmp_path: Path) -> None:
    recommender = opened(tmp_path, {(0, 1): 0.9, (1, 2): 0.9})
    steps = find_path(recommender, "0", "2")
    one, other = np.array([0, 1], dtype=np.int32), np.array([1, 2], dtype=np.int32)
    both = recommender.ranker.listeners_of_both(one, other).tolist()
    assert [step.listeners for step in steps] == [0, *both]


def test_with_few_songs_going_on_a_path_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_module, "_GOING_ON", 3)
    star = {(0, track): 0.1 for track in range(20, 40)}
    line = {(track, track + 1): 0.9 for track in range(8)}
    assert ids(opened(tmp_path, {**star, **line}), 0, 8) == list(range(9))
