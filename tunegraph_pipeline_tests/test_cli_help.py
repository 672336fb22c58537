"""The help of the command line at 80 columns, its version, and completion."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise

import pytest

from tunegraph_pipeline.cli.app import EVERYDAY, OPERATING, SERVING, app

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


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_with_whole_paragraphs_and_an_example(command: str) -> None:
    said = tunegraph(command, "--help")
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
