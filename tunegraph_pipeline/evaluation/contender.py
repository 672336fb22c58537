"""Who takes part in a comparison: every model by its name, fitted and asked in one way.

Here: the `Contender` protocol, the registry `CONTENDERS`, the baselines and our own model as contenders. A
new model is one more entry of the registry. Not here: what it is judged on (`splits`), judging (`compare`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.progress import Progress
    from tunegraph_pipeline.training.train import TrainingData


@dataclass(frozen=True)
class Material:
    """All that a model may learn from, in two forms of which it takes one.

    ``likes``: CSR (U x N) float32 ones, the whole training part of a split; ``data``: the same likes cut into
    those to train on and those to stop by, with what is known of the tracks.
    """

    likes: csr_matrix
    data: TrainingData


class Contender(Protocol):
    """A model in a comparison.

    ``rank`` is asked with lists of users it has never seen: whatever that takes, it takes there. One that
    knows users of its training has a method ``rank_known(users, likes, k)`` as well, see
    `protocol.RanksKnown`; it is asked with the users it knows, and their queries are timed with it.
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
    """A model that does not look at the whole catalogue when it serves; its queries are timed with this."""

    def search(self, likes: csr_matrix, k: int) -> Ranked: ...


@runtime_checkable
class TakesInUsers(Protocol):
    """A model that has more to do for somebody who has just arrived, whose likes are CSR (1 x N)."""

    def new_user(self, likes: csr_matrix, k: int) -> Ranked: ...
