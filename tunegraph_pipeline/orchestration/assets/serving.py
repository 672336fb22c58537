"""From model to answers: the published bundle, everyone's recommendations, and how good they are."""

from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    FreshnessPolicy,
    MaterializeResult,
    MetadataValue,
    asset,
)
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.evaluation.evaluate import comparison, evaluation_rows
from tunegraph_pipeline.evaluation.query_time import query_times
from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.graph.recordings import known_under_any_id
from tunegraph_pipeline.lake.arrays import ArrayFolder
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tables import empty_table, inputs_of, row_count
from tunegraph_pipeline.orchestration.assets.forgetting import JOB as FORGET
from tunegraph_pipeline.orchestration.assets.graph import (
    GraphSettings,
    current_cut_off,
    known_track_ids,
    like_graph,
    open_like_graph,
)
from tunegraph_pipeline.orchestration.assets.model import track_embeddings
from tunegraph_pipeline.orchestration.gate import decide, unjudged
from tunegraph_pipeline.orchestration.judge import judge_gate
from tunegraph_pipeline.orchestration.measure import Measured, report_note, report_progress
from tunegraph_pipeline.orchestration.metadata import (
    OWNERS,
    cost_metadata,
    definition_metadata,
    picture,
    rows_metadata,
)
from tunegraph_pipeline.orchestration.resources import LakeResource
from tunegraph_pipeline.orchestration.services import ServicesSettings
from tunegraph_pipeline.orchestration.serving_index import ServingSettings, index_if_wanted, index_metadata
from tunegraph_pipeline.recommend.bundle import Artists, Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.publication import Decision, live_model, publish
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.recommend.weights import Weights, carry_over

GROUP = "serving"
K = 10
_bundle_code = 6


class PublishConfig(Config):
    """How this run publishes."""

    override: str = ""
    """Why a model that the gate refuses is to go live all the same; recorded. Empty: the gate decides."""


@asset(
    group_name=GROUP,
    # The graph as well, by which a run without training comes to it in order.
    deps=[track_embeddings, like_graph],
    kinds={"numpy"},
    owners=OWNERS,
    code_version=str(_bundle_code),
    # A day and the time a refresh takes; a second day without one is an error.
    freshness_policy=FreshnessPolicy.time_window(
        warn_window=timedelta(hours=26), fail_window=timedelta(hours=50)
    ),
)
def serving_bundle(
    context: AssetExecutionContext, config: PublishConfig, lake: LakeResource
) -> MaterializeResult[Any]:
    """All that a query needs, as mapped arrays; verified, then made live by one rename.

    A new model is judged against the live one first; where it is refused, the likes of today are published
    with the weights that are live. So they are where users are forgotten, without a comparison.
    """
    from tunegraph_pipeline.evaluation.plots import paired_intervals

    root = lake.open()
    with Measured() as cost:
        bundle, decision = publish_current(root, config.override, judge=context.run.job_name != FORGET)
    metadata: dict[str, Any] = {
        **cost_metadata(cost),
        "bundle version": MetadataValue.text(bundle.version),
        "model version": MetadataValue.text(bundle.model_version),
        "folder": MetadataValue.path(str(bundle.folder)),
        "users": MetadataValue.int(bundle.n_users),
        "dislikes": MetadataValue.int(len(bundle.disliked_tracks)),
        "tracks": MetadataValue.int(bundle.n_tracks),
        "tracks new to the model": MetadataValue.int(bundle.facts["tracks_new_to_the_model"]),
        "tracks with a name": MetadataValue.int(int(np.count_nonzero(np.diff(bundle.names.offsets)))),
        "mib": MetadataValue.float(_mib(bundle.folder)),
        **index_metadata(bundle),
        **_query_metadata(bundle),
    }
    for url in root.section("services", ServicesSettings).urls:
        metadata[f"served by {url}"] = MetadataValue.url(f"{url.rstrip('/')}/version")
    if decision is not None:
        context.log.info(f"gate: {decision.refusal or 'accepted'}")
        metadata["gate"] = MetadataValue.json(asdict(decision))
        metadata["went live"] = MetadataValue.bool(decision.goes_live)
        if decision.figures:
            metadata["challenger against champion"] = picture(
                paired_intervals(decision.figures, decision.settings["margin"], decision.users)
            )
    return MaterializeResult(metadata=metadata)


