"""Where a track without likes is: by its content, and beside the liked tracks whose content is alike.

Here: moving the vectors of such tracks towards those of liked tracks. An artist, an album and the features
have vectors of their own, the same for every track. Where likes have put the songs of that artist, and songs
that sound like this one, says more. Not here: learning the vectors of content (`models.encoder`), or which
tracks have a place at all (`train.py`).

    e_j = normalise(e_j + 0.5 normalise(sum of the liked tracks of the same artists and album)
                        + 0.3 normalise(sum of the K liked tracks that sound most alike))
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BY_TAGS, _BY_SOUND = np.float32(0.5), np.float32(0.3)
_MOST_COMPARED = 1 << 15  # liked tracks that a track is compared with: the most liked, where there are more
_ROWS = 512


def move_beside_alike(
    embeddings: NDArray[np.float32],
    popularity: NDArray[np.float32],
    moved: NDArray[np.bool_],
    *,
    tags: "csr_matrix | None",
    features: NDArray[np.float32] | None,
    neighbours: int,
) -> None:
    """Move some rows of ``embeddings``, float32[N, d] of unit length, in place, as a catalogue may be large:
    those in ``moved`` bool[N], none of them liked.

    ``popularity`` float32[N]: the training likes of each track; ``tags`` and ``features``: as
    `models.content` makes them, N rows each, None for none; ``neighbours`` is K above. A row stays as it is
    where nothing liked is alike.
    """
    from scipy.sparse import csr_matrix, diags_array

    liked = popularity > 0
    if tags is not None:
        of_tags = csr_matrix(diags_array(liked.astype(np.float32)) @ tags).T @ embeddings
    compared = np.zeros(0, dtype=np.int64)
    sound = np.zeros((len(embeddings), 0), dtype=np.float32)
    if features is not None:
        compared = np.flatnonzero(liked & _known(features))
        most_liked = np.argsort(-popularity[compared], kind="stable")[:_MOST_COMPARED]
        compared, sound = np.sort(compared[most_liked]), _unit(features)
    k = min(neighbours, len(compared))
    rows = np.flatnonzero(moved)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        if tags is not None:
            embeddings[block] += _BY_TAGS * _unit(tags[block] @ of_tags)
        if features is not None and k:
            cosines = sound[block] @ sound[compared].T
            nearest = compared[np.argpartition(-cosines, k - 1, axis=1)[:, :k]]
            alike = _unit(embeddings[nearest].sum(axis=1))
            embeddings[block] += _BY_SOUND * alike * _known(features[block])[:, np.newaxis]
        embeddings[block] = _unit(embeddings[block])


def _known(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = features[:, -1] > 0  # the column that says so
    return known


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros stays one."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    units: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return units
