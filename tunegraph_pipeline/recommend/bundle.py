"""The serving bundle: one folder of mapped arrays with all a query needs, and the file naming the live one.

Here: what a bundle contains, writing and opening it, finding an id in it, and which one is live. Not here:
what is computed from the arrays (`ranking`, `recommender`), or how a bundle goes live (`publication`).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.lake.array_spec import TEXT, as_declared, checked_arrays, declared_fields, fits
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder, StringColumn, write_arrays
from tunegraph_pipeline.lake.storage import STAGING, staged_folder
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle_arrays import BUNDLE
from tunegraph_pipeline.recommend.search_index import search_arrays

BUNDLE_FORMAT = 3
CURRENT = "CURRENT"
SCREEN_EXTRAS = 3
"""Columns of ``screen`` after the coordinates: length of the rest, prior, popularity."""
RARE = -0.5
"""Standard deviations below which the popularity of all tracks counts alike: being unknown is no merit."""
LEFT_OUT = np.float32(-1e30)
"""The prior, in ``screen``, of a track that may not be recommended. Finite, because 0 * inf is no number."""

_UNIT_TOLERANCE = 1e-3
_SCREEN_STEP = 16  # float32 of a cache line: rows of the screen start on one
_SCREENED = 0.7  # share of the squared length that the screen's coordinates hold at least


@dataclass(frozen=True)
class BundleContent:
    """All that goes into a bundle of N tracks and U users. Row i of everything is ``track_idx`` i.

    ``neighbour_*`` is a CSR matrix W of shape (N, N): row = liked track, column = candidate.
    ``user_indptr``/``user_tracks`` are the current lists, ascending within a user. Texts are ""
    where unknown. ``facts`` has to hold ``bundle_version``, ``model_version`` and ``blend`` (``embedding``,
    ``neighbour``, ``length_exponent``); whatever else it holds (``calibration``, ``cut_off``, ...) is kept.

    ``canonical``: the track that stands for the recording each track is of, the smallest index among its
    ids; None where every track is a recording of its own. A track that is not its own is not recommendable
    and in no user's list, and a query that gives it is answered as if it gave the other.
    """

    track_ids: Sequence[str]
    embeddings: NDArray[np.float32]  # [N, d], rows of unit length
    pooling_weight: NDArray[np.float32]  # [N]
    popularity: NDArray[np.int32]  # [N], current likes
    recommendable: NDArray[np.bool_]  # [N]
    prior: NDArray[np.float32]  # [N]
    neighbour_indptr: NDArray[np.int64]  # [N + 1]
    neighbour_indices: NDArray[np.int32]
    neighbour_weight: NDArray[np.float32]
    user_ids: Sequence[str]
    user_indptr: NDArray[np.int64]  # [U + 1]
    user_tracks: NDArray[np.int32]
    names: Sequence[str]
    artists: Sequence[str]
    image_urls: Sequence[str]
    preview_urls: Sequence[str]
    facts: dict[str, Any]
    canonical: NDArray[np.int32] | None = None  # [N]
    disliked_indptr: NDArray[np.int64] | None = None  # [U + 1]
    disliked_tracks: NDArray[np.int32] | None = None
    explicit: NDArray[np.int8] | None = None  # [N]
    layout: NDArray[np.float32] | None = None  # [N, 2]
    by: Artists | None = None


class IdIndex:
    """Finds the position of a string id, from mapped arrays and without building a dictionary.

    ``hashes`` are the CRC-32 of all ids in ascending order, ``order`` the position each belongs to. A binary
    search finds the hash, and the string itself decides, so that colliding hashes do no harm.
    """

    __slots__ = ("hashes", "ids", "order")

    def __init__(self, ids: StringColumn, hashes: NDArray[np.uint32], order: NDArray[np.int32]) -> None:
        self.ids = ids
        self.hashes = hashes
        self.order = order

    @classmethod
    def from_ids(cls, ids: Sequence[str]) -> Self:
        column = StringColumn.from_strings(ids)
        hashes = _hash_ids(text.encode() for text in ids)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(column, hashes[order], order)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> str:
        return self.ids[position]

    def position(self, wanted: str) -> int:
        """The position of one id, -1 where it is unknown: what `find` gives, in a third of its fixed cost."""
        text = wanted.encode(errors="surrogatepass")
        (hashed,) = _hash_ids([text]).tolist()
        # Plain bisection over the buffer: ten calls of numpy cost more than sixteen comparisons.
        place = bisect_left(self.hashes.data, hashed)
        return self._find_from(place, hashed, text)

    def find(self, wanted: Sequence[str]) -> NDArray[np.int32]:
        """The position of each id, -1 where it is unknown: int32[len(wanted)]."""
        # A lone surrogate can be no id of ours, but a query may hold one: it is unknown, not an error.
        encoded = [text.encode(errors="surrogatepass") for text in wanted]
        hashes = _hash_ids(encoded)
        if not len(self):
            return np.full(len(encoded), -1, dtype=np.int32)
        places = np.searchsorted(self.hashes, hashes)
        # An id past the last hash is compared with the last one, in vain.
        positions = self.order[np.minimum(places, len(self) - 1)]
        data, offsets = self.ids.bytes.data, self.ids.offsets
        starts, ends = offsets[positions].tolist(), offsets[positions + 1].tolist()
        for slot, (text, start, end) in enumerate(zip(encoded, starts, ends, strict=True)):
            if data[start:end] != text:
                positions[slot] = self._find_from(int(places[slot]) + 1, int(hashes[slot]), text)
        return positions

    def _find_from(self, place: int, hashed: int, text: bytes) -> int:
        """Go on from ``place`` for as long as the hash is the wanted one: another id may come first."""
        hashes, data, offsets = self.hashes.data, self.ids.bytes.data, self.ids.offsets.data
        while place < len(hashes) and hashes[place] == hashed:
            position: int = self.order.data[place]
            if data[offsets[position] : offsets[position + 1]] == text:
                return position
            place += 1
        return -1


class Bundle:
    """An open bundle: mapped, read-only arrays. Safe to share between threads.

    The arrays are those that `bundle_arrays.BUNDLE` declares; ``tracks`` and ``users`` find ids.

    ``screen`` float32[N, w] is what a first look over all tracks reads in the place of ``embeddings``: the
    first ``w - SCREEN_EXTRAS`` coordinates of each, the length of the others, the prior (``LEFT_OUT`` where
    it may not be recommended), and the standardised logarithm of its popularity, ``RARE`` at least. With it
    one product bounds the score of every track from above (Cauchy and Schwarz); see `ranking`. Where few
    coordinates hold little of the length it has them all.

    ``search_*`` are the index of the names; see `search`.
    """

    track_ids: StringColumn
    track_hashes: NDArray[np.uint32]
    track_hash_order: NDArray[np.int32]
    user_ids: StringColumn
    user_hashes: NDArray[np.uint32]
    user_hash_order: NDArray[np.int32]
    embeddings: NDArray[np.float32]
    pooling_weight: NDArray[np.float32]
    popularity: NDArray[np.int32]
    recommendable: NDArray[np.bool_]
    prior: NDArray[np.float32]
    canonical: NDArray[np.int32]
    popular_order: NDArray[np.int32]
    screen: NDArray[np.float32]
    explicit: NDArray[np.int8]
    layout: NDArray[np.float32]
    neighbour_indptr: NDArray[np.int64]
    neighbour_indices: NDArray[np.int32]
    neighbour_weight: NDArray[np.float32]
    user_indptr: NDArray[np.int64]
    user_tracks: NDArray[np.int32]
    disliked_indptr: NDArray[np.int64]
    disliked_tracks: NDArray[np.int32]
    listener_indptr: NDArray[np.int64]
    listeners: NDArray[np.int32]
    artist_ids: StringColumn
    artist_names: StringColumn
    artist_indptr: NDArray[np.int64]
    artist_indices: NDArray[np.int32]
    search_tracks: NDArray[np.int32]
    search_codes: NDArray[np.uint64]
    search_indptr: NDArray[np.int64]
    search_places: NDArray[np.int32]
    search_words: NDArray[np.int64]
    search_word_sums: NDArray[np.int64]
    names: StringColumn
    artists: StringColumn
    image_urls: StringColumn
    preview_urls: StringColumn

    def __init__(self, parts: ArrayFolder) -> None:
        self._parts = parts
        self.folder = parts.folder
        self.facts: dict[str, Any] = parts.facts
        written = self.facts.get("bundle_format")
        if written != BUNDLE_FORMAT:
            raise BundleError(
                f"{self.folder / MANIFEST} has bundle format {written}, this version reads {BUNDLE_FORMAT};"
                " rebuild the bundle or update the program"
            )
        vars(self).update(checked_arrays(parts, BUNDLE, "a bundle").arrays)
        self.tracks = IdIndex(self.track_ids, self.track_hashes, self.track_hash_order)
        self.users = IdIndex(self.user_ids, self.user_hashes, self.user_hash_order)
        self.n_tracks = len(self.tracks)
        self.n_users = len(self.users)
        self.dimension: int = self.embeddings.shape[1]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the bundle and check every shape, dtype and size, but read no data: milliseconds at any size.

        Raises BundleError, naming the file, where a part is missing, cut short or not as declared.
        """
        return cls(ArrayFolder.open(folder))

    @classmethod
    def verified(cls, folder: Path) -> Self:
        """Open the bundle, and read every byte of it. Raises BundleError where it is not as its manifest
        says, or is not that of which the folder has the name."""
        bundle = cls.open(folder)
        if bundle.version != folder.name:
            raise BundleError(
                f"{folder} says it is bundle {bundle.version}; a folder has the name of its bundle"
            )
        bundle.verify()
        return bundle

    def verify(self) -> None:
        """Read everything and compare checksums. Raises BundleError naming the first file that differs."""
        self._parts.verify()

    @property
    def version(self) -> str:
        return str(self.facts["bundle_version"])

    @property
    def model_version(self) -> str:
        return str(self.facts["model_version"])

    def user_list(self, user: int) -> NDArray[np.int32]:
        """What the user at this position likes now: track_idx, ascending. A view, not a copy."""
        return self.user_tracks[self.user_indptr[user] : self.user_indptr[user + 1]]

    def user_dislikes(self, user: int) -> NDArray[np.int32]:
        """What they turned down: track_idx, ascending. A view, not a copy."""
        return self.disliked_tracks[self.disliked_indptr[user] : self.disliked_indptr[user + 1]]

    def file(self, name: str) -> Path | None:
        """Where a declared file that is no array lies, None where the bundle has none of that name."""
        return self._parts.file(name)


