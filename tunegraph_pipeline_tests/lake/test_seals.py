"""A flipped bit in a sealed file is found, or changes nothing that is read; files without a seal are read."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake import seals
from tunegraph_pipeline.lake.parquet import UNREADABLE, count_rows, read_metadata, read_rows, write_rows
from tunegraph_pipeline.lake.tensors import load_tensors, save_tensors

ROWS = pl.DataFrame({"user_id": ["ann", "ben", "ann"], "track_id": ["a", "a", "bé"], "n": [1, None, 3]})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    write_rows(ROWS.to_arrow().replace_schema_metadata({"tunegraph.inputs": "abc"}), path)
    return path


def read(path: Path) -> pl.DataFrame:
    return read_rows(path, None, lambda _: None)


def flipped(content: bytes, seed: int) -> Iterator[bytes]:
    """The content with one random bit of each of its bytes flipped."""
    dice = random.Random(seed)
    for at in range(len(content)):
        broken = bytearray(content)
        broken[at] ^= 1 << dice.randrange(8)
        yield bytes(broken)


def test_a_flipped_bit_of_a_table_is_found_or_changes_nothing(table: Path, tmp_path: Path) -> None:
    found = 0
    content = table.read_bytes()
    for number, broken in enumerate(flipped(content, 1)):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(broken)
        try:
            assert_frame_equal(read(path), ROWS)
        except UNREADABLE:
            found += 1
    # Those in the mark alone only take the seal away.
    assert found >= len(content) - 16


def test_a_flipped_bit_of_a_footer_is_found_where_the_footer_alone_is_read(
    table: Path, tmp_path: Path
) -> None:
    content = table.read_bytes()
    size = int.from_bytes(content[-8:-4], "little") + 8
    for number, footer in enumerate(flipped(content[-size:], 2)):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(content[:-size] + footer)
        for read_footer in (read_metadata, count_rows):
            with pytest.raises(UNREADABLE):
                read_footer(path)


def test_other_readers_do_not_see_the_seal(table: Path) -> None:
    assert_frame_equal(pl.read_parquet(table), ROWS)
    with duckdb.connect() as database:
        assert database.execute(f"SELECT count(*), sum(n) FROM '{table}'").fetchall() == [(3, 4)]
    assert read_metadata(table)[b"tunegraph.inputs"] == b"abc"
    assert count_rows(table) == 3


def test_sealing_again_changes_nothing(table: Path) -> None:
    before = table.read_bytes()
    seals.seal_parquet(table)
    assert table.read_bytes() == before


def test_a_table_without_a_seal_is_read_and_can_be_given_one(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    ROWS.write_parquet(path)
    assert not seals.check_parquet(path)
    assert_frame_equal(read(path), ROWS)
    seals.seal_parquet(path)
    assert seals.check_parquet(path)
    assert_frame_equal(read(path), ROWS)


def test_an_empty_table_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    write_rows(pa.table({"user_id": pa.array([], pa.string())}), path)
    assert seals.check_parquet(path)
    assert read(path).is_empty()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 100, b"PAR1" + b"\xff" * 4 + b"PAR1"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(content)
    for act in (seals.check_parquet, seals.check_footer, seals.seal_parquet):
        with pytest.raises(ValueError, match="cut short"):
            act(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"a": 1, "b": {"c": "é"}}, indent=1, ensure_ascii=False), {"a": 1, "b": {"c": "é"}}),
        (json.dumps({"a": [1, 2]}), {"a": [1, 2]}),
        ("{}", {}),
        (json.dumps({"a": ["}", "\n}"]}, indent=1) + "\n", {"a": ["}", "\n}"]}),
    ],
)
def test_a_flipped_bit_of_a_document_is_found_or_changes_nothing(text: str, said: object) -> None:
    sealed = seals.sealed_json(text).encode()
    assert seals.read_json(sealed) == said
    assert seals.keeps_seal(sealed)
    for broken in flipped(sealed, 3):
        try:
            found = seals.read_json(broken)
        except ValueError:
            continue
        # Of a damaged name of the checksum itself, a member is left that nobody asks for.
        assert {name: found.get(name) for name in found if name in said} == said  # type: ignore[operator]


def test_a_flipped_bit_of_tensors_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path, tensors = tmp_path / "weights.safetensors", {"weight": np.arange(3, dtype=np.float32)}
    save_tensors(path, tensors, {"best_epoch": "3"})
    for broken in flipped(path.read_bytes(), 5):
        path.write_bytes(broken)
        try:
            found, facts = load_tensors(path)
        except LakeError:
            continue
        assert found["weight"].tolist() == [0, 1, 2]
        assert facts.get("best_epoch", "3") == "3"


def test_the_same_tensors_and_facts_are_the_same_bytes(tmp_path: Path) -> None:
    facts = {"format": "1", "fingerprint": "abc", "best_epoch": "3"}
    written = set()
    for number in range(8):
        save_tensors(tmp_path / f"{number}.safetensors", {"weight": np.zeros(3, np.float32)}, facts)
        written.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(written) == 1
    assert load_tensors(tmp_path / "0.safetensors")[1] == facts


def test_a_document_without_a_seal_is_read() -> None:
    assert seals.read_json(b'{"a": 1}') == {"a": 1}
    assert seals.keeps_seal(b'{"a": 1}') is None
    assert seals.read_json(b"[1]") == [1]


@pytest.mark.parametrize("name", ["2026-11-23", "2026-11-23-82b796fa220a", "é"])
def test_a_flipped_bit_of_a_name_is_found_or_changes_nothing(name: str) -> None:
    sealed = seals.sealed_name(name)
    assert seals.read_name(sealed) == sealed.strip() == name
    for broken in flipped(sealed.encode(), 4):
        try:
            assert seals.read_name(broken.decode()) == name
        except ValueError:
            continue


@pytest.mark.parametrize("text", ["2026-11-23\n", "2026-11-23"])
def test_a_name_without_a_seal_is_read(text: str) -> None:
    assert seals.read_name(text) == "2026-11-23"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("data.parquet", ROWS.write_parquet),
        ("batch.json", lambda path: path.write_text('{"a": "é"}')),
        ("publications.jsonl", lambda path: path.write_text('{"a": 1}\n{"b": 2}\n')),
        ("CURRENT", lambda path: path.write_text("2026-11-23\n")),
    ],
)
def test_every_kind_of_file_is_given_a_seal(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    path = tmp_path / name
    write(path)
    assert not seals.is_sealed(path)
    seals.seal(path)
    assert seals.is_sealed(path)
