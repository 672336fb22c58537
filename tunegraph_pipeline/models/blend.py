"""The weights of the parts of a score, tuned in training and served by the query.

Here: the numbers of a list as a set and of one whose order counts, and how facts hold them. Not here:
choosing them (`training.blend`), or the scores (`recommend.ranking`). The standard library alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

USUAL_RECENCY = 0.5
"""Where no ordered lists were there to choose by: the song of age 3 weighs half as much as the newest."""


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


@dataclass(frozen=True)
class Continuation:
    """How a list is continued: with a blend of its own, the newest songs counting most.

    A song of age a, the number of songs in the list that are newer, weighs ``(1 + a)**-recency`` in the
    direction of the list, and ``(1 + a)**-neighbour_recency`` in the sum of neighbour weights. ``for_users``:
    whether stored users whose lists have an order are answered so unless a query says otherwise.
    """

    blend: Blend
    recency: float
    neighbour_recency: float
    for_users: bool = False

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """What the facts of a model or a bundle hold as ``continuation``; with those of an earlier version,
        the blend of sets and `USUAL_RECENCY`."""
        found = facts.get("continuation")
        if found is None:
            return cls(Blend.from_facts(facts["blend"]), USUAL_RECENCY, USUAL_RECENCY)
        return cls(
            Blend.from_facts(found["blend"]),
            float(found["recency"]),
            float(found["neighbour_recency"]),
            bool(found["for_users"]),
        )
