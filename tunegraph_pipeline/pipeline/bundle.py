"""Assemble a serving bundle from the current graph, a model and the catalogue.

Here: lining up arrays, and the index. Not here: the form of a bundle (`recommend.bundle`), or which one goes
live (`publish`).
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tunegraph_pipeline.errors import BundleError, LakeError, LibraryMissingError
from tunegraph_pipeline.graph.id_map import id_map_fingerprint
from tunegraph_pipeline.graph.like_graph import LikeGraph
from tunegraph_pipeline.lake.array_spec import NEUTRAL
from tunegraph_pipeline.lake.arrays import ArrayFolder, Float16, StringColumn
from tunegraph_pipeline.lake.audio_features import AUDIO_FEATURES
from tunegraph_pipeline.lake.lake import Lake, digest
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.lake.text_columns import as_column, as_series
from tunegraph_pipeline.pipeline.catalogue import described, read_catalogue
from tunegraph_pipeline.pipeline.like_ages import like_ages, order_fingerprint
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import ServingSettings
from tunegraph_pipeline.pipeline.stages import stage
from tunegraph_pipeline.pipeline.track_ids import current_cut_off, known_track_ids
from tunegraph_pipeline.progress import report_note
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.csr_rows import row_places
from tunegraph_pipeline.recommend.genres import Genres
from tunegraph_pipeline.recommend.indexing import ORDINARY, RECALL, add_index
from tunegraph_pipeline.recommend.weights import Weights, carry_over
from tunegraph_pipeline.words import counted

_LISTS_A_BLOCK = 1 << 14


def bundle_of(lake: Lake, model_version: str) -> Bundle:
    """The bundle of a model over today's graph and catalogue, written unless it exists; not live."""
    cut_off, settings = current_cut_off(lake), lake.section("serving", ServingSettings)
    version = f"{cut_off}-" + digest(
        [
            stage("serving_bundle").code,
            settings.model_dump(),
            model_version,
            lake.current_version("like_graph"),
            lake.fingerprint("tracks", cut_off),
            lake.fingerprint("audio_features", cut_off),
            lake.inputs_of("current_dislikes", cut_off.isoformat()),
            order_fingerprint(lake),
            lake.licences(),
        ]
    )
    if not lake.has_version("serving", version):
        model = ArrayFolder.verified(lake.version_folder("models", model_version))
        content = bundle_content(lake, model, read_catalogue(lake), version)
        write_bundle(lake.serving / version, content, partial(add_index_if_set, settings=settings))
    return Bundle.open(lake.serving / version)


