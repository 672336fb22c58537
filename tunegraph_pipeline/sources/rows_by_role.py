"""Load the rows of a table whose columns have roles, and say what the rows mean.

Here: from columns or a document to a `Reading`. Not here: which column has which role (`columns`,
`table_reading`, `headerless_tables`), or what becomes of the rows (`rows`).
"""

import re
from collections import Counter
from collections.abc import Sequence

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.columns import Columns, find_column
from tunegraph_pipeline.sources.documents import Document
from tunegraph_pipeline.sources.find_format import unused
from tunegraph_pipeline.sources.formats import BY_NAME, Format, Means
from tunegraph_pipeline.sources.names import letters
from tunegraph_pipeline.sources.opinions import DEFAULT_PLAYS
from tunegraph_pipeline.sources.raw_tables import RawTable
from tunegraph_pipeline.sources.reading import Given, Reading
from tunegraph_pipeline.sources.rows import Table

_GENERAL = {"table", "list"}
_DISLIKED = re.compile(r"(?:^|[^a-z])(dislik(?:e|es|ed)|hated|banned|blocked)(?:$|[^a-z])", re.IGNORECASE)
"""A word in the name of a file or sheet that says that its songs are disliked."""
_ANY_TIME = {"time", "timestamp", "date", "datetime", "ts", "uts"}
"""Names of times that may be of likes or of plays."""
_PLAYED_AT = {"playedat", "listenedat", "lastplayed", "playeddate", "listendate", "scrobbledat", "playtime"}


def read_document(document: Document, where: str, given: Given) -> Reading:
    """The reading of a document whose columns are named by role.

    Raises InputError if options name another format, or columns.
    """
    found = BY_NAME[document.format]
    given.check_format(found, where)
    given.check_unnamed(found, where)
    table = document.table
    rows = table.load(table.names, ()) if table.names else table.sample
    if found.means == "library" and given.rules.min_plays is None:
        rows = rows.drop("plays", strict=False)
    by_role = Table(
        rows,
        found.means,
        document.opinions,
        "kind" if "kind" in rows.columns else None,
        _default_plays(found),
        scale=found.scale,
    )
    return Reading(
        found,
        [by_role],
        found.seen_by,
        seen_whole=document.seen_whole,
        failed=document.failed,
        person=document.person,
    )


def read_by_role(
    table: RawTable, found: Format, columns: Columns, name: str, where: str, given: Given
) -> Reading:
    """The reading of a table whose columns have roles; ``name`` is that of the file or sheet.

    Raises InputError if the table has no rows, or if options contradict each other.
    """
    if found.name == "catalogue":
        columns.kinds = None
    if columns.opinions and given.rules.min_plays is None:
        columns.roles.pop("plays", None)
    _add_judged(table, columns, where, given)
    unnamed_rating = _take_rating(table, columns)
    rows, counts = _load(table, columns, unnamed_rating, where)
    by_role, opinions = _with_roles(rows, columns, unnamed_rating)
    means, notes = _meaning(found, columns, opinions, name)
    any_time = letters(columns.roles.get("liked_at", "")) in _ANY_TIME
    meant = Table(
        by_role,
        means,
        tuple(opinions),
        columns.kinds,
        _default_plays(found),
        split_artists=found.name == "exportify",
        scale=found.scale,
        may_be_plays=found.name in _GENERAL and not opinions,
        plays_if_repeated=found.name == "list" and not opinions and any_time,
    )
    left = [name for name in unused(table, columns) if letters(name) not in AUDIO_FEATURES]
    shown = _in_words(columns, opinions)
    return Reading(found, [meant], table.shape, shown, left, counts=counts, notes=notes)


def _default_plays(found: Format) -> int | None:
    return DEFAULT_PLAYS if found.whose == "one person" else None


