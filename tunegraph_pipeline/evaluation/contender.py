"""What a model in a comparison has to offer, so that all are fitted and queried in one way.

Here: the `Contender` protocol and its optional methods. Not here: the models themselves
(`pipeline.model_registry`), the splits they are judged on (`splits`), judging (`compare`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.graph.like_ages import OrderedRows
    from tunegraph_pipeline.progress import Progress
    from tunegraph_pipeline.training.train import TrainingData


@dataclass(frozen=True)
class Material:
    """All that a model may learn from, in two forms; a model uses one of them.

    ``likes``: CSR (U x N) float32 ones, the whole training part of a split; ``data``: the same likes divided
    into training and early stopping, with the content of the tracks; ``ages``: float64[nnz], how many days
    ago each of ``likes`` was made, in its order, NaN where unknown; None where the split is not by time;
    ``moments``: what was liked next in lists whose order is known, of the likes for early stopping; None
    where lists are sets.
    """

    likes: csr_matrix
    data: TrainingData
    ages: NDArray[np.float64] | None = None
    moments: OrderedRows | None = None


class Contender(Protocol):
    """A model in a comparison.

    ``rank`` gets the lists of users it has never seen, so its time includes all that these need. A model that
    knows the users of its training also has a method ``rank_known(users, likes, k)``, see
    `splits.RanksKnown`, which ranks for them and is timed for their queries; one that takes lists in their
    order a method ``rank_ordered(lists, k)``, see `splits.RanksOrdered`.
    """

    def fit(self, material: Material, progress: Progress | None = None) -> None:
        """Learn, from ``material`` alone."""
        ...

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        """The k best tracks of the catalogue for each row of ``likes`` CSR (m x N) that are not in it.

        int32[m, k], best first, padded with -1.
        """
        ...


@runtime_checkable
class Searches(Protocol):
    """A model that does not scan the whole catalogue when it serves; its queries are timed with this."""

    def search(self, likes: csr_matrix, k: int) -> Ranked: ...


@runtime_checkable
class TakesInUsers(Protocol):
    """A model that needs extra work for a new user, whose likes are CSR (1 x N)."""

    def new_user(self, likes: csr_matrix, k: int) -> Ranked: ...
