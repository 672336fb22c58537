"""Fingerprints of what a daily table is derived from: the raw batches of its day, and aliases.

Here: which batches and aliases count for which table. Not here: the batches themselves (`raw`), or deriving
a table (`tables`).
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from tunegraph_pipeline.errors import LakeError, check_shortage
from tunegraph_pipeline.lake.aliases import NO_ALIASES, Aliases, id_columns
from tunegraph_pipeline.lake.id_forms import has_other_forms
from tunegraph_pipeline.lake.parquet import UNREADABLE
from tunegraph_pipeline.lake.raw import PARTS_OF_PEOPLE, BatchInfo, read_info
from tunegraph_pipeline.lake.schemas import RAW_SCHEMAS

_NAMING = {
    "users": PARTS_OF_PEOPLE,
    "observations": ("users", "likes"),
    "likes": ("users", "likes"),
    "feedback": ("feedback",),
    "plays": ("plays",),
}
"""By daily table, the parts whose user ids it takes over; the other tables have none."""
_APART = {"feedback", "plays", "redirects"}
"""The parts that say nothing about lists and tracks, and are daily tables of their own."""


def day_fingerprint(batches: list[BatchInfo], table: str, aliases: Aliases = NO_ALIASES) -> str:
    """The fingerprint of what a daily table is derived from: equal fingerprints of a day, equal tables. Only
    aliases that the batches name change it, and ids that have to be composed.

    A batch of feedback, plays or redirects alone says nothing about lists and tracks, and the other way
    round: they must not look like a changed list, for which a model would be trained again.
    """
    batches = [batch for batch in batches if _says_of(table, {*batch.rows})]
    text = ",".join(f"{batch.source}-{aliased_id(batch, table, aliases)}" for batch in batches)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _says_of(table: str, parts: set[str]) -> bool:
    """Whether a batch with these parts counts for a daily table."""
    if table in _APART:
        return table in parts
    if table in ("likes", "observations") and "plays" in parts:
        return bool(parts & {"users", "likes"})
    return table == "users" or not parts or not parts <= _APART


def aliased_id(batch: BatchInfo, table: str, aliases: Aliases) -> str:
    """The id of a batch, with a hash of the aliases that it names in what goes into ``table``, if any, and a
    mark if it has ids in other Unicode forms. Raises LakeError where a part cannot be read."""
    batch_id = batch.batch_id
    if not batch.ids_are_composed and _has_other_forms(batch.folder, tuple(batch.rows)):
        batch_id += "+NFC"
    parts = [part for part in _NAMING.get(table, ()) if aliases.links and batch.rows.get(part)]
    named = {
        alias for part in parts for alias in _named_aliases(batch.folder, part, frozenset(aliases.links))
    }
    if not named:
        return batch_id
    text = json.dumps([(alias, aliases.user_id(alias)) for alias in sorted(named)])
    return f"{batch_id}+{hashlib.blake2b(text.encode(), digest_size=10).hexdigest()}"


@lru_cache(maxsize=10_000)
def _named_aliases(folder: Path, part: str, aliases: frozenset[str]) -> set[str]:
    """Which of the aliases a part of a batch names. A folder is named by its content, so the answer stays."""
    info = read_info(folder)
    return {
        alias
        for column in id_columns(RAW_SCHEMAS[part].names)
        for alias in aliases.intersection(info.count_values(part, column))
    }


@lru_cache(maxsize=10_000)
def _has_other_forms(folder: Path, parts: tuple[str, ...]) -> bool:
    """Whether a batch of an earlier version has ids that are not composed."""
    try:
        return any(
            has_other_forms(folder / f"{part}.parquet", RAW_SCHEMAS[part].names)
            for part in parts
            if part in RAW_SCHEMAS
        )
    except UNREADABLE as error:
        check_shortage(error, f"cannot read {folder}")
        raise LakeError(
            f"{folder} cannot be read ({error}); remove it and import its origin again"
        ) from error
