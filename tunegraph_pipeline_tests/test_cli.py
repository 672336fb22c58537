"""The command line from outside: real processes on a small lake, answers, exit codes, one-line complaints."""

import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.cli import app as cli
from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.storage import SPOOL
from tunegraph_pipeline_tests.lean_command import LEAN

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

TUNEGRAPH = [sys.executable, "-m", "tunegraph_pipeline"]


@dataclass
class Done:
    """How a command ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def tunegraph(*arguments: object) -> Done:
    """Run a command in this process, as `tunegraph` would: a new process costs seconds each."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["tunegraph", *map(str, arguments)]
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = argv
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def tunegraph_process(*arguments: object, preexec_fn: Callable[[], None] | None = None) -> Done:
    """Run a command in a process of its own, where signals and limits do no harm."""
    done = subprocess.run(
        [*TUNEGRAPH, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=preexec_fn,
    )
    return Done(done.returncode, done.stdout, done.stderr)


_ONE_BY_ONE = """
import dataclasses, json, sys
from tunegraph_pipeline_tests.test_cli import tunegraph
print(json.dumps([dataclasses.astuple(tunegraph(*command)) for command in json.loads(sys.argv[1])]))
"""


def tunegraph_process_of(prefix: Sequence[str], *commands: Sequence[object]) -> list[Done]:
    """Run commands one after the other in one process, which ``prefix`` starts: each in one of its own would
    take a second to start."""
    asked = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _ONE_BY_ONE, asked],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [Done(*one) for one in json.loads(done.stdout)]


def complaint(done: Done) -> str:
    """The one line of a command that refused its input."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("tunegraph: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.endswith(lines[0] + "\n")
    return lines[0]


def snapshot(lake: Path) -> dict[str, bytes]:
    """Every file of a lake but Dagster's own."""
    return {
        str(path.relative_to(lake)): path.read_bytes()
        for path in sorted(lake.rglob("*"))
        if path.is_file() and ".dagster" not in path.parts and path.name != ".lock"
    }


def two_scenes(path: Path) -> Path:
    """60 users in two scenes that share no song: 24 songs a scene, 12 of them liked by each user."""
    pairs = [
        {"user_id": f"{scene}{user}", "track_id": f"{scene}-{(user * 5 + step * step) % 24}"}
        for scene in ("rock", "jazz")
        for user in range(30)
        for step in range(12)
    ]
    pl.DataFrame(pairs).unique(maintain_order=True).write_csv(path)
    return path


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two scenes, refreshed once; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("cli")
    lake = folder / "lake"
    assert tunegraph("import", two_scenes(folder / "likes.csv"), "--lake", lake).returncode == 0
    done = tunegraph("refresh", "--lake", lake)
    assert done.returncode == 0, done.stderr
    return lake


def test_a_user_is_recommended_songs_of_their_scene(refreshed: Path) -> None:
    done = tunegraph("recommend", "--lake", refreshed, "--user", "rock3", "-k", 5, "--json")
    items = json.loads(done.stdout)["items"]
    assert [item["track_id"].partition("-")[0] for item in items] == ["rock"] * 5
    assert all(item["reasons"][0]["track_id"].startswith("rock-") for item in items)


def test_a_list_is_answered_as_its_options_say(refreshed: Path) -> None:
    def asked(*options: object) -> list[str]:
        done = tunegraph("recommend", "--lake", refreshed, "--user", "rock3", "--json", *options)
        return [item["track_id"] for item in json.loads(done.stdout)["items"]]

    first = asked("-k", 4)
    assert not set(first[:2]) & set(asked("-k", 4, "--dislikes", first[0], "--exclude", f"{first[1]}, ,"))
    varied = asked("-k", 4, "--diversity", 1, "--familiarity", 0, "--max-per-artist", 2, "--no-explicit")
    assert len(set(varied)) == 4
    assert varied != first
    for wrong in (("--familiarity", 2), ("--max-per-artist", 0)):
        assert tunegraph("recommend", "--lake", refreshed, "--user", "rock3", *wrong).returncode == 2


