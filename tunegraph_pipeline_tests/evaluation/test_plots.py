"""Pictures are PNGs of a readable size, the same for the same input, and hold for empty and odd input too."""

import threading
from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.compare import Cost, Outcome
from tunegraph_pipeline.evaluation.evaluate import Evaluation
from tunegraph_pipeline.evaluation.metrics import CATALOGUE_METRICS, USER_METRICS
from tunegraph_pipeline.evaluation.plots import (
    calibration_diagram,
    comparison_chart,
    degree_distribution,
    drift_histogram,
    embedding_map,
    metric_bars,
    paired_intervals,
    training_curves,
)
from tunegraph_pipeline.training.calibration import Calibration, calibrate


def pixels(png: bytes) -> NDArray[np.float32]:
    from matplotlib.image import imread

    assert png.startswith(b"\x89PNG\r\n")
    image: NDArray[np.float32] = imread(BytesIO(png), format="png")
    assert image.shape[0] >= 300
    assert image.shape[1] >= 600
    return image


def has_colour(image: NDArray[np.float32], colour: str) -> bool:
    """Whether any pixel is of about this colour, so that something was drawn in it."""
    wanted = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return bool((np.abs(image[..., :3] - wanted).max(axis=-1) < 0.02).any())


def some_embeddings(n: int) -> NDArray[np.float32]:
    raw = np.random.default_rng(0).standard_normal((n, 8))
    unit: NDArray[np.float32] = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return unit


def some_layout(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((n, 2), dtype=np.float32)


def some_calibration(n_users: int) -> Calibration:
    rng = np.random.default_rng(1)
    lists = [csr_matrix((rng.random((n_users, 60)) < 0.1).astype(np.float32)) for _ in range(2)]
    return calibrate(some_embeddings(60), rng.integers(1, 100, 60), lists[0], lists[1])


def evaluation(model: str, value: float) -> Evaluation:
    return Evaluation(model, 10, dict.fromkeys((*USER_METRICS, *CATALOGUE_METRICS), value), {}, 1.0)


def judged(model: str, found: list[float]) -> Evaluation:
    """An evaluation with a figure for each user, the same in every metric."""
    per_user = dict.fromkeys(USER_METRICS, np.array(found))
    values = dict.fromkeys((*USER_METRICS, *CATALOGUE_METRICS), float(np.mean(found)))
    return Evaluation(model, 10, values, per_user, 1.0)


def outcome(model: str, value: float) -> Outcome:
    per_user = {"map": np.array([value / 2, value, value])}
    bands = {"tail": value / 3, "middle": value, "head": float("nan")}
    return Outcome(model, "weak generalisation", 10, 0, {}, per_user, bands, Cost(1.0, 1.0, 1.0, 1.0))


PICTURES: dict[str, Callable[[], bytes]] = {
    "comparison": lambda: comparison_chart([outcome("ours", 0.3), outcome("ease", 0.2)]),
    "degrees": lambda: degree_distribution(np.array([1, 2, 2, 9]), np.array([0, 3, 1, 1])),
    "degrees of nothing": lambda: degree_distribution(
        np.zeros(0, dtype=np.int64), np.zeros(2, dtype=np.int64)
    ),
    "curves": lambda: training_curves(
        [3.0, 2.0, 1.5], {"map@10": [0.1, 0.2, 0.15], "recall@10": [0.2, 0.3, 0.4]}
    ),
    "curves of one epoch": lambda: training_curves([3.0], {"map@10": [0.1]}),
    "curves without validation": lambda: training_curves([3.0, 2.0], {"map@10": [float("nan")] * 2}),
    "curves of none": lambda: training_curves([], {}),
    "calibration": lambda: calibration_diagram(some_calibration(60)),
    "calibration that could not be": lambda: calibration_diagram(some_calibration(1)),
    "drift": lambda: drift_histogram(np.array([0.9, 0.95, 0.99, -0.2], dtype=np.float32)),
    "drift of nothing": lambda: drift_histogram(np.zeros(0, dtype=np.float32)),
    "map": lambda: embedding_map(some_layout(40), np.arange(40), ["rock", "", None, "jazz"] * 10),
    "map of two tracks": lambda: embedding_map(some_layout(2), np.array([1, 1]), ["", "rock"]),
    "map of tracks in one place": lambda: embedding_map(np.full((22, 2), 0.5), np.arange(22), [""] * 22),
    "map of nothing": lambda: embedding_map(some_layout(3), np.zeros(3, dtype=np.int64), [None] * 3),
    "challenger": lambda: paired_intervals(
        {
            "map@10": {"champion": 0.2, "challenger": 0.19, "low": -0.03, "high": 0.01},
            "recall@10": {"champion": 0.4, "challenger": 0.41, "low": -0.01, "high": 0.03},
        },
        0.01,
        120,
    ),
    "challenger that has no figures": lambda: paired_intervals(
        {"map@10": {"champion": 0.0, "challenger": None, "low": None, "high": None}}, 0.01, 1
    ),
    "bars": lambda: metric_bars([evaluation("served", 0.2), evaluation("ease", 0.1)]),
    "bars of a few users": lambda: metric_bars(
        [judged("served", [1.0, 1.0, 0.0]), judged("ease", [0.0, 0.0, 1.0])]
    ),
    "bars of one user": lambda: metric_bars([judged("served", [1.0]), judged("ease", [0.0])]),
    "drift of thousandths": lambda: drift_histogram(np.linspace(0.9991, 1, 50)),
}


@cache
def drawn(name: str) -> bytes:
    return PICTURES[name]()


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_png_that_shows_something(name: str) -> None:
    image = pixels(drawn(name))
    assert (image[0, 0, :3] == 1).all(), "the background is white"
    assert (image[..., :3] < 0.5).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["degrees", "curves", "calibration", "map", "challenger", "bars"])
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    assert PICTURES[name]() == drawn(name)


def test_each_series_is_drawn_in_its_colour() -> None:
    assert has_colour(pixels(PICTURES["bars"]()), "#2563eb")
    assert has_colour(pixels(PICTURES["bars"]()), "#f97316")
    alone = pixels(metric_bars([evaluation("served", 0.2)]))
    assert not has_colour(alone, "#f97316")


def test_figures_of_few_users_show_how_unsure_they_are() -> None:
    """The interval is drawn over the bar: less of the bar's colour is left than where every user agrees."""
    blue = [
        int((np.abs(pixels(metric_bars([judged("served", found)]))[..., 2] - 0xEB / 255) < 0.02).sum())
        for found in ([0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 0.0, 0.0])
    ]
    assert blue[1] < blue[0]


def test_a_small_drift_fills_the_picture() -> None:
    """Movements of thousandths are told apart: they are not one bar at the right edge."""
    image = pixels(PICTURES["drift of thousandths"]())
    drawn = np.flatnonzero(
        (np.abs(image[..., :3] - np.array([0x25, 0x63, 0xEB]) / 255).max(-1) < 0.02).any(0)
    )
    assert drawn.max() - drawn.min() > image.shape[1] / 2


def test_more_genres_than_colours_are_drawn_all_the_same() -> None:
    genres = [f"genre {number % 30}" for number in range(60)]
    pixels(embedding_map(some_layout(60), np.ones(60, dtype=np.int64), genres))


def test_pictures_may_be_drawn_in_several_threads() -> None:
    drawn: list[bytes] = []
    threads = [threading.Thread(target=lambda: drawn.append(PICTURES["bars"]())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [PICTURES["bars"]()] * 3
