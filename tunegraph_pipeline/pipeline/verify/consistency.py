"""Every stage against what it was built from.

Here: daily tables against raw batches, current lists against daily tables, graph, matrix, embeddings and live
bundle against their inputs. Not here: damaged files; nothing is compared with them.
"""

from collections.abc import Callable, Iterator
from datetime import date

import numpy as np
import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.co_like import CoLike, what_is_wrong
from tunegraph_pipeline.graph.like_graph import build_like_graph
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.current import united
from tunegraph_pipeline.lake.feedback import settle
from tunegraph_pipeline.lake.lake import DAILY_TABLES, MAY_BE_MISSING
from tunegraph_pipeline.lake.plays import PlaysSettings, bounded_duckdb, liked_by_playing
from tunegraph_pipeline.lake.raw import is_pruned
from tunegraph_pipeline.lake.tables import current_lists, derive_observations, empty_table
from tunegraph_pipeline.pipeline.catalogue import NAME as CATALOGUE
from tunegraph_pipeline.pipeline.catalogue import PARTS as DESCRIBING
from tunegraph_pipeline.pipeline.catalogue import REDIRECTS, rebuilt_catalogue
from tunegraph_pipeline.pipeline.current_likes import recordings_by_id
from tunegraph_pipeline.pipeline.settings import GraphSettings
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, short, written
from tunegraph_pipeline.pipeline.verify.tables import how_to_rebuild
from tunegraph_pipeline.recommend.bundle import CURRENT, Bundle, current_version
from tunegraph_pipeline.recommend.publication import publications
from tunegraph_pipeline.recommend.weights import served_embeddings
from tunegraph_pipeline.words import counted

_NEEDED = tuple(table for table in DAILY_TABLES if table not in MAY_BE_MISSING)
_SAMPLED_TRACKS = 200
_SAMPLED_LIKES = 5_000_000
"""With more current likes than this, only a sample of the users is compared."""


def check_days(inspection: Inspection) -> None:
    """Daily tables against raw, and observations against likes."""
    days = inspection.filled_days()
    received = [day.isoformat() for day in inspection.lake.raw_days()] if inspection.sound("raw") else []
    for done, key in enumerate(days):
        inspection.progress("days", done, len(days))
        if is_pruned(inspection.lake.raw, date.fromisoformat(key)):
            # Nothing but the tables is left of it.
            for table in _NEEDED:
                path = inspection.lake.table_path(table, key)
                if not path.exists():
                    inspection.problem(path, "is not there", *how_to_rebuild(inspection, table, key))
        if key in received:
            _note_stale_tables(inspection, key)
        if inspection.sound(*(f"{table}/dt={key}" for table in ("users", "likes", "observations"))):
            _check_observations(inspection, key)
    inspection.progress("days", len(days), len(days))
    for key in received:
        if key not in days:
            folder = inspection.lake.raw / f"dt={key}"
            inspection.note(folder, "was received and not refreshed yet", "run `tunegraph refresh`")


def _note_stale_tables(inspection: Inspection, key: str) -> None:
    lake, day = inspection.lake, date.fromisoformat(key)
    if inspection.name(lake.aliases) in inspection.damaged:
        return
    sound = [table for table in DAILY_TABLES if inspection.sound(f"{table}/dt={key}")]
    for table in lake.stale_tables(day, sound, Aliases.of(lake.root)):
        path = lake.table_path(table, key)
        what = "is not made from the batches now in raw, or from the aliases now in the lake"
        inspection.note(
            path, what if path.exists() else "is not there yet", f"`tunegraph refresh` fills {key}"
        )


def _check_observations(inspection: Inspection, key: str) -> None:
    paths = {table: inspection.lake.table_path(table, key) for table in ("users", "likes", "observations")}
    if not all(path.exists() for path in paths.values()):
        return
    if inspection.lake.inputs_of("observations", key) != inspection.lake.inputs_of("likes", key):
        return  # a refresh died between the two; the day is stale
    columns = ["user_id", "source", "state"]
    expected = derive_observations(
        inspection.lake.read("users", key, columns), inspection.lake.read("likes", key)
    ).sort("user_id", "source")
    observed = inspection.lake.read("observations", key).sort("user_id", "source")
    if not observed.equals(expected):
        what = "lengths or hashes of lists are not those of the table likes"
        path = paths["observations"]
        if not inspection.has_batches(key):
            repairs = f"raw/ holds nothing of {key} any more: restore both from a backup"
            inspection.problem(path, what, repairs)
            return
        mend = inspection.remove(path.parent, paths["likes"].parent)
        inspection.problem(path, what, f"rematerialise liked_lists of {key}", mend)