def test_a_list_of_songs_is_answered_and_unknown_ids_are_named(refreshed: Path) -> None:
    done = tunegraph("recommend", "--lake", refreshed, "--likes", "jazz-1,jazz-2,nobody-1", "--json", "-k", 3)
    answer = json.loads(done.stdout)
    assert answer["unknown"] == ["nobody-1"]
    assert answer["degraded"] is None
    assert {item["track_id"][:5] for item in answer["items"]} == {"jazz-"}


def test_a_list_nobody_knows_is_answered_by_popularity_and_says_so(refreshed: Path) -> None:
    done = tunegraph("recommend", "--lake", refreshed, "--likes", "x,y")
    assert done.returncode == 0
    assert "not personal" in done.stderr


def test_a_file_of_users_gives_ranked_rows_of_the_type_that_was_asked(
    refreshed: Path, tmp_path: Path
) -> None:
    users, output = tmp_path / "users.parquet", tmp_path / "out.parquet"
    pl.DataFrame({"user_id": ["rock1", "jazz2", "nobody"]}).write_parquet(users)
    done = tunegraph("recommend", "--lake", refreshed, "--users", users, "--output", output, "-k", 4)
    assert done.returncode == 0, done.stderr
    assert "not in the lake, so without rows: 1 of 3 users" in done.stderr
    rows = pl.read_parquet(output)
    assert rows.columns == ["user_id", "rank", "track_id", "score"]
    assert rows.group_by("user_id", maintain_order=True).agg("rank").rows() == [
        ("rock1", [1, 2, 3, 4]),
        ("jazz2", [1, 2, 3, 4]),
    ]


def test_an_answer_that_could_not_be_written_is_refused_before_the_work(
    refreshed: Path, tmp_path: Path
) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id\nrock1\n")
    output = users / "out.parquet"
    arguments = ("--lake", refreshed, "--output", output)
    for command in (("recommend", "--users", users), ("compare",)):
        assert f"cannot write {output}" in complaint(tunegraph(*command, *arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]


def test_similar_songs_are_of_the_same_scene(refreshed: Path) -> None:
    done = tunegraph("similar", "rock-1", "--lake", refreshed, "-k", 5, "--json")
    assert {item["track_id"][:5] for item in json.loads(done.stdout)} == {"rock-"}


def test_evaluation_prints_a_line_a_metric_last(refreshed: Path, tmp_path: Path) -> None:
    likes = pl.read_csv(refreshed.parent / "likes.csv")
    own = set(likes.filter(user_id="rock1")["track_id"])
    held_out = tmp_path / "held_out.csv"
    missing = [f"rock-{song}" for song in range(24) if f"rock-{song}" not in own][:3]
    pl.DataFrame({"user_id": "rock1", "track_id": missing}).write_csv(held_out)
    done = tunegraph("evaluate", "--lake", refreshed, "--held-out", held_out, "-k", 5, "--baselines")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()[-7:]]
    assert names[:4] == ["recall@5", "ndcg@5", "map@5", "hit_rate@5"]
    assert all(model in done.stdout for model in ("served", "popularity", "co_like", "ease"))


def test_evaluating_on_what_was_imported_is_refused(refreshed: Path) -> None:
    done = tunegraph("evaluate", "--lake", refreshed, "--held-out", refreshed.parent / "likes.csv")
    assert "in the lake already are 360 of 360 held-out pairs" in complaint(done)


