"""The approximate index of a large catalogue: which tracks are worth scoring for a query.

Here: the format of the index in a bundle, opening it and searching it, for one query or many. Not here: how
many are searched at once (`list_search`), scoring the tracks it finds (`ranking`), or building it and
choosing how many lists to search (`indexing`).

A score has two parts. The neighbour part is sparse, and the cached rows of the liked tracks contain all of
it. The rest is one inner product,

    [E_j, prior_j, popularity_j] . [direction, 1, familiarity],

for which the catalogue is divided into lists of similar tracks, each with a centre (an inverted file, Sivic
and Zisserman 2003). A query is compared with all centres, and then only with the tracks of the nearest lists.
Vectors are stored in 8, 16 or 32 bits. The tracks found are scored again from the embeddings, so rounding may
lose a candidate but never changes a score. The embeddings are along principal axes, so their last coordinates
matter least; prior and popularity replace the last of them.

In 8 bits all numbers of a product are whole, and so small that every order of adding them up gives the same
float32. So many queries can be answered by products of matrices, list by list, with what each would find
alone. Of tracks with the same product at the end of what is found, the order of a search would choose, so
they are left out.

The library is an extra, ``pip install 'tunegraph-pipeline[index]'``, imported when an index is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError, LibraryMissingError
from tunegraph_pipeline.lake.arrays import REBUILD
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.list_search import Found, best_of, lists_reached, search_lists

INDEX_FILE = "index.faiss"
"""The name of the index file in a bundle. The bundle's facts describe it under ``index``."""
INSTALL = "pip install 'tunegraph-pipeline[index]'"
EXTRAS = 2
"""Coordinates of an indexed vector after those of the embedding: prior and popularity."""
Storage = Literal["float32", "float16", "int8"]
LANES = 16
"""Numbers per vector instruction. Vector lengths are multiples of it; others are searched much slower."""
MANY = 10
"""Minimum likes of a long list, whose neighbours include most winners, so that fewer lists are searched."""

MOST_ALONE_BYTES = 64 << 20
"""Memory for an index of chosen tracks alone: 645,000 of them with 96 numbers each in 8 bits."""
_SEEN = 20  # times as many chosen tracks as wanted are looked at
_BAR_OF = 4  # times as many chosen tracks as wanted, of the nearest lists, give the first bar
_BUFFERED = 1 << 13  # tracks for which memory is asked for at a time
_EXPECTED, _EXPECTED_OF_ALONE = 0.05, 0.02
"""Share of what is wanted that the lists which are not searched are expected to hold. It is larger where a
list is read with all that is not chosen."""
_SAMPLED, _SPREAD_OF = 64, 4  # vectors of each list that give its mean, and of these one in four the spread
_INT8_MAX = 127
_WHOLE = 2**24
"""Whole numbers below it are exact in float32."""


@dataclass(frozen=True)
class Form:
    """How vectors are stored: each coordinate multiplied by its ``scale``, float32[width], in the number
    format ``storage``. With int8, both vectors and queries are integers up to 127, which is fastest."""

    storage: Storage
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], storage: Storage) -> Self:
        """Scales that fit these vectors into the range of the storage: one for all coordinates of the
        embedding, and one each for prior and popularity."""
        scale = np.ones(vectors.shape[1], dtype=np.float32)
        if storage == "int8":
            largest = np.abs(vectors).max(axis=0, initial=1e-6)
            largest[:-EXTRAS] = largest[:-EXTRAS].max()
            scale = np.float32(_INT8_MAX) / largest
        return cls(storage, scale)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        return cls(facts["storage"], np.array(facts["scale"], dtype=np.float32))

    def encode_vectors(self, vectors: NDArray[np.float32]) -> None:
        """Convert vectors to this form, in place."""
        vectors *= self.scale
        if self.storage == "int8":
            np.rint(vectors, out=vectors)

    def encode_query(self, query: NDArray[np.float32]) -> float:
        """Convert a query to match this form, in place; returns the factor to multiply its products by."""
        query /= self.scale
        if self.storage != "int8":
            return 1.0
        stretch = float(np.abs(query).max()) / _INT8_MAX or 1.0
        query /= np.float32(stretch)
        np.rint(query, out=query)
        return stretch


