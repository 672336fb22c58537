"""`tunegraph simulator --dumps`: a folder is filled, served, and brought up to a later day."""

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests

from tunegraph_pipeline.simulator.dump_server import DumpServer
from tunegraph_pipeline.simulator.dumps.archives import MIRROR_FOLDER
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

SMALL = ("--users", 30, "--tracks", 60, "--port", 0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The incremental dumps that each call of the command lists, as it serves them."""
    found: list[str] = []

    def serve(server: AbstractContextManager[Any], announce: Any) -> None:
        with server as served:
            assert isinstance(served, DumpServer)
            announce()
            listing = f"{served.url}/{MIRROR_FOLDER}/incremental/"
            found.append(requests.get(listing, timeout=10).text)

    monkeypatch.setattr("tunegraph_pipeline.simulator.server.serve", serve)
    return found


def test_a_folder_is_filled_and_followed(tmp_path: Path, seen: list[str]) -> None:
    folder = tmp_path / "dumps"
    first = tunegraph("simulator", "--dumps", folder, "--date", "2026-09-02", *SMALL)
    later = tunegraph("simulator", "--dumps", folder, "--date", "2026-09-03", *SMALL)

    assert (first.returncode, later.returncode) == (0, 0)
    # The address to give as --mirror is the folder that has the dumps of ListenBrainz.
    assert re.search(rf"mirror  http://127\.0\.0\.1:\d+/{MIRROR_FOLDER}\n", first.stdout)
    assert first.stderr.count("wrote pub/musicbrainz/") == 3
    assert later.stderr.count("wrote pub/musicbrainz/") == 1
    assert [text.count("-incremental/</a>") for text in seen] == [1, 2]

    other = tunegraph("simulator", "--dumps", folder, "--date", "2026-09-03", *SMALL, "--seed", 8)
    assert "holds dumps of another world (30 users, 60 songs, seed 7)" in complaint(other)
    earlier = tunegraph("simulator", "--dumps", folder, "--date", "2026-08-31", *SMALL)
    assert "the first full export is of 2026-09-01" in complaint(earlier)
