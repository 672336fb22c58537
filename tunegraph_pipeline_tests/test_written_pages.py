"""The pages of `docs` that a script writes say what the program declares."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", ["arrays", "formats"])
def test_a_written_page_is_up_to_date(name: str) -> None:
    script = DOCS / f"{name}.py"
    page = runpy.run_path(str(script))["page"]()
    written = script.with_suffix(".md").read_text(encoding="utf-8")
    assert written == page, f"run `python docs/{name}.py`"
