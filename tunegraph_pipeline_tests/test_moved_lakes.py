"""A lake in another place, or of another user: each command is right, or says in a line why not."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline_tests.serve.conftest import start_service
from tunegraph_pipeline_tests.test_cli import (
    TUNEGRAPH,
    Done,
    complaint,
    tunegraph,
    tunegraph_process_of,
    two_scenes,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots", "no_history")]

COUNT = "SELECT count(*) FROM tunegraph.current_likes"
OTHER_USER = 12_345


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moved")
    lake = folder / "lake"
    assert tunegraph("import", two_scenes(folder / "likes.csv"), "--lake", lake).returncode == 0
    Lake.open(lake).set_section("training", {"dimension": 8, "epochs": 1, "encoder": "none"})
    assert tunegraph("refresh", "--lake", lake).returncode == 0
    return lake


def likes(lake: Path) -> int:
    with duckdb.connect(str(lake / "lake.duckdb"), read_only=True) as database:
        ((count,),) = database.execute(COUNT).fetchall()
    return int(count)


def files(lake: Path) -> set[tuple[str, int]]:
    return {(str(path.relative_to(lake)), path.stat().st_mtime_ns) for path in lake.rglob("*")}


def test_a_lake_in_another_place_is_whole_and_leaves_the_first_alone(refreshed: Path, tmp_path: Path) -> None:
    """Copied, then renamed: the copy is nowhere but where it was moved to, although its path is markup, and a
    pattern that fits its neighbour too."""
    (tmp_path / "x[").mkdir()
    lake = shutil.copytree(refreshed, tmp_path / "copied").rename(tmp_path / "x[" / "b]it's 50% [Ann's]gl*")
    shutil.copytree(refreshed, lake.with_name("b]it's 50% Aglob"))
    status = tunegraph("status", "--lake", lake)
    assert status.returncode == 0
    assert lake.name in status.stdout
    before, answer = files(refreshed), tunegraph("recommend", "--user", "rock3", "--json", "--lake", lake)
    assert answer.stdout == tunegraph("recommend", "--user", "rock3", "--json", "--lake", refreshed).stdout
    verified = tunegraph("verify", "--lake", lake)
    assert verified.returncode == 0
    assert verified.stdout.startswith("nothing is damaged")

    more = tmp_path / "more.csv"
    more.write_text("user_id,track_id\nzoe,rock-1\nzoe,rock-2\n")
    imported = tunegraph("import", more, "--lake", lake)
    assert imported.returncode == 0
    assert f"in {lake}; next: tunegraph refresh --lake {shlex.quote(str(lake))}" in imported.stderr
    done = tunegraph("refresh", "--source", "none", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert likes(lake) == likes(refreshed) + 2
    assert tunegraph("verify", "--lake", lake).stdout.startswith("nothing is damaged")
    service = start_service(lake)
    try:
        assert service.get("/users/zoe/recommendations").status_code == 200
    finally:
        service.stop()
    assert files(refreshed) == before


def another_user(lake: Path) -> tuple[str, ...]:
    """Give the lake to another user; returns the start of a command for which it is somebody else's.

    Whoever is not root cannot give a file away: they take the rights of others from themselves."""
    if os.geteuid():
        for path in lake.iterdir():
            if not path.stat().st_mode & 0o044:
                path.chmod(0)
        for path in (lake, *lake.rglob("*/")):
            path.chmod(path.stat().st_mode & ~0o222)
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv, so that root may do everything")
    for path in (lake, *lake.rglob("*")):
        os.chown(path, OTHER_USER, OTHER_USER)
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def test_a_lake_of_another_user_is_read_as_far_as_its_owner_allows(refreshed: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(refreshed, tmp_path / "lake")
    prefix = another_user(lake)

    def run(*commands: list[str]) -> list[Done]:
        return tunegraph_process_of(prefix, *([*one, "--lake", lake] for one in commands))

    sql = (
        "import duckdb, sys; db = duckdb.connect(sys.argv[1], read_only=True)\n"
        "print(db.execute(sys.argv[2]).fetchone())"
    )
    program = [*prefix, sys.executable, "-c", sql, str(lake / "lake.duckdb"), COUNT]
    asked = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120)
    assert asked.stdout == f"({likes(refreshed)},)\n"
    verified, recommended, refused, shown = run(
        ["verify"], ["recommend", "--user", "rock3"], ["refresh"], ["ui"]
    )
    assert verified.returncode == 0, verified.stdout
    assert recommended.returncode == 0
    assert "make the folder writable" in complaint(refused)
    assert "set DAGSTER_HOME to a folder of your own" in complaint(shown)
    service = start_service(lake, prefix=prefix)
    try:
        assert service.post("/recommendations", {"likes": ["rock-1"]}).status_code == 200
    finally:
        service.stop()
    (home := tmp_path / "home").mkdir()
    another_user(home)
    program = [*prefix, "env", f"DAGSTER_HOME={home}", *TUNEGRAPH, "ui", "--lake", str(lake)]
    in_home = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    assert f"DAGSTER_HOME: {home} cannot be written; " in in_home.stderr
    assert in_home.returncode == 2

    # What only its owner may read: ids of people.
    (lake / "aliases.json").write_text('{"rock4": "rock3"}')
    (lake / "aliases.json").chmod(0o600)
    another_user(lake)
    (lake / "serving").chmod(0)
    status, verified, recommended = run(["status"], ["verify"], ["recommend", "--user", "rock3"])
    assert "aliases.json is not yours to use: permission denied" in complaint(status)
    assert verified.returncode == 2
    assert "aliases.json: cannot be read: permission denied; verify as its owner" in verified.stdout
    assert "is not yours to use: permission denied" in complaint(recommended)
