"""Read tables without a header, whose columns are known by their cells or by position.

Here: formats known by the shapes of their cells, headers in an unknown language, and columns of ids. Not
here: cutting the text (`delimited_text`), or loading the rows (`rows_by_role`).
"""

import re
from collections.abc import Mapping, Sequence

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.song_ids import isrc_id
from tunegraph_pipeline.sources.columns import Columns, counts_up, find_column, is_id
from tunegraph_pipeline.sources.delimited_text import Cut, cut_lines, sample_lines, text_table, usual_width
from tunegraph_pipeline.sources.documents import is_song_link
from tunegraph_pipeline.sources.find_format import fits
from tunegraph_pipeline.sources.formats import BY_NAME, FORMATS, Format
from tunegraph_pipeline.sources.names import shown
from tunegraph_pipeline.sources.raw_tables import RawTable, distinct_names
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows_by_role import read_by_role

ROW_NUMBERS = "the numbers of the rows"
"""What `not_users` calls cells that count up."""
_HIGHEST_RATING = 100
_NEVER_PLAY = 255
"""Yahoo's rating "never play again", beside those from 0 to 100."""
_SECONDS = re.compile(r"1\d{9}(\d{3})?(\.\d+)?")
_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:")
_VIDEO_ID = re.compile(r"[\w-]{11}")


def known_by_cells(data: bytes, where: str, name: str) -> tuple[Cut, Format] | None:
    """The format whose patterns the cells of a text match, and how to cut the text; None if there is none."""
    lines = sample_lines(data)
    for found in FORMATS:
        if not found.cells:
            continue
        separator = found.separator or "\t"
        width, _ = usual_width(cut_lines(lines, separator))
        if width == len(found.cells):
            cut = Cut(separator, False, [str(number + 1) for number in range(width)])
            table = text_table("\n".join(lines).encode(), where, cut, literal=found.literal)
            if fits(found, table, name):
                return cut, found
    return None


def header_of_links(table: RawTable, cut: Cut) -> Cut | None:
    """The cut of a table whose header is in an unknown language; None if its first row is no header.

    It is one if all cells below it are links of songs, or ids of videos beside times. That column then gets a
    known name.
    """
    rows = [[cell or "" for cell in row] for row in table.sample.rows()]
    if len(rows) < 2:
        return None
    names = [name.strip() or str(number) for number, name in enumerate(rows[0], start=1)]
    columns = list(zip(*rows[1:], strict=True))
    dated = any(all(map(_DATE_AND_TIME.match, cells)) for cells in columns)
    for number, (first, cells) in enumerate(zip(rows[0], columns, strict=True)):
        if is_song_link(first):
            continue
        if all(map(is_song_link, cells)):
            names[number] = "Track URI"
        elif dated and all(_VIDEO_ID.fullmatch(cell.strip()) for cell in cells):
            names[number] = "Video ID"
        else:
            continue
        return Cut(cut.separator, True, distinct_names(names), cut.skipped)
    return None


def read_headerless(table: RawTable, name: str, where: str, given: Given) -> Reading:
    """A table without a header: its columns named by position, or two columns of ids and perhaps a number.

    Raises InputError if it may be something else.
    """
    named = {
        role: find_column(table.names, column, "the option", where) for role, column in given.named.items()
    }
    if {"user_id", "track_id"} <= named.keys():
        rating = {} if given.rules.min_rating is None else _rating_column(table, named)
        return read_by_role(table, BY_NAME["table"], Columns(named | rating), name, where, given)
    _check_users_and_songs(table, where)
    roles = {"user_id": "1", "track_id": "2"} | _third(table, where, given) | named
    return read_by_role(table, BY_NAME["table"], Columns(roles), name, where, given)


def _check_users_and_songs(table: RawTable, where: str) -> None:
    """Raise InputError for a table that is not surely users, songs, and perhaps a number."""
    first = shown([cell or "" for cells in table.sample.head(1).rows() for cell in cells])
    too_wide = len(table.names) > 3 or not all(map(_is_number, _third_cells(table)))
    if too_wide or _first_row_differs(table):
        raise InputError(
            f"{where}: its first line has no known column ({first}); name the columns with --user-column"
            " and --track-column or, without a header, give their positions"
        )
    if not all(is_id(cell) for column in ("1", "2") for cell in table.sample_of(column)):
        raise InputError(
            f"{where} has no header, and words in its columns ({first}), which may be artists or"
            " titles; write the names of the columns above them, such as user_id,track_id or artist,title"
        )
    if (what := not_users(table.sample_of("1"), table.sample_of("2"))) is not None:
        raise InputError(
            f"{where} has no header, and its first column holds {what}, which are no users; write the names"
            " of the columns above them, such as user_id,track_id"
        )


def _third_cells(table: RawTable) -> list[str]:
    return table.sample_of("3") if len(table.names) > 2 else []


def _rating_column(table: RawTable, named: Mapping[str, str]) -> dict[str, str]:
    """The role of the only column of numbers up to 100 that no option names."""
    fitting = [
        column
        for column in table.names
        if column not in named.values()
        and (cells := table.sample_of(column))
        and all(_is_number(cell) and 0 <= float(cell) <= _HIGHEST_RATING for cell in cells)
    ]
    return {"rating": fitting[0]} if len(fitting) == 1 else {}


def _third(table: RawTable, where: str, given: Given) -> dict[str, str]:
    """The role of a third column: a time, a rating or a number of plays. Raises InputError if it may be
    either of the last two."""
    if len(table.names) < 3:
        return {}
    numbers = [float(cell) for cell in _third_cells(table)]
    if numbers and all(6e8 <= number < 1e14 for number in numbers):
        return {"liked_at": "3"}
    if given.rules.min_rating is not None or (set(numbers) <= {-1.0, 0.0, 1.0} and -1.0 in numbers):
        return {"rating": "3"}
    bounded = all(number <= _HIGHEST_RATING or number == _NEVER_PLAY for number in numbers)
    if given.rules.min_plays is None and len(set(numbers)) > 1 and bounded:
        raise InputError(
            f"{where} has numbers from {min(numbers):g} to {max(numbers):g} in its third column, which may be"
            " ratings or plays; say which with --min-rating or --min-plays"
        )
    return {"plays": "3"}


def not_users(cells: Sequence[str], songs: Sequence[str] = ()) -> str | None:
    """What a column without a name holds if that is surely no users; else None. ``songs`` are the cells
    beside it."""
    if all(map(is_song_link, cells)):
        return "links of songs"
    if all(map(isrc_id, cells)):
        return "ISRCs"
    if all(map(_SECONDS.fullmatch, cells)):
        return "times"
    enough = len(cells) > 2 or all(map(is_song_link, songs))
    if enough and counts_up([cell.rstrip(".)") for cell in cells]):
        return ROW_NUMBERS
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_row_differs(table: RawTable) -> bool:
    """Whether the first row is a header of unknown names: in some column it alone has no number."""
    rows = table.sample.rows()
    if len(rows) < 2:
        return False
    return any(
        bool(first and first.strip())
        and not _is_number(first)
        and all(cell is not None and _is_number(cell) for cell in below)
        for first, *below in zip(*rows, strict=True)
    )
