"""Whether the bundle of a lake has an approximate index, and what is told of it.

Here: the settings, building it as part of a bundle, and its metadata. Not here: how it is built and measured
(`recommend.indexing`), or how it is searched (`recommend.index`).
"""

from pathlib import Path
from typing import Any

import numpy as np
from dagster import MetadataValue
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import LibraryMissingError
from tunegraph_pipeline.orchestration.measure import report_note
from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.index import Storage
from tunegraph_pipeline.recommend.indexing import ORDINARY, RECALL, THRESHOLD, Mode, add_index


class ServingSettings(BaseModel):
    """The section ``serving`` of the lake's settings."""

    model_config = ConfigDict(extra="forbid")

    index: Mode = "auto"
    """Whether queries are answered ``exact``-ly or with an ``approximate`` index of the tracks; ``auto``:
    with one from a size on, where its library is installed."""

    index_from: int = Field(default=THRESHOLD, ge=1)
    """That size: how many tracks may be recommended."""

    index_storage: Storage = "int8"
    """The numbers in the index: ``float32``, ``float16`` or ``int8``. Scores come from the embeddings,
    whatever these are."""


def index_if_wanted(folder: Path, settings: ServingSettings) -> dict[str, Any]:
    """Add the index that the settings want to the complete bundle in ``folder``; the facts about it.

    What is not as it was wished for is told to whoever watches. Raises LibraryMissingError where an index is
    asked for outright and the library is missing.
    """
    n_tracks = int(np.count_nonzero(Bundle.open(folder).recommendable))
    wanted = settings.index == "approximate" or (settings.index == "auto" and n_tracks >= settings.index_from)
    if not wanted or not n_tracks:
        return {}
    try:
        facts = add_index(folder, settings.index_storage)
    except LibraryMissingError as error:
        if settings.index == "approximate":
            raise
        report_note(f"{n_tracks:,} tracks are ranked exactly, which takes longer than it could: {error}")
        return {}
    if facts["probes"] is None:
        found = min(facts["recall"][str(kind)] for kind in ORDINARY)
        report_note(
            f"an index of {n_tracks:,} tracks found {found:.3f} of the best, not {RECALL}: it was left out,"
            " and queries are answered exactly"
        )
    return {"index": facts}


def index_metadata(bundle: Bundle) -> dict[str, Any]:
    """The index of a bundle: its kind, what it finds, and what it took."""
    facts = bundle.facts.get("index")
    if facts is None:
        return {"index": MetadataValue.text("none: every query looks at all tracks")}
    form = f"{facts['lists']:,} lists of {facts['width']} {facts['storage']} numbers a track"
    if facts["probes"] is None:
        form += f"; left out, because it found too little: below {RECALL}"
    recall = "\n".join(f"| {kind} | {found:.4f} |" for kind, found in facts["recall"].items())
    return {
        "index": MetadataValue.text(f"{facts['library']}, {form}"),
        f"index recall@{' and @'.join(map(str, facts['k']))}": MetadataValue.md(
            f"| queries | found |\n|---|---:|\n{recall}"
        ),
        "index build (s)": MetadataValue.float(facts["seconds"]),
        "index mib": MetadataValue.float(round(facts["bytes"] / 2**20, 1)),
    }
