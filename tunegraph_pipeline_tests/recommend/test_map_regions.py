"""Places on the map are named by what is typical of them."""

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.map_regions import MOST_REGIONS, Labels, regions_of


def labels(names: list[str], of_songs: NDArray[np.int64]) -> Labels:
    songs = np.flatnonzero(of_songs >= 0)
    return Labels(names, songs, of_songs[songs], np.ones(len(songs)))


def test_each_corner_has_the_name_of_its_songs_and_neighbours_of_one_name_are_one_region() -> None:
    rng = np.random.default_rng(3)
    positions = rng.random((1_000, 2))
    quarter = (positions[:, 0] > 0.5) * 2 + (positions[:, 1] > 0.5)
    found = regions_of(positions, labels(["Jazz", "Rock", "Folk", "Pop"], quarter))
    assert sorted(region.name for region in found) == ["Folk", "Jazz", "Pop", "Rock"]
    for region in found:
        at = {"Jazz": (0.25, 0.25), "Rock": (0.25, 0.75), "Folk": (0.75, 0.25), "Pop": (0.75, 0.75)}
        assert np.allclose((region.x, region.y), at[region.name], atol=0.05)
        assert 200 < region.songs <= 300


def test_what_is_everywhere_names_no_place_that_has_something_of_its_own() -> None:
    rng = np.random.default_rng(4)
    positions = rng.random((800, 2))
    right = np.flatnonzero(positions[:, 0] > 0.5)
    songs = np.concatenate([np.arange(800), right])
    label = np.concatenate([np.zeros(800, dtype=np.int64), np.ones(len(right), dtype=np.int64)])
    found = regions_of(positions, Labels(["Pop", "Dream Pop"], songs, label, np.ones(len(songs))))
    assert [(region.name, region.x > 0.5) for region in found if region.name == "Dream Pop"] == [
        ("Dream Pop", True)
    ]
    assert all(region.x < 0.5 for region in found if region.name == "Pop")


def test_there_are_some_thirty_at_most_and_none_without_names() -> None:
    rng = np.random.default_rng(5)
    positions = rng.random((5_000, 2))
    many = regions_of(positions, labels([f"genre {n}" for n in range(900)], rng.integers(0, 900, 5_000)))
    assert 10 <= len(many) <= MOST_REGIONS
    assert [one.songs for one in many] == sorted((one.songs for one in many), reverse=True)
    assert regions_of(positions, labels([], np.full(5_000, -1))) == []
    assert regions_of(positions[:0], labels([], np.zeros(0, dtype=np.int64))) == []
    same_place = regions_of(np.full((100, 2), 0.5), labels(["Jazz"], np.zeros(100, dtype=np.int64)))
    assert [(one.name, one.songs) for one in same_place] == [("Jazz", 100)]
