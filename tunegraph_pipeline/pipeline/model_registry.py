"""Every model that `tunegraph compare` knows, by name, with one interface.

Here: our model, the baselines and V1 to V3 as contenders. Not here: what a contender is
(`evaluation.contender`), or judging (`evaluation.compare`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from tunegraph_pipeline.evaluation.baselines import ALL
from tunegraph_pipeline.evaluation.baselines.common import Baseline, BaselineConfig, likes_per_track
from tunegraph_pipeline.evaluation.contender import Contender, Material
from tunegraph_pipeline.evaluation.content_baselines import FeatureNeighbours, SameArtist
from tunegraph_pipeline.evaluation.evaluate import specs_of_lists
from tunegraph_pipeline.generations.recommender import GenerationRanking
from tunegraph_pipeline.generations.training import GenerationConfig, GenerationName
from tunegraph_pipeline.graph.csr import lists_of
from tunegraph_pipeline.progress import Progress
from tunegraph_pipeline.training.train import TrainingConfig

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.evaluation.metrics import Ranked
    from tunegraph_pipeline.models.arrays import ServedArrays
    from tunegraph_pipeline.recommend.bundle import Bundle
    from tunegraph_pipeline.training.train import TrainedModel


@dataclass(frozen=True)
class Settings:
    """The settings of contenders: of the baselines, of our training and of the earlier generations, and the
    seed of all."""

    baselines: BaselineConfig = field(default_factory=BaselineConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generations: GenerationConfig = field(default_factory=GenerationConfig)
    seed: int = 0


class TuneGraph:
    """What `tunegraph refresh` trains, ranked by the code that serves, from a bundle on disk."""

    def __init__(self, settings: Settings) -> None:
        self._config = settings.training.model_copy(update={"seed": settings.seed})
        # Mapped by the bundle for as long as this lives.
        self._folder = TemporaryDirectory(prefix="tunegraph-compare-")

    def fit(self, material: Material, progress: Progress | None = None) -> None:
        """Learn; what is ranked by is then refitted to all likes of the material, as what is served is."""
        from tunegraph_pipeline.recommend.ranking import Ranker
        from tunegraph_pipeline.training.alignment import on_principal_axes
        from tunegraph_pipeline.training.train import refit, train

        data, likes = material.data, material.likes
        trained = train(data, self._config, moments=material.moments, progress=progress)
        self.trained = replace(trained, embeddings=on_principal_axes(trained.embeddings))
        refitted = (
            refit(self.trained, data, likes, self._config, progress=progress) if self._config.refit else None
        )
        folder = Path(self._folder.name) / "bundle"
        self._ranker = Ranker(bundle_of(self.trained, refitted or self.trained, likes, folder))

    def rank(self, likes: csr_matrix, k: int) -> Ranked:
        return self._ranker.rank(lists_of(likes), k).indices

    def rank_ordered(self, lists: csr_matrix, k: int) -> Ranked:
        return self._ranker.rank_specs(specs_of_lists(lists, lists), k).indices


def bundle_of(model: TrainedModel, served: ServedArrays, likes: csr_matrix, folder: Path) -> Bundle:
    """Write ``model`` as a bundle without names and users, and open it: all that a ranking needs. ``served``
    are the arrays that it ranks by, its own or refitted ones; ``likes`` CSR (U x N) give the popularity by
    which users without likes are answered."""
    from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle

    popularity = likes_per_track(likes).astype(np.int32)
    content = BundleContent.for_ranking(
        {
            "bundle_version": "compared",
            "model_version": "compared",
            "blend": asdict(model.blend),
            "continuation": asdict(model.continuation),
        },
        embeddings=served.embeddings,
        pooling_weight=served.pooling_weight,
        popularity=popularity,
        # What only held-out likes are of may be recommended too, as in a bundle.
        recommendable=model.recommendable if served is model else (popularity > 0) | served.placed,
        prior=served.prior,
        neighbour_indptr=served.neighbour_indptr,
        neighbour_indices=served.neighbour_indices,
        neighbour_weight=served.neighbour_weight,
    )
    write_bundle(folder, content)
    return Bundle.open(folder)


class FromLikes:
    """A baseline as a contender: it learns from all likes of the training part, and their ages."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self.rank = baseline.rank
        if (known := getattr(baseline, "rank_known", None)) is not None:
            self.rank_known = known
        if baseline.recency is not None:
            self.rank_ordered = baseline.rank_ordered

    def fit(self, material: Material, progress: Progress | None = None) -> None:
        self._baseline.fit(material.likes, progress, material.ages)


def _baseline(make: Callable[[BaselineConfig], Baseline]) -> Callable[[Settings], Contender]:
    return lambda settings: FromLikes(make(settings.baselines.model_copy(update={"seed": settings.seed})))


def _generation(name: GenerationName, *, by_search: bool = False) -> Callable[[Settings], Contender]:
    return lambda settings: GenerationRanking(
        settings.generations.model_copy(update={"generation": name, "seed": settings.seed}),
        by_search=by_search,
    )


OURS = "tunegraph"


CONTENDERS: dict[str, Callable[[Settings], Contender]] = {
    OURS: TuneGraph,
    **{name: _baseline(make) for name, make in ALL.items()},
    "feature_neighbours": lambda settings: FeatureNeighbours(settings.baselines),
    "feature_nearest": lambda settings: FeatureNeighbours(settings.baselines, nearest=True),
    "same_artist": lambda settings: SameArtist(settings.baselines),
    "v1": _generation("v1"),
    "v2": _generation("v2"),
    "v3_seed": _generation("v3_seed"),
    # As it originally answered: the best of 300 random tracks.
    "v3_seed_300": _generation("v3_seed", by_search=True),
}
"""How each model is made, by name, in the order of the table. Others are compared with the first."""
