"""The three generations TuneGraph grew out of, trained by the loop of today's model and compared with it.

Here: the pairs each generation learns from, and its score for a track. Not here: the networks (`models`),
today's model (`training.train`), searching with them (`recommender`).

All three know only the audio features of a song, place it as a vector e_j of unit length, and learn from
pairs (x, y) that belong together (1) or not (0), in equal number or in a ratio, by

    loss = mean over pairs of  BCE(sigmoid(cos(x, y)), 1 or 0)

| | x | y | belong together | score of track j for a list L |
|---|---|---|---|---|
| V1 | a user: elementwise max of their songs | a song | they like it | cos(max over i in L of e_i, e_j) |
| V2 | a user: a node of the like graph | a song | they like it | cos(user, e_j) |
| V3 | a song | a song | somebody likes both | max over i in L of cos(e_i, e_j) |

Every step places the whole catalogue. For V2 and V3 that is one pass over the graph, so a step costs as much
as an epoch of pairs would: their epochs are a few large steps, V1's are many, and both have higher learning
rates than the small batches the generations were first trained on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.graph.csr import found_in, lists_of, only, rows_of, shuffled_rows
from tunegraph_pipeline.models.content import N_FEATURE_COLUMNS, encode_features
from tunegraph_pipeline.progress import Progress
from tunegraph_pipeline.training.adam import Adam
from tunegraph_pipeline.training.blend import Validation
from tunegraph_pipeline.training.loop import (
    Checkpoint,
    EpochReport,
    fingerprint,
    run_epochs,
    users_to_learn_from,
)
from tunegraph_pipeline.training.train import TrainingData

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.generations.models import BipartiteTransformer

GenerationName = Literal["v1", "v2", "v3_seed"]
_TRIES = 20  # draws of a track that does not belong before its pair is given up


class GenerationConfig(BaseModel):
    """Which generation, and how it is trained. A setting that is None follows from the generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: GenerationName = "v3_seed"
    """v1: the MLP; v2: the graph transformer over users and songs; v3_seed: V3 as it was first written."""
    epochs: int = Field(default=20, ge=1)
    """Most passes over the users."""
    patience: int = Field(default=5, ge=1)
    """Epochs in a row clearly worse than the best one before training stops."""
    steps: int | None = Field(default=None, ge=1)
    """Steps per epoch. None: 60 for V1; 6 for V2 and V3, each of which is a pass over the whole graph."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Of Adam. None: 3e-3 for V1, 1e-2 for V2 and V3."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Of Adam. None: 1e-4 for V1, none for V2 and V3."""
    negatives: int = Field(default=1, ge=1)
    """Pairs that do not belong together for each that does."""
    sampled_likes: int = Field(default=10, ge=2)
    """Most likes of a user that a step uses in V1 and V3."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the numbers dropped between the layers of V2 and V3."""
    validation_users: int = Field(default=512, ge=1)
    """Most early-stopping users that validation is measured on."""
    seed: int = Field(default=0, ge=0)
    """Everything random follows from it."""

    @property
    def steps_an_epoch(self) -> int:
        return self.steps or (60 if self.generation == "v1" else 6)

    @property
    def rate(self) -> float:
        return self.learning_rate or (3e-3 if self.generation == "v1" else 1e-2)

    @property
    def decay(self) -> float:
        default = 1e-4 if self.generation == "v1" else 0.0
        return default if self.weight_decay is None else self.weight_decay


