"""An id is one id in every Unicode form, also in lakes that hold other forms from earlier versions."""

import json
from pathlib import Path
from unicodedata import normalize
from unittest import mock

import polars as pl
import pytest

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.ids import all_composed
from tunegraph_pipeline.lake import day_fingerprints, raw
from tunegraph_pipeline.lake import tables as tables_of_lake
from tunegraph_pipeline.lake.aliases import ALIASES, Aliases
from tunegraph_pipeline.lake.daily import Preview, fill_day
from tunegraph_pipeline.lake.feedback_spool import append, collect, users_among
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import BATCH, RawBatch, empty_frame, prune_day, write_batch
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.lake.tombstones import TOMBSTONES, Tombstones
from tunegraph_pipeline.pipeline.deletion_requests import finish_requests, request, withdraw
from tunegraph_pipeline.pipeline.forgetting import process_requests
from tunegraph_pipeline.pipeline.users import join_users, lake_users, matching_users, unknown_users
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.bundle import IdIndex
from tunegraph_pipeline.song_ids import clean_id, name_id
from tunegraph_pipeline_tests.lake.test_aliases import DAY, receive, say, tables
from tunegraph_pipeline_tests.search import places_with

ZOE, SONG = "zo\xeb", "caf\xe9"
ZOE_APART, SONG_APART = normalize("NFD", ZOE), normalize("NFD", SONG)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def received(lake: Lake, user: str, song: str) -> None:
    likes = pl.DataFrame(
        [{"user_id": who, "track_id": song} for who in (user, "ana")], schema=empty_frame("likes").schema
    )
    songs = pl.DataFrame([{"track_id": song, "name": "Song"}], schema=empty_frame("tracks").schema)
    write_batch(lake.raw, DAY, RawBatch("files", f"{user}.csv", likes=likes, tracks=songs))
    say(lake, DAY, user, song, "like")


@pytest.fixture
def earlier(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """As earlier versions wrote it: a user and a song in two forms, in batches that do not say so."""
    with monkeypatch.context() as before:
        before.setattr(raw, "compose_ids", lambda rows: rows)
        received(lake, ZOE_APART, SONG_APART)
        receive(lake, DAY, {ZOE: [SONG, "b"]})
        as_before(lake)
        day_fingerprints._has_other_forms.cache_clear()
        before.setattr(day_fingerprints, "_has_other_forms", lambda folder, parts: False)
        fill_day(lake, DAY)
    assert lake.read("likes", DAY.isoformat())["user_id"].to_list() == ["ana", ZOE_APART, ZOE, ZOE]
    return lake


def as_before(lake: Lake) -> None:
    for path in lake.raw.rglob(BATCH):
        facts = read_json(path.read_bytes())
        del facts["ids_are_composed"]
        path.write_text(json.dumps(facts))


def test_what_comes_in_has_one_form(lake: Lake) -> None:
    received(lake, ZOE_APART, SONG_APART)
    append(lake.root, "worker", ZOE_APART, [(SONG_APART, "like")], shown=[SONG_APART])
    assert users_among(lake, [ZOE]) == {ZOE}
    collect(lake)
    for info in lake.batches(DAY) + lake.batches(lake.raw_days()[-1]):
        for part in info.rows:
            assert not {ZOE_APART, SONG_APART} & set(map(str, info.read_as_written(part).to_series(0)))
    assert lake.batches(lake.raw_days()[-1])[0].read("feedback")["shown"].to_list() == [[SONG]]


@pytest.mark.parametrize("pruned", [False, True])
def test_a_day_of_an_earlier_version_is_composed_when_it_is_filled(earlier: Lake, *, pruned: bool) -> None:
    if pruned:
        prune_day(earlier.raw, DAY)
    assert earlier.stale_days() == [DAY]
    assert matching_users(lake_users(earlier, DAY), ZOE_APART)["user_id"].to_list() == [ZOE]
    coming = tables(Preview(earlier, DAY))
    fill_day(earlier, DAY)
    assert earlier.stale_days() == []
    assert tables(earlier) == coming
    likes = earlier.read("likes", DAY.isoformat()).select("user_id", "track_id").rows()
    assert likes == [("ana", SONG), (ZOE, "b"), (ZOE, SONG)]
    assert earlier.read("tracks", DAY.isoformat())["track_id"].to_list() == [SONG]
    assert earlier.read("feedback", DAY.isoformat()).select("user_id", "track_id").rows() == [(ZOE, SONG)]
    assert [found for found in verify(earlier.root).problems if "raw" in str(found)] == []


def test_a_day_of_an_earlier_version_without_such_ids_stays_as_it_is(lake: Lake) -> None:
    receive(lake, DAY, {"ana": "ab", ZOE: ["b", SONG]})
    fill_day(lake, DAY)
    as_before(lake)
    assert lake.stale_days() == []


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("asked", [ZOE, ZOE_APART])
def test_either_form_forgets_the_user_everywhere(earlier: Lake, asked: str, *, pruned: bool) -> None:
    if pruned:
        prune_day(earlier.raw, DAY)
    line = {"user_id": ZOE_APART, "track_id": "b", "action": "like"}
    spool = earlier.spool / DAY.isoformat() / "worker.jsonl"
    spool.parent.mkdir(parents=True)
    spool.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20] + "\n")
    assert unknown_users(earlier, [asked], DAY) == {}
    request(earlier, [asked])
    purged = process_requests(earlier)
    assert purged is not None
    assert (purged.users, purged.known, purged.counts["lines of feedback"]) == (1, 1, 2)
    finish_requests(earlier)
    assert places_with(earlier.root, ZOE) == places_with(earlier.root, ZOE_APART) == []
    assert earlier.read("likes", DAY.isoformat())["user_id"].to_list() == ["ana"]