def write_bundle(
    folder: Path, content: BundleContent, finish: Callable[[Path], dict[str, Any]] | None = None
) -> None:
    """Check the content and write it as the bundle ``folder``, complete or not at all.

    ``finish`` is called with a folder that is the bundle already, though not yet in its place; it may put
    files there, which become parts of the bundle, and returns facts that are added to those of the content.

    Raises BundleError where the content contradicts itself (shapes, duplicate ids, indices out of range,
    numbers that are not finite, embeddings that are not of unit length); LakeError where the disk refuses.
    """
    tracks, users = IdIndex.from_ids(content.track_ids), IdIndex.from_ids(content.user_ids)
    filled = _Filled.of(content, len(tracks), len(users))
    _check(content, filled, tracks, users)
    # Stable sort of the negated counts: on a tie the smaller index stays first.
    by_popularity = np.argsort(-content.popularity.astype(np.int64), kind="stable").astype(np.int32)
    arrays = as_declared(
        BUNDLE,
        declared_fields(BUNDLE, content)
        | {
            "track_ids": tracks.ids,
            "track_hashes": tracks.hashes,
            "track_hash_order": tracks.order,
            "user_ids": users.ids,
            "user_hashes": users.hashes,
            "user_hash_order": users.order,
            "embeddings": np.ascontiguousarray(content.embeddings),
            "canonical": filled.canonical,
            "popular_order": by_popularity[content.recommendable[by_popularity]],
            "screen": _screen(content),
            "explicit": filled.explicit,
            "layout": filled.layout,
            "disliked_indptr": filled.disliked_indptr,
            "disliked_tracks": filled.disliked_tracks,
            **_listeners(content, len(tracks)),
            "artist_ids": filled.by.ids,
            "artist_names": filled.by.names,
            "artist_indptr": filled.by.indptr,
            "artist_indices": filled.by.indices,
            **search_arrays(
                content.track_ids,
                content.names,
                filled.by.indptr,
                filled.by.indices,
                filled.by.names,
                content.popularity,
                filled.canonical,
            ),
        },
    )
    with staged_folder(folder, folder.parent / STAGING) as draft:
        facts = {**content.facts, "bundle_format": BUNDLE_FORMAT}
        write_arrays(draft, arrays, facts)
        if finish is not None:
            facts |= finish(draft)
            (draft / MANIFEST).unlink()  # declares its folder, and is no part of it
            write_arrays(draft, {}, facts)


