"""What a listener brings, matched to the catalogue: lines of text, a file, or a playlist of a service.

Here: receiving it, having it read, and finding its songs. Not here: reading files (`sources.brought`, in a
process of its own, so that the service loads nothing of it and a file that takes too much fails alone), or
the endpoint (`list_routes`).

Nothing is stored or logged: a file lies in a temporary folder until it was read.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from starlette.requests import Request

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.matching import Song, match_each
from tunegraph_pipeline.recommend.song_lines import Line, PlaylistLink, makers, playlist_link, read_lines
from tunegraph_pipeline.serve.limits import MOST_MATCHED
from tunegraph_pipeline.serve.problem_details import Problem, unavailable
from tunegraph_pipeline.serve.settings import ServiceSettings
from tunegraph_pipeline.song_ids import isrc_id, service_of
from tunegraph_pipeline.words import counted

_FOLDER = "tunegraph-matches-"
_MOST_RECEIVED = 32
"""Files that one worker receives or keeps at the same time."""
_MOST_READ = 8
"""Files and playlists that wait to be read in a process, one by one,"""
_MOST_FOUND = 64
"""and lists that wait for the thread that finds their songs."""
_MOST_ANSWER_BYTES = 1 << 26
_UNDERSTOOD = 0.5  # share of lines, below which a pasted text may be the content of a file
_MODULE = "tunegraph_pipeline.sources.brought"
_PASSED_ON = re.compile(
    r"PATH|LANG|LC_\w+|TZ|TMPDIR|HOME|LD_LIBRARY_PATH|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|(?:HTTPS?|NO)_PROXY",
    re.IGNORECASE,
)
"""Variables of the environment that the reading process gets; no key or token is among them."""
_SPOTIFY_APP = ("SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET")
"""Those that only the reading of a playlist of Spotify gets."""
_TOO_MUCH = "it takes more memory than the service gives to one list; split it"


Args = TypeVarTuple("Args")
T = TypeVar("T")


class Brought(NamedTuple):
    """A list as it was read: what it was taken for, its lists (name, owner, songs), what its lines or rows
    may mean with the opinion of each, and notes for people."""

    form: str
    lists: list[dict[str, Any]]
    lines: list[Line]
    opinions: list[str]
    notes: list[str]


class Matched(NamedTuple):
    """The canonical track of a line, the line as given, and the opinion."""

    track: int
    given: str
    opinion: str


class Missing(NamedTuple):
    """A line that was not found, and why."""

    given: str
    why: str


class _Places:
    """Places for so many at the same time."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for the block. Raises Problem 503 if none is free."""
        if not self._free:
            raise unavailable("too many lists are being read; try again in some seconds", retry_after=5)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class ListReader:
    """Reads what listeners bring to one worker. What takes longer than a usual query is done in a process or
    in a thread of its own, so that no query waits for it."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._one_process = asyncio.Semaphore(1)
        self._received, self._read_places = _Places(_MOST_RECEIVED), _Places(_MOST_READ)
        self._found = _Places(_MOST_FOUND)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lists")
        _remove_leftovers()

    def close(self) -> None:
        self._thread.shutdown()

    async def in_thread(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Run ``work`` in the thread. Raises Problem 503 if too much waits for it."""
        with self._found.one():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def of_text(self, text: str) -> Brought:
        """The songs of a pasted text. Raises Problem 422 for a playlist that may not be asked for, and for a
        text of a format that cannot be read."""
        link = playlist_link(text)
        if link is not None:
            return await self._of_playlist(link)
        lines = await self.in_thread(read_lines, text)
        understood = sum(bool(line.songs and (len(line.songs) > 1 or _is_id(line))) for line in lines)
        if len(lines) > 1 and understood < _UNDERSTOOD * len(lines):
            with suppress(Problem), self._folder() as folder:
                path = folder / "pasted.txt"
                path.write_text(text)
                return await self._read(path, "")
        return _of_lines(lines)

    async def of_file(self, request: Request, name: str, user: str) -> Brought:
        """The songs of the file that is the body of a request. ``name`` may tell its format; ``user`` is
        whose list counts, "" for the only one. Raises Problem 422 if it cannot be read, 503 if too many are
        being received."""
        with self._folder() as folder:
            path = folder / _file_name(name)
            with path.open("wb") as file:
                async for part in request.stream():
                    file.write(part)
            return await self._read(path, user)

    async def _of_playlist(self, link: PlaylistLink) -> Brought:
        if link.service not in self._settings.playlists:
            allowed = " and ".join(self._settings.playlists) or "no service"
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"this is a playlist of {link.service}, and this service asks {allowed} for playlists; copy"
                " its songs and paste those, or its operator can allow it with --playlists",
                name="playlist-not-allowed",
            )
        return await self._run({"path": "", "playlist": list(link), "user": ""}, link.service)

    async def _read(self, path: Path, user: str) -> Brought:
        return await self._run({"path": str(path), "playlist": [], "user": user}, "")

    async def _run(self, task: dict[str, Any], service: str) -> Brought:
        limits = self._limits
        task |= {
            "most": MOST_MATCHED,
            "settings": _lake_settings(self._settings.lake),
            "megabytes": limits.reading_mib,
            "seconds": int(limits.reading_seconds) + 1,
        }
        with self._read_places.one():
            async with self._one_process:
                content = await _in_process(task, service, limits.reading_seconds)
        return await self.in_thread(_as_brought, content)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A temporary folder for one file, if there is a place for it."""
        with self._received.one():
            folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def find_songs(bundle: Bundle, brought: Brought) -> tuple[list[Matched], list[Missing]]:
    """The songs of the bundle that a list names, each once and in its order, and what was not found."""
    found: dict[int, int] = {}
    left = [place for place, line in enumerate(brought.lines) if line.songs]
    for chance in range(max((len(line.songs) for line in brought.lines), default=0)):
        asked = [place for place in left if len(brought.lines[place].songs) > chance]
        matches = match_each(bundle, [brought.lines[place].songs[chance] for place in asked])
        found |= {place: one.track for place, one in zip(asked, matches, strict=True) if one is not None}
        left = [place for place in left if place not in found]
    matched: dict[int, Matched] = {}
    for place in sorted(found):
        matched.setdefault(
            found[place], Matched(found[place], brought.lines[place].given, brought.opinions[place])
        )
    missing = [
        Missing(line.given, _why_missing(line))
        for place, line in enumerate(brought.lines)
        if place not in found
    ]
    return list(matched.values()), missing


def _why_missing(line: Line) -> str:
    if line.why:
        return line.why
    if line.songs[-1].name or _is_id(line):
        return "not in the catalogue"
    return "not in the catalogue as an id; write artist - title"


def _is_id(line: Line) -> bool:
    track_id = line.songs[0].track_id
    return service_of(track_id) is not None or isrc_id(track_id.removeprefix("isrc:")) is not None


def _of_lines(lines: list[Line]) -> Brought:
    kept = lines[:MOST_MATCHED]
    notes = (
        []
        if len(kept) == len(lines)
        else [f"only the first {len(kept):,} of {counted(len(lines), 'line')} are read"]
    )
    lists = [{"name": "", "owner": "", "songs": sum(bool(line.songs) for line in kept)}]
    return Brought("Lines of text", lists, kept, ["like"] * len(kept), notes)


def _as_brought(content: bytes) -> Brought:
    """What the reading process answered. Raises Problem 422 if it could not read the list."""
    answer = json.loads(content)
    if "error" in answer:
        raise _unreadable(answer["error"])
    if "lines" in answer:
        return _of_lines(read_lines(answer["lines"]))
    songs = answer["songs"]
    return Brought(
        answer["format"],
        answer["lists"],
        [Line(song["given"], (_song(song),)) for song in songs],
        [song["opinion"] for song in songs],
        answer["notes"],
    )


def _song(read: dict[str, Any]) -> Song:
    return Song(read["track_id"], read["isrc"], read["name"], makers(read["artists"]))


def _unreadable(why: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, why, name="unreadable-list")


async def _in_process(task: dict[str, Any], service: str, seconds: float) -> bytes:
    """What the reading process answers, as JSON. Raises Problem 422 if it fails or takes longer than
    ``seconds``."""
    passed = {name: text for name, text in os.environ.items() if _PASSED_ON.fullmatch(name)}
    if service == "spotify":
        passed |= {name: os.environ[name] for name in _SPOTIFY_APP if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        # -P: nothing is imported from the folder that the service was started in.
        *(sys.executable, "-P", "-m", _MODULE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**passed, "PYTHONPATH": _import_path(), "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            content = await _exchange(process, json.dumps(task).encode())
    except TimeoutError:
        raise _unreadable(f"it takes longer than {seconds:g} s to read; split it") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            # Not wait(), which in asyncio never returns while output of the process is unread.
            await process.communicate()
    if process.returncode == -signal.SIGXCPU:
        raise _unreadable(f"it takes longer than {seconds:g} s to read; split it")
    if process.returncode or len(content) > _MOST_ANSWER_BYTES:
        raise _unreadable(_TOO_MUCH)
    return content


async def _exchange(process: asyncio.subprocess.Process, task: bytes) -> bytes:
    """What the process answers to its task, and no more than a byte over the limit of it."""
    writer, reader = process.stdin, process.stdout
    assert writer is not None
    assert reader is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and its status says why
        writer.write(task)
        await writer.drain()
    writer.close()
    try:
        return await reader.readexactly(_MOST_ANSWER_BYTES + 1)
    except asyncio.IncompleteReadError as whole:
        await process.wait()
        return whole.partial


def _import_path() -> str:
    """Where this process imports from, but for the folder it was started in."""
    return os.pathsep.join(part for part in sys.path if part and Path(part).is_absolute())


def _lake_settings(lake: Path) -> dict[str, Any]:
    """The sections of `lake.json` that say how to read files, and where services are."""
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        settings = json.loads((lake / "lake.json").read_bytes()).get("settings", {})
        return {name: settings[name] for name in ("imports", "listenbrainz", "spotify") if name in settings}
    return {}


def _file_name(given: str) -> str:
    """The last part of a name, without what could lead elsewhere or be hidden; "list" if nothing is left."""
    last = re.split(r"[/\\]", given)[-1]
    plain = "".join(letter for letter in last if letter.isprintable() and letter not in ':*?"<>|').strip(". ")
    stem, dot, ending = plain.rpartition(".")
    return (f"{stem[:40]}{dot}{ending[:10]}" if dot else plain[:40]) or "list"


def _remove_leftovers() -> None:
    """Remove the files of services that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        number = folder.name.removeprefix(_FOLDER).partition("-")[0]
        with suppress(OSError):
            if number.isdigit() and folder.stat().st_uid == os.getuid() and not _is_alive(int(number)):
                shutil.rmtree(folder)


def _is_alive(process: int) -> bool:
    """Whether another process of this number runs; in a container, this one may have had a namesake."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
