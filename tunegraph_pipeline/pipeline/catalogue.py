"""The catalogue: one row for every track of the id map, with all that is known of it as of the cut-off.

Here: building, updating and reading the table `catalogue`. Not here: what one day says of a track
(`lake.tables`), or which ids are one recording (`graph.recordings`).

Row i is the track with track_idx i. A column holds what is known under that very id, the newest value first;
`described` fills gaps from the other ids of the recording.
"""

import json
from collections.abc import Collection
from datetime import date
from typing import Any, NamedTuple

import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.recordings import (
    MAX_IDS,
    Recordings,
    all_apart,
    find_recordings,
    known_under_any_id,
)
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES, JOINED_BY, TABLES, JoinedBy
from tunegraph_pipeline.lake.tables import empty_table, latest_known
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.stage_result import How, StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.stale_versions import prune_cut_offs
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.progress import Measured, report_note

NAME = "catalogue"
PARTS = ("tracks", "audio_features")
"""The daily tables that describe tracks."""
REDIRECTS = "redirects"
"""The daily table of MusicBrainz ids that stand for others."""
_OF_MAP = ("track_idx", "recording", "joined_by")
"""The columns that are of the id map, and not known of a song."""
_COUNTED = {
    "a title": ("name",),
    "artists": ("artists",),
    "ids of artists": ("artist_ids",),
    "an album": ("album", "album_id"),
    "a year": ("year",),
    "a genre": ("genre",),
    "audio features": AUDIO_FEATURES,
}
"""What may be known of a track, and the columns of which one has to be known for it."""


def build_catalogue(
    track_ids: pl.Series,
    tracks: pl.DataFrame,
    features: pl.DataFrame,
    redirects: pl.DataFrame | None = None,
    *,
    merge: bool = True,
    join_by: Collection[JoinedBy] = JOINED_BY,
) -> tuple[pl.DataFrame, Recordings]:
    """Line up what is known of tracks with the id map ``track_ids``, whose positions are track_idx.

    ``tracks`` and ``features`` have the columns of `tracks` and `audio_features`, or some of them, one row a
    track in any order; tracks that the id map lacks are left out. With ``merge``, ids of one recording are
    merged, as `graph.recordings.find_recordings` finds them by ``redirects`` and ``join_by``.
    """
    recordings = (
        find_recordings(track_ids, tracks, redirects, join_by=join_by) if merge else all_apart(len(track_ids))
    )
    rows = pl.DataFrame(
        {
            "track_idx": pl.arange(len(track_ids), dtype=pl.Int32, eager=True),
            "track_id": track_ids.cast(pl.String),
            "recording": recordings.canonical,
            "joined_by": recordings.joined_by,
        }
    )
    for table, part in zip(PARTS, (tracks, features), strict=True):
        declared = empty_table(table)
        whole = pl.concat([declared, part], how="diagonal_relaxed").cast(declared.schema)
        rows = rows.join(whole, on="track_id", how="left", maintain_order="left")
    return rows.select(TABLES[NAME].schema.names), recordings


def described(catalogue: pl.DataFrame) -> pl.DataFrame:
    """The catalogue with what one id lacks taken from the other ids of its recording."""
    columns = [name for name in catalogue.columns if name not in _OF_MAP]
    known = known_under_any_id(
        catalogue["track_id"], catalogue["recording"].to_numpy(), catalogue.select(columns)
    )
    return catalogue.select(_OF_MAP).with_columns(known)


def known_counts(catalogue: pl.DataFrame) -> dict[str, int]:
    """Of how many tracks each thing is known under their own id, for people."""
    return {
        f"tracks with {what}": int(
            catalogue.select(pl.any_horizontal(pl.col(columns).is_not_null()).sum()).item()
        )
        for what, columns in _COUNTED.items()
    }


def read_catalogue(lake: Lake) -> pl.DataFrame:
    """The catalogue as of the current cut-off. Raises LakeError where a refresh has to build it first."""
    key = current_cut_off(lake).isoformat()
    if not lake.has_current(NAME) or lake.current_version(NAME) != key:
        raise LakeError(f"{lake.name} has no catalogue of {key} yet; run `tunegraph refresh --source none`")
    return lake.read(NAME, key)


