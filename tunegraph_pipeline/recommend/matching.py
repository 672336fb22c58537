"""Find the songs of a list in a bundle that may know them by other ids.

Here: the rule by which two ids are one song, for a list that comes from elsewhere. Not here: reading such a
list (`pipeline.user_list`), or ranking (`recommender`).

A song is found by its id (`song_ids.clean_id`), else by its ISRC, else by its title and one of its artists
(`song_ids.name_id`). Where several songs of the bundle fit, the most popular one is it, and the others count
as known to the listener.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.song_ids import clean_id, isrc_id, name_id, name_key
from tunegraph_pipeline.words import counted

_MAX_RECORDINGS = 20
"""An ISRC of more recordings than this is a placeholder that somebody typed in, and names no song."""

BY = ("id", "ISRC", "artist and title")
"""How a song may be found, in the order of trust."""


class Song(NamedTuple):
    """A song of a list; texts are "" if unknown."""

    track_id: str
    isrc: str = ""
    name: str = ""
    artists: Sequence[str] = ()


@dataclass(frozen=True)
class Matches:
    """``ids``: those under which the bundle has the songs that were found; ``unknown``: ids of the others;
    ``also``: the ids of further songs of the bundle that fit one of the list; ``found``: how many songs were
    found by what, of `BY`."""

    ids: list[str]
    unknown: list[str]
    also: list[str]
    found: dict[str, int]

    def sentence(self) -> str:
        """In words, as "in that model: 2 of 3 songs (1 by id, 1 by ISRC)"."""
        how = ", ".join(f"{count:,} by {what}" for what, count in self.found.items() if count)
        total = len(self.ids) + len(self.unknown)
        return f"in that model: {len(self.ids):,} of {counted(total, 'song')}" + (f" ({how})" if how else "")


def match(bundle: Bundle, songs: Sequence[Song]) -> Matches:
    """Find each song in the bundle.

    >>> match(bundle, [Song("x", name="Blue Harbour", artists=["The Lanterns"])]).sentence()  # doctest: +SKIP
    '1 of 1 songs are in that model: 1 by artist and title'
    """
    positions = bundle.tracks.find([song.track_id for song in songs])
    by_isrc, by_name = _by_isrc(bundle, songs), _by_name(bundle, songs)
    popularity = bundle.popularity
    found = dict.fromkeys(BY, 0)
    ids: list[str] = []
    unknown: list[str] = []
    fitting: set[int] = set()
    chosen: set[int] = set()
    for song, position in zip(songs, positions.tolist(), strict=True):
        ways = (
            [int(bundle.canonical[position])] if position >= 0 else [],
            by_isrc.get(_isrc(song), []),
            [track for key in _name_ids(song) for track in by_name.get(key, ())],
        )
        fitting.update(*ways)
        how, tracks = next(((how, tracks) for how, tracks in zip(BY, ways, strict=True) if tracks), ("", []))
        if not tracks:
            unknown.append(song.track_id)
            continue
        found[how] += 1
        best = min(tracks, key=lambda track: (-int(popularity[track]), track))
        chosen.add(best)
        ids.append(bundle.tracks[best])
    return Matches(ids, unknown, [bundle.tracks[track] for track in sorted(fitting - chosen)], found)


def _isrc(song: Song) -> str:
    """The id by its ISRC, "" if that is unknown."""
    return isrc_id(song.isrc) or isrc_id(clean_id(song.track_id).removeprefix("isrc:")) or ""


def _name_ids(song: Song) -> set[str]:
    """The ids by its title and each of its artists."""
    return {key for artist in song.artists if (key := name_id(artist, song.name)) is not None}


def _by_isrc(bundle: Bundle, songs: Sequence[Song]) -> dict[str, list[int]]:
    """The canonical tracks of the bundle with an ISRC of the songs, by its id."""
    tracks: dict[str, set[int]] = {code: set() for song in songs if (code := _isrc(song))}
    for code, known in tracks.items():
        if (track := bundle.tracks.position(code)) >= 0:
            known.add(int(bundle.canonical[track]))
    for track, isrc in enumerate(bundle.isrcs.tolist() if tracks else []):
        if isrc and f"isrc:{isrc}" in tracks:
            tracks[f"isrc:{isrc}"].add(int(bundle.canonical[track]))
    return {code: list(known) for code, known in tracks.items() if len(known) <= _MAX_RECORDINGS}


def _by_name(bundle: Bundle, songs: Sequence[Song]) -> dict[str, list[int]]:
    """The canonical tracks of the bundle with an artist and the title of one of the songs, by `name_id`."""
    wanted = {key for song in songs for key in _name_ids(song)}
    # Artists first: there are fewer of them than songs, and most songs are of none of them.
    artists = {name_key(artist) for song in songs for artist in song.artists}
    names = bundle.artist_names.tolist()
    makers = [place for place, name in enumerate(names) if name_key(name) in artists]
    credited = np.flatnonzero(np.isin(bundle.artist_indices, makers))
    owners = np.repeat(np.arange(bundle.n_tracks), np.diff(bundle.artist_indptr))[credited]
    tracks: dict[str, list[int]] = {}
    for track, maker in zip(owners.tolist(), bundle.artist_indices[credited].tolist(), strict=True):
        key = name_id(names[maker], bundle.names[track])
        if key in wanted:
            tracks.setdefault(key, []).append(int(bundle.canonical[track]))
    return tracks