class Pairs(NamedTuple):
    """Pairs to learn from: rows ``left`` and ``right``, int64[P]; whether they belong together, bool[P]."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    together: NDArray[np.bool_]


class Generation(ABC):
    """A generation over N tracks: its network, its pairs, and its score.

    ``embeddings`` float32[N, d]: rows of unit length, as of the last :meth:`settle`; ``placed`` bool[N]:
    tracks with enough inputs to place them, the only ones it ranks; ``without_features``: how many liked
    tracks have no audio features.
    """

    module: "torch.nn.Module"
    embeddings: NDArray[np.float32]

    def __init__(self, train: "csr_matrix", features: NDArray[np.float32], config: GenerationConfig) -> None:
        """``train``: csr of ones, users x N; ``features``: float32[N, 11], NaN where unknown.

        Raises InputError where no track that somebody likes has features.
        """
        import torch

        self.config = config
        self.train = train
        self.popularity = np.bincount(train.indices, minlength=train.shape[1]).astype(np.float32)
        warm = self.popularity > 0
        self.known: NDArray[np.bool_] = np.asarray(np.isfinite(features).any(axis=1))
        self.without_features = int((warm & ~self.known).sum())
        if not (warm & self.known).any():
            raise InputError(
                f"no liked track has audio features, the only input of {config.generation};"
                " import a table of features, or refresh from a source that has them"
            )
        self.features = torch.from_numpy(encode_features(features, warm))
        self.placed: NDArray[np.bool_] = np.logical_or(self.known, warm)
        # torch draws initial weights from its global state: seeded here and restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.module = self._network()
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Set up what the pairs and scores need."""

    @abstractmethod
    def _network(self) -> "torch.nn.Module": ...

    @abstractmethod
    def loss(self, users: NDArray[np.int64], rng: np.random.Generator) -> "torch.Tensor":
        """The mean loss of the pairs drawn for these training users."""

    @abstractmethod
    def settle(self) -> None:
        """Compute ``embeddings``, and what else scoring needs, from the current weights."""

    @abstractmethod
    def _scores_of(self, likes: "csr_matrix") -> NDArray[np.float32]:
        """Cosines float32[m, N] for lists of placed tracks, none of them empty."""

    def usable(self, likes: "csr_matrix") -> "csr_matrix":
        """The likes of placed tracks; the others carry no information. Rows stay."""
        return only(likes, self.placed[likes.indices])

    def scores(self, likes: "csr_matrix") -> NDArray[np.float32]:
        """The score of every track for each row of ``likes`` (m x N): float32[m, N].

        -inf for tracks that are not placed. A row in which no track is placed gets popularity.
        """
        usable = self.usable(likes)
        scores = np.tile(self.popularity, (likes.shape[0], 1))
        rows = np.flatnonzero(np.diff(usable.indptr))
        if len(rows):
            found = self._scores_of(usable[rows])
            found[:, ~self.placed] = -np.inf
            scores[rows] = found
        return scores


class _PooledQueries(Generation):
    """V1 and V2: a list becomes one point of the space, and the score is the cosine with it."""

    @abstractmethod
    def queries(self, likes: "csr_matrix") -> NDArray[np.float32]:
        """The points of lists of placed tracks, none of them empty: float32[m, d], of unit length."""

    def _scores_of(self, likes: "csr_matrix") -> NDArray[np.float32]:
        # One product per row, so the answer for a list does not depend on the other lists.
        return np.stack([self.embeddings @ query for query in self.queries(likes)])


class V1(_PooledQueries):
    """The MLP. A user is the elementwise maximum of their songs' embeddings."""

    def _prepare(self) -> None:
        self.placed = self.known  # the likes of a song are no input here
        self._lists = only(self.train, self.placed[self.train.indices])
        self._likes = _Pattern(self.train)

    def _network(self) -> "torch.nn.Module":
        from tunegraph_pipeline.generations.models import FeatureMlp

        return FeatureMlp(N_FEATURE_COLUMNS)

    def loss(self, users: NDArray[np.int64], rng: np.random.Generator) -> "torch.Tensor":
        import torch
        from torch.nn.functional import normalize

        songs = normalize(self.module(self.features))
        sample = some_likes(self._lists[users], self.config.sampled_likes, rng)
        row = rows_of(sample)
        to = torch.from_numpy(row)[:, None].expand(-1, songs.shape[1])
        heard = songs.index_select(0, torch.from_numpy(sample.indices.astype(np.int64)))
        pooled = songs.new_zeros(len(users), songs.shape[1])
        pooled = pooled.scatter_reduce(0, to, heard, "amax", include_self=False)
        pairs = with_strangers(row, sample.indices, self._likes, self.config.negatives, rng, users)
        return pair_loss(normalize(pooled), songs, pairs)

    def settle(self) -> None:
        self.embeddings = _unit(_evaluated(self.module, lambda: self.module(self.features)))

    def queries(self, likes: "csr_matrix") -> NDArray[np.float32]:
        return _unit(np.maximum.reduceat(self.embeddings[likes.indices], likes.indptr[:-1], axis=0))


