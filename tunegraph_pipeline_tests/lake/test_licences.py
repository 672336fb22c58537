"""Every lake says whose data it holds and under which licence, also after its raw batches are gone."""

import json
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.licences import ACOUSTICBRAINZ, Licence, licence_of
from tunegraph_pipeline.lake.raw import (
    BATCH,
    PRUNED,
    RawBatch,
    empty_frame,
    prune_day,
    read_batches,
    take_users_out,
    write_batch,
)
from tunegraph_pipeline.lake.schemas import DUMPS, FILES
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.pipeline.sources import PROVIDERS
from tunegraph_pipeline.pipeline.status import lake_status

DAY = date(2026, 9, 1)


def likes(*users: str) -> pl.DataFrame:
    rows = [{"user_id": user, "track_id": "a"} for user in users]
    return pl.DataFrame(rows, schema=empty_frame("likes").schema)


def make_lake(root: Path) -> Lake:
    """Two days: crawled likes, and an imported file of somebody and one with a licence of its own."""
    lake = Lake.open_or_create(root)
    tracks = pl.DataFrame([{"track_id": "a", "year": 1997}], schema=empty_frame("tracks").schema)
    write_batch(lake.raw, DAY, RawBatch("listenbrainz", "a crawl", likes=likes("ann")))
    next_day = DAY + timedelta(days=1)
    write_batch(lake.raw, next_day, RawBatch(FILES, "x.csv", likes=likes("ben", "cy")))
    write_batch(lake.raw, next_day, RawBatch(FILES, "x.tar.zst", tracks=tracks, licence=ACOUSTICBRAINZ))
    return lake


def test_a_lake_names_each_licence_once(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    assert lake.licences() == [ACOUSTICBRAINZ, licence_of("listenbrainz"), licence_of(FILES)]
    assert lake_status(lake)["licences"] == (
        "AcousticBrainz: CC0-1.0; ListenBrainz: CC0-1.0; imported files: as the owner of each file says"
    )
    assert "licences" not in lake_status(Lake.open_or_create(tmp_path / "new"))


def test_every_source_has_terms() -> None:
    for source in PROVIDERS:
        assert licence_of(source).terms != "not known", source
    assert licence_of(DUMPS) == licence_of("listenbrainz")


def test_the_licence_is_written_beside_the_data_and_stays_when_somebody_is_forgotten(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    for batch in read_batches(lake.raw, DAY + timedelta(days=1)):
        written = read_json((batch.folder / BATCH).read_bytes())["licence"]
        assert Licence(*written) == batch.licence
        take_users_out(batch, DAY + timedelta(days=1), ["ben"])
    assert len(lake.licences()) == 3


def test_licences_are_known_of_pruned_days_and_of_earlier_versions(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    before = lake.licences()
    for day in lake.raw_days():
        fill_day(lake, day)
        prune_day(lake.raw, day)
    assert lake.licences() == before
    # An earlier version said how many batches there were, and no more.
    for day in lake.raw_days():
        (lake.raw / f"dt={day}" / PRUNED).write_text(sealed_json(json.dumps({"batches": 1})))
    assert lake.licences() == [licence_of("listenbrainz"), licence_of(FILES)]


def test_a_batch_of_an_earlier_version_has_the_licence_of_its_source(tmp_path: Path) -> None:
    lake = make_lake(tmp_path / "lake")
    (batch,) = read_batches(lake.raw, DAY)
    facts = read_json((batch.folder / BATCH).read_bytes())
    del facts["licence"]
    (batch.folder / BATCH).write_text(sealed_json(json.dumps(facts)))
    assert licence_of("listenbrainz") in lake.licences()
