"""Tune every baseline on a validation split of its own training likes, with the same number of trials.

    python benchmarks/tune.py lf_train.txt --name lastfm --metric ndcg -k 20
    python benchmarks/tune.py data_lake/open --name open

Reads one file of likes and no other: a fifth of each judged user's likes is the validation split, the rest
is for training (weak generalisation, full ranking). With --continuation it is the newest fifth of each list
whose order the file gives, and the recency of the baselines is tuned too. Or a lake whose likes have times:
of the likes that its temporal comparison learns from, the last fifth by time is the validation split, and
recency is tuned too. The first trial uses the default values, the others are drawn by Optuna's TPE with a
fixed seed. The best values go into `tunegraph_pipeline/evaluation/tuned.json` with the command. Not here:
judging on a test (`tunegraph compare`), tuning our own model.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.baselines import ALL
from tunegraph_pipeline.evaluation.baselines.closed_form import CoLike, DecayedPopularity
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.evaluation.evaluate import evaluate
from tunegraph_pipeline.evaluation.splits import (
    SECONDS_PER_DAY,
    Split,
    continuation,
    temporal,
    weak_generalisation,
)
from tunegraph_pipeline.evaluation.tuned import TUNED_FILE, TunedBaseline, TunedSet, read_tuned
from tunegraph_pipeline.graph.like_ages import ages_of_lists
from tunegraph_pipeline.lake.arrays import UInt16
from tunegraph_pipeline.pipeline.compare import liked_at
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.model_registry import FromLikes
from tunegraph_pipeline.pipeline.settings import open_lake
from tunegraph_pipeline.sources.files import read_files

if TYPE_CHECKING:
    from optuna import Trial

Values = dict[str, float | int]

RECENCIES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Those of our own search; 0 takes lists as sets, which no draw from a range would hit."""


def decayed_popularity(trial: "Trial") -> Values:
    return {
        "decayed_popularity_half_life": trial.suggest_float(
            "decayed_popularity_half_life", 0.5, 1000, log=True
        )
    }


def item_knn(trial: "Trial") -> Values:
    return {
        "item_knn_k": trial.suggest_int("item_knn_k", 5, 1000, log=True),
        "item_knn_shrink": trial.suggest_float("item_knn_shrink", 0.1, 1000, log=True),
    }


def rp3beta(trial: "Trial") -> Values:
    return {
        "rp3beta_alpha": trial.suggest_float("rp3beta_alpha", 0.2, 1.2),
        "rp3beta_beta": trial.suggest_float("rp3beta_beta", 0.0, 0.7),
        "rp3beta_k": trial.suggest_int("rp3beta_k", 5, 1000, log=True),
    }


def ease(trial: "Trial") -> Values:
    return {"ease_lambda": trial.suggest_float("ease_lambda", 5, 5000, log=True)}


def als(trial: "Trial") -> Values:
    return {
        "als_factors": trial.suggest_int("als_factors", 16, 256, log=True),
        "als_regularisation": trial.suggest_float("als_regularisation", 0.01, 100, log=True),
        "als_alpha": trial.suggest_float("als_alpha", 1.0, 100, log=True),
        "als_iterations": trial.suggest_int("als_iterations", 5, 40),
    }


def lightgcn(trial: "Trial") -> Values:
    return {
        "lightgcn_dimension": trial.suggest_categorical("lightgcn_dimension", [64, 128]),
        "lightgcn_layers": trial.suggest_int("lightgcn_layers", 1, 3),
        "lightgcn_epochs": trial.suggest_int("lightgcn_epochs", 10, 60),
        "lightgcn_learning_rate": trial.suggest_float("lightgcn_learning_rate", 1e-3, 5e-2, log=True),
        "lightgcn_regularisation": trial.suggest_float("lightgcn_regularisation", 1e-6, 1e-1, log=True),
    }


def co_like(trial: "Trial") -> Values:
    return {}


SPACES: dict[str, Callable[["Trial"], Values]] = {
    "decayed_popularity": decayed_popularity,
    "co_like": co_like,
    "item_knn": item_knn,
    "rp3beta": rp3beta,
    "ease": ease,
    "als": als,
    "lightgcn": lightgcn,
}


def likes_in(path: Path, lists: int | None, seed: int) -> tuple[csr_matrix, UInt16]:
    """The likes of a file, users x tracks, and their ages; of ``lists`` users drawn at random, and the tracks
    they like."""
    (batch,) = read_files([path], kind="likes")
    pairs = batch.likes.unique(["user_id", "track_id"], keep="first", maintain_order=True)
    users = pairs["user_id"].unique().sort()
    if lists is not None and lists < len(users):
        users = users.sample(lists, seed=seed).sort()
        pairs = pairs.filter(pairs["user_id"].is_in(users.implode()))
    tracks = pairs["track_id"].unique().sort()
    rows, columns = (
        np.searchsorted(ids.to_numpy(), pairs[column].to_numpy())
        for ids, column in ((users, "user_id"), (tracks, "track_id"))
    )
    likes = csr_matrix(
        (np.ones(len(pairs), dtype=np.float32), (rows, columns)), shape=(len(users), len(tracks))
    )
    likes.sort_indices()
    return likes, ages_of_lists(pairs.with_columns(user=rows, track=columns))


