"""Read one file: what container it is, which format its content has, and its rows by role.

Here: from a path to tables whose columns have roles. Not here: the steps themselves (`content`, `raw_tables`,
`documents`, `columns`, `formats`), what becomes of the rows (`rows`), or which files belong together
(`files`).
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.json_nesting import check_nesting
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.song_ids import isrc_id
from tunegraph_pipeline.sources import documents
from tunegraph_pipeline.sources.columns import (
    COLUMN_NAMES,
    PLAYLISTS,
    Columns,
    counts_up,
    find_column,
    is_id,
    recognise,
)
from tunegraph_pipeline.sources.content import BINARY, as_utf8, is_workbook, parse_json, read_content
from tunegraph_pipeline.sources.delimited_text import (
    Cut,
    as_plain_rows,
    cut_lines,
    find_cut,
    sample_lines,
    text_table,
    usual_width,
)
from tunegraph_pipeline.sources.formats import BY_NAME, CONTAINERS, NO_LIKES, Format, format_of, unused
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.opinions import DEFAULT_PLAYS, Rules
from tunegraph_pipeline.sources.raw_tables import RawTable, lines_of_json, parquet_table
from tunegraph_pipeline.sources.rows import Table
from tunegraph_pipeline.sources.spreadsheets import sheets


@dataclass(frozen=True)
class Given:
    """The options of an import that say how a file is to be read. ``named`` maps user_id, track_id and
    liked_at to the columns that options name; ``ignored`` are columns that are to decide nothing."""

    format: str = "auto"
    named: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    user_id: str | None = None
    likes_asked: bool = False
    rules: Rules = field(default_factory=Rules)


@dataclass
class Reading:
    """What was read of a file, or of files that belong together.

    ``tables`` have columns by role; the lists of users in ``seen_whole`` are complete, even if empty; those
    of ``failed`` users are unknown. For people: ``shape`` says how the file was cut, ``columns`` which column
    was taken for which role, ``unused`` which decide nothing, and ``notes`` what was decided. ``person`` is
    whom the file itself says it is of, "" where it does not.
    """

    format: Format
    tables: list[Table]
    shape: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    seen_whole: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    person: str = ""


def read_format(path: Path, given: Given) -> list[Reading]:
    """What ``path`` holds: one reading, or one for each sheet of a spreadsheet that has songs.

    Raises InputError if the file is damaged, of no known format, or not of the format named.
    """
    content = read_content(path)
    return read_bytes(content.data, content.name, str(path), given)


def read_bytes(data: bytes, name: str, where: str, given: Given) -> list[Reading]:
    """The same for content that was read already; ``name`` is the file's, and may tell its format."""
    if data.startswith(b"PAR1"):
        _check_container("parquet", where, given)
        return [_of_table(parquet_table(data, where), name, where, given)]
    if is_workbook(data):
        _check_container("xlsx", where, given)
        return _of_sheets(data, where, given)
    if data.startswith((b"\xd0\xcf\x11\xe0", b"%PDF", b"\x89PNG", b"GIF8", b"\xff\xd8\xff")):
        raise InputError(BINARY.format(where=where))
    if data.startswith(b"bplist00"):
        return [_of_document(documents.read_plist(data, where), name, where, given)]
    text = as_utf8(data, where)
    notes = []
    if text.encoding:
        how = "guessed to be " if text.guessed else ""
        notes.append(f"the text is {how}{text.encoding}, not UTF-8")
    readings = _of_text(text.data, name, where, given)
    for reading in readings:
        reading.notes = notes + reading.notes
    return readings


def _check_container(name: str, where: str, given: Given) -> None:
    allowed = {"auto", name, *({"csv"} if name == "tsv" else ()), *(BY_NAME)}
    if given.format not in allowed:
        raise InputError(
            f"{where} is not {given.format}: it looks like {name}; leave --format out or name that"
        )


