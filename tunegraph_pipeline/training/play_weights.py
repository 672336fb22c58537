"""How much a like counts in training by how often its listener played the song.

Here: the rule. Not here: reading plays from a lake (`pipeline.play_counts`), or where the weights enter
(`neighbour_weights`, `objective`).

A like of a song that was played p times weighs log(1 + p), divided by the mean of that over the listener's
own likes that were played. So the likes of a listener weigh 1 on average, and who listens much does not drown
the others. A like without plays, such as one from a list, weighs 1.
"""

from typing import TYPE_CHECKING

import numpy as np

from tunegraph_pipeline.graph.csr import rows_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def weighed(likes: "csr_matrix", plays: "csr_matrix") -> "csr_matrix":
    """``likes``, csr of ones U x N, with the play weight of each like as its value: float32, above 0.

    ``plays``: csr U x N, how often users played songs, integers from 1; nothing is stored of a song that was
    not played. Plays of songs that are not among ``likes`` have no part in a weight. Columns ascend in the
    rows of both.
    """
    from scipy.sparse import csr_matrix

    # Where a like was played, the sum has one more than its plays.
    played = (likes.astype(np.float64) + plays.multiply(likes)).data
    rows, is_played = rows_of(likes), played > 1
    logarithm = np.log(played)
    sums = np.bincount(rows[is_played], logarithm[is_played], minlength=likes.shape[0])
    counts = np.bincount(rows[is_played], minlength=likes.shape[0])
    mean = sums / np.maximum(counts, 1)
    weights = np.ones(likes.nnz, dtype=np.float32)
    weights[is_played] = logarithm[is_played] / mean[rows[is_played]]
    return csr_matrix((weights, likes.indices, likes.indptr), shape=likes.shape)
