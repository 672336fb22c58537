"""Identity on a labelled set: ids of one recording are joined, and those of others are not.

The set is that of the invented dumps: recordings with their live, acoustic, remixed, instrumental, demo,
karaoke and cover versions, each written as MusicBrainz, clients and stores write it. Dumps have no lengths.
"""

from datetime import date

import polars as pl
import pytest

from tunegraph_pipeline.graph.recordings import find_recordings
from tunegraph_pipeline.simulator.dumps.songs import make_songs


def pairs(rows: pl.DataFrame, *columns: str) -> int:
    """How many pairs of rows agree in ``columns``."""
    sizes = rows.group_by(columns).len()["len"].cast(pl.Int64)
    return int((sizes * (sizes - 1) // 2).sum())


@pytest.mark.parametrize("with_lengths", [False, True])
def test_names_and_redirects_join_what_is_one_recording_and_nothing_else(with_lengths: bool) -> None:
    songs = make_songs(4_000, date(2026, 7, 1), 3, 0.74)
    truth = songs.truth
    tracks = truth.select(
        "track_id",
        isrc=pl.lit(None, pl.String),
        duration_ms=pl.col("duration_ms") if with_lengths else pl.lit(None, pl.Int64),
        name="recording_name",
        artists=pl.concat_list("artist_name"),
    )
    redirects = songs.redirects.select(track_id="recording_mbid", recording_id="canonical_recording_mbid")
    found = find_recordings(tracks["track_id"], tracks, redirects)
    rows = truth.with_columns(found=pl.Series(found.canonical))
    right = pairs(rows, "found", "recording")
    assert right / pairs(rows, "found") >= 0.995
    findable = rows.filter(pl.col("writing_kind") != "misspelled")
    assert pairs(findable, "found", "recording") / pairs(findable, "recording") >= 0.95
    assert right / pairs(rows, "recording") >= 0.9
