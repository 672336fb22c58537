"""Read the list that a listener brings to the service, in a process of its own.

Here: from a file, or a playlist of a service, to songs by id, ISRC and names, as JSON; and the limits of the
process. Not here: reading files (`files`), or starting this process and finding the songs (`serve.matches`).

    python -P -m tunegraph_pipeline.sources.brought < task.json

A file is read as `tunegraph import --dry-run` reads it. The process ends with the memory and the processor
time that the task gives it, so a file that takes more fails alone. It writes nothing but its answer.
"""

import json
import re
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tunegraph_pipeline.errors import InputError, TuneGraphError
from tunegraph_pipeline.words import counted

if TYPE_CHECKING:
    import polars as pl

    from tunegraph_pipeline.sources.file_import import FileImport
    from tunegraph_pipeline.sources.limits import ImportLimits

_MOST_NOTES = 20
_LONGEST_NAME = 500  # letters; a longer one is none
_MOST_ARTISTS = 20
_TEXT_BYTES = 1 << 21  # of a file of which every line may be a song
_UNPACKED_BYTES = 1 << 29
_ROWS = 5_000_000
_OPERATORS_ADVICE = re.compile(r", or raise imports\.\w+ in the settings of lake\.json if you trust it")


class Task(NamedTuple):
    """What to read: the file ``path``, or else the playlist ``playlist`` (service, id). ``settings`` are
    those of `lake.json`; ``user`` is whose list counts in a file of several people, "" for the only one;
    ``most`` songs are kept."""

    path: str
    playlist: Sequence[str]
    user: str
    most: int
    settings: Mapping[str, Any]
    megabytes: int
    seconds: int


def read(task: Task) -> dict[str, Any]:
    """What was read: ``format``, ``lists``, ``songs`` and ``notes``; or ``lines``, a text that is no format
    and may be songs, one a line. Raises InputError, one line, for anything else."""
    from tunegraph_pipeline.sources.limits import limited_by

    with limited_by(_limits(task.settings.get("imports", {}))):
        if task.playlist:
            return _read_playlist(task)
        path = Path(task.path)
        try:
            return _listed(_read_file(path), path.name, task)
        except InputError:
            lines = _lines_of(path)
            if lines is None:
                raise
            return {"lines": lines}


def _read_file(path: Path) -> "list[FileImport]":
    from tunegraph_pipeline.sources.file_import import DEFAULT_USER
    from tunegraph_pipeline.sources.files import import_files

    try:
        return import_files([path])
    except InputError as error:
        # Songs without a user may be a catalogue; here they are the list of whoever brings them.
        if "--user-id" not in str(error):
            raise
        with suppress(InputError):
            return import_files([path], user_id=DEFAULT_USER)
        raise


def _limits(section: Mapping[str, Any]) -> "ImportLimits":
    """The limits of the lake, and never more than a service has room for."""
    from tunegraph_pipeline.sources.limits import ImportLimits

    given = ImportLimits.model_validate(section)
    most = {
        "file_bytes": _UNPACKED_BYTES,
        "document_bytes": _UNPACKED_BYTES // 2,
        "export_bytes": _UNPACKED_BYTES,
        "rows": _ROWS,
    }
    return given.model_copy(update={name: min(getattr(given, name), top) for name, top in most.items()})


def _read_playlist(task: Task) -> dict[str, Any]:
    from tunegraph_pipeline.sources.file_import import import_reading
    from tunegraph_pipeline.sources.playlist_links import fetch_playlist
    from tunegraph_pipeline.sources.read_file import read_bytes
    from tunegraph_pipeline.sources.reading import Given

    service, playlist_id = task.playlist
    playlist = fetch_playlist(service, playlist_id, task.settings)
    where = f"the playlist of {service}"
    readings = read_bytes(playlist.content, playlist.file_name, where, Given())
    imports = [import_reading(one, where, playlist.title, "auto", Given(), None) for one in readings]
    return _listed(imports, where, task)


