"""What is shown of a version: kept with it, drawn once, and shown again when it is reused."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.kept_figures import damaged_figures, has_figures, with_kept_figures
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.progress import Measured


def a_png(text: bytes) -> bytes:
    """The signature, a part with a text, and the end."""
    part = b"tEXt" + text
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"\x89PNG\r\n\x1a\n" + len(text).to_bytes(4) + part + zlib.crc32(part).to_bytes(4) + end


ONE, TWO = a_png(b"one"), a_png(b"two")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open_or_create(tmp_path / "lake")


def made(version: str = "v1", picture: bytes = ONE) -> StageResult:
    with Measured() as cost:
        pass
    return StageResult(
        version,
        "rebuilt",
        cost,
        rows=3,
        facts={"map@10": 0.1 + 0.2, "best": "π", "by band": {"head": 1, "tail": None}},
        plots={"chart": lambda: picture},
        tables={"figures": "| a |", "counts": {"users": 2}},
        notes=["judged on 2 users"],
    )


def shown(result: StageResult) -> tuple[object, ...]:
    plots = {name: draw() for name, draw in result.plots.items()}
    return result.rows, result.facts, plots, result.tables, result.notes


def test_a_reused_version_shows_what_it_showed_when_it_was_made(lake: Lake) -> None:
    first = with_kept_figures(lake, "evaluation", made())
    assert shown(first) == shown(made())
    with Measured() as cost:
        pass
    again = with_kept_figures(lake, "evaluation", StageResult("v1", "reused", cost))
    assert shown(again) == shown(first)
    assert (again.how, again.cost) == ("reused", cost)


def test_a_plot_is_drawn_once_even_where_nobody_looked_at_first(lake: Lake) -> None:
    with_kept_figures(lake, "track_embeddings", made())
    reused = replace(made(picture=TWO), how="reused")
    looked = with_kept_figures(lake, "track_embeddings", reused)
    assert looked.plots["chart"]() == TWO
    nothing = with_kept_figures(lake, "track_embeddings", replace(reused, plots={}))
    assert nothing.plots["chart"]() == TWO


def test_a_damaged_plot_is_named_and_drawn_again(lake: Lake) -> None:
    kept = with_kept_figures(lake, "track_embeddings", made())
    kept.plots["chart"]()
    (path,) = lake.figures.rglob("*.png")
    for at in range(len(ONE)):
        path.write_bytes(ONE[:at] + bytes([ONE[at] ^ 4]) + ONE[at + 1 :])
        assert (path, True) in damaged_figures(lake)
    reused = replace(made(picture=TWO), how="reused")
    assert with_kept_figures(lake, "track_embeddings", reused).plots["chart"]() == TWO
    assert (path, False) in damaged_figures(lake)


def test_a_version_that_is_made_again_replaces_what_was_kept(lake: Lake) -> None:
    with_kept_figures(lake, "trained_model", made()).plots["chart"]()
    again = with_kept_figures(lake, "trained_model", made(picture=TWO))
    assert again.plots["chart"]() == TWO


def test_as_many_are_kept_as_there_are_versions_kept_and_always_the_current(lake: Lake) -> None:
    for number in range(lake.kept_versions + 2):
        with_kept_figures(lake, "evaluation", made(f"v{number}"))
    last = f"v{lake.kept_versions + 1}"
    assert has_figures(lake, "evaluation", last)
    assert not has_figures(lake, "evaluation", "v0")
    assert len(list((lake.figures / "evaluation").iterdir())) == lake.kept_versions


def test_a_damaged_document_counts_as_none(lake: Lake) -> None:
    with_kept_figures(lake, "evaluation", made())
    (lake.figures_of("evaluation", "v1") / "figures.json").write_text('{"rows": ')
    assert not has_figures(lake, "evaluation", "v1")
    alone = replace(made(), how="reused", facts={"map@10": 0.5}, plots={})
    assert with_kept_figures(lake, "evaluation", alone).facts == {"map@10": 0.5}


def test_a_stage_without_versions_keeps_nothing(lake: Lake) -> None:
    result = replace(made(), version=None)
    assert with_kept_figures(lake, "current_likes", result) is result
    assert not lake.figures.exists()
