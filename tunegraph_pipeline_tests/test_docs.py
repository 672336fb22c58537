"""What README, docs and notebooks show works: commands parse, links lead somewhere, SQL and Python run.

Commands are parsed by the command line itself and not run: what they do has tests of its own.
"""

import json
import re
import shlex
import tarfile
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
import typer

from tunegraph_pipeline.cli import app as cli
from tunegraph_pipeline.graph.co_like import CoLike, build_co_like
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch, empty_frame, write_batch
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.pipeline.stages import STAGES
from tunegraph_pipeline_tests.run_stages import run_stages

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", GUIDE, *sorted((ROOT / "docs").glob("*.md"))]
EARLIER = Path(__file__).parent / "data" / "lake_of_november_2026.tar.gz"


def commands(page: str) -> Iterator[str]:
    """Every `tunegraph …` in the code blocks of a page, without comments and with its lines joined."""
    blocks = "\n".join(line for line in page.splitlines() if line.startswith("    "))
    for line in re.sub(r"\\\n\s*", "", blocks).splitlines():
        for part in re.split(r"&&|\|\|", line.split(" #")[0]):
            words = part.strip()
            if words.startswith("tunegraph "):
                yield words


SHOWN = sorted({command for page in PAGES for command in commands(page.read_text())})


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_shown_is_understood(command: str) -> None:
    name, *options = shlex.split(command.removeprefix("tunegraph "))
    group: Any = typer.main.get_command(cli.app)
    assert name in group.commands, f"`tunegraph {name}` does not exist"
    group.commands[name].make_context(name, options)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, fragment = target.partition("#")
        file = page if not name else (page.parent / name).resolve()
        assert file.exists(), f"{page.name} links to {target}, which does not exist"
        if fragment:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{page.name} links to {target}, a heading that is gone"


def test_every_file_that_the_guide_names_is_there() -> None:
    names = re.findall(r"`([\w./]+(?:/|\.(?:py|md|toml|json)))`", GUIDE.read_text())
    assert len(names) > 10
    tests = {path.name for path in (ROOT / "tunegraph_pipeline_tests").rglob("*.py")}
    for name in set(names) - tests:
        places = [
            where / name for where in (ROOT, ROOT / "tunegraph_pipeline", ROOT / "tunegraph_pipeline_tests")
        ]
        assert any(place.exists() for place in places), f"CONTRIBUTING.md names {name}, which is gone"


@pytest.mark.parametrize("name", sorted({one.name for one in STAGES} | TABLES.keys()))
def test_every_stage_and_table_is_described(name: str) -> None:
    described = (ROOT / "docs" / "architecture.md").read_text()
    assert re.search(rf"\b{name}\b[`/]", described), f"say in docs/architecture.md what {name} is"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of 48 users and 60 songs, refreshed on two days; the songs are described on both."""
    folder = tmp_path_factory.mktemp("docs")
    with tarfile.open(EARLIER) as archive:
        archive.extractall(folder)
    lake = Lake.open(folder / "lake")
    day = lake.raw_days()[-1] + timedelta(1)
    described = lake.known_tracks("tracks", day).select("track_id", "name", "artists")
    likes = pl.DataFrame({"user_id": ["new"] * 3, "track_id": described["track_id"][:3]})
    likes, tracks = (
        pl.concat([empty_frame(part), rows], how="diagonal_relaxed")
        for part, rows in (("likes", likes), ("tracks", described))
    )
    write_batch(lake.raw, day, RawBatch("files", "the second day", likes=likes, tracks=tracks))
    run_stages(lake, "refresh", day, day)
    lake.refresh_views()
    return lake


@pytest.mark.slow
def test_the_sql_of_the_readme_counts_everybody_once_after_two_refreshes(lake: Lake) -> None:
    assert len(lake.partitions("current_likes")) == 2
    (query,) = re.findall(r"^    (SELECT .*?;)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    with duckdb.connect(str(lake.root / "lake.duckdb"), read_only=True) as database:
        shown = database.execute(query).fetchall()
    names = dict(lake.read("catalogue", lake.current_version("catalogue")).select("track_id", "name").rows())
    liked = lake.read("current_likes", lake.current_version("current_likes"))["track_id"]
    counts = Counter(names[track] for track in liked)
    assert len(shown) == 5
    assert all(counts[name] == n for name, n in shown)
    assert [n for _, n in shown] == [n for _, n in counts.most_common(5)]


def test_the_python_of_the_page_on_co_likes_prints_what_it_shows(tmp_path: Path) -> None:
    from scipy.sparse import csr_matrix

    likes = csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], dtype=np.float32))
    folder = tmp_path / "matrix"
    folder.mkdir()
    build_co_like(likes, folder)
    page = (ROOT / "docs" / "co_like.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"CoLike": CoLike, "folder": folder}
    lines = block.splitlines()
    for place, line in enumerate(lines):
        if not line.startswith(">>> "):
            continue
        source = line.removeprefix(">>> ")
        if " = " in source:
            exec(source, names)
        else:
            assert repr(eval(source, names)) == lines[place + 1]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(
    notebook: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(notebook.parent)
    monkeypatch.setenv("TUNEGRAPH_LAKE", str(lake.root))
    names: dict[str, Any] = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
