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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

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
_MOST_WAITING = 8
"""Lists that wait in one worker; they are read one by one."""
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


class ListReader:
    """Reads what listeners bring to one worker."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._one = asyncio.Semaphore(1)
        self._waiting = 0
        _remove_leftovers()

    async def of_text(self, text: str) -> Brought:
        """The songs of a pasted text. Raises Problem 422 for a playlist that may not be asked for, and for a
        text of a format that cannot be read."""
        link = playlist_link(text)
        if link is not None:
            return await self._of_playlist(link)
        lines = read_lines(text)
        understood = sum(bool(line.songs and (len(line.songs) > 1 or _is_id(line))) for line in lines)
        if len(lines) > 1 and understood < _UNDERSTOOD * len(lines):
            with suppress(Problem):
                async with self._folder() as folder:
                    path = folder / "pasted.txt"
                    path.write_text(text)
                    return await self._read(path, "")
        return _of_lines(lines)

    async def of_file(self, request: Request, name: str, user: str) -> Brought:
        """The songs of the file that is the body of a request. ``name`` may tell its format; ``user`` is
        whose list counts, "" for the only one. Raises Problem 422 if it cannot be read, 503 if too many are
        being received."""
        async with self._folder() as folder:
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
        async with self._slot():
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
        async with self._one:
            answer = await _in_process(task, service, limits.reading_seconds)
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

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise unavailable("too many lists are being read; try again in some seconds", retry_after=5)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        """A temporary folder for one file, while there is a slot for it."""
        async with self._slot():
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


def _song(read: dict[str, Any]) -> Song:
    return Song(read["track_id"], read["isrc"], read["name"], makers(read["artists"]))


def _unreadable(why: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, why, name="unreadable-list")


async def _in_process(task: dict[str, Any], service: str, seconds: float) -> dict[str, Any]:
    """What the reading process answers. Raises Problem 422 if it fails or takes longer than ``seconds``."""
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
            content, _ = await process.communicate(json.dumps(task).encode())
    except TimeoutError:
        raise _unreadable(f"it takes longer than {seconds:g} s to read; split it") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == -signal.SIGXCPU:
        raise _unreadable(f"it takes longer than {seconds:g} s to read; split it")
    if process.returncode or len(content) > _MOST_ANSWER_BYTES:
        raise _unreadable(_TOO_MUCH)
    answer: dict[str, Any] = json.loads(content)
    return answer


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
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
