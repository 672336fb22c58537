"""Which tracks a training step places as if nobody liked them, so that content learns to place a cold track.

Here: the draw. Not here: what such a track is left with (`models.encoder`), what it is trained for
(`objective.py`), how far back a track without likes is held when it is served (`blend.py`).
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Generator, Tensor


def drawn_as_cold(
    popularity: NDArray[np.integer], content_likes: float, generator: "Generator"
) -> "Tensor | None":
    """Draw tracks, bool[N], each with the chance content_likes / (content_likes + its likes); None if never.

    DropoutNet (Volkovs et al. 2017) leaves out the likes of every track alike. Here a track of which many
    likes tell keeps them nearly always: content has little to add to where they place it, and every step
    without them would cost it.
    """
    import torch

    if content_likes == 0:
        return None
    chance = content_likes / (content_likes + popularity)
    return torch.rand(len(popularity), generator=generator) < torch.from_numpy(chance)