@dataclass(frozen=True)
class Probes:
    """How many lists to search per query; None if no reasonable number finds what the exact ranking finds.

    ``few`` is for fewer than `MANY` liked tracks and ``many`` for others, each for some familiarities from 0
    to 1, ascending. ``similar`` is for the tracks nearest to one track.
    """

    few: tuple[tuple[float, int | None], ...]
    many: tuple[tuple[float, int | None], ...]
    similar: int | None

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        few, many = (tuple((float(of), probes) for of, probes in facts[name]) for name in ("few", "many"))
        return cls(few, many, facts["similar"])

    @classmethod
    def everywhere(cls, probes: int) -> Self:
        """The same number for all queries."""
        both = ((0.0, probes), (1.0, probes))
        return cls(both, both, probes)

    def of(self, likes: int, familiarity: float) -> int | None:
        """For a query: the larger number of those for the next lower and next higher known familiarity."""
        known = self.many if likes >= MANY else self.few
        below = [probes for of, probes in known if of <= familiarity][-1:]
        above = [probes for of, probes in known if of >= familiarity][:1]
        enough = [probes for probes in below + above if probes is not None]
        return max(enough) if len(enough) == 2 else None


class Chosen(NamedTuple):
    """Some of the tracks of an index, which a search is limited to, bool[N]; how many each list has of them,
    int64[lists]; and an index of them alone, None if they are too many for one."""

    tracks: NDArray[np.bool_]
    in_list: NDArray[np.int64]
    alone: Any


class _Shape(NamedTuple):
    """What the means of lists are beside their centres: how long the embedding is, as a share of the
    centre's, float32[lists], while the ``extras``, float32[lists, EXTRAS], are the same; and the covariance
    of vectors around the means of their lists, float32[width, width]."""

    lengths: NDArray[np.float32]
    extras: NDArray[np.float32]
    covariance: NDArray[np.float32]