def read_current(serving_folder: Path) -> Path:
    """The folder of the live bundle. Raises BundleError where none is published or it is gone."""
    folder = version_folder(serving_folder, current_version(serving_folder))
    if not folder.is_dir():
        raise BundleError(
            f"{serving_folder / CURRENT} names {folder.name}, which is not there; run `tunegraph refresh`"
        )
    return folder


def current_version(serving_folder: Path) -> str:
    """The name of the live bundle. Raises BundleError where none is published."""
    path = serving_folder / CURRENT
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise BundleError(
            f"no bundle has been published in {serving_folder} yet; run `tunegraph refresh` first"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error}); run `tunegraph refresh`") from error


def is_withdrawn(serving_folder: Path) -> bool:
    """Whether the folder says that no bundle is live: it is there, and has no ``CURRENT``. Of a folder that
    cannot be reached nothing is known, and it is not."""
    try:
        (serving_folder / CURRENT).stat()
    except FileNotFoundError:
        return serving_folder.is_dir()
    except OSError:
        return False
    return False


def version_folder(serving_folder: Path, version: str) -> Path:
    """Where the bundle of this name lies. Raises BundleError for what cannot be the name of one."""
    if not version or version.startswith(".") or "/" in version or "\\" in version or "\0" in version:
        raise BundleError(f"{version!r} in {serving_folder} is not the name of a bundle")
    return serving_folder / version