@contextmanager
def judged_bundle(lake: Lake, bundle: Bundle) -> Iterator[Bundle | None]:
    """The bundle to judge in place of ``bundle``, one of today's: itself, unless its model was refitted.

    Else one of the model as it was before, which no held-out like had a part in: ranking by the same likes,
    without names, users and index, for as long as the context lasts. None where that model is lost or
    damaged, and with it what has not seen the likes that are held out.
    """
    if bundle.facts.get("refitted_on") is None:
        yield bundle
        return
    try:
        model = ArrayFolder.verified(lake.version_folder("models", bundle.model_version))
    except BundleError:
        yield None
        return
    folder = lake.staging / f"judged-{bundle.version}"  # a killed run's is swept with all drafts
    write_bundle(folder, judged_content(open_like_graph(lake), model, bundle.version))
    try:
        yield Bundle.open(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def what_is_served(refitted_on: Mapping[str, Any] | None) -> str:
    """In words what is served of a model, by this fact of it or of its bundle."""
    if refitted_on is None:
        return "as it was judged"
    likes, held_out = (counted(refitted_on[which], "like") for which in ("likes", "held_out"))
    return f"refitted to {likes}, also to {held_out} that it was judged without"


def judged_content(graph: LikeGraph, model: ArrayFolder, version: str) -> BundleContent:
    """What ranks by the judged arrays of a model, over a like graph that continues its own."""
    weights = carry_over(Weights.judged_of(model), graph.canonical)
    return BundleContent.for_ranking(_facts_of_model(model, weights, version), **_ranked_by(graph, weights))


def _ranked_by(graph: LikeGraph, weights: Weights) -> dict[str, Any]:
    """The part of a bundle that decides in which order tracks come."""
    degrees = graph.track_degrees()
    own = graph.canonical == np.arange(graph.n_tracks)
    return {
        "embeddings": weights.embeddings,
        "pooling_weight": weights.pooling_weight,
        "popularity": degrees,
        # A track that neither likes nor content placed has no evidence behind its embedding. Of the ids of a
        # recording only the one that stands for it is shown.
        "recommendable": ((degrees > 0) | weights.placed) & weights.known & own,
        "prior": weights.prior,
        "neighbour_indptr": weights.neighbour_indptr,
        "neighbour_indices": weights.neighbour_indices,
        "neighbour_weight": weights.neighbour_weight,
        "canonical": graph.canonical,
    }


def _facts_of_model(model: ArrayFolder, weights: Weights, version: str) -> dict[str, Any]:
    return {
        "bundle_version": version,
        "model_version": model.facts["version"],
        "blend": model.facts["blend"],
        **({"continuation": found} if (found := model.facts.get("continuation")) else {}),
        "calibration": model.facts["calibration"],
        "tracks_new_to_the_model": int(np.count_nonzero(~weights.known)),
    }


def bundle_content(lake: Lake, model: ArrayFolder, catalogue: pl.DataFrame, version: str) -> BundleContent:
    """Put together what a query needs of the current graph, a model and the catalogue.

    A model older than some of the tracks is carried over; tracks it does not know are not recommendable, nor
    are tracks without likes, unless the model placed them by their content. Raises LakeError where the id map
    does not continue the model's.
    """
    graph = open_like_graph(lake)
    ids = known_track_ids(lake)
    n_trained = len(model["embeddings"])
    same = model.facts.get("id_map") in (None, id_map_fingerprint(ids[:n_trained]))
    if n_trained > len(ids) or not same:
        raise LakeError(f"model {model.facts['version']} was trained over another id map than the lake has")
    weights = carry_over(Weights.served_of(model), graph.canonical)
    own = graph.canonical == np.arange(graph.n_tracks)
    shown = described(catalogue).with_columns(
        pl.col("name", "image_url", "preview_url").fill_null(""),
        pl.col("isrc").str.replace_all("[- ]", "").str.to_uppercase().fill_null(""),
        pl.col("artists", "artist_ids").fill_null([]),
        pl.col("explicit").cast(pl.Int8).fill_null(-1),
        pl.col("year").fill_null(0),
        made_by=pl.col("artists").list.join(", ", ignore_nulls=True).fill_null(""),
    )
    user_ids, user_indptr, disliked_indptr, disliked_tracks = with_dislikes(graph, known_dislikes(lake), ids)
    feature_names, features = known_features(shown)
    genres = genres_of(shown["genre"], own)
    return BundleContent(
        track_ids=as_column(ids),
        **_ranked_by(graph, weights),
        user_ids=user_ids,
        user_indptr=user_indptr,
        user_tracks=graph.indices,
        user_ages=NEUTRAL if (ages := like_ages(lake, graph)) is None else ages,
        disliked_indptr=disliked_indptr,
        disliked_tracks=disliked_tracks,
        names=as_column(shown["name"]),
        artists=as_column(shown["made_by"]),
        isrcs=as_column(shown["isrc"]),
        image_urls=as_column(shown["image_url"]),
        preview_urls=as_column(shown["preview_url"]),
        explicit=shown["explicit"].to_numpy(),
        years=shown["year"].to_numpy(),
        feature_names=feature_names,
        features=features,
        genre_names=genres.names,
        genre_indptr=genres.indptr,
        genre_tracks=genres.tracks,
        layout=weights.layout,
        by=Artists.of_lists(*(_in_turn(shown[name]) for name in ("artist_ids", "artists"))),
        facts={
            **_facts_of_model(model, weights, version),
            "cut_off": current_cut_off(lake).isoformat(),
            "licences": lake.licences(),
            # How many likes its model had learned from when it was refitted, and how many of them no judged
            # model learns from; null where what is served is the judged model itself.
            "refitted_on": model.facts.get("refitted_on"),
        },
    )


def _in_turn(lists: pl.Series) -> Iterator[list[str | None]]:
    """The values of a column of lists, of which few are Python objects at a time."""
    return (
        one for block in lists.to_frame().iter_slices(_LISTS_A_BLOCK) for one in block.to_series().to_list()
    )


def known_features(catalogue: pl.DataFrame) -> tuple[list[str], Float16]:
    """The audio features that are known of any row, and their values, float16[features, rows], NaN where
    unknown or too large."""
    names = [name for name in AUDIO_FEATURES if catalogue[name].drop_nulls().drop_nans().len()]
    features = np.full((len(names), len(catalogue)), np.nan, dtype=np.float16)
    with np.errstate(over="ignore"):
        for row, name in zip(features, names, strict=True):
            values = catalogue[name].fill_null(np.nan).to_numpy().astype(np.float16)
            # 0 for -0, and NaN without a sign
            row[:] = np.where(np.isfinite(values), values + np.float16(0), np.float16(np.nan))
    return names, features


def genres_of(texts: pl.Series, canonical: NDArray[np.bool_]) -> Genres:
    """The genres of the canonical tracks, from the text that each track has of them."""
    distinct = texts.drop_nulls().unique().sort()
    place = texts.rank("dense").fill_null(0).cast(pl.Int32).to_numpy() - 1
    return Genres.of_texts(distinct.to_list(), np.where(canonical, place, -1).astype(np.int32))


class Audience(NamedTuple):
    """The users of a bundle: first those of the like graph, then those with dislikes alone. Lists as in
    :class:`BundleContent`."""

    user_ids: StringColumn
    user_indptr: NDArray[np.int64]
    disliked_indptr: NDArray[np.int64]
    disliked_tracks: NDArray[np.int32]


def with_dislikes(graph: LikeGraph, dislikes: pl.DataFrame, track_ids: pl.Series) -> Audience:
    """Line up dislikes (user_id, track_id) with the graph.

    A track counts under the id that stands for its recording. Tracks that the id map ``track_ids`` lacks,
    which are never recommended, and tracks that the user likes in the graph are left out.
    """
    tracks = pl.DataFrame({"track_id": track_ids.cast(pl.String), "track": graph.canonical})
    users = as_series(graph.user_ids, "user_id").to_frame()
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
    keys = rows["user"].to_numpy().astype(np.int64) * graph.n_tracks + rows["track"].to_numpy()
    some = rows["user"].filter(rows["user"] < graph.n_users).unique().to_numpy().astype(np.int64)
    places, lengths = row_places(graph.indptr, some)
    rows = rows.filter(~np.isin(keys, np.repeat(some * graph.n_tracks, lengths) + graph.indices[places]))
    more = len(users) - graph.n_users
    counts = np.bincount(rows["user"].to_numpy(), minlength=len(users))
    return Audience(
        as_column(users["user_id"]),
        np.concatenate([graph.indptr, np.repeat(graph.indptr[-1:], more)]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows["track"].to_numpy().astype(np.int32),
    )


def known_dislikes(lake: Lake) -> pl.DataFrame:
    """The dislikes as of the cut-off: user_id, track_id. Empty in a lake from before feedback."""
    key = current_cut_off(lake).isoformat()
    if key not in lake.partitions("current_dislikes"):
        return empty_table("current_dislikes").select("user_id", "track_id")
    return lake.read("current_dislikes", key, ["user_id", "track_id"])


def add_index_if_set(folder: Path, settings: ServingSettings) -> dict[str, Any]:
    """Add the index that the settings ask for to the complete bundle in ``folder``; returns facts about it.

    Reports a note where an index was left out. Raises LibraryMissingError where the settings require an index
    and its library is missing.
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
        report_note(f"{n_tracks:,} tracks are ranked exactly, which is slower than with an index: {error}")
        return {}
    if facts["probes"] is None:
        found = min(facts["recall"][str(kind)] for kind in ORDINARY)
        report_note(
            f"an index of {n_tracks:,} tracks found {found:.3f} of the best, not {RECALL}: it was left out,"
            " and queries are answered exactly"
        )
    return {"index": facts}
