"""A lake whose users share no song: there is nothing to learn, and no bundle made of it could answer.

Here: the rule, the one line that says so, and how a run ends there. Not here: which stages ask
(`trained_model`, `publish`), or answering such a list from another model (`user_list`, `recommend.matching`).
"""

from datetime import UTC, datetime

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline import retention
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.stage_result import StageResult
from tunegraph_pipeline.pipeline.stale_versions import has_stale_personal_data
from tunegraph_pipeline.pipeline.user_list import newest_lists
from tunegraph_pipeline.progress import Measured, report_note
from tunegraph_pipeline.recommend.publication import withdraw
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.words import counted


def why_alone(graph: LikeGraph) -> str | None:
    """Why nothing can be learnt from a like graph, as one line; None where two users like the same song."""
    return None if graph.track_degrees().max(initial=0) > 1 else _line(graph.n_users)


def _line(users: int) -> str:
    lists = {0: "this lake has no list yet", 1: "this lake has the list of one user"}
    return (
        "recommendations come from what other people like too, and "
        + lists.get(users, f"no two of the {users:,} users of this lake like the same song")
        + "; add lists (`tunegraph refresh --source listenbrainz --start-user NAME`, or `tunegraph import` of"
        " open data or exports of friends), or answer now from another model: `tunegraph recommend"
        " --user USER --bundle PATH`"
    )


def end_run(lake: Lake, why: str) -> StageResult:
    """The result of a stage that makes nothing because of ``why``, the line of :func:`why_alone`. It ends the
    run, so what a lake must not keep is removed here.

    The live bundle stays, unless it may hold forgotten users or expired data. Raises LakeError.
    """
    notes = [why]
    with Measured() as cost:
        if has_stale_personal_data(lake) and (withdrawn := withdraw(lake.serving)):
            notes.append(
                f"nothing is served: {counted(withdrawn, 'bundle')} with forgotten or expired data withdrawn"
            )
        retention.run(lake, datetime.now(UTC).date())
    for note in notes:
        report_note(note)
    return StageResult(None, None, cost, notes=notes, ends=True)


def open_live(lake: Lake) -> Recommender:
    """The recommender over the live bundle. Raises InputError as :func:`check_live`, and where no two users
    of the bundle like the same song; BundleError as `Recommender.verified`."""
    check_live(lake)
    recommender = Recommender.verified(lake.serving)
    bundle = recommender.bundle
    if bundle.popularity.max(initial=0) < 2:
        raise InputError(_line(bundle.n_users))
    return recommender


def check_live(lake: Lake) -> None:
    """Raise InputError with the line of :func:`why_alone` where nothing is live for that reason.

    The current like graph tells. Where lists wait for a refresh, they do, if they are of one user at most.
    """
    if lake.has_current("serving"):
        return
    if lake.has_current("like_graph") and not lake.stale_days():
        why = why_alone(open_like_graph(lake))
    else:
        users = newest_lists(lake).likes["user_id"].n_unique()
        why = _line(users) if users < 2 else None
    if why is not None:
        raise InputError(why)