def tables(document: str) -> list[list[str]]:
    """The cells of every table row of a markdown document."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in document.splitlines()
        if line.startswith("|")
    ]


def test_models_are_compared_and_the_tables_go_into_a_document(refreshed: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.md"
    output.write_text("# Results\n\nSaid before.\n\n## Other\n\nkept\n")
    arguments = ["compare", "--lake", refreshed, "--model", "tunegraph", "--model", "item_knn", "-k", 5]
    done = tunegraph(
        *arguments, "--protocol", "weak", "--tuned", "lastfm", "--output", output, "--title", "Two"
    )
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    assert text.startswith("# Results\n\nSaid before.\n\n## Other\n\nkept\n\n## Two\n")
    assert "tunegraph compare --protocol weak --model tunegraph --model item_knn --tuned lastfm -k 5" in text
    assert "python benchmarks/tune.py lf_train.txt --name lastfm" in text
    assert [row[0].strip("*") for row in tables(text)] == ["model", "---", "tunegraph", "item_knn"] * 2
    assert tables(done.stdout) == tables(text)
    again = tunegraph(*arguments, "--protocol", "weak", "--tuned", "lastfm")
    # All but what was measured.
    assert [row[:-4] for row in tables(again.stdout)[:4]] == [row[:-4] for row in tables(text)[:4]]
    assert tables(again.stdout)[4:] == tables(text)[4:]
    rows = pl.read_parquet(sorted((refreshed / "evaluation").rglob("*.parquet"))[-1])
    assert set(rows.filter(pl.col("split").str.starts_with("weak"))["model"]) == {"tunegraph", "item_knn"}


def test_models_are_compared_on_a_file_of_likes_that_were_held_out(refreshed: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held.csv"
    liked = pl.read_csv(refreshed.parent / "likes.csv")
    lists = liked.group_by("user_id").agg("track_id").sort("user_id").head(20)
    unliked = [
        (user, next(track for n in range(24) if (track := f"{user[:4]}-{n}") not in tracks))
        for user, tracks in lists.rows()
    ]
    pl.DataFrame([*unliked, ("stranger", "rock-1")], ["user_id", "track_id"], orient="row").write_csv(
        held_out
    )
    done = tunegraph(
        "compare", "--lake", refreshed, "--held-out", held_out, "--model", "popularity", "--model", "co_like"
    )
    assert done.returncode == 0, done.stderr
    assert "21 users judged on 21 held-out likes" in done.stdout
    assert "Warning" not in done.stderr  # what Dagster tells developers
    assert [row[0].strip("*") for row in tables(done.stdout)][2:4] == ["popularity", "co_like"]


def test_comparing_refuses_in_one_line(refreshed: Path) -> None:
    for arguments, says in (
        (["--protocol", "temporal", "--model", "popularity"], "no like has a time"),
        (["--model", "prophet"], "there is no model 'prophet'"),
        (["--tuned", "jukebox"], "no baseline was tuned on 'jukebox'; there is invented_dumps, lastfm"),
    ):
        assert says in complaint(tunegraph("compare", "--lake", refreshed, *arguments))


def test_status_names_what_is_live(refreshed: Path) -> None:
    done = tunegraph("status", "--lake", refreshed)
    live = (refreshed / "serving" / "CURRENT").read_text().strip()
    assert live in done.stdout
    assert "60 users" in done.stdout


def test_verify_finds_nothing_in_a_refreshed_lake(refreshed: Path) -> None:
    done = tunegraph("verify", "--lake", refreshed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"nothing is damaged in {refreshed}: ")
    assert len(done.stdout.splitlines()) == 1


def test_verify_has_a_line_a_problem_and_its_advice_puts_them_right(refreshed: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(refreshed, tmp_path / "lake")
    (likes,) = (lake / "likes").rglob("data.parquet")
    (batch,) = (lake / "raw").rglob("batch.json")
    said = batch.read_bytes()
    sound = likes.read_bytes()
    likes.write_bytes(b"garbage")
    (lake / "serving" / "CURRENT").write_text("")
    name = likes.relative_to(lake)
    done = tunegraph("verify", "--lake", lake)
    assert (done.returncode, done.stderr) == (2, "")
    *lines, last = done.stdout.splitlines()
    assert f"2 problems in {lake}" in last
    assert f"tunegraph verify --repair --lake {lake}" in last
    assert [line.partition(":")[0] for line in lines] == [str(name), "serving/CURRENT"]
    day = name.parts[1].removeprefix("dt=")
    assert lines[0].endswith(f"; rematerialise liked_lists of {day}")
    told = json.loads(tunegraph("verify", "--json", "--lake", lake).stdout)
    assert [problem["repairable"] for problem in told["problems"]] == [True, True]
    assert tunegraph("verify", "--repair", "--lake", lake).returncode == 0
    assert tunegraph("refresh", "--source", "none", "--lake", lake).returncode == 0
    assert tunegraph("verify", "--lake", lake).returncode == 0
    assert likes.read_bytes() == sound
    batch.write_bytes(b"{")
    done = tunegraph("verify", "--repair", "--lake", lake)
    assert done.returncode == 2
    assert "1 needs a person" in done.stdout
    batch.write_bytes(said)
    assert tunegraph("verify", "--lake", lake).returncode == 0


def test_a_second_refresh_keeps_every_version(refreshed: Path) -> None:
    before = {name: (refreshed / name / "CURRENT").read_text() for name in ("models", "co_like", "serving")}
    assert tunegraph("refresh", "--lake", refreshed).returncode == 0
    after = {name: (refreshed / name / "CURRENT").read_text() for name in ("models", "co_like", "serving")}
    assert before == after


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("received")
    lake = folder / "lake"
    assert tunegraph("import", two_scenes(folder / "likes.csv"), "--lake", lake).returncode == 0
    Lake.open(lake).set_section("training", {"dimension": 16, "epochs": 4})
    return lake


@pytest.fixture
def lake(received: Path, tmp_path: Path) -> Path:
    """A lake that has received two scenes and was not refreshed."""
    return shutil.copytree(received, tmp_path / "lake")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (bytes(range(256)) * 8, "likes.csv"),
        (b"colour,size\nred,1\n", "likes.csv"),
        (b"\x1f\x8b\x08\x00\x00\x00", "gzip"),
        (b"PAR1garbage", "parquet"),
        (b"user_id,track_id\n,\n,\n", "no usable row"),
    ],
)
def test_a_bad_file_is_one_line_and_the_lake_is_as_it_was(
    lake: Path, tmp_path: Path, content: bytes | None, says: str
) -> None:
    bad = tmp_path / "bad" / "likes.csv"
    bad.parent.mkdir()
    if content is not None:
        bad.write_bytes(content)
    before = snapshot(lake)
    assert says in complaint(tunegraph("import", bad, "--lake", lake))
    assert snapshot(lake) == before


def test_one_bad_file_among_good_ones_imports_none(tmp_path: Path, lake: Path) -> None:
    good = tmp_path / "more.csv"
    good.write_text("user_id,track_id\nnew,new\n")
    before = snapshot(lake)
    complaint(tunegraph("import", good, tmp_path / "missing.csv", "--lake", lake))
    assert snapshot(lake) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["recommend"],
        ["recommend", "--user", "a", "--likes", "b"],
        ["recommend", "--users", "file.csv"],
        ["recommend", "--user", "rock1"],
        ["similar", "rock-1"],
        ["evaluate", "--held-out", "missing.csv"],
        ["compare", "--protocol", "sideways"],
        ["compare", "--held-out", "missing.csv", "--protocol", "weak"],
        ["refresh", "--source", "myspace"],
        ["refresh", "--date", "2020-01-01"],
        ["refresh", "--from", "2026-02-01", "--to", "2026-01-05"],
        ["refresh", "--date", "2026-02-01", "--to", "2026-02-05"],
        ["refresh", "--date", "yesterday"],
        ["refresh", "--source", "simulator"],
        ["import", "x.csv", "--format", "xml"],
        ["import", "x.csv", "--as-of", "2090-01-01"],
        ["status", "--colour"],
        ["rollback"],
        ["rollback", "2026-11-23-82b796fa220a"],
        ["rollback", "../models"],
        ["recommend", "--user", "rock1", "-k", "0"],
    ],
)
def test_what_cannot_be_done_is_one_line(lake: Path, arguments: list[str]) -> None:
    before = snapshot(lake)
    complaint(tunegraph(*arguments, "--lake", lake))
    assert snapshot(lake) == before


def test_commands_on_no_lake_say_how_to_make_one(tmp_path: Path) -> None:
    for arguments in (["status"], ["refresh"], ["recommend", "--user", "a"], ["similar", "b"]):
        assert "there is no lake at" in complaint(tunegraph(*arguments, "--lake", tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_a_lake_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    likes = two_scenes(tmp_path / "likes.csv")
    assert "choose another --lake" in complaint(tunegraph("import", likes, "--lake", likes / "lake"))


def test_a_lake_of_a_newer_version_is_left_alone(lake: Path, tmp_path: Path) -> None:
    path = lake / "lake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    before = snapshot(lake)
    likes = two_scenes(tmp_path / "likes.csv")
    for arguments in (["import", likes], ["refresh"], ["status"], ["recommend", "--user", "rock1"]):
        assert "install a newer TuneGraph" in complaint(tunegraph(*arguments, "--lake", lake))
    assert snapshot(lake) == before


def test_a_setting_that_makes_no_sense_is_named(lake: Path) -> None:
    path = lake / "lake.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"graph": {"held_out": 7}}}))
    assert "settings.graph: held_out" in complaint(tunegraph("refresh", "--lake", lake))


@pytest.fixture
def other_writer(lake: Path) -> Iterator[int]:
    """Another process that writes to the lake, by its pid."""
    code = (
        "import sys, time, pathlib; from tunegraph_pipeline.lake.lock import write_lock\n"
        "with write_lock(pathlib.Path(sys.argv[1]), 'another refresh'):\n"
        "    print('held', flush=True); time.sleep(120)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(lake)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process.pid
    process.kill()
    process.communicate()


def test_a_refresh_in_steps_is_one_run_each_and_asks_for_every_day_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, str, str, str]] = []

    def run(_: object, job: str, first: date, last: date, *, ops: dict[str, Any]) -> None:
        asked = ops["crawled_users"]
        runs.append((str(first), str(last), asked["first"], asked["last"]))

    monkeypatch.setattr("tunegraph_pipeline.cli.refresh.run_with_bars", run)
    days = ["--from", "2026-01-01", "--to", "2026-01-10"]
    done = tunegraph("refresh", "--lake", tmp_path / "lake", "--source", "simulator", *days, "--step", 4)
    assert done.returncode == 0, done.stderr
    spans = [("2026-01-01", "2026-01-04"), ("2026-01-05", "2026-01-08"), ("2026-01-09", "2026-01-10")]
    assert runs == [(*span, *span) for span in spans]


@pytest.mark.kill
def test_a_second_writer_that_is_to_wait_goes_on_when_the_first_is_killed(
    lake: Path, tmp_path: Path, other_writer: int
) -> None:
    more = tmp_path / "more.csv"
    more.write_text("user_id,track_id\nnew,new\n")
    command = [*TUNEGRAPH, "import", str(more), "--lake", str(lake), "--wait", "300"]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    first = waiting.stderr.readline()
    os.kill(other_writer, signal.SIGKILL)
    _, rest = waiting.communicate(timeout=300)
    assert f"waiting for another refresh (process {other_writer} on" in first
    assert "died without finishing" in rest
    assert waiting.returncode == 0


def test_a_second_writer_is_told_who_the_first_is(lake: Path, tmp_path: Path, other_writer: int) -> None:
    more = tmp_path / "more.csv"
    more.write_text("user_id,track_id\nnew,new\n")
    for arguments in (["refresh"], ["import", str(more)]):
        said = complaint(tunegraph(*arguments, "--lake", lake))
        assert f"another refresh (process {other_writer} on" in said
    assert tunegraph("status", "--lake", lake).returncode == 0


def no_file_above(size: int) -> Callable[[], None]:
    """Make the kernel refuse files above a size, as a full disk would, in a process to be."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_disk_that_fills_up_leaves_the_lake_usable(lake: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.csv"
    # Ids without a pattern, or they would be compressed to nothing.
    dice = random.Random(1)
    rows = [f"user{row % 200},{dice.getrandbits(64):x}" for row in range(4000)]
    many.write_text("user_id,track_id\n" + "\n".join(rows) + "\n")
    before = snapshot(lake)
    assert "cannot write" in complaint(
        tunegraph_process("import", many, "--lake", lake, preexec_fn=no_file_above(20_000))
    )
    assert snapshot(lake) == before
    assert tunegraph("import", many, "--lake", lake).returncode == 0


