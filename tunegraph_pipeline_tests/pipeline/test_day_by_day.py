"""The lists, A and B of a lake that is refreshed day by day are those of a lake that is built at once."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph import co_like_update
from tunegraph_pipeline.graph.co_like import CoLike, co_like_bound, what_is_wrong
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.feedback_spool import append, collect
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import BatchInfo, RawBatch, empty_frame, remove_batch, write_batch
from tunegraph_pipeline.lake.tables import TableDraft
from tunegraph_pipeline.pipeline import current_likes
from tunegraph_pipeline.pipeline.current_likes import update_current_lists
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline_tests.conftest import examples

pytestmark = pytest.mark.slow

FIRST = date(2026, 2, 1)
GRAPH_STAGES = ("current_likes", "track_ids", "catalogue", "like_graph", "co_like_matrix")
"""The stages whose result is brought up to date, not made again."""


@pytest.fixture(autouse=True)
def _updates_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a lake of millions, though these have tens of likes."""
    monkeypatch.setattr(co_like_update, "_SMALL", 0)
    monkeypatch.setattr(co_like_update, "_DEARER", 0)


def receive(lake: Lake, day: int, lists: dict[str, Sequence[str]]) -> BatchInfo:
    rows = [
        {"user_id": user, "track_id": track, "liked_at": None}
        for user, tracks in lists.items()
        for track in tracks
    ]
    seen = [{"user_id": user, "discovered_from": None, "depth": 0, "state": "listed"} for user in lists]
    batch = RawBatch(
        "files",
        "test",
        users=pl.DataFrame(seen, schema=empty_frame("users").schema),
        likes=pl.DataFrame(rows, schema=empty_frame("likes").schema),
    )
    return write_batch(lake.raw, FIRST + timedelta(days=day), batch)


def refresh(lake: Lake, cut_off: date | None = None) -> dict[str, str]:
    """Fill what is stale, bring the graph to the cut-off, and say how each stage was made."""
    collect(lake)
    for day in lake.stale_days():
        fill_day(lake, day)
    made = {}
    for name in GRAPH_STAGES:
        options = {"cut_off": cut_off.isoformat()} if cut_off and name == "current_likes" else {}
        how = stage(name).run(lake, **options).how
        if how is not None:
            made[name] = str(how)
    return made


def by_track(lake: Lake) -> dict[str, dict[str, int]]:
    """B in words: how many users like both of two tracks."""
    B, ids = CoLike.open(lake.current_folder("co_like")), known_track_ids(lake).to_list()
    return {
        ids[track]: {ids[j]: int(n) for j, n in zip(*B.neighbours(track), strict=True)}
        for track in range(len(ids))
        if len(B.neighbours(track)[0])
    }


def liked(lake: Lake) -> dict[str, list[str]]:
    """A in words: what each user likes."""
    A, ids = open_like_graph(lake), known_track_ids(lake).to_list()
    users = A.user_ids.tolist()
    return {
        user: sorted(ids[track] for track in A.indices[A.indptr[row] : A.indptr[row + 1]])
        for row, user in enumerate(users)
    }


def same_content(lake: Lake, other: Lake) -> None:
    key = lake.current_version("current_likes")
    assert other.current_version("current_likes") == key
    for table in ("current_likes", "current_dislikes", "last_observations"):
        assert_frame_equal(lake.read(table, key), other.read(table, key))
    assert liked(lake) == liked(other)
    assert by_track(lake) == by_track(other)
    matrix = CoLike.open(lake.current_folder("co_like"))
    assert matrix.degrees.tolist() == open_like_graph(lake).track_degrees().tolist()


def twin(lake: Lake, folder: Path) -> Lake:
    """A lake that received the same, and made nothing of it yet."""
    other = Lake.open_or_create(folder)
    other.file = lake.file
    other.save()
    shutil.copytree(lake.raw, other.raw)
    Aliases.of(lake.root).write(other.root)
    return other