def _of_sheets(data: bytes, where: str, given: Given) -> list[Reading]:
    found = []
    for sheet, table in sheets(data, where):
        columns = recognise(table, {}, where)
        if (
            {"track_id", "name"} & columns.roles.keys()
            or columns.services
            or "isrc" in columns
            or given.named
        ):
            found.append(_of_table(table, sheet, f"{where}, sheet {sheet}", given))
    lists = [one for one in found if one.format.name == "list" and one.tables[0].means == "likes"]
    if len(lists) > 1 and given.user_id is None:
        raise InputError(
            f"{where} has several sheets of songs, which may be of several people; save each as a file of its"
            " own, or give --user-id if they are one person's"
        )
    if not found:
        raise InputError(
            f"{where} has no sheet of songs; write track_id, or artist and title, above the columns"
        )
    return found


def _of_text(data: bytes, name: str, where: str, given: Given) -> list[Reading]:
    start = data[:4096].lstrip()
    if start.startswith(b"{\\rtf"):
        raise InputError(f"{where} is a Rich Text document; save it as plain text or CSV")
    if start.startswith((b"{", b"[")):
        return [_of_json(data, name, where, given)]
    if start.startswith(b"<") and not re.match(rb"<(https?|spotify):", start):
        return [_of_document(documents.read_xml(data, where), name, where, given)]
    if start.upper().startswith(b"#EXTM3U") or re.search(r"\.m3u8?$", name, re.IGNORECASE):
        return [_of_document(documents.read_m3u(data.decode(), where), name, where, given)]
    if start.startswith(b"#AUDIOSCROBBLER"):
        return [_of_document(documents.read_scrobbler_log(data.decode()), name, where, given)]
    if re.match(rb"(event\.\w+|preference|playlist|track|user)\t\d+\t[-\d]*\t\{", start):
        return [_of_document(documents.read_idomaar(data.decode(), where), name, where, given)]
    return [_of_lines(data, name, where, given)]


# --- JSON --------------------------------------------------------------------------------------------------


def _of_json(data: bytes, name: str, where: str, given: Given) -> Reading:
    first, _, rest = data.strip().partition(b"\n")
    try:
        check_nesting(first)
        one = json.loads(first)
    except ValueError:
        one = None
    if rest.strip() and isinstance(one, dict):
        return _of_json_lines(data, one, name, where, given)
    document = one if one is not None and not rest.strip() else parse_json(data, where)
    if isinstance(document, dict) and not rest.strip() and _is_row(document):
        return _of_json_lines(data, document, name, where, given)
    _check_container("json", where, given) if given.format in CONTAINERS else None
    return _of_document(documents.read_json(document, where), name, where, given)


def _is_row(document: Mapping[str, object]) -> bool:
    """Whether one object is a table of one line: its values are no lists or objects."""
    return bool(document) and not any(isinstance(value, dict | list) for value in document.values())


def _of_json_lines(data: bytes, first: Mapping[str, object], name: str, where: str, given: Given) -> Reading:
    _check_container("ndjson", where, given)
    if any(isinstance(value, dict) for value in first.values()):
        rows = _parsed_lines(data, where)
        return _of_document(documents.read_json(rows, where), name, where, given)
    return _of_table(lines_of_json(data, where), name, where, given)


def _parsed_lines(data: bytes, where: str) -> list[object]:
    lines = enumerate(data.split(b"\n"), start=1)
    return [parse_json(line, f"{where}, line {number}") for number, line in lines if line.strip()]


def _of_document(document: documents.Document, name: str, where: str, given: Given) -> Reading:
    if document.format == "table":
        if not document.table.names:
            raise InputError(f"{where} has no rows; give a file with at least one row")
        return _of_table(document.table, name, where, given)
    found = BY_NAME[document.format]
    _check_format(found, where, given)
    if given.named:
        raise InputError(
            f"{where} is {found.name}, which has no columns to name; leave the column options out"
        )
    table = document.table
    rows = table.load(table.names, ()) if table.names else table.sample
    if found.means == "library" and given.rules.min_plays is None:
        rows = rows.drop("plays", strict=False)
    kinds = "kind" if "kind" in rows.columns else None
    roles = Table(rows, found.means, document.opinions, kinds, _default_plays(found), scale=found.scale)
    return Reading(
        found,
        [roles],
        found.seen_by,
        seen_whole=document.seen_whole,
        failed=document.failed,
        person=document.person,
    )