def _listed(imports: "Sequence[FileImport]", name: str, task: Task) -> dict[str, Any]:
    people = _people(imports, name, task.user)
    songs: dict[tuple[str, str], dict[str, Any]] = {}
    lists = []
    total = 0
    for one in imports:
        said = _said(one, people)
        for song in _songs_of(one, said.head(task.most)):
            songs.setdefault((song["track_id"], song["opinion"]), song)
        total += len(said)
        inner = one.batch.origin.partition(": ")[2] or one.batch.origin
        owner = one.said_person or ("" if one.person else people)
        lists.append({"name": inner, "owner": owner, "songs": len(said)})
    counts = [f"{what}: {n:,}" for one in imports for what, n in one.batch.counts.items()]
    notes = list(dict.fromkeys([*(rule for one in imports for rule in one.rules), *counts]))[:_MOST_NOTES]
    if not people:
        notes = ["it describes songs and says of nobody's likes; all of them count as liked"]
    if total > task.most and len(songs) >= task.most:
        notes.insert(0, f"only the first {task.most:,} of {counted(total, 'song')} are shown")
    return {
        "format": ", ".join(dict.fromkeys(one.format.title for one in imports)),
        "lists": lists,
        "songs": list(songs.values())[: task.most],
        "notes": [note[:_LONGEST_NAME] for note in notes],
    }


def _people(imports: "Sequence[FileImport]", name: str, wanted: str) -> str:
    """The one user whose list counts, "" if the songs are nobody's. Raises InputError where there are several
    and none is wanted, or the wanted one is not there, or no song."""
    import polars as pl

    said = [frame["user_id"] for one in imports for frame in (one.batch.likes, one.batch.feedback)]
    users = pl.concat(said).unique(maintain_order=True)
    if wanted:
        if wanted not in users:
            raise InputError(f"{name} has no list of user {wanted[:80]!r}")
        return wanted
    if len(users) > 1:
        shown = ", ".join(users.head(3)) + (", …" if len(users) > 3 else "")
        raise InputError(
            f"{name} has the lists of {len(users):,} people ({shown}); give a file of one person"
        )
    if users.is_empty() and not any(len(one.batch.tracks) for one in imports):
        raise InputError(f"{name} has no song that somebody likes")
    return "" if users.is_empty() else str(users[0])


def _said(one: "FileImport", user: str) -> "pl.DataFrame":
    """The songs that a user likes and then those they dislike, each once: (track_id, opinion). Without a
    user, all songs, which whoever brings them likes."""
    import polars as pl

    if not user:
        return one.batch.tracks.select("track_id", pl.lit("like").alias("opinion")).unique(
            maintain_order=True
        )
    said = ((one.batch.likes, "like"), (one.batch.feedback, "dislike"))
    return pl.concat(
        [
            frame.filter(user_id=user).select("track_id", pl.lit(opinion).alias("opinion"))
            for frame, opinion in said
        ]
    ).unique(maintain_order=True)


def _songs_of(one: "FileImport", said: "pl.DataFrame") -> Iterator[dict[str, Any]]:
    tracks = one.batch.tracks.select("track_id", "isrc", "name", "artists").join(
        said, on="track_id", how="semi"
    )
    named = said.join(
        tracks.unique("track_id", keep="first"), on="track_id", how="left", maintain_order="left"
    )
    for track_id, opinion, isrc, name, artists in named.iter_rows():
        title = (name or "")[:_LONGEST_NAME]
        by = [artist[:_LONGEST_NAME] for artist in artists or [] if artist][:_MOST_ARTISTS]
        yield {
            "given": f"{', '.join(by)} - {title}" if by and title else title or track_id,
            "track_id": track_id,
            "isrc": (isrc or "")[:20],
            "name": title,
            "artists": by,
            "opinion": opinion,
        }


def _lines_of(path: Path) -> str | None:
    """A short text, which may be of lines that name songs; None if the file is no such text."""
    try:
        with path.open("rb") as file:
            data = file.read(_TEXT_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    named = sum(" - " in line or " – " in line for line in lines)
    if len(data) > _TEXT_BYTES or "\0" in text or named < 0.5 * len(lines) or not lines:
        return None
    return text


def _hold_to_limits(task: Task) -> None:
    """Give this process a memory and a processor time of its own, and no right to write files."""
    memory = task.megabytes << 20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (task.seconds, task.seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """Read the task from standard input, and write the answer to standard output: one JSON document, with
    ``error`` alone if it cannot be read."""
    task = Task(**json.load(sys.stdin))
    _hold_to_limits(task)
    try:
        answer = read(task)
    except TuneGraphError as error:
        plain = _OPERATORS_ADVICE.sub("", str(error))
        answer = {"error": plain.replace(f"{Path(task.path).parent}/", "") if task.path else plain}
    except MemoryError:
        answer = {"error": "it takes more memory than the service gives to one list; split it"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
