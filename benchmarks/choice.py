"""How well early-stopping users choose the lambda of the neighbour weights and the blend.

    python benchmarks/choice.py lf_train.txt
    python benchmarks/choice.py train.parquet tracks.parquet --epochs 4
    python benchmarks/choice.py --lake data_lake/dumps3000

Trains one model on four fifths of the likes of each user, and ranks the rest with each lambda and blend of
the search. Then it draws as many of these users as a training of that set has to choose by, one held-out like
of each, and lets them choose by AP@10 and by nDCG@100. Printed is the MAP@10 of what they choose on all users
and likes: the mean and the worst of 200 draws. Likes that chose are a small part of those that judge. Only
songs that somebody likes in training are ranked. Not here: what other neighbour weights would be worth
(`ablation.py`).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.ablation import Setting, merged
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.models.blend import Blend
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.training.blend import (
    EVEN,
    Figure,
    Validation,
    ap_at_10,
    clearly_best,
    ndcg_at_100,
    whole_grid,
)
from tunegraph_pipeline.training.train import TrainingConfig, neighbour_weights, train

DRAWS, JUDGES = 200, 4000


class Tried(NamedTuple):
    """What can be chosen, and the ranks of all held-out likes with it, int32[choices, likes]."""

    choices: list[tuple[float, Blend]]
    ranks: NDArray[np.int32]
    validation: Validation
    choosers: int


def ranked(setting: Setting, config: TrainingConfig) -> Tried:
    """Train, and rank what is held out in every way of the search."""
    model = train(setting.data, config, on_epoch=lambda report: print(report, file=sys.stderr, flush=True))
    test, data = setting.split.held_out, setting.data
    choosers = Validation.draw(data.context, data.targets, model.recommendable, config.validation_users)
    # Songs that nobody likes have a reserve of their own, which follows from the blend.
    liked = np.bincount(data.train.indices, minlength=len(model.prior)) > 0
    judges = Validation.draw(test.likes, test.relevant, liked, test.n_users)
    lambdas = config.regularisations_for(len(model.prior))
    choices: list[tuple[float, Blend]] = []
    ranks = []
    for regularisation, W in zip(lambdas, neighbour_weights(data, config), strict=True):
        parts, blends = replace(model.parts, weights=W), whole_grid()
        found = np.empty((len(blends), judges.targets.nnz), dtype=np.int32)
        for rows, context, targets in judges.blocks():
            score = parts.scorer(context)
            likes = slice(judges.targets.indptr[rows.start], judges.targets.indptr[rows.stop])
            for i, blend in enumerate(blends):
                found[i, likes] = judges.ranks(score(blend, model.prior), context, targets)
        ranks.append(found)
        choices += [(regularisation, blend) for blend in blends]
    return Tried(choices, np.concatenate(ranks), judges, choosers.n_users)


def chosen(tried: Tried, figure: Figure, among: Sequence[int], draws: int = DRAWS) -> list[int]:
    """The choice of each draw of users, by ``figure``, ``among`` some choices."""
    rng = np.random.default_rng(0)
    indptr = tried.validation.targets.indptr.astype(np.int64)
    usual = [tried.choices[i][1] for i in among].index(EVEN)
    found = []
    for _ in range(draws):
        users = rng.integers(len(indptr) - 1, size=tried.choosers)
        likes = indptr[users] + (rng.random(len(users)) * np.diff(indptr)[users]).astype(np.int64)
        each = type(tried.validation.targets)(
            (np.ones(len(users)), np.zeros(len(users), np.int32), np.arange(len(users) + 1)),
            shape=(len(users), 1),
        )
        figures = np.array([figure(tried.ranks[i, likes].astype(np.int64), each) for i in among])
        found.append(among[clearly_best(figures, usual)])
    return found


def table(tried: Tried) -> str:
    everything = np.array(
        [ap_at_10(ranks.astype(np.int64), tried.validation.targets) for ranks in tried.ranks]
    )
    judged = everything.mean(axis=1)
    usual = tried.choices.index((tried.choices[0][0], EVEN))
    one = [i for i, (regularisation, _) in enumerate(tried.choices) if regularisation == tried.choices[0][0]]
    both = list(range(len(tried.choices)))
    rows = [["lambda and blend as they are", f"{judged[usual]:.4f}", ""]]
    for name, figure in (("AP@10", ap_at_10), ("nDCG@100", ndcg_at_100)):
        for what, among in (("blend", one), ("lambda and blend", both)):
            figures = judged[chosen(tried, figure, among)]
            rows.append([f"{what} chosen by {name}", f"{figures.mean():.4f}", f"{figures.min():.4f}"])
    rows.append(["the best blend of one lambda", f"{judged[one].max():.4f}", ""])
    rows.append(["the best of all", f"{judged.max():.4f}", ""])
    return markdown_table(["", "MAP@10", "worst draw"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="files of likes and tracks")
    parser.add_argument("--lake", type=Path, help="take the likes of this lake instead")
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    config = TrainingConfig(epochs=arguments.epochs)
    if arguments.lake is not None:
        setting = Setting.with_plays(arguments.lake, JUDGES)
    else:
        setting = Setting.of(merged(read_files(arguments.files)), cold=False, users=JUDGES)
    tried = ranked(setting, config)
    judges = tried.validation
    print(f"{tried.choosers:,} users choose; {judges.n_users:,} judge by {judges.targets.nnz:,} likes\n")
    print(table(tried))


if __name__ == "__main__":
    main()
