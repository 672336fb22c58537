"""Find songs and artists of a bundle by what other programs call them.

Here: one song by id, ISRC, or artist and title; one artist by id or name, artists by the beginning of a word,
and their songs. Not here: matching a whole list (`matching`), or search by words with typing errors
(`search`).

The indexes are arrays as compact as those of the bundle, built from it when they are first needed.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle, IdIndex
from tunegraph_pipeline.song_ids import NAME_PREFIX, isrc_id, name_key, read_id
from tunegraph_pipeline.song_names import plain_title

_ISRC_PREFIX = "isrc:"


class Lookup:
    """Finds songs and artists. Threads may share it; what is built twice at the same time is the same."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def song(self, track_id: str) -> str | None:
        """The id in the bundle of the song of this id, None if it is unknown.

        An id is one of any service, ``isrc:`` and an ISRC, a bare ISRC, or ``name:artist/title``.
        """
        position = self.bundle.tracks.position(track_id)
        if position >= 0:
            return self.bundle.tracks[position]
        code = isrc_id(track_id.removeprefix(_ISRC_PREFIX))
        if code is not None:
            return self._of_isrc(code)
        if track_id.startswith(NAME_PREFIX):
            return self.song_named(*track_id.removeprefix(NAME_PREFIX).partition("/")[::2])
        return None

    def song_named(self, artist: str, title: str) -> str | None:
        """The id of the most liked song of this artist and title; else the only one that has them without
        remarks such as "Remastered 2017". None if there is none."""
        place = self.artist(artist)
        if place is None:
            return None
        bundle = self.bundle
        songs = self.songs_of(place).tolist()
        wanted = name_key(title)
        called = [song for song in songs if name_key(bundle.names[song]) == wanted]
        if not called and wanted:
            plain = name_key(plain_title(title).name)
            called = [song for song in songs if name_key(plain_title(bundle.names[song]).name) == plain]
            called = called if len(called) == 1 else []
        return bundle.tracks[called[0]] if wanted and called else None

    def artist(self, given: str) -> int | None:
        """The index of the artist of this id, link or name, None if unknown. Of several artists of one name,
        the one with the most likes."""
        for one in (given, read_id(given).id):
            position = self._artist_ids.position(one)
            if position >= 0:
                return position
        key = name_key(given)
        place = self._artist_names.position(key) if key else -1
        return int(self._by_likes[place]) if place >= 0 else None

    def artists_named(self, words: str, limit: int) -> list[int]:
        """At most ``limit`` artists with this beginning of a word in the name: whole names first, then
        beginnings of names, each the most liked first."""
        key = name_key(words)
        text, starts = self._names_text
        found: dict[int, None] = {}
        for wanted in (f"\n{key}\n", f"\n{key}", f" {key}") if key else ():
            at = text.find(wanted)
            while at >= 0 and len(found) < limit:
                # The name that this is in: the last one that begins before the end of what was found.
                place = int(np.searchsorted(starts, at + 1, side="right")) - 1
                found[int(self._by_likes[place])] = None
                at = text.find(wanted, at + 1)
        return list(found)

    def most_liked(self, limit: int) -> list[int]:
        """The artists whose songs are liked most."""
        found: list[int] = self._by_likes[:limit].tolist()
        return found

    @property
    def knows_artists(self) -> bool:
        """Whether what finds artists and their songs was built already."""
        return {"_artist_ids", "_artist_names", "_starts", "_songs"} <= vars(self).keys()

    def songs_of(self, artist: int) -> NDArray[np.int32]:
        """The canonical tracks that name the artist, the most liked first: int32, without repeats."""
        start, end = self._starts[artist : artist + 2].tolist()
        found = self._songs[start:end].tolist()
        return np.array(list(dict.fromkeys(found)), dtype=np.int32)

    def first_artist(self, track: int) -> int | None:
        """The index of the artist named first, None if none is known."""
        start, end = self.bundle.artist_indptr[track : track + 2].tolist()
        return int(self.bundle.artist_indices[start]) if end > start else None

    def _of_isrc(self, code: str) -> str | None:
        place = self._isrcs.position(code.removeprefix(_ISRC_PREFIX))
        return None if place < 0 else self.bundle.tracks[int(self._with_isrc[place])]

    @cached_property
    def _with_isrc(self) -> NDArray[np.int32]:
        """The tracks that have an ISRC, the most liked first."""
        known = np.flatnonzero(np.diff(self.bundle.isrcs.offsets)).astype(np.int32)
        return known[np.argsort(-self.bundle.popularity[known].astype(np.int64), kind="stable")]

    @cached_property
    def _isrcs(self) -> IdIndex:
        isrcs = self.bundle.isrcs.tolist()
        return IdIndex.from_ids([isrcs[track] for track in self._with_isrc.tolist()])

    @cached_property
    def _artist_ids(self) -> IdIndex:
        return IdIndex.from_ids(self.bundle.artist_ids.tolist())

    @cached_property
    def _by_likes(self) -> NDArray[np.intp]:
        """All artists, those whose songs are liked most first."""
        n_credited = np.diff(self.bundle.artist_indptr)
        likes = np.repeat(self.bundle.popularity, n_credited).astype(np.float64)
        n_artists = len(self.bundle.artist_ids)
        total = np.bincount(self.bundle.artist_indices, weights=likes, minlength=n_artists)
        return np.argsort(-total, kind="stable")

    @cached_property
    def _artist_names(self) -> IdIndex:
        names = self.bundle.artist_names.tolist()
        return IdIndex.from_ids([name_key(names[artist]) for artist in self._by_likes.tolist()])

    @cached_property
    def _names_text(self) -> tuple[str, NDArray[np.int64]]:
        """The keys of all names in the order of `_by_likes`, a line each, and where each begins."""
        keys = self._artist_names.ids.tolist()
        text = "\n".join(["", *keys, ""])
        return text, np.cumsum([1, *(len(key) + 1 for key in keys)], dtype=np.int64)[:-1]

    @cached_property
    def likes_of_artists(self) -> NDArray[np.int64]:
        """The likes of the songs of each artist, added up: int64[artists]."""
        return self._totals(self.bundle.popularity[self._songs].astype(np.float64))

    def count_songs(self, among: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the tracks ``among``, bool[N], each artist has: int64[artists]."""
        return self._totals(among[self._songs].astype(np.float64))

    def _totals(self, of_songs: NDArray[np.float64]) -> NDArray[np.int64]:
        n_artists = len(self.bundle.artist_ids)
        owner = np.repeat(np.arange(n_artists), np.diff(self._starts))
        first = np.ones(len(owner), dtype=np.bool_)  # ids of one recording lie beside each other
        first[1:] = (self._songs[1:] != self._songs[:-1]) | (owner[1:] != owner[:-1])
        return np.bincount(owner[first], of_songs[first], minlength=n_artists).astype(np.int64)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        counts = np.bincount(self.bundle.artist_indices, minlength=len(self.bundle.artist_ids))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def _songs(self) -> NDArray[np.int32]:
        bundle = self.bundle
        owners = bundle.canonical[np.repeat(np.arange(bundle.n_tracks), np.diff(bundle.artist_indptr))]
        order = np.lexsort((owners, -bundle.popularity[owners].astype(np.int64), bundle.artist_indices))
        return owners[order]
