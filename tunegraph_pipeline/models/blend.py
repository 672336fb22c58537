"""The weights of the parts of a score, tuned in training and served by the query.

Here: the three numbers and how facts hold them. Not here: choosing them (`training.blend`), or the scores
(`recommend.ranking`). The standard library alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Blend:
    """What weight each part of the score has; ``n`` is the number of liked tracks.

    score[j] = embedding * E[j].q + neighbour * n**-length_exponent * sum_{i in L} W[i, j] + prior[j]
    """

    embedding: float
    neighbour: float
    length_exponent: float

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """What the facts of a model or a bundle hold as ``blend``."""
        return cls(*(float(facts[name]) for name in ("embedding", "neighbour", "length_exponent")))
