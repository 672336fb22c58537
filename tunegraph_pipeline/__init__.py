"""TuneGraph: liked lists in, recommendations out, refreshed every day by Dagster.

Nothing is imported here, so that any one folder can be used without paying for the others. The names of the
library (`library`) are imported when they are first asked for.

>>> from tunegraph_pipeline import open_bundle
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunegraph_pipeline.library import (
        Filters,
        Query,
        Recommender,
        blend,
        compare,
        find_path,
        open_bundle,
        recommend_many,
    )

__all__ = [
    "Filters",
    "Query",
    "Recommender",
    "blend",
    "compare",
    "find_path",
    "open_bundle",
    "recommend_many",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from tunegraph_pipeline import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
