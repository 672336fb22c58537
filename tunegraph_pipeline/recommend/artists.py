"""The artists of each track, as arrays.

Here: collecting the artists of all tracks by id and name. Not here: the bundle that stores them (`bundle`),
or searching songs by artist (`search`).
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import tee
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
        indptr = array("q", [0])  # numbers alone: as Python objects they would take five times as much
        indices = array("i")
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
            indices.extend(makers)
            indptr.append(len(indices))
        arrays = np.array(indptr, dtype=np.int64), np.array(indices, dtype=np.int32)
        return cls(*arrays, list(positions), artist_names)

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Self:
        """With one artist for each distinct text that is not empty."""
        ids, names = tee([text] if text else [] for text in texts)
        return cls.of_lists(ids, names)
