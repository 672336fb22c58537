"""What puts TuneGraph on a server: pins that every supported Python can install, and units for systemd."""

import configparser
import re
import shlex
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import typer
from dagster_shared.yaml_utils import load_yaml_from_path
from packaging.specifiers import SpecifierSet

from tunegraph_pipeline.cli.app import app
from tunegraph_pipeline.orchestration.alert import WEBHOOK_VARIABLE
from tunegraph_pipeline.orchestration.dagster_page import MODULE
from tunegraph_pipeline.serve.access import KEY_VARIABLE
from tunegraph_pipeline_tests.conftest import PROJECT

UNITS = sorted((PROJECT / "deploy").glob("*.service"))
UNITS_OF_CLUSTERS = sorted((PROJECT / "deploy" / "cluster").glob("*.service"))
PAGE = (PROJECT / "docs" / "running.md").read_text()


def test_what_is_pinned_can_be_installed_on_the_first_python_supported() -> None:
    """Debian 12 has 3.11.2: a pin that needs a later one fails there alone."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    too_new = [
        f"{one.name} {one.version}: {needs}"
        for one in distributions()
        if pins.get(one.name.lower().replace("_", "-")) == one.version
        and (needs := one.metadata["Requires-Python"])
        and "3.11.0" not in SpecifierSet(needs)
    ]
    assert too_new == []


def section_of(path: Path) -> configparser.SectionProxy:
    """Section `Service` of a unit."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(path.read_text())
    return unit["Service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists_where_the_page_puts_it(path: Path) -> None:
    service = section_of(path)
    program, name, *options = shlex.split(service["ExecStart"])
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, options)
    folder = service["ReadWritePaths"]
    for told in (program.removesuffix("/.venv/bin/tunegraph"), folder, path.stem, service["User"]):
        assert told in PAGE
    assert service["Environment"] == f"TUNEGRAPH_LAKE={folder}/lake"
    assert service["EnvironmentFile"].removeprefix("-") in PAGE


@pytest.mark.parametrize("path", UNITS_OF_CLUSTERS, ids=lambda path: path.stem)
def test_a_unit_of_several_machines_starts_a_command_of_dagster_that_exists(path: Path) -> None:
    from dagster._cli.code_server import code_server_cli
    from dagster._daemon.cli import cli as daemon
    from dagster_webserver.cli import dagster_webserver

    service = section_of(path)
    program, *options = shlex.split(service["ExecStart"])
    commands: dict[str, tuple[int, Any]] = {
        "tunegraph-code": (2, code_server_cli.commands["start"]),
        "tunegraph-daemon": (1, daemon.commands["run"]),
        # `-m MODULE webserver` hands the rest to Dagster's own.
        "tunegraph-page": (3, dagster_webserver),
    }
    words, command = commands[path.stem]
    here = [one.replace("/opt/tunegraph", str(PROJECT)) for one in options[words:]]
    given = command.make_context(program, here).params
    if path.stem == "tunegraph-page":
        assert options[:words] == ["-m", MODULE, "webserver"]
    if path.stem == "tunegraph-code":
        assert given["module_name"] == "tunegraph_pipeline.definitions"
        assert (given["host"], given["port"]) == ("127.0.0.1", 4266)
    else:
        assert given["workspace"] == (str(PROJECT / "workspace.cluster.yaml"),)
        assert service["Environment"] == "TUNEGRAPH_CODE_HOST=127.0.0.1 TUNEGRAPH_CODE_PORT=4266"
    page = (PROJECT / "docs" / "postgres.md").read_text()
    assert f"`{path.stem}`" in page
    assert service["EnvironmentFile"] in page


def test_the_settings_of_several_machines_are_those_of_one_and_where_the_history_is() -> None:
    one, several = (
        load_yaml_from_path(str(PROJECT / name)) for name in ("dagster.yaml", "dagster.cluster.yaml")
    )
    assert isinstance(one, dict)
    assert isinstance(several, dict)
    database = several.pop("storage")["postgres"]["postgres_db"]
    assert database.pop("scheme") == "postgresql+psycopg2"
    page = (PROJECT / "docs" / "postgres.md").read_text()
    for source in database.values():
        assert f"{source['env']}=" in page
    del one["instance_class"]
    assert several == one


def test_the_page_names_secrets_as_the_program_does() -> None:
    for name in (KEY_VARIABLE, WEBHOOK_VARIABLE, "SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET"):
        assert name in PAGE
