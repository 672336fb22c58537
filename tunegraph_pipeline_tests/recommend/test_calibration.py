import math

import numpy as np
import pytest

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.recommend.calibration import neighbour_probability


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_every_term_enters_with_its_coefficient() -> None:
    c, log_i, log_j = 0.5, math.log(4), math.log(9)
    terms = {
        "intercept": 1.0,
        "cosine": c,
        "cosine_squared": c * c,
        "cosine_cubed": c * c * c,
        "log_popularity": log_i + log_j,
        "log_popularity_product": log_i * log_j,
    }
    for term, value in terms.items():
        calibration = {"kind": "logistic", "coefficients": {term: -0.7}}
        assert neighbour_probability(calibration, c, 3, 8) == pytest.approx(logistic(-0.7 * value))
    together = {"kind": "logistic", "coefficients": dict.fromkeys(terms, 0.1)}
    assert neighbour_probability(together, c, 3, 8) == pytest.approx(logistic(0.1 * sum(terms.values())))


def test_it_is_symmetric_and_stays_between_0_and_1() -> None:
    calibration = {"kind": "logistic", "coefficients": {"cosine": 5000.0, "log_popularity_product": 1.0}}
    cosines = np.array([-1.0, 0.0, 1.0])
    forth = neighbour_probability(calibration, cosines, 2, 900)
    np.testing.assert_array_equal(forth, neighbour_probability(calibration, cosines, 900, 2))
    assert forth[0] == 0
    assert forth[2] == 1


def test_what_this_version_cannot_evaluate_is_refused() -> None:
    with pytest.raises(BundleError, match="kind 'isotonic'"):
        neighbour_probability({"kind": "isotonic"}, 0.5, 1, 1)
    with pytest.raises(BundleError, match="term 'moon'"):
        neighbour_probability({"kind": "logistic", "coefficients": {"moon": 1.0}}, 0.5, 1, 1)
