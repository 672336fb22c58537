"""Every model keeps the contract: the generations, today's model behind its bundle, and the baselines."""

from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.baselines import Baseline, BaselineConfig, CoLike, Ease, Popularity
from tunegraph_pipeline.evaluation.generations import GenerationRanking, ServedModel
from tunegraph_pipeline.training.generations import GenerationConfig, GenerationName
from tunegraph_pipeline.training.train import TrainingConfig
from tunegraph_pipeline_tests.evaluation.recommender_contract import Fitted, RecommenderContract

pytestmark = pytest.mark.usefixtures("one_thread")


class _GenerationContract(RecommenderContract):
    generation: ClassVar[GenerationName]

    def fitted(self, likes: csr_matrix, sound: NDArray[np.float32], seed: int) -> Fitted:
        config = GenerationConfig(generation=self.generation, epochs=20, steps=3, dropout=0, seed=seed)
        model = GenerationRanking(config)
        model.fit(likes, sound)
        return model


class TestV1(_GenerationContract):
    generation = "v1"


class TestV2(_GenerationContract):
    generation = "v2"


class TestV3Seed(_GenerationContract):
    generation = "v3_seed"


class TestServedModel(RecommenderContract):
    def fitted(self, likes: csr_matrix, sound: NDArray[np.float32], seed: int) -> Fitted:
        model = ServedModel(
            TrainingConfig(
                dimension=16,
                epochs=4,
                batch_users=16,
                ridge_neighbours=10,
                graph_neighbours=10,
                memory_mib=64,
                seed=seed,
            )
        )
        model.fit(likes, sound)
        return model


class _BaselineContract(RecommenderContract):
    def make(self) -> Baseline:
        raise NotImplementedError

    def fitted(self, likes: csr_matrix, sound: NDArray[np.float32], seed: int) -> Fitted:
        model = self.make()
        model.fit(likes)
        return model


class TestPopularity(_BaselineContract):
    personal = False

    def make(self) -> Baseline:
        return Popularity(BaselineConfig())


class TestCoLike(_BaselineContract):
    def make(self) -> Baseline:
        return CoLike(BaselineConfig())


class TestEase(_BaselineContract):
    def make(self) -> Baseline:
        return Ease(BaselineConfig(ease_lambda=3.0))
