"""In which order targets put recommended songs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.recommend.bundle import Bundle, write_bundle
from tunegraph_pipeline.recommend.filters import NotInBundleError
from tunegraph_pipeline.recommend.targets import order_by_targets
from tunegraph_pipeline_tests.recommend.conftest import random_content

N = 40
FEATURES = ("energy", "key", "mode", "tempo")
everything = np.arange(N, dtype=np.int32)
rng = np.random.default_rng(7)
ENERGY = rng.random(N).astype(np.float16)
ENERGY[3::7] = np.nan
KEY = np.arange(N) % 12
MODE = np.arange(N) % 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("targets") / "v1"
    nothing = np.full(N, np.nan)
    content = dataclasses.replace(
        random_content(0, n_tracks=N),
        feature_names=list(FEATURES),
        features=np.array([ENERGY, KEY, MODE, nothing], dtype=np.float16),
    )
    write_bundle(folder, content)
    return Bundle.open(folder)


def test_the_order_is_that_of_a_quarter_of_the_score_and_three_of_the_distance(bundle: Bundle) -> None:
    distances = np.abs(ENERGY.astype(float) - 0.6).tolist()
    known = np.array([distance for distance in distances if not np.isnan(distance)])

    def place(distance: float) -> float:
        if np.isnan(distance):
            return 0.5
        nearer, same = (known < distance).sum(), (known == distance).sum()
        return float(nearer + (same - 1) / 2) / (len(known) - 1)

    expected = sorted(range(N), key=lambda song: song / (N - 1) + 3 * place(distances[song]))
    assert order_by_targets(bundle, everything, {"energy": 0.6}).tolist() == expected


def test_keys_go_round(bundle: Bundle) -> None:
    songs = np.array([6, 1, 11, 0], dtype=np.int32)  # a song's number is its key
    assert songs[order_by_targets(bundle, songs, {"key": 0})].tolist() == [0, 1, 11, 6]


def test_songs_at_the_same_distance_keep_their_order(bundle: Bundle) -> None:
    major = order_by_targets(bundle, everything, {"mode": 1}).tolist()
    assert major == [*range(1, N, 2), *range(0, N, 2)]
    for targets in ({}, {"tempo": 120.0}):  # the tempo of none of them is known
        assert order_by_targets(bundle, everything, targets).tolist() == list(range(N))
    assert order_by_targets(bundle, everything[:1], {"energy": 1.0}).tolist() == [0]
    assert order_by_targets(bundle, everything[:0], {"energy": 1.0}).tolist() == []


def test_a_feature_that_no_song_has_is_refused(bundle: Bundle) -> None:
    with pytest.raises(NotInBundleError, match="knows the valence of no song"):
        order_by_targets(bundle, everything, {"valence": 0.5})