def random_day(rng: np.random.Generator) -> dict[str, Sequence[str]]:
    return {
        f"u{user}": [f"t{track:02d}" for track in rng.choice(15, rng.integers(0, 6), replace=False)]
        for user in rng.choice(9, rng.integers(0, 4), replace=False)
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("aliased", [False, True])
def test_any_days_in_any_order_end_with_what_is_built_at_once(
    seed: int, aliased: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {f"u{user}": [f"t{user}", f"t{user + 1}", "t0"] for user in range(2, 6)})
    assert set(refresh(lake).values()) == {"rebuilt"}
    for _ in range(3):
        day = int(rng.integers(0, 5))
        receive(lake, day, random_day(rng))
        if rng.random() < 0.4:
            at = datetime(2026, 2, 1 + int(rng.integers(5)), 9, tzinfo=UTC)
            append(lake.root, "w", f"u{rng.integers(9)}", [(f"t{rng.integers(9):02d}", "like")], at=at)
        if aliased:
            random_aliases(rng).write(lake.root)
        refresh(lake)
    other = twin(lake, tmp_path / "twin")
    refresh(other)
    same_content(lake, other)


@pytest.mark.parametrize("seed", range(examples(24)))
def test_whatever_ids_are_joined_the_lists_of_ranges_of_users_are_those_built_at_once(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(current_likes, "_ROWS_A_RANGE", (1, 4, 1000)[seed % 3])
        for _ in range(3):
            receive(lake, int(rng.integers(0, 3)), random_day(rng))
            at = datetime(2026, 2, 1 + int(rng.integers(3)), 9, tzinfo=UTC)
            what = ("like", "dislike")[rng.integers(2)]
            append(lake.root, "w", f"u{rng.integers(9)}", [(f"t{rng.integers(15):02d}", what)], at=at)
            random_aliases(rng).write(lake.root)
            lists_only(lake)
    other = twin(lake, tmp_path / "twin")
    lists_only(other)
    key = lake.current_version("current_likes")
    for table in ("current_likes", "current_dislikes", "last_observations"):
        assert_frame_equal(lake.read(table, key), other.read(table, key))
    assert lake.inputs_of("current_likes", key) == other.inputs_of("current_likes", key)


def lists_only(lake: Lake) -> None:
    collect(lake)
    for day in lake.stale_days():
        fill_day(lake, day)
    stage("current_likes").run(lake)


def random_aliases(rng: np.random.Generator) -> Aliases:
    """Some of the users of `random_day` joined to another one, perhaps by a chain."""
    users = [f"u{user}" for user in rng.permutation(9)[: rng.integers(0, 5)]]
    return Aliases(dict(itertools.pairwise(users)))


def test_joining_updates_lists_and_graph_and_separating_undoes_it(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"old": "ab", "new": "bc", "ana": "ab"})
    receive(lake, 1, {"ben": "ad"})
    refresh(lake)
    before = liked(lake), by_track(lake)

    Aliases({"old": "new"}).write(lake.root)
    assert lake.stale_days() == [FIRST]
    assert "rebuilt" not in refresh(lake).values()
    assert liked(lake) == {"ana": ["a", "b"], "ben": ["a", "d"], "new": ["a", "b", "c"]}
    receive(lake, 2, {"old": "d"})  # a later list replaces it, under whichever id
    refresh(lake)
    assert liked(lake)["new"] == ["d"]

    Aliases().write(lake.root)
    refresh(lake)
    assert liked(lake)["old"] == ["d"]
    refresh(lake, FIRST + timedelta(1))
    assert (liked(lake), by_track(lake)) == before


def test_a_day_brings_up_to_date_and_a_day_without_changes_keeps(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab", "ben": "abc", "cho": "cd"})
    refresh(lake)
    content = ArrayFolder.open(lake.current_folder("like_graph")).facts["content"]

    receive(lake, 1, {"ana": "ab"})  # seen again, with the same list
    made = refresh(lake)
    assert made == {
        "current_likes": "updated",
        "catalogue": "updated",
        "like_graph": "updated",
        "co_like_matrix": "updated",
    }
    assert lake.read("changed_users", lake.current_version("current_likes")).is_empty()
    assert ArrayFolder.open(lake.current_folder("like_graph")).facts["content"] == content

    receive(lake, 2, {"ben": "", "dan": "ae"})
    assert set(refresh(lake).values()) == {"updated"}
    changed = lake.read("changed_users", lake.current_version("current_likes"))
    assert changed["user_id"].to_list() == ["ben", "dan"]
    assert liked(lake) == {"ana": ["a", "b"], "cho": ["c", "d"], "dan": ["a", "e"]}
    assert by_track(lake) == {
        "a": {"b": 1, "e": 1},
        "b": {"a": 1},
        "c": {"d": 1},
        "d": {"c": 1},
        "e": {"a": 1},
    }
    assert set(refresh(lake).values()) == {"reused"}


def test_after_the_days_of_a_base_it_is_built_anew(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("graph", {"refreeze_days": 3})
    receive(lake, 0, {"ana": "ab", "ben": "abc"})
    refresh(lake)
    for day, how in ((2, "updated"), (3, "rebuilt")):
        receive(lake, day, {"ana": "abd"[: day + 1]})
        assert refresh(lake)["co_like_matrix"] == how


def test_what_was_added_is_merged_once_it_is_a_share_of_the_base(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("graph", {"delta_share": 0.01})
    receive(lake, 0, {"ana": "ab", "ben": "abc"})
    refresh(lake)
    bases = []
    for day in (1, 2):
        receive(lake, day, {"cho": "ad", "dan": "abcd"[: day + 1]})
        assert refresh(lake)["co_like_matrix"] == "updated"
        bases.append(CoLike.open(lake.current_folder("co_like")).facts["nnz"])
    assert bases == [6, 8]  # before the second update the pair of a and d was merged into the base


def test_the_day_on_which_b_grows_too_large_and_the_day_on_which_it_fits_again(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("graph", {"max_exact_entries": 20})
    days = [
        ("ab", "rebuilt", True),
        ("abd", "updated", True),
        ("abcdefgh", "rebuilt", False),
        ("ab", "rebuilt", True),
    ]
    for day, (liked_by_cho, how, exact) in enumerate(days):
        receive(lake, day, {"ana": "ab", "ben": "abc", "cho": liked_by_cho})
        assert refresh(lake)["co_like_matrix"] == how
        matrix = CoLike.open(lake.current_folder("co_like"))
        assert matrix.exact == exact
        assert matrix.facts["nnz_bound"] == co_like_bound(open_like_graph(lake).matrix())


def test_a_long_list_counts_in_part_and_an_updated_matrix_equals_a_rebuilt_one(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("graph", {"longest_list": 3})
    for day, liked_by_cho in enumerate(("ab", "abcdefgh", "abcdefghi")):
        receive(lake, day, {"ana": "ab", "ben": "abc", "cho": liked_by_cho})
        assert refresh(lake)["co_like_matrix"] == ("updated" if day else "rebuilt")
        matrix = CoLike.open(lake.current_folder("co_like"))
        graph = open_like_graph(lake)
        assert graph.matrix().nnz == 5 + len(liked_by_cho)
        assert (matrix.facts["n_likes"], matrix.facts["shortened"]) == (
            5 + min(len(liked_by_cho), 3),
            day > 0,
        )
        assert what_is_wrong(matrix, graph.shortened(3).matrix()) is None


@pytest.mark.parametrize("table", ["current_likes", "changed_users", "last_observations"])
def test_a_damaged_table_is_made_from_nothing(tmp_path: Path, table: str) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab", "ben": "abc"})
    refresh(lake)
    lake.table_path(table, lake.current_version("current_likes")).write_bytes(b"PAR1 garbage")
    receive(lake, 1, {"cho": "ad"})

    assert refresh(lake)["current_likes"] == "rebuilt"
    other = twin(lake, tmp_path / "twin")
    refresh(other)
    same_content(lake, other)


def test_a_graph_that_fell_behind_is_built_from_nothing(tmp_path: Path) -> None:
    """As after a run that was killed between the lists and the graph, twice."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab", "ben": "abc"})
    refresh(lake)
    behind = lake.current_version("like_graph")
    for day in (1, 2):
        receive(lake, day, {"cho": "ad"[:day], "ana": "b" * (day == 1)})
        lake.set_current("like_graph", behind)
        made = refresh(lake)
        if day == 1:
            lake.set_current("like_graph", behind)
    assert made["current_likes"] == "updated"
    assert made["like_graph"] == "rebuilt"
    other = twin(lake, tmp_path / "twin")
    refresh(other)
    same_content(lake, other)


def test_lists_that_a_kill_left_half_written_are_made_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a batch was received by mistake, and removed after the refresh that took it in was killed."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab", "ben": "abc"})
    refresh(lake)
    mistaken = receive(lake, 0, {"cho": "xyz"})

    draft = Lake.draft

    @contextmanager
    def killed(lake: Lake, table: str, key: str) -> Iterator[TableDraft]:
        with draft(lake, table, key) as rows:
            yield rows
            if table == "current_dislikes":
                raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lake, "draft", killed)
        fill_day(lake, FIRST)
        update_current_lists(lake, FIRST, merge_recordings=True)
    remove_batch(mistaken)
    assert refresh(lake)["current_likes"] == "rebuilt"
    assert liked(lake) == {"ana": ["a", "b"], "ben": ["a", "b", "c"]}


def test_feedback_that_was_removed_by_hand_is_gone_though_as_much_came_after_it(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab", "ben": "abc"})
    at = datetime(FIRST.year, FIRST.month, FIRST.day, 12, tzinfo=UTC)
    append(lake.root, "w", "ana", [("c", "like")], at=at)
    collect(lake)
    refresh(lake)
    assert liked(lake)["ana"] == ["a", "b", "c"]
    (said,) = (batch for batch in lake.batches(FIRST) if batch.rows.get("feedback"))
    remove_batch(said)
    append(lake.root, "w", "ben", [("d", "like")], at=at)
    collect(lake)
    assert refresh(lake)["current_likes"] == "rebuilt"
    assert liked(lake) == {"ana": ["a", "b"], "ben": ["a", "b", "c", "d"]}
    append(lake.root, "w", "ben", [("e", "like")], at=at + timedelta(hours=1))
    collect(lake)
    assert refresh(lake)["current_likes"] == "updated"
    assert liked(lake) == {"ana": ["a", "b"], "ben": ["a", "b", "c", "d", "e"]}


def test_a_shorter_id_map_has_the_matrix_built_from_nothing(tmp_path: Path) -> None:
    """As after `verify --repair` where no bundle has a copy of the map: what nobody likes any more goes."""
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "abx", "ben": "abc"})
    refresh(lake)
    receive(lake, 1, {"ana": "ab"})
    refresh(lake)
    lake.table_path("track_ids", None).unlink()

    assert refresh(lake)["co_like_matrix"] == "rebuilt"
    assert by_track(lake) == {"a": {"b": 2, "c": 1}, "b": {"a": 2, "c": 1}, "c": {"a": 1, "b": 1}}


def test_as_many_cut_offs_stay_as_the_settings_say_however_few_versions_do(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("retention", {"versions": 1, "cut_offs": 3})
    for day in range(5):
        receive(lake, day, {"ana": "abcde"[: day + 1]})
        refresh(lake)
    kept = [(FIRST + timedelta(days=day)).isoformat() for day in (2, 3, 4)]
    for table in ("current_likes", "current_dislikes", "changed_users", "last_observations"):
        assert lake.partitions(table) == kept


def test_with_a_single_version_of_everything_the_matrix_is_brought_up_to_date(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    lake.set_section("retention", {"versions": 1})
    for day, how in ((0, "rebuilt"), (1, "updated"), (2, "updated")):
        receive(lake, day, {"ana": "abcde"[: day + 2]})
        assert refresh(lake)["co_like_matrix"] == how


def test_an_earlier_cut_off_gives_the_lists_of_that_day(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    receive(lake, 0, {"ana": "ab"})
    receive(lake, 1, {"ana": "bc", "ben": "c"})
    refresh(lake)
    refresh(lake, FIRST)
    assert liked(lake) == {"ana": ["a", "b"]}
    refresh(lake)
    assert liked(lake) == {"ana": ["b", "c"], "ben": ["c"]}


def test_a_stage_before_its_inputs_says_what_is_missing(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.admit_source("files")
    for name in GRAPH_STAGES:
        with pytest.raises(LakeError, match=r"has no .+ yet; .*run `tunegraph refresh`"):
            stage(name).run(lake)
    receive(lake, 0, {"ana": "ab"})
    fill_day(lake, FIRST)
    for name in ("current_likes", "track_ids"):
        stage(name).run(lake)
    with pytest.raises(LakeError, match="no catalogue of 2026-02-01"):
        stage("like_graph").run(lake)