class _OnGraph(Generation):
    """V2 and V3: the graph transformer over songs and users."""

    module: "BipartiteTransformer"

    def _prepare(self) -> None:
        from tunegraph_pipeline.generations.models import edges_of

        self.users = self.user_features(self.train)
        self.edges = edges_of(self.train)

    def _network(self) -> "torch.nn.Module":
        from tunegraph_pipeline.generations.models import BipartiteTransformer

        return BipartiteTransformer(N_FEATURE_COLUMNS, self.config.dropout)

    @abstractmethod
    def user_features(self, likes: "csr_matrix") -> "torch.Tensor":
        """What a user node starts as: float32[m, F]."""


class V2(_OnGraph, _PooledQueries):
    """The graph transformer with users in it: a user starts as the mean of their songs."""

    _heard: "list[torch.Tensor]"

    def _prepare(self) -> None:
        super()._prepare()
        self._likes = _Pattern(self.train)

    def user_features(self, likes: "csr_matrix") -> "torch.Tensor":
        import torch

        heard = only(likes, self.known[likes.indices])
        mean = (heard @ self.features.numpy()) / np.maximum(np.diff(heard.indptr), 1)[:, np.newaxis]
        return torch.from_numpy(mean.astype(np.float32))

    def loss(self, users: NDArray[np.int64], rng: np.random.Generator) -> "torch.Tensor":
        from torch.nn.functional import normalize

        songs, everyone = self.module(self.features, self.users, self.edges)
        lists = self.train[users]
        liking = users[rows_of(lists)]
        pairs = with_strangers(liking, lists.indices, self._likes, self.config.negatives, rng)
        return pair_loss(normalize(everyone), normalize(songs), pairs)

    def settle(self) -> None:
        import torch

        self.module.eval()
        with torch.no_grad():
            states, _ = self.module.states(self.features, self.users, self.edges)
        self._heard = [self.features, *states[:-1]]
        self.embeddings = _unit(states[-1].numpy())

    def queries(self, likes: "csr_matrix") -> NDArray[np.float32]:
        """A list becomes a user node that sends no messages; that of a training user equals their node."""
        import torch
        from scipy.sparse import csr_matrix

        from tunegraph_pipeline.generations.models import edges_of

        liked, place = np.unique(likes.indices, return_inverse=True)
        heard = [songs[torch.from_numpy(liked)] for songs in self._heard]
        edges = edges_of(csr_matrix((likes.data, place, likes.indptr), shape=(likes.shape[0], len(liked))))
        users = self.user_features(likes)
        return _unit(_evaluated(self.module, lambda: self.module.listen(heard, users, edges)))

    def with_new_user(self, likes: "csr_matrix") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Add a user with these likes (1 x N) to the graph and run the model again.

        Returns the songs, which the new user moves, float32[N, d], and the user, float32[d].
        """
        import torch
        from scipy.sparse import csr_matrix, vstack

        from tunegraph_pipeline.generations.models import edges_of

        everyone = csr_matrix(vstack([self.train, likes]))
        users = torch.cat([self.users, self.user_features(likes)])
        edges = edges_of(everyone)
        self.module.eval()
        with torch.no_grad():
            songs, nodes = self.module(self.features, users, edges)
        return _unit(songs.numpy()), _unit(nodes[-1:].numpy())[0]


class V3Seed(_OnGraph):
    """V3 as it was first written: users start as zeros, and neighbours in B = AᵀA belong together."""

    def _prepare(self) -> None:
        super()._prepare()
        self._neighbours = _Pattern(self.train.T.tocsr() @ self.train)

    def user_features(self, likes: "csr_matrix") -> "torch.Tensor":
        return self.features.new_zeros(likes.shape[0], self.features.shape[1])

    def loss(self, users: NDArray[np.int64], rng: np.random.Generator) -> "torch.Tensor":
        from torch.nn.functional import normalize

        songs, _ = self.module(self.features, self.users, self.edges)
        songs = normalize(songs)
        sample = some_likes(self.train[users], self.config.sampled_likes, rng)
        one, other = all_pairs(sample, self.config.sampled_likes)
        swapped = rng.random(len(one)) < 0.5  # so that either track is paired with strangers
        one, other = np.where(swapped, other, one), np.where(swapped, one, other)
        pairs = with_strangers(one, other, self._neighbours, self.config.negatives, rng)
        return pair_loss(songs, songs, pairs)

    def settle(self) -> None:
        placed = _evaluated(self.module, lambda: self.module(self.features, self.users, self.edges)[0])
        self.embeddings = _unit(placed)

    def _scores_of(self, likes: "csr_matrix") -> NDArray[np.float32]:
        cosines = ((self.embeddings[liked] @ self.embeddings.T) for liked in lists_of(likes))
        return np.stack([of_list.max(axis=0) for of_list in cosines])


@dataclass(frozen=True)
class TrainedGeneration:
    """A generation at the weights of the epoch that was kept.

    ``validation``: its MAP@10 on the early-stopping users, NaN without such users; ``curves``: one report an
    epoch; ``best_epoch``: the one that was kept; ``tensors``: its weights by name.
    """

    generation: Generation
    curves: list[EpochReport]
    best_epoch: int
    validation: float
    tensors: dict[str, NDArray[np.float32]]


GENERATIONS: Mapping[GenerationName, type[Generation]] = {"v1": V1, "v2": V2, "v3_seed": V3Seed}


def train_generation(
    data: TrainingData,
    config: GenerationConfig,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    progress: Progress | None = None,
) -> TrainedGeneration:
    """Train a generation; the artists and albums of ``data`` are ignored.

    The same data, settings and seed give the same weights on one machine, and an interrupted run resumes from
    its ``checkpoint`` to the same result, as in `training.train.train`.

    Raises InputError when no user has two likes to learn from, or no liked track has features.
    """
    import torch

    users = users_to_learn_from(data.train)
    generation = GENERATIONS[config.generation](data.train, data.features, config)
    module = generation.module
    optimiser = Adam(module.parameters(), config.rate, config.decay)
    validation = Validation.draw(data.context, data.targets, generation.placed, config.validation_users)
    steps = min(config.steps_an_epoch, len(users))

    def one_epoch(epoch: int) -> float:
        rng = np.random.default_rng([config.seed, epoch])
        total = 0.0
        module.train()
        with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global state
            torch.manual_seed(int(rng.integers(2**62)))
            for step, batch in enumerate(np.array_split(rng.permutation(users), steps), start=1):
                optimiser.zero_grad()
                loss = generation.loss(np.sort(batch), rng)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += loss.item() * len(batch)
                if progress is not None:
                    what = f"training {config.generation}, epoch {epoch} of at most {config.epochs}"
                    progress(what, step, steps)
        return total / len(users)

    def judge() -> NDArray[np.float64]:
        generation.settle()
        return validation.of_scores(generation.scores)

    course = run_epochs(
        module,
        optimiser,
        one_epoch,
        judge,
        epochs=config.epochs,
        patience=config.patience,
        checkpoint=Checkpoint.open(
            checkpoint,
            fingerprint(config.model_dump_json(), (data.train, data.context, data.targets), [data.features]),
        ),
        on_epoch=on_epoch,
    )
    generation.settle()
    kept = course.curves[course.best_epoch - 1].validation
    return TrainedGeneration(generation, course.curves, course.best_epoch, kept, course.best_weights)


# --- pairs ---


class _Pattern:
    """The stored entries of a sparse matrix, to test whether a pair is among them."""

    def __init__(self, matrix: "csr_matrix") -> None:
        self.n_columns = int(matrix.shape[1])
        self._keys = np.sort(rows_of(matrix) * self.n_columns + matrix.indices)

    def contains(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        return found_in(rows * self.n_columns + columns, self._keys)


def some_likes(likes: "csr_matrix", most: int, rng: np.random.Generator) -> "csr_matrix":
    """A random choice of at most ``most`` entries of each row, without replacement; rows stay."""
    order, place = shuffled_rows(likes, rng)
    chosen = np.zeros(likes.nnz, dtype=np.bool_)
    chosen[order[place < most]] = True
    return only(likes, chosen)


def all_pairs(lists: "csr_matrix", most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of columns that share a row, for rows of at most ``most`` entries: int64[P] twice."""
    row, column = rows_of(lists), lists.indices.astype(np.int64)
    one, other = [column[:0]], [column[:0]]
    for gap in range(1, most):
        together = row[gap:] == row[:-gap]
        one.append(column[:-gap][together])
        other.append(column[gap:][together])
    return np.concatenate(one), np.concatenate(other)