def check_lists(inspection: Inspection) -> None:
    """The current lists against those rebuilt from the daily tables."""
    lake, key = inspection.lake, inspection.sound_cut_off()
    if key is None or not inspection.sound(
        "observations", "likes", "feedback", "tracks", REDIRECTS, "plays", "likes_from_plays"
    ):
        return
    path = lake.table_path("current_likes", key)
    days = [day for day in inspection.filled_days() if day <= key]
    if inspection.name(lake.aliases) in inspection.damaged:
        return
    aliases = Aliases.of(lake.root)
    try:
        unfilled = [
            day
            for day in lake.raw_days()
            if day.isoformat() <= key and lake.stale_tables(day, [*MAY_BE_MISSING], aliases)
        ]
    except LakeError:
        return  # a finding among the raw batches
    if unfilled or not all(lake.table_path(name, day).exists() for name in _NEEDED for day in days):
        return  # a finding of that day, which has to be filled first
    sources = [lake.table_path(table, day) for table in ("observations", "likes", "feedback") for day in days]
    sources += [lake.table_path("plays", day) for day in lake.partitions("plays") if day <= key]
    updated = written(lake.current_file("current_likes"))
    if any(written(source) > updated for source in sources):
        inspection.note(path, "is older than the days it is made of", "`tunegraph refresh` updates it")
        return
    if not _check_likes_from_plays(inspection, date.fromisoformat(key)):
        return
    stored = lake.read("current_likes", key)
    every = len(stored) // _SAMPLED_LIKES + 1

    def sampled(frame: pl.DataFrame) -> pl.DataFrame:
        return frame if every == 1 else frame.filter(pl.col("user_id").hash(0) % every == 0)

    lists = _expected_lists(inspection, key, days, sampled)
    pair = ["user_id", "track_id"]
    if lists is not None and not sampled(stored).sort(pair).equals(lists.sort(pair)):
        what = "is not what the daily tables give"
        inspection.problem(path, what, *how_to_rebuild(inspection, "current_likes", key))


def _check_likes_from_plays(inspection: Inspection, cut_off: date) -> bool:
    """The likes from plays against those that all plays up to the cut-off make; whether they are theirs."""
    lake, key = inspection.lake, cut_off.isoformat()
    days = lake.days_until("plays", cut_off)
    if inspection.name(lake.path) in inspection.damaged or not days:
        return True  # the settings have the rule
    path = lake.table_path("likes_from_plays", key)
    if not path.exists():
        inspection.note(path, "is not there yet", "`tunegraph refresh` makes it")
        return False
    rule = lake.section("plays", PlaysSettings)
    with bounded_duckdb(lake.staging, rule.memory_gb) as connection:
        plays = {day: lake.plays_of(day) for day in days}
        expected = liked_by_playing(connection, plays, cut_off, rule).likes
    if lake.read("likes_from_plays", key).equals(expected):
        return True
    what = "is not what the daily tables give"
    inspection.problem(path, what, *how_to_rebuild(inspection, "likes_from_plays", key))
    return False


def _expected_lists(
    inspection: Inspection, key: str, days: list[str], sampled: Callable[[pl.DataFrame], pl.DataFrame]
) -> pl.DataFrame | None:
    """The lists of the sampled users, rebuilt from ``days``; None where they depend on damaged settings."""
    lake = inspection.lake

    def seen() -> Iterator[tuple[date, pl.DataFrame, pl.DataFrame]]:
        for done, day in enumerate(reversed(days)):
            inspection.progress("current lists", done, len(days))
            observed, likes = sampled(lake.read("observations", day)), sampled(lake.read("likes", day))
            yield date.fromisoformat(day), observed, likes
        inspection.progress("current lists", len(days), len(days))

    lists = current_lists((observed, likes) for _, observed, likes in seen())
    if key in lake.partitions("likes_from_plays"):
        played = sampled(lake.read("likes_from_plays", key, ["user_id", "track_id", "liked_at"]))
        lists = united(lists, played)
    said = [sampled(lake.read("feedback", day)) for day in days]
    feedback = pl.concat([empty_table("feedback"), *said])
    if feedback.is_empty():
        return lists
    if inspection.name(lake.path) in inspection.damaged:
        return None  # the settings say whether ids of one recording are merged
    merge = lake.section("graph", GraphSettings).merge_recordings
    recordings = recordings_by_id(lake, date.fromisoformat(key), feedback["track_id"], merge=merge)
    return settle(lists, feedback, seen(), recordings).likes


def check_catalogue(inspection: Inspection) -> None:
    """The catalogue against one rebuilt from the daily tables and the id map."""
    lake = inspection.lake
    if not inspection.has(CATALOGUE) or not inspection.sound(CATALOGUE, "track_ids", *DESCRIBING, REDIRECTS):
        return
    key = lake.current_version(CATALOGUE)
    path = lake.table_path(CATALOGUE, key)
    days = [
        lake.table_path(table, day)
        for table in (*DESCRIBING, REDIRECTS)
        for day in lake.partitions(table)
        if day <= key
    ]
    if inspection.behind(CATALOGUE) or any(
        written(day) > written(lake.current_file(CATALOGUE)) for day in days
    ):
        inspection.note(path, "is older than what it is made of", "`tunegraph refresh` updates it")
        return
    if inspection.name(lake.path) in inspection.damaged or not path.exists():
        return  # the settings say whether ids of one recording are merged
    expected = rebuilt_catalogue(lake, date.fromisoformat(key))
    if not expected.equals(lake.read(CATALOGUE, key)):
        what = "is not what the daily tables give"
        inspection.problem(path, what, *how_to_rebuild(inspection, CATALOGUE, key))


