"""The settings of the stages, by section of `lake.json`.

Here: what a stage may be told. Not here: what it does with it, or settings of folders below.
"""

from pydantic import BaseModel, ConfigDict, Field


class GraphSettings(BaseModel):
    """Settings of the graph, section ``graph`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the (user, track) pairs no model is trained on; half for early stopping, half for the gate."""
    calibration_share: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of the users no model is trained on, for the neighbour probability alone."""
    merge_recordings: bool = True
    """Whether ids with the same ISRC are one node; off, every id is a song of its own."""
    neighbours: int = Field(default=100, ge=1)
    """How many neighbours a track the pruned form of B keeps."""
    memory_mib: int = Field(default=1024, ge=16)
    """What a block of B may take while it is built."""
    max_exact_entries: int = Field(default=1_000_000_000, ge=0)
    """Above this many entries B is kept in its pruned form alone, and built anew whenever a like changed."""
    refreeze_days: int = Field(default=7, ge=0)
    """After how many days B is built anew, with the degrees of that day to normalise by."""
    drift: float = Field(default=0.2, ge=0)
    """Share of its degree by which that of a track may be another one before it is normalised by the new."""
    delta_share: float = Field(default=0.1, gt=0)
    """How many entries may have been added to the base of B, as a share of it, before they are merged."""
