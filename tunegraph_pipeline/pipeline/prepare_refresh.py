"""Prepare a refresh: open its lake and record what a crawl starts from.

Here: the checks before the job runs. Not here: printing (`cli/`), the crawl itself (`sources/`).
"""

from pathlib import Path

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.dump_days import SECTION, received
from tunegraph_pipeline.pipeline.sources import LISTENBRAINZ, SPOTIFY
from tunegraph_pipeline.sources.api_session import base_url
from tunegraph_pipeline.sources.dumps.settings import DumpSettings


def lake_to_refresh(root: Path, source: str | None) -> Lake:
    """Open the lake; create it only for a source that is crawled: a new lake has nothing to rebuild."""
    return Lake.open(root) if source in (None, "none", "files") else Lake.open_or_create(root)


def prepare_dumps(lake: Lake, source: str, *, months: int | None, mirror: str | None) -> list[str]:
    """Save from where dumps are fetched, and how many months of a full export; returns notices for the user.
    Raises InputError for another ``source``, and for an address that is none."""
    given = {name: value for name, value in (("months", months), ("mirror", mirror)) if value is not None}
    if not given:
        return []
    if source != DUMPS:
        raise InputError(f"--{next(iter(given))} goes with --source {DUMPS}, not with {source}")
    if mirror is not None:
        given["mirror"], _ = base_url(mirror, "--mirror")
    lake.admit_source(source, record=False)
    before = lake.section(SECTION, DumpSettings).months
    lake.set_section(SECTION, {**lake.file.settings.get(SECTION, {}), **given})
    if months not in (None, before) and received(lake):
        return [f"--months {months} counts from the next full export on; the lake has one of {before}"]
    return []


def prepare_crawl(lake: Lake, source: str, start_users: list[str]) -> list[str]:
    """Check the source, save the start users in the lake, and return notices for the user. Raises InputError
    for start users that were forgotten, or that ``source`` cannot use."""
    if source not in ("none", "files"):
        lake.admit_source(source, record=False)
    if start_users:
        tombstones = Tombstones.of(lake.root)
        if any(map(tombstones.buries_one, start_users)):
            raise InputError("a --start-user was forgotten and is kept out of the lake; leave them out")
        if source not in (LISTENBRAINZ, SPOTIFY):
            raise InputError(
                f"--start-user goes with --source {LISTENBRAINZ} or {SPOTIFY}, not with {source}"
            )
        section = dict(lake.file.settings.get(source, {}))
        known = section.get("start_users", [])
        lake.set_section(source, {**section, "start_users": list(dict.fromkeys([*known, *start_users]))})
    if source == SPOTIFY and not lake.frontier_path(SPOTIFY).exists():
        from tunegraph_pipeline.sources.spotify import TERMS

        return [TERMS]
    return []
