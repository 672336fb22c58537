"""`tunegraph ui` up to the point where the process becomes Dagster."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration import dagster_page
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = pytest.mark.slow  # it imports Dagster


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The arguments and the environment of every Dagster that would have been started."""
    found: list[tuple[list[str], dict[str, str]]] = []

    def execve(_program: str, arguments: list[str], environment: dict[str, Any]) -> None:
        found.append((arguments, environment))

    monkeypatch.setattr(os, "execve", execve)
    return found


def test_on_a_lake_that_is_missing_it_stops_with_one_line_and_makes_none(
    tmp_path: Path, started: list[object]
) -> None:
    assert "there is no lake at" in complaint(tunegraph("ui", "--lake", tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    assert not started


def test_on_a_busy_port_it_stops_with_one_line(tmp_path: Path, started: list[object]) -> None:
    lake = Lake.open_or_create(tmp_path / "lake").root
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = complaint(tunegraph("ui", "--lake", lake, "--port", port))
    assert f"port {port} on 127.0.0.1 is in use; choose another --port" in said
    assert not started


def test_dagster_is_started_on_the_lake_and_told_to_be_quiet(
    tmp_path: Path, started: list[tuple[list[str], dict[str, str]]]
) -> None:
    lake = Lake.open_or_create(tmp_path / "lake").root
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = tunegraph("ui", "--lake", lake, "--port", port, "--allow-host", "Dagster.example.org")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"Dagster on http://127.0.0.1:{port} for ")
    ((arguments, environment),) = started
    assert arguments[1:4] == ["-m", dagster_page.MODULE, "dev"]
    assert arguments[arguments.index("-h") + 1] == "127.0.0.1"
    assert arguments[arguments.index("-p") + 1] == str(port)
    assert arguments[arguments.index("--log-level") + 1] == "error"
    assert environment["TUNEGRAPH_LAKE"] == str(lake.resolve())
    assert environment["DAGSTER_HOME"].startswith(str(lake.resolve()))
    assert environment["TUNEGRAPH_UI_HOSTS"] == "dagster.example.org"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TUNEGRAPH_UI_HOSTS", "https://dagster.example.org"), ("TUNEGRAPH_UI_TOKEN", "short")],
)
def test_a_wrong_name_or_token_is_a_line(
    tmp_path: Path, started: list[object], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    lake = Lake.open_or_create(tmp_path / "lake").root
    monkeypatch.setenv(variable, value)
    said = complaint(tunegraph("ui", "--lake", lake))
    assert ("dagster.example.org:8443" if variable.endswith("HOSTS") else variable) in said
    assert not started
