"""`tunegraph forget`: the user is nowhere in the lake, what remains is a lake that never saw them, and they
do not come back; whatever is killed in between."""

import io
import json
import random
import shutil
import signal
import subprocess
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from dagster import AssetCheckResult, DagsterInstance

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.co_like import CoLike
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import DAILY_TABLES, Lake
from tunegraph_pipeline.lake.raw import LEFT_OUT, RawBatch, empty_frame, prune_day, write_batch, write_files
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.orchestration import checks
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.deletion_requests import (
    PURGING,
    move_requests,
    pending_requests,
    read_user_ids,
    request,
    request_files,
)
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stale_versions import drop_old_versions, users_left
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.pipeline.track_ids import known_track_ids
from tunegraph_pipeline.pipeline.verify.run import verify
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.simulator.world import World
from tunegraph_pipeline.sources.frontier import LEFT_ALONE, Due, Frontier
from tunegraph_pipeline_tests.conftest import recorded
from tunegraph_pipeline_tests.lean_command import LEAN
from tunegraph_pipeline_tests.run_stages import run_stages
from tunegraph_pipeline_tests.search import places_with
from tunegraph_pipeline_tests.test_cli import tunegraph
from tunegraph_pipeline_tests.test_cli_crawl import SECRET, TODAY, WORLD, lake_for, spotify_server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

DAY, NEXT = date(2026, 2, 1), date(2026, 2, 3)
GONE = "forget-me-5f0c7b1e-93a4-4d26-8a55-2b8a6f1d7c90"
USERS, SONGS = 40, 20


def frame(part: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=empty_frame(part).schema)


def received(lake: Lake, with_them: bool) -> None:
    """Two days of imports, a crawl and feedback; with the user who will be forgotten, or as if they had never
    been there. What they like is liked by others, so that both lakes have one id map."""
    lake.admit_source("files")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.0})
    lake.set_section("retention", {"versions": 2})
    lake.set_section("spotify", {"start_users": ["u0", GONE] if with_them else ["u0"]})
    rng = np.random.default_rng(3)
    listeners = ("u5", GONE) if with_them else ("u5",)
    plays = [(user, f"s{song:02d}", on, 2) for user in listeners for song in (5, 6) for on in (DAY, NEXT)]
    played = pl.DataFrame(plays, empty_frame("plays").schema, orient="row")
    for day, some in ((DAY, USERS), (NEXT, 10)):
        pairs = [
            (f"u{user}", f"s{song:02d}")
            for user in range(some)
            for song in rng.choice(SONGS, 8, replace=False).tolist()
        ]
        if with_them:
            pairs[5:5] = [(GONE, f"s{song:02d}") for song in range(3 + some % 7, 12)]
        likes = frame("likes", [{"user_id": user, "track_id": track} for user, track in pairs])
        heard = played if day == NEXT else played[:0]
        batch = RawBatch("files", "likes.csv", likes=likes, counts={"skipped": 1}, plays=heard)
        write_batch(lake.raw, day, batch)
    if with_them:
        alone = frame("likes", [{"user_id": GONE, "track_id": f"s{song:02d}"} for song in range(4)])
        write_batch(lake.raw, NEXT - timedelta(1), RawBatch("files", f"{GONE}.csv", likes=alone))
    file = lake.root.parent / "plays.parquet"
    played.write_parquet(file)
    write_files(lake.raw, NEXT, "spotify", "dump 7", "d7", {"plays": file}, {}, whole=True)
    met = [("crawled", "u1", "listed"), ("led here", GONE if with_them else None, "private")]
    met += [(GONE, "crawled", "found")] if with_them else []
    users = [{"user_id": u, "discovered_from": d, "depth": 1, "state": state} for u, d, state in met]
    found = frame("likes", [{"user_id": "crawled", "track_id": "s01"}])
    write_batch(lake.raw, NEXT, RawBatch("spotify", "crawl", users=frame("users", users), likes=found))
    noon = datetime(NEXT.year, NEXT.month, NEXT.day, 12, tzinfo=UTC)
    append(lake.root, "w", "u3", [("s19", "like"), ("s18", "dislike")], at=noon)
    if with_them:
        append(lake.root, "w", GONE, [("s18", "like"), ("s19", "dislike"), ("s01", "skip")], at=noon)
        spool = lake.root / SPOOL / NEXT.isoformat() / "w.jsonl"
        half = f'{{"at": "2026-02-03T12:00:00Z", "user_id": "{GONE[:-3]}'.encode()
        spool.write_bytes(spool.read_bytes() + f'{{"user_id": "{GONE}", "no": "feedback"}}\n'.encode() + half)


