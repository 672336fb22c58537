"""The library: what a notebook or another program calls, in a few lines.

Here: opening the live bundle of a lake, or a bundle by its folder, and many answers as one table. Not here:
what can be asked of a bundle (`recommend.recommender`, `recommend.together`, `recommend.comparison`,
`recommend.path`). numpy and the standard library alone, but for the table, which is of polars.

The names of `__all__` are those of `tunegraph_pipeline` itself, and stay.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.comparison import compare
from tunegraph_pipeline.recommend.filters import Filters
from tunegraph_pipeline.recommend.path import find_path
from tunegraph_pipeline.recommend.recommender import Query, QueryOptions, Recommender
from tunegraph_pipeline.recommend.together import blend

if TYPE_CHECKING:
    import polars as pl

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

_AT_ONCE = 256  # lists that are answered with one product


def open_bundle(folder: str | Path) -> Recommender:
    """The recommender over the live bundle of the lake ``folder``, or over the bundle ``folder``.

    Opened in milliseconds; the arrays stay on disk until they are read. Raises BundleError if there is no
    usable bundle.

    >>> open_bundle("data_lake/demo").recommend(["4uLU6hMCjMI75M1A2tKUQC"], k=3)  # doctest: +SKIP
    """
    path = Path(folder)
    if (path / MANIFEST).is_file():
        return Recommender(Bundle.open(path))
    return Recommender.open(path / "serving")


def recommend_many(
    recommender: Recommender,
    lists: Mapping[str, Sequence[str]],
    k: int = 10,
    **options: Unpack[QueryOptions],
) -> "pl.DataFrame":
    """The best k songs for each of many lists of liked songs, as a table of polars.

    Columns: ``list`` (its name), ``rank`` (from 1, Int32), ``track_id``, ``name``, ``artists``, ``score``
    (Float64), ``found`` (how many of the liked songs are in the bundle, Int32). Lists are in the given order,
    best songs first. ``options`` are those of `Recommender.recommend`, for each list. Raises InputError for
    an option out of range.

    >>> recommend_many(music, {"ann": ["4uLU6hMCjMI75M1A2tKUQC"]}, k=3)  # doctest: +SKIP
    """
    import polars as pl

    rows: list[tuple[Any, ...]] = []
    names = list(lists)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        answers = recommender.answer([Query(lists[name], k=k, **options) for name in some])
        for name, answer in zip(some, answers, strict=True):
            if isinstance(answer, InputError):
                raise answer
            rows += [
                (name, rank, one.song.track_id, one.song.name, one.song.artists, one.score, answer.found)
                for rank, one in enumerate(answer.items, 1)
            ]
    schema = {
        "list": pl.String,
        "rank": pl.Int32,
        "track_id": pl.String,
        "name": pl.String,
        "artists": pl.String,
        "score": pl.Float64,
        "found": pl.Int32,
    }
    return pl.DataFrame(rows, schema, orient="row")
