"""`tunegraph forget`: where ids come from, and what is said of a request that waits."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunegraph_pipeline.cli.app import app
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.deletion_requests import pending_requests, read_user_ids, user_ids_in
from tunegraph_pipeline_tests.test_cli import TUNEGRAPH


def test_ids_come_from_standard_input_too_and_from_nothing_that_never_ends(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    arguments = ["forget", "--undo", "--file", "-", "--lake", str(lake.root)]
    done = CliRunner().invoke(app, arguments, input="nobody\n\n")
    assert isinstance(done.exception, InputError)
    assert "'nobody' was not forgotten" in str(done.exception)
    with pytest.raises(InputError, match="pipe or device"):
        read_user_ids(Path("/dev/zero"))
    with pytest.raises(InputError, match="standard input has more than 64 MB"):
        user_ids_in(bytes(65 << 20), "standard input")


def test_a_request_that_waits_says_when_it_is_worked_off(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "a lake")
    with lake.writing("a refresh"):
        done = subprocess.run(
            [*TUNEGRAPH, "forget", "ann", "--yes", "--lake", lake.root],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "the next refresh works it off (if its schedule is switched on)" in done.stderr
    assert f"`tunegraph forget --lake '{lake.root}'`" in done.stderr
    assert pending_requests(lake) == 1