def test_a_tombstone_of_an_earlier_version_buries_both_forms(lake: Lake) -> None:
    key = bytes(32)
    with mock.patch("tunegraph_pipeline.lake.tombstones.composed", lambda text: text):
        Tombstones(key).with_users([ZOE_APART]).write(lake.root)
    assert (lake.root / TOMBSTONES).exists()
    tombstones = Tombstones.of(lake.root)
    assert tombstones.buries_one(ZOE)
    assert tombstones.buries_one(ZOE_APART)
    assert tombstones.named_in(f"{ZOE} was here".encode())
    withdraw(lake, [ZOE])
    assert not Tombstones.of(lake.root).buries_one(ZOE_APART)


def test_aliases_join_people_not_forms(lake: Lake) -> None:
    """An earlier version needed an alias to make one user of two forms."""
    path = lake.root / ALIASES
    path.write_text(json.dumps({ZOE_APART: ZOE, "old " + ZOE_APART: ZOE_APART}))
    assert Aliases.of(lake.root).links == {"old " + ZOE: ZOE}
    assert join_users(lake, [("z", ZOE_APART)], DAY)[0] == f"'z' counts as {ZOE!r}"
    assert Aliases.of(lake.root).user_id("z") == ZOE
    path.write_text(json.dumps({ZOE_APART: "a", ZOE: "b"}))
    with pytest.raises(LakeError, match="joined to two ids"):
        Aliases.of(lake.root)


def test_a_bundle_finds_an_id_in_either_form_its_own_first() -> None:
    """A bundle of an earlier version has ids apart; one made since may keep the row of such an id, unused."""
    for index in (
        IdIndex.from_ids(["a", ZOE_APART]),
        IdIndex.from_ids([ZOE_APART, ZOE]),
        IdIndex.from_ids(["a", ZOE]),
    ):
        assert index.position(ZOE) == index.position(ZOE_APART) == 1
        assert index.find([ZOE, ZOE_APART, "x"]).tolist() == [1, 1, -1]


def test_a_list_of_ids_is_composed_but_for_what_would_be_there_twice() -> None:
    assert all_composed(["a", ZOE_APART]) == ["a", ZOE]
    assert all_composed([ZOE_APART, ZOE]) == [ZOE_APART, ZOE]


@pytest.mark.parametrize("name", [SONG, "≠≠", "が", "Ⅷ", "ﬁne", "Ångström"])
def test_the_id_of_a_name_is_clean_whatever_its_form(name: str) -> None:
    apart = normalize("NFD", name)
    made = name_id("Beyonce\u0301", apart)
    assert made == name_id("Beyoncé", name)
    assert made is not None
    assert clean_id(made) == made == clean_id(normalize("NFD", made))
    assert clean_id(apart) == clean_id(name)


def test_no_rows_have_no_other_forms(lake: Lake) -> None:
    lake.write("likes", DAY.isoformat(), empty_table("likes"))
    assert not lake.has_other_forms("likes", DAY.isoformat())
    assert not lake.has_other_forms("tracks", DAY.isoformat())


def test_what_this_version_wrote_of_a_pruned_day_is_not_read_to_know_its_form(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(lake, DAY, {"ana": "ab", ZOE: ["b", SONG]})
    fill_day(lake, DAY)
    prune_day(lake.raw, DAY)
    monkeypatch.setattr(tables_of_lake, "has_other_forms", lambda *_: pytest.fail("it was read"))
    assert lake.stale_days() == []
