"""Likes from a person's Spotify account export: the zips as downloaded, or unpacked.

Here: which files and fields of an export are read, and which songs count as liked. Not here: how ids and
names are cleaned (`rows`), or how they become a raw batch (`file_import`).

An export is full of personal data. Only these files are read, by name and in any folder:

- ``YourLibrary.json``: the liked songs, and the banned ones.
- ``Streaming_History_Audio_*.json``, formerly ``endsong_*.json`` (extended streaming history), and
  ``StreamingHistory_music_*.json`` (account data, the last year). They are read only if plays are kept or
  decide: for a lake, in an export without a library, or with --min-plays. A play counts from 30 seconds.
- ``Playlist*.json``, only to find the ids of songs that a history names without an id.

Every other file (the account, payments, searches, podcasts, videos) stays closed. Of those above, all fields
but those in ``_KINDS`` are dropped as the JSON is parsed. Nothing is unpacked to disk.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import name_id, read_id
from tunegraph_pipeline.sources.content import parse_json
from tunegraph_pipeline.sources.formats import BY_NAME, ENDINGS
from tunegraph_pipeline.sources.limits import limits, open_regular
from tunegraph_pipeline.sources.opinions import DEFAULT_PLAYS, SHORTEST_PLAY_MS, Rules
from tunegraph_pipeline.sources.reading import Reading
from tunegraph_pipeline.sources.rows import Table
from tunegraph_pipeline.sources.zip_members import Member, MemberReader, is_zip_file, members_of
from tunegraph_pipeline.words import counted

LOOKED_FOR = "YourLibrary.json, StreamingHistory_music_*.json or Streaming_History_Audio_*.json"

_MAX_DEPTH = 3  # levels of folders that are searched
_FIRST_YEAR = 2006  # an earlier time is from before Spotify: the player's clock was not set


@dataclass(frozen=True)
class _Kind:
    """A kind of file in an export: its names, and the only fields that are read."""

    names: re.Pattern[str]
    fields: frozenset[str] = frozenset()


_KINDS = {
    "library": _Kind(
        re.compile(r"YourLibrary\.json"),
        frozenset({"tracks", "bannedTracks", "uri", "track", "artist"}),
    ),
    "playlists": _Kind(
        re.compile(r"Playlist[0-9]*\.json"),
        frozenset({"playlists", "items", "track", "trackName", "artistName", "trackUri"}),
    ),
    "extended": _Kind(
        re.compile(r"Streaming_History_Audio_.*\.json|endsong_[0-9]+\.json"),
        frozenset({"ts", "ms_played", "username",
                   "master_metadata_track_name", "master_metadata_album_artist_name",
                   "spotify_track_uri", "spotify_episode_uri", "audiobook_uri"}),
    ),
    "last_year": _Kind(
        re.compile(r"StreamingHistory(?:_music_)?[0-9]+\.json"),
        frozenset({"endTime", "msPlayed", "artistName", "trackName"}),
    ),
    "spoken": _Kind(
        re.compile(r"Streaming_History_Video_.*\.json|StreamingHistory_(?:podcast|audiobook|video)_.*\.json")
    ),
}  # fmt: skip
"""In reading order, so that a song given by name finds its id in an earlier file."""

_NO_RULES = Rules()
_SOURCES_OF_LIKES = ("library", "extended", "last_year")
_SPOTIFY_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z?")

_LOCAL = "local files, which have no id"
_MALFORMED = "misshapen rows"
_NO_ID = "plays without a track id"

Name = tuple[str, str]
"""Artist and title, which together name a song."""


@dataclass
class _History:
    """What the files say about songs and plays, collected file by file."""

    counts: Counter[str]
    id_of: dict[Name, str] = field(default_factory=dict)
    name_of: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    plays: Counter[str] = field(default_factory=Counter)
    times: list[tuple[str, datetime]] = field(default_factory=list)
    first_play: dict[str, datetime] = field(default_factory=dict)
    known_plays: set[tuple[object, ...]] = field(default_factory=set)
    banned: list[str] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)

    def learn(self, track_id: str, artist: str | None, title: str | None) -> None:
        if artist is not None and title is not None:
            self.id_of.setdefault((artist, title), track_id)
        if title is not None:
            self.name_of.setdefault(track_id, (artist, title))

    def count_play(
        self, track_id: str, artist: str | None, title: str | None, ended: object, ms: object
    ) -> None:
        if isinstance(ms, bool) or not isinstance(ms, int | float) or not math.isfinite(ms):
            self.counts[_MALFORMED] += 1
            return
        if ms < SHORTEST_PLAY_MS:
            self.counts["plays shorter than 30 seconds"] += 1
            return
        at = _time(ended)
        if at is None:
            self.counts["plays at a time not understood"] += 1
            return
        # Both kinds of history cover the last year; one gives minutes and no ids.
        play = (at.replace(second=0), ms, (artist, title) if title is not None else track_id)
        if play in self.known_plays:
            self.counts["plays told twice"] += 1
            return
        self.known_plays.add(play)
        self.plays[track_id] += 1
        self.times.append((track_id, at))
        self.first_play[track_id] = min(at, self.first_play.get(track_id, at))


def is_export(path: Path) -> bool:
    """Whether ``path`` may be an account export: any zip, a file with a name that Spotify gives, or a folder
    that holds such a file. If a folder has other files to import, its subfolders do not count."""
    if path.is_dir():
        return any(_kind(file.name) in _SOURCES_OF_LIKES for file in _files_below(path))
    return _kind(path.name) in _SOURCES_OF_LIKES or is_zip_file(path)


def holds_export(path: Path) -> bool:
    """Whether the zip ``path`` is an account export, or too damaged to tell."""
    try:
        with ExitStack() as opened:
            return any(_kind(member.name) in _SOURCES_OF_LIKES for member in members_of(path, opened))
    except InputError:
        return True


def export_reading(paths: Sequence[Path], rules: Rules = _NO_RULES) -> Reading:
    """The likes and dislikes of one person: all of ``paths`` (zips, folders, single files) are one export.

    The likes are the library's songs, without a time; with ``rules.min_plays`` also songs played that often.
    Without a library they are the songs played ``min_plays`` times (default DEFAULT_PLAYS), liked at the
    first play that counts; with ``rules.keep_plays`` and no ``min_plays``, the plays stay plays. Banned songs
    of the library are dislikes. Songs without an id, as in libraries from before 2021, get that of their
    names (`song_ids.name_id`).

    The tables have track_id, liked_at (UTC or null), name and artists. ``counts`` says how many songs each
    rule gave, and what was skipped. Raises InputError, one line, if a path is missing, damaged, encrypted,
    unsafe, too large or no export, or if there is no song.
    """
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    history = _History(Counter())
    with ExitStack() as opened:
        members = _members_by_kind(paths, opened)
        read = partial(_document, MemberReader())
        library = _read_library(members["library"], read, history)
        min_plays = rules.min_plays
        if min_plays is not None and not members["extended"] and not members["last_year"]:
            raise InputError(f"{where} has no streaming history to count plays in; leave --min-plays out")
        plays_decide = library is None or min_plays is not None
        if plays_decide or rules.keep_plays:
            _read_plays(members, read, history)
    _check_accounts(history, where)
    history.counts["files of podcasts, audiobooks and videos"] += len(members["spoken"])
    threshold = DEFAULT_PLAYS if min_plays is None else min_plays
    keep_plays = rules.keep_plays and min_plays is None and bool(history.times)
    tables = []
    if not keep_plays:
        tables.append(_table(_liked_at(where, library, threshold, history), history))
    else:
        history.counts["songs of the library"] += len(library or ())
        tables += [_table(dict.fromkeys(library), history)] if library else []
        tables.append(_history_table(history))
    if history.banned:
        tables.append(_table(dict.fromkeys(history.banned), history, "dislikes"))
    used = ", ".join(sorted({member.name for kind in _SOURCES_OF_LIKES for member in members[kind]}))
    notes = ["songs of the library are likes, banned songs dislikes"] if library is not None else []
    if plays_decide and not keep_plays:
        notes.append(f"plays: a song played {counted(threshold, 'time')} or more is a like (--min-plays)")
    return Reading(BY_NAME["spotify-export"], tables, used, counts=history.counts, notes=notes)


def _members_by_kind(paths: Sequence[Path], opened: ExitStack) -> dict[str, list[Member]]:
    """The known files of all ``paths``; ``opened`` closes them."""
    members: dict[str, list[Member]] = {kind: [] for kind in _KINDS}
    for path in paths:
        for kind, member in _members(path, opened):
            members[kind].append(member)
    return members


def _check_accounts(history: _History, where: str) -> None:
    """Raise InputError for the plays of several people."""
    if len(history.accounts) > 1:
        raise InputError(
            f"{where} has the plays of {len(history.accounts)} accounts; import each alone, with a"
            " --user-id of their own"
        )


def _table(
    liked_at: dict[str, datetime | None], history: _History, means: Literal["likes", "dislikes"] = "likes"
) -> Table:
    return Table(_rows([*liked_at], [*liked_at.values()], history), means, decided=True)


def _history_table(history: _History) -> Table:
    """A row for each play."""
    tracks, times = [track for track, _ in history.times], [at for _, at in history.times]
    return Table(_rows(tracks, times, history), "plays", default_plays=DEFAULT_PLAYS)


def _rows(tracks: Sequence[str], times: Sequence[datetime | None], history: _History) -> pl.DataFrame:
    names = [history.name_of.get(track, (None, None)) for track in tracks]
    return pl.DataFrame(
        {
            "track_id": tracks,
            "liked_at": times,
            "name": [title for _, title in names],
            "artists": [artist for artist, _ in names],
        },
        schema=dict.fromkeys(("track_id", "liked_at", "name", "artists"), pl.String)
        | {"liked_at": pl.Datetime("us", "UTC")},
    )


def _liked_at(
    where: str, library: dict[str, None] | None, threshold: int, history: _History
) -> dict[str, datetime | None]:
    """The liked songs: those of the library, without a time, then those played ``threshold`` times, with the
    time of their first play. Raises InputError if there are none."""
    counts = history.counts
    liked_at: dict[str, datetime | None] = dict.fromkeys(library or ())
    counts["songs of the library"] += len(liked_at)
    often = [track for track, plays in history.plays.items() if plays >= threshold and track not in liked_at]
    further = "" if library is None else "further "
    counts[f"{further}songs played at least {counted(threshold, 'time')}"] += len(often)
    if library is None and not often:
        raise _no_song(where, threshold, history)
    return liked_at | {track: history.first_play[track] for track in often}


def _no_song(where: str, threshold: int, history: _History) -> InputError:
    most = max(history.plays.values(), default=0)
    skipped = "; ".join(f"{what}: {n:,}" for what, n in history.counts.items() if n)
    return InputError(
        f"{where} has no library, and no song in it was played {counted(threshold, 'time')} (at most {most})"
        + (f": {skipped}" if skipped else "")
        + "; give a lower --min-plays, or YourLibrary.json too"
    )


# --- the files of an export --------------------------------------------------------------------------------


def _read_library(
    members: list[Member], read: Callable[[Member], Any], history: _History
) -> dict[str, None] | None:
    """The ids of the liked songs in their order; None if the export has no library."""
    if len(members) > 1:
        raise InputError(
            f"{members[0].where} and {members[1].where} are two libraries; give one person's newest, and "
            "import each person alone, with a --user-id of their own"
        )
    if not members:
        return None
    document = read(members[0])
    songs = document.get("tracks") if isinstance(document, dict) else None
    if not isinstance(songs, list):
        raise InputError(f"{members[0].where} is no library: it has no list of tracks; download it again")
    liked: dict[str, None] = {}
    for track_id in _songs(songs, history):
        history.counts["repeated likes"] += track_id in liked
        liked[track_id] = None
    banned = document.get("bannedTracks")
    history.banned += dict.fromkeys(_songs(banned if isinstance(banned, list) else [], history))
    return liked


def _songs(songs: list[object], history: _History) -> Iterator[str]:
    """Yield the ids of songs of a library, by their names where they have none."""
    for song in songs:
        if not isinstance(song, dict):
            history.counts[_MALFORMED] += 1
            continue
        artist, title = _text(song.get("artist")), _text(song.get("track"))
        uri = song.get("uri")
        track_id = _track_id(uri)
        if track_id is None and uri is None:
            track_id = name_id(artist, title)
            history.counts["songs known by their names alone"] += track_id is not None
        if track_id is not None:
            history.learn(track_id, artist, title)
            yield track_id
        else:
            history.counts[_LOCAL if _is_local(uri) else "library songs without a track id"] += 1


def _read_plays(members: dict[str, list[Member]], read: Callable[[Member], Any], history: _History) -> None:
    if members["last_year"]:
        for member in members["playlists"]:
            _read_playlists(member, read(member), history)
    for kind, count in (("extended", _count_extended), ("last_year", _count_last_year)):
        for member in members[kind]:
            rows = read(member)
            if not isinstance(rows, list):
                raise InputError(
                    f"{member.where} is no streaming history: it has no list of plays; download it again"
                )
            for row in rows:
                if isinstance(row, dict):
                    count(row, history)
                else:
                    history.counts[_MALFORMED] += 1


def _read_playlists(member: Member, document: object, history: _History) -> None:
    playlists = document.get("playlists") if isinstance(document, dict) else None
    if not isinstance(playlists, list):
        raise InputError(f"{member.where} has no list of playlists; download it again")
    for playlist in playlists:
        items = playlist.get("items") if isinstance(playlist, dict) else None
        for item in items if isinstance(items, list) else ():
            track = item.get("track") if isinstance(item, dict) else None
            if isinstance(track, dict) and (track_id := _track_id(track.get("trackUri"))) is not None:
                history.learn(track_id, _text(track.get("artistName")), _text(track.get("trackName")))


def _count_extended(row: dict[str, Any], history: _History) -> None:
    uri = row.get("spotify_track_uri")
    track_id = _track_id(uri)
    if isinstance(account := row.get("username"), str):
        history.accounts.add(account)  # to tell two people apart; kept nowhere
    artist = _text(row.get("master_metadata_album_artist_name"))
    title = _text(row.get("master_metadata_track_name"))
    if track_id is not None:
        history.learn(track_id, artist, title)
        history.count_play(track_id, artist, title, row.get("ts"), row.get("ms_played"))
    elif _is_local(uri):
        history.counts[_LOCAL] += 1
    elif row.get("spotify_episode_uri") is not None or row.get("audiobook_uri") is not None:
        history.counts["plays of podcasts and audiobooks"] += 1
    else:
        history.counts[_NO_ID] += 1


def _count_last_year(row: dict[str, Any], history: _History) -> None:
    artist, title = _text(row.get("artistName")), _text(row.get("trackName"))
    track_id = None
    if artist is not None and title is not None:
        track_id = history.id_of.get((artist, title)) or name_id(artist, title)
    if track_id is None:
        history.counts[_NO_ID] += 1
        return
    history.learn(track_id, artist, title)
    history.count_play(track_id, artist, title, row.get("endTime"), row.get("msPlayed"))


def _track_id(uri: object) -> str | None:
    """The id in the URI or link of a track; None for anything else."""
    if not isinstance(uri, str):
        return None
    found = read_id(uri)
    return found.id if found.kind == "track" and found.id != uri and _SPOTIFY_ID.fullmatch(found.id) else None


def _is_local(uri: object) -> bool:
    return isinstance(uri, str) and uri.startswith("spotify:local:")


def _text(value: object) -> str | None:
    """A name, or None. JSON may hold half a surrogate pair, which becomes a question mark."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-8", "replace").decode().strip() or None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return None
    try:
        time = datetime.fromisoformat(value.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        return None
    return time if time.year >= _FIRST_YEAR else None


# --- reading without unpacking -----------------------------------------------------------------------------


_SECOND_COPY = re.compile(r"( ?\(\d+\)|[ _-]+(copy|Kopie|copie|copia)( \d+)?)(?=\.json$)", re.IGNORECASE)


def _kind(name: str) -> str | None:
    """The kind of a file by its name, which a second download changes to ``YourLibrary (1).json``."""
    plain = _SECOND_COPY.sub("", name)
    return next((kind for kind, found in _KINDS.items() if found.names.fullmatch(plain)), None)


def _document(reader: MemberReader, member: Member) -> Any:
    """The JSON of ``member``, reduced to the fields of its kind as it is parsed."""
    kind = _kind(member.name)
    assert kind is not None
    return parse_json(reader.read(member), member.where, _KINDS[kind].fields, "; download it again")


def _members(path: Path, opened: ExitStack) -> list[tuple[str, Member]]:
    """The files of ``path`` with a known name, each with its kind. Raises InputError if none has likes."""
    if path.is_dir():
        files = [Member(str(file), file.name, partial(open_regular, file)) for file in _files_below(path)]
        what, remedy = "a folder", "give the folder that holds them"
    elif is_zip_file(path):
        files = members_of(path, opened)
        what, remedy = "a zip archive", "unpack it to import what it holds"
    elif not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    else:
        files = [Member(str(path), path.name, partial(open_regular, path))]
        what, remedy = "a file", "give the zip as downloaded, and leave --format out for other files"
    found = [(kind, member) for member in files if (kind := _kind(member.name)) is not None]
    if not any(kind in _SOURCES_OF_LIKES for kind, _ in found):
        raise InputError(f"{path} is {what} without {LOOKED_FOR}, so no Spotify account export; {remedy}")
    return found


def _files_below(folder: Path) -> list[Path]:
    """The files of known kinds in ``folder``. Its subfolders are searched only if it has no other file to
    import."""
    found: list[Path] = []
    seen = 0
    for here, folders, names in os.walk(folder):
        depth = len(Path(here).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if name != "__MACOSX" and not name.startswith("."))
        seen += len(folders) + len(names)
        found += [Path(here, name) for name in sorted(names) if _kind(name)]
        others = [name for name in names if not name.startswith(".")]
        has_others = not found and any(Path(name).suffix in {*ENDINGS, ".zip"} for name in others)
        if (depth == 0 and has_others) or depth == _MAX_DEPTH - 1 or seen > limits().members:
            folders.clear()
    return found
