"""The one split: which likes, and which users, no model ever learns from.

Whether a (user, track) pair is held out is a keyed hash of the two ids, so it is the same every day, in any
order, on any machine, and a like that is removed and made again stays in its fold. 2 % of the pairs are held
out by default and no model is trained on them: one half is for early stopping, the other for the gate and the
evaluation table. At query time a held-out like counts as any other like.

A small share of users is set aside as well: no model is trained on any of their likes. The probability that
two songs are neighbours is fitted on one half of them and judged on the other; their neighbourhoods are new
to the model by construction.

Here: the hashing and the shares. Not here: the likes themselves (`like_graph.py`).
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from tunegraph_pipeline.errors import InputError

TRAIN: Final = 0
EARLY_STOPPING: Final = 1
GATE: Final = 2

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, the increment of SplitMix64
_USER_STREAM = np.uint64(0xD1342543DE82EF95)  # odd; sets the draw of users apart from that of pairs


def id_hashes(ids: Iterable[str], key: str) -> npt.NDArray[np.uint64]:
    """Return the keyed BLAKE2b of each id as uint64[n].

    ``key`` is the lake's split key, of any length; another key draws another split. The hash of an id does
    not depend on the others, so only distinct ids need to be hashed.
    """
    keyed = hashlib.blake2b(digest_size=8, key=hashlib.blake2b(key.encode(), digest_size=32).digest())

    def hashed(text: str) -> int:
        one = keyed.copy()  # cheaper than setting the key up again
        one.update(text.encode())
        return int.from_bytes(one.digest(), "little")

    return np.fromiter(map(hashed, ids), dtype=np.uint64)


def pair_folds(
    user_hash: npt.NDArray[np.uint64], track_hash: npt.NDArray[np.uint64], held_out: float = 0.02
) -> npt.NDArray[np.int8]:
    """Return the fold of each (user, track) pair as int8[m]: TRAIN, EARLY_STOPPING or GATE.

    ``user_hash`` and ``track_hash`` are uint64[m], one entry per pair. Each held-out fold gets half of the
    share ``held_out``. A larger share only adds pairs to the held-out folds and moves none between them.

    Raises InputError unless 0 <= held_out < 1.
    """
    pair = mix(user_hash + _GAMMA * mix(track_hash))
    half = np.where(pair & np.uint64(1), EARLY_STOPPING, GATE)
    return np.where(_drawn(pair, held_out, "held_out"), half, TRAIN).astype(np.int8)


def calibration_users(user_hash: npt.NDArray[np.uint64], share: float = 0.02) -> npt.NDArray[np.bool_]:
    """Return bool[n]: the users no model is trained on, kept for the neighbour probability alone.

    Raises InputError unless 0 <= share < 1.
    """
    return _drawn(mix(user_hash ^ _USER_STREAM), share, "calibration_share")


def calibration_judges(user_hash: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return bool[n]: of the calibration users, those the fitted probability is judged on, about a half.

    It is fitted on the other calibration users. The value for any other user means nothing.
    """
    return (mix(user_hash ^ _USER_STREAM) & np.uint64(1)).astype(np.bool_)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of SplitMix64, a bijection of uint64 in which every bit depends on every bit.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = values + _GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _drawn(hashed: npt.NDArray[np.uint64], share: float, option: str) -> npt.NDArray[np.bool_]:
    """Draw ``share`` of the hashes by all bits but the lowest, which splits the drawn ones in two."""
    if not 0 <= share < 1:
        raise InputError(f"{option} is {share}; it has to be at least 0 and below 1")
    return (hashed >> np.uint64(1)) < np.uint64(int(share * 2**63))
