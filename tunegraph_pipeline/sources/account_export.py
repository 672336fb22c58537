"""Likes from a person's Spotify account export: the zips as downloaded, or unpacked.

Here: which files and fields of an export are read, and which songs count as liked. Not here: how ids and
names are cleaned (`columns`), or how they become a raw batch (`files`).

An export is full of personal data. Only these files are read, by name and in any folder:

- ``YourLibrary.json``: the liked songs.
- ``Streaming_History_Audio_*.json``, formerly ``endsong_*.json`` (extended streaming history), and
  ``StreamingHistory_music_*.json`` (account data, the last year), only if plays decide: in an export without
  a library, or if a number of plays is asked for. A play counts from 30 seconds.
- ``Playlist*.json``, only to find the ids of songs that a history names without an id.

Every other file (the account, payments, searches, podcasts, videos) stays closed. Of those above, all fields
but those in ``_KINDS`` are dropped as the JSON is parsed. Nothing is unpacked to disk.
"""

import math
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO, Any

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import read_id
from tunegraph_pipeline.sources.columns import as_ids
from tunegraph_pipeline.sources.detect_format import parse_json
from tunegraph_pipeline.sources.formats import ENDINGS, Reading

DEFAULT_USER = "me"
"""The user of an export: no file that is read names the account."""

DEFAULT_PLAYS = 5
"""Plays that make a song a liked one in an export without a library."""

LOOKED_FOR = "YourLibrary.json, StreamingHistory_music_*.json or Streaming_History_Audio_*.json"

SHORTEST_PLAY_MS = 30_000
MAX_MEMBERS = 10_000
MAX_FILE_BYTES = 1 << 28
MAX_TOTAL_BYTES = 1 << 31
"""Limits on what is unpacked of an export; Spotify's own files hold some 12 MB each."""

_MAX_DEPTH = 3  # of the files in a folder
_STEP = 1 << 20
_LONGEST_READ = 1 << 22  # of an archive at once; a list of 10,000 members takes about one megabyte
# What zipfile raises for damage: its own errors, and those of struct, codecs, zlib and seek.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)
_FIRST_YEAR = 2006  # an earlier time is from before Spotify: the player's clock was not set


@dataclass(frozen=True)
class _Kind:
    """A kind of file in an export: its names, and the only fields that are read."""

    names: re.Pattern[str]
    fields: frozenset[str] = frozenset()


