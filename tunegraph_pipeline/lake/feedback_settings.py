"""How much feedback may wait in a lake, section ``feedback`` of `lake.json`.

Here: the setting, and reading it where only the folder of a lake is known, as in a service. Not here: the
spool (`feedback_spool`). Loads nothing that a service does not load.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.settings_problem import settings_problem

SECTION = "feedback"


class FeedbackSettings(BaseModel):
    """How much feedback may wait for a refresh."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spool_mib: int = Field(default=1_024, ge=1)
    """Size of the feedback spool above which a service refuses feedback until a refresh has collected it."""

    @property
    def spool_bytes(self) -> int:
        return self.spool_mib * 2**20


def feedback_settings(lake: Path) -> FeedbackSettings:
    """Those of the lake in this folder. Raises LakeError where they cannot be read or one is wrong."""
    path = lake / "lake.json"
    try:
        section = json.loads(path.read_bytes()).get("settings", {}).get(SECTION, {})
        return FeedbackSettings.model_validate(section)
    except ValidationError as error:
        raise LakeError(f"{path}: {settings_problem(FeedbackSettings, error, SECTION)}") from None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise LakeError(f"{path} cannot be read ({error}); restore it from a backup") from None
