"""A file of users gives back its ids, in their order and of their type, or says why it cannot."""

from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.user_ids import read_user_ids


def test_integers_of_a_parquet_file_keep_their_type(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    playlists = pl.Series([7, 3, 7], dtype=pl.Int32)
    pl.DataFrame({"playlist_id": playlists, "x": ["a", "b", "c"]}).write_parquet(path)
    ids = read_user_ids(path)
    assert ids.to_list() == [7, 3]
    assert ids.dtype == pl.Int32


@pytest.mark.parametrize("text", ["user_id\n7\n3\n", "7\n3\n", "name\tuser_id\na\t7\nb\t3\n"])
def test_whole_numbers_of_a_text_become_integers(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.txt"
    path.write_text(text)
    assert read_user_ids(path).to_list() == [7, 3]


@pytest.mark.parametrize(
    "ids", [["007", "3"], ["ana", "3"], ["1.0", "2"], ["9" * 30, "3"], ["two words", "3"]]
)
def test_what_a_number_would_not_give_back_stays_text(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user\n" + "\n".join(ids) + "\n")
    assert read_user_ids(path).to_list() == ids


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("who,age\nana,4\n")
    assert read_user_ids(path, "who").to_list() == ["ana"]


@pytest.mark.parametrize(
    ("content", "column", "says"),
    [
        (b"called,age\nana,4\n", None, "none known to hold users"),
        (b"who,age\nana,4\n", "name", "none known to hold users"),
        (b"", None, "is empty"),
        (b"PAR1", None, "damaged parquet file"),
        (b"\x00\x01\x02a", None, "is a binary file"),
    ],
)
def test_a_file_without_users_is_one_line(
    tmp_path: Path, content: bytes, column: str | None, says: str
) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_user_ids(path, column)


def test_ids_of_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    pl.DataFrame({"user_id": [1.5]}).write_parquet(path)
    with pytest.raises(InputError, match="text or whole numbers"):
        read_user_ids(path)