def _hash_ids(encoded: Iterable[bytes]) -> NDArray[np.uint32]:
    # A list of a hundred ids is looked up in the time of a query: a better hash would take as long as that.
    return np.fromiter(map(crc32, encoded), dtype=np.uint32)


class _Filled(NamedTuple):
    """What a content may leave open, filled in."""

    canonical: NDArray[np.int32]
    disliked_indptr: NDArray[np.int64]
    disliked_tracks: NDArray[np.int32]
    explicit: NDArray[np.int8]
    layout: NDArray[np.float32]
    by: Artists

    @classmethod
    def of(cls, content: BundleContent, n_tracks: int, n_users: int) -> Self:
        def given(array: NDArray[Any] | None, otherwise: NDArray[Any]) -> NDArray[Any]:
            return otherwise if array is None else array

        return cls(
            canonical=given(content.canonical, np.arange(n_tracks, dtype=np.int32)),
            disliked_indptr=given(content.disliked_indptr, np.zeros(n_users + 1, dtype=np.int64)),
            disliked_tracks=given(content.disliked_tracks, np.zeros(0, dtype=np.int32)),
            explicit=given(content.explicit, np.full(n_tracks, -1, dtype=np.int8)),
            layout=given(content.layout, np.full((n_tracks, 2), 0.5, dtype=np.float32)),
            by=Artists.of_texts(content.artists) if content.by is None else content.by,
        )


