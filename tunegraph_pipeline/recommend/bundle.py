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
from tunegraph_pipeline.lake.arrays import MANIFEST, REBUILD, ArrayFolder, StringColumn, write_arrays
from tunegraph_pipeline.lake.storage import STAGING, staged_folder
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.search import search_arrays

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

    The arrays have the names, shapes and dtypes of :class:`BundleContent`; ``tracks`` and ``users`` find ids;
    ``popular_order`` int32[<=N] holds the recommendable tracks, most liked first, the smaller index on a tie.
    ``listener_indptr`` int64[N + 1] and ``listeners`` int32 are who likes each track, ascending: the lists of
    the users, transposed.

    ``screen`` float32[N, w] is what a first look over all tracks reads in the place of ``embeddings``: the
    first ``w - SCREEN_EXTRAS`` coordinates of each, the length of the others, the prior (``LEFT_OUT`` where
    it may not be recommended), and the standardised logarithm of its popularity, ``RARE`` at least. With it
    one product bounds the score of every track from above (Cauchy and Schwarz); see `ranking`. Where few
    coordinates hold little of the length it has them all.

    ``search_*`` are the index of the names; see `search`.
    """

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
        self.tracks = self._id_index("track")
        self.users = self._id_index("user")
        self.n_tracks = n = len(self.tracks)
        self.n_users = len(self.users)
        self.embeddings: NDArray[np.float32] = self._array("embeddings", "<f4", n, None)
        self.dimension: int = self.embeddings.shape[1]
        self.pooling_weight: NDArray[np.float32] = self._array("pooling_weight", "<f4", n)
        self.popularity: NDArray[np.int32] = self._array("popularity", "<i4", n)
        self.recommendable: NDArray[np.bool_] = self._array("recommendable", "|b1", n)
        self.prior: NDArray[np.float32] = self._array("prior", "<f4", n)
        self.canonical: NDArray[np.int32] = self._array("canonical", "<i4", n)
        self.popular_order: NDArray[np.int32] = self._array("popular_order", "<i4", None)
        self.screen: NDArray[np.float32] = self._array("screen", "<f4", n, None)
        self.explicit: NDArray[np.int8] = self._array("explicit", "|i1", n)
        self.layout: NDArray[np.float32] = self._array("layout", "<f4", n, 2)
        self.neighbour_indptr: NDArray[np.int64] = self._array("neighbour_indptr", "<i8", n + 1)
        entries = int(self.neighbour_indptr[-1])
        self.neighbour_indices: NDArray[np.int32] = self._array("neighbour_indices", "<i4", entries)
        self.neighbour_weight: NDArray[np.float32] = self._array("neighbour_weight", "<f4", entries)
        self.user_indptr: NDArray[np.int64] = self._array("user_indptr", "<i8", self.n_users + 1)
        self.user_tracks: NDArray[np.int32] = self._array("user_tracks", "<i4", int(self.user_indptr[-1]))
        self.disliked_indptr: NDArray[np.int64] = self._array("disliked_indptr", "<i8", self.n_users + 1)
        dislikes = int(self.disliked_indptr[-1])
        self.disliked_tracks: NDArray[np.int32] = self._array("disliked_tracks", "<i4", dislikes)
        self.listener_indptr: NDArray[np.int64] = self._array("listener_indptr", "<i8", n + 1)
        self.listeners: NDArray[np.int32] = self._array("listeners", "<i4", int(self.listener_indptr[-1]))
        self.artist_ids = self._strings("artist_ids", None)
        self.artist_names = self._strings("artist_names", len(self.artist_ids))
        self.artist_indptr: NDArray[np.int64] = self._array("artist_indptr", "<i8", n + 1)
        named = int(self.artist_indptr[-1])
        self.artist_indices: NDArray[np.int32] = self._array("artist_indices", "<i4", named)
        self.search_tracks: NDArray[np.int32] = self._array("search_tracks", "<i4", None)
        self.search_codes: NDArray[np.uint64] = self._array("search_codes", "<u8", None)
        codes = len(self.search_codes)
        self.search_indptr: NDArray[np.int64] = self._array("search_indptr", "<i8", codes + 1)
        self.search_places: NDArray[np.int32] = self._array(
            "search_places", "<i4", int(self.search_indptr[-1])
        )
        self.search_words: NDArray[np.int64] = self._array("search_words", "<i8", None)
        words = len(self.search_words)
        self.search_word_sums: NDArray[np.int64] = self._array("search_word_sums", "<i8", words + 1)
        self.names = self._strings("names", n)
        self.artists = self._strings("artists", n)
        self.image_urls = self._strings("image_urls", n)
        self.preview_urls = self._strings("preview_urls", n)

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

    def _array(self, name: str, dtype: str, *shape: int | None) -> NDArray[Any]:
        array = self._parts[name]
        fits = len(array.shape) == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if array.dtype.str != dtype or not fits:
            wanted = "x".join("any" if size is None else str(size) for size in shape)
            raise BundleError(
                f"{self.folder / name}.npy is {array.dtype.str} of shape {array.shape}, a bundle needs"
                f" {dtype} of {wanted}; {REBUILD}"
            )
        return array

    def _strings(self, name: str, length: int | None) -> StringColumn:
        self._array(f"{name}.offsets", "<i8", None if length is None else length + 1)
        column = self._parts.strings(name)
        if not len(column.offsets):
            raise BundleError(f"{self.folder / name}.offsets.npy is empty; {REBUILD}")
        self._array(f"{name}.bytes", "|u1", int(column.offsets[-1]))
        return column

    def _id_index(self, kind: str) -> IdIndex:
        ids = self._strings(f"{kind}_ids", None)
        hashes = self._array(f"{kind}_hashes", "<u4", len(ids))
        return IdIndex(ids, hashes, self._array(f"{kind}_hash_order", "<i4", len(ids)))


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
    arrays: dict[str, NDArray[Any] | StringColumn] = {
        "track_ids": tracks.ids,
        "track_hashes": tracks.hashes,
        "track_hash_order": tracks.order,
        "user_ids": users.ids,
        "user_hashes": users.hashes,
        "user_hash_order": users.order,
        "embeddings": np.ascontiguousarray(content.embeddings, dtype=np.float32),
        "pooling_weight": content.pooling_weight.astype(np.float32, copy=False),
        "popularity": content.popularity.astype(np.int32, copy=False),
        "recommendable": content.recommendable.astype(np.bool_, copy=False),
        "prior": content.prior.astype(np.float32, copy=False),
        "canonical": filled.canonical.astype(np.int32, copy=False),
        "popular_order": by_popularity[content.recommendable[by_popularity]],
        "screen": _screen(content),
        "explicit": filled.explicit.astype(np.int8, copy=False),
        "layout": filled.layout.astype(np.float32, copy=False),
        "neighbour_indptr": content.neighbour_indptr.astype(np.int64, copy=False),
        "neighbour_indices": content.neighbour_indices.astype(np.int32, copy=False),
        "neighbour_weight": content.neighbour_weight.astype(np.float32, copy=False),
        "user_indptr": content.user_indptr.astype(np.int64, copy=False),
        "user_tracks": content.user_tracks.astype(np.int32, copy=False),
        "disliked_indptr": filled.disliked_indptr.astype(np.int64, copy=False),
        "disliked_tracks": filled.disliked_tracks.astype(np.int32, copy=False),
        **_listeners(content, len(tracks)),
        "artist_indptr": filled.by.indptr.astype(np.int64, copy=False),
        "artist_indices": filled.by.indices.astype(np.int32, copy=False),
        "artist_ids": StringColumn.from_strings(filled.by.ids),
        "artist_names": StringColumn.from_strings(filled.by.names),
        **search_arrays(
            content.track_ids,
            content.names,
            filled.by.indptr,
            filled.by.indices,
            filled.by.names,
            content.popularity,
            filled.canonical,
        ),
        "names": StringColumn.from_strings(content.names),
        "artists": StringColumn.from_strings(content.artists),
        "image_urls": StringColumn.from_strings(content.image_urls),
        "preview_urls": StringColumn.from_strings(content.preview_urls),
    }
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
    for name in ("pooling_weight", "popularity", "recommendable", "prior"):
        shape = getattr(content, name).shape
        require(shape == (n,), f"{name} has shape {shape} for {n} tracks")
    for name in ("names", "artists", "image_urls", "preview_urls"):
        length = len(getattr(content, name))
        require(length == n, f"{name} has {length} entries for {n} tracks")
    shape = content.embeddings.shape
    require(len(shape) == 2 and shape[0] == n, f"embeddings have shape {shape} for {n} tracks")
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
    require(layout.shape == (n, 2), f"layout has shape {layout.shape} for {n} tracks")
    require(((layout >= 0) & (layout <= 1)).all(), "layout has a place outside of the map")
    require(explicit.shape == (n,), f"explicit has shape {explicit.shape} for {n} tracks")
    require(np.isin(explicit, (-1, 0, 1)).all(), "explicit holds something else than 1, 0 and -1")

    require(canonical.shape == (n,), f"canonical has shape {canonical.shape} for {n} tracks")
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
