"""The columns and arrays that every stage writes, and what each of them is made from.

Here: `MADE_FROM`, the one declaration of the lineage, and a stage's columns as one list, whether a table's or
a folder's of arrays. Not here: what a column means (`lake.schemas`, and the classes that own the arrays), or
how Dagster shows it (`orchestration.metadata`).

A column is named ``STAGE.COLUMN``. Of a stage with several tables, the columns of the first have their plain
names, those of another are named ``TABLE.COLUMN``. Stages that fill daily tables take them from raw batches,
where nothing has columns yet; the earlier generations declare no arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tunegraph_pipeline.graph.co_like import CO_LIKE
from tunegraph_pipeline.graph.like_graph import LIKE_GRAPH
from tunegraph_pipeline.lake.array_spec import TEXT, ArraySpec
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES, PERSONAL, TABLES
from tunegraph_pipeline.models.arrays import MODEL, REFITTED, REFITTED_ARRAYS
from tunegraph_pipeline.pipeline.stages import Stage
from tunegraph_pipeline.recommend.bundle_arrays import BUNDLE

ARRAYS: Mapping[str, tuple[ArraySpec, ...]] = {
    "like_graph": LIKE_GRAPH,
    "co_like_matrix": CO_LIKE,
    "trained_model": MODEL,
    "serving_bundle": BUNDLE,
}
"""The arrays of each stage that writes a folder of them."""

_PERSONAL_ARRAYS = frozenset({"user_ids", "user_hashes"})


@dataclass(frozen=True)
class Column:
    """A column of a table, or an array. ``personal``: its values are ids of people. ``made_from``: the
    (stage, column) pairs its values are computed from; empty where a stage makes it up itself."""

    name: str
    type: str
    meaning: str
    nullable: bool
    personal: bool
    made_from: tuple[tuple[str, str], ...]


def columns_of(stage: Stage) -> list[Column]:
    """The columns of the tables of a stage, the main one first, or its arrays; empty where it has neither."""
    sources = {
        column: _pairs(made_from)
        for columns, made_from in MADE_FROM.get(stage.name, {}).items()
        for column in columns.split()
    }
    found = [
        Column(
            name=(name := field.name if table == stage.tables[0] else f"{table}.{field.name}"),
            type=str(field.type),
            meaning=(field.metadata or {}).get(b"description", b"").decode(),
            nullable=field.nullable,
            personal=field.name in PERSONAL,
            made_from=sources.get(name, ()),
        )
        for table in stage.tables
        for field in TABLES[table].schema
    ]
    return found + [
        Column(
            name=spec.name,
            type=f"{spec.dtype if spec.dtype == TEXT else np.dtype(spec.dtype).name}"
            f" [{', '.join(map(str, spec.shape))}]",
            meaning=spec.meaning,
            nullable=spec.optional,
            personal=spec.name in _PERSONAL_ARRAYS,
            made_from=sources.get(spec.name, ()),
        )
        for spec in ARRAYS.get(stage.name, ())
    ]


def about_people(stage: Stage) -> bool:
    """Whether something in what a stage wrote is about single people: what names them, or is removed when one
    of them is forgotten."""
    return stage.holds_users or any(column.personal for column in columns_of(stage))


def _pairs(made_from: str) -> tuple[tuple[str, str], ...]:
    pairs = (source.partition(".") for source in made_from.split())
    return tuple((stage, column) for stage, _, column in pairs)


def _of(stage: str, columns: str) -> str:
    return " ".join(f"{stage}.{column}" for column in columns.split())


def _same(stage: str, columns: str) -> dict[str, str]:
    """Each of ``columns``, as it is in ``stage``."""
    return {column: f"{stage}.{column}" for column in columns.split()}


_FEATURES = " ".join(AUDIO_FEATURES)
_DESCRIPTION = (
    "isrc name artists artist_ids album_id genre image_url preview_url duration_ms explicit album year source"
)
_SAME_SONG = (
    f"{_of('tracks', 'track_id isrc duration_ms name artists')} {_of('redirects', 'track_id recording_id')}"
)
_MAKERS = "artists artist_ids"
_LEARNT_LIKES = _of("like_graph", "indptr indices fold calibration")
_ALL_LIKES = _of("like_graph", "indptr indices")
_TAGS = _of("catalogue", f"recording album_id {_MAKERS}")
_CONTENT = f"{_TAGS} {_of('catalogue', _FEATURES)}"
_LIKES_AND_CONTENT = f"{_LEARNT_LIKES} {_CONTENT}"
_PLAYS = "likes_from_plays.plays"  # by which likes are weighed
_RANKING = _of(
    "serving_bundle",
    "embeddings pooling_weight prior neighbour_indptr neighbour_indices neighbour_weight recommendable"
    " canonical user_indptr user_tracks user_ages disliked_indptr disliked_tracks",
)

_JUDGED = " ".join(spec.name.removeprefix(REFITTED) for spec in REFITTED_ARRAYS)

MADE_FROM: Mapping[str, Mapping[str, str]] = {
    "likes_from_plays": {
        **_same("plays", "user_id track_id"),
        "liked_at days": "plays.played_on plays.plays",
        "plays": "plays.plays",
        "changed_listeners.user_id": "plays.user_id",
    },
    "current_likes": {
        "user_id changed_users.user_id": "liked_lists.user_id likes_from_plays.user_id feedback.user_id",
        "track_id": "liked_lists.track_id likes_from_plays.track_id feedback.track_id feedback.action"
        f" {_SAME_SONG}",
        "liked_at": "liked_lists.liked_at likes_from_plays.liked_at feedback.at",
        "position": "liked_lists.position",
        "current_dislikes.user_id": "feedback.user_id",
        "current_dislikes.track_id": f"feedback.track_id feedback.action {_SAME_SONG}",
        "current_dislikes.disliked_at": "feedback.at",
        "last_observations.source": "liked_lists.observations.source",
        "last_observations.user_id last_observations.seen": "liked_lists.observations.user_id",
        "last_observations.list_hash": "liked_lists.observations.list_hash",
    },
    "track_ids": {
        "track_idx track_id": "current_likes.track_id tracks.track_id audio_features.track_id",
    },
    "catalogue": {
        **_same("track_ids", "track_idx track_id"),
        "recording joined_by": _SAME_SONG,
        **_same("tracks", _DESCRIPTION),
        **_same("audio_features", f"provider {_FEATURES}"),
    },
    "like_graph": {
        "user_ids indptr calibration judge": "current_likes.user_id",
        "indices": "current_likes.track_id catalogue.track_idx catalogue.recording",
        "fold": "current_likes.user_id current_likes.track_id",
        "n_tracks": "catalogue.track_idx",
        "canonical": "catalogue.recording",
    },
    "co_like_matrix": {" ".join(spec.name for spec in CO_LIKE): _of("like_graph", "indptr indices")},
    "trained_model": {
        "embeddings layout prior": f"{_LIKES_AND_CONTENT} {_PLAYS}",
        "pooling_weight": _LEARNT_LIKES,
        "neighbour_indptr neighbour_indices": f"{_LEARNT_LIKES} {_TAGS}",
        "neighbour_weight": f"{_LEARNT_LIKES} {_TAGS} {_PLAYS}",
        "placed refitted_placed": _CONTENT,
        "recommendable": _LIKES_AND_CONTENT,
        "canonical": "like_graph.canonical",
        "likes_from_nothing": _LEARNT_LIKES,
        "artists": _of("catalogue", _MAKERS),
        "albums": "catalogue.album_id",
        "refitted_embeddings refitted_prior": f"{_ALL_LIKES} {_CONTENT} {_PLAYS}",
        "refitted_pooling_weight": _ALL_LIKES,
        "refitted_neighbour_indptr refitted_neighbour_indices": f"{_ALL_LIKES} {_TAGS}",
        "refitted_neighbour_weight": f"{_ALL_LIKES} {_TAGS} {_PLAYS}",
    },
    "track_embeddings": {
        **_same("track_ids", "track_id track_idx"),
        "embedding": _of("trained_model", "embeddings refitted_embeddings"),
        "model_version": "",
    },
    "serving_bundle": {
        **{
            spec.name.removeprefix(REFITTED): _of(
                "trained_model", f"{spec.name.removeprefix(REFITTED)} {spec.name}"
            )
            for spec in REFITTED_ARRAYS
            if spec.name != f"{REFITTED}placed"
        },
        "layout": "trained_model.layout",
        "track_ids track_hashes track_hash_order": "track_ids.track_id",
        "user_ids user_hashes user_hash_order": "like_graph.user_ids current_likes.current_dislikes.user_id",
        "popularity popular_order": "like_graph.indices",
        "recommendable": "like_graph.indices like_graph.canonical trained_model.placed"
        " trained_model.refitted_placed",
        "canonical": "like_graph.canonical",
        "user_indptr": "like_graph.indptr",
        "user_tracks": "like_graph.indices",
        "user_ages": f"{_of('current_likes', 'liked_at position track_id')} like_graph.canonical",
        "listener_indptr listeners": _of("like_graph", "indptr indices"),
        "disliked_indptr disliked_tracks": _of(
            "current_likes", "current_dislikes.user_id current_dislikes.track_id"
        ),
        "screen": _of("trained_model", "embeddings refitted_embeddings prior refitted_prior")
        + " like_graph.indices",
        "explicit": "catalogue.explicit",
        "years": "catalogue.year",
        "names": "catalogue.name",
        "artists": "catalogue.artists",
        "isrcs": "catalogue.isrc",
        "image_urls": "catalogue.image_url",
        "preview_urls": "catalogue.preview_url",
        "feature_names features": _of("catalogue", _FEATURES),
        "genre_names genre_indptr genre_tracks": _of("catalogue", "genre recording"),
        "artist_ids artist_names artist_indptr artist_indices": _of("catalogue", _MAKERS),
        "search_tracks search_codes search_indptr search_places search_words search_word_sums": _of(
            "catalogue", "name artists"
        ),
    },
    "user_recommendations": {
        "user_id": "serving_bundle.user_ids",
        "rank score": _RANKING,
        "track_id because_track_id": f"serving_bundle.track_ids {_RANKING}",
        "model_version bundle_version": "",
    },
    "evaluation": {
        "value": f"{_RANKING} {_of('trained_model', _JUDGED)} like_graph.fold",
        "model dataset split metric k seconds run_id": "",
    },
    "model_comparison": {
        "value": f"{_of('like_graph', 'indptr indices')} {_CONTENT}",
        "model dataset split metric k seconds run_id": "",
    },
}
"""For each stage that is built from others: its columns, and those they are made from. A column with nothing
to the right of it is made up by the stage itself, such as the version of a model."""