def _default_plays(found: Format) -> int | None:
    return DEFAULT_PLAYS if found.whose == "one person" else None


def _check_format(found: Format, where: str, given: Given) -> None:
    if given.format not in {"auto", found.name, *CONTAINERS}:
        raise InputError(
            f"{where} is not {given.format}: it looks like {found.name}; leave --format out or name that"
        )


# --- text --------------------------------------------------------------------------------------------------


def _of_lines(data: bytes, name: str, where: str, given: Given) -> Reading:
    lines = [line.strip() for line in sample_lines(data) if line.strip()]
    if not lines:
        raise InputError(f"{where} begins with nothing but blanks; give a file with at least one row")
    data = as_plain_rows(data)
    if b"::" in data[:4096] and b"\t" not in data[:4096]:
        data = data.replace(b"::", b"\t")
    if (links := _single_column(data, where, given)) is not None:
        return _of_document(documents.read_links(links), name, where, replace(given, named={}))
    if not given.named and (shape := _headerless_cut(data, where, name)) is not None:
        known_cut, found = shape
        _check_format(found, where, given)
        table = text_table(data, where, known_cut, literal=found.literal)
        return _built(table, found, Columns(dict(found.roles)), name, where, given)
    separators = ("\t",) if given.format == "tsv" else ("\t", ";", "|", ",", " ")
    cut = None if given.format == "adjacency" else find_cut(data, set(given.named.values()), separators)
    if cut is None or (not cut.header and cut.separator == " " and len(cut.names) > 3):
        if (ids := _column_of_ids(data, lines, where, given)) is not None:
            return _of_document(documents.read_links(ids), name, where, replace(given, named={}))
        return _of_adjacency(data, lines, where, given)
    _check_container("tsv" if cut.separator == "\t" else "csv", where, given)
    table = text_table(data, where, cut)
    if (
        cut.separator == " "
        and not cut.header
        and not given.named
        and not all(is_id(cell) for line in lines for cell in line.split()[:2])
    ):
        raise _no_table(where, lines)
    if not cut.header and not given.named and (known := _header_of_links(table, cut)) is not None:
        return _of_table(text_table(data, where, known), name, where, given)
    if not cut.header:
        return _of_headerless(table, name, where, given)
    if cut.skipped:
        table.shape += f", {cut.skipped} lines above the header skipped"
    return _of_table(table, name, where, given)


def _headerless_cut(data: bytes, where: str, name: str) -> tuple[Cut, Format] | None:
    """The format of a table without a header by the shapes of its cells, and how to cut it."""
    lines = sample_lines(data)
    for found in BY_NAME.values():
        if not found.cells:
            continue
        separator = found.separator or "\t"
        width, _ = usual_width(cut_lines(lines, separator))
        if width == len(found.cells):
            cut = Cut(separator, False, [str(number + 1) for number in range(width)])
            table = text_table(b"\n".join(line.encode() for line in lines), where, cut, literal=found.literal)
            if found.fits(table, name):
                return cut, found
    return None


