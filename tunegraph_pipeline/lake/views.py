"""The SQL views of a lake: schema ``tunegraph``, in which every table shows what is current.

Here: the statements that make them, and `lake.duckdb`, which keeps them for any DuckDB client. Not here: the
tables themselves (`tables`), or when the file is brought up to date (`Lake.refresh_views`).

`tunegraph.NAME` shows what is current, `tunegraph.NAME_history` every partition that is kept:

- a table of a cut-off, such as ``current_likes``: the rows of the current cut-off;
- a table of a version, such as ``track_embeddings``: the rows of the current model or the live bundle;
- ``tracks``, ``audio_features`` and ``redirects``: a row for each track, with the newest known value of
  every column;
- ``users`` and ``observations``: the newest row of each user and source;
- ``likes``: the newest list of each user from each source;
- ``plays``: the rows that count, without those that a whole export of their source replaced;
- ``feedback``, which never expires, and tables without partitions: every row.

What is current is looked up in the ``CURRENT`` files at each query, so views stay right while a refresh runs.

No view names a folder. At every query each asks the macro `tunegraph.folder()`, which finds the folder of
the open database file. So a lake that is copied, moved or renamed shows its own rows. DuckDB tells the file
by the default of its setting ``temp_directory``, FILE.tmp. Where that was changed, or the file is attached to
another database, the variable ``tunegraph_lake`` has to say where the lake is; until it does, queries fail.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.schemas import TABLES, Partition, TableSpec

if TYPE_CHECKING:
    import duckdb

_POINTERS = {
    Partition.CUT_OFF: "current_likes",
    Partition.MODEL: "models",
    Partition.BUNDLE: "serving",
}
"""The folder whose ``CURRENT`` says which partition is current, by how a table is partitioned."""
POINTERS = (*_POINTERS.values(), "catalogue")
"""The folders whose ``CURRENT`` the views look up."""


_FOLDER = r"""
    CREATE OR REPLACE MACRO tunegraph.folder() AS regexp_replace(coalesce(
        getvariable('tunegraph_lake') || '/',
        CASE WHEN current_setting('temp_directory') LIKE '%.duckdb.tmp'
             THEN regexp_replace(current_setting('temp_directory'), '[^/\\]*$', '') END,
        error('say where the lake is, and ask again: SET VARIABLE tunegraph_lake = ''FOLDER''')
    ), '([\[*?])', '[\1]', 'g')
