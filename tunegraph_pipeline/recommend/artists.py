"""The artists of each track, as arrays.

Here: collecting the artists of all tracks by id and name. Not here: the bundle that stores them (`bundle`),
or searching songs by artist (`search`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Artists(NamedTuple):
    """The artists of each track: CSR of N tracks over artists, in the order they are named.

    ``ids`` are distinct; the id of an artist is the name if the source has no id.
    """

    indptr: NDArray[np.int64]  # [N + 1]
    indices: NDArray[np.int32]
    ids: Sequence[str]
    names: Sequence[str]

    @classmethod
    def of_lists(cls, ids: Iterable[Sequence[str | None]], names: Iterable[Sequence[str | None]]) -> Self:
        """From the artist ids and names of each track; ids are ignored where their number differs."""
        positions: dict[str, int] = {}
        artist_names: list[str] = []
        indptr: list[int] = [0]
        indices: list[int] = []
        for track_ids, track_names in zip(ids, names, strict=True):
            texts = track_names or track_ids
            keys = track_ids if len(track_ids) == len(texts) else texts
            makers: dict[int, None] = {}
            for artist_id, name in zip(keys, texts, strict=True):
                key = artist_id or name
                if not key:
                    continue
                position = positions.setdefault(key, len(artist_names))
                if position == len(artist_names):
                    artist_names.append(name or key)
                makers[position] = None
            indices += makers
            indptr.append(len(indices))
        offsets = np.array(indptr, dtype=np.int64)
        return cls(offsets, np.array(indices, dtype=np.int32), list(positions), artist_names)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Self:
        """With one artist for each distinct text that is not empty."""
        lists = [[text] if text else [] for text in texts]
        return cls.of_lists(lists, lists)