def crawled(lake: Lake) -> None:
    """A crawl that was killed: a frontier, a journal and answers that name the user."""
    with Frontier(lake.frontier_path("spotify"), NEXT) as frontier:
        frontier.add_start_users(["u0", GONE], "spotify")
        theirs = [("spotify", "likes", [[GONE, f"s{song:02d}", None] for song in range(9)])]
        frontier.finish_user(Due(GONE, None, 0, 0), "listed", ["found by them"], theirs, source="spotify")
        frontier.finish_user(Due("u0", None, 0, 0), "listed", [], [], source="spotify")
        for number in range(40):  # more than a page
            frontier.keep_answer(f"r{number}".encode(), 200, f'{{"n": {number}, "id": "{GONE}"}}'.encode())


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that has the user everywhere, refreshed on two days; tests work on copies."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("forget") / "lake")
    received(lake, with_them=True)
    run_stages(lake, "refresh", DAY, DAY, {"current_likes": {"cut_off": DAY.isoformat()}})
    run_stages(lake, "refresh", DAY, NEXT)
    crawled(lake)
    append(lake.root, "w", GONE, [("s05", "like")], at=datetime(2026, 2, 4, tzinfo=UTC))
    append(lake.root, "w", "u4", [("s05", "like")], at=datetime(2026, 2, 4, tzinfo=UTC))
    (lake.root / "checkpoints").mkdir(exist_ok=True)
    (lake.root / "checkpoints" / "left.safetensors").write_bytes(b"weights")
    lake.staging.mkdir(exist_ok=True)
    (lake.staging / "half").write_text(GONE)
    return lake.root


