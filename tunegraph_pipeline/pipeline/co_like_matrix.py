"""The co-like matrix of a lake, updated from the likes of the last refresh to those of today, or rebuilt.

Here: the stage, which chooses how. Not here: the arithmetic (`graph.co_like`, `graph.co_like_update`).
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from tunegraph_pipeline.engine.engine import engine_of
from tunegraph_pipeline.errors import TuneGraphError
from tunegraph_pipeline.graph.co_like import CoLike, build_co_like, co_like_bound
from tunegraph_pipeline.graph.co_like_update import compact_co_like, update_co_like, update_pays
from tunegraph_pipeline.graph.like_graph import LikeGraph, changed_likes
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.stage_result import How, StageResult
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.progress import Measured, report_progress

_CODE = stage("co_like_matrix").code


class Plan(NamedTuple):
    """``version`` names the matrix, ``how`` says how it is made, ``fill`` writes it to a folder."""

    version: str
    how: How
    fill: Callable[[Path], None]


def run(lake: Lake) -> StageResult:
    """Update B to the current like graph. Raises LakeError where there is no graph."""
    settings = lake.section("graph", GraphSettings)
    with Measured() as cost:
        plan = plan_co_like(lake, settings)
        folder = lake.write_version("co_like", plan.version, plan.fill)
        co_like = CoLike.open(folder)
    facts = co_like.facts
    return StageResult(
        plan.version,
        plan.how,
        cost,
        facts={
            "kept whole": co_like.exact,
            "lists shortened": facts["shortened"],
            "entries": facts["nnz"] if co_like.exact else facts["nnz_bound"],
            "entries changed since then": len(co_like.delta.indices),
            "normalised by the likes of": facts["frozen_on"],
            "strongest neighbours kept": len(co_like.top.indices),
        },
    )


def plan_co_like(lake: Lake, settings: GraphSettings) -> Plan:
    """How to update B to the current like graph. Raises LakeError where there is no graph."""
    graph_version = lake.current_version("like_graph")
    folder = ArrayFolder.verified(lake.current_folder("like_graph"))
    after, cut_off = LikeGraph.from_arrays(folder), str(folder.facts["cut_off"])
    options: dict[str, Any] = {
        "k": settings.neighbours,
        "memory_mib": settings.memory_mib,
        "max_exact_nnz": settings.max_exact_entries,
    }
    longest = settings.longest_list
    rules = digest([_CODE, options, settings.drift, longest])
    facts = {
        "graph": graph_version,
        "rules": rules,
        "longest_list": longest,
        "shortened": int((np.diff(after.indptr) > longest).sum()),
    }
    after = after.shortened(longest)

    known = _known(lake, rules)
    if known is not None:
        version, before = known
        if before.facts["graph"] == graph_version:
            return Plan(version, "reused", _not_asked)
        age = (date.fromisoformat(cut_off) - date.fromisoformat(before.facts["frozen_on"])).days
        old = _earlier_graph(lake, before.facts["graph"], after)
        if old is not None and 0 <= age < max(settings.refreeze_days, 1) and _is_whole(before):
            likes, change = changed_likes(old.shortened(longest), after)
            everything = after.matrix(np.int8)
            bound = co_like_bound(everything)
            fits = bound <= settings.max_exact_entries
            if before.exact and fits and update_pays(everything, likes, change):

                def update(target: Path) -> None:
                    more, drift = {**facts, "nnz_bound": bound}, settings.drift
                    with TemporaryDirectory(dir=target.parent) as room:
                        start = _compacted(before, Path(room), settings.delta_share)
                        update_co_like(
                            start, likes, change, target, drift=drift, facts=more, progress=report_progress
                        )

                # Which degrees are frozen depends on the earlier version.
                name = f"{cut_off}-" + digest([rules, graph_version, "from", version])
                return Plan(name, "updated", update)

    def build(target: Path) -> None:
        more = {**facts, "frozen_on": cut_off}
        with engine_of(lake) as engine:
            build_co_like(
                after.matrix(np.int8), target, **options, facts=more, engine=engine, progress=report_progress
            )

    return Plan(f"{cut_off}-" + digest([rules, graph_version]), "rebuilt", build)


def _compacted(matrix: CoLike, folder: Path, share: float) -> CoLike:
    """The matrix with its added entries merged into its base, if they exceed ``share`` of it."""
    if matrix.base is None or len(matrix.delta.indices) <= share * len(matrix.base.indices):
        return matrix
    compact_co_like(matrix, folder)
    return CoLike.open(folder)


def graph_of_matrix(lake: Lake) -> set[str]:
    """The version of the like graph that the current matrix was built from, which an update needs; empty
    where there is no matrix."""
    try:
        return {str(CoLike.open(lake.current_folder("co_like")).facts["graph"])}
    except (TuneGraphError, KeyError):
        return set()


def _known(lake: Lake, rules: str) -> tuple[str, CoLike] | None:
    """The current matrix and its version, None where it cannot be updated."""
    try:
        version = lake.current_version("co_like")
        matrix = CoLike.open(lake.version_folder("co_like", version))
    except (TuneGraphError, KeyError):
        return None  # missing or damaged
    return (version, matrix) if matrix.facts.get("rules") == rules else None


def _is_whole(matrix: CoLike) -> bool:
    """Whether a matrix is as it was written: damage would spread to every later one."""
    try:
        matrix.parts.verify()
    except (TuneGraphError, OSError):
        return False
    return True


def _earlier_graph(lake: Lake, version: str, after: LikeGraph) -> LikeGraph | None:
    """The graph of this version, to compare ``after`` with; None where it is missing or does not fit."""
    try:
        folder = ArrayFolder.open(lake.version_folder("like_graph", version))
        folder.verify()
        graph = LikeGraph.from_arrays(folder)
    except (TuneGraphError, OSError):
        return None  # pruned since, or damaged
    # An id map that was lost and renumbered may be shorter, and a matrix does not shrink.
    return graph if graph.n_tracks <= after.n_tracks else None


def _not_asked(target: Path) -> None:
    raise AssertionError(f"{target}: a version that is there is not written again")
