"""What puts TuneGraph on a server: pins that every supported Python can install, and units for systemd."""

import configparser
import re
import shlex
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.specifiers import SpecifierSet

from tunegraph_pipeline.cli.app import app
from tunegraph_pipeline.orchestration.alert import WEBHOOK_VARIABLE
from tunegraph_pipeline.serve.access import KEY_VARIABLE
from tunegraph_pipeline_tests.conftest import PROJECT

UNITS = sorted((PROJECT / "deploy").glob("*.service"))
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


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists_where_the_page_puts_it(path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(path.read_text())
    service = unit["Service"]
    program, name, *options = shlex.split(service["ExecStart"])
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, options)
    folder = service["ReadWritePaths"]
    for told in (program.removesuffix("/.venv/bin/tunegraph"), folder, path.stem, service["User"]):
        assert told in PAGE
    assert service["Environment"] == f"TUNEGRAPH_LAKE={folder}/lake"
    assert service["EnvironmentFile"].removeprefix("-") in PAGE


def test_the_page_names_secrets_as_the_program_does() -> None:
    for name in (KEY_VARIABLE, WEBHOOK_VARIABLE, "SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET"):
        assert name in PAGE
