"""What each part of the model is worth: encoders, content and the sparse part, on lakes that have features.

    python benchmarks/ablation.py --spotify-songs spotify_songs.csv.gz --output docs/ablation.md
    python benchmarks/ablation.py --no-simulator --parts Playlists train.parquet tracks.parquet
    python benchmarks/ablation.py --no-simulator --weights Playlists train.parquet tracks.parquet --epochs 4
    python benchmarks/ablation.py --no-simulator --cold Spotify spotify_songs.csv.gz --cold Simulated
    python benchmarks/ablation.py --no-simulator --plays Last.fm lf_train.txt --plays Invented LAKE --seeds 3
    python benchmarks/ablation.py --no-simulator --ratings MovieLens u.data --seeds 6

With ``--parts`` the encoder stays and the rest is removed piece by piece, on files of likes and tracks. Every
variant is trained on the same likes and compared on the early-stopping fold; the test fold influences no
choice and is read once, at the end. A tenth of all likes is held out for each, more than in a lake,
because few held-out likes cannot distinguish variants. MAP@10 over the whole catalogue, liked tracks left
out, in per cent, mean over the seeds.

With ``--weights`` neighbour weights and blend vary beside the same embedding. A fifth of the likes of each
judged user is held out. With ``--cold`` these are all likes of a tenth of the tracks, another draw than that
of `tunegraph compare`, and the places of such tracks vary too; without files, on the simulated world. The
ratio of the two parts is chosen for each half of the users by the other half. Differences are paired, with
intervals of 95 % over the users.

With ``--plays`` likes weigh what their plays say in the neighbour weights, in the loss, or in both. The likes
are those of a file of users, tracks and plays, separated by tabs, or of a lake with likes from plays. A fifth
of the likes of each judged user is held out; figures are means over the seeds.

With ``--ratings`` dislikes count against songs in the neighbour weights. The file has users, tracks and
ratings from 1 to 5, separated by tabs, as `u.data` of MovieLens 100K. Likes are ratings from 4, dislikes
those up to 2. A fifth of either is held out, of another draw with each seed. Not here: comparison with other
people's methods (`tunegraph evaluate --baselines`).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks.other_parts import WEIGHTS, Weights
from tunegraph_pipeline.evaluation.compare import material_of
from tunegraph_pipeline.evaluation.gate import paired_bootstrap
from tunegraph_pipeline.evaluation.metrics import user_metrics
from tunegraph_pipeline.evaluation.splits import Split, cold_start_tracks, weak_generalisation
from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.graph.like_graph import build_like_graph
from tunegraph_pipeline.graph.split import EARLY_STOPPING, GATE, TRAIN
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.models.blend import Blend
from tunegraph_pipeline.models.content import content_tags, encode_features
from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.play_counts import counted
from tunegraph_pipeline.pipeline.trained_model import lake_training_data, training_data
from tunegraph_pipeline.simulator.world import World
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.training.blend import EVEN, ScoreParts, Validation
from tunegraph_pipeline.training.content_neighbours import move_beside_alike
from tunegraph_pipeline.training.neighbour_weights import local_ridge
from tunegraph_pipeline.training.train import (
    TrainedModel,
    TrainingConfig,
    TrainingData,
    train,
)

Variants = dict[tuple[str, ...], dict[str, Any]]

ENCODERS = ("none", "propagation", "transformer")
CONTENT = {
    "id alone": {"use_tags": False, "use_features": False},
    "+ artist, album": {"use_tags": True, "use_features": False},
    "+ features": {"use_tags": False, "use_features": True},
    "+ both": {"use_tags": True, "use_features": True},
}


PARTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one space": {"spaces": 1},
    "four spaces": {"spaces": 4},
    "no list of an artist or album among the neighbour weights": {"content_weight": 0.0},
    "content never placed alone": {"content_likes": 0.0},
    "songs drawn in every step, as in a large catalogue": {"full_softmax_tracks": 1},
}


RATIOS = (0.5, 0.5**0.5, 1.0, 2**0.5, 2.0, 2 * 2**0.5)


@dataclass(frozen=True)
class Row:
    """A variant and its MAP@10: of the embedding alone and of the served rule, on either fold."""

    name: tuple[str, ...]
    embedding: float
    served: float
    spread: float
    """Standard deviation of ``served`` over the seeds, 0 for a single one."""
    test: float
    seconds: float


def lake_of(batch: RawBatch, held_out: float = 0.2) -> tuple[TrainingData, Validation]:
    """What a model learns from, and the test: all other likes for context, the gate's as targets."""
    ids = batch.likes["track_id"].unique().sort()
    graph = build_like_graph(batch.likes, ids, split_key="ablation", held_out=held_out, calibration_share=0.0)
    data = training_data(graph, build_catalogue(ids, batch.tracks, batch.features, merge=False)[0])
    context = csr_matrix(graph.fold_matrix(TRAIN) + graph.fold_matrix(EARLY_STOPPING))
    everything = np.ones(len(ids), dtype=np.bool_)
    return data, Validation.draw(context, graph.fold_matrix(GATE), everything, graph.n_users)


