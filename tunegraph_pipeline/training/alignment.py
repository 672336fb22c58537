"""How a space of embeddings lies: on axes of its own, or turned onto an earlier space; and what has drifted.

Here: principal axes, orthogonal Procrustes (Schönemann 1966), the figures of drift. A rotation changes no
cosine and so no answer: it says how the numbers of today compare with vectors that were stored yesterday.
Not here: which earlier model there is (`orchestration`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_EMPTY = 1e-9  # of the strongest coordinate's squared length: what is below is rounding
_SAMPLE = 500  # tracks whose neighbours are compared
_MOVED = 10  # tracks that are named
_ENTRIES = 1 << 22  # cosines held at a time
K = 10
"""Neighbours that are compared."""


def on_principal_axes(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same turned so that the first coordinates hold the most of the lengths, float32[N, d], unit rows.

    No cosine changes. A query can tell by the first coordinates which tracks it need not look at further.
    """
    from threadpoolctl import threadpool_limits

    # One thread, which adds in one order: the last bits decide how axes of equal strength lie.
    with threadpool_limits(1, user_api="blas"):
        wide = embeddings.astype(np.float64)
        strengths, axes = np.linalg.eigh(wide.T @ wide)  # the weakest first
        strengths, axes = strengths[::-1], axes[:, ::-1]
        strongest = np.abs(axes).argmax(axis=0)
        axes *= np.sign(axes[strongest, np.arange(len(axes))])  # an axis has no direction of its own
        turned: NDArray[np.float32] = (wide @ axes).astype(np.float32)
    turned[:, strengths <= _EMPTY * strengths[0]] = 0  # nothing lies there but rounding
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return turned


def turned_onto(
    embeddings: NDArray[np.float32], earlier: NDArray[np.float32], shared: NDArray[np.integer]
) -> NDArray[np.float32]:
    """``embeddings`` float32[N, d], unit rows, turned so that the ``shared`` rows lie nearest to those of
    ``earlier`` float32[M, d]: by R = U Vᵀ of the singular vectors of the sum of e_newᵀ e_old.

    Every shared track counts the same: what is compared later are vectors of tracks, and a vector of a rare
    track is a vector. The few who are liked by many would else decide alone how the many others lie. R may
    hold a reflection; no cosine knows the difference.
    """
    from threadpoolctl import threadpool_limits

    # One thread, as above.
    with threadpool_limits(1, user_api="blas"):
        wide = embeddings.astype(np.float64)
        left, _, right = np.linalg.svd(wide[shared].T @ earlier[shared].astype(np.float64))
        turned: NDArray[np.float32] = (wide @ (left @ right)).astype(np.float32)
    strengths = np.einsum("ij,ij->j", turned, turned, dtype=np.float64)
    turned[:, strengths <= _EMPTY * strengths.max(initial=0)] = 0
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return turned


def screen_width(embeddings: NDArray[np.float32], share: float = 0.7) -> int:
    """How many of the first coordinates hold ``share`` of the squared lengths, as a query's screen wants."""
    held = np.cumsum(np.einsum("ij,ij->j", embeddings, embeddings, dtype=np.float64))
    return int(np.searchsorted(held, share * held[-1])) + 1


@dataclass(frozen=True)
class Drift:
    """How far a space has moved from an earlier one, by the tracks that people liked then and now.

    ``tracks``: how many those are. ``cosines`` float32[tracks]: of each one's vector then and now.
    ``unaligned``: the mean cosine had the space been laid on axes of its own. ``overlap``: the share of the
    ten nearest of the shared tracks that still are, mean over a sample; it depends on no axes. ``changed``:
    the share of the sample in whose ten nearest anything changed. ``moved_most``: track_idx and cosine of
    those who moved farthest, the farthest first. ``width``, ``least_width``: coordinates a query's screen
    needs in the space as it lies, and on principal axes.
    """

    tracks: int
    cosines: NDArray[np.float32]
    unaligned: float
    overlap: float
    changed: float
    moved_most: list[tuple[int, float]]
    width: int
    least_width: int

    @property
    def mean(self) -> float:
        return float(self.cosines.mean())

    def facts(self) -> dict[str, object]:
        """The figures as JSON."""
        return {
            "tracks": self.tracks,
            "mean_cosine": round(self.mean, 4),
            "mean_cosine_unaligned": round(self.unaligned, 4),
            f"overlap@{K}": round(self.overlap, 4),
            f"neighbours_changed@{K}": round(self.changed, 4),
            "moved_most": [[track, round(cosine, 4)] for track, cosine in self.moved_most],
            "screen_width": self.width,
            "least_screen_width": self.least_width,
        }


def drift_of(
    embeddings: NDArray[np.float32], earlier: NDArray[np.float32], shared: NDArray[np.integer]
) -> Drift:
    """Compare ``embeddings`` float32[N, d], turned already, with ``earlier`` float32[M, d] on the rows in
    ``shared`` int[S], ascending, at least one."""
    now, then = embeddings[shared], earlier[shared]
    principal = on_principal_axes(embeddings)
    cosines = np.einsum("ij,ij->i", now, then)
    sample = np.unique(np.linspace(0, len(shared) - 1, _SAMPLE).astype(np.int64))
    near = _nearest(now, sample), _nearest(then, sample)
    common = [len(np.intersect1d(one, other)) for one, other in zip(*near, strict=True)]
    kept = np.array(common) / near[0].shape[1] if near[0].shape[1] else np.ones(len(sample))
    farthest = np.argsort(cosines, kind="stable")[:_MOVED]
    return Drift(
        tracks=len(shared),
        cosines=cosines,
        unaligned=float(np.einsum("ij,ij->i", principal[shared], then).mean()),
        overlap=float(kept.mean()),
        changed=float((kept < 1).mean()),
        moved_most=[(int(shared[row]), float(cosines[row])) for row in farthest],
        width=screen_width(embeddings),
        least_width=screen_width(principal),
    )


def _nearest(embeddings: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The K rows of highest cosine to each of ``rows``, itself left out: int[len(rows), at most K]."""
    k = min(K, len(embeddings) - 1)
    nearest = np.empty((len(rows), k), dtype=np.int64)
    step = max(1, _ENTRIES // len(embeddings))
    for start in range(0, len(rows) if k else 0, step):
        block = rows[start : start + step]
        cosines = embeddings[block] @ embeddings.T
        cosines[np.arange(len(block)), block] = -np.inf
        nearest[start : start + step] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return nearest