"""
"""The folder of the lake, ending in a slash and quoted for a file pattern."""


# --- the statements ---


def connect(root: Path) -> "duckdb.DuckDBPyConnection":
    """An in-memory DuckDB with the views of the lake at ``root``. Raises LakeError naming a table file that
    DuckDB cannot read."""
    import duckdb

    connection = duckdb.connect()
    _make_views(connection, root, view_statements(root))
    return connection


def view_statements(root: Path) -> list[str]:
    """SQL that makes schema ``tunegraph`` with two views of each table, typed and empty without a file."""
    statements = ["CREATE SCHEMA IF NOT EXISTS tunegraph", _FOLDER]
    for spec in TABLES.values():
        history = f"tunegraph.{spec.name}_history"
        statements.append(f"CREATE OR REPLACE VIEW {history} AS {_everything(root, spec)}")
    for spec in TABLES.values():
        statements.append(f"CREATE OR REPLACE VIEW tunegraph.{spec.name} AS {_current(root, spec)}")
    return statements


def _make_views(connection: "duckdb.DuckDBPyConnection", root: Path, statements: list[str]) -> None:
    import duckdb

    connection.execute("SET VARIABLE tunegraph_lake = ?", [str(root.resolve())])
    try:
        for statement in statements:
            connection.execute(statement)
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise _unreadable(root, error) from error


def _unreadable(root: Path, error: Exception) -> LakeError:
    """The error for views that cannot be made. DuckDB may not name the file that it cannot read."""
    import duckdb

    for table, spec in TABLES.items():
        for file in sorted((root / table).glob(_pattern(spec))):
            try:
                with duckdb.connect() as connection:
                    connection.execute("SELECT * FROM read_parquet(?) LIMIT 0", [escape(str(file))])
            except (duckdb.Error, UnicodeDecodeError) as damage:
                what = _first_line(damage).replace(str(file), file.name)
                return LakeError(f"{file} cannot be read by DuckDB ({what}); run `tunegraph verify`")
    return LakeError(f"the SQL views of {root} cannot be made ({_first_line(error)}); run `tunegraph verify`")


def _pattern(spec: TableSpec) -> str:
    """The files of a table, below its folder."""
    return "data.parquet" if spec.partition is Partition.NONE else f"{spec.partition}=*/data.parquet"


def _everything(root: Path, spec: TableSpec) -> str:
    """Every row of every partition, with the column of the partition."""
    pattern = _pattern(spec)
    if any((root / spec.name).glob(pattern)):
        files = f"tunegraph.folder() || '{spec.name}/{pattern}'"
        rows = f"SELECT * FROM read_parquet({files}, hive_partitioning = true, union_by_name = true)"  # noqa: S608
        # Perhaps no file has the columns that earlier versions lacked.
        typed = [f"NULL::{_sql_type(spec.schema.field(name).type)} AS {name}" for name in spec.added]
        return f"{rows} UNION ALL BY NAME SELECT {', '.join(typed)} WHERE false" if typed else rows
    columns = [f"NULL::{_sql_type(column.type)} AS {column.name}" for column in spec.schema]
    if spec.partition.value not in (*spec.schema.names, Partition.NONE.value):
        day = spec.partition in (Partition.DAY, Partition.CUT_OFF)
        columns.append(f"NULL::{'DATE' if day else 'VARCHAR'} AS {spec.partition}")
    return f"SELECT {', '.join(columns)} WHERE false"


def _current(root: Path, spec: TableSpec) -> str:
    """The rows of the table that are current, see the head of this module."""
    history = f"tunegraph.{spec.name}_history"
    if spec.name in ("tracks", "audio_features", "redirects"):
        newest = [f"arg_max({name}, dt) AS {name}" for name in spec.schema.names if name != "track_id"]
        return f"SELECT track_id, {', '.join(newest)}, max(dt) AS dt FROM {history} GROUP BY track_id"  # noqa: S608
    if spec.name in ("users", "observations"):
        newest_first = "PARTITION BY source, user_id ORDER BY dt DESC"
        return f"SELECT * FROM {history} QUALIFY row_number() OVER ({newest_first}) = 1"  # noqa: S608
    if spec.name == "likes":
        return f"SELECT * FROM {history} SEMI JOIN tunegraph.observations USING (source, user_id, dt)"  # noqa: S608
    if spec.name == "plays":
        whole = f"(SELECT source, max(dt) AS whole_on FROM {history} WHERE is_whole GROUP BY source)"  # noqa: S608
        known = f"SELECT said.* FROM {history} AS said LEFT JOIN {whole} USING (source)"  # noqa: S608
        return f"{known} WHERE whole_on IS NULL OR said.dt >= whole_on"
    folder = "catalogue" if spec.name == "catalogue" else _POINTERS.get(spec.partition)
    if folder is None:
        return f"SELECT * FROM {history}"  # noqa: S608
    pointer = f"{folder}/CURRENT"
    if not (root / pointer).exists():
        return f"SELECT * FROM {history} WHERE false"  # noqa: S608
    file = f"read_text(tunegraph.folder() || '{pointer}')"
    current = f"(SELECT trim(content, chr(10) || ' ') FROM {file})"  # noqa: S608
    return f"SELECT * FROM {history} WHERE CAST({spec.partition} AS VARCHAR) = {current}"  # noqa: S608


_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
}


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return _sql_type(kind.value_type) + "[]"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    return _SQL_TYPES[kind]


# --- the file ---


class OpenElsewhereError(LakeError):
    """Another program holds `lake.duckdb`."""


class ViewsError(LakeError):
    """`lake.duckdb` opens, but a view in it fails."""


def update_file(file: Path, root: Path, *, anew: bool = False) -> None:
    """Bring the views in ``file`` to the tables there are now, in place; all else in it stays as it is.

    It is written only if that changes a view, or to make them ``anew``. A database's own log makes that safe
    against a kill; a new file moved over an old one would not fit the log of a session that died. Raises
    LakeError where the file cannot be opened or written, OpenElsewhereError if another program has it open.
    """
    statements = view_statements(root)
    mark = _mark(statements)
    if file.exists() and not anew:
        with _opened(file, read_only=True) as connection:
            if _mark_of(connection) == mark:
                return
    with _opened(file) as connection:
        connection.execute("BEGIN")
        _make_views(connection, root, statements)
        connection.execute(f"COMMENT ON MACRO tunegraph.folder IS '{mark}'")
        connection.execute("COMMIT")


def check_file(file: Path) -> str | None:
    """Where an earlier version's views lie that still name a folder, the path of a file there; else None.

    Raises LakeError where the file cannot be opened, OpenElsewhereError if another program has it open, and
    ViewsError if its views fail.
    """
    import duckdb

    with _opened(file, read_only=True) as connection:
        if _mark_of(connection) is not None:
            try:
                connection.execute("SELECT * FROM tunegraph.track_ids LIMIT 1").fetchall()
            except duckdb.Error as error:
                raise ViewsError(f"{file} opens, but a view fails ({_first_line(error)})") from error
            return None
        named = connection.execute(
            "SELECT regexp_extract(sql, 'read_(?:parquet|text)\\(''((?:[^'']|'''')*)''', 1) AS path"
            " FROM duckdb_views() WHERE schema_name = 'tunegraph' ORDER BY path DESC LIMIT 1"
        ).fetchone()
        return str(named[0]).replace("''", "'") if named else ""


def log_of(file: Path) -> Path:
    """The log beside ``file`` of a session that is open, or died."""
    return file.with_name(f"{file.name}.wal")


def set_aside(file: Path) -> None:
    """Rename ``file`` and its log, so that a new one can be made and nothing a person kept in it is lost."""
    aside, number = file.with_name(f"{file.name}.unreadable"), 1
    while aside.exists():
        number += 1
        aside = file.with_name(f"{file.name}.unreadable-{number}")
    file.rename(aside)
    if log_of(file).exists():
        log_of(file).rename(log_of(aside))


@contextmanager
def _opened(file: Path, *, read_only: bool = False) -> Iterator["duckdb.DuckDBPyConnection"]:
    import duckdb

    try:
        with duckdb.connect(str(file), read_only=read_only) as connection:
            yield connection
    except duckdb.Error as error:
        what = _first_line(error)
        if "Could not set lock on file" in what:
            raise OpenElsewhereError(f"{file} is open in another program") from error
        raise LakeError(f"{file} cannot be opened or written ({what})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _mark(statements: list[str]) -> str:
    """Changes when a view does, or the columns that it was made with."""
    columns = [(spec.name, str(spec.schema)) for spec in TABLES.values()]
    return hashlib.blake2b(repr((statements, columns)).encode(), digest_size=8).hexdigest()


def _mark_of(connection: "duckdb.DuckDBPyConnection") -> str | None:
    """The mark that a file's views were made with; None for those of an earlier version, or for none."""
    found = connection.execute(
        "SELECT comment FROM duckdb_functions() WHERE schema_name = 'tunegraph' AND function_name = 'folder'"
    ).fetchone()
    return found[0] if found else None