@pytest.fixture(scope="module")
def never_saw(refreshed: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The same without the user, ever; with the weights of the other lake's model, since weights are what
    forgetting leaves to the next training."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("never") / "lake")
    received(lake, with_them=False)
    run_stages(lake, "refresh", DAY, NEXT)
    assert known_track_ids(lake).equals(known_track_ids(Lake.open(refreshed)))
    for name in ("models", "serving"):
        shutil.rmtree(lake.root / name)
    shutil.copytree(refreshed / "models", lake.root / "models")
    run_stages(lake, "publish")
    return lake


@pytest.fixture
def lake(refreshed: Path, tmp_path: Path) -> Lake:
    """A copy of the lake, to be changed."""
    return Lake.open(shutil.copytree(refreshed, tmp_path / "lake"))


@pytest.fixture(scope="module")
def forgotten(refreshed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    """A copy of it after `tunegraph forget`, and what that said."""
    root = shutil.copytree(refreshed, tmp_path_factory.mktemp("forgotten") / "lake")
    with recorded():
        done = tunegraph("forget", GONE, "--lake", root)
    assert done.returncode == 0, done.stderr
    return Lake.open(root), done.stderr + done.stdout


def assert_equal_but_for_weights(one: Lake, other: Lake) -> None:
    """Tables, graph, co-likes, lists in the bundle and what it recommends are those of the other lake."""
    for table in DAILY_TABLES:
        for day in {*one.partitions(table), *other.partitions(table)}:
            rows = [
                lake.read(table, day)
                if day in lake.partitions(table)
                else lake.read(table, NEXT.isoformat())[:0]
                for lake in (one, other)
            ]
            assert rows[0].equals(rows[1]), (table, day)
    current = [lake.current_version("current_likes") for lake in (one, other)]
    assert current[0] == current[1]
    for table in ("current_likes", "current_dislikes"):
        rows = [lake.read(table, current[0]) for lake in (one, other)]
        assert rows[0].drop("changed", strict=False).equals(rows[1].drop("changed", strict=False)), table
    assert degrees(one) == degrees(other)
    assert counts(one) == counts(other)
    assert lists(one) == lists(other)
    shown = [lake.read("user_recommendations", current_version(lake.serving)) for lake in (one, other)]
    columns = ["user_id", "rank", "track_id", "score", "because_track_id"]
    assert shown[0].select(columns).equals(shown[1].select(columns))


def degrees(lake: Lake) -> dict[str, int]:
    found = open_like_graph(lake).track_degrees()
    return {track: int(n) for track, n in zip(known_track_ids(lake), found, strict=True) if n}


def counts(lake: Lake) -> dict[tuple[str, str], int]:
    co_like, ids = CoLike.open(lake.current_folder("co_like")), known_track_ids(lake).to_list()
    found = {}
    for track in range(len(ids)):
        neighbours, stored = co_like.neighbours(track)
        found.update({(ids[track], ids[n]): int(c) for n, c in zip(neighbours, stored, strict=True)})
    return found


def lists(lake: Lake) -> dict[str, tuple[list[str], list[str]]]:
    bundle = Bundle.open(read_current(lake.serving))
    return {
        user: (
            [bundle.tracks[int(t)] for t in bundle.user_list(place)],
            [bundle.tracks[int(t)] for t in bundle.user_dislikes(place)],
        )
        for place, user in enumerate(bundle.users.ids.tolist())
    }


# --- nothing is left, and the rest is as if they had never been there ---


def test_the_search_finds_the_user_before(refreshed: Path) -> None:
    """Or it could not be believed when it finds nothing."""
    found = places_with(refreshed, GONE)
    for place in (
        "raw/dt=2026-02-01/", "raw/dt=2026-02-02/", "raw/dt=2026-02-03/", "users/", "observations/", "likes/",
        "feedback/", "current_likes/cut_off=2026-02-01", "current_likes/cut_off=2026-02-03",
        "current_dislikes/", "like_graph/", "serving/", "user_recommendations/", "crawl/spotify.sqlite",
        "feedback_spool/rejected/", "feedback_spool/2026-02-04/", "lake.json", ".staging/",
    ):  # fmt: skip
        assert any(path.startswith(place) for path in found), place


def test_after_it_a_search_of_everything_finds_nothing(forgotten: tuple[Lake, str]) -> None:
    lake, said = forgotten
    assert places_with(lake.root, GONE) == []
    assert places_with(lake.root, GONE[:-3]) == []  # of the half line too
    assert GONE not in said
    assert pending_requests(lake) == 0
    with recorded(), DagsterInstance.from_config(str(lake.root / ".dagster")) as instance:
        run = instance.get_runs()[0]
        assert (run.job_name, run.status.value) == ("forget", "SUCCESS")
        steps = {step.asset_key.path[0] for step in _materialized(instance, run.run_id)}
    assert {"forgotten_users", "serving_bundle", "retention"} <= steps
    assert not {"trained_model", "crawled_users"} & steps


def _materialized(instance: DagsterInstance, run_id: str) -> list[Any]:
    return [
        entry.dagster_event.step_materialization_data.materialization
        for entry in instance.all_logs(run_id)
        if entry.dagster_event is not None and entry.dagster_event.is_step_materialization
    ]


def test_it_says_what_went_and_what_stays_until_when(forgotten: tuple[Lake, str]) -> None:
    lake, said = forgotten
    assert "1 user, of whom the lake knew 1" in said
    assert "full retrain" in said
    assert "refresh --full" in lake_status(lake)["forgotten"]
    (batch,) = (b for b in lake.batches(NEXT) if b.source == "files")
    assert (batch.origin, batch.counts) == ("likes.csv", {"skipped": 1})


def test_what_remains_is_a_lake_that_never_saw_them(forgotten: tuple[Lake, str], never_saw: Lake) -> None:
    assert_equal_but_for_weights(forgotten[0], never_saw)
    # Feedback of others that waited is waiting still.
    waiting = forgotten[0].root / SPOOL / "2026-02-04" / "w.jsonl"
    assert [json.loads(line)["user_id"] for line in waiting.read_text().splitlines()] == ["u4"]


def test_weights_stay_those_of_the_live_model(forgotten: tuple[Lake, str], refreshed: Path) -> None:
    before = Bundle.open(read_current(refreshed / "serving"))
    after = Bundle.open(read_current(forgotten[0].serving))
    assert after.model_version == before.model_version
    assert after.version != before.version
    assert [
        path.name for path in forgotten[0].serving.iterdir() if path.is_dir() and path.name[0] != "."
    ] == [after.version]


# --- they stay away ---


def test_an_import_and_feedback_do_not_bring_them_back(forgotten: tuple[Lake, str], tmp_path: Path) -> None:
    root = shutil.copytree(forgotten[0].root, tmp_path / "lake")
    again = pl.DataFrame({"user_id": [GONE, "u1", GONE, "new"], "track_id": ["s01", "s02", "s03", "s04"]})
    again.write_csv(tmp_path / "again.csv")
    done = tunegraph("import", tmp_path / "again.csv", "--lake", root, "--as-of", "2026-02-05")
    assert f"{LEFT_OUT}: 3" in done.stderr  # a user and two likes
    append(root, "w", GONE, [("s01", "like")])
    done = tunegraph("refresh", "--source", "none", "--lake", root)
    assert done.returncode == 0, done.stderr
    assert "feedback of forgotten users, not used: 1" in done.stderr
    lake = Lake.open(root)
    assert "new" in lists(lake)
    assert GONE not in lists(lake)
    assert places_with(root, GONE) == []
    done = tunegraph("refresh", "--source", "spotify", "--start-user", GONE, "--lake", root)
    assert done.returncode == 2
    assert "forgotten" in done.stderr
    assert places_with(root, GONE) == []


def test_a_crawl_that_meets_them_goes_round_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(WORLD)
    everybody = set(world.crawl(TODAY).users["user_id"])
    theirs = min(everybody - set(world.start_users()))
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "simulator")
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("TUNEGRAPH_TOKENS", str(tmp_path / "tokens"))
    root = tmp_path / "lake"
    with spotify_server(world) as server:
        lake = lake_for(root, server, "spotify")
        Tombstones().with_users([theirs]).write(root)
        section = {**lake.file.settings["spotify"], "start_users": [*world.start_users(), theirs]}
        lake.set_section("spotify", section)
        run_stages(lake, "daily_tables", TODAY, TODAY, {"crawled_users": {"source": "spotify"}})
    lake.set_section("spotify", {})
    users = lake.read("users", TODAY.isoformat())["user_id"]
    assert theirs not in users
    assert len(users) > len(everybody) / 2
    assert sum(batch.counts.get(LEFT_ALONE, 0) for batch in lake.batches(TODAY)) >= 2
    assert not [place for place in places_with(root, f'"{theirs}"') if not place.startswith("lake.json")]
    assert not Tombstones.of(root).buries(users).any()


# --- what a lake may be like when somebody has to go ---


def test_somebody_nobody_knows_is_said_and_kept_out_and_costs_nothing(lake: Lake) -> None:
    live = current_version(lake.serving)
    done = tunegraph("forget", "nobody", "nobody else", "--yes", "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert "2 users, of whom the lake knew 0" in done.stderr
    assert "unknown to the lake" in done.stderr
    assert current_version(lake.serving) == live
    assert len(Tombstones.of(lake.root)) == 2
    likes = frame("likes", [{"user_id": "nobody else", "track_id": "s01"}])
    assert write_batch(lake.raw, NEXT, RawBatch("files", "x", likes=likes)).rows == {}


def test_an_id_that_is_perhaps_a_typo_forgets_nobody_without_a_yes(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("u1\nthe secret\n")
    for asked, says in (
        (["u1", GONE.upper()], f"the lake does not know {GONE.upper()!r}"),
        (["u1x"], "the lake does not know 'u1x' (did you mean 'u1'?)"),
        (["--file", tmp_path / "ids"], "the lake does not know id 2 of the file"),
    ):
        done = tunegraph("forget", *asked, "--lake", lake.root)
        assert done.returncode == 2
        assert says in done.stderr
        assert "secret" not in done.stderr
    assert pending_requests(lake) == 0
    assert not Tombstones.of(lake.root)
    assert "u1" in lists(lake)


@pytest.mark.parametrize(("answer", "code", "tombstones"), [("y\n", 0, 1), ("n\n", 2, 0)])
def test_at_a_terminal_it_asks(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, tombstones: int
) -> None:
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    done = tunegraph("forget", "nobody", "--lake", lake.root)
    assert done.returncode == code, done.stderr
    assert "the lake does not know 'nobody'" in done.stderr
    assert len(Tombstones.of(lake.root)) == tombstones


def test_forgetting_a_typo_can_be_undone(lake: Lake) -> None:
    assert tunegraph("forget", "typo", "--yes", "--lake", lake.root).returncode == 0
    done = tunegraph("forget", "--undo", "never", "typo", "--lake", lake.root)
    assert done.returncode == 2
    assert "'never' was not forgotten in this lake; nothing was undone" in done.stderr
    done = tunegraph("forget", "--undo", "typo", "--lake", lake.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert not Tombstones.of(lake.root)
    likes = frame("likes", [{"user_id": "typo", "track_id": "s01"}])
    assert write_batch(lake.raw, NEXT, RawBatch("files", "x", likes=likes)).rows["likes"] == 1


def test_a_request_that_waits_can_be_withdrawn(lake: Lake) -> None:
    request(lake, ["u1", "u2"])
    request(lake, ["u1"])
    done = tunegraph("forget", "--undo", "u1", "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    (left,) = request_files(lake.deletion_requests)
    assert read_user_ids(left) == ["u2"]
    move_requests([left], lake.deletion_requests / PURGING)
    done = tunegraph("forget", "--undo", "u2", "--lake", lake.root)
    assert done.returncode == 2
    assert "a run that did not finish was deleting 'u2'" in done.stderr


def test_files_of_requests_are_worked_off_by_the_job_of_the_ui_and_by_a_refresh(lake: Lake) -> None:
    folder = lake.deletion_requests
    folder.mkdir()
    (folder / "please").write_bytes(f"{GONE}\r\n\nu1\n".encode())
    assert "1 request waiting" in lake_status(lake)["forgotten"]
    run_job(lake, "forget")
    assert not {GONE, "u1"} & set(lists(lake))
    assert places_with(lake.root, GONE) == []
    request(lake, ["u2"])
    run_stages(lake, "refresh", NEXT, NEXT)
    assert "u2" not in lists(lake)
    assert pending_requests(lake) == users_left(lake) == 0
    assert "u2" not in set(lake.read("users", DAY.isoformat())["user_id"])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"  \n"])
def test_a_request_that_cannot_be_read_is_named_and_left(lake: Lake, content: bytes) -> None:
    (lake.deletion_requests).mkdir()
    (lake.deletion_requests / "odd.txt").write_bytes(content)
    done = tunegraph("forget", "--lake", lake.root)
    assert done.returncode == 2
    assert "odd.txt" in done.stderr
    assert "the request is kept" in done.stderr
    assert pending_requests(lake) == 1
    assert not Tombstones.of(lake.root)


def test_nobody_to_forget_and_ids_that_are_none_are_refused(lake: Lake, tmp_path: Path) -> None:
    for wrong in ([], [""], ["two\nlines"], ["--file", tmp_path / "missing"]):
        done = tunegraph("forget", *wrong, "--lake", lake.root)
        assert done.returncode == 2, wrong
    assert pending_requests(lake) == 0
    (tmp_path / "ids").write_text("u1\nu2\n")
    assert tunegraph("forget", "--file", tmp_path / "ids", "--lake", lake.root).returncode == 0
    assert not {"u1", "u2"} & set(lists(lake))


def test_a_byte_order_mark_is_not_of_the_first_id(tmp_path: Path) -> None:
    path = tmp_path / "who.txt"
    path.write_text("u1\r\nu2\r\n", encoding="utf-8-sig", newline="")
    assert read_user_ids(path) == ["u1", "u2"]


def test_a_lake_that_was_never_refreshed_is_cleaned_and_refreshed_later(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    received(lake, with_them=True)
    done = tunegraph("forget", GONE, "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert "nothing was published" in done.stderr
    assert "weights" not in done.stderr  # there is no model
    assert "gating" not in done.stderr  # nor anything that Dagster says of what was skipped
    assert places_with(lake.root, GONE) == []
    assert pending_requests(lake) == 0
    assert lake.partitions("users") == []
    run_stages(lake, "refresh", DAY, NEXT)
    assert "u0" in lists(lake)
    assert GONE not in lists(lake)


def test_after_the_last_user_nothing_is_served(lake: Lake) -> None:
    request(lake, {user for day in lake.partitions("users") for user in lake.read("users", day)["user_id"]})
    done = tunegraph("forget", "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert "nobody is left" in done.stderr
    assert not (lake.serving / "CURRENT").exists()
    assert lake.partitions("user_recommendations") == lake.partitions("current_likes") == []
    assert pending_requests(lake) == users_left(lake) == 0
    assert places_with(lake.root, GONE) == []


@pytest.mark.parametrize("command", [["forget"], ["refresh", "--source", "none"]])
def test_where_those_who_are_left_have_emptied_their_lists_nothing_is_served(
    tmp_path: Path, command: list[str]
) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("training", {"dimension": 4, "epochs": 1, "encoder": "none"})
    pairs = [(GONE, song) for song in range(6)] + [
        (f"u{user}", user + n) for user in range(4) for n in (0, 1)
    ]
    likes = frame("likes", [{"user_id": user, "track_id": f"s{song:02d}"} for user, song in pairs])
    write_batch(lake.raw, DAY, RawBatch("files", "likes.csv", likes=likes))
    run_stages(lake, "refresh", DAY, DAY)
    empty = [{"user_id": f"u{user}", "depth": 0, "state": "listed"} for user in range(4)]
    write_batch(lake.raw, NEXT, RawBatch("files", "users.csv", users=frame("users", empty)))
    if command == ["forget"]:
        run_stages(lake, "refresh", DAY, NEXT)
    request(lake, [GONE])
    done = tunegraph(*command, "--lake", lake.root)
    assert done.returncode == (0 if command == ["forget"] else 2), done.stderr
    assert "withdrawn" in done.stderr
    assert not (lake.serving / "CURRENT").exists()
    assert pending_requests(lake) == 0
    assert places_with(lake.root, GONE) == []


def test_tracks_newer_than_the_model_wait_for_the_next_one(lake: Lake) -> None:
    rows = [{"user_id": f"u{user}", "track_id": "brand new"} for user in range(4)]
    day = NEXT + timedelta(2)
    write_batch(lake.raw, day, RawBatch("files", "x", likes=frame("likes", rows)))
    run_stages(lake, "daily_tables", day, day)
    model = Bundle.open(read_current(lake.serving)).model_version
    assert tunegraph("forget", GONE, "--lake", lake.root).returncode == 0
    bundle = Bundle.open(read_current(lake.serving))
    assert bundle.model_version == model
    assert bundle.facts["tracks_new_to_the_model"] == 1
    assert lists(lake)["u0"][0] == ["brand new"]
    assert Recommender.open(lake.serving).recommend_user("u9", 5).items
    assert places_with(lake.root, GONE) == []


@pytest.mark.parametrize("newer_tracks", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_what_was_rolled_back_from_does_not_go_live_by_it(lake: Lake, *, newer_tracks: bool) -> None:
    left = Bundle.open(read_current(lake.serving)).model_version
    assert tunegraph("rollback", "--lake", lake.root).returncode == 0
    chosen = Bundle.open(read_current(lake.serving)).model_version
    assert chosen != left
    if newer_tracks:
        rows = [{"user_id": f"u{user}", "track_id": "brand new"} for user in range(4)]
        day = NEXT + timedelta(2)
        write_batch(lake.raw, day, RawBatch("files", "x", likes=frame("likes", rows)))
        run_stages(lake, "daily_tables", day, day)
    done = tunegraph("forget", GONE, "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert Bundle.open(read_current(lake.serving)).model_version == chosen
    assert pending_requests(lake) == 0


# --- what is kept for how long ---


def test_what_has_expired_is_in_no_version_after_a_refresh_and_raw_days_go(lake: Lake) -> None:
    since = (datetime.now(UTC).date() - NEXT).days
    lake.set_section("retention", {"ttl_days": {"files": since}, "raw_days": 1})
    assert "u39" in lists(lake)
    lake = Lake.open(lake.root)
    run_stages(lake, "refresh", NEXT, NEXT)
    assert lists(lake).keys() >= {"u0", "u9", "crawled", GONE}  # seen since, or by feedback
    assert "u39" not in lists(lake)
    # So short an id is in the pictures of Dagster's history by chance.
    assert not [place for place in places_with(lake.root, "u39") if not place.startswith(".dagster")]
    # The feedback that waited was taken in, and its day is not filled yet.
    later = NEXT + timedelta(1)
    assert [day for day in lake.raw_days() if lake.batches(day)] == lake.stale_days() == [later]
    assert len(lake.partitions("current_likes")) == 1
    for kind in ("like_graph", "co_like"):
        assert [path.name for path in (lake.root / kind).glob("[!.]*/")] == [lake.current_version(kind)]
    before = lists(lake)
    run_stages(lake, "refresh", NEXT, NEXT)  # nothing has changed, and nothing is emptied
    assert lists(lake) == before
    # Of days that have no raw batches any more somebody can be forgotten all the same.
    assert tunegraph("forget", GONE, "--lake", lake.root).returncode == 0
    assert places_with(lake.root, GONE) == []
    assert lists(lake).keys() >= {"u0", "u9", "crawled"}
    found = verify(lake.root)
    assert not [finding.line() for finding in found.problems]
    # The day of the feedback that waited, which no refresh has filled yet, is all there is to say.
    assert {finding.file for finding in found.notes} <= {f"raw/dt={later}"}
    (lake.root / "tombstones.json").write_text("{")
    assert [finding.file for finding in verify(lake.root).problems] == ["tombstones.json"]


def test_where_everything_has_expired_nothing_is_served(lake: Lake) -> None:
    lake.set_section("retention", {"ttl_days": {"files": 1, "spotify": 1, "feedback": 1}})
    done = tunegraph("refresh", "--source", "none", "--lake", lake.root)
    assert done.returncode == 2
    assert " with forgotten or expired data withdrawn; import likes" in done.stderr
    assert not (lake.serving / "CURRENT").exists()
    assert not [place for place in places_with(lake.root, "u39") if not place.startswith(".dagster")]
    assert not (lake.root / ".expired").exists()


def test_a_time_to_live_of_a_source_that_there_is_none_of_is_refused(lake: Lake) -> None:
    lake.set_section("retention", {"ttl_days": {"spotfy": 30}})
    done = tunegraph("refresh", "--source", "none", "--lake", lake.root)
    assert done.returncode == 2
    assert "ttl_days" in done.stderr
    assert "names 'spotfy', which is not a source" in done.stderr


def test_a_day_that_is_over_for_its_source_is_asked_for_no_more(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("simulator", {"n_users": 20, "n_tracks": 60})
    lake.set_section("retention", {"ttl_days": {"simulator": 5}})
    assert crawl_day(lake, "simulator", DAY, today=DAY + timedelta(6)) is None
    assert lake.raw_days() == []
    crawl_day(lake, "simulator", DAY, today=DAY + timedelta(5))
    fill_day(lake, DAY)
    prune_day(lake.raw, DAY)
    crawl_day(lake, "simulator", DAY, today=DAY + timedelta(5))
    assert lake.batches(DAY) == []


# --- checks, and not being done ---


def test_a_forgotten_user_who_is_still_there_fails_the_checks(lake: Lake) -> None:
    def passed() -> list[bool]:
        both = (checks.nobody_forgotten_in_the_lists, checks.nobody_forgotten_in_the_live_bundle)
        results = [check(lake=lake) for check in both]
        return [result.passed for result in results if isinstance(result, AssetCheckResult)]

    assert passed() == [True, True]
    Tombstones().with_users(["u0"]).write(lake.root)
    assert passed() == [False, False]


def test_a_request_is_not_done_with_while_something_current_names_them(lake: Lake) -> None:
    Tombstones().with_users(["u0"]).write(lake.root)
    purged = lake.deletion_requests / ".purged"
    purged.mkdir(parents=True)
    (purged / "x.txt").write_text("u0\n")
    with pytest.raises(LakeError, match="still named"):
        drop_old_versions(lake)
    assert pending_requests(lake) == 1
    assert current_version(lake.serving)


@pytest.mark.parametrize("damage", ["no manifest", "garbage", "ids that are no text"])
def test_a_bundle_from_before_goes_also_where_it_is_damaged(lake: Lake, damage: str) -> None:
    before = shutil.copytree(lake.serving / current_version(lake.serving), lake.serving / "2026-01-01-before")
    if damage == "no manifest":
        (before / "manifest.json").unlink()
    elif damage == "garbage":
        (before / "manifest.json").write_bytes(bytes(range(256)))
    else:
        ids = before / "user_ids.bytes.npy"
        ids.write_bytes(ids.read_bytes()[:-1] + b"\xff")
    request(lake, ["somebody only that bundle could name"])
    run_stages(lake, "forget")
    assert not before.exists()
    assert pending_requests(lake) == 0
    assert lists(lake)


def test_nothing_is_rolled_back_to_that_names_somebody_who_was_forgotten(lake: Lake) -> None:
    live = current_version(lake.serving)
    Tombstones().with_users([GONE]).write(lake.root)  # as where the run is killed before older bundles go
    done = tunegraph("rollback", "--lake", lake.root)
    assert done.returncode == 2
    assert "names 1 forgotten users, and must not go live again" in done.stderr
    assert current_version(lake.serving) == live


def test_a_roll_back_keeps_as_many_bundles_as_the_settings_say(lake: Lake) -> None:
    lake.set_section("retention", {"versions": 6})
    live = lake.serving / current_version(lake.serving)
    for copy in "abcd":
        shutil.copytree(live, lake.serving / f"2026-01-0{copy}")
    at_hand = sorted(path.name for path in lake.serving.glob("[!.]*/"))
    done = tunegraph("rollback", "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in lake.serving.glob("[!.]*/")) == at_hand


@pytest.mark.kill
def test_killed_at_any_moment_it_is_finished_by_the_next_and_the_bundle_is_readable_all_along(
    lake: Lake,
) -> None:
    """Real processes, kill -9 at random moments, a reader that asks all the while."""
    rng = random.Random(5)
    request(lake, [GONE])
    command = [*LEAN, "forget", "--lake", str(lake.root)]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + rng.uniform(2, 6)
        while time.monotonic() < until and process.poll() is None:
            assert Recommender.open(lake.serving).recommend_user("u1", 3).items
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = tunegraph("forget", *([GONE] if not pending_requests(lake) else []), "--lake", lake.root)
    assert done.returncode == 0, done.stderr
    assert places_with(lake.root, GONE) == []
    assert pending_requests(lake) == users_left(lake) == 0
    assert "u1" in lists(lake)
