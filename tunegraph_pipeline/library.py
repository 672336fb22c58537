"""The library: what a notebook or another program calls, in a few lines.

Here: opening the live bundle of a lake, or a bundle by its folder. Not here: what can be asked of it
(`recommend.recommender`, `recommend.together`). numpy and the standard library alone.

Names that `tunegraph_pipeline` itself has, and that stay: `open_bundle`, `Recommender`, `Query`, `blend`.
"""

from pathlib import Path

from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline.recommend.together import blend

__all__ = ["Query", "Recommender", "blend", "open_bundle"]


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
