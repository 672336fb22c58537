"""Filters of a query: which songs may be in its answer, by genre, year and sound.

Here: what a filter asks for, moods, reading ranges, and which songs of a bundle pass. Not here: ranking what
passes (`ranking`), or the names of filters in requests (`serve.schemas`) and options (`cli.query`).

A song passes if it passes every part: it has one of the ``genres`` and none of ``not_genres``, its year is
within ``years``, and each feature is within its range. A mood is a name for ranges of features (`MOODS`). Of
a song of which something that is asked for is unknown, ``unknown`` decides: by default it does not pass.
``not_genres`` leave out only songs known to be of one, as ``explicit`` does. ``listeners`` bounds the number
of users who like a song.

A bundle has features as float16, whose bits, read as whole numbers, are in the order of the numbers. So a
range is two comparisons of int16, a fortieth of the cost of those of float16. Bounds are rounded as the
features are, so a bound that equals a feature includes it.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.audio_features import AUDIO_FEATURES
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.genres import folded
from tunegraph_pipeline.recommend.index import MOST_ALONE_BYTES, CandidateIndex, Chosen

Unknown = Literal["exclude", "allow"]
Bounds: TypeAlias = tuple[float | None, float | None]
"""From the first to the second, both included; None is no bound."""
Mask: TypeAlias = NDArray[np.bool_]
T = TypeVar("T")

MOODS: dict[str, dict[str, Bounds]] = {
    "acoustic": {"acousticness": (0.7, None)},
    "calm": {"energy": (None, 0.4)},
    "danceable": {"danceability": (0.7, None)},
    "energetic": {"energy": (0.7, None)},
    "happy": {"valence": (0.6, None)},
    "instrumental": {"instrumentalness": (0.5, None)},
    "sad": {"valence": (None, 0.35)},
}
"""What each mood asks of the features."""

_NUMBER = r"-?[0-9]{1,6}(?:\.[0-9]{1,6})?"
RANGE_PATTERN = rf"^(?:{_NUMBER}(?:\.\.|(?:-|\.\.){_NUMBER})?|\.\.{_NUMBER})$"
"""A range as text: "90-120", "90..120", "90..", "..120", or one number."""
RANGE_HELP = "write a range as 90-120, 90.. or ..120, or one number"
_PARTS = re.compile(rf"({_NUMBER})?(\.\.|-)?({_NUMBER})?")

_MOST_KEPT, _KEPT_BYTES = 32, 160 << 20  # filters whose songs are kept, and the memory for them
MOST_ROWS_BYTES = 16 << 20
"""Memory for the rows of the songs that pass a filter; a product with as much takes half a millisecond."""
_ROWS_BLOCK = 1024  # rows at a time, which stay in the cache
_INT8_MAX = 127
_COMPARED = 500  # genres, those of most songs, that a misspelt one is compared with
_NEAR = 3
_INFINITY = np.int16(0x7C00)  # the bits of float16; those of NaN are above
_MAGNITUDE = np.int16(0x7FFF)


class NotInBundleError(InputError):
    """What a filter asks for may exist, but the bundle knows it of no song."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What songs have to be like, see above. What is empty asks for nothing; several moods hold at once.

    >>> calm_jazz = Filters(genres=["jazz"], years=(1955, 1965), moods=["calm"], features={"tempo": (60, 90)})
    """

    genres: Sequence[str] = ()
    not_genres: Sequence[str] = ()
    years: Bounds = (None, None)
    features: Mapping[str, Bounds] = field(default_factory=dict)
    moods: Sequence[str] = ()
    unknown: Unknown = "exclude"
    listeners: Bounds = (None, None)

    def __post_init__(self) -> None:
        # Copied, because what passes is kept under these values.
        for name in ("genres", "not_genres", "years", "moods", "listeners"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "features", {name: tuple(two) for name, two in self.features.items()})

    def __hash__(self) -> int:
        lists = self.genres, self.not_genres, self.moods
        return hash((*lists, self.years, tuple(sorted(self.features)), self.unknown, self.listeners))

    @property
    def asks_nothing(self) -> bool:
        named = self.genres or self.not_genres or self.features or self.moods
        return not named and self.years == self.listeners == (None, None)


class Rest(NamedTuple):
    """The coordinates of n tracks that the screen lacks, in 8 bits, for closer bounds of many scores:
    ``codes`` int8[n, w] times ``scale`` float32[n]; their ``length``, and that of what rounding took away,
    ``lost``, both float32[n]."""

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    length: NDArray[np.float32]
    lost: NDArray[np.float32]

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], tracks: NDArray[np.intp], known: int) -> "Rest":
        """All coordinates but the ``known`` first ones."""
        n, width = len(tracks), embeddings.shape[1] - known
        rest = cls(np.empty((n, width), np.int8), *(np.empty(n, np.float32) for _ in range(3)))
        for start in range(0, n, _ROWS_BLOCK):
            block = slice(start, start + _ROWS_BLOCK)
            rows = embeddings[tracks[block], known:]
            scale = np.maximum(np.abs(rows).max(axis=1, initial=0), np.float32(1e-30)) / np.float32(_INT8_MAX)
            codes = np.rint(rows / scale[:, np.newaxis])
            rest.codes[block], rest.scale[block] = codes, scale
            rest.length[block] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            rows -= codes * scale[:, np.newaxis]
            rest.lost[block] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        return rest

    def less_than(self, places: NDArray[np.intp], direction: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much less than the product of the two lengths the dot product of these coordinates with the
        direction is at least, float32[places]."""
        length = np.float32(np.sqrt(direction @ direction))
        less = (self.length[places] - self.lost[places]) * length
        for start in range(0, len(places), _ROWS_BLOCK):
            some = places[start : start + _ROWS_BLOCK]
            less[start : start + _ROWS_BLOCK] -= self.scale[some] * (
                self.codes[some].astype(np.float32) @ direction
            )
        return less


