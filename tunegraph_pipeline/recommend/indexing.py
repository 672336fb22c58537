"""Build the approximate index of a bundle, and choose how many lists a query searches by measuring recall.

Here: when a bundle gets an index, its vectors and lists, the recall against the exact ranking, and the number
of lists to search. Not here: searching (`index`), or scoring the tracks found (`ranking`).

Recall is measured, not assumed. Once the lists are made, queries like those of real listeners are ranked both
exactly and with the index, and the smallest number of lists with enough recall is chosen. If no reasonable
number is enough, queries of that kind are ranked exactly: for low familiarity, for example, the best tracks
are spread over all lists.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.index import (
    EXTRAS,
    INDEX_FILE,
    LANES,
    MANY,
    CandidateIndex,
    Form,
    Probes,
    Storage,
    library,
    new_index,
    read_index,
)
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker

Mode = Literal["auto", "exact", "approximate"]
Answer = Callable[[Ranker, int], list[NDArray[np.int32]]]
"""The best k tracks by a ranker, for each of some queries."""

THRESHOLD = 150_000
"""Number of tracks from which `auto` builds an index: exact queries then take a millisecond or two."""
RECALL = 0.99
"""Minimum share of the exact best k that the index must find, for every k of `KS`."""
KS = (10, 50)
FAMILIARITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
FEW, LONG, SIMILAR = "three likes", "stored lists", "similar tracks"

_TARGET_RECALL = 0.992  # with a margin, because other queries differ from those measured
_PROBES = sorted({round(base * 2.0**octave) for base in (8, 12) for octave in range(10)})
_MAX_PROBED = 4  # 1 / the largest share of the lists to search: beyond that, exact queries are as fast
_QUERIES = 300  # of each kind
_FEW = 3  # liked tracks in the short lists
_LISTS_PER_ROOT = 4  # lists per square root of the number of tracks, which balances the steps of a search
_POPULARITY_WEIGHT = 0.5  # of popularity relative to the embedding when tracks are assigned to lists
_HELD = 0.97  # minimum share of the squared length that the indexed coordinates have
_SAMPLED_PER_LIST = 64  # tracks that k-means is trained on
_ROUNDS = 10
_SEED = 1


class Kind(NamedTuple):
    """A kind of query, and its familiarity."""

    name: str
    familiarity: float = 0.5

    def __str__(self) -> str:
        return self.name if self.familiarity == 0.5 else f"{self.name}, familiarity {self.familiarity}"


ORDINARY = (Kind(FEW), Kind(LONG))
"""The kinds of query that an index must answer to be used at all."""


@dataclass(frozen=True)
class Recall:
    """The mean share of the exact best k that queries of a kind find in ``probes`` lists. If ``probes`` is
    None, that was not enough even with the largest number of lists tried."""

    kind: Kind
    probes: int | None
    found: float


def add_index(folder: Path, storage: Storage = "int8") -> dict[str, Any]:
    """Build the index of the complete bundle in ``folder``, write it there, and return the facts about it.

    They are ``library``, ``storage``, ``lists``, ``width``, ``scale`` (see `Form`), ``probes`` (see
    `Probes`), ``recall`` (of each kind of query measured), ``k``, ``seconds`` and ``bytes``. If ordinary
    queries do not reach `RECALL`, no index is written and ``probes`` is None. The same bundle gives the same
    file.

    Raises LibraryMissingError if the library is not installed.
    """
    start = time.perf_counter()
    bundle = Bundle.open(folder)
    path = folder / INDEX_FILE
    form = write_index(bundle, path, storage)
    index = CandidateIndex(read_index(path), form, Probes((), (), None))
    recalls = measure(bundle, index)
    probes = chosen_probes(recalls)
    size = path.stat().st_size
    if probes is None:
        path.unlink()
    return {
        "library": "faiss",
        "storage": storage,
        "lists": index.lists,
        "width": index.width,
        "scale": form.scale.tolist(),
        "probes": None if probes is None else asdict(probes),
        "recall": {str(recall.kind): round(recall.found, 4) for recall in recalls},
        "k": list(KS),
        "seconds": round(time.perf_counter() - start, 1),
        "bytes": size,
    }


def write_index(bundle: Bundle, path: Path, storage: Storage) -> Form:
    """Assign the recommendable tracks to lists of similar ones, and write the index to ``path``."""
    faiss = library()
    tracks = np.flatnonzero(bundle.recommendable).astype(np.int64)
    vectors = _vectors(bundle, tracks)
    width = vectors.shape[1]
    clustered = vectors.copy()
    clustered[:, -1] *= _POPULARITY_WEIGHT
    n_lists = int(min(_LISTS_PER_ROOT * len(tracks) ** 0.5, max(1, len(tracks) // 8)))
    means = faiss.Kmeans(
        width,
        n_lists,
        niter=_ROUNDS,
        seed=_SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_SAMPLED_PER_LIST,
    )
    means.train(clustered)
    _, nearest = means.index.search(clustered, 1)
    on_list = np.ascontiguousarray(nearest[:, 0])
    form = Form.of(vectors, storage)
    quantiser = faiss.IndexFlatIP(width)
    quantiser.add(_centres(vectors, on_list, n_lists) * form.scale)
    index = new_index(quantiser, width, n_lists, storage)
    form.encode_vectors(vectors)
    index.train(vectors[:1])  # required, but nothing is learned
    pointers = [faiss.swig_ptr(array) for array in (vectors, tracks, on_list)]
    index.add_core(len(tracks), *pointers)
    faiss.write_index(index, str(path))
    return form


def measure(bundle: Bundle, index: CandidateIndex) -> list[Recall]:
    """For each kind of query, the smallest number of lists that reaches the target recall."""
    rng = np.random.default_rng(_SEED)
    exact = Ranker(bundle)
    recalls = []
    many = _lists(bundle, MANY, rng)
    few = [np.sort(rng.permutation(liked)[:_FEW]) for liked in many]
    for of in FAMILIARITIES:
        for name, lists in ((FEW, few), (LONG, many)):
            answer = partial(_rank, specs=[QuerySpec(liked, familiarity=of) for liked in lists])
            recalls.append(_fewest(Kind(name, of), bundle, index, exact, answer))
    tracks = rng.permutation(bundle.popular_order)[:_QUERIES]
    answer = partial(_nearest, tracks=tracks)
    return [*recalls, _fewest(Kind(SIMILAR), bundle, index, exact, answer)]


def chosen_probes(recalls: Sequence[Recall]) -> Probes | None:
    """The number of lists for each kind of query; None if the recall of an ordinary kind is too low."""
    fewest = {recall.kind: recall.probes for recall in recalls}
    few, many = (tuple((of, fewest[Kind(name, of)]) for of in FAMILIARITIES) for name in (FEW, LONG))
    if any(fewest[kind] is None for kind in ORDINARY):
        return None
    return Probes(few, many, fewest[Kind(SIMILAR)])


def recall_of(found: Sequence[NDArray[np.int32]], truth: Sequence[NDArray[np.int32]]) -> float:
    """The mean share of each row of ``truth`` that is in the same row of ``found``; 1 without any tracks."""
    # Sets, since numpy's set functions cost a hundred times more than rows this short need.
    shares = [
        len(set(best.tolist()).intersection(some.tolist())) / best.size
        for some, best in zip(found, truth, strict=True)
        if best.size
    ]
    return float(np.mean(shares)) if shares else 1.0


def _fewest(kind: Kind, bundle: Bundle, index: CandidateIndex, exact: Ranker, answer: Answer) -> Recall:
    """The smallest number of lists, by bisection, since searching more lists finds more."""
    truth = answer(exact, max(KS))
    most = max(1, index.lists // _MAX_PROBED)
    tried = [probes for probes in _PROBES if probes < most] + [most]

    def found_with(probes: int) -> float:
        ranker = Ranker(bundle, index=index.with_probes(Probes.everywhere(probes)))
        found = 1.0
        for k in KS:
            found = min(found, recall_of(answer(ranker, k), [best[:k] for best in truth]))
            if found < _TARGET_RECALL and probes < most:
                break  # too few already; only the recall of the most lists is reported where it is too low
        return found

    low, high = 0, len(tried) - 1
    found = {high: found_with(tried[high])}
    if found[high] < _TARGET_RECALL:
        return Recall(kind, most if found[high] >= RECALL else None, found[high])
    while low < high:
        middle = (low + high) // 2
        found[middle] = found_with(tried[middle])
        if found[middle] >= _TARGET_RECALL:
            high = middle
        else:
            low = middle + 1
    return Recall(kind, tried[high], found[high])


def _rank(ranker: Ranker, k: int, specs: list[QuerySpec]) -> list[NDArray[np.int32]]:
    return [best.indices for best in ranker.answer(specs, [k] * len(specs), explain=False)]


def _nearest(ranker: Ranker, k: int, tracks: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    return [ranker.nearest(track, k)[0] for track in tracks.tolist()]


def _lists(bundle: Bundle, length: int, rng: np.random.Generator) -> list[NDArray[np.int32]]:
    """Liked lists of at least ``length`` tracks for measuring: stored ones, and if there are too few of them,
    tracks with some of their cached neighbours."""
    users = np.flatnonzero(np.diff(bundle.user_indptr) >= length)
    lists = [bundle.user_list(user) for user in rng.permutation(users)[:_QUERIES].tolist()]
    for track in rng.permutation(bundle.popular_order)[: _QUERIES - len(lists)].tolist():
        row = slice(bundle.neighbour_indptr[track], bundle.neighbour_indptr[track + 1])
        near = rng.permutation(bundle.neighbour_indices[row])[: length - 1]
        lists.append(np.unique(np.append(near, track)).astype(np.int32))
    return lists


def _vectors(bundle: Bundle, tracks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The indexed vectors of these tracks: enough coordinates of the embedding, prior and popularity."""
    embeddings = bundle.embeddings
    held = np.cumsum(np.einsum("ij,ij->j", embeddings, embeddings, dtype=np.float64))
    enough = int(np.searchsorted(held, _HELD * held[-1])) + 1
    width = -(-(enough + EXTRAS) // LANES) * LANES
    known = min(width - EXTRAS, bundle.dimension)
    vectors = np.zeros((len(tracks), width), dtype=np.float32)
    vectors[:, :known] = embeddings[tracks, :known]
    vectors[:, -2] = bundle.prior[tracks]
    vectors[:, -1] = bundle.screen[tracks, -1]
    return vectors


def _centres(vectors: NDArray[np.float32], on_list: NDArray[np.int64], n_lists: int) -> NDArray[np.float32]:
    """The mean vector of each list, its embedding scaled to unit length like those of the tracks."""
    order = np.argsort(on_list, kind="stable")
    starts = np.searchsorted(on_list[order], np.arange(n_lists + 1))
    centres = np.zeros((n_lists, vectors.shape[1]), dtype=np.float32)
    for one in np.flatnonzero(np.diff(starts)).tolist():
        centres[one] = vectors[order[starts[one] : starts[one + 1]]].mean(axis=0)
    lengths = np.linalg.norm(centres[:, :-EXTRAS], axis=1, keepdims=True)
    centres[:, :-EXTRAS] /= np.maximum(lengths, np.float32(1e-12))
    return centres