@pytest.mark.parametrize(
    "stage", [pytest.param(".dagster/dagster.yaml", marks=pytest.mark.nightly), "co_like/CURRENT"]
)
def test_ctrl_c_in_a_refresh_ends_it_and_the_next_one_goes_on(lake: Path, stage: str) -> None:
    """Interrupted as soon as each stage has left its mark, with the next one under way."""
    process = subprocess.Popen(
        [*LEAN, "refresh", "--lake", str(lake)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell has the signal ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    while not (lake / stage).exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.rstrip().endswith("the lake is as it was after the last finished step")
    assert tunegraph("refresh", "--lake", lake).returncode == 0
    assert tunegraph("recommend", "--lake", lake, "--user", "rock1").returncode == 0


def test_a_user_with_one_like_is_served_and_a_track_nobody_likes_is_where_its_artist_is_known(
    lake: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more.csv"
    more.write_text("user_id,track_id\nana,rock-1\n")
    unheard = tmp_path / "tracks.csv"
    unheard.write_text("track_id,track_name,track_artist\nrock-1,One,Band\nunheard,Two,Band\nnobody,Three,\n")
    assert tunegraph("import", more, unheard, "--lake", lake).returncode == 0
    done = tunegraph("refresh", "--lake", lake)
    assert done.returncode == 0, done.stderr
    answer = tunegraph("recommend", "--lake", lake, "--user", "ana", "-k", 100, "--json")
    found = [item["track_id"] for item in json.loads(answer.stdout)["items"]]
    assert "unheard" in found
    found.remove("unheard")
    assert found[0].startswith("rock-")
    assert "nobody" not in found  # nothing says where it belongs
    for track in ("unheard", "nobody"):
        assert tunegraph("similar", track, "--lake", lake).returncode == 0


def test_a_lake_in_which_nobody_likes_two_songs_says_what_it_lacks(tmp_path: Path) -> None:
    likes = tmp_path / "likes.csv"
    likes.write_text("user_id,track_id\nana,song\nbob,song\n")
    lake = tmp_path / "lake"
    assert tunegraph("import", likes, "--lake", lake).returncode == 0
    assert "no user has two likes to learn from" in complaint(tunegraph("refresh", "--lake", lake))


def test_simulated_and_real_likes_do_not_mix_by_accident(lake: Path) -> None:
    assert "--mix-sources" in complaint(tunegraph("refresh", "--lake", lake, "--source", "simulator"))


def test_an_unlike_shows_at_the_next_import(tmp_path: Path) -> None:
    lake, likes = tmp_path / "lake", two_scenes(tmp_path / "likes.csv")
    assert tunegraph("import", likes, "--lake", lake, "--as-of", "2026-02-01").returncode == 0
    shorter = tmp_path / "later.csv"
    shorter.write_text("user_id,track_id\nrock1,rock-1\n")
    assert tunegraph("import", shorter, "--lake", lake, "--as-of", "2026-02-02").returncode == 0
    assert tunegraph("refresh", "--lake", lake).returncode == 0
    current = pl.read_parquet(lake / "current_likes" / "cut_off=2026-02-02" / "data.parquet")
    assert current.filter(user_id="rock1")["track_id"].to_list() == ["rock-1"]
    assert current["user_id"].n_unique() == 60


def test_what_listeners_said_is_in_the_next_refresh_and_half_a_line_is_told(
    refreshed: Path, tmp_path: Path
) -> None:
    lake = shutil.copytree(refreshed, tmp_path / "lake")
    before = json.loads(tunegraph("recommend", "--lake", lake, "--user", "rock3", "--json").stdout)["items"]
    liked, disliked = (item["track_id"] for item in before[:2])
    append(lake, "worker", "rock3", [(liked, "like"), (disliked, "dislike")])
    (spooled,) = (lake / SPOOL).rglob("*.jsonl")
    spooled.write_bytes(spooled.read_bytes() + b'{"at": "20')
    done = tunegraph("refresh", "--lake", lake, "--source", "none")
    assert done.returncode == 0, done.stderr
    assert f"feedback: 2 of {spooled.parent.name}" in done.stderr
    assert "feedback not used, incomplete or not JSON: 1" in done.stderr
    assert "like 1, dislike 1, skip 0; listeners 1" in done.stdout
    after = json.loads(tunegraph("recommend", "--lake", lake, "--user", "rock3", "-k", 100, "--json").stdout)[
        "items"
    ]
    assert not {liked, disliked} & {item["track_id"] for item in after}
    answer = tunegraph("recommend", "--lake", lake, "--user", "rock3").stdout
    assert liked in answer.split("recommendations")[0]
    assert len(list((lake / SPOOL / "rejected").iterdir())) == 1
