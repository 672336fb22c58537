"""Read a table with a header: find its format, give its columns their roles, and refuse what says no likes.

Here: the rules for one table. Not here: cutting a file into a table (`raw_tables`, `delimited_text`), tables
without a header (`headerless_tables`), or loading the rows (`rows_by_role`).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import PLAYLISTS, Columns, recognise
from tunegraph_pipeline.sources.documents import is_song_link
from tunegraph_pipeline.sources.find_format import NO_LIKES, fits, format_of, unused
from tunegraph_pipeline.sources.formats import BY_NAME, Format
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.raw_tables import RawTable
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows_by_role import read_by_role

_RECBOLE_NAME = re.compile(r"(.+):(token|float|token_seq|float_seq)")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_LINK_COLUMNS = {"uri", "url", "link", "item", "songurl", "songlink"}
_PEOPLE = re.compile(
    r"user|client|customer|session|person|friend|mail|owner|member|account|profile|login|nick|listener|^name$|who"
)
"""Words in the name of a column that may say whose each song is."""


def read_table(table: RawTable, name: str, where: str, given: Given) -> Reading:
    """The rows by role of a table with a header; ``name`` is that of the file or sheet.

    Raises InputError if the table has no songs, says of no likes, may be of several people without saying
    so, or is not of the format that --format names.
    """
    table = _without_types(table)
    if given.format == "auto":
        _check_says_likes(table, name, where)
    columns = recognise(table, given.named, where, given.ignored)
    if "track_id" not in given.named:
        columns = _without_other_links(table, columns)
    found = _format_as_asked(table, columns, name, where, given)
    if found is None or not _has_songs(columns, found):
        raise _no_songs(table, columns, where)
    if found.name in {"list", "catalogue"} and given.user_id is None:
        _check_people(table, columns, where, given)
    if found.name == "youtube-takeout":
        _check_playlist(table, columns, where)
    found = _format_for_users(found, given)
    _apply_roles(table, columns, found, given)
    _drop_accounts(table, columns, found, where)
    reading = read_by_role(table, found, columns, name, where, given)
    if found.name == "lastfmstats":
        date = next((one for one in table.names if one.lower().startswith("date#")), "")
        reading.person = date.partition("#")[2]
    return reading


def _without_types(table: RawTable) -> RawTable:
    """A table of RecBole, whose header has a type behind each name, with plain names."""
    if not table.names or not all(_RECBOLE_NAME.fullmatch(name) for name in table.names):
        return table
    plain = {name: name.rpartition(":")[0] for name in table.names}
    written = {new: old for old, new in plain.items()}

    def load(names: Sequence[str], ids: Collection[str]) -> pl.DataFrame:
        rows = table.load([written[one] for one in names], {written[one] for one in ids})
        return rows.rename({written[one]: one for one in names})

    shape = table.shape + ", types behind the names"
    return RawTable(shape, list(plain.values()), True, table.sample.rename(plain), load, table.counts)


def _check_says_likes(table: RawTable, name: str, where: str) -> None:
    """Raise InputError for a known table that says of no likes."""
    names = {letters(column) for column in table.names}
    for one in NO_LIKES:
        if one.fits(names, name):
            raise InputError(f"{where} is {one.what}; {one.instead}")


def _without_other_links(table: RawTable, columns: Columns) -> Columns:
    """The columns, without one of links that lead to no song of a known service."""
    column = columns.roles.get("track_id")
    if column is None or letters(column) not in _LINK_COLUMNS:
        return columns
    cells = table.sample_of(column)
    if any(map(is_song_link, cells)) or not any("/" in cell or ":" in cell for cell in cells):
        return columns
    roles = {role: one for role, one in columns.roles.items() if role != "track_id"}
    return replace(columns, roles=roles)


# --- the format --------------------------------------------------------------------------------------------


def _format_as_asked(table: RawTable, columns: Columns, name: str, where: str, given: Given) -> Format | None:
    """The format that --format names if the table may have it, else the one found."""
    found = format_of(table, columns, name)
    if given.format not in BY_NAME:
        return found
    asked = BY_NAME[given.format]
    if found is not asked and not fits(asked, table, None) and not _may_be_general(asked, columns):
        raise given.not_the_format(found.name if found else table.shape, where)
    return asked


def _may_be_general(asked: Format, columns: Columns) -> bool:
    """Whether a table with these columns may be read as the general format ``asked``."""
    if asked.name == "table":
        return "user_id" in columns
    return asked.name in {"list", "catalogue"} and "user_id" not in columns


def _format_for_users(found: Format, given: Given) -> Format:
    """The general format instead of ``found``, where options say whose the songs are."""
    if found.name == "catalogue" and (given.user_id is not None or given.likes_asked):
        found = BY_NAME["list"]
    return BY_NAME["table"] if found.whose == "one person" and "user_id" in given.named else found


def _has_songs(columns: Columns, found: Format) -> bool:
    roles = {*columns.roles, *found.roles}
    by_name = {"name", "artists"} <= roles or "pair" in roles
    return "track_id" in roles or "isrc" in roles or bool(columns.services) or by_name


def _no_songs(table: RawTable, columns: Columns, where: str) -> InputError:
    if "name" in columns and "artists" not in columns:
        return InputError(
            f"{where} has titles in column {columns.roles['name']} and no artists; a title alone is no"
            " song: add a column artist, or ids of tracks"
        )
    return InputError(
        f"{where} has no column of tracks among {shown(table.names)}; name it track_id, or point to it with"
        " --track-column"
    )


# --- whose the songs are -----------------------------------------------------------------------------------


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
            " music library songs.csv"
        )


def _holds_times(table: RawTable, column: str) -> bool:
    cells = table.sample_of(column)
    return bool(cells) and all(map(_TIME.match, cells))


def _drop_accounts(table: RawTable, columns: Columns, found: Format, where: str) -> None:
    """Leave out the column of users of a file of one person, where it holds playlists or an account.

    Raises InputError if a history has the plays of several accounts.
    """
    column = columns.roles.get("user_id")
    if found.whose != "one person" or column is None:
        return
    if letters(column) in PLAYLISTS:
        del columns.roles["user_id"]
    elif found.name == "spotify-plays":
        # An import calls its person by another name than the account has.
        accounts = table.load([column], ()).to_series().n_unique()
        if accounts > 1:
            raise InputError(
                f"{where} has the plays of {accounts} accounts; import each alone, with a --user-id of"
                " their own"
            )
        del columns.roles["user_id"]


# --- the roles that a format gives -------------------------------------------------------------------------


def _apply_roles(table: RawTable, columns: Columns, found: Format, given: Given) -> None:
    """Give the columns the roles that the format says they have."""
    by_letters = {letters(name): name for name in reversed(table.names)}
    for role, name in found.roles.items():
        column = by_letters.get(name)
        if column is not None and role not in given.named and column not in given.ignored:
            _give_role(columns, role, column)
    if found.means == "library" and given.rules.min_plays is None:
        columns.roles.pop("plays", None)
    if found.name == "youtube-takeout":
        # Its column of times has a name in the language of the account.
        times = (column for column in unused(table, columns) if _holds_times(table, column))
        if "liked_at" not in columns and (column := next(times, None)) is not None:
            columns.roles["liked_at"] = column


def _give_role(columns: Columns, role: str, column: str) -> None:
    """Give a column one role in place of those it had."""
    columns.roles = {other: one for other, one in columns.roles.items() if one != column}
    columns.opinions = [one for one in columns.opinions if one != column]
    if role in {"apple", "youtube"}:
        columns.services[role] = column
    elif role == "kind":
        columns.kinds = column
    else:
        columns.services = {service: one for service, one in columns.services.items() if one != column}
        columns.roles[role] = column