@asset(
    group_name=GROUP,
    deps=[serving_bundle],
    kinds={"parquet", "numpy"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("user_recommendations"),
)
def user_recommendations(lake: LakeResource) -> MaterializeResult[Any]:
    """The ten best songs for everyone, with the liked song that speaks most for each."""
    root = lake.open()
    recommender = Recommender.open(root.serving)
    version = recommender.bundle.version
    with Measured() as cost:
        fresh = inputs_of(root.root, "user_recommendations", version) == version
        if not fresh:
            rows = recommendations_for_everyone(recommender, K)
            root.write("user_recommendations", version, rows, inputs=version)
            root.keep_partitions("user_recommendations", version)
    return MaterializeResult(
        metadata={
            **rows_metadata(row_count(root.root, "user_recommendations", version)),
            **cost_metadata(cost),
            "bundle version": MetadataValue.text(version),
            "unchanged": MetadataValue.bool(fresh),
        }
    )


@asset(
    group_name=GROUP,
    deps=[serving_bundle],
    kinds={"parquet", "numpy"},
    owners=OWNERS,
    code_version="1",
    metadata=definition_metadata("evaluation"),
)
def evaluation(context: AssetExecutionContext, lake: LakeResource) -> MaterializeResult[Any]:
    """What is served, judged on the likes that no model was trained on, beside the baselines."""
    from tunegraph_pipeline.evaluation.plots import metric_bars

    root = lake.open()
    recommender = Recommender.open(root.serving)
    dataset = f"gate of {recommender.bundle.version}"
    known = root.read("evaluation").filter(dataset=dataset) if root.has_table("evaluation") else None
    if known is not None and len(known):
        return MaterializeResult(metadata={"unchanged": MetadataValue.bool(True)})
    with Measured() as cost:
        try:
            judged = judge_gate(
                root,
                recommender,
                open_like_graph(root),
                known_track_ids(root),
                held_out=root.section("graph", GraphSettings).held_out,
                k=K,
                progress=report_progress,
            )
        except InputError as error:
            context.log.warning(str(error))
            return MaterializeResult(metadata={"not judged": MetadataValue.text(str(error))})
        rows = evaluation_rows(judged.evaluations, dataset=dataset, split="gate", run_id=context.run.run_id)
        root.append("evaluation", rows)
    table = comparison(judged.evaluations)
    return MaterializeResult(
        metadata={
            **rows_metadata(len(rows)),
            **cost_metadata(cost),
            **{f"{name}@{K}": MetadataValue.float(value) for name, value in judged.served.values.items()},
            "notes": MetadataValue.md("\n".join(f"- {note}" for note in judged.notes)),
            "figures": MetadataValue.md(_markdown(table)),
            "beside the baselines": picture(metric_bars(judged.evaluations)),
        }
    )


ASSETS: list[AssetsDefinition] = [serving_bundle, user_recommendations, evaluation]


def publish_current(lake: Lake, override: str, *, judge: bool = True) -> tuple[Bundle, Decision | None]:
    """Publish the likes of today with the current model, or where the gate refuses it with the live one.

    Without ``judge`` the live model stays, unless there is an ``override``: a model that was rolled back
    from, or waits for a refresh to judge it, does not go live because a user is forgotten.

    Returns the bundle that is live now, and the decision, None where there was nothing to decide: the first
    model, or the one that is live. Raises InputError for an ``override`` without a reason, or of nothing;
    LakeError where a model is needed that is not there.
    """
    if override and not override.strip():
        raise InputError("an override has to say why; give a reason")
    graph = open_like_graph(lake)
    live, keep = live_model(lake.serving), lake.kept_versions
    if live is not None and not override and not judge:
        return publish(lake.serving, bundle_of(lake, live).version, keep=keep), None
    current = lake.current_version("models")
    if live is not None and not override and _lacks_tracks(lake, current, graph.n_tracks):
        # Nothing was trained since tracks were added: the weights that are live stay, over the lists of
        # today, and the next model is for a refresh to train and to judge.
        return publish(lake.serving, bundle_of(lake, live).version, keep=keep), None
    require_tracks(lake, current, graph.n_tracks)
    if live is None or live == current:
        if override:
            raise InputError(f"there is nothing to override: no model is refused, {current} goes live anyway")
        return publish(lake.serving, bundle_of(lake, current).version, keep=keep), None
    challenger = bundle_of(lake, current)
    try:
        champion = bundle_of(lake, live)
    except TuneGraphError as error:
        if not override:
            why = str(error).rpartition("; ")[0] or error  # a refresh is what came to this, and no advice
            raise LakeError(
                f"the live model {live} cannot be judged against or served on: {why}; restore it, or"
                ' publish the new one unjudged with `tunegraph publish --override "why"`'
            ) from error
        decision = unjudged(lake, live, challenger, str(error), override.strip())
        return publish(lake.serving, challenger.version, decision, keep=keep), decision
    decision = decide(
        lake,
        graph,
        known_track_ids(lake),
        champion,
        challenger,
        held_out=lake.section("graph", GraphSettings).held_out,
        override=override.strip(),
        progress=report_progress,
    )
    if decision.refusal is not None:
        report_note(
            f"the new model was refused: {decision.refusal}; "
            + (f"published all the same: {override}" if decision.goes_live else f"model {live} stays live")
        )
    winner = challenger if decision.goes_live else champion
    return publish(lake.serving, winner.version, decision, keep=keep), decision


def require_tracks(lake: Lake, model_version: str, n_tracks: int) -> None:
    """Raise LakeError where the current model is older than the graph and lacks some of its tracks."""
    if _lacks_tracks(lake, model_version, n_tracks):
        raise LakeError(
            f"model {model_version} has other tracks than the {n_tracks} of the like graph; materialise"
            " trained_model first"
        )


def _lacks_tracks(lake: Lake, model_version: str, n_tracks: int) -> bool:
    return len(ArrayFolder.open(lake.version_folder("models", model_version))["embeddings"]) != n_tracks


def bundle_of(lake: Lake, model_version: str) -> Bundle:
    """The bundle of a model over the graph and track table of today, written unless it is there; not live."""
    cut_off, settings = current_cut_off(lake), lake.section("serving", ServingSettings)
    version = f"{cut_off}-" + digest(
        [
            _bundle_code,
            settings.model_dump(),
            model_version,
            lake.current_version("like_graph"),
            lake.fingerprint("tracks", cut_off),
            inputs_of(lake.root, "current_dislikes", cut_off.isoformat()),
        ]
    )
    if not lake.has_version("serving", version):
        model = ArrayFolder.open(lake.version_folder("models", model_version))
        display = lake.known_tracks("tracks", cut_off)
        content = bundle_content(lake, model, display, version)
        write_bundle(lake.serving / version, content, partial(index_if_wanted, settings=settings))
    return Bundle.open(lake.serving / version)


def bundle_content(lake: Lake, model: ArrayFolder, display: pl.DataFrame, version: str) -> BundleContent:
    """Put together what the current graph, a model and the track table hold for a query.

    A model from before some of the tracks is carried over; those it cannot know are not recommendable. Of the
    tracks nobody likes, those are that the model has placed by what is known of them. Raises
    LakeError where the id map is not a continuation of the model's.
    """
    graph = open_like_graph(lake)
    ids = known_track_ids(lake)
    n_trained = len(model["embeddings"])
    same = model.facts.get("id_map") in (None, id_map_fingerprint(ids[:n_trained]))
    if n_trained > len(ids) or not same:
        raise LakeError(f"model {model.facts['version']} was trained over another id map than the lake has")
    weights = carry_over(Weights.of_model(model), graph.canonical)
    degrees = graph.track_degrees()
    own = graph.canonical == np.arange(graph.n_tracks)
    display = display.select(
        "track_id", "name", "artists", "artist_ids", "explicit", "image_url", "preview_url"
    )
    shown = known_under_any_id(ids, graph.canonical, display).with_columns(
        pl.col("name", "image_url", "preview_url").fill_null(""),
        pl.col("artists", "artist_ids").fill_null([]),
        pl.col("explicit").cast(pl.Int8).fill_null(-1),
        made_by=pl.col("artists").list.join(", ", ignore_nulls=True).fill_null(""),
    )
    user_ids, user_indptr, disliked_indptr, disliked_tracks = with_dislikes(graph, known_dislikes(lake), ids)
    return BundleContent(
        track_ids=ids.to_list(),
        embeddings=weights.embeddings,
        pooling_weight=weights.pooling_weight,
        popularity=degrees,
        # A track that neither likes nor content have placed has no evidence behind its place in the space; it
        # is not put before anyone. Of the ids of a recording one stands for it, the others are never shown.
        recommendable=((degrees > 0) | weights.placed) & weights.known & own,
        prior=weights.prior,
        neighbour_indptr=weights.neighbour_indptr,
        neighbour_indices=weights.neighbour_indices,
        neighbour_weight=weights.neighbour_weight,
        user_ids=user_ids,
        user_indptr=user_indptr,
        user_tracks=graph.indices,
        disliked_indptr=disliked_indptr,
        disliked_tracks=disliked_tracks,
        names=shown["name"].to_list(),
        artists=shown["made_by"].to_list(),
        image_urls=shown["image_url"].to_list(),
        preview_urls=shown["preview_url"].to_list(),
        canonical=graph.canonical,
        explicit=shown["explicit"].to_numpy(),
        layout=weights.layout,
        by=Artists.of_lists(shown["artist_ids"].to_list(), shown["artists"].to_list()),
        facts={
            "bundle_version": version,
            "model_version": model.facts["version"],
            "cut_off": current_cut_off(lake).isoformat(),
            "blend": model.facts["blend"],
            "calibration": model.facts["calibration"],
            "tracks_new_to_the_model": int(np.count_nonzero(~weights.known)),
        },
    )


class Audience(NamedTuple):
    """The users of a bundle: those of the like graph first, then those who like nothing but turned something
    down. Lists as in :class:`BundleContent`."""

    user_ids: list[str]
    user_indptr: NDArray[np.int64]
    disliked_indptr: NDArray[np.int64]
    disliked_tracks: NDArray[np.int32]


def with_dislikes(graph: LikeGraph, dislikes: pl.DataFrame, track_ids: pl.Series) -> Audience:
    """Line up what users turned down (user_id, track_id) with the graph.

    A track counts under the id that stands for its recording. Left out is one that the id map ``track_ids``
    lacks, since nobody can be recommended it, and one that the graph has the user like.
    """
    tracks = pl.DataFrame({"track_id": track_ids.cast(pl.String), "track": graph.canonical})
    users = pl.DataFrame({"user_id": graph.user_ids.tolist()}, schema={"user_id": pl.String})
    found = dislikes.join(tracks, on="track_id")
    users = pl.concat(
        [users, found.select("user_id").unique().join(users, on="user_id", how="anti").sort("user_id")]
    )
    rows = (
        found.join(users.with_row_index("user"), on="user_id")
        .select("user", "track")
        .unique()
        .sort("user", "track")
    )
    owners = np.repeat(np.arange(graph.n_users), np.diff(graph.indptr))
    keys = rows["user"].to_numpy().astype(np.int64) * graph.n_tracks + rows["track"].to_numpy()
    rows = rows.filter(~np.isin(keys, owners * graph.n_tracks + graph.indices))
    more = len(users) - graph.n_users
    counts = np.bincount(rows["user"].to_numpy(), minlength=len(users))
    return Audience(
        users["user_id"].to_list(),
        np.concatenate([graph.indptr, np.repeat(graph.indptr[-1:], more)]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows["track"].to_numpy().astype(np.int32),
    )


def known_dislikes(lake: Lake) -> pl.DataFrame:
    """Who wants no more of what as of the cut-off: user_id, track_id. None in a lake from before feedback."""
    key = current_cut_off(lake).isoformat()
    if key not in lake.partitions("current_dislikes"):
        return empty_table("current_dislikes").select("user_id", "track_id")
    return lake.read("current_dislikes", key, ["user_id", "track_id"])


def recommendations_for_everyone(recommender: Recommender, k: int) -> pl.DataFrame:
    """The ``user_recommendations`` rows of every user of the bundle."""
    bundle = recommender.bundle
    best = recommender.rank_everyone(k, progress=report_progress)
    user, place = np.nonzero(best.indices >= 0)
    tracks = pl.Series(bundle.tracks.ids.tolist(), dtype=pl.String)
    users = pl.Series(bundle.users.ids.tolist(), dtype=pl.String)
    because = pl.Series(best.because[user, place, 0])
    return pl.DataFrame(
        {
            "user_id": users.gather(user),
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "track_id": tracks.gather(best.indices[user, place]),
            "score": best.scores[user, place],
            "because_track_id": tracks.gather(because.set(because < 0, None)),
        }
    ).with_columns(model_version=pl.lit(bundle.model_version), bundle_version=pl.lit(bundle.version))


def _query_metadata(bundle: Bundle) -> dict[str, Any]:
    """How long a query of the bundle takes on this machine, now."""
    took = query_times(Recommender(bundle))
    if not took.queries:
        return {}
    return {
        "query p50 (ms)": MetadataValue.float(round(took.p50_ms, 3)),
        "query p99 (ms)": MetadataValue.float(round(took.p99_ms, 3)),
        "query p50 / plain E @ q": MetadataValue.float(round(took.ratio, 2)),
    }


def _mib(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 1)


def _markdown(table: pl.DataFrame) -> str:
    with pl.Config(
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_cols=-1,
        tbl_rows=-1,
        float_precision=4,
        tbl_width_chars=1000,
    ):
        return str(table)
