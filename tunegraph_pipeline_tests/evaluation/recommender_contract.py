"""What every model has to do, whatever it is, on lists small enough that the answer is known.

A test class of a model mixes :class:`RecommenderContract` in and says how the model is made.
"""

from functools import cache
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.contender import Material
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.training.train import TrainingData

NOT_PERSONAL = {"popularity", "decayed_popularity"}
"""The models that do not look at what a user likes, by name."""
GROUP = 12  # users and tracks of one half of the checkerboard


class Fitted(Protocol):
    """A model that has been trained."""

    def rank(self, likes: csr_matrix, k: int) -> NDArray[np.int32]: ...


def checkerboard() -> tuple[csr_matrix, csr_matrix]:
    """Two groups of users, each liking its own tracks but one apiece: the likes, and the ones left out."""
    block = np.ones((GROUP, GROUP), dtype=np.float32)
    likes = np.kron(np.eye(2, dtype=np.float32), block)
    withheld = np.eye(2 * GROUP, dtype=np.float32)
    return csr_matrix(likes - withheld), csr_matrix(withheld)


def features() -> NDArray[np.float32]:
    """float32[2 GROUP, 11]: the two halves sound different, and no two tracks the same."""
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, (2 * GROUP, len(AUDIO_FEATURES))).astype(np.float32)
    sound += np.repeat([[-1.0], [1.0]], GROUP, axis=0).astype(np.float32)
    sound[:, AUDIO_FEATURES.index("key")] = np.tile(np.arange(GROUP), 2)
    return sound


def material(likes: csr_matrix, sound: NDArray[np.float32]) -> Material:
    """Likes of today and features, with neither artists and albums nor anything held out."""
    n_tracks = likes.shape[1]
    nobody = csr_matrix(np.zeros((0, n_tracks), dtype=np.float32))
    tags = csr_matrix(np.zeros((n_tracks, 0), dtype=np.bool_))
    album = np.full(n_tracks, -1, dtype=np.int32)
    data = TrainingData(likes, nobody, nobody, sound, tags, album)
    return Material(likes, data, ages=np.zeros(likes.nnz))


class RecommenderContract:
    """Mix into a test class that says how its model is made; the tests then come with it."""

    name: ClassVar[str]
    """Of the model, in the registry."""

    @property
    def personal(self) -> bool:
        """Whether the model looks at what a user likes; one that does not cannot know the checkerboard."""
        return self.name not in NOT_PERSONAL

    def fitted(self, likes: csr_matrix, sound: NDArray[np.float32], seed: int) -> Fitted:
        """A model of its own, trained on likes and features, everything random in it following from seed."""
        raise NotImplementedError

    @classmethod
    @cache
    def model(cls) -> Fitted:
        """The model of the checkerboard, which most tests ask; trained once."""
        return cls().fitted(checkerboard()[0], features(), 0)

    def test_the_withheld_diagonal_comes_first(self) -> None:
        likes, withheld = checkerboard()
        if self.personal:
            assert self.model().rank(likes, 1)[:, 0].tolist() == withheld.indices.tolist()

    def test_a_ranking_is_int32_of_the_shape_asked_for(self) -> None:
        likes, _ = checkerboard()
        for k in (1, 5):
            ranked = self.model().rank(likes, k)
            assert ranked.shape == (likes.shape[0], k)
            assert ranked.dtype == np.int32

    def test_everything_not_liked_is_ranked_once_and_the_rest_is_padding(self) -> None:
        likes, _ = checkerboard()
        ranked = self.model().rank(likes, 2 * GROUP + 3)
        for user, row in enumerate(ranked.tolist()):
            others = set(range(2 * GROUP)) - set(likes[user].indices.tolist())
            assert sorted(row[: len(others)]) == sorted(others)
            assert set(row[len(others) :]) == {-1}

    def test_a_longer_list_begins_with_the_shorter_one(self) -> None:
        likes, _ = checkerboard()
        np.testing.assert_array_equal(self.model().rank(likes, 3), self.model().rank(likes, 8)[:, :3])

    def test_many_users_at_once_are_ranked_as_each_alone(self) -> None:
        likes, _ = checkerboard()
        alone = np.concatenate([self.model().rank(likes[user], 6) for user in range(likes.shape[0])])
        np.testing.assert_array_equal(self.model().rank(likes, 6), alone)

    def test_a_list_nobody_had_in_training_is_ranked(self) -> None:
        one_each = csr_matrix(np.eye(2 * GROUP, dtype=np.float32)[[0, GROUP]])
        (low, high) = self.model().rank(one_each, GROUP - 1).tolist()
        if self.personal:
            assert sorted(low) == list(range(1, GROUP))
            assert sorted(high) == list(range(GROUP + 1, 2 * GROUP))

    def test_users_without_likes_get_a_full_list_among_others_and_alone(self) -> None:
        likes, _ = checkerboard()
        mixed = csr_matrix(np.concatenate([np.zeros((1, 2 * GROUP)), likes[:2].toarray()]).astype(np.float32))
        ranked = self.model().rank(mixed, 5)
        np.testing.assert_array_equal(ranked[1:], self.model().rank(likes[:2], 5))
        assert (ranked[0] >= 0).all()
        np.testing.assert_array_equal(ranked[:1], self.model().rank(mixed[:1], 5))

    def test_no_users_at_all_are_no_trouble(self) -> None:
        assert self.model().rank(csr_matrix(np.zeros((0, 2 * GROUP), dtype=np.float32)), 4).shape == (0, 4)

    def test_the_same_seed_gives_the_same_ranking(self) -> None:
        likes, _ = checkerboard()
        again = self.fitted(likes, features(), 0).rank(likes, GROUP)
        np.testing.assert_array_equal(again, self.model().rank(likes, GROUP))

    def test_a_track_nobody_likes_and_a_user_without_likes_do_not_stop_the_training(self) -> None:
        likes, _ = checkerboard()
        grown = csr_matrix((likes.data, likes.indices, [*likes.indptr, likes.nnz]), shape=(25, 26))
        sound = np.concatenate([features(), np.full((2, len(AUDIO_FEATURES)), np.nan, np.float32)])
        ranked = self.fitted(grown, sound, 0).rank(grown, 4)
        assert ranked.shape == (25, 4)
        assert (ranked[:24] >= 0).all()
