"""Write `docs/arrays.md`, the reference of the arrays, from their declarations: `python docs/arrays.py`."""

from collections.abc import Sequence
from pathlib import Path

from tunegraph_pipeline.graph.co_like import CO_LIKE
from tunegraph_pipeline.graph.like_graph import LIKE_GRAPH
from tunegraph_pipeline.lake.array_spec import TEXT, ArraySpec
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.models.arrays import MODEL
from tunegraph_pipeline.recommend.bundle_arrays import BUNDLE

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# The arrays of a lake

`docs/arrays.py` writes this page from the declarations that the program checks when it opens a folder.

Each array is a file `<name>.npy`, little-endian. A column of text is two: `<name>.bytes.npy`, UTF-8 from end
to end, and `<name>.offsets.npy`, int64, where each string begins. A size has the same value in all arrays of
a folder, and `tracks+1` is one more than `tracks`. An optional array may be missing. `manifest.json` has the
shape, dtype, size and checksum of every file.
"""
FOLDERS: Sequence[tuple[str, str, str, Sequence[ArraySpec]]] = (
    ("The like graph", "like_graph/<version>/", "graph/like_graph.py", LIKE_GRAPH),
    ("The co-like matrix", "co_like/<version>/", "graph/co_like.py", CO_LIKE),
    ("A model", "models/<version>/", "models/arrays.py", MODEL),
    ("A bundle", "serving/<version>/", "recommend/bundle_arrays.py", BUNDLE),
)
_NAMES = {
    "<f2": "float16",
    "<f4": "float32",
    "<i4": "int32",
    "<i8": "int64",
    "<u2": "uint16",
    "<u4": "uint32",
    "<u8": "uint64",
}
_NAMES |= {"|i1": "int8", "|b1": "bool", TEXT: "text"}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section(*folder) for folder in FOLDERS)])


def section(title: str, folder: str, module: str, specs: Sequence[ArraySpec]) -> str:
    """A table with a row an array."""
    rows = [
        [f"`{spec.name}`", _NAMES[spec.dtype], " × ".join(map(str, spec.shape)), meaning(spec)]
        for spec in specs
    ]
    where = f"In `{folder}`, declared in `tunegraph_pipeline/{module}`."
    table = markdown_table(["array", "dtype", "shape", "meaning"], rows, words=4)
    return f"## {title}\n\n{where}\n\n{table}\n"


def meaning(spec: ArraySpec) -> str:
    end = f"; the last value is the number of {spec.ends_at}" if spec.ends_at else ""
    return f"{spec.meaning}{end}{' (optional)' if spec.optional else ''}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
