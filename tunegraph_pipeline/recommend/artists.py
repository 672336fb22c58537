"""Who made each track, as arrays: which artists, by id and name.

Here: collecting the artists of all tracks. Not here: the bundle that holds them (`bundle`), or finding a
song by them (`search`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Artists(NamedTuple):
    """Who made each track: CSR of N tracks over artists, the one named first first.

    ``ids`` is the name where a source has no id for an artist. Of one artist there is one id.
    """

    indptr: NDArray[np.int64]  # [N + 1]
    indices: NDArray[np.int32]
    ids: Sequence[str]
    names: Sequence[str]

    @classmethod
    def of_lists(cls, ids: Iterable[Sequence[str | None]], names: Iterable[Sequence[str | None]]) -> Self:
        """Of the ids and the names that each track has; names alone count where they are not as many."""
        known: dict[str, int] = {}
        called: list[str] = []
        indptr: list[int] = [0]
        indices: list[int] = []
        for some_ids, some_names in zip(ids, names, strict=True):
            texts = some_names or some_ids
            keys = some_ids if len(some_ids) == len(texts) else texts
            makers: dict[int, None] = {}
            for given, name in zip(keys, texts, strict=True):
                key = given or name
                if not key:
                    continue
                place = known.setdefault(key, len(called))
                if place == len(called):
                    called.append(name or key)
                makers[place] = None
            indices += makers
            indptr.append(len(indices))
        return cls(np.array(indptr, dtype=np.int64), np.array(indices, dtype=np.int32), list(known), called)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Self:
        """Every different text that is not empty is taken for one artist."""
        lists = [[text] if text else [] for text in texts]
        return cls.of_lists(lists, lists)
