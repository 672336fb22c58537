"""The serving bundle: a folder of mapped arrays with everything a query needs, and which bundle is live.

Here: the content of a bundle, writing and opening it, finding an id in it, and reading ``CURRENT``. Not here:
what is computed from the arrays (`ranking`, `recommender`), or making a bundle live (`publication`).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.ids import composed, forms_of
from tunegraph_pipeline.lake.array_spec import (
    NEUTRAL,
    AnyTexts,
    as_declared,
    check_indices,
    checked_arrays,
    declared_fields,
    fits,
    specs_of,
)
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder, StringColumn, write_arrays
from tunegraph_pipeline.lake.seals import read_name
from tunegraph_pipeline.lake.storage import STAGING, staged_folder
from tunegraph_pipeline.models.blend import Continuation
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle_arrays import BUNDLE, BundleArrays, GivenArrays
from tunegraph_pipeline.recommend.csr_rows import row_places
from tunegraph_pipeline.recommend.search_index import search_arrays
from tunegraph_pipeline.song_ids import clean_id

BUNDLE_FORMAT = 3
CURRENT = "CURRENT"
SCREEN_EXTRAS = 3
"""Columns of ``screen`` after the coordinates: length of the other coordinates, prior, popularity."""
RARE = -0.5
"""Lower limit of the standardised popularity: below it, being even less known makes no difference."""
LEFT_OUT = np.float32(-1e30)
"""The prior, in ``screen``, of a track that must not be recommended. Finite, because 0 * inf is NaN."""

_LIKES_A_BLOCK = 1 << 20
_UNIT_TOLERANCE = 1e-3
_REMEMBERED, _SHORT = 16_384, 64
"""Ids that were found before, up to twice as many, and how long each may be: some 6 MB."""
_SCREEN_STEP = 16  # float32 numbers in a cache line: rows of the screen start at one
_SCREENED = 0.7  # minimum share of the squared length that the screen's coordinates have


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BundleContent(GivenArrays[AnyTexts]):
    """The content of a bundle of N tracks and U users. Row i of each array is ``track_idx`` i.

    ``neighbour_*`` is a CSR matrix W of shape (N, N): row = liked track, column = candidate.
    ``user_indptr``/``user_tracks`` are the current lists, ascending within a user. Texts are "" if unknown.
    ``facts`` must have ``bundle_version``, ``model_version`` and ``blend`` (``embedding``, ``neighbour``,
    ``length_exponent``); other facts (``calibration``, ``cut_off``, ...) are stored too. ``by``: None if the
    text in ``artists`` is one artist.

    ``canonical``: for each track, the canonical track of its recording, which is the smallest index among the
    recording's ids; NEUTRAL if each track is a recording of its own. A track that is not canonical is not
    recommendable and in no user's list; a query for it is answered as one for its canonical track.
    """

    facts: dict[str, Any]
    by: Artists | None = None

    @classmethod
    def for_ranking(cls, facts: dict[str, Any], **arrays: Any) -> "BundleContent":
        """All that a ranking by given lists needs: ``arrays`` as of this class, without users and texts. The
        id of each track is its number."""
        n_tracks = len(arrays["prior"])
        nothing = StringColumn(np.zeros(0, dtype=np.uint8), np.zeros(n_tracks + 1, dtype=np.int64))
        return cls(
            track_ids=[str(track) for track in range(n_tracks)],
            user_ids=[],
            user_indptr=np.zeros(1, dtype=np.int64),
            user_tracks=np.zeros(0, dtype=np.int32),
            names=nothing,
            artists=nothing,
            image_urls=nothing,
            preview_urls=nothing,
            facts=facts,
            **arrays,
        )


@dataclass(frozen=True, slots=True, eq=False)
class IdIndex:
    """Finds the position of a string id in mapped arrays, without building a dictionary.

    ``hashes`` are the CRC-32 of all ids in ascending order, ``order`` the position each belongs to. A binary
    search finds the hash, then the strings are compared, so that colliding hashes do no harm. An id is looked
    up composed (`ids.composed`); one that is not there again as ``clean`` writes it, a link for example, and
    in the Unicode forms that an earlier version may have stored.
    """

    ids: StringColumn
    hashes: NDArray[np.uint32]
    order: NDArray[np.int32]
    clean: Callable[[str], str] | None = None
    _found: dict[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def from_ids(cls, ids: AnyTexts) -> Self:
        column = StringColumn.of(ids)
        hashes = _hash_ids(text.encode() for text in column)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(column, hashes[order], order)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> str:
        return self.ids[position]

    def position(self, wanted: str) -> int:
        """The position of one id, -1 if it is unknown: the same as `find`, at a third of its fixed cost."""
        found = self._position(composed(wanted))
        return found if found >= 0 else self._position_of_others(wanted)

    def _position_of_others(self, wanted: str) -> int:
        _, *others = forms_of(wanted)
        if self.clean is not None and (cleaned := self.clean(wanted)) != wanted:
            others += forms_of(cleaned)
        return next((found for other in others if (found := self._position(other)) >= 0), -1)

    def _position(self, wanted: str) -> int:
        text = wanted.encode(errors="surrogatepass")
        (hashed,) = _hash_ids([text]).tolist()
        # Plain bisection over the buffer: ten numpy calls would cost more than sixteen comparisons.
        place = bisect_left(self.hashes.data, hashed)
        return self._find_from(place, hashed, text)

    def find(self, wanted: Sequence[str]) -> NDArray[np.int32]:
        """The position of each id, -1 if it is unknown: int32[len(wanted)].

        Ids that were found before are remembered, a bounded number: people send the same songs.
        """
        remembered = list(map(self._found.get, wanted))
        if None not in remembered:
            return np.array(remembered, dtype=np.int32)
        positions = self._look_up(wanted)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        found = zip(wanted, positions.tolist(), strict=True)
        short = ((text, at) for text, at in found if at >= 0 and len(text) <= _SHORT)
        self._found.update(islice(short, _REMEMBERED))
        return positions

    def _look_up(self, wanted: Sequence[str]) -> NDArray[np.int32]:
        # No stored id has a lone surrogate, but a queried one may; it is unknown, not an error.
        if "".join(wanted).isascii():
            encoded = list(map(str.encode, wanted))
        else:
            encoded = [composed(text).encode(errors="surrogatepass") for text in wanted]
        hashes = _hash_ids(encoded)
        if not len(self):
            return np.full(len(encoded), -1, dtype=np.int32)
        places = np.searchsorted(self.hashes, hashes)
        # An id past the last hash is compared with the last one, and differs.
        positions = self.order[np.minimum(places, len(self) - 1)]
        data, offsets = self.ids.bytes.data, self.ids.offsets
        starts, ends = offsets[positions].tolist(), offsets[positions + 1].tolist()
        for slot, (text, start, end) in enumerate(zip(encoded, starts, ends, strict=True)):
            if data[start:end] != text:
                found = self._find_from(int(places[slot]) + 1, int(hashes[slot]), text)
                positions[slot] = found if found >= 0 else self._position_of_others(wanted[slot])
        return positions

    def _find_from(self, place: int, hashed: int, text: bytes) -> int:
        """Compare the ids from ``place`` on as long as their hash is ``hashed``: several may share it."""
        hashes, data, offsets = self.hashes.data, self.ids.bytes.data, self.ids.offsets.data
        while place < len(hashes) and hashes[place] == hashed:
            position: int = self.order.data[place]
            if data[offsets[position] : offsets[position + 1]] == text:
                return position
            place += 1
        return -1


class Bundle(BundleArrays):
    """An open bundle: mapped, read-only arrays. Safe to share between threads.

    Its arrays are those of `BundleArrays`; ``tracks`` and ``users`` find ids.

    ``screen`` float32[N, w] is a smaller stand-in for ``embeddings``: for each track its first
    ``w - SCREEN_EXTRAS`` coordinates, the length of the others, the prior (``LEFT_OUT`` if the track must not
    be recommended), and the standardised logarithm of its popularity, at least ``RARE``. One product with it
    bounds the score of every track from above (Cauchy-Schwarz inequality); see `ranking`. It has all
    coordinates if the first few have too little of the length.

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
        checked = checked_arrays(parts, BUNDLE, "a bundle")
        check_indices(parts, BUNDLE, checked.sizes)
        vars(self).update(checked.arrays)
        self.tracks = IdIndex(self.track_ids, self.track_hashes, self.track_hash_order, clean_id)
        self.users = IdIndex(self.user_ids, self.user_hashes, self.user_hash_order)
        self.version = str(self.facts["bundle_version"])
        self.model_version = str(self.facts["model_version"])
        self.n_tracks = len(self.tracks)
        self.n_users = len(self.users)
        self.has_order = "user_ages" in parts
        self.dimension: int = self.embeddings.shape[1]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the bundle, and check every shape, dtype and size, and every value that points into another
        array; nothing else is read.

        Raises BundleError, naming the file, if an array is missing, truncated or not as declared.
        """
        return cls(ArrayFolder.open(folder))

    @classmethod
    def verified(cls, folder: Path) -> Self:
        """Open the bundle and verify every byte. Raises BundleError if it differs from its manifest, or if
        its version is not the name of its folder."""
        bundle = cls.open(folder)
        if bundle.version != folder.name:
            raise BundleError(
                f"{folder} says it is bundle {bundle.version}; a folder must be named after its bundle"
            )
        bundle.verify()
        return bundle

    def verify(self) -> None:
        """Read everything and compare checksums. Raises BundleError naming the first file that differs."""
        self._parts.verify()

    def user_list(self, user: int) -> NDArray[np.int32]:
        """The current likes of the user at this position: track_idx, ascending. A view, not a copy."""
        return self.user_tracks[self.user_indptr[user] : self.user_indptr[user + 1]]

    def user_order(self, user: int) -> NDArray[np.uint16] | None:
        """For each of those likes, how many are newer; None if the list has no order. A view."""
        if not self.has_order:
            return None
        ages = self.user_ages[self.user_indptr[user] : self.user_indptr[user + 1]]
        return ages if ages.any() else None

    def user_dislikes(self, user: int) -> NDArray[np.int32]:
        """Their dislikes: track_idx, ascending. A view, not a copy."""
        return self.disliked_tracks[self.disliked_indptr[user] : self.disliked_indptr[user + 1]]

    def file(self, name: str) -> Path | None:
        """The path of a file other than an array, None if the manifest does not declare it."""
        return self._parts.file(name)


def write_bundle(
    folder: Path, content: BundleContent, finish: Callable[[Path], dict[str, Any]] | None = None
) -> None:
    """Check the content and write it as the bundle ``folder``, completely or not at all.

    ``finish`` is called with the complete bundle in a staging folder. It may add files there, which become
    parts of the bundle, and returns facts that are added to those of the content.

    Raises BundleError if the content is inconsistent (shapes, duplicate ids, indices out of range, numbers
    that are not finite, embeddings that are not of unit length); LakeError on disk errors.
    """
    tracks, users = IdIndex.from_ids(content.track_ids), IdIndex.from_ids(content.user_ids)
    left_out = {
        spec.name
        for spec in specs_of(BundleContent)
        if spec.optional and getattr(content, spec.name) is NEUTRAL
    }
    given = declared_fields(content, {"tracks": len(tracks), "users": len(users)})
    content = replace(content, **given)  # from here on, nothing in it is NEUTRAL
    by = Artists.of_texts(content.artists) if content.by is None else content.by
    _check(content, by, tracks, users)
    # Stable sort of the negated counts: on a tie the smaller index stays first.
    by_popularity = np.argsort(-content.popularity.astype(np.int64), kind="stable").astype(np.int32)
    arrays = as_declared(
        BUNDLE,
        {name: value for name, value in given.items() if name not in left_out}
        | {
            "track_ids": tracks.ids,
            "track_hashes": tracks.hashes,
            "track_hash_order": tracks.order,
            "user_ids": users.ids,
            "user_hashes": users.hashes,
            "user_hash_order": users.order,
            "embeddings": np.ascontiguousarray(content.embeddings),
            "popular_order": by_popularity[content.recommendable[by_popularity]],
            "screen": _screen(content),
            **_listeners(content.user_indptr, content.user_tracks, len(tracks)),
            **{f"artist_{name}": value for name, value in by._asdict().items()},
            **search_arrays(content.track_ids, content.names, by, content.popularity, content.canonical),
        },
    )
    with staged_folder(folder, folder.parent / STAGING) as draft:
        facts = {**content.facts, "bundle_format": BUNDLE_FORMAT}
        write_arrays(draft, arrays, facts)
        if finish is not None:
            facts |= finish(draft)
            (draft / MANIFEST).unlink()  # written again below, with the new files and facts
            write_arrays(draft, {}, facts)


def read_current(serving_folder: Path) -> Path:
    """The folder of the live bundle. Raises BundleError if none is published or its folder is missing."""
    folder = version_folder(serving_folder, current_version(serving_folder))
    if not folder.is_dir():
        raise BundleError(
            f"{serving_folder / CURRENT} names {folder.name}, which is not there; run `tunegraph refresh`"
        )
    return folder


def current_version(serving_folder: Path) -> str:
    """The version of the live bundle. Raises BundleError if none is published."""
    path = serving_folder / CURRENT
    try:
        return read_name(path.read_text())
    except FileNotFoundError:
        raise BundleError(
            f"no bundle has been published in {serving_folder} yet; run `tunegraph refresh` first"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error}); run `tunegraph refresh`") from error


def is_withdrawn(serving_folder: Path) -> bool:
    """Whether the folder exists without a ``CURRENT``, so that no bundle is live. False if the folder cannot
    be read."""
    try:
        (serving_folder / CURRENT).stat()
    except FileNotFoundError:
        return serving_folder.is_dir()
    except OSError:
        return False
    return False


def version_folder(serving_folder: Path, version: str) -> Path:
    """The folder of a bundle. Raises BundleError if ``version`` cannot be the name of one."""
    if not version or version.startswith(".") or "/" in version or "\\" in version or "\0" in version:
        raise BundleError(f"{version!r} in {serving_folder} is not the name of a bundle")
    return serving_folder / version


def _hash_ids(encoded: Iterable[bytes]) -> NDArray[np.uint32]:
    # Fast, because a query looks up a list of ids: a better hash would take as long as the ranking itself.
    return np.fromiter(map(crc32, encoded), dtype=np.uint32)


def _screen(content: BundleContent) -> NDArray[np.float32]:
    """The ``screen`` of a bundle, with as few coordinates as have enough of the length, or all."""
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


def _listeners(
    user_indptr: NDArray[np.int64], tracks: NDArray[np.int32], n_tracks: int
) -> dict[str, NDArray[Any]]:
    """The lists turned round: who likes each track. Beside the result there is a block of it in memory."""
    indptr = np.zeros(n_tracks + 1, dtype=np.int64)
    np.cumsum(np.bincount(tracks, minlength=n_tracks), out=indptr[1:])
    listeners = np.empty(len(tracks), dtype=np.int32)
    free = indptr[:-1].copy()  # the first place of each track that is not filled yet
    for start in range(0, len(tracks), _LIKES_A_BLOCK):
        block = tracks[start : start + _LIKES_A_BLOCK]
        order = np.argsort(block, kind="stable")
        met, counts = np.unique(block, return_counts=True)
        place = np.repeat(free[met] - (counts.cumsum() - counts), counts) + np.arange(len(block))
        listeners[place] = np.searchsorted(user_indptr, start + order, side="right") - 1
        free[met] += counts
    return {"listener_indptr": indptr, "listeners": listeners}


def _check(content: BundleContent, by: Artists, tracks: IdIndex, users: IdIndex) -> None:
    n = len(tracks)

    def require(holds: bool | np.bool_, complaint: str) -> None:
        if not holds:
            raise BundleError(f"the bundle cannot be written: {complaint}")

    for key in ("bundle_version", "model_version", "blend"):
        require(key in content.facts, f"its facts lack {key!r}")
    for key in ("embedding", "neighbour", "length_exponent"):
        weight = content.facts["blend"].get(key)
        require(isinstance(weight, int | float) and np.isfinite(weight), f"blend.{key} is {weight!r}")
    if (continuation := content.facts.get("continuation")) is not None:
        try:
            numbers = astuple(Continuation.from_facts(content.facts))
        except (KeyError, TypeError, ValueError):
            numbers = (continuation,)
        require(_are_finite(numbers), f"continuation is {continuation!r}")
    for kind, index in (("track", tracks), ("user", users)):
        twice = _duplicate(index)
        require(twice is None, f"{kind} {twice!r} occurs twice")
    for spec in specs_of(BundleContent):
        if spec.shape[0] != "tracks":
            continue  # checked below
        value = getattr(content, spec.name)
        if isinstance(value, np.ndarray):
            fitting = fits(value.shape, spec, {"tracks": n})
            require(fitting, f"{spec.name} has shape {value.shape} for {n} tracks")
        else:
            require(len(value) == n, f"{spec.name} has {len(value)} entries for {n} tracks")
    for name in ("embeddings", "pooling_weight", "prior", "neighbour_weight"):
        require(np.isfinite(getattr(content, name)).all(), f"{name} has a number that is not finite")
    lengths = np.sqrt(np.einsum("ij,ij->i", content.embeddings, content.embeddings))
    longest = np.abs(lengths - 1).max(initial=0)
    require(longest <= _UNIT_TOLERANCE, f"the length of an embedding differs from 1 by {longest:.3g}")
    neighbours = (content.neighbour_indptr, content.neighbour_indices)
    require(
        _is_csr(*neighbours, rows=n, columns=n), "neighbour_indptr and neighbour_indices are not a CSR matrix"
    )
    require(
        content.neighbour_weight.shape == content.neighbour_indices.shape,
        f"{content.neighbour_weight.size} neighbour weights for {content.neighbour_indices.size} neighbours",
    )
    liked = content.user_indptr, content.user_tracks
    disliked = content.disliked_indptr, content.disliked_tracks
    for name, lists in (("user", liked), ("disliked", disliked)):
        is_csr = _is_csr(*lists, rows=len(users), columns=n)
        require(is_csr, f"{name}_indptr and {name}_tracks are not a CSR matrix")
        require(_ascending(*lists), f"a user's {name}_tracks are not ascending without duplicates")
    n_ages = content.user_ages.size
    require(n_ages in (0, content.user_tracks.size), f"{n_ages} ages of {content.user_tracks.size} likes")
    some = np.flatnonzero(np.diff(content.disliked_indptr))
    both = np.intersect1d(_pairs(*liked, n, some), _pairs(*disliked, n, some))
    require(not both.size, "a user likes and dislikes the same track")
    _check_filters(content, n, require)
    canonical, layout = content.canonical, content.layout
    is_csr = _is_csr(by.indptr, by.indices, rows=n, columns=len(by.ids))
    require(is_csr, "the artists of tracks are not a CSR matrix")
    distinct = _duplicate(IdIndex.from_ids(by.ids)) is None
    require(distinct and len(by.ids) == len(by.names), "an artist's id occurs twice or has no name")
    require(((layout >= 0) & (layout <= 1)).all(), "layout has a position outside of the map")
    require(np.isin(content.explicit, (-1, 0, 1)).all(), "explicit has a value other than 1, 0 and -1")
    own = np.arange(n)
    pointing = (canonical >= 0).all() and (canonical <= own).all()
    require(
        pointing and (canonical[canonical] == canonical).all(),
        "canonical has a track that is not the first of its recording",
    )
    alias = canonical != own
    require(not (alias & content.recommendable).any(), "a track that is not canonical is recommendable")
    require(not alias[content.user_tracks].any(), "a user likes a track that is not canonical")
    require(not alias[content.disliked_tracks].any(), "a user dislikes a track that is not canonical")


def _check_filters(
    content: BundleContent, n_tracks: int, require: Callable[[bool | np.bool_, str], None]
) -> None:
    """What filters choose songs by: features and genres."""
    rows, features = len(content.feature_names), content.features
    require(features.shape == (rows, n_tracks), f"features has shape {features.shape} for {rows} names")
    signs = np.signbit(features) == (features < 0)  # not of -0, nor of a NaN below zero
    require(not np.isinf(features).any() and signs.all(), "features has an infinite number or a wrong sign")
    by_genre = content.genre_indptr, content.genre_tracks
    is_csr = _is_csr(*by_genre, rows=len(content.genre_names), columns=n_tracks)
    require(is_csr, "genre_indptr and genre_tracks are not a CSR matrix of the genres")
    require(_ascending(*by_genre), "a genre's tracks are not ascending without duplicates")


def _are_finite(numbers: tuple[Any, ...]) -> bool:
    """Whether all are finite numbers, those in tuples among them too."""
    return all(
        _are_finite(one) if isinstance(one, tuple) else isinstance(one, int | float) and np.isfinite(one)
        for one in numbers
    )


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
    """Whether every list is ascending without duplicates."""
    rises = np.diff(tracks) > 0
    starts = indptr[1:-1]
    inner = (starts > 0) & (starts < tracks.size)
    rises[starts[inner] - 1] = True  # no order is required between users
    return bool(rises.all())


def _pairs(
    indptr: NDArray[np.int64], tracks: NDArray[np.int32], n_tracks: int, users: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A unique number for each (user, track) of the lists of ``users``."""
    places, lengths = row_places(indptr, users)
    return np.repeat(users * n_tracks, lengths) + tracks[places]


def _duplicate(index: IdIndex) -> str | None:
    """An id that occurs twice, or None. Equal ids have equal hashes, so only those are compared."""
    after = np.flatnonzero(index.hashes[1:] == index.hashes[:-1])
    seen: set[str] = set()
    for slot in np.union1d(after, after + 1).tolist():
        text = index[int(index.order[slot])]
        if text in seen:
            return text
        seen.add(text)
    return None
