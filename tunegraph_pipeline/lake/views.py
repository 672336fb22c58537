"""The SQL views of a lake: schema ``tunegraph``, in which every table shows what is current.

Here: the statements that make them. Not here: the tables themselves (`tables`), or the file they are kept in
(`Lake.refresh_views`).

`tunegraph.NAME` shows what is current, `tunegraph.NAME_history` every partition that is kept:

- a table of a cut-off, such as ``current_likes``: the rows of the current cut-off;
- a table of a version, such as ``track_embeddings``: the rows of the current model or the live bundle;
- ``tracks`` and ``audio_features``: a row for each track, with the newest known value of every column;
- ``users`` and ``observations``: the newest row of each user and source;
- ``likes``: the newest list of each user from each source;
- ``feedback``, which never expires, and tables without partitions: every row.

What is current is looked up in the ``CURRENT`` files at each query, so views stay right while a refresh runs.
"""

from pathlib import Path

import pyarrow as pa

from tunegraph_pipeline.lake.schemas import TABLES, Partition, TableSpec

_POINTERS = {
    Partition.CUT_OFF: "current_likes/CURRENT",
    Partition.MODEL: "models/CURRENT",
    Partition.BUNDLE: "serving/CURRENT",
}
"""The file that says which partition is current, by how a table is partitioned."""


def view_statements(root: Path) -> list[str]:
    """SQL that makes schema ``tunegraph`` with two views of each table, typed and empty without a file."""
    statements = ["CREATE SCHEMA IF NOT EXISTS tunegraph"]
    for spec in TABLES.values():
        history = f"tunegraph.{spec.name}_history"
        statements.append(f"CREATE OR REPLACE VIEW {history} AS {_everything(root, spec)}")
    for spec in TABLES.values():
        statements.append(f"CREATE OR REPLACE VIEW tunegraph.{spec.name} AS {_current(root, spec)}")
    return statements


def _everything(root: Path, spec: TableSpec) -> str:
    """Every row of every partition, with the column of the partition."""
    pattern = "data.parquet" if spec.partition is Partition.NONE else f"{spec.partition}=*/data.parquet"
    if any((root / spec.name).glob(pattern)):
        files = _quoted(root / spec.name / pattern)
        return f"SELECT * FROM read_parquet({files}, hive_partitioning = true, union_by_name = true)"  # noqa: S608
    columns = [f"NULL::{_sql_type(column.type)} AS {column.name}" for column in spec.schema]
    if spec.partition.value not in (*spec.schema.names, Partition.NONE.value):
        day = spec.partition in (Partition.DAY, Partition.CUT_OFF)
        columns.append(f"NULL::{'DATE' if day else 'VARCHAR'} AS {spec.partition}")
    return f"SELECT {', '.join(columns)} WHERE false"


def _current(root: Path, spec: TableSpec) -> str:
    """The rows of the table that are current, see the head of this module."""
    history = f"tunegraph.{spec.name}_history"
    if spec.name in ("tracks", "audio_features"):
        newest = [f"arg_max({name}, dt) AS {name}" for name in spec.schema.names if name != "track_id"]
        return f"SELECT track_id, {', '.join(newest)}, max(dt) AS dt FROM {history} GROUP BY track_id"  # noqa: S608
    if spec.name in ("users", "observations"):
        newest_first = "PARTITION BY source, user_id ORDER BY dt DESC"
        return f"SELECT * FROM {history} QUALIFY row_number() OVER ({newest_first}) = 1"  # noqa: S608
    if spec.name == "likes":
        return f"SELECT * FROM {history} SEMI JOIN tunegraph.observations USING (source, user_id, dt)"  # noqa: S608
    pointer = "catalogue/CURRENT" if spec.name == "catalogue" else _POINTERS.get(spec.partition)
    if pointer is None:
        return f"SELECT * FROM {history}"  # noqa: S608
    if not (root / pointer).exists():
        return f"SELECT * FROM {history} WHERE false"  # noqa: S608
    current = f"(SELECT trim(content, chr(10) || ' ') FROM read_text({_quoted(root / pointer)}))"  # noqa: S608
    return f"SELECT * FROM {history} WHERE CAST({spec.partition} AS VARCHAR) = {current}"  # noqa: S608


def _quoted(path: Path) -> str:
    """A path as an SQL string."""
    return "'" + str(path).replace("'", "''") + "'"


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