def rebuilt_catalogue(lake: Lake, cut_off: date) -> pl.DataFrame:
    """The catalogue of a cut-off, built from the daily tables."""
    known = [lake.known_tracks(table, cut_off) for table in PARTS]
    redirects = lake.known_tracks(REDIRECTS, cut_off)
    ids, rules = known_track_ids(lake), lake.section("graph", GraphSettings)
    return build_catalogue(
        ids, known[0], known[1], redirects, merge=rules.merge_recordings, join_by=rules.join_by
    )[0]


def run(lake: Lake) -> StageResult:
    """Build or update the catalogue as of the current cut-off."""
    with Measured() as cost:
        cut_off = current_cut_off(lake)
        key = cut_off.isoformat()
        basis = _basis_of(lake, cut_off)
        how, made = _write_catalogue(lake, key, basis)
        lake.set_current(NAME, key)
        prune_cut_offs(lake, key)
    facts: dict[str, Any] = {"cut-off": key}
    if made is not None:
        rows, recordings = made
        merged = recordings.facts()
        facts |= known_counts(rows) | {
            "recordings with several ids": merged["recordings_merged"],
            "ids merged away": merged["ids_merged_away"],
            **{f"of these, joined by {stage}": merged[f"joined by {stage}"] for stage in JOINED_BY},
            f"ISRCs on more than {MAX_IDS} ids, not merged": merged["isrcs_on_too_many_ids"],
            **{
                f"keys by {stage} of which ids stay apart": merged[f"left apart by {stage}"]
                for stage in JOINED_BY
            },
        }
    licences = markdown_table(["data", "licence", "where"], map(list, lake.licences()), words=3)
    return StageResult(
        None, how, cost, rows=lake.row_count(NAME, key), facts=facts, tables={"licences": licences}
    )


class _Basis(NamedTuple):
    """What a catalogue was made of; ``days``: by daily table, the days with rows and their fingerprints."""

    code: int
    ids: str | None
    merge: bool
    join_by: list[JoinedBy]
    days: dict[str, dict[str, str]]

    def to_json(self) -> str:
        return json.dumps(self._asdict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None) -> "_Basis | None":
        try:
            return cls(**json.loads(text or ""))
        except (TypeError, ValueError):
            return None


def _basis_of(lake: Lake, cut_off: date) -> _Basis:
    days = {
        table: {
            day: lake.inputs_of(table, day) or ""
            for day in lake.days_until(table, cut_off)
            if lake.row_count(table, day)
        }
        for table in (*PARTS, REDIRECTS)
    }
    rules = lake.section("graph", GraphSettings)
    ids = lake.inputs_of("track_ids")
    return _Basis(stage(NAME).code, ids, rules.merge_recordings, list(rules.join_by), days)


def _write_catalogue(
    lake: Lake, key: str, basis: _Basis
) -> tuple[How, tuple[pl.DataFrame, Recordings] | None]:
    """Write the catalogue of ``key`` unless it is there; returns how, and unless reused what was written."""
    if lake.inputs_of(NAME, key) == basis.to_json():
        return "reused", None
    before = _catalogue_to_update(lake, basis)
    known = {}
    for table in PARTS:
        earlier = before[1].days[table] if before else {}
        frames = [lake.read(table, day) for day in sorted(basis.days[table]) if day not in earlier]
        if before is not None:
            frames.insert(0, before[0].select(empty_table(table).columns))
        known[table] = latest_known(frames) if frames else empty_table(table)
    rows, recordings = build_catalogue(
        known_track_ids(lake),
        known["tracks"],
        known["audio_features"],
        lake.known_tracks(REDIRECTS, date.fromisoformat(key)),
        merge=basis.merge,
        join_by=basis.join_by,
    )
    lake.write(NAME, key, rows, basis.to_json())
    return "rebuilt" if before is None else "updated", (rows, recordings)


def _catalogue_to_update(lake: Lake, basis: _Basis) -> tuple[pl.DataFrame, _Basis] | None:
    """The current catalogue and what it was made of, if only later days were added since; else None."""
    if not lake.has_current(NAME):
        return None
    key = lake.current_version(NAME)
    before = _Basis.from_json(lake.inputs_of(NAME, key))
    if before is None or before.code != basis.code:
        return None
    for table in PARTS:
        then, now = before.days.get(table, {}), basis.days[table]
        added = now.keys() - then.keys()
        if any(now.get(day) != inputs for day, inputs in then.items()):
            return None  # a day was filled again, or is gone
        if then and added and min(added) < max(then):
            return None  # an earlier day was added: its values must not replace newer ones
    try:
        return lake.read(NAME, key), before
    except LakeError as error:
        report_note(f"the catalogue is rebuilt: {error}")
        return None
