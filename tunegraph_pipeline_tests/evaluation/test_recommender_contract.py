"""Every model keeps the contract: the generations, today's model behind its bundle, and the baselines."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.generations.training import GenerationConfig
from tunegraph_pipeline.pipeline.model_registry import CONTENDERS, Settings
from tunegraph_pipeline.training.train import TrainingConfig
from tunegraph_pipeline_tests.evaluation.recommender_contract import (
    GROUP,
    Fitted,
    RecommenderContract,
    material,
)


class _Contender(RecommenderContract):
    def fitted(self, likes: csr_matrix, sound: NDArray[np.float32], seed: int) -> Fitted:
        settings = Settings(
            baselines=BaselineConfig(ease_lambda=3.0),
            training=TrainingConfig(
                dimension=16,
                epochs=4,
                batch_users=16,
                ridge_neighbours=10,
                graph_neighbours=10,
                memory_mib=64,
            ),
            generations=GenerationConfig(epochs=20, steps=3, dropout=0),
            seed=seed,
        )
        model = CONTENDERS[self.name](settings)
        model.fit(material(likes, sound))
        return model


class TestV1(_Contender):
    name = "v1"


class TestV2(_Contender):
    name = "v2"


class TestV3Seed(_Contender):
    name = "v3_seed"


class TestV3SeedOf300Candidates(_Contender):
    name = "v3_seed_300"


class TestTuneGraph(_Contender):
    name = "tunegraph"


class TestFeatureNeighbours(_Contender):
    name = "feature_neighbours"


class TestFeatureNearest(_Contender):
    name = "feature_nearest"


class TestSameArtist(RecommenderContract):
    name = "same_artist"

    def fitted(self, likes: csr_matrix, sound: NDArray[np.float32], seed: int) -> Fitted:
        # One artist for each half of the board, and nobody for what is beyond it.
        half = np.repeat([0, 1], GROUP)
        artists = csr_matrix(
            (np.ones(len(half), dtype=np.bool_), (np.arange(len(half)), half)), shape=(likes.shape[1], 2)
        )
        known = material(likes, sound)
        model = CONTENDERS[self.name](Settings(seed=seed))
        model.fit(replace(known, data=replace(known.data, track_artists=artists)))
        return model


class TestPopularity(_Contender):
    name = "popularity"


class TestDecayedPopularity(_Contender):
    name = "decayed_popularity"


class TestCoLike(_Contender):
    name = "co_like"


class TestEase(_Contender):
    name = "ease"


class TestItemKnn(_Contender):
    name = "item_knn"


class TestRp3Beta(_Contender):
    name = "rp3beta"


class TestAls(_Contender):
    name = "als"


class TestLightGcn(_Contender):
    name = "lightgcn"


def test_every_model_has_a_class_here() -> None:
    tested = {one.name for one in globals().values() if isinstance(one, type) and hasattr(one, "name")}
    assert tested == set(CONTENDERS), "add a class Test… with the name of the model"