def judge(model: TrainedModel, validation: Validation, *, embedding_alone: bool = False) -> float:
    """MAP@10 in per cent."""
    blend = replace(EVEN, neighbour=0.0) if embedding_alone else model.blend
    figures = validation.of_blends([blend], model.parts, model.prior)
    return 100 * float(figures.mean())


@dataclass(frozen=True)
class Setting:
    """What `--weights` varies on: a split, what a model may learn of it, and the metrics, as (name, k)."""

    split: Split
    data: TrainingData
    metrics: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, batch: RawBatch, *, cold: bool, users: int) -> "Setting":
        ids = batch.likes["track_id"].unique().sort()
        graph = build_like_graph(batch.likes, ids, split_key="", held_out=0, calibration_share=0)
        known = training_data(graph, build_catalogue(ids, batch.tracks, batch.features, merge=False)[0])
        likes = graph.matrix()
        if not cold:
            return cls.weak(likes, known, users)
        split = cold_start_tracks(cold_start_tracks(likes).train, users=users, seed=1)
        return cls(split, material_of(split, known, 1).data, (("recall", 100), ("map", 100)))

    @classmethod
    def weak(cls, likes: csr_matrix, known: TrainingData, users: int) -> "Setting":
        split = weak_generalisation(likes, users=users, seed=1)
        return cls(split, material_of(split, known, 1).data, (("map", 10), ("recall", 20), ("ndcg", 20)))

    @classmethod
    def with_plays(cls, path: Path, users: int) -> "Setting":
        """Of a lake, or of a file of users, tracks and plays."""
        if path.is_dir():
            lake = Lake.open(path)
            graph = open_like_graph(lake)
            return cls.weak(graph.matrix(), lake_training_data(lake, graph), users)
        columns = {"user_id": pl.String, "track_id": pl.String, "plays": pl.Float64}
        rows = pl.read_csv(path, has_header=False, separator="\t", schema=columns)
        rows = rows.with_columns(pl.col("plays").cast(pl.Int64))
        ids = rows["track_id"].unique().sort()
        graph = build_like_graph(rows, ids, split_key="", held_out=0, calibration_share=0)
        nothing = (empty_table("tracks"), empty_table("audio_features"))
        known = training_data(graph, build_catalogue(ids, *nothing, merge=False)[0])
        return cls.weak(graph.matrix(), replace(known, plays=counted([rows], graph, ids)), users)

    def figures(self, model: TrainedModel, parts: ScoreParts, blends: Sequence[Blend]) -> NDArray[np.float64]:
        """Each metric of every judged user with each blend of ``parts``: float64[blends, metrics, m]."""
        return self.of_ranked(self.ranked(model, parts, blends, *(self.split.held_out.likes,) * 2))

    def ranked(
        self,
        model: TrainedModel,
        parts: ScoreParts,
        blends: Sequence[Blend],
        queries: csr_matrix,
        known: csr_matrix,
    ) -> NDArray[np.int32]:
        """The best tracks of every judged user with each blend of ``parts``, int32[blends, m, k]: by the
        lists of ``queries``, without what is stored in ``known``, csr m x N both."""
        k = max(k for _, k in self.metrics)
        candidates = model.recommendable & (self.split.cold if self.split.cold.any() else True)
        ranked = np.empty((len(blends), queries.shape[0], k), dtype=np.int32)
        for start in range(0, queries.shape[0], 256):
            score = parts.scorer(queries[start : start + 256])
            left_out = known[start : start + 256].nonzero()
            for places, blend in zip(ranked, blends, strict=True):
                scores = score(blend, model.prior)
                scores[:, ~candidates] = -np.inf
                scores[left_out] = -np.inf
                best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
                order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
                places[start : start + 256] = np.take_along_axis(best, order, axis=1)
        return ranked

    def of_ranked(self, ranked: NDArray[np.int32]) -> NDArray[np.float64]:
        """Each metric of ``ranked``, int32[blends, m, k]: float64[blends, metrics, m]."""
        test = self.split.held_out
        return np.array(
            [
                [user_metrics(one, test.relevant, test.n_held_out, k)[name] for name, k in self.metrics]
                for one in ranked
            ]
        )


