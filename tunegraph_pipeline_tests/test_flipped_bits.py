"""A few flipped bits by the harness of `benchmarks/flipped_bits.py`, which damages every file of a lake."""

from pathlib import Path

import pytest

from benchmarks.flipped_bits import Flipper, small_lake

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

FILES = (
    "aliases.json",
    "tombstones.json",
    "lake.json",
    "raw/dt=2026-02-03/*/likes.parquet",
    "raw/dt=2026-02-03/*/batch.json",
    "likes/dt=2026-02-01/data.parquet",
    "current_likes/CURRENT",
    "co_like/*/manifest.json",
    "serving/publications.jsonl",
)
REFRESHED = ("users/dt=2026-02-02/data.parquet", "like_graph/*/indices.npy")


@pytest.fixture(scope="module")
def flipper(tmp_path_factory: pytest.TempPathFactory) -> Flipper:
    return Flipper(small_lake(tmp_path_factory.mktemp("flips") / "lake"), seed=1)


@pytest.mark.parametrize("pattern", [*FILES, *REFRESHED])
def test_a_flipped_bit_gives_no_wrong_answer_and_no_traceback(flipper: Flipper, pattern: str) -> None:
    name = flipper.files(pattern)[-1]
    flipper.flip(name, bits=1, refreshes=int(pattern in REFRESHED))
    assert flipper.outcome.failures == []


def test_a_wrong_answer_is_found(flipper: Flipper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunegraph_pipeline.lake.parquet.check_parquet", lambda _path: True)
    monkeypatch.setattr("tunegraph_pipeline.lake.tables.check_parquet", lambda _path: True)
    name = Path("current_likes/cut_off=2026-02-02/data.parquet")
    try:
        for _ in range(30):
            flipper.flip(name, bits=1, refreshes=0)
            if flipper.outcome.failures:
                break
        assert any(name.as_posix() in failure for failure in flipper.outcome.failures)
    finally:
        flipper.outcome.failures.clear()
