"""Find the songs of a list in a bundle that may know them by other ids.

Here: the rule by which two ids are one song, for a list that comes from elsewhere. Not here: reading such a
list (`pipeline.user_list`), or ranking (`recommender`).

A song is found by its id (`song_ids.clean_id`), else by its ISRC, else by its title and one of its artists
(`song_ids.name_id`). Where several songs of the bundle fit, the most popular one is it, and the others count
as known to the listener. A song found by none of these may be the only one that has its names without remarks
on the issue and guests (`song_names`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.song_ids import clean_id, isrc_id, name_id, name_key
from tunegraph_pipeline.song_names import plain_credit, plain_title
from tunegraph_pipeline.words import counted

_MAX_RECORDINGS = 20
"""An ISRC of more recordings than this is a placeholder that somebody typed in, and names no song."""

BY = ("id", "ISRC", "artist and title", "artist and title without remarks")
"""How a song may be found, in the order of trust."""


class Song(NamedTuple):
    """A song of a list; texts are "" if unknown."""

    track_id: str
    isrc: str = ""
    name: str = ""
    artists: Sequence[str] = ()

    def in_words(self) -> str:
        """The song as people know it, as "Blue Harbour by The Lanterns"."""
        if not self.name:
            return self.track_id
        return f"{self.name} by {', '.join(self.artists)}" if self.artists else self.name


@dataclass(frozen=True)
class Matches:
    """``ids``: those under which the bundle has the songs that were found; ``missing``: the others; ``also``:
    the ids of further songs of the bundle that fit one of the list; ``found``: how many songs were found by
    what, of `BY`."""

    ids: list[str]
    missing: list[Song]
    also: list[str]
    found: dict[str, int]

    @property
    def unknown(self) -> list[str]:
        """The ids of the songs that were not found."""
        return [song.track_id for song in self.missing]

    def sentence(self) -> str:
        """In words, as "in that model: 2 of 3 songs (1 by id, 1 by ISRC)"."""
        how = ", ".join(f"{count:,} by {what}" for what, count in self.found.items() if count)
        total = len(self.ids) + len(self.missing)
        return f"in that model: {len(self.ids):,} of {counted(total, 'song')}" + (f" ({how})" if how else "")

    def missing_sentence(self, most: int = 5) -> str:
        """Which songs were not found, as "not in it: Home by Ida Quist, and 3 more"; "" if all were."""
        shown = [song.in_words() for song in self.missing[:most]]
        more = f", and {len(self.missing) - most:,} more" if len(self.missing) > most else ""
        return f"not in it: {', '.join(shown)}{more}" if shown else ""


class Match(NamedTuple):
    """The canonical track that a song is, how it was found (of `BY`), and all canonical tracks that fit."""

    track: int
    by: str
    fits: list[int]


def match(bundle: Bundle, songs: Sequence[Song]) -> Matches:
    """Find each song in the bundle.

    >>> match(bundle, [Song("x", name="Blue Harbour", artists=["The Lanterns"])]).sentence()  # doctest: +SKIP
    '1 of 1 songs are in that model: 1 by artist and title'
    """
    matched = match_each(bundle, songs)
    ids = [bundle.tracks[one.track] for one in matched if one is not None]
    missing = [song for song, one in zip(songs, matched, strict=True) if one is None]
    chosen = {one.track for one in matched if one is not None}
    fitting = {track for one in matched if one is not None for track in one.fits}
    counts = Counter(one.by for one in matched if one is not None)
    also = [bundle.tracks[track] for track in sorted(fitting - chosen)]
    return Matches(ids, missing, also, {by: counts[by] for by in BY})


def match_each(bundle: Bundle, songs: Sequence[Song]) -> list[Match | None]:
    """What each song is in the bundle, None where it is not found."""
    positions = bundle.tracks.find([song.track_id for song in songs])
    by_isrc, by_name = _by_isrc(bundle, songs), _by_name(bundle, songs)
    popularity = bundle.popularity
    ways = [
        (
            [int(bundle.canonical[position])] if position >= 0 else [],
            by_isrc.get(_isrc(song), []),
            [track for key in _name_ids(song) for track in by_name.get(key, ())],
        )
        for song, position in zip(songs, positions.tolist(), strict=True)
    ]
    left = [place for place, fits in enumerate(ways) if not any(fits)]
    by_plain_name = dict(zip(left, _by_plain_name(bundle, [songs[place] for place in left]), strict=True))
    matched: list[Match | None] = []
    for place, fits in enumerate(ways):
        every = (*fits, by_plain_name.get(place, []))
        how, tracks = next(((how, tracks) for how, tracks in zip(BY, every, strict=True) if tracks), ("", []))
        if not tracks:
            matched.append(None)
            continue
        best = min(tracks, key=lambda track: (-int(popularity[track]), track))
        matched.append(Match(best, how, [track for some in fits for track in some]))
    return matched


def _isrc(song: Song) -> str:
    """The id by its ISRC, "" if that is unknown."""
    return isrc_id(song.isrc) or isrc_id(clean_id(song.track_id).removeprefix("isrc:")) or ""


def _name_ids(song: Song) -> set[str]:
    """The ids by its title and each of its artists."""
    return {key for artist in song.artists if (key := name_id(artist, song.name)) is not None}


def _plain_name_ids(song: Song) -> set[str]:
    """The same without remarks and guests."""
    title = plain_title(song.name).name
    return {key for by in song.artists if (key := name_id(plain_credit(by).name, title)) is not None}


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
    tracks: dict[str, list[int]] = {}
    for track, artist in _of_artists(bundle, {name_key(artist) for song in songs for artist in song.artists}):
        key = name_id(artist, bundle.names[track])
        if key in wanted:
            tracks.setdefault(key, []).append(int(bundle.canonical[track]))
    return tracks


def _by_plain_name(bundle: Bundle, songs: Sequence[Song]) -> list[list[int]]:
    """For each of ``songs`` the canonical track of the bundle that has its names but for remarks and guests,
    if there is only one."""
    keys = [_plain_name_ids(song) for song in songs]
    wanted = set().union(*keys)
    artists = {name_key(plain_credit(artist).name) for song in songs for artist in song.artists}
    tracks: dict[str, set[int]] = {}
    for track, artist in _of_artists(bundle, artists, lambda name: plain_credit(name).name):
        key = name_id(artist, plain_title(bundle.names[track]).name)
        if key in wanted:
            tracks.setdefault(key, set()).add(int(bundle.canonical[track]))
    fits = [set[int]().union(*(tracks.get(key, ()) for key in own)) for own in keys]
    return [list(own) if len(own) == 1 else [] for own in fits]


def _of_artists(
    bundle: Bundle, artists: set[str], plain: Callable[[str], str] = lambda name: name
) -> Iterator[tuple[int, str]]:
    """Yield the tracks of the bundle that are by an artist with one of these keys, and the artist's name as
    ``plain`` gives it."""
    # Artists first: there are fewer of them than songs, and most songs are of none of them.
    names = {
        place: shown
        for place, name in enumerate(bundle.artist_names.tolist() if artists else [])
        if name_key(shown := plain(name)) in artists
    }
    credited = np.flatnonzero(np.isin(bundle.artist_indices, list(names)))
    owners = np.repeat(np.arange(bundle.n_tracks), np.diff(bundle.artist_indptr))[credited]
    for track, maker in zip(owners.tolist(), bundle.artist_indices[credited].tolist(), strict=True):
        yield track, names[maker]