@dataclass(frozen=True, eq=False)
class Passing:
    """The tracks that pass a filter, bool[N], among those that may be recommended, and their number.

    What a ranking needs of them is made when it is first asked for, and kept with them.
    """

    tracks: Mask
    n_tracks: int
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def indices(self) -> NDArray[np.intp]:
        """The same, ascending: int64[n_tracks]."""
        return self._once("indices", lambda: self.tracks.nonzero()[0])

    def rows_of(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Their rows of a table of the bundle, always the same one: float32[n_tracks, w]."""
        return self._once("rows", lambda: table[self.indices])

    def rest_of(self, embeddings: NDArray[np.float32], known: int) -> Rest:
        """Their coordinates in embeddings of the bundle, but for the ``known`` first ones, always as many."""
        return self._once("rest", lambda: Rest.of(embeddings, self.indices, known))

    def chosen_in(self, index: CandidateIndex) -> Chosen:
        """What the index of the bundle needs to find them alone."""
        return self._once("chosen", lambda: index.chosen(self.tracks))

    @property
    def is_ready(self) -> bool:
        """Whether they were ranked before."""
        return "rows" in self._kept or "chosen" in self._kept

    def _once(self, name: str, make: Callable[[], T]) -> T:
        # Two threads may make it at the same time: it is the same.
        if name not in self._kept:
            self._kept[name] = make()
        kept: T = self._kept[name]
        return kept


def read_bounds(what: str, text: str) -> Bounds:
    """The bounds that a text gives, see `RANGE_PATTERN`. ``what`` names them in errors. Raises InputError.

    >>> read_bounds("tempo", "90-120"), read_bounds("loudness", "..-5.5"), read_bounds("year", "1999")
    ((90.0, 120.0), (None, -5.5), (1999.0, 1999.0))
    """
    found = _PARTS.fullmatch(text.strip()) if re.fullmatch(RANGE_PATTERN, text.strip()) else None
    if found is None:
        raise InputError(f"{what} is {text[:40]!r}; {RANGE_HELP}")
    low, between, high = found.groups()
    return (
        None if low is None else float(low),
        (None if high is None else float(high)) if between else float(low),
    )


def read_filters(
    *,
    genres: Sequence[str] = (),
    not_genres: Sequence[str] = (),
    year: str | None = None,
    moods: Sequence[str] = (),
    features: Mapping[str, str | None],
    unknown: Unknown = "exclude",
) -> Filters:
    """Filters from texts, as options and query strings have them; of a ``feature`` None asks for nothing.
    Raises InputError for what is no range."""
    bounds = {name: read_bounds(name, text) for name, text in features.items() if text is not None}
    years = (None, None) if year is None else read_bounds("year", year)
    return Filters(genres, not_genres, years, bounds, moods, unknown)


class SongFilter:
    """Finds the songs of a bundle that pass filters, among ``allowed``, bool[N]. Threads may share it.

    What was used last is kept: clients ask for the same filters again and again.
    """

    def __init__(self, bundle: Bundle, allowed: Mask) -> None:
        self._bundle = bundle
        self._allowed = allowed
        self._kept: dict[Filters, Passing] = {}
        self._bytes = 0  # of those kept
        self._lock = threading.Lock()

    def passing(self, filters: Filters) -> Passing:
        """Raises InputError for a mood or feature that does not exist, and NotInBundleError for a genre that
        no song has, and for a feature or a year where the bundle knows none."""
        with self._lock:
            found = self._kept.pop(filters, None)
            if found is not None:
                self._kept[filters] = found  # as the one used last
                return found
        tracks = self._find(filters)
        tracks &= self._allowed
        found = Passing(tracks, int(np.count_nonzero(tracks)))
        with self._lock:
            if filters not in self._kept:
                self._kept[filters] = found
                self._bytes += self._bytes_of(found)
            while len(self._kept) > 1 and (len(self._kept) > _MOST_KEPT or self._bytes > _KEPT_BYTES):
                self._bytes -= self._bytes_of(self._kept.pop(next(iter(self._kept))))
        return found

    def is_ready(self, filters: Filters) -> bool:
        """Whether the songs that pass are known already, with what a ranking needs of them."""
        found = self._kept.get(filters)
        return found is not None and found.is_ready

    def _bytes_of(self, passing: Passing) -> int:
        row: int = self._bundle.screen.itemsize * self._bundle.screen.shape[1] + self._bundle.dimension
        return int(
            passing.tracks.nbytes + 8 * passing.n_tracks + min(passing.n_tracks * row, MOST_ALONE_BYTES)
        )

    def genre_counts(self) -> dict[str, int]:
        """How many of the allowed songs each genre has, the largest first, without empty ones."""
        indptr, names = self._bundle.genre_indptr, self._bundle.genre_names.tolist()
        counted = np.concatenate([[0], np.cumsum(self._allowed[self._bundle.genre_tracks])])
        counts = (counted[indptr[1:]] - counted[indptr[:-1]]).tolist()
        known = [(name, count) for name, count in zip(names, counts, strict=True) if count]
        return dict(sorted(known, key=lambda one: -one[1]))

    def known(self) -> list[str]:
        """What a filter may ask for in this bundle: "genre", "year" and features, each if it is known of any
        song."""
        known = ["genre"] if self._genres else []
        known += ["year"] if self._has_years else []
        return known + list(self._features)

    def _find(self, filters: Filters) -> Mask:
        bundle, allow = self._bundle, filters.unknown == "allow"
        passing: Mask = np.ones(bundle.n_tracks, dtype=np.bool_)
        if filters.genres:
            passing = self._of_genres(filters.genres)
            if allow:
                passing |= ~self._has_genre
        if filters.not_genres:
            passing &= ~self._of_genres(filters.not_genres)
        if filters.years != (None, None):
            low, high = filters.years
            if not self._has_years:
                raise self._nothing_known("year")
            years = bundle.years
            within: Mask = years > 0
            if low is not None:
                within &= years >= low
            if high is not None:
                within &= years <= high
            if allow:
                within |= years == 0
            passing &= within
        if filters.listeners != (None, None):
            least, most = filters.listeners
            if least is not None:
                passing &= bundle.popularity >= least
            if most is not None:
                passing &= bundle.popularity <= most
        for feature, bounds in _bounds_by_feature(filters).items():
            passing &= self._within(feature, bounds, allow=allow)
        return passing

    def _of_genres(self, names: Iterable[str]) -> Mask:
        bundle = self._bundle
        found = np.zeros(bundle.n_tracks, dtype=np.bool_)
        for name in names:
            place = self._genres.get(folded(name))
            if place is None:
                raise self._unknown_genre(name)
            found[bundle.genre_tracks[bundle.genre_indptr[place] : bundle.genre_indptr[place + 1]]] = True
        return found

    def _within(self, feature: str, bounds: Bounds, *, allow: bool) -> Mask:
        if feature not in self._features:
            raise self._nothing_known(feature)
        bits = self._bundle.features[self._features[feature]].view(np.int16)
        low, high = bounds
        ordered = bits
        if low is None or low < 0:
            # Below zero, a larger number has smaller bits. Above it nothing changes.
            ordered = bits ^ ((bits >> 15) & _MAGNITUDE)
        within: Mask = ordered <= _ordered_bits(np.inf if high is None else high)
        if low is not None:
            within &= ordered >= _ordered_bits(low)
        if allow:
            within |= bits > _INFINITY
        return within

    @cached_property
    def _genres(self) -> dict[str, int]:
        return {folded(name): place for place, name in enumerate(self._bundle.genre_names.tolist())}

    @cached_property
    def _has_genre(self) -> Mask:
        known = np.zeros(self._bundle.n_tracks, dtype=np.bool_)
        known[self._bundle.genre_tracks] = True
        return known

    @cached_property
    def _features(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._bundle.feature_names.tolist())}

    @cached_property
    def _has_years(self) -> bool:
        return bool((self._bundle.years > 0).any())

    def _nothing_known(self, what: str) -> InputError:
        return NotInBundleError(
            f"bundle {self._bundle.version} knows the {what} of no song; import songs with it, and refresh"
        )

    def _unknown_genre(self, name: str) -> InputError:
        if not self._genres:
            return self._nothing_known("genre")
        from difflib import get_close_matches

        names = {folded(known): known for known in self._bundle.genre_names.tolist()[:_COMPARED]}
        near = get_close_matches(folded(name), names, _NEAR)
        some = near or list(names)[:_NEAR]
        hint = f"{'near it' if near else 'most songs have'}: {', '.join(names[one] for one in some)}"
        return NotInBundleError(f"bundle {self._bundle.version} has no genre {name[:80]!r}; {hint}")


def _bounds_by_feature(filters: Filters) -> dict[str, Bounds]:
    """The bounds that features and moods give together, which may exclude each other."""
    asked = list(filters.features.items())
    for mood in filters.moods:
        if mood not in MOODS:
            raise InputError(f"mood is {mood[:80]!r}; choose one of {', '.join(MOODS)}")
        asked += MOODS[mood].items()
    together: dict[str, Bounds] = {}
    for feature, (low, high) in asked:
        if feature not in AUDIO_FEATURES:
            raise InputError(f"{feature[:80]!r} is no feature; choose one of {', '.join(AUDIO_FEATURES)}")
        lowest, highest = together.get(feature, (None, None))
        lows = [bound for bound in (low, lowest) if bound is not None]
        highs = [bound for bound in (high, highest) if bound is not None]
        together[feature] = (max(lows, default=None), min(highs, default=None))
    return together


def _ordered_bits(number: float) -> np.int16:
    """A number rounded to float16, as a whole number in the order of the numbers."""
    with np.errstate(over="ignore"):
        bits = (np.float16(number) + np.float16(0)).view(np.int16)  # -0 as 0
    return np.int16(bits ^ ((bits >> 15) & _MAGNITUDE))
