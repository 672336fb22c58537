"""The help of the command line at 80 columns, its version, and completion."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise

import pytest
from typer.main import get_command

from tunegraph_pipeline.cli.app import EVERYDAY, OPERATING, SERVING, app
from tunegraph_pipeline_tests import test_cli
from tunegraph_pipeline_tests.conftest import PROJECT

COMMANDS = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback is not None]


def tunegraph(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tunegraph_pipeline", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80", **environment},
    )
    return done.stdout


def test_the_commands_are_listed_in_groups_each_with_a_whole_line() -> None:
    said = tunegraph("--help")
    assert said == tunegraph()
    assert said.startswith("Usage: tunegraph [OPTIONS] COMMAND")
    headings = re.findall(r"^(\w+):$", said, re.MULTILINE)
    assert headings == ["Options", EVERYDAY, SERVING, OPERATING]
    listed = re.findall(r"^  ([a-z]+) +\S.*\.$", said.partition(EVERYDAY)[2], re.MULTILINE)
    assert listed == COMMANDS  # each in one line, which ends in a full stop and not in dots
    assert "..." not in said.partition(EVERYDAY)[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_with_whole_paragraphs_and_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = test_cli.tunegraph(command, "--help").stdout  # a process for each would take most of the time
    assert max(map(len, said.splitlines())) <= 80
    about, _, rest = said.partition("Options:")
    paragraphs = re.split(r"\n\n", about.partition("Arguments:")[0].strip())[1:]
    for paragraph in paragraphs:
        # A line could not have held the first word of the next one: the text is wrapped once, to this width.
        for line, after in pairwise(paragraph.splitlines()):
            assert len(line) + 1 + len(after.split()[0]) > 78
    assert re.search(rf"Examples?:\n    tunegraph {command}", rest)
    assert not re.search(r"<[a-z]+", said)  # a placeholder says what is wanted, not its type in Python


def test_the_version_is_that_of_the_package() -> None:
    assert tunegraph("--version") == f"tunegraph {version('tunegraph-pipeline')}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("tunegraph re", ["refresh", "recommend"]), ("tunegraph serve --wor", ["--workers"])],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    said = tunegraph(_TUNEGRAPH_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(typed.count(" ")))
    assert said.split() == offered


def test_advice_names_commands_and_options_that_exist() -> None:
    """In messages, docstrings and documentation: `tunegraph COMMAND … --option …`."""
    commands = {"": get_command(app), **getattr(get_command(app), "commands", {})}
    options = {
        name: {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        for name, command in commands.items()
    }
    wrong = []
    for path in [
        *PROJECT.glob("tunegraph_pipeline/**/*.py"),
        *PROJECT.glob("docs/*.md"),
        PROJECT / "README.md",
    ]:
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text())  # a message over several lines
        for advice in re.findall(r"(?:`|^    )tunegraph ([^`\n]*)", text, re.MULTILINE):
            command = advice.split()[0] if advice.split() and advice.split()[0][0].isalpha() else ""
            if not command.islower():
                continue  # COMMAND
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.split(r" #|&&|\|| -- ", advice)[0]))
            if command not in options or named - options[command]:
                wrong.append(f"{path.relative_to(PROJECT)}: tunegraph {advice}")
    assert wrong == []