def _header_of_links(table: RawTable, cut: Cut) -> Cut | None:
    """The cut of a table whose header is in an unknown language, where cells below it are links of songs, or
    videos with times; its column of songs gets a name that is known."""
    rows = [[cell or "" for cell in row] for row in table.sample.rows()]
    if len(rows) < 2:
        return None
    names = [name.strip() or str(number) for number, name in enumerate(rows[0], start=1)]
    dated = any(
        all(re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", cell) for cell in cells)
        for cells in zip(*rows[1:], strict=True)
    )
    for number, (first, *below) in enumerate(zip(*rows, strict=True)):
        if documents.is_song_link(first):
            continue
        if all(map(documents.is_song_link, below)):
            names[number] = "Track URI"
        elif dated and all(re.fullmatch(r"[\w-]{11}", cell.strip()) for cell in below):
            names[number] = "Video ID"
        else:
            continue
        return Cut(cut.separator, True, names, cut.skipped)
    return None


def _single_column(data: bytes, where: str, given: Given) -> list[str] | None:
    """The cells of a single column of links, URIs or ISRCs, with or without a header; else None."""
    sample = [line for text in sample_lines(data) if (line := _bare_line(text))]
    if not sample:
        return None
    header = letters(sample[0])
    headed = header in _LINK_HEADERS or (header.endswith(("link", "url", "uri")) and not is_id(sample[0]))
    cells = sample[1:] if headed else sample
    if not cells or not all(_names_a_song(cell, header) for cell in cells):
        return None
    lines = [line for text in data.decode().splitlines() if (line := _bare_line(text))]
    songs = lines[int(headed) :]
    return [isrc_id(line) or line for line in songs] if header == "isrc" else songs


def _bare_line(text: str) -> str:
    """A line without blanks and quotation marks around it; "" for a comment."""
    line = text.strip().strip('"').strip()
    return "" if line.startswith("#") else line


def _names_a_song(cell: str, header: str) -> bool:
    """Whether a line is the link, URI or id of a song where nothing but songs is listed."""
    if re.search(r"[\t;, ]", cell):
        return False
    if header == "isrc":
        return isrc_id(cell) is not None
    return documents.is_song_link(cell) or bool(re.fullmatch(r"[0-9A-Za-z]{22}", cell))


def _column_of_ids(data: bytes, lines: list[str], where: str, given: Given) -> list[str] | None:
    """The cells of a single column that is headed like one of tracks. They may be a catalogue's, so only with
    --user-id."""
    if letters(lines[0]) not in {*COLUMN_NAMES["track_id"], *COLUMN_NAMES["song"]} or not all(
        map(is_id, lines[1:])
    ):
        return None
    if given.user_id is None:
        raise InputError(
            f"{where} has tracks and nothing about them: it lacks users; name their column with"
            f" --user-column, or"
            " whose list it is with --user-id"
        )
    return [line.strip() for line in data.decode().splitlines() if line.strip()][1:]


_LINK_HEADERS = {
    "uri", "url", "link", "links", "track", "trackid", "trackuri", "spotifyuri", "spotifyid", "spotifyurl",
    "song", "id", "songurl", "songlink", "isrc", "youtubeurl", "tracks", "songs",
}  # fmt: skip


def _of_adjacency(data: bytes, lines: list[str], where: str, given: Given) -> Reading:
    """A user and their items on every line, all of them ids."""
    words = [line.split() for line in lines]
    various = len(set(map(len, words))) > 1 or len(words[0]) > 2
    asked = given.format == "adjacency"
    if not (asked or various) or not all(is_id(word) for line in words for word in line):
        raise _no_table(where, lines)
    if (what := _no_users([line[0] for line in words if len(line) > 1])) not in {
        None,
        "the numbers of the rows",
    }:
        raise InputError(
            f"{where} has lines that begin with {what}, which are no users; write one song a line"
        )
    _check_format(BY_NAME["adjacency"], where, given)
    if given.named:
        raise InputError(f"{where} is adjacency, which has no columns to name; leave the column options out")
    text = pl.Series(data.decode().split("\n")).str.strip_chars().str.replace_all(r"\s+", " ")
    cells = text.filter(text != "").str.split(" ")
    table = pl.DataFrame({"user_id": cells.list.first(), "track_id": cells.list.slice(1)})
    if (cells.list.len() == 1).all():
        raise InputError(f"{where} is not adjacency text: no line has a track after its user")
    seen = table["user_id"].unique(maintain_order=True).to_list()
    rows = table.filter(pl.col("track_id").list.len() > 0).explode("track_id")
    found = BY_NAME["adjacency"]
    return Reading(found, [Table(rows, found.means)], found.seen_by, seen_whole=seen)


def _no_table(where: str, lines: list[str]) -> InputError:
    first = shown([lines[0]])
    if sum(" - " in line for line in lines) > 0.8 * len(lines):
        return InputError(
            f"{where} has lines of names ({first}), and does not say which is the artist; export it as CSV"
            f" with the"
            " columns artist and title"
        )
    return InputError(
        f"{where} is not a table of users and tracks: its first line is {first}; give columns user and"
        f" track, or"
        " artist and title, or name the format with --format"
    )


def _of_headerless(table: RawTable, name: str, where: str, given: Given) -> Reading:
    """A table without a header: of a known shape, with columns named by position, or of two columns of ids
    and perhaps a number."""
    named = {
        role: find_column(table.names, column, "the option", where) for role, column in given.named.items()
    }
    if {"user_id", "track_id"} <= named.keys():
        if given.rules.min_rating is not None:
            named |= _rating_column(table, named)
        return _built(table, BY_NAME["table"], Columns(named), name, where, given)
    width = len(table.names)
    rows = table.sample.rows()
    first = [cell or "" for cell in (rows[0] if rows else ())]
    if (
        _unlike_the_rest(table)
        or width > 3
        or (width == 3 and not all(_is_number(cell) for cell in table.sample_of("3")))
    ):
        raise InputError(
            f"{where}: its first line has no known column ({shown(first)}); name the columns with"
            f" --user-column"
            " and --track-column or, without a header, give their positions"
        )
    if not all(is_id(cell) for column in ("1", "2") for cell in table.sample_of(column)):
        raise InputError(
            f"{where} has no header, and words in its columns ({shown(first)}), which may be artists or"
            f" titles; write"
            " the names of the columns above them, such as user_id,track_id or artist,title"
        )
    if (what := _no_users(table.sample_of("1"), table.sample_of("2"))) is not None:
        raise InputError(
            f"{where} has no header, and its first column holds {what}, which are no users; write the names"
            f" of the"
            " columns above them, such as user_id,track_id"
        )
    roles = {"user_id": "1", "track_id": "2"} | _third(table, where, given) | named
    return _built(table, BY_NAME["table"], Columns(roles), name, where, given)


def _rating_column(table: RawTable, named: Mapping[str, str]) -> dict[str, str]:
    """The only column of numbers up to 100 that no option names, as the one of ratings."""
    fitting = [
        column
        for column in table.names
        if column not in named.values()
        and (cells := table.sample_of(column))
        and all(_is_number(cell) and 0 <= float(cell) <= 100 for cell in cells)
    ]
    return {"rating": fitting[0]} if len(fitting) == 1 else {}


def _third(table: RawTable, where: str, given: Given) -> dict[str, str]:
    """The role of a third column without a name: a time, a rating or a number of plays."""
    if len(table.names) < 3:
        return {}
    numbers = [float(cell) for cell in table.sample_of("3")]
    if numbers and all(6e8 <= number < 1e14 for number in numbers):
        return {"liked_at": "3"}
    if given.rules.min_rating is not None or (set(numbers) <= {-1.0, 0.0, 1.0} and -1.0 in numbers):
        return {"rating": "3"}
    bounded = all(number <= 100 or number == 255 for number in numbers)
    if given.rules.min_plays is None and len(set(numbers)) > 1 and bounded:
        raise InputError(
            f"{where} has numbers from {min(numbers):g} to {max(numbers):g} in its third column, which may be"
            " ratings or plays; say which with --min-rating or --min-plays"
        )
    return {"plays": "3"}


def _no_users(cells: Sequence[str], songs: Sequence[str] = ()) -> str | None:
    """What a column without a name holds, if that is surely no users."""
    if all(documents.is_song_link(cell) for cell in cells):
        return "links of songs"
    if all(isrc_id(cell) for cell in cells):
        return "ISRCs"
    if all(re.fullmatch(r"1\d{9}(\d{3})?(\.\d+)?", cell) for cell in cells):
        return "times"
    enough = len(cells) > 2 or all(map(documents.is_song_link, songs))
    if enough and counts_up([cell.rstrip(".)") for cell in cells]):
        return "the numbers of the rows"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unlike_the_rest(table: RawTable) -> bool:
    """Whether the first row is a header of unknown names: no number where every other row has one."""
    rows = table.sample.rows()
    if len(rows) < 2:
        return False
    return any(
        bool(cells[0] and cells[0].strip())
        and not _is_number(cells[0])
        and all(cell is not None and _is_number(cell) for cell in cells[1:])
        for cells in zip(*rows, strict=True)
    )


# --- tables ------------------------------------------------------------------------------------------------


def _of_table(table: RawTable, name: str, where: str, given: Given) -> Reading:
    """The rows of a table with a header."""
    table = _without_types(table)
    for one in NO_LIKES:
        if given.format == "auto" and one.fits({letters(column) for column in table.names}, name):
            raise InputError(f"{where} is {one.what}; {one.instead}")
    columns = recognise(table, given.named, where, given.ignored)
    if "track_id" not in given.named:
        columns = _only_songs_by_link(table, columns)
    found = format_of(table, columns, name)
    if given.format in BY_NAME:
        wanted = BY_NAME[given.format]
        fits = found is wanted or wanted.fits(table, None) or _general(wanted, columns)
        if not fits:
            what = found.name if found else table.shape
            raise InputError(
                f"{where} is not {wanted.name}: it looks like {what}; leave --format out or name that"
            )
        found = wanted
    if found is None or not _has_songs(columns, found):
        raise _no_songs(table, columns, where)
    if found.name in {"list", "catalogue"} and given.user_id is None:
        _check_people(table, columns, where, given)
    if found.name == "youtube-takeout":
        _check_playlist(table, columns, where)
    if found.name == "catalogue" and (given.user_id is not None or given.likes_asked):
        found = BY_NAME["list"]
    if found.whose == "one person" and "user_id" in given.named:
        found = BY_NAME["table"]
    _apply_roles(table, columns, found, given)
    if found.whose == "one person" and letters(columns.roles.get("user_id", "")) in PLAYLISTS:
        del columns.roles["user_id"]
    if found.name == "spotify-plays" and "user_id" in columns and "user_id" not in given.named:
        # The account is one person's, whom an import calls by another name.
        accounts = table.load([columns.roles["user_id"]], ()).to_series().n_unique()
        if accounts > 1:
            raise InputError(
                f"{where} has the plays of {accounts} accounts; import each alone, with a --user-id of"
                f" their own"
            )
        del columns.roles["user_id"]
    reading = _built(table, found, columns, name, where, given)
    if found.name == "lastfmstats":
        date = next((one for one in table.names if one.lower().startswith("date#")), "")
        reading.person = date.partition("#")[2]
    return reading


def _general(wanted: Format, columns: Columns) -> bool:
    """Whether a table with these columns may be read as a general format that an option names."""
    if wanted.name == "table":
        return "user_id" in columns
    return wanted.name in {"list", "catalogue"} and "user_id" not in columns


def _without_types(table: RawTable) -> RawTable:
    """A table of RecBole, whose header gives the type behind each name, with plain names."""
    typed = re.compile(r"(.+):(token|float|token_seq|float_seq)")
    if not table.names or not all(typed.fullmatch(name) for name in table.names):
        return table
    plain = {name: name.rpartition(":")[0] for name in table.names}
    written = {new: old for old, new in plain.items()}

    def load(names: Sequence[str], ids: Collection[str]) -> pl.DataFrame:
        rows = table.load([written[one] for one in names], {written[one] for one in ids})
        return rows.rename({written[one]: one for one in names})

    shape = table.shape + ", types behind the names"
    return RawTable(shape, list(plain.values()), True, table.sample.rename(plain), load, table.counts)


_PEOPLE = re.compile(
    r"user|client|customer|session|person|friend|mail|owner|member|account|profile|login|nick|listener|^name$|who"
)


def _check_people(table: RawTable, columns: Columns, where: str, given: Given) -> None:
    """Raise InputError for a list without users that has a column which may name them."""
    ignored = {letters(one) for one in given.ignored}
    for column in unused(table, columns):
        if (
            letters(column) not in ignored
            and _PEOPLE.search(letters(column))
            and len(set(table.sample_of(column))) > 1
        ):
            raise InputError(
                f"{where} has a column {column}, which may say whose each song is; name it with --user-column"
                f" '{column}', or leave it out with --ignore-column '{column}'"
            )


def _check_playlist(table: RawTable, columns: Columns, where: str) -> None:
    """Raise InputError for a table of videos that is no list of songs somebody likes."""
    others = [one for one in unused(table, columns) if not _holds_times(table, one)]
    if others and "name" not in columns:
        raise InputError(
            f"{where} is a table of videos with {shown(others)}, and no playlist; give Liked videos.csv or"
            f" music"
            " library songs.csv"
        )


def _holds_times(table: RawTable, column: str) -> bool:
    cells = table.sample_of(column)
    return bool(cells) and all(re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", cell) for cell in cells)


def _has_songs(columns: Columns, found: Format) -> bool:
    roles = {*columns.roles, *found.roles}
    by_name = {"name", "artists"} <= roles or "pair" in roles
    return "track_id" in roles or "isrc" in roles or bool(columns.services) or by_name


def _no_songs(table: RawTable, columns: Columns, where: str) -> InputError:
    if "name" in columns and "artists" not in columns:
        return InputError(
            f"{where} has titles in column {columns.roles['name']} and no artists; a title alone is no"
            f" song: add a"
            " column artist, or ids of tracks"
        )
    return InputError(
        f"{where} has no column of tracks among {shown(table.names)}; name it track_id, or point to it with"
        " --track-column"
    )


def _apply_roles(table: RawTable, columns: Columns, found: Format, given: Given) -> None:
    """Give the columns the roles that the format says they have."""
    by_letters = {letters(name): name for name in reversed(table.names)}
    for role, name in found.roles.items():
        column = by_letters.get(name)
        if column is None or role in given.named or column in given.ignored:
            continue
        for other in [other for other, taken in columns.roles.items() if taken == column]:
            del columns.roles[other]
        columns.opinions = [one for one in columns.opinions if one != column]
        if role in {"apple", "youtube"}:
            columns.services[role] = column
        elif role == "kind":
            columns.kinds = column
        else:
            columns.services = {of: one for of, one in columns.services.items() if one != column}
            columns.roles[role] = column
    if found.means == "library" and given.rules.min_plays is None:
        columns.roles.pop("plays", None)
    if found.name == "youtube-takeout" and "liked_at" not in columns:
        # In most languages the name of this column is unknown.
        for column in unused(table, columns):
            if _holds_times(table, column):
                columns.roles.setdefault("liked_at", column)


def _built(table: RawTable, found: Format, columns: Columns, name: str, where: str, given: Given) -> Reading:
    """The reading of a table whose columns have roles."""
    if columns.opinions and given.rules.min_plays is None:
        columns.roles.pop("plays", None)
    kinds = columns.kinds
    if kinds is not None and found.name in {"catalogue"}:
        columns.kinds = kinds = None
    for judged in given.rules.like_when:
        column = find_column(table.names, judged, "--like-when", where)
        if column in {find_column(table.names, one, "--ignore-column", where) for one in given.ignored}:
            raise InputError(
                f"{where}: column {column} is both in --like-when and in --ignore-column; choose one"
            )
        if column not in columns.opinions:
            columns.opinions.append(column)
            columns.roles = {role: one for role, one in columns.roles.items() if one != column}
    ids = {columns.roles[role] for role in ("user_id", "track_id") if role in columns}
    rating = columns.roles.pop("rating", None)
    if rating is not None and table.header:
        columns.opinions.append(rating)
    unnamed = [rating] if rating is not None and not table.header else []
    rows = table.load([*columns.used(), *unnamed], ids)
    counts = Counter(table.counts)
    if table.header and columns.roles:
        checked = [name for name in columns.roles.values() if rows.schema[name] == pl.String]
        headers = (
            rows.select(pl.all_horizontal(pl.col(name) == name for name in checked)).to_series()
            if checked
            else None
        )
        if headers is not None and headers.any():
            counts["repeated headers"] += int(headers.sum())
            rows = rows.filter(~headers.fill_null(value=False))
    if table.header and not len(rows) and not table.counts.total():
        raise InputError(f"{where} has a header and no rows; give a file with at least one row")
    selected = [rows[column].alias(role) for role, column in columns.roles.items()]
    selected += [rows[column].alias(f"service:{service}") for service, column in columns.services.items()]
    taken = {one.name for one in selected}
    opinions = [name for name in columns.opinions if name not in taken]
    selected += [rows[name] for name in opinions]
    if rating is not None and not table.header:
        selected.append(rows[rating].alias("rating"))
        opinions.append("rating")
    if kinds is not None and kinds not in opinions:
        selected.append(rows[kinds])
    means = "plays" if _are_plays(columns, found, opinions) else found.means
    notes = []
    if means == "likes" and not opinions and (word := _DISLIKED.search(name)) is not None:
        means = "dislikes"
        notes.append(f"the songs are dislikes, since the name says {word[1]}")
    roles = Table(
        pl.DataFrame(selected),
        means,
        tuple(opinions),
        kinds,
        _default_plays(found),
        found.name == "exportify",
        scale=found.scale,
        may_be_plays=found.name in {"table", "list"} and not opinions,
        plays_if_repeated=found.name == "list"
        and not opinions
        and letters(columns.roles.get("liked_at", "")) in _ANY_TIME,
    )
    told = dict(columns.roles)
    told |= {f"id of {service}": column for service, column in columns.services.items()}
    told |= {f"opinion {number}" if number else "opinion": name for number, name in enumerate(opinions)}
    left = [name for name in unused(table, columns) if letters(name) not in AUDIO_FEATURES]
    if found.name == "catalogue":
        notes.append("describes songs, and says of no like; if it is somebody's list, give --user-id")
    return Reading(found, [roles], table.shape, told, left, counts=counts, notes=notes)


_DISLIKED = re.compile(r"(?:^|[^a-z])(dislik(?:e|es|ed)|hated|banned|blocked)(?:$|[^a-z])", re.IGNORECASE)
"""A word in the name of a file or sheet that says that its songs are disliked."""
_ANY_TIME = {"time", "timestamp", "date", "datetime", "ts", "uts"}
"""Names of times that may be of likes or of plays."""
_PLAYED_AT = {"playedat", "listenedat", "lastplayed", "playeddate", "listendate", "scrobbledat", "playtime"}


def _are_plays(columns: Columns, found: Format, opinions: Sequence[str]) -> bool:
    """Whether the rows of a general table are plays: they say when or how long a song was played."""
    if found.name not in {"table", "list"} or opinions:
        return False
    return (
        not {"played_ms", "skipped"}.isdisjoint(columns.roles)
        or letters(columns.roles.get("liked_at", "")) in _PLAYED_AT
    )


_LINK_COLUMNS = {"uri", "url", "link", "item", "songurl", "songlink"}


def _only_songs_by_link(table: RawTable, columns: Columns) -> Columns:
    """The columns, without one of links that lead to no song of a known service."""
    column = columns.roles.get("track_id")
    if column is None or letters(column) not in _LINK_COLUMNS:
        return columns
    if not any("/" in cell or ":" in cell for cell in table.sample_of(column)):
        return columns
    if any(documents.is_song_link(cell) for cell in table.sample_of(column)):
        return columns
    roles = {role: one for role, one in columns.roles.items() if role != "track_id"}
    return replace(columns, roles=roles)
