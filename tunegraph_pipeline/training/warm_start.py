"""Warm start from an earlier model: its tensors, aligned with the tracks and tags of today.

Here: what is taken over and how new tracks and tags are initialised. Not here: choosing the parent
(`pipeline.lineage`), training itself (`train.py`).

Tracks keep their row for good, tags do not: artists and albums are numbered in the order of their names, so a
new one shifts all that follow. A model therefore keeps the names beside its tensors.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.models.blend import Blend

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_NOISE = 0.01  # for a track without a known neighbour; a row of zeros has no gradient direction


@dataclass(frozen=True)
class Start:
    """The earlier model of a warm start, as stored.

    ``tensors``: the encoder's weights by name, those of tracks in the rows of today; ``artists`` and
    ``albums``: the names of its tags, artists first, in the order of their rows; ``blend``: the one it was
    served with; ``regularisation``: lambda of its neighbour weights; ``turn``: the number of this warm start
    since the last training from scratch, from 1.
    """

    tensors: dict[str, NDArray[Any]]
    artists: list[str]
    albums: list[str]
    blend: Blend
    regularisation: float
    turn: int

    def fingerprint(self) -> bytes:
        """A digest of all of it."""
        digest = hashlib.blake2b(
            repr((self.turn, self.blend, self.regularisation, self.artists, self.albums)).encode(),
            digest_size=16,
        )
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.shape} {tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor).data)
        return digest.digest()

    def ids(
        self, warm: NDArray[np.bool_], neighbours: "csr_matrix", seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The initial id vectors, float32[N, d], and which of them the earlier model had, bool[N].

        ``warm`` bool[N]: tracks that somebody in training likes; ``neighbours`` N x N: the strength of their
        strongest neighbours. A track without an id vector gets the mean of its neighbours' by strength, in
        turn where these are new as well; a track that no chain of neighbours reaches gets small noise.
        """
        had = self._on_rows(self.tensors["id"], len(warm))
        known = (had != 0).any(axis=1)
        ids, found = _from_neighbours(had, known, warm, neighbours)
        lost = np.flatnonzero(warm & ~found)
        rng = np.random.default_rng([seed, 1])
        ids[lost] = _NOISE * rng.standard_normal((len(lost), ids.shape[1]))
        return ids, known

    def bias(self, known: NDArray[np.bool_], warm: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The initial biases, float32[N]: unchanged for ``known`` tracks, and the lowest of these for other
        ``warm`` ones.

        Training teaches every track to keep away from users who do not like it. A track that starts amid its
        neighbours has not learned that, and would come up for everyone who likes any of them.
        """
        bias = self._on_rows(self.tensors["bias"], len(warm))
        bias[~known] = 0
        bias[warm & ~known] = bias[warm & known].min(initial=0)
        return bias

    def tags(self, artists: list[str], albums: list[str], fresh: NDArray[np.float32]) -> NDArray[np.float32]:
        """The initial tag vectors, float32[artists + albums, d], by name; new names get the rows of
        ``fresh``, which has the same shape."""
        had = self.tensors.get("tag")
        if had is None:
            return fresh
        row_of = {("artist", name): row for row, name in enumerate(self.artists)}
        row_of |= {("album", name): row + len(self.artists) for row, name in enumerate(self.albums)}
        names = [("artist", name) for name in artists] + [("album", name) for name in albums]
        rows = np.array([row_of.get(name, -1) for name in names], dtype=np.int64)
        tags = fresh.copy()
        tags[rows >= 0] = had[rows[rows >= 0]]
        return tags

    def network(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
        """The tensors of neither tracks nor tags that today's encoder has in the same shape."""
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if name not in ("id", "bias", "tag") and shapes.get(name) == tensor.shape
        }

    @staticmethod
    def _on_rows(tensor: NDArray[Any], n: int) -> NDArray[np.float32]:
        if len(tensor) > n:
            raise ValueError(f"{len(tensor)} tracks in the earlier model, {n} today: rows are never removed")
        rows = np.zeros((n, *tensor.shape[1:]), dtype=np.float32)
        rows[: len(tensor)] = tensor
        return rows


def _from_neighbours(
    values: NDArray[np.float32], known: NDArray[np.bool_], wanted: NDArray[np.bool_], neighbours: "csr_matrix"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Fill rows of ``values`` that are ``wanted`` and not ``known`` with the mean of their neighbours' rows
    by strength, from near to far; and which rows have a value then, bool[N]."""
    filled, found = values * known[:, np.newaxis], known.copy()
    open_rows = np.flatnonzero(wanted & ~found)
    while len(open_rows):
        strengths = neighbours[open_rows] @ found.astype(np.float32)
        reached = strengths > 0
        if not reached.any():
            break
        rows = open_rows[reached]
        filled[rows] = (neighbours[rows] @ filled) / strengths[reached][:, np.newaxis]
        found[rows] = True
        open_rows = open_rows[~reached]
    return filled, found
