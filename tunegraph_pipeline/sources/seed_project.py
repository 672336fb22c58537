"""Read the files of the 2022 seed project, which need one another.

Here: ``user_like.json``, ``id_map.json`` and ``id_map.csv`` of one folder as one reading. Not here: any other
format (`read_file`).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.content import as_utf8, parse_json, read_content
from tunegraph_pipeline.sources.delimited_text import Cut, cut_lines, sample_lines, text_table, usual_width
from tunegraph_pipeline.sources.formats import BY_NAME, SEED_FILES
from tunegraph_pipeline.sources.names import shown
from tunegraph_pipeline.sources.reading import Reading
from tunegraph_pipeline.sources.rows import Table

_SEED = BY_NAME["seed"]


def read_seed(paths: Sequence[Path]) -> Reading:
    """The reading of the seed project's files, each optional, except that the last two need each other.

    ``user_like.json`` is {user: [track, ...], or null if the request failed}, ``id_map.json`` {track: its row
    in ``id_map.csv``}, which has the 11 features and no header. Raises InputError if one of a pair is
    missing, or if they do not match.
    """
    by_name = {path.name: path for path in paths}
    maps = [by_name.pop(name, None) for name in SEED_FILES[1:]]
    reading = Reading(_SEED, [], _SEED.seen_by)
    for path in by_name.values():
        _read_likes(path, reading)
    if maps[0] and maps[1]:
        _read_features(maps[0], maps[1], reading)
    elif maps[0] or maps[1]:
        missing = SEED_FILES[2] if maps[0] else SEED_FILES[1]
        raise InputError(f"{maps[0] or maps[1]} needs {missing} beside it; give both, or their folder")
    return reading


def _read_likes(path: Path, reading: Reading) -> None:
    lists = parse_json(read_content(path).data, str(path))
    if not isinstance(lists, dict):
        raise InputError(f"{path} must be one JSON object, {{user: [track, ...]}}")
    for user, tracks in lists.items():
        if tracks is not None and not isinstance(tracks, list):
            raise InputError(f"{path}: user {shown([user])} has no list of tracks; write a list, or null")
        (reading.failed if tracks is None else reading.seen_whole).append(user)
    pairs = [(user, _string(track)) for user in reading.seen_whole for track in lists[user]]
    frame = pl.DataFrame(pairs, schema={"user_id": pl.String, "track_id": pl.String}, orient="row")
    reading.tables.append(Table(frame, "likes"))


def _read_features(map_path: Path, table_path: Path, reading: Reading) -> None:
    rows = parse_json(read_content(map_path).data, str(map_path))
    data = as_utf8(read_content(table_path).data, str(table_path)).data
    width, _ = usual_width(cut_lines(sample_lines(data), ","))
    if width != len(AUDIO_FEATURES):
        raise InputError(
            f"{table_path} has {width} columns; it has to have the 11 features, without a header"
        )
    table = text_table(data, str(table_path), Cut(",", False, list(AUDIO_FEATURES)))
    features = table.load(table.names, ())
    if table.counts:
        # A row that is skipped would move every row after it to another song.
        raise InputError(f"{table_path} has rows without the 11 columns; {map_path.name} no longer fits it")
    if not isinstance(rows, dict):
        raise InputError(f"{map_path} must be one JSON object, {{track: row number}}")
    for track, row in rows.items():
        if not re.fullmatch(r"\d+", str(row)) or int(row) >= len(features):
            raise InputError(
                f"{map_path}: track {shown([track])} points at row {row!r}; {table_path.name} has rows 0 to "
                f"{len(features) - 1}"
            )
    picked = features[[int(row) for row in rows.values()]]
    picked = picked.with_columns(pl.Series("track_id", list(rows), dtype=pl.String))
    reading.tables.append(Table(picked, "catalogue"))


def _string(value: object) -> str | None:
    """A JSON id or name as text; None for what is neither text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
