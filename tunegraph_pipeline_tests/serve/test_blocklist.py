"""Reading the blocklist."""

from pathlib import Path

import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.serve.blocklist import Blocklist


def test_tracks_and_artists_are_read_and_comments_are_not(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text(
        "\ufeff# taken down\n\ntrack:4uLU6hMCjMI75M1A2tKUQC\r\n  artist: AC/DC: Live  \n"
        "ARTIST:0OdUWJ0sBjDrqHygGUXeCF\n"
        "track:spotify:track:x\n",
        encoding="utf-8",
    )
    found = Blocklist.read(path)
    assert found.tracks == {"4uLU6hMCjMI75M1A2tKUQC", "spotify:track:x"}
    assert found.artists == {"AC/DC: Live", "0OdUWJ0sBjDrqHygGUXeCF"}


def test_no_file_blocks_nothing() -> None:
    assert Blocklist.read(None) == Blocklist()


@pytest.mark.parametrize("line", ["Nickelback", "artist:", "album:1", ":x", "track: "])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text(f"track:a\n# fine\n{line}\n")
    with pytest.raises(InputError, match=r"blocked\.txt line 3: .*track:ID"):
        Blocklist.read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt cannot be read: No such file"):
        Blocklist.read(tmp_path / "nowhere.txt")
    (tmp_path / "latin.txt").write_bytes("artist:Beyonc\xe9\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8"):
        Blocklist.read(tmp_path / "latin.txt")