def _screen(content: BundleContent) -> NDArray[np.float32]:
    """The ``screen`` of a bundle: as few coordinates as hold enough of the length, or all."""
    embeddings = content.embeddings
    n, d = embeddings.shape
    held = np.cumsum(np.einsum("ij,ij->j", embeddings, embeddings))
    enough = int(np.searchsorted(held, _SCREENED * held[-1])) + 1 if n else d
    width = -(-(enough + SCREEN_EXTRAS) // _SCREEN_STEP) * _SCREEN_STEP
    coordinates = min(width - SCREEN_EXTRAS, d)
    rest = np.sqrt(np.einsum("ij,ij->i", embeddings[:, coordinates:], embeddings[:, coordinates:]))
    popularity = np.log1p(content.popularity.astype(np.float64))
    known = popularity[content.recommendable]
    spread = float(known.std()) if known.size else 0.0
    screen = np.empty((n, coordinates + SCREEN_EXTRAS), dtype=np.float32)
    screen[:, :coordinates] = embeddings[:, :coordinates]
    screen[:, -3] = rest
    screen[:, -2] = np.where(content.recommendable, content.prior, LEFT_OUT)
    screen[:, -1] = np.maximum((popularity - known.mean()) / spread, RARE) if spread > 0 else 0
    return screen


def _listeners(content: BundleContent, n_tracks: int) -> dict[str, NDArray[Any]]:
    users = np.repeat(np.arange(len(content.user_ids), dtype=np.int32), np.diff(content.user_indptr))
    order = np.argsort(content.user_tracks, kind="stable")
    indptr = np.zeros(n_tracks + 1, dtype=np.int64)
    np.cumsum(np.bincount(content.user_tracks, minlength=n_tracks), out=indptr[1:])
    return {"listener_indptr": indptr, "listeners": users[order]}


def _check(content: BundleContent, filled: _Filled, tracks: IdIndex, users: IdIndex) -> None:
    n = len(tracks)

    def require(holds: bool | np.bool_, complaint: str) -> None:
        if not holds:
            raise BundleError(f"the bundle cannot be written: {complaint}")

    for key in ("bundle_version", "model_version", "blend"):
        require(key in content.facts, f"its facts lack {key!r}")
    for key in ("embedding", "neighbour", "length_exponent"):
        weight = content.facts["blend"].get(key)
        require(isinstance(weight, int | float) and np.isfinite(weight), f"blend.{key} is {weight!r}")
    for kind, index in (("track", tracks), ("user", users)):
        twice = _duplicate(index)
        require(twice is None, f"{kind} {twice!r} is there twice")
    for spec in BUNDLE:
        value = getattr(filled, spec.name, getattr(content, spec.name, None))
        if value is None or spec.shape[0] != "tracks":
            continue  # computed here, or a list a user or a CSR matrix: see below
        if spec.dtype == TEXT:
            require(len(value) == n, f"{spec.name} has {len(value)} entries for {n} tracks")
        else:
            fitting = fits(value.shape, spec, {"tracks": n})
            require(fitting, f"{spec.name} has shape {value.shape} for {n} tracks")
    for name in ("embeddings", "pooling_weight", "prior", "neighbour_weight"):
        require(np.isfinite(getattr(content, name)).all(), f"{name} holds a number that is not finite")
    lengths = np.sqrt(np.einsum("ij,ij->i", content.embeddings, content.embeddings))
    longest = np.abs(lengths - 1).max(initial=0)
    require(longest <= _UNIT_TOLERANCE, f"an embedding is off unit length by {longest:.3g}")
    neighbours = (content.neighbour_indptr, content.neighbour_indices)
    require(
        _is_csr(*neighbours, rows=n, columns=n), "neighbour_indptr and neighbour_indices are no CSR matrix"
    )
    require(
        content.neighbour_weight.shape == content.neighbour_indices.shape,
        f"{content.neighbour_weight.size} neighbour weights for {content.neighbour_indices.size} neighbours",
    )
    canonical, disliked_indptr, disliked_tracks, explicit, layout, by = filled
    for name, lists in (
        ("user", (content.user_indptr, content.user_tracks)),
        ("disliked", (disliked_indptr, disliked_tracks)),
    ):
        require(
            _is_csr(*lists, rows=len(users), columns=n), f"{name}_indptr and {name}_tracks are no CSR matrix"
        )
        require(_ascending(*lists), f"a user's {name}_tracks are not ascending without duplicates")
    both = np.intersect1d(_pairs(content.user_indptr, content.user_tracks, n), _pairs(*lists, n))
    require(not both.size, "a user likes and dislikes the same track")
    require(
        _is_csr(by.indptr, by.indices, rows=n, columns=len(by.ids)), "the artists of tracks are no CSR matrix"
    )
    require(len(set(by.ids)) == len(by.ids) == len(by.names), "an artist's id is there twice, or has no name")
    require(((layout >= 0) & (layout <= 1)).all(), "layout has a place outside of the map")
    require(np.isin(explicit, (-1, 0, 1)).all(), "explicit holds something else than 1, 0 and -1")

    own = np.arange(n)
    pointing = (canonical >= 0).all() and (canonical <= own).all()
    require(
        pointing and (canonical[canonical] == canonical).all(),
        "canonical does not name the first track of a recording",
    )
    alias = canonical != own
    require(not (alias & content.recommendable).any(), "a track that is not canonical is recommendable")
    require(not alias[content.user_tracks].any(), "a user likes a track that is not canonical")
    require(not alias[disliked_tracks].any(), "a user dislikes a track that is not canonical")


def _is_csr(indptr: NDArray[np.int64], indices: NDArray[np.int32], *, rows: int, columns: int) -> bool:
    return bool(
        indptr.shape == (rows + 1,)
        and indptr[0] == 0
        and indptr[-1] == indices.size
        and indices.ndim == 1
        and (np.diff(indptr) >= 0).all()
        and (indices >= 0).all()
        and (indices < columns).all()
    )


def _ascending(indptr: NDArray[np.int64], tracks: NDArray[np.int32]) -> bool:
    """Whether every list rises, without duplicates."""
    rises = np.diff(tracks) > 0
    starts = indptr[1:-1]
    inner = (starts > 0) & (starts < tracks.size)
    rises[starts[inner] - 1] = True  # from one user to the next nothing is asked
    return bool(rises.all())


def _pairs(indptr: NDArray[np.int64], tracks: NDArray[np.int32], n_tracks: int) -> NDArray[np.int64]:
    """A number for each (user, track) of these lists."""
    return np.repeat(np.arange(len(indptr) - 1) * n_tracks, np.diff(indptr)) + tracks


def _duplicate(index: IdIndex) -> str | None:
    """An id that is there twice, or None. Equal ids have equal hashes, so only those are compared."""
    after = np.flatnonzero(index.hashes[1:] == index.hashes[:-1])
    seen: set[str] = set()
    for slot in np.union1d(after, after + 1).tolist():
        text = index[int(index.order[slot])]
        if text in seen:
            return text
        seen.add(text)
    return None
