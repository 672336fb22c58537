"""The orientation of an embedding space, on principal axes or turned onto an earlier space, and its drift.

Here: principal axes, orthogonal Procrustes (Schönemann 1966), measures of drift. A rotation changes no cosine
and so no answer; it only makes today's vectors comparable with those stored yesterday. Not here: which
earlier model to compare with (`pipeline.lineage`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_EMPTY = 1e-9  # of the strongest coordinate's squared length: less is rounding
_SAMPLE = 500  # tracks whose neighbours are compared
_MOVED = 10  # tracks that are named
_ENTRIES = 1 << 22  # cosines held at a time
K = 10
"""Neighbours compared per track."""


def on_principal_axes(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The embeddings on their principal axes, strongest first: float32[N, d], unit rows.

    No cosine changes. The first coordinates let a query rule out most tracks without reading the others.
    """
    from threadpoolctl import threadpool_limits

    # One thread sums in a fixed order: the last bits decide the axes of equal strength.
    with threadpool_limits(1, user_api="blas"):
        wide = embeddings.astype(np.float64)
        strengths, axes = np.linalg.eigh(wide.T @ wide)  # the weakest first
        strengths, axes = strengths[::-1], axes[:, ::-1]
        strongest = np.abs(axes).argmax(axis=0)
        axes *= np.sign(axes[strongest, np.arange(len(axes))])  # the sign of an axis is arbitrary
        turned: NDArray[np.float32] = (wide @ axes).astype(np.float32)
    return _cleaned(turned, strengths)


def _cleaned(turned: NDArray[np.float32], strengths: NDArray[np.floating]) -> NDArray[np.float32]:
    """Set coordinates that hold only rounding to 0, in place, and scale the rows to unit length."""
    turned[:, strengths <= _EMPTY * strengths.max(initial=0)] = 0
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return turned


def turned_onto(
    embeddings: NDArray[np.float32], earlier: NDArray[np.float32], shared: NDArray[np.integer]
) -> NDArray[np.float32]:
    """``embeddings`` float32[N, d], unit rows, turned so that the ``shared`` rows are nearest to those of
    ``earlier`` float32[M, d]: by R = U Vᵀ of the singular vectors of the sum of e_newᵀ e_old.

    Every shared track counts the same, because the vectors of tracks are what is compared later; weighted by
    likes, a few hits would decide the orientation for all. R may contain a reflection, which no cosine shows.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        wide = embeddings.astype(np.float64)
        left, _, right = np.linalg.svd(wide[shared].T @ earlier[shared].astype(np.float64))
        turned: NDArray[np.float32] = (wide @ (left @ right)).astype(np.float32)
    strengths = np.einsum("ij,ij->j", turned, turned, dtype=np.float64)
    return _cleaned(turned, strengths)


def screen_width(embeddings: NDArray[np.float32], share: float = 0.7) -> int:
    """How many of the first coordinates hold ``share`` of the squared lengths, as a screen needs."""
    held = np.cumsum(np.einsum("ij,ij->j", embeddings, embeddings, dtype=np.float64))
    return int(np.searchsorted(held, share * held[-1])) + 1


@dataclass(frozen=True)
class Drift:
    """How far a space has moved from an earlier one, by the tracks that people liked then and now.

    ``tracks``: the number of those. ``cosines`` float32[tracks]: of each one's vectors then and now.
    ``unaligned``: the mean cosine without alignment, on the space's own principal axes. ``overlap``: the
    share of a track's ten nearest shared tracks that still are, mean over a sample; independent of axes.
    ``changed``: the share of the sample whose ten nearest changed at all. ``moved_most``: track_idx and
    cosine of the tracks that moved farthest, farthest first. ``width``, ``least_width``: coordinates a
    query's screen needs in the aligned space, and on principal axes.
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
        """The values as JSON."""
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
