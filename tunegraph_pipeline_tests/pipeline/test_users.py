"""The users of a lake, before and after a refresh, and joining, separating and forgetting their ids."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import LEFT_OUT, RawBatch, empty_frame, prune_day, write_batch
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.deletion_requests import finish_requests, request
from tunegraph_pipeline.pipeline.forgetting import process_requests
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.users import join_users, lake_users, matching_users
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline_tests.lake.test_aliases import CHAIN, receive, say
from tunegraph_pipeline_tests.search import places_with

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 1)
TODAY = DAY + timedelta(10)
OLD, NEW = "old-id-77aa", "new-id-88bb"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three days of imports, a crawl and feedback; nothing is refreshed yet."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, DAY, {OLD: "ab", "ana": "abc"})
    receive(lake, DAY + timedelta(1), {NEW: "c", "ana": "a"})
    met = [{"user_id": "found", "discovered_from": OLD, "depth": 1, "state": "found"}]
    found = pl.DataFrame(met, schema=empty_frame("users").schema)
    write_batch(lake.raw, DAY + timedelta(1), RawBatch("spotify", "crawl", users=found))
    say(lake, DAY + timedelta(2), OLD, "d", "like")
    say(lake, DAY + timedelta(2), "ana", "a", "dislike")
    return lake


def refresh(lake: Lake) -> None:
    for day in lake.stale_days():
        fill_day(lake, day)
    stage("current_likes").run(lake)


def rows(lake: Lake) -> dict[str, tuple[int, list[str], date | None, list[str]]]:
    return {row[0]: row[1:] for row in lake_users(lake, TODAY).iter_rows()}


def test_users_are_the_same_before_and_after_a_refresh(lake: Lake) -> None:
    before = rows(lake)
    assert before == {
        "ana": (0, ["feedback", "files"], DAY + timedelta(1), []),
        "found": (0, ["spotify"], None, []),
        NEW: (1, ["files"], DAY + timedelta(1), []),
        OLD: (3, ["feedback", "files"], DAY, []),
    }
    assert lake.partitions("users") == []
    refresh(lake)
    assert rows(lake) == before
    join_users(lake, [(OLD, NEW)], TODAY)
    joined = rows(lake)
    assert joined[NEW] == (2, ["feedback", "files"], DAY + timedelta(1), [OLD])
    assert OLD not in joined
    refresh(lake)
    assert rows(lake) == joined


def test_an_empty_lake_has_no_users(tmp_path: Path) -> None:
    assert rows(Lake.open_or_create(tmp_path / "lake")) == {}


def test_days_to_come_do_not_count_yet(lake: Lake) -> None:
    receive(lake, TODAY + timedelta(1), {"late": "a", "ana": "abcdef"})
    assert "late" not in rows(lake)
    assert rows(lake)["ana"][0] == 0


def test_searching_and_sorting(lake: Lake) -> None:
    join_users(lake, [(OLD, NEW)], TODAY)
    users = lake_users(lake, TODAY)
    assert users["user_id"].to_list() == ["ana", "found", NEW]
    assert matching_users(users, "OLD-")["user_id"].to_list() == [NEW]
    assert matching_users(users, "n")["user_id"].to_list() == ["ana", "found", NEW]
    assert matching_users(users, "n.*")["user_id"].to_list() == []
    assert matching_users(users, "", by_likes=True)["user_id"].to_list() == [NEW, "ana", "found"]


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        (("", NEW), "is empty"),
        ((OLD, " "), "is empty"),
        ((OLD, OLD), "alias of itself"),
        (("gone", NEW), "'gone' was forgotten"),
        ((OLD, "gone"), "'gone' was forgotten"),
    ],
)
def test_a_pair_that_is_refused_changes_nothing(lake: Lake, pair: tuple[str, str], why: str) -> None:
    Tombstones().with_users(["gone"]).write(lake.root)
    with pytest.raises(InputError, match=why):
        join_users(lake, [("ana", NEW), pair], TODAY)
    assert not lake.aliases.exists()


def test_pairs_of_one_command_may_not_lead_in_a_circle(lake: Lake) -> None:
    with pytest.raises(InputError, match="already counts as"):
        join_users(lake, [("a", "b"), ("b", "c"), ("c", "a")], TODAY)


def test_unknown_ids_are_told_and_joined(lake: Lake) -> None:
    assert join_users(lake, [(OLD, NEW)], TODAY) == [f"{OLD!r} counts as {NEW!r}"]
    assert join_users(lake, [("x", "y"), (NEW, "ana")], TODAY) == [
        "'x' counts as 'y'",
        "the lake has not met 'x' or 'y' yet; check the spelling",
        f"{NEW!r} counts as 'ana'",
    ]
    receive(lake, DAY + timedelta(3), {"x": "ab"})
    assert rows(lake)["y"] == (2, ["files"], DAY + timedelta(3), ["x"])


def test_separating_makes_a_user_of_its_own_again(lake: Lake) -> None:
    before = rows(lake)
    join_users(lake, [(OLD, NEW)], TODAY)
    refresh(lake)
    with pytest.raises(InputError, match="'ana' is not an alias"):
        join_users(lake, [], TODAY, separate=["ana"])
    assert join_users(lake, [(OLD, "ana")], TODAY, separate=[OLD]) == [
        f"{OLD!r} is a user of its own again",
        f"{OLD!r} counts as 'ana'",
    ]
    join_users(lake, [], TODAY, separate=[OLD])
    refresh(lake)
    assert rows(lake) == before


def test_days_without_raw_batches_stay_joined(lake: Lake) -> None:
    refresh(lake)
    prune_day(lake.raw, DAY)
    join_users(lake, [(OLD, NEW)], TODAY)
    refresh(lake)
    lines = join_users(lake, [], TODAY, separate=[OLD])
    assert lines[-1] == "days whose raw batches were pruned stay as they are"
    refresh(lake)
    assert lake.read("users", DAY.isoformat())["user_id"].to_list() == ["ana", NEW]
    assert rows(lake)[OLD] == (1, ["feedback"], None, [])


@pytest.mark.parametrize(
    ("asked", "refreshed", "pruned"),
    [
        # Every two of them together; in the nightly run, all three.
        *[(OLD, False, False), (OLD, True, True), (NEW, False, True), (NEW, True, False)],
        pytest.param(NEW, False, False, marks=pytest.mark.nightly),
        pytest.param(NEW, True, True, marks=pytest.mark.nightly),
        pytest.param(OLD, False, True, marks=pytest.mark.nightly),
        pytest.param(OLD, True, False, marks=pytest.mark.nightly),
    ],
)
def test_forgetting_one_id_forgets_the_person(lake: Lake, asked: str, refreshed: bool, pruned: bool) -> None:
    refresh(lake)
    if pruned:
        prune_day(lake.raw, DAY)
    join_users(lake, [(OLD, NEW), ("x", "y")], TODAY)
    if refreshed:
        refresh(lake)
    request(lake, [asked])
    purged = process_requests(lake)
    assert purged is not None
    assert (purged.users, purged.known, purged.counts["aliases"]) == (1, 1, 1)
    finish_requests(lake)
    assert places_with(lake.root, OLD) == places_with(lake.root, NEW) == []
    assert Aliases.of(lake.root).links == {"x": "y"}
    assert lake.stale_days() == []
    again = pl.DataFrame([{"user_id": OLD, "track_id": "a"}], schema=empty_frame("likes").schema)
    info = write_batch(lake.raw, TODAY, RawBatch("files", "again", likes=again))
    assert info.counts == {LEFT_OUT: 1}
    with pytest.raises(InputError, match="was forgotten"):
        join_users(lake, [(OLD, "ana")], TODAY)


def test_an_interrupted_forgetting_still_finds_all_ids(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(lake)
    join_users(lake, [(OLD, NEW)], TODAY)
    request(lake, [NEW])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tunegraph_pipeline.pipeline.forgetting._remove_from_settings", killed)
        process_requests(lake)
    process_requests(lake)
    finish_requests(lake)
    assert places_with(lake.root, OLD) == places_with(lake.root, NEW) == []


def test_verify_knows_the_file_and_days_that_wait_for_it(lake: Lake) -> None:
    refresh(lake)
    prune_day(lake.raw, DAY)
    CHAIN.joined(OLD, "old").write(lake.root)
    found = verify(lake.root)
    assert not found.problems
    waiting = {note.file.split("/")[1] for note in found.notes if "aliases" in note.what}
    assert waiting == {f"dt={DAY}", f"dt={DAY + timedelta(1)}", f"dt={DAY + timedelta(2)}"}
    lake.aliases.write_text("[")
    (problem,) = verify(lake.root).problems
    assert problem.file == "aliases.json"
    assert "restore it from a backup" in problem.repairs
