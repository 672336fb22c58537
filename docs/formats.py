"""Write `docs/formats.md`, the formats that can be imported: `python docs/formats.py`."""

from pathlib import Path

from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.sources.formats import FORMATS, Format

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# The formats

`docs/formats.py` writes this page from the declarations by which `tunegraph import` recognises a file
(`tunegraph_pipeline/sources/formats.py`). The first that fits is taken. Tables may be CSV, TSV, text cut at
semicolons, bars or blanks, xlsx, parquet, or JSON of rows, lines or columns. Files may be packed with gzip,
bzip2, xz, zstandard or zip. Text may be UTF-8, UTF-16, or another encoding, which is guessed and told.
`--format` takes the names below.

How to get each file, and what is never read: [Your data from each service](services.md).
"""
MEANS = {
    "likes": "likes",
    "dislikes": "dislikes",
    "unlikes": "likes that were taken back",
    "undislikes": "dislikes that were taken back",
    "plays": "plays",
    "library": "a library: what is loved or rated, or else every song",
    "catalogue": "songs, without likes",
}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for whose, title in (("one person", "Files of one person"), ("its users", "Files of many users")):
        rows = [row(one) for one in FORMATS if one.whose == whose]
        table = markdown_table(["format", "what it is", "recognised by", "its rows are"], rows, words=4)
        parts.append(f"## {title}\n\n{table}\n")
    return "\n".join(parts)


def row(one: Format) -> list[str]:
    return [f"`{one.name}`", one.title, one.seen_by, MEANS[one.means]]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