def check_graph(inspection: Inspection) -> None:
    """The like graph against the current likes and the id map."""
    graph = inspection.current_graph()
    key = inspection.sound_cut_off()
    if graph is None or key is None or not inspection.sound("track_ids"):
        return
    path = inspection.lake.current_folder("like_graph") / "indices.npy"
    if inspection.behind("like_graph"):
        inspection.note(path, "is older than the current likes", "`tunegraph refresh` updates it")
        return
    mend = inspection.remove(path.parent)
    ids = inspection.lake.read("track_ids")["track_id"]
    if len(ids) != graph.n_tracks:
        what = f"is of {counted(graph.n_tracks, 'track')}, the id map has {len(ids):,}"
        inspection.problem(path, what, "rematerialise like_graph", mend)
        return
    try:
        expected = build_like_graph(
            inspection.lake.read("current_likes", key, ["user_id", "track_id"]),
            ids,
            split_key="",
            held_out=0.0,
            calibration_share=0.0,
            canonical=graph.canonical,
        )
    except LakeError as error:
        inspection.problem(path, short(error), "rematerialise track_ids", mend)
        return
    same = (
        np.array_equal(expected.indptr, graph.indptr)
        and np.array_equal(expected.indices, graph.indices)
        and expected.user_ids.tolist() == graph.user_ids.tolist()
    )
    if not same:
        inspection.problem(path, "its likes are not the current likes", "rematerialise like_graph", mend)


def check_co_likes(inspection: Inspection) -> None:
    """B against AᵀA on a sample of rows, and the order of its strongest entries."""
    graph = inspection.current_graph()
    if graph is None or not inspection.sound("co_like") or not inspection.has("co_like"):
        return
    folder = inspection.lake.current_folder("co_like")
    if inspection.behind("co_like"):
        inspection.note(folder, "is older than the like graph", "`tunegraph refresh` updates it")
        return
    matrix = CoLike.open(folder)
    if what := what_is_wrong(
        matrix, graph.shortened(matrix.facts.get("longest_list")).matrix(), _SAMPLED_TRACKS
    ):
        inspection.problem(folder / MANIFEST, what, "rematerialise co_like_matrix", inspection.remove(folder))


def check_embeddings(inspection: Inspection) -> None:
    """The table of embeddings against the model it is of."""
    for version in inspection.lake.partitions("track_embeddings"):
        folder = inspection.lake.version_folder("models", version)
        path = inspection.lake.table_path("track_embeddings", version)
        if not folder.is_dir() or not inspection.sound(f"models/{version}", inspection.name(path.parent)):
            continue
        stored = inspection.lake.read("track_embeddings", version, ["embedding"])["embedding"]
        embeddings = served_embeddings(ArrayFolder.open(folder))
        if not np.array_equal(stored.to_numpy().reshape(embeddings.shape), embeddings):
            what = "is not what the model holds"
            inspection.problem(path, what, *how_to_rebuild(inspection, "track_embeddings", version))


def check_live_bundle(inspection: Inspection) -> None:
    """The live bundle against the graph, and everyone's recommendations against the bundle."""
    if not inspection.sound("serving") or not (inspection.lake.serving / CURRENT).exists():
        return
    version = current_version(inspection.lake.serving)
    folder = inspection.lake.serving / version
    bundle = Bundle.open(folder)
    table = inspection.lake.table_path("user_recommendations", version)
    if not table.exists():
        inspection.note(table, "is not there yet", "rematerialise user_recommendations")
    graph = inspection.current_graph()
    log = publications(inspection.lake.serving)
    if log and log[-1].outcome == "rolled back":
        inspection.note(
            folder, "was rolled back to, and is of earlier likes", "the next refresh publishes again"
        )
        return
    key = inspection.sound_cut_off()
    if graph is None or key is None or not inspection.sound("track_ids", "models"):
        return
    if inspection.behind("serving") or bundle.facts.get("cut_off") != key:
        inspection.note(folder, "is older than graph or model", "`tunegraph refresh` updates it")
        return
    ids = inspection.lake.read("track_ids")["track_id"].to_list()
    users = graph.n_users
    same = {
        "track_ids": bundle.tracks.ids.tolist() == ids,
        "popularity": np.array_equal(bundle.popularity, graph.track_degrees()),
        "user_ids": bundle.users.ids.tolist()[:users] == graph.user_ids.tolist(),
        "user_tracks": np.array_equal(bundle.user_indptr[: users + 1], graph.indptr)
        and np.array_equal(bundle.user_tracks, graph.indices),
    }
    for part in (part for part, equal in same.items() if not equal):
        what = f"its {part} are not those of the like graph"
        mend = inspection.remove(folder)
        inspection.problem(folder / MANIFEST, what, "rematerialise serving_bundle", mend)
