"""A source that has a name is known wherever sources are named."""

from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import pytest
import typer
from pydantic import BaseModel

from tunegraph_pipeline.cli import app as cli
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.settings import LakeSettings
from tunegraph_pipeline.pipeline.sources import CRAWLED, SOURCES, open_source
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline_tests.conftest import PROJECT

DAY = date(2026, 6, 1)
Section = TypeVar("Section", bound=BaseModel)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_documented(name: str) -> None:
    group: Any = typer.main.get_command(cli.app)
    (option,) = (one for one in group.commands["refresh"].params if one.name == "source")
    assert name in option.help, f"name {name} in the help of --source, cli/refresh.py"
    crawling = (PROJECT / "docs" / "crawl.md").read_text(encoding="utf-8")
    assert f"| `{name}`" in crawling, f"describe {name} in the table of docs/crawl.md"


@pytest.mark.parametrize("name", CRAWLED)
def test_a_name_opens_the_source_of_that_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "id")
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", "secret")
    lake = Lake.open_or_create(tmp_path / "lake")
    lake.set_section("simulator", {"n_users": 20, "n_tracks": 60})
    nowhere = "http://127.0.0.1:9"
    lake.set_section("spotify", {"mode": "extended", "api_url": nowhere, "accounts_url": nowhere})

    def section(name: str, model: type[Section]) -> Section:
        known = LakeSettings.model_fields
        assert name in known, f"give LakeSettings in pipeline/settings.py a field {name}"
        return lake.section(name, model)

    with Frontier(tmp_path / "frontier.sqlite", DAY) as frontier:
        source = open_source(name, section, RequestPolicy(), frontier, DAY)
        source.close()
    assert source.name == name


def test_another_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    lake = Lake.open_or_create(tmp_path / "lake")
    with (
        Frontier(tmp_path / "frontier.sqlite", DAY) as frontier,
        pytest.raises(InputError, match=", ".join(SOURCES)),
    ):
        open_source("lastfm", lake.section, RequestPolicy(), frontier, DAY)