class _Best(NamedTuple):
    """Products float32[n] and tracks int64[n], and what another product has to be above."""

    products: NDArray[np.float32]
    tracks: NDArray[np.int64]
    bar: float

    def and_these(
        self, products: NDArray[np.float32], tracks: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return np.concatenate([self.products, products]), np.concatenate([self.tracks, tracks])


class CandidateIndex:
    """An open index of a bundle: mapped, read-only, and safe to share between threads."""

    def __init__(self, index: Any, form: Form, probes: Probes) -> None:
        self._index = index
        self._form = form
        self._library = library()
        self.probes = probes
        self.size: int = index.ntotal
        self.width: int = index.d
        self.lists: int = index.nlist
        # The centres in whole numbers, as the vectors are; None where products would be rounded.
        self._centres: NDArray[np.float32] | None = None
        if form.storage == "int8" and self.width * _INT8_MAX**2 < _WHOLE:
            most = (_WHOLE - 1) // (_INT8_MAX * self.width)
            self._centres = np.rint(self._read_centres()).clip(-most, most)

    @classmethod
    def open(cls, bundle: Bundle) -> Self | None:
        """The index of a bundle, None if it has none.

        Raises LibraryMissingError, naming the extra, if the library is not installed; BundleError if the file
        is not an index of the bundle's tracks.
        """
        path = bundle.file(INDEX_FILE)
        if path is None:
            return None
        try:
            facts = bundle.facts["index"]
            form = Form.from_facts(facts)
            index = cls(read_index(path), form, Probes.from_facts(facts["probes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{bundle.folder} has no valid description of its index; {REBUILD}") from error
        size = int(np.count_nonzero(bundle.recommendable))
        if index.size != size or not len(form.scale) == index.width <= widest(bundle.dimension):
            raise BundleError(f"{path} is not an index of this bundle's tracks; {REBUILD}")
        return index

    def with_probes(self, probes: Probes) -> Self:
        return type(self)(self._index, self._form, probes)

    def prepare(self) -> None:
        """Read what a search among chosen tracks needs, which otherwise the first one waits for: less than a
        second for a million tracks."""
        _ = self._list_of, self._shape_of_lists

    def chosen(self, tracks: NDArray[np.bool_]) -> Chosen:
        """These tracks, bool[N], for :meth:`search`, which never finds those that the index lacks."""
        lists = self._list_of[tracks[: len(self._list_of)]]
        in_list = np.bincount(lists[lists >= 0], minlength=self.lists)
        small = int(in_list.sum()) * (self._index.code_size + 8) <= MOST_ALONE_BYTES
        return Chosen(tracks, in_list, self._alone(tracks) if small else None)

    def _alone(self, tracks: NDArray[np.bool_]) -> Any:
        """An index of these tracks alone, with the same lists: their vectors, copied."""
        faiss, stored = self._library, self._index.invlists
        alone = new_index(self._index.quantizer, self.width, self.lists, self._form.storage)
        alone.is_trained = True
        for number, size in enumerate(self._sizes.tolist()):
            ids = faiss.rev_swig_ptr(stored.get_ids(number), size)
            (kept,) = tracks[ids].nonzero()
            if kept.size:
                codes = faiss.rev_swig_ptr(stored.get_codes(number), size * stored.code_size)
                some, theirs = codes.reshape(size, -1)[kept], ids[kept]
                alone.invlists.add_entries(number, len(kept), faiss.swig_ptr(theirs), faiss.swig_ptr(some))
        return alone

    def search(
        self,
        direction: NDArray[Any],
        prior: float,
        familiarity: float,
        m: int,
        probes: int,
        chosen: Chosen | None = None,
    ) -> Found:
        """The m tracks with the highest ``direction . E[j] + prior * prior[j] + familiarity * popularity[j]``
        in the ``probes`` nearest lists; fewer if those have fewer, or the last ones are as good as others.

        Of ``chosen`` tracks alone, in as many more lists as are expected to have any of them.
        """
        vector, stretch = self._query(direction, prior, familiarity)
        if chosen is not None:
            products, tracks = self._of_chosen(vector, m + 1, probes, chosen)
            return best_of(tracks, products, m, stretch)
        if self._centres is None:
            parameters = self._library.SearchParametersIVF(nprobe=probes)
            (products,), (tracks,) = self._index.search(vector, m + 1, params=parameters)
        else:
            (lists,) = lists_reached(self._centres @ vector[0], probes).nonzero()
            products, tracks = self._of_lists(vector, m + 1, lists)
        found = m + 1 if tracks[-1] >= 0 else int(np.count_nonzero(tracks >= 0))
        return best_of(tracks[:found], products[:found], m, stretch)

    def search_many(
        self,
        directions: Sequence[NDArray[Any]],
        prior: float,
        familiarities: Sequence[float],
        ms: Sequence[int],
        probes: Sequence[int],
    ) -> list[Found] | None:
        """What :meth:`search` finds for each, at a fraction of the cost where there are hundreds of them;
        None where products are rounded, so that it would not be the same."""
        if self._centres is None:
            return None
        asked = [self._query(*one) for one in zip(directions, [prior] * len(ms), familiarities, strict=True)]
        vectors = np.concatenate([vector for vector, _ in asked])
        near = vectors @ self._centres.T
        found = search_lists(vectors, near, probes, ms, self._sizes, self._list)
        return [
            best_of(tracks, products, m, stretch)
            for (tracks, products), m, (_, stretch) in zip(found, ms, asked, strict=True)
        ]

    def _read_centres(self) -> NDArray[np.float32]:
        centres: NDArray[np.float32] = self._library.downcast_index(self._index.quantizer).reconstruct_n(
            0, self.lists
        )
        return centres

    @cached_property
    def _all_centres(self) -> NDArray[np.float32]:
        """The centres, in whole numbers or not: float32[lists, width]."""
        return self._read_centres() if self._centres is None else self._centres

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """How many tracks each list has."""
        return np.array([self._index.invlists.list_size(number) for number in range(self.lists)])

    @cached_property
    def _shape_of_lists(self) -> "_Shape":
        """What is known of the vectors of each list without reading them, from a sample."""
        lengths = np.zeros(self.lists, dtype=np.float32)
        covariance = np.zeros((self.width, self.width), dtype=np.float32)
        sampled = 0
        for number in self._sizes.nonzero()[0].tolist():
            vectors, _ = self._list(number, _SAMPLED)
            mean, centre = vectors.mean(axis=0), self._all_centres[number, :-EXTRAS]
            lengths[number] = (mean[:-EXTRAS] @ centre) / max(centre @ centre, np.float32(1e-12))
            apart = vectors[::_SPREAD_OF] - mean
            covariance += apart.T @ apart
            sampled += len(apart)
        extras = np.ascontiguousarray(self._all_centres[:, -EXTRAS:])
        return _Shape(lengths, extras, covariance / np.float32(max(1, sampled)))

    @cached_property
    def _list_of(self) -> NDArray[np.int32]:
        """The list of each track, -1 if it is in none; int32, up to the last track in one."""
        stored, of_list = self._index.invlists, []
        for number, size in enumerate(self._sizes.tolist()):
            of_list.append(self._library.rev_swig_ptr(stored.get_ids(number), size))
        tracks = np.concatenate(of_list)
        found = np.full(tracks.max(initial=-1) + 1, -1, dtype=np.int32)
        found[tracks] = np.repeat(np.arange(self.lists, dtype=np.int32), self._sizes)
        return found

    def _query(self, direction: NDArray[Any], prior: float, familiarity: float) -> tuple[NDArray[Any], float]:
        """The query as the vectors are stored, float32[1, width], and the factor of its products."""
        vector = np.zeros((1, self.width), dtype=np.float32)
        known = min(self.width - EXTRAS, len(direction))
        vector[0, :known] = direction[:known]
        vector[0, -2] = prior
        vector[0, -1] = familiarity
        stretch = self._form.encode_query(vector)
        return vector, stretch

    def _of_chosen(
        self, vector: NDArray[Any], m: int, probes: int, chosen: Chosen
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The products of the best m chosen tracks and these, in no order, and others with the same product
        as the last.

        The ``probes`` nearest lists are searched first, or more if they have few chosen tracks. What the
        other lists hold above the m-th best is expected from the products with their means, and those with
        the most are searched until all others together are expected to hold a share of m. These are few
        where the chosen tracks are among the nearest ones, and many where all of them are about as far. Where
        the nearest lists have many, they hold less than expected, and of the others as much less is expected.
        """
        near = self._all_centres @ vector[0]
        first = lists_reached(near, probes)
        are_near = chosen.in_list[first].sum() >= _SEEN * m
        if not are_near:
            order = np.argsort(-near)
            last = int(np.searchsorted(chosen.in_list[order].cumsum(), _SEEN * m))
            first = near >= near[order[min(last, self.lists - 1)]]
        (lists,) = (first & (chosen.in_list > 0)).nonzero()
        lists = lists[np.argsort(-near[lists])]
        nearest = int(np.searchsorted(chosen.in_list[lists].cumsum(), _BAR_OF * m)) + 1
        # Whatever is below the m-th best of the nearest lists is not even returned of the others.
        found = _best(m, *self._above(-np.inf, vector, lists[:nearest], chosen))
        found = _best(m, *found.and_these(*self._above(found.bar, vector, lists[nearest:], chosen)))
        expected = self._expected_above(found.bar, vector[0], near, chosen)
        if are_near:  # else they are a part of each list that is not like the others of it
            expected *= min(1.0, len(found.tracks) / max(float(expected[first].sum()), 1.0))
        expected[first] = 0
        most = (_EXPECTED if chosen.alone is None else _EXPECTED_OF_ALONE) * m
        (lists,) = (expected > most / self.lists).nonzero()  # those below hold less together
        order = np.argsort(expected[lists])
        left_out = expected.sum() - expected[lists].sum()
        more = lists[order[np.searchsorted(left_out + expected[lists[order]].cumsum(), most) :]]
        if more.size:
            found = _best(m, *found.and_these(*self._above(found.bar, vector, more, chosen)))
        return found.products, found.tracks

    def _expected_above(
        self, bar: float, query: NDArray[Any], near: NDArray[np.float32], chosen: Chosen
    ) -> NDArray[np.floating[Any]]:
        """How many chosen tracks of each list are expected to have a product above the bar: [lists].
        ``near``: the products with the centres."""
        shape = self._shape_of_lists
        extras = shape.extras @ query[-EXTRAS:]
        means = (near - extras) * shape.lengths + extras
        spread = max(float(np.sqrt(query @ shape.covariance @ query)), 1e-6)
        expected: NDArray[np.floating[Any]] = chosen.in_list * _share_above(
            (np.float32(bar) - means) / spread
        )
        return expected

    def _above(
        self, bar: float, vector: NDArray[Any], lists: NDArray[np.int64], chosen: Chosen
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The products and tracks of the chosen ones of these lists that are above the bar, in no order."""
        if not lists.size:
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        found, lists = self._library.RangeSearchResult(1), np.sort(lists)
        found.buffer_size = _BUFFERED
        unused = np.zeros(len(lists), np.float32)
        pointers = map(self._library.swig_ptr, (lists, unused))
        parameters = self._library.IVFSearchParameters(nprobe=len(lists))
        (chosen.alone or self._index).range_search_preassigned_c(
            1, self._library.swig_ptr(vector), bar, *pointers, found, False, parameters
        )
        size = int(self._library.rev_swig_ptr(found.lims, 2)[1])
        products, tracks = (
            self._library.rev_swig_ptr(column, size) for column in (found.distances, found.labels)
        )
        if chosen.alone is not None:
            return products.copy(), tracks.copy()
        # To ask for each vector whether it is chosen, before its product, takes as long as the product.
        (kept,) = chosen.tracks[tracks].nonzero()
        return products[kept], tracks[kept]

    def _of_lists(self, vector: NDArray[Any], m: int, lists: NDArray[np.int64]) -> tuple[Any, Any]:
        """The products and tracks of the best m in these lists, both [m], padded with -1."""
        products, tracks = np.empty(m, np.float32), np.empty(m, np.int64)
        unused = np.zeros(len(lists), np.float32)
        pointers = map(self._library.swig_ptr, (lists, unused, products, tracks))
        parameters = self._library.SearchParametersIVF(nprobe=len(lists))
        self._index.search_preassigned_c(1, self._library.swig_ptr(vector), m, *pointers, False, parameters)
        return products, tracks

    def _list(self, number: int, most: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The vectors of a list as they are stored, in whole numbers with int8, and their tracks; the first
        ``most`` of them, if not all."""
        stored = self._index.invlists
        size = stored.list_size(number) if most is None else min(most, stored.list_size(number))
        tracks = self._library.rev_swig_ptr(stored.get_ids(number), size)
        codes = self._library.rev_swig_ptr(stored.get_codes(number), size * stored.code_size)
        if self._form.storage != "int8":
            return codes.view(self._form.storage).reshape(size, self.width).astype(np.float32), tracks
        vectors = codes.reshape(size, self.width).astype(np.float32)
        vectors -= _INT8_MAX + 1
        return vectors, tracks


def _best(m: int, products: NDArray[np.float32], tracks: NDArray[np.int64]) -> _Best:
    """The best m of these, and others with the same product as the last."""
    if len(products) < m:
        return _Best(products, tracks, -np.inf)
    bar = np.partition(products, -m)[-m]
    (kept,) = (products >= bar).nonzero()
    return _Best(products[kept], tracks[kept], float(bar))


def _share_above(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of a normal distribution that is more than so many standard deviations above its mean."""
    z = np.abs(distance)
    tail = 0.5 * np.exp(-z * (0.717 + 0.416 * z))
    share: NDArray[np.float32] = np.where(distance > 0, tail, 1 - tail)
    return share


def new_index(quantiser: Any, width: int, n_lists: int, storage: Storage) -> Any:
    """An index without vectors, whose lists are found by ``quantiser``."""
    faiss = library()
    if storage == "float32":
        return faiss.IndexIVFFlat(quantiser, width, n_lists, faiss.METRIC_INNER_PRODUCT)
    kinds = {
        "float16": faiss.ScalarQuantizer.QT_fp16,
        "int8": faiss.ScalarQuantizer.QT_8bit_direct_signed,
    }
    return faiss.IndexIVFScalarQuantizer(
        quantiser, width, n_lists, kinds[storage], faiss.METRIC_INNER_PRODUCT, False
    )


def read_index(path: Path) -> Any:
    """Map the file. Raises LibraryMissingError like `library`, BundleError if it is not an index."""
    faiss = library()
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        # By default it starts a thread per probed list to read ahead from disk, which costs ten times as much
        # as the search itself.
        faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
    except (RuntimeError, AttributeError) as error:
        # The library prefixes the problem with its own source lines.
        problem = str(error).rsplit(": ", 1)[-1].strip()[:120]
        raise BundleError(f"{path} cannot be read ({problem}); {REBUILD}") from error
    return index


def library() -> Any:
    """The index library. Raises LibraryMissingError if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise LibraryMissingError(
            f"the index of a large catalogue needs faiss, which is not installed; {INSTALL}"
        ) from error
    return faiss


def widest(dimension: int) -> int:
    """The maximum length of an indexed vector, given the dimension of the embeddings."""
    return -(-(dimension + EXTRAS) // LANES) * LANES
