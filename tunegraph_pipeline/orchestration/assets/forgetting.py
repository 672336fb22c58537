"""Who asked to go, and what may not be kept any longer: taken out before anything else is done.

Here: the asset that processes requests to forget users and the time-to-live of sources. Not here: how it is
done (`pipeline.forgetting`, `pipeline.retention`), or the removal of older versions, which comes last
(`retention`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, Config, MaterializeResult, MetadataValue, asset

from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.orchestration.metadata import OWNERS, cost_metadata, counts_table
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.pipeline.forgetting import (
    Purged,
    can_publish,
    check_times_to_live,
    drop_old_versions,
    process_requests,
    retire_if_nobody_is_left,
)
from tunegraph_pipeline.pipeline.retention import remove_expired
from tunegraph_pipeline.progress import Measured, report_note

GROUP = "sources"


class ForgetConfig(Config):
    """What follows in this run."""

    only_republish: bool = False
    """Whether the run publishes an existing model anew and trains none; then it ends here where no model is
    live, or nobody is left to serve."""


@asset(group_name=GROUP, kinds={"parquet"}, owners=OWNERS, code_version="1", output_required=False)
def forgotten_users(
    context: AssetExecutionContext, config: ForgetConfig, lake: LakeResource
) -> Iterator[MaterializeResult[Any]]:
    """Takes out of the lake whom the files in `forget_requests/` name, and what its sources may not keep any
    longer. What was built with them is built anew by what follows.

    In the job `forget` nothing follows where there is no bundle yet, or nobody is left to serve.
    """
    root = lake.open()
    with Measured() as cost:
        check_times_to_live(root)
        purged = process_requests(root)
        expired = remove_expired(root, datetime.now(UTC).date())
        retired = retire_if_nobody_is_left(root) if purged is not None else 0
        ends_here = config.only_republish and not can_publish(root)
        if ends_here:
            drop_old_versions(root)
    trained = (root.root / "models" / "CURRENT").exists()
    notes = _notes(purged, expired, retired, ends_here=ends_here, trained=trained)
    for note in notes:
        context.log.info(note)
        report_note(note)
    if ends_here:
        return
    counts = {**(purged.counts if purged else {}), **expired}
    metadata: dict[str, Any] = {
        **cost_metadata(cost),
        "users asked for": MetadataValue.int(purged.users if purged else 0),
        "of them in the lake": MetadataValue.int(purged.known if purged else 0),
        "forgotten ever": MetadataValue.int(len(Tombstones.of(root.root))),
    }
    if counts:
        metadata["removed or rewritten"] = counts_table(counts)
    if notes:
        metadata["notes"] = MetadataValue.md("\n".join(f"- {note}" for note in notes))
    yield MaterializeResult(metadata=metadata)


ASSETS: list[AssetsDefinition] = [forgotten_users]


def _notes(
    purged: Purged | None, expired: dict[str, int], retired: int, *, ends_here: bool, trained: bool
) -> list[str]:
    """What a person has to know, in counts alone."""
    notes = []
    if purged is not None and purged.users:
        went = ", ".join(f"{count:,} {what}" for what, count in purged.counts.items())
        notes.append(
            f"to forget: {purged.users:,} users, of whom the lake knew {purged.known:,}"
            + (f"; removed or rewritten: {went}" if went else "")
        )
        if purged.known < purged.users:
            notes.append(
                f"{purged.users - purged.known:,} of them the lake did not know, or an interrupted run had"
                " removed already; should they ever come, they are kept out all the same"
            )
        if trained:
            notes.append(
                "the weights of the model were trained with whoever was in it, until the next full retrain:"
                " `tunegraph refresh --full`"
            )
    if expired:
        went = ", ".join(f"{count:,} {what}" for what, count in expired.items())
        notes.append(f"past their time-to-live: {went}")
    if retired:
        notes.append(f"nobody is left: {retired:,} bundles were withdrawn, and nothing is served")
    if ends_here and not retired:
        notes.append("nothing was published: the lake has no bundle yet, and the next refresh makes one")
    return notes
