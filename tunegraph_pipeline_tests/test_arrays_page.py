"""The reference of the arrays in `docs` says what the program declares."""

import runpy
from pathlib import Path

ARRAYS = Path(__file__).parent.parent / "docs" / "arrays.py"


def test_the_page_of_the_arrays_is_up_to_date() -> None:
    page = runpy.run_path(str(ARRAYS))["page"]()
    written = ARRAYS.with_suffix(".md").read_text(encoding="utf-8")
    assert written == page, "run `python docs/arrays.py`"
