"""Zips of a person's data from other services than Spotify: which files of them are read.

Here: the names of those files, and reading each. Everything else in such a zip stays closed. Not here:
Spotify's account export (`account_export`), a zip of one file (`content`), or reading a file (`read_file`).
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.content import (
    WORKBOOK_MEMBERS,
    as_utf8,
    is_workbook,
    is_zip,
    only_member,
    parse_json,
)
from tunegraph_pipeline.sources.documents import Row
from tunegraph_pipeline.sources.formats import BY_NAME
from tunegraph_pipeline.sources.json_documents import feedback_row, listen_row
from tunegraph_pipeline.sources.limits import file_errors
from tunegraph_pipeline.sources.opinions import DEFAULT_PLAYS
from tunegraph_pipeline.sources.raw_tables import table_of_records
from tunegraph_pipeline.sources.read_file import read_bytes
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows import Table
from tunegraph_pipeline.sources.zip_members import Member, MemberReader, is_zip_file, members_of

_FEEDBACK, _LISTENS = re.compile(r"feedback\.jsonl$"), re.compile(r"listens/\d+/\d+\.jsonl$")
"""Files of a ListenBrainz export."""

_LIKES = (
    # YouTube Takeout, whose folders and files have names in the language of the account
    r"(?:^|/)\W*(?:liked[ _](?:videos|music)|v.deos que me gustan|mag ich|videos, die ich mag"
    r"|vid.os j.aime|j.aime|v.deos (?:marcados|de que gostei)|gostei|video piaciuti|mi piace|gillade"
    r"|vind ik leuk)[^/]*\.csv$",
    r"(music[ -]library[ -]songs|canciones-biblioteca-m.sica)\.csv$",
    r"(?:^|/)(高く評価|いいね|좋아요|赞过|喜歡|喜欢)[^/]*\.csv$",
    # Apple's data and privacy
    r"Apple Music Likes and Dislikes\.csv$",
    r"Apple Music - Favorites\.csv$",
    r"Apple Music Library Tracks\.json(\.zip)?$",
    # Exportify, all playlists at once
    r"^[^/]+\.csv$",
)
_PLAYS = (r"Apple Music - Play History Daily Tracks\.csv$", r"watch-history\.json$")


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a zip of several files with one that is known, and no spreadsheet; False if it
    cannot be opened."""
    if not is_zip_file(path):
        return False
    try:
        with ExitStack() as opened:
            members = members_of(path, opened)
    except InputError:
        return False
    if not WORKBOOK_MEMBERS.isdisjoint(one.path for one in members):
        return False
    return len(members) > 1 and bool(_known(members))


def _known(members: list[Member]) -> list[Member]:
    """The files of likes or plays, by their paths."""
    patterns = [_FEEDBACK, _LISTENS, *(re.compile(one, re.IGNORECASE) for one in (*_LIKES, *_PLAYS))]
    return [one for one in members if any(pattern.search(one.path) for pattern in patterns)]


def read_archive(path: Path, given: Given) -> Iterator[tuple[str, Reading]]:
    """Yield the name and the reading of each known file, of plays only if the zip has no likes or ``given``
    asks for plays or keeps them. A file that cannot be read is skipped. Raises InputError if none can be
    read."""
    reader = MemberReader()
    with ExitStack() as opened:
        members = _known(members_of(path, opened))
        if any(_FEEDBACK.search(one.path) or _LISTENS.search(one.path) for one in members):
            yield path.name, _listenbrainz(members, reader, given)
            return
        likes = [one for one in members if any(re.search(name, one.path, re.IGNORECASE) for name in _LIKES)]
        chosen = members if given.rules.takes_plays or not likes else likes
        failures: list[str] = []
        read = 0
        for member in chosen:
            try:
                with file_errors(member.where):
                    readings = read_bytes(*_content(member, reader), member.where, given)
            except InputError as error:
                if len(chosen) == 1:
                    raise
                failures.append(str(error))
            else:
                read += len(readings)
                yield from ((member.name, reading) for reading in readings)
        if not read:
            raise InputError(f"{path} has no file of likes that can be read: {failures[0]}")


def _content(member: Member, reader: MemberReader) -> tuple[bytes, str]:
    """The bytes and the name of a file, taken out of a zip of its own if it has one."""
    data = reader.read(member)
    if is_zip(data) and not is_workbook(data):
        inner = only_member(data, Path(member.where))
        return inner.data, inner.name
    return data, member.name


def _listenbrainz(members: list[Member], reader: MemberReader, given: Given) -> Reading:
    """The feedback of a ListenBrainz export, with the names that its listens give. The listens count if it
    has no feedback, or ``given`` asks for plays or keeps them."""
    feedback = [feedback_row(one) for one in _lines(members, _FEEDBACK, reader)]
    listens = [listen_row(one) for one in _lines(members, _LISTENS, reader)]
    if not feedback and not listens:
        raise InputError(f"{members[0].where} and the other files of the export are empty; download it again")
    _add_names(feedback, listens)
    tables = []
    if feedback:
        tables.append(Table(_frame(feedback), "likes", ("score",), decided=True))
    if listens and (not feedback or given.rules.takes_plays):
        tables.append(Table(_frame(listens), "plays", default_plays=DEFAULT_PLAYS))
    found = BY_NAME["listenbrainz-feedback" if feedback else "listenbrainz-plays"]
    return Reading(found, tables, json.dumps(sorted({one.name for one in members}))[1:-1].replace('"', ""))


def _lines(members: list[Member], path: re.Pattern[str], reader: MemberReader) -> Iterator[dict[str, Any]]:
    """The objects in the lines of those files whose paths match."""
    for member in members:
        if path.search(member.path):
            for line in as_utf8(reader.read(member), member.where).data.split(b"\n"):
                row = parse_json(line, member.where, remedy="; download it again") if line.strip() else None
                if isinstance(row, dict):
                    yield row


def _add_names(feedback: list[Row], listens: list[Row]) -> None:
    """Fill the ids, names and artists that feedback lacks with those of listens of the same recording."""
    named = {row[key]: row for row in listens for key in ("recording_msid", "track_id") if row[key]}
    for row in feedback:
        known = named.get(row["track_id"]) or named.get(row["recording_msid"]) or {}
        for role in ("track_id", "name", "artists"):
            row[role] = row[role] or known.get(role)


def _frame(rows: list[Row]) -> pl.DataFrame:
    """All columns but the id that only names need."""
    table = table_of_records(rows, "JSON lines")
    return table.load([name for name in table.names if name != "recording_msid"], ())
