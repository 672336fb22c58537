"""The settings of ListenBrainz's dumps as a source.

Here: the section ``listenbrainz_dumps`` of `lake.json`, without what fetching loads. Not here: what a plan
or a fetch does with them.
"""

from pydantic import BaseModel, ConfigDict, Field


class DumpSettings(BaseModel):
    """Settings of ListenBrainz's dumps as a source, section ``listenbrainz_dumps`` of `lake.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirror: str = "https://data.metabrainz.org/pub/musicbrainz/listenbrainz"
    """The folder that has ``fullexport/`` and ``incremental/``."""
    months: int = Field(default=3, ge=1, le=600)
    """How many months of listens are taken from a full export."""
    full_days: int = Field(default=14, ge=1)
    """After how many days a new full export is taken, without the listens that people have deleted since."""
    memory_gb: float = Field(default=4.0, ge=0.25)
    """The memory that counting listens may take; the rest is spilled to disk."""
    timeout: float = Field(default=20.0, gt=0)
    """Seconds without a byte after which a request is sent again."""