def _add_judged(table: RawTable, columns: Columns, where: str, given: Given) -> None:
    """Make opinions of the columns in --like-when. Raises InputError if one is in --ignore-column too."""
    for judged in given.rules.like_when:
        column = find_column(table.names, judged, "--like-when", where)
        if column in {find_column(table.names, one, "--ignore-column", where) for one in given.ignored}:
            raise InputError(
                f"{where}: column {column} is both in --like-when and in --ignore-column; choose one"
            )
        if column not in columns.opinions:
            columns.opinions.append(column)
            columns.roles = {role: one for role, one in columns.roles.items() if one != column}


def _take_rating(table: RawTable, columns: Columns) -> str | None:
    """Make an opinion of the column with the role rating; without a header, give it back instead."""
    rating = columns.roles.pop("rating", None)
    if rating is None or not table.header:
        return rating
    columns.opinions.append(rating)
    return None


def _load(
    table: RawTable, columns: Columns, unnamed_rating: str | None, where: str
) -> tuple[pl.DataFrame, Counter[str]]:
    """The rows of the columns that are used, without repeated headers, and how many rows were skipped."""
    ids = {columns.roles[role] for role in ("user_id", "track_id") if role in columns}
    unnamed = [] if unnamed_rating is None else [unnamed_rating]
    rows = table.load([*columns.used(), *unnamed], ids)
    counts = Counter(table.counts)
    if not table.header:
        return rows, counts
    texts = [name for name in columns.roles.values() if rows.schema[name] == pl.String]
    if texts:
        repeated = rows.select(pl.all_horizontal(pl.col(name) == name for name in texts)).to_series()
        repeated = repeated.fill_null(value=False)
        counts["repeated headers"] += int(repeated.sum())
        rows = rows.filter(~repeated)
    if not len(rows) and not table.counts.total():
        raise InputError(f"{where} has a header and no rows; give a file with at least one row")
    return rows, counts


def _with_roles(
    rows: pl.DataFrame, columns: Columns, unnamed_rating: str | None
) -> tuple[pl.DataFrame, list[str]]:
    """The columns named by role, then those of opinions and kinds by their own names; and the names of those
    of opinions."""
    selected = [rows[column].alias(role) for role, column in columns.roles.items()]
    selected += [rows[column].alias(f"service:{service}") for service, column in columns.services.items()]
    taken = {one.name for one in selected}
    opinions = [name for name in columns.opinions if name not in taken]
    selected += [rows[name] for name in opinions]
    if unnamed_rating is not None:
        selected.append(rows[unnamed_rating].alias("rating"))
        opinions.append("rating")
    if columns.kinds is not None and columns.kinds not in opinions:
        selected.append(rows[columns.kinds])
    # Not DataFrame(selected), which gives a column without a name another one.
    return rows.select(selected), opinions


def _meaning(found: Format, columns: Columns, opinions: Sequence[str], name: str) -> tuple[Means, list[str]]:
    """What the rows say, and notes on it for people."""
    if found.name == "catalogue":
        return found.means, ["describes songs, and says of no like; if it is somebody's list, give --user-id"]
    if opinions:
        return found.means, []
    if found.name in _GENERAL and _are_plays(columns):
        return "plays", []
    if found.means == "likes" and (word := _DISLIKED.search(name)) is not None:
        return "dislikes", [f"the songs are dislikes, since the name says {word[1]}"]
    return found.means, []


def _are_plays(columns: Columns) -> bool:
    """Whether the columns say when or how long a song was played."""
    played_at = letters(columns.roles.get("liked_at", "")) in _PLAYED_AT
    return played_at or not {"played_ms", "skipped"}.isdisjoint(columns.roles)


def _in_words(columns: Columns, opinions: Sequence[str]) -> dict[str, str]:
    """Which column has which role, for people."""
    shown = dict(columns.roles)
    shown |= {f"id of {service}": column for service, column in columns.services.items()}
    shown |= {f"opinion {number}" if number else "opinion": name for number, name in enumerate(opinions)}
    return shown