def fairly_chosen(figures: NDArray[np.float64], group: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64[metrics, m] of ``figures`` float64[ratios, metrics, m]: of each user those of the ratio that is
    best, by the first metric, for the other half of their group."""
    chosen = np.empty(figures.shape[1:])
    half = np.arange(len(group)) % 2 == 0
    for mine, others in ((half, ~half), (~half, half)):
        for side in (group, ~group):
            if (side & others).any():
                best = figures[:, 0, side & others].mean(axis=1).argmax()
                chosen[:, side & mine] = figures[best][:, side & mine]
    return chosen


def with_weights(
    model: TrainedModel, way: Weights, setting: Setting, config: TrainingConfig
) -> tuple[NDArray[np.float64], float]:
    """Each metric of every judged user, float64[metrics, m], with other neighbour weights beside the same
    embedding; and how many processor seconds the weights took."""
    start = time.process_time()
    parts = way.parts(model.parts, setting.data, config)
    seconds = time.process_time() - start
    lengths = np.diff(setting.split.held_out.likes.indptr)
    usual = float(np.median(lengths) ** way.length_exponent)
    blends = [Blend(1.0, ratio * usual, way.length_exponent) for ratio in RATIOS]
    figures = setting.figures(model, parts, blends)
    short = lengths <= np.median(lengths) if way.by_length else np.ones(len(lengths), dtype=np.bool_)
    return fairly_chosen(figures, short), seconds


def weights_table(model: TrainedModel, setting: Setting, config: TrainingConfig, trainings: int) -> str:
    """Each of `WEIGHTS` beside the embedding of ``model``, and the usual ones beside several embeddings."""
    names, figures, seconds = [], [], []

    def add(name: str, model: TrainedModel, way: Weights) -> None:
        found, cost = with_weights(model, way, setting, config)
        print(name, found.mean(axis=1), file=sys.stderr, flush=True)
        names.append(name)
        figures.append(found)
        seconds.append([f"{cost:.0f}"])

    for name, way in WEIGHTS.items():
        if len(model.prior) <= way.most_tracks:
            add(name, model, way)
        else:
            print(f"{name}: left out, for {way.most_tracks:,} tracks at most", file=sys.stderr, flush=True)
    if trainings > 1:
        others = [
            train(setting.data, config.model_copy(update={"seed": config.seed + number}))
            for number in range(1, trainings)
        ]
        add(f"beside the embeddings of {trainings} trainings", added_up([model, *others]), Weights())
    return paired_table("neighbour weights", names, figures, setting, "solving, s", seconds)


def added_up(models: list[TrainedModel]) -> TrainedModel:
    """A model whose cosines are those of queries to all of the ``models`` at once, and whose prior is their
    mean."""
    embeddings = np.hstack([model.embeddings for model in models]) / np.sqrt(np.float32(len(models)))
    prior = np.mean(np.array([model.prior for model in models]), axis=0).astype(np.float32)
    return replace(models[0], embeddings=embeddings, prior=prior)


PLACES: dict[str, tuple[bool, bool, int]] = {
    "content alone": (False, False, 0),
    "beside liked songs of its artists and album": (True, False, 0),
    "beside 50 that sound alike": (False, True, 50),
    "beside both, 20 that sound alike": (True, True, 20),
    "beside both, 50": (True, True, 50),
    "beside both, 100": (True, True, 100),
}
"""Beside what tracks without likes are placed: tags, features, and how many that sound alike."""


def places_table(model: TrainedModel, setting: Setting) -> str:
    """Each of `PLACES`, by a ``model`` that was trained without content neighbours."""
    data = setting.data
    popularity = np.bincount(data.train.indices, minlength=len(model.prior)).astype(np.float32)
    tags = content_tags(data.track_artists, data.album)
    features = encode_features(data.features, popularity > 0)
    figures: list[NDArray[np.float64]] = []
    for by_tags, by_sound, neighbours in PLACES.values():
        embeddings = model.embeddings.copy()
        move_beside_alike(
            embeddings,
            popularity,
            model.placed & (popularity == 0),
            tags=tags if by_tags else None,
            features=features if by_sound else None,
            neighbours=neighbours,
        )
        parts = replace(model.parts, embeddings=embeddings)
        figures.extend(setting.figures(model, parts, [model.blend]))
    return paired_table("place of a track without likes", list(PLACES), figures, setting)


PLAYS = {
    "likes alone": (False, False),
    "in the neighbour weights": (True, False),
    "in the loss": (False, True),
    "in both": (True, True),
}
"""Where likes weigh what their plays say: in the neighbour weights, and in the loss."""


def plays_table(setting: Setting, config: TrainingConfig, seeds: int) -> str:
    """Each of `PLAYS`, in the mean over the seeds."""
    blends = [Blend(1.0, ratio, 0.0) for ratio in RATIOS]
    everybody = np.ones(len(setting.split.users), dtype=np.bool_)
    figures: dict[str, list[NDArray[np.float64]]] = {name: [] for name in PLAYS}
    for seed in range(seeds):
        weighed, alike = (
            train(setting.data, config.model_copy(update={"seed": seed, "play_weights": on}))
            for on in (True, False)
        )
        for name, (in_weights, in_loss) in PLAYS.items():
            model, W = (weighed if on else alike for on in (in_loss, in_weights))
            parts = replace(model.parts, weights=W.parts.weights)
            found = fairly_chosen(setting.figures(model, parts, blends), everybody)
            print(name, seed, found.mean(axis=1), file=sys.stderr, flush=True)
            figures[name].append(found)
    means = [np.mean(found, axis=0) for found in figures.values()]
    return paired_table("how much a like counts by its plays", list(PLAYS), means, setting)


AGAINST: dict[str, tuple[float, float]] = {
    "likes alone": (0.0, 0.0),
    "a dislike as -0.25 likes": (0.25, 0.0),
    "a dislike as -0.5 likes": (0.5, 0.0),
    "a dislike as -1 like": (1.0, 0.0),
    "a middling rating as -0.25 likes": (0.0, 0.25),
    "both, as -0.5 and -0.25 likes": (0.5, 0.25),
}
"""How much a dislike, and a rating between like and dislike, count against a song in the lists that neighbour
weights are solved from."""
_SUBTRACTED = 0.5  # of a dislike in a query, as `recommend` does


@dataclass(frozen=True)
class Rated:
    """What users think of tracks, csr float32 ones, users x N each; ``known``: the same likes, no content."""

    likes: csr_matrix
    middling: csr_matrix
    dislikes: csr_matrix
    known: TrainingData

    @classmethod
    def read(cls, path: Path) -> "Rated":
        """Of a file of users, tracks and ratings. Tracks that nobody likes are left out."""
        rows = pl.read_csv(path, has_header=False, separator="\t", columns=[0, 1, 2])
        rows.columns = ["user_id", "track_id", "rating"]
        rows = rows.with_columns(pl.col("user_id", "track_id").cast(pl.String))
        liked = rows.filter(pl.col("rating") >= 4)
        ids = liked["track_id"].unique().sort()
        graph = build_like_graph(liked, ids, split_key="", held_out=0, calibration_share=0)
        nothing = (empty_table("tracks"), empty_table("audio_features"))
        users = pl.DataFrame({"user_id": list(graph.user_ids)}).with_row_index("user")
        tracks = ids.to_frame().with_row_index("track")

        def of(lowest: int, highest: int) -> csr_matrix:
            some = rows.filter(pl.col("rating").is_between(lowest, highest))
            some = some.join(users, on="user_id").join(tracks, on="track_id")
            ones = np.ones(len(some), dtype=np.float32)
            where = (some["user"].to_numpy(), some["track"].to_numpy())
            return csr_matrix((ones, where), shape=(graph.n_users, graph.n_tracks))

        known = training_data(graph, build_catalogue(ids, *nothing, merge=False)[0])
        return cls(graph.matrix(), of(3, 3), of(1, 2), known)

    def described(self) -> str:
        counts = (self.likes.nnz, self.dislikes.nnz, self.middling.nnz)
        return "{:,} likes, {:,} dislikes, {:,} ratings between.".format(*counts)


def ratings_tables(rated: Rated, config: TrainingConfig, seeds: int, users: int) -> str:
    """Each of `AGAINST` with each lambda, in the mean over the seeds, in even parts beside one embedding."""
    rows = [*AGAINST, "likes alone, and dislikes not subtracted in the query"]
    metrics = (("map", 10), ("recall", 20), ("ndcg", 20))
    lambdas = config.regularisations_for(rated.likes.shape[1])
    sums = np.zeros((len(lambdas), len(rows), len(metrics) + 1, rated.likes.shape[0]))
    judged = np.zeros(rated.likes.shape[0])
    for seed in range(seeds):
        split = weak_generalisation(rated.likes, users=users, seed=seed + 1)
        setting = Setting(split, material_of(split, rated.known, 1).data, metrics)
        model = train(setting.data, config.model_copy(update={"seed": seed}))
        neighbours = strongest_neighbours(setting.data.train, config.ridge_neighbours)
        is_held_out = np.random.default_rng([seed, 1]).random(rated.dislikes.nnz) < 0.2
        dislikes, held_out = _some(rated.dislikes, ~is_held_out), _some(rated.dislikes, is_held_out)
        judged[split.users] += 1
        for row, name in enumerate(rows):
            dislike, middling = AGAINST.get(name, (0.0, 0.0))
            lists = csr_matrix(setting.data.train - dislike * dislikes - middling * rated.middling)
            subtracted = _SUBTRACTED if name in AGAINST else 0.0
            queries = csr_matrix(split.held_out.likes - subtracted * dislikes[split.users])
            known = csr_matrix(split.held_out.likes + dislikes[split.users])
            for number, W in enumerate(local_ridge(lists, neighbours, regularisations=lambdas)):
                ranked = setting.ranked(model, replace(model.parts, weights=W), [EVEN], queries, known)
                shown = _share_shown(ranked[0], held_out[split.users])
                sums[number, row][:, split.users] += np.vstack([setting.of_ranked(ranked)[0], shown])
        print(f"split {seed + 1} of {seeds}", file=sys.stderr, flush=True)
    means = sums[..., judged > 0] / judged[judged > 0]
    with_disliked = replace(setting, metrics=(*metrics, ("disliked", 20)))
    return "\n\n".join(
        f"λ = {one:g}:\n\n" + paired_table("in the neighbour weights", rows, list(figures), with_disliked)
        for one, figures in zip(lambdas, means, strict=True)
    )


def _share_shown(ranked: NDArray[np.int32], tracks: csr_matrix) -> NDArray[np.float64]:
    """float64[m]: the share of the ``tracks`` of each row, csr m x N, that is among the row's ``ranked``."""
    row, _ = np.indices(ranked.shape)
    hits = np.asarray(tracks[row.ravel(), ranked.ravel()]).reshape(ranked.shape).sum(axis=1)
    return np.asarray(hits / np.maximum(np.diff(tracks.indptr), 1))


def _some(matrix: csr_matrix, kept: NDArray[np.bool_]) -> csr_matrix:
    """The stored entries that are ``kept``."""
    found = matrix.copy()
    found.data = np.where(kept, found.data, 0).astype(np.float32)
    found.eliminate_zeros()
    return found


def paired_table(
    what: str,
    names: list[str],
    figures: list[NDArray[np.float64]],
    setting: Setting,
    more: str | None = None,
    cells: Sequence[list[str]] = (),
) -> str:
    """The means of ``figures``, float64[metrics, m] each, with intervals of the differences to the first."""
    head = [what]
    for metric, k in setting.metrics:
        head += [f"{metric}@{k}", "difference"]
    rows = []
    for name, found, others in zip(names, figures, cells or [[]] * len(names), strict=True):
        row = [name]
        for one, usual in zip(found, figures[0], strict=True):
            gain = paired_bootstrap(usual, one)
            row += [f"{one.mean():.4f}", "" if found is figures[0] else f"{gain.low:+.4f} … {gain.high:+.4f}"]
        rows.append([*row, *others])
    return markdown_table(head if more is None else [*head, more], rows)


def describe_weights(name: str, setting: Setting, config: TrainingConfig, trainings: int) -> str:
    config = config.model_copy(update={"content_neighbours": 0})
    model = train(setting.data, config)
    tables = [weights_table(model, setting, config, trainings)]
    if setting.split.cold.any():
        tables.insert(0, places_table(model, setting))
    return section(name, setting, "\n\n".join(tables))


def section(name: str, setting: Setting, text: str) -> str:
    split = setting.split
    judged = f"{split.held_out.n_users:,} users judged on {int(split.held_out.n_held_out.sum()):,} others"
    return f"## {name}\n\n{split.train.nnz:,} likes to learn from; {judged}.\n\n{text}\n"


def encoders_and_content() -> Variants:
    return {
        (encoder, content): {"encoder": encoder, **switches}
        for encoder in ENCODERS
        for content, switches in CONTENT.items()
    }


def parts(data: TrainingData) -> Variants:
    """Those of `PARTS` that make a difference on ``data``."""
    tagged = bool(data.track_artists.nnz or (data.album >= 0).any())
    usual = TrainingConfig().spaces_for(data.train.nnz / np.unique(data.train.indices).size)
    return {
        (name,): switches
        for name, switches in PARTS.items()
        if (tagged or not {"content_weight", "content_likes"} & set(switches))
        and switches.get("spaces") != usual
    }


def measure(
    variants: Variants, data: TrainingData, test: Validation, config: TrainingConfig, seeds: int
) -> list[Row]:
    validation = Validation.draw(data.context, data.targets, test.recommendable, config.validation_users)
    rows = []
    for name, switches in variants.items():
        start = time.perf_counter()
        models = [train(data, config.model_copy(update={"seed": seed, **switches})) for seed in range(seeds)]
        seconds = (time.perf_counter() - start) / seeds
        row = Row(
            name,
            float(np.mean([judge(m, validation, embedding_alone=True) for m in models])),
            float(np.mean(served := [judge(m, validation) for m in models])),
            float(np.std(served)),
            float(np.mean([judge(m, test) for m in models])),
            seconds,
        )
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def table(rows: list[Row]) -> str:
    best = max(rows, key=lambda row: row.served)
    what = ("encoder", "content") if len(rows[0].name) == 2 else ("variant",)
    head = [*what, "embedding alone, validation", "served, validation", "served, test"]
    cells = []
    for row in rows:
        mark = "**" if row is best else ""
        name = [f"{mark}{row.name[0]}{mark}", *row.name[1:]]
        served = f"{mark}{row.served:.2f}{mark} ± {row.spread:.2f}"
        cells.append([*name, f"{row.embedding:.2f}", served, f"{row.test:.2f}"])
    return markdown_table(head, cells, words=len(what))


def describe(name: str, data: TrainingData, test: Validation, rows: list[Row]) -> str:
    likes = data.train.nnz + data.targets.nnz + test.targets.nnz
    return (
        f"## {name}\n\n{data.train.shape[0]:,} users, {data.train.shape[1]:,} tracks, {likes:,} likes, "
        f"of which {data.targets.nnz:,} to choose by and {test.targets.nnz:,} to test on.\n\n{table(rows)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--spotify-songs", type=Path, help="spotify_songs.csv.gz; left out when not given")
    parser.add_argument(
        "--parts",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="take the model apart on the likes of these files; may be given several times",
    )
    for option, what in (("--weights", "known tracks"), ("--cold", "tracks without likes")):
        parser.add_argument(
            option,
            nargs="+",
            action="append",
            default=[],
            metavar=("NAME", "FILE"),
            help=f"vary the parts beside one embedding, and ask for {what}; may be given several times",
        )
    for option, what in (
        ("--plays", "weigh likes by their plays, of this file or lake"),
        ("--ratings", "count dislikes against songs, of this file of ratings"),
    ):
        parser.add_argument(
            option,
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "FILE"),
            help=f"{what}; may be given several times",
        )
    parser.add_argument(
        "--trainings", type=int, default=1, help="add the embeddings of so many up in a row of --weights"
    )
    parser.add_argument("--users", type=int, default=10_000, help="most users that these are judged on")
    parser.add_argument("--no-simulator", action="store_true", help="leave the simulated world out")
    parser.add_argument("--epochs", type=int, help="most epochs of every variant (default: the model's own)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the markdown here as well")
    arguments = parser.parse_args()
    config = TrainingConfig(epochs=arguments.epochs)
    batches: dict[str, RawBatch] = {}
    if not arguments.no_simulator:
        batches["The simulated world"] = simulated()
    if arguments.spotify_songs:
        batches["Spotify songs: playlists as users"] = merged(read_files([arguments.spotify_songs]))
    doc = [f"# What each part of the model is worth\n\n{opening(arguments.epochs, arguments.seeds)}"]
    for name, batch in batches.items():
        data, test = lake_of(batch)
        rows = measure(encoders_and_content(), data, test, config, arguments.seeds)
        doc.append(describe(name, data, test, rows))
    for name, *files in arguments.parts:
        data, test = lake_of(merged(read_files([Path(file) for file in files])))
        doc.append(describe(name, data, test, measure(parts(data), data, test, config, arguments.seeds)))
    for cold, given in ((False, arguments.weights), (True, arguments.cold)):
        for name, *files in given:
            batch = merged(read_files([Path(file) for file in files])) if files else simulated()
            setting = Setting.of(batch, cold=cold, users=arguments.users)
            doc.append(describe_weights(name, setting, config, arguments.trainings))
    for name, file in arguments.plays:
        setting = Setting.with_plays(Path(file), arguments.users)
        doc.append(section(name, setting, plays_table(setting, config, arguments.seeds)))
    for name, file in arguments.ratings:
        rated = Rated.read(Path(file))
        table = ratings_tables(rated, config, arguments.seeds, arguments.users)
        doc.append(f"## {name}\n\n{rated.described()}\n\n{table}\n")
    text = "\n".join(doc)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


def opening(epochs: int | None, seeds: int) -> str:
    limit = "" if epochs is None else f" No variant trains for more than {epochs} epochs."
    return (
        "Written by `benchmarks/ablation.py`. MAP@10 in per cent over the whole catalogue, liked tracks left "
        "out. A tenth of the likes is held out to choose by (validation), another tenth to test on, which no "
        "choice has seen. *Served* is the whole scoring rule: embedding plus neighbour weights, in the blend "
        "that validation prefers. Bold is what validation finds best; ± is the spread over "
        f"{seeds} seeds.{limit}\n"
    )


def simulated() -> RawBatch:
    return World().crawl(date(2026, 12, 31))


def merged(batches: list[RawBatch]) -> RawBatch:
    """One batch of all, since a file of tracks, features and likes may be read as several."""
    return replace(
        batches[0],
        likes=pl.concat([batch.likes for batch in batches]).unique(
            ["user_id", "track_id"], maintain_order=True
        ),
        tracks=pl.concat([batch.tracks for batch in batches]).unique("track_id", maintain_order=True),
        features=pl.concat([batch.features for batch in batches]).unique("track_id", maintain_order=True),
    )


if __name__ == "__main__":
    main()
