"""Tables in Markdown, for documents, the metadata of runs and benchmarks.

Here: joining cells that are text already. Not here: what a table says, or how a terminal shows it (`cli`).
"""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first ``words`` columns hold words; the others hold figures, aligned to the right."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