def before_the_test(path: Path, judged: int | None, seed: int) -> Split:
    """The likes of a lake that its temporal comparison learns from, divided by time once more; without the
    tracks that none of them is of, which would only cost time."""
    lake = open_lake(path)
    graph = open_like_graph(lake)
    test = temporal(graph.matrix(), liked_at(lake, graph))
    assert test.ages is not None
    liked, columns = np.unique(test.train.indices, return_inverse=True)
    likes = csr_matrix((test.train.data, columns, test.train.indptr), shape=(test.train.shape[0], len(liked)))
    return temporal(likes, -SECONDS_PER_DAY * test.ages, users=judged, seed=seed)


def tune(
    name: str, split: Split, trials: int, metric: str, k: int, seed: int, about: dict[str, str]
) -> TunedBaseline:
    """Find the values of one baseline that do best on ``split``; ``about``: command and likes, as kept."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    popularity = np.bincount(split.train.indices, minlength=split.train.shape[1]).astype(np.int64)
    defaults = BaselineConfig()

    def figure(trial: "Trial") -> float:
        started = time.perf_counter()
        values = SPACES[name](trial)
        if split.order is not None and f"{name}_recency" in BaselineConfig.model_fields:
            values[f"{name}_recency"] = trial.suggest_categorical(f"{name}_recency", RECENCIES)
        model = ALL[name](BaselineConfig.model_validate(values))
        model.fit(split.train, ages=split.ages)
        judged = evaluate(name, split.ranking(FromLikes(model)), split.held_out, popularity, k)
        seconds = time.perf_counter() - started
        print(
            f"{name} {trial.number}: {judged.values[metric]:.4f} in {seconds:.1f} s, {values}",
            file=sys.stderr,
        )
        return judged.values[metric]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    fields = [field for field in BaselineConfig.model_fields if field.startswith(f"{name}_")]
    study.enqueue_trial({field: getattr(defaults, field) for field in fields})
    study.optimize(figure, n_trials=trials)
    settings = {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in study.best_params.items()
    }
    untuned = study.trials[0].value
    assert untuned is not None
    return TunedBaseline(
        settings=settings,
        **about,
        trials=trials,
        metric=f"{metric}@{k}",
        validation=round(study.best_value, 5),
        untuned=round(untuned, 5),
    )


def write_tuned(name: str, found: dict[str, TunedBaseline], path: Path = TUNED_FILE) -> None:
    """Put the values found on the likes of that name into the file; other baselines and likes stay."""
    sets = read_tuned(path)
    before = sets[name].root if name in sets else {}
    sets[name] = TunedSet({**before, **found})
    text = json.dumps({key: sets[key].model_dump() for key in sorted(sets)}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("likes", type=Path, help="a file of likes, the training part alone; or a lake")
    parser.add_argument("--name", required=True, help="what the values are kept under")
    parser.add_argument("--baselines", nargs="+", choices=SPACES, help="default: all that suit the likes")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--metric", choices=["recall", "ndcg", "map"], default="map")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--lists", type=int, help="of a file, use the lists of that many users, at random")
    parser.add_argument("--judged", type=int, help="judge that many users (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--continuation", action="store_true", help="of a file, hide the newest songs of ordered lists"
    )
    arguments = parser.parse_args()
    if arguments.likes.is_dir():
        if arguments.continuation:
            parser.error("--continuation is for a file; a lake is split by time")
        split = before_the_test(arguments.likes, arguments.judged, arguments.seed)
        likes = split.train
        suited = list(SPACES)
    else:
        likes, ages = likes_in(arguments.likes, arguments.lists, arguments.seed)
        how: dict[str, Any] = {"users": arguments.judged, "seed": arguments.seed}
        split = (
            continuation(likes, ages, **how) if arguments.continuation else weak_generalisation(likes, **how)
        )
        suited = [name for name in SPACES if name != DecayedPopularity.name]
    if split.order is None:
        suited.remove(CoLike.name)  # there is nothing to tune
    words = [word if Path(word) != arguments.likes else arguments.likes.name for word in sys.argv[1:]]
    about = {
        "command": " ".join(["python benchmarks/tune.py", *words]),
        "likes": f"{np.count_nonzero(np.diff(likes.indptr)):,} users, {likes.shape[1]:,} tracks, "
        f"{likes.nnz:,} likes, "
        f"{split.held_out.n_users:,} users judged",
    }
    for name in arguments.baselines or suited:
        found = tune(name, split, arguments.trials, arguments.metric, arguments.k, arguments.seed, about)
        # After each, so that what was found stays when a later one is interrupted.
        write_tuned(arguments.name, {name: found})
        print(name, found.model_dump(), flush=True)


if __name__ == "__main__":
    main()
