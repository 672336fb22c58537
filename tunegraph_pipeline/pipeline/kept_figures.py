"""Keep with a version what is shown of it: a stage that reuses one shows what it showed when it was made.

Here: the folder `figures/STAGE/VERSION`, with a JSON document of rows, facts, tables and notes, and a PNG for
each plot that was drawn. Not here: drawing (`evaluation.plots`), or showing (`orchestration.metadata`).
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.lake.storage import remove_folder, staged_file, staged_folder
from tunegraph_pipeline.pipeline.stage_result import Plot, StageResult

DOCUMENT = "figures.json"
_PNG = b"\x89PNG\r\n\x1a\n"


def with_kept_figures(lake: Lake, stage: str, result: StageResult) -> StageResult:
    """Keep the figures of a new version, and give a reused one those that were kept. Its plots are drawn
    once, when somebody first looks. A version from before figures were kept shows what ``result`` has."""
    if result.version is None or result.how is None:
        return result
    folder = lake.figures_of(stage, result.version)
    plots = dict(result.plots)
    if result.how != "reused":
        _write(lake, folder, result)
    elif (kept := _read(folder)) is not None:
        plots = {path.stem: path.read_bytes for path in pictures(folder)} | plots
        plots = {name: plots[name] for name in kept.pop("plots") if name in plots}
        result = replace(result, **kept)
    drawn = {name: partial(_drawn_once, lake, _picture(folder, name), draw) for name, draw in plots.items()}
    return replace(result, plots=drawn)


def has_figures(lake: Lake, stage: str, version: str) -> bool:
    """Whether the figures of a version were kept, and can be read."""
    return _read(lake.figures_of(stage, version)) is not None


def pictures(folder: Path) -> list[Path]:
    """The plots of a version that were drawn, sorted."""
    return sorted(folder.glob("*.png"))


def damaged_figures(lake: Lake) -> Iterator[tuple[Path, bool]]:
    """Every file of kept figures, and whether it is damaged."""
    for path in sorted(lake.figures.glob(f"*/*/{DOCUMENT}")):
        yield path, _read(path.parent) is None
    for path in sorted(lake.figures.glob("*/*/*.png")):
        yield path, not is_whole_png(path.read_bytes())


def is_whole_png(data: bytes) -> bool:
    """Whether every part of a PNG matches the checksum that it carries."""
    at = len(_PNG)
    while data.startswith(_PNG) and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return end + 4 == len(data)
        at = end + 4
    return False


def _write(lake: Lake, folder: Path, result: StageResult) -> None:
    document = {
        "rows": result.rows,
        "facts": dict(result.facts),
        "tables": {
            name: table if isinstance(table, str) else dict(table) for name, table in result.tables.items()
        },
        "notes": list(result.notes),
        "plots": list(result.plots),
    }
    with staged_folder(folder, lake.staging) as draft:
        text = sealed_json(json.dumps(document, indent=1, ensure_ascii=False))
        (draft / DOCUMENT).write_text(text, encoding="utf-8")
    versions = sorted(folder.parent.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))
    for old in versions[: -lake.kept_versions]:
        if old != folder:
            remove_folder(old, lake.staging)


def _read(folder: Path) -> dict[str, Any] | None:
    """The fields of a `StageResult` that were kept; None where none were, or they are damaged."""
    try:
        document = read_json((folder / DOCUMENT).read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(document, Mapping) and document.keys() == {"rows", "facts", "tables", "notes", "plots"}
    return dict(document) if known else None


def _picture(folder: Path, name: str) -> Path:
    return folder / f"{name}.png"


def _drawn_once(lake: Lake, path: Path, draw: Plot) -> bytes:
    if path.exists() and is_whole_png(png := path.read_bytes()):
        return png
    png = draw()
    with staged_file(path, lake.staging) as draft:
        draft.write_bytes(png)
    return png
