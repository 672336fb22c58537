"""The settings of a lake as one model: what it refuses, what it reads, and how little it loads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunegraph_pipeline.cli import app as cli
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.settings import (
    GraphSettings,
    LakeSettings,
    ScheduleSettings,
    check_settings,
    open_lake,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def test_a_lake_without_settings_has_the_defaults(lake: Lake) -> None:
    assert open_lake(lake.root).file == lake.file
    assert check_settings(lake) == LakeSettings()


def test_a_lake_that_sets_only_what_earlier_versions_knew_opens(lake: Lake) -> None:
    lake.set_section("training", {"dimension": 8, "epochs": 2})
    lake.set_section("simulator", {"n_users": 60, "n_tracks": 150, "over_http": False})
    lake.set_section("graph", {"held_out": 0.0})
    settings = check_settings(open_lake(lake.root))
    assert (settings.training.dimension, settings.simulator.n_tracks) == (8, 150)
    assert settings.graph == lake.section("graph", GraphSettings) == GraphSettings(held_out=0.0)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("trainig", {"epochs": 2}, "settings.trainig is no section; did you mean training?"),
        (
            "zzz",
            {},
            "settings.zzz is no section; known are simulator, listenbrainz, listenbrainz_dumps, spotify, ",
        ),
        ("graph", {"heldout": 0.1}, "settings.graph.heldout is no setting; did you mean held_out?"),
        ("simulator", {"n_user": 5}, "settings.simulator.n_user is no setting; did you mean n_users?"),
        ("graph", {"held_out": 0.9}, "settings.graph: held_out: has to be below 0.5"),
        ("retention", {"ttl_days": {"spotify": 0}}, "settings.retention: ttl_days.spotify: has to be"),
        (
            "schedules",
            {"daily": "at four"},
            "settings.schedules: daily: 'at four' is not",
        ),
        (
            "assets",
            {"owners": ["team:music", "me"]},
            "settings.assets: owners: 'me' is neither an e-mail address nor a team, as 'team:music'",
        ),
        (
            "assets",
            {"code_url": "github.com/me"},
            "settings.assets: code_url: 'github.com/me' does not begin",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    lake: Lake, section: str, values: dict[str, Any], said: str
) -> None:
    lake.set_section(section, values)
    with pytest.raises(LakeError) as caught:
        open_lake(lake.root)
    assert str(caught.value).startswith(f"{lake.root / 'lake.json'}: {said}")
    assert "\n" not in str(caught.value)


def test_a_section_read_alone_names_the_nearest_key_too(lake: Lake) -> None:
    lake.set_section("graph", {"neighbors": 5})
    with pytest.raises(LakeError, match=r"settings.graph.neighbors is no setting; did you mean neighbours\?"):
        lake.section("graph", GraphSettings)


def test_a_command_refuses_a_misspelt_section(lake: Lake) -> None:
    lake.set_section("schedule", {"daily": "30 4 * * *"})
    result = CliRunner().invoke(cli.app, ["status", "--lake", str(lake.root)])
    assert result.exit_code != 0
    assert "did you mean schedules?" in str(result.exception) + result.output


@pytest.mark.parametrize("cron", ["30 4 * * *", "*/5 0-6 1,15 jan mon#2", "@daily"])
def test_times_that_dagster_takes_pass(cron: str) -> None:
    assert ScheduleSettings(daily=cron).daily == cron


def test_the_settings_load_nothing_that_a_stage_runs_on() -> None:
    code = (
        "import sys, tunegraph_pipeline.pipeline.settings\n"
        "heavy = {'torch', 'dagster', 'sklearn', 'matplotlib', 'torch_geometric', 'scipy'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
