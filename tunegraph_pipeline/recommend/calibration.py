"""The probability that two songs are neighbours, from the coefficients in a bundle.

Here: the formula. Not here: fitting and evaluating it (`training`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunegraph_pipeline.errors import BundleError


def neighbour_probability(
    calibration: Mapping[str, Any], cosine: ArrayLike, popularity_i: ArrayLike, popularity_j: ArrayLike
) -> NDArray[np.float64]:
    """P(somebody likes both i and j | cosine and popularity of the two): float64 of the broadcast shape.

    ``calibration`` is ``{"kind": "logistic", "coefficients": {term: coefficient}}``; the probability is
    ``1 / (1 + exp(-sum of coefficient * term))``. Terms, with c the cosine and l = log(1 + current likes):
    ``intercept`` 1, ``cosine`` c, ``cosine_squared`` c², ``cosine_cubed`` c³, ``log_popularity`` l_i + l_j,
    ``log_popularity_product`` l_i l_j. Raises BundleError for a kind or a term this version cannot evaluate.
    """
    if calibration.get("kind") != "logistic":
        raise BundleError(
            f"the bundle's calibration is of kind {calibration.get('kind')!r}; update the program"
        )
    c = np.asarray(cosine, dtype=np.float64)
    log_i = np.log1p(np.asarray(popularity_i, dtype=np.float64))
    log_j = np.log1p(np.asarray(popularity_j, dtype=np.float64))
    terms = {
        "intercept": np.ones_like(c),
        "cosine": c,
        "cosine_squared": c**2,
        "cosine_cubed": c**3,
        "log_popularity": log_i + log_j,
        "log_popularity_product": log_i * log_j,
    }
    unknown = calibration["coefficients"].keys() - terms.keys()
    if unknown:
        raise BundleError(f"the bundle's calibration has the term {min(unknown)!r}; update the program")
    logit = sum(coefficient * terms[term] for term, coefficient in calibration["coefficients"].items())
    # tanh instead of exp: it cannot overflow.
    probability: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * np.asarray(logit, dtype=np.float64)))
    return probability