_KINDS = {
    "library": _Kind(re.compile(r"YourLibrary\.json"), frozenset({"tracks", "uri", "track", "artist"})),
    "playlists": _Kind(
        re.compile(r"Playlist[0-9]*\.json"),
        frozenset({"playlists", "items", "track", "trackName", "artistName", "trackUri"}),
    ),
    "extended": _Kind(
        re.compile(r"Streaming_History_Audio_.*\.json|endsong_[0-9]+\.json"),
        frozenset({"ts", "ms_played", "master_metadata_track_name", "master_metadata_album_artist_name",
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

_SOURCES_OF_LIKES = ("library", "extended", "last_year")
_SPOTIFY_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z?")

_LOCAL = "local files, which have no id"
_MALFORMED = "misshapen rows"
_NO_ID = "plays without a track id"

Name = tuple[str, str]
"""Artist and title, which together name a song."""


@dataclass(frozen=True)
class _Member:
    """A file of an export, in an archive or not; ``where`` names it in messages."""

    where: str
    kind: str
    open: Callable[[], IO[bytes]]


@dataclass
class _History:
    """What the files say about songs and plays, gathered file by file."""

    counts: Counter[str]
    id_of: dict[Name, str] = field(default_factory=dict)
    name_of: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    plays: Counter[str] = field(default_factory=Counter)
    first_play: dict[str, datetime] = field(default_factory=dict)
    known_plays: set[tuple[object, ...]] = field(default_factory=set)

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
        self.first_play[track_id] = min(at, self.first_play.get(track_id, at))


def is_export(path: Path) -> bool:
    """Whether ``path`` is read as an account export: any zip, a file named as Spotify names it, or a folder
    that holds one (in a folder with other files to import, only those directly in it count)."""
    if path.is_dir():
        return any(_kind(file.name) in _SOURCES_OF_LIKES for file in _files_below(path))
    return _kind(path.name) in _SOURCES_OF_LIKES or _is_zip(path)


def holds_export(path: Path) -> bool:
    """Whether the zip ``path`` is an account export, or too damaged to know."""
    try:
        with ExitStack() as opened:
            return any(member.kind in _SOURCES_OF_LIKES for member in _in_archive(path, opened))
    except InputError:
        return True


def read_export(paths: Sequence[Path], user_id: str | None = None, min_plays: int | None = None) -> Reading:
    """The likes of one person: all of ``paths`` (zips, folders, single files) are one export.

    The likes are the library's songs, without a time; with ``min_plays`` also songs played that often.
    Without a library they are the songs played ``min_plays`` times (default DEFAULT_PLAYS), liked at the
    first play that counts. ``user_id`` (default DEFAULT_USER) is the person's; two people need two.

    The reading has one table: user_id, track_id, liked_at (UTC, maybe null), name, artists. Its ``counts``
    say how many songs each rule gave, and what was skipped. Raises InputError, one line, if a path is
    missing, damaged, encrypted, unsafe, too large or no export, or if it gives no song.
    """
    user = _user(user_id)
    if min_plays is not None and min_plays < 1:
        raise InputError(f"--min-plays {min_plays} must be at least 1")
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    history = _History(Counter())
    with ExitStack() as opened:
        members: dict[str, list[_Member]] = {kind: [] for kind in _KINDS}
        for path in paths:
            for member in _members(path, opened):
                members[member.kind].append(member)
        read = _MemberReader().document
        library = _read_library(members["library"], read, history)
        histories = members["extended"] + members["last_year"]
        if min_plays is not None and not histories:
            raise InputError(f"{where} has no streaming history to count plays in; leave --min-plays out")
        if library is None or min_plays is not None:
            _read_plays(members, read, history)
        history.counts["files of podcasts, audiobooks and videos"] += len(members["spoken"])
    liked_at = _liked_at(where, library, min_plays, history)
    names = [history.name_of.get(track, (None, None)) for track in liked_at]
    table = pl.DataFrame(
        {
            "user_id": [user] * len(liked_at),
            "track_id": list(liked_at),
            "liked_at": list(liked_at.values()),
            "name": [title for _, title in names],
            "artists": [artist for artist, _ in names],
        },
        schema=dict.fromkeys(("user_id", "track_id", "liked_at", "name", "artists"), pl.String)
        | {"liked_at": pl.Datetime("us", "UTC")},
    )
    return Reading([table], [user], counts=history.counts)


def _user(user_id: str | None) -> str:
    given = pl.Series("user_id", [DEFAULT_USER if user_id is None else user_id], dtype=pl.String)
    user = as_ids(given, "user_id", "--user-id", Counter())[0]
    if not isinstance(user, str):
        raise InputError("--user-id must be a short word or number that is not blank")
    return user


def _liked_at(
    where: str, library: dict[str, None] | None, min_plays: int | None, history: _History
) -> dict[str, datetime | None]:
    """The liked songs and, if it is from a play, the time of the like."""
    counts = history.counts
    liked_at: dict[str, datetime | None] = dict.fromkeys(library or ())
    counts["songs of the library"] += len(liked_at)
    threshold = DEFAULT_PLAYS if min_plays is None else min_plays
    often = [track for track, plays in history.plays.items() if plays >= threshold and track not in liked_at]
    further = "" if library is None else "further "
    counts[f"{further}songs played at least {threshold} times"] += len(often)
    if library is None and not often:
        most = max(history.plays.values(), default=0)
        skipped = "; ".join(f"{n:,} {what}" for what, n in counts.items() if n)
        raise InputError(
            f"{where} has no library, and no song in it was played {threshold} times (at most {most})"
            + (f": {skipped}" if skipped else "")
            + "; give a lower --min-plays, or YourLibrary.json too"
        )
    return liked_at | {track: history.first_play[track] for track in often}


# --- the files of an export --------------------------------------------------------------------------------


def _read_library(
    members: list[_Member], read: Callable[[_Member], Any], history: _History
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
    for song in songs:
        if not isinstance(song, dict):
            history.counts[_MALFORMED] += 1
        elif (track_id := _track_id(song.get("uri"))) is not None:
            history.learn(track_id, _text(song.get("artist")), _text(song.get("track")))
            history.counts["repeated likes"] += track_id in liked
            liked[track_id] = None
        else:
            history.counts[_LOCAL if _is_local(song.get("uri")) else "library songs without a track id"] += 1
    return liked


def _read_plays(members: dict[str, list[_Member]], read: Callable[[_Member], Any], history: _History) -> None:
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


def _read_playlists(member: _Member, document: object, history: _History) -> None:
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
    if artist is None or title is None or (track_id := history.id_of.get((artist, title))) is None:
        history.counts[_NO_ID] += 1
    else:
        history.count_play(track_id, artist, title, row.get("endTime"), row.get("msPlayed"))


def _track_id(uri: object) -> str | None:
    """The id of a URI or link; None for what is no track, and for a bare text."""
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


def _kind(name: str) -> str | None:
    return next((kind for kind, found in _KINDS.items() if found.names.fullmatch(name)), None)


class _MemberReader:
    """Reads the files of one export, within the limit on all of them together."""

    def __init__(self) -> None:
        self._left = MAX_TOTAL_BYTES

    def document(self, member: _Member) -> Any:
        """The JSON of ``member``, reduced to the fields of its kind as it is parsed."""
        fields = _KINDS[member.kind].fields
        return parse_json(self._bytes(member), member.where, fields, "; download it again")

    def _bytes(self, member: _Member) -> bytes:
        """What is in ``member``, measured as it is read: an archive may declare wrong sizes."""
        limit = min(MAX_FILE_BYTES, self._left)
        parts, size = [], 0
        try:
            with member.open() as stream:
                while part := stream.read(_STEP):
                    size += len(part)
                    if size > limit:
                        raise InputError(
                            f"{member.where} is too large: at most {MAX_FILE_BYTES >> 20:,} MB per file and "
                            f"{MAX_TOTAL_BYTES >> 20:,} MB per export are read"
                        )
                    parts.append(part)
        except _DAMAGE as error:
            raise InputError(
                f"{member.where} is damaged or unreadable ({_shown(str(error))}); download the export again"
            ) from error
        self._left -= size
        return b"".join(parts)


def _members(path: Path, opened: ExitStack) -> list[_Member]:
    """The files of ``path`` that are of a known kind, by their names. Raises InputError without any."""
    if path.is_dir():
        files = [(file, _kind(file.name)) for file in _files_below(path)]
        found = [_Member(str(file), kind, partial(FileIO, file)) for file, kind in files if kind]
        what, remedy = "a folder", "give the folder that holds them"
    elif _is_zip(path):
        found = _in_archive(path, opened)
        what, remedy = "a zip archive", "unpack it to import what it holds"
    elif not path.exists():
        raise InputError(f"{path} does not exist; check the path")
    else:
        kind = _kind(path.name)
        found = [_Member(str(path), kind, partial(FileIO, path))] if kind else []
        what, remedy = "a file", "give the zip as downloaded, and leave --format out for other files"
    if not any(member.kind in _SOURCES_OF_LIKES for member in found):
        raise InputError(f"{path} is {what} without {LOOKED_FOR}, so no Spotify account export; {remedy}")
    return found


def _files_below(folder: Path) -> list[Path]:
    """The files of known kinds in ``folder``; its subfolders are searched only if it has no other file to
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
        if (depth == 0 and has_others) or depth == _MAX_DEPTH - 1 or seen > MAX_MEMBERS:
            folders.clear()
    return found


class _Archive(BufferedReader):
    """A file that refuses long reads, since opening a zip reads its whole list of members."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LONGEST_READ:
            raise zipfile.BadZipFile("the list of members is too long")
        return super().read(size)


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}
    except OSError:
        return False


def _in_archive(path: Path, opened: ExitStack) -> list[_Member]:
    """The members of known kinds, after checking the archive's list of members."""
    try:
        raw = opened.enter_context(_Archive(FileIO(path)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        archive = opened.enter_context(zipfile.ZipFile(raw))
    except _DAMAGE as error:
        raise InputError(f"{path} is a truncated or damaged zip archive; download it again") from error
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise InputError(f"{path} has more than {MAX_MEMBERS:,} files, too many for an account export")
    members = []
    for entry in _checked(entries, path):
        kind = _kind(re.split(r"[/\\]", entry.filename)[-1])
        if kind:
            where = f"{path}: {_shown(entry.filename)}"
            if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise InputError(f"{where} has an unknown compression; unpack it and give the folder")
            members.append(_Member(where, kind, partial(archive.open, entry)))
    return sorted(members, key=lambda member: member.where)


def _checked(entries: list[zipfile.ZipInfo], path: Path) -> Iterator[zipfile.ZipInfo]:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        parts = re.split(r"[/\\]", name)
        shown = _shown(name)
        if not parts[0] or ":" in parts[0] or ".." in parts or "\x00" in entry.orig_filename:
            raise InputError(f"{path} has a file {shown} that points outside the archive; it is not opened")
        if name in seen:
            raise InputError(f"{path} has {shown} twice; download it again")
        seen.add(name)
        if entry.is_dir() or "__MACOSX" in parts:
            continue
        if entry.flag_bits & 0x1:
            raise InputError(f"{path} is encrypted; unpack it with its password and give the folder")
        if name.lower().endswith(".zip"):
            raise InputError(f"{path} holds another archive, {shown}; unpack it and give those in it")
        yield entry


def _shown(name: str) -> str:
    """A member's name for a message: on one line, and of a readable length."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= 100 else "..." + text[-97:]
