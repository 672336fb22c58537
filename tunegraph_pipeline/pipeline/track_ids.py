"""The id map of a lake: every track that is liked or described gets a matrix row, and keeps it.

Here: which ids of a lake must be in the map, reading and writing it. Not here: how the map grows
(`graph.id_map`), or what is known of a track (`catalogue`).
"""

from datetime import date

import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.id_map import extend_track_ids
from tunegraph_pipeline.lake.lake import Lake, digest_of_texts
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured
from tunegraph_pipeline.recommend.publication import live_version
from tunegraph_pipeline.sources.recording_archives import KnownSongs


def run(lake: Lake) -> StageResult:
    """Extend `track_ids` to the current cut-off. Raises LakeError where the map of a live bundle is lost."""
    if not lake.has_table("track_ids") and (live := live_version(lake.serving)) is not None:
        raise LakeError(
            f"{lake.folder('track_ids')} has no file, but live bundle {live} uses its numbers;"
            " `tunegraph verify --repair` restores it"
        )
    with Measured() as cost:
        cut_off = current_cut_off(lake)
        blocks = lake.read_in_blocks("current_likes", cut_off.isoformat(), ["track_id"])
        seen = pl.concat(
            [
                *(likes["track_id"].unique() for likes in blocks),
                *(
                    lake.read(table, day, ["track_id"])["track_id"]
                    for table in ("tracks", "audio_features")
                    for day in lake.days_until(table, cut_off)
                ),
            ]
        )
        known = known_track_ids(lake)
        ids = extend_track_ids(known, seen)
        if len(ids) > len(known) or not lake.row_count("track_ids"):
            write_track_ids(lake, ids)
    return StageResult(None, None, cost, rows=len(ids), facts={"new tracks": len(ids) - len(known)})


def write_track_ids(lake: Lake, ids: pl.Series) -> None:
    """Write the id map; position is track_idx."""
    rows = pl.DataFrame({"track_idx": pl.arange(len(ids), dtype=pl.Int32, eager=True), "track_id": ids})
    lake.write("track_ids", None, rows, digest_of_texts(ids))


def songs_of(lake: Lake) -> KnownSongs:
    """All songs that a lake knows, also those received since its last refresh, and all redirects."""
    batches = [batch for day in lake.stale_days() for batch in lake.batches(day)]
    received = [
        batch.read(part, ["track_id"])["track_id"]
        for batch in batches
        for part in ("likes", "tracks", "features", "feedback")
    ]
    columns = ["track_id", "recording_id"]
    redirects = [lake.read("redirects", day, columns) for day in lake.partitions("redirects")]
    redirects += [batch.read("redirects", columns) for batch in batches]
    return KnownSongs(
        pl.concat([known_track_ids(lake), *received]).unique(),
        pl.concat([empty_frame("redirects"), *redirects]).unique(),
    )


def current_cut_off(lake: Lake) -> date:
    """The cut-off of the current lists, and so of every stage after them."""
    return date.fromisoformat(lake.current_version("current_likes"))


def known_track_ids(lake: Lake) -> pl.Series:
    """The id map, empty before the first refresh: position is track_idx."""
    if not lake.row_count("track_ids"):
        return pl.Series("track_id", [], dtype=pl.String)
    return lake.read("track_ids")["track_id"]