def with_strangers(
    left: NDArray[np.int64],
    right: NDArray[np.integer],
    together: _Pattern,
    ratio: int,
    rng: np.random.Generator,
    row_of: NDArray[np.int64] | None = None,
) -> Pairs:
    """The given pairs, which belong together, and ``ratio`` times as many that do not.

    A stranger to ``left`` is a uniform draw from the columns that ``together`` does not store in its row,
    which is ``row_of[left]`` where given. A pair without a stranger after a few tries, perhaps because
    everything belongs together, is left out.
    """
    lonely = np.repeat(left, ratio)
    rows = lonely if row_of is None else row_of[lonely]
    strangers = rng.integers(together.n_columns, size=len(lonely))
    wrong = np.flatnonzero(together.contains(rows, strangers))
    for _ in range(_TRIES):
        if not len(wrong):
            break
        strangers[wrong] = rng.integers(together.n_columns, size=len(wrong))
        wrong = wrong[together.contains(rows[wrong], strangers[wrong])]
    lonely, strangers = np.delete(lonely, wrong), np.delete(strangers, wrong)
    return Pairs(
        np.concatenate([left, lonely]),
        np.concatenate([right.astype(np.int64), strangers]),
        np.arange(len(left) + len(lonely)) < len(left),
    )


def pair_loss(left: "torch.Tensor", right: "torch.Tensor", pairs: Pairs) -> "torch.Tensor":
    """Mean binary cross-entropy of sigmoid(cosine), 0 without pairs; rows of both tables have unit length."""
    import torch

    # index_select and not left[...]: the gradient of the latter is added up in no fixed order.
    one = left.index_select(0, torch.from_numpy(pairs.left))
    other = right.index_select(0, torch.from_numpy(pairs.right))
    label = torch.from_numpy(pairs.together.astype(np.float32))
    loss: torch.Tensor = torch.nn.functional.binary_cross_entropy_with_logits(
        (one * other).sum(1), label, reduction="sum"
    )
    return loss / max(len(label), 1)


def _evaluated(module: "torch.nn.Module", run: "Callable[[], torch.Tensor]") -> NDArray[np.float32]:
    import torch

    module.eval()
    with torch.no_grad():
        out: NDArray[np.float32] = run().numpy()
    return out


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(length, np.float32(1e-12))
    return unit
