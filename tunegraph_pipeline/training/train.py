"""Training of V3, the contrastive graph model: what goes in, what comes out, and the loop between.

Here: the settings, what an epoch does, and assembling the parts of the scoring rule. Not here: early
stopping and checkpoints (`loop.py`), the network (`models`), the loss (`objective.py`), the sparse part
(`neighbour_weights.py`), the blend (`blend.py`), what an earlier model passes on (`warm_start.py`).
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.engine.engine import Engine
from tunegraph_pipeline.engine.local import LOCAL
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.graph.co_like import strongest_neighbours
from tunegraph_pipeline.graph.csr import over_columns
from tunegraph_pipeline.graph.like_ages import OrderedRows
from tunegraph_pipeline.models.arrays import ServedArrays, TrainedArrays
from tunegraph_pipeline.models.blend import Blend, Continuation
from tunegraph_pipeline.models.content import content_rows, content_tags, encode_features
from tunegraph_pipeline.progress import Progress
from tunegraph_pipeline.training.adam import Adam
from tunegraph_pipeline.training.alignment import turned_onto
from tunegraph_pipeline.training.blend import (
    QUICK,
    RESERVE,
    ScoreParts,
    Validation,
    evenly,
    prior_of,
    tune_blend,
)
from tunegraph_pipeline.training.content_neighbours import move_beside_alike
from tunegraph_pipeline.training.continuation import choose_continuation
from tunegraph_pipeline.training.kept_memory import give_back_memory, kept_memory
from tunegraph_pipeline.training.loop import (
    Arrays,
    Checkpoint,
    Course,
    EpochReport,
    as_tensors,
    fingerprint,
    run_epochs,
    tensors_of,
    users_to_learn_from,
)
from tunegraph_pipeline.training.neighbour_weights import local_ridge
from tunegraph_pipeline.training.objective import (
    Candidates,
    ScoreMemory,
    draw_candidates,
    drawn_as_cold,
    set_contrastive,
    split_lists,
)
from tunegraph_pipeline.training.play_weights import weighed
from tunegraph_pipeline.training.warm_start import Start

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

    from tunegraph_pipeline.models.encoder import TrackEncoder


# Likes per track, on average: below the first, mostly content places a track; from the second on, likes alone
# say most of what there is to say.
_FEW, _MANY = 2, 10
_ADDED = (
    "sampled_neighbours",
    "precision",
    "content_neighbours",
    "play_weights",
    "stronger_regularisation",
)
"""Settings that the first models did not have."""
_TRACKS_A_BLOCK = 1 << 16  # placed together where a catalogue is large
_TURN_OF_REFIT = 2**32 - 1  # its draws are those of no training


class TrainingConfig(BaseModel):
    """How a model is trained. A setting that is None follows from the data by the rule beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Literal["propagation", "transformer", "none"] = "propagation"
    """The graph encoder: see `models.encoder.TrackEncoder`."""
    layers: int = Field(default=1, ge=1, le=4)
    """How many times each track receives messages from its neighbours."""
    graph_neighbours: int = Field(default=50, ge=1)
    """Strongest co-like neighbours that send messages to a track in propagation."""
    transformer_neighbours: int = Field(default=10, ge=1)
    """The same for the transformer, which holds a vector for each edge and head."""
    heads: int = Field(default=4, ge=1)
    """Attention heads of the transformer; they divide the dimension."""
    use_features: bool = True
    """Whether the audio features are an input."""
    use_tags: bool = True
    """Whether artists and album are an input."""
    dimension: int = Field(default=256, ge=2)
    """Length of a track's embedding."""
    spaces: int | None = Field(default=None, ge=1)
    """Spaces an embedding is made of, each trained on lists drawn for it alone; they divide the dimension.
    None: 4, if they do, where a track has two to ten likes on average, else 1: with fewer likes, content
    matters most, and works better with the whole dimension."""
    content_likes: float | None = Field(default=None, ge=0)
    """How many likes the content of a track counts as. In this / (this + its likes) of the steps, content
    alone places it, so that content learns to place what nobody likes yet; 0: never. None: 1 where a track
    has fewer than ten likes on average, else 0.25, because it costs tracks that likes place well."""
    content_neighbours: int = Field(default=50, ge=0)
    """A track without likes is placed beside so many liked tracks that sound most like it, and beside those
    of its artists and album. 0: its content alone places it."""
    temperature: float | None = Field(default=None, gt=0)
    """Cosines are divided by it in the softmax: the lower, the more only the hardest tracks matter.
    None: 0.5 / sqrt(likes per track), at least 0.07 and at most 0.15: with few likes a sharp softmax would
    mostly learn chance."""
    popularity_exponent: float = Field(default=0.15, ge=0)
    """A liked track weighs popularity ** -this in the query, so that hits do not dominate it."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the query's coordinates dropped in a step."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Of Adam at the start; it falls to zero along a cosine."""
    batch_users: int | None = Field(default=None, ge=1)
    """Users per step. None: users / 16, rounded to a power of two between 64 and 1,024."""
    epochs: int | None = Field(default=None, ge=1)
    """Most passes over the users. None: as many as make 280 steps, between 5 and 30."""
    patience: int = Field(default=5, ge=1)
    """Epochs in a row clearly worse than the best one before training stops. The last epoch within two
    standard errors of the best is kept: the learning rate falls, so among epochs that validation cannot
    distinguish the later is better."""
    validation_users: int = Field(default=4096, ge=1)
    """Most early-stopping users that validation is measured on."""
    full_softmax_tracks: int = Field(default=60_000, ge=1)
    """Largest catalogue whose softmax runs over every track; in a larger one tracks are sampled."""
    sampled_tracks: int = Field(default=16_384, ge=1)
    """Tracks drawn per step in a sampled softmax, by popularity ** 0.5."""
    sampled_neighbours: int = Field(default=10, ge=1)
    """Neighbours that send messages to a track in such a step, drawn anew in each; the finished model uses
    all."""
    ridge_neighbours: int = Field(default=100, ge=1)
    """Neighbour weights per track."""
    regularisation: float = Field(default=8.0, gt=0)
    """Lambda of the ridge behind the neighbour weights."""
    stronger_regularisation: float = Field(default=4.0, ge=1)
    """Neighbour weights with so many times that lambda are solved too, and served where early-stopping users
    clearly get better lists by them. 1: they are not. Only in a training from scratch, and not where a step
    samples tracks, because solving takes longest there."""
    content_weight: float = Field(default=1.0, ge=0)
    """Weight of an artist or album in that ridge, beside a user with a single like; needs tags."""
    play_weights: bool = True
    """Whether likes from plays count the more, the more their listener played the song, in the ridge and in
    the loss."""
    precision: Literal["float32", "bfloat16"] | None = None
    """What the products of the softmax, and messages along the graph, round their factors to. bfloat16 takes
    0.4 to 0.6 of the time where the processor multiplies in it, and changes them by three thousandths at
    most. None: bfloat16 on such a processor (x86 with AVX512-BF16 or AMX), float32 on others, where it would
    be slower. The finished model is computed in float32 from what was learned."""
    memory_mib: int = Field(default=2048, ge=64)
    """Bound on the block of the Gram matrix held while the neighbour weights are solved."""
    seed: int = Field(default=0, ge=0)
    """Everything random follows from it."""
    warm_epochs: int | None = Field(default=None, ge=1)
    """Passes over the users in a warm start. None: a seventh of `epochs`, one at least."""
    warm_learning_rate: float = Field(default=1e-3, gt=0)
    """Of Adam at the start of those."""
    full_after_days: int = Field(default=7, ge=0)
    """Train from scratch when the last time is more than this many days ago, by cut-off."""
    full_after_share: float = Field(default=0.2, ge=0)
    """Train from scratch when more than this share of the likes has changed since, counted by track."""

    refit: bool = True
    """Whether what is served learns, after all was chosen, from the likes that were held out as well."""
    refit_epochs: int | None = Field(default=None, ge=0)
    """Passes over the users in that, at the learning rate of a warm start. 0: the neighbour weights are
    solved, and tracks are placed by their neighbours of today, which takes a fraction of a pass. None: 1
    after a training from scratch, 0 after a warm start, whose time it would double."""

    def temperature_for(self, likes_per_track: float) -> float:
        """The temperature, given the mean number of training likes per track that has any."""
        default = round(min(0.15, max(0.07, 0.5 / math.sqrt(max(likes_per_track, 1.0)))), 2)
        return default if self.temperature is None else self.temperature

    def spaces_for(self, likes_per_track: float) -> int:
        """The number of spaces, given the same."""
        default = 4 if _FEW <= likes_per_track < _MANY and self.dimension % 4 == 0 else 1
        return default if self.spaces is None else self.spaces

    def content_likes_for(self, likes_per_track: float) -> float:
        """How many likes content counts as, given the same."""
        default = 1.0 if likes_per_track < _MANY else 0.25
        return default if self.content_likes is None else self.content_likes

    def precision_here(self) -> str:
        """The precision on this machine."""
        if self.precision is not None:
            return self.precision
        import torch

        able = torch.cpu.get_capabilities()
        return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"

    def batch_for(self, n_users: int) -> int:
        """Users per step, given the number of users with at least two likes, which can be split."""
        default = min(1024, max(64, 1 << max(0, round(math.log2(max(n_users, 1) / 16)))))
        return default if self.batch_users is None else self.batch_users

    def epochs_for(self, n_users: int) -> int:
        """Most epochs, given the same."""
        steps = math.ceil(n_users / self.batch_for(n_users))
        default = min(30, max(5, math.ceil(280 / max(steps, 1))))
        return default if self.epochs is None else self.epochs

    def warm_epochs_for(self, n_users: int) -> int:
        """Epochs of a warm start, given the same."""
        default = max(1, round(self.epochs_for(n_users) / 7))
        return default if self.warm_epochs is None else self.warm_epochs

    def refit_epochs_for(self, *, from_scratch: bool) -> int:
        """The passes of a refit, given whether its model was trained from scratch or is a warm start."""
        default = 1 if from_scratch else 0
        return default if self.refit_epochs is None else self.refit_epochs

    def is_sampled(self, n_tracks: int) -> bool:
        """Whether a step draws tracks from a catalogue of this size, and places no others."""
        return n_tracks > self.full_softmax_tracks

    def regularisations_for(self, n_tracks: int) -> tuple[float, ...]:
        """The lambdas to solve neighbour weights with, the usual one first, for a catalogue of this size."""
        if self.stronger_regularisation == 1 or self.is_sampled(n_tracks):
            return (self.regularisation,)
        return (self.regularisation, self.stronger_regularisation * self.regularisation)

    def at(self, regularisation: float) -> Self:
        """The same settings with this lambda alone."""
        return self.model_copy(update={"regularisation": regularisation, "stronger_regularisation": 1.0})

    def of_refit(self) -> list[Any]:
        """The settings that a refit depends on besides, as JSON; [] without one."""
        return [self.refit_epochs, self.warm_learning_rate] if self.refit else []

    def from_scratch(self) -> dict[str, Any]:
        """The settings a model trained from scratch depends on, as JSON: all but those of warm starts and of
        the refit. One that was added later is left out where it has its default, so that earlier models
        stay."""
        left_out = {"warm_epochs", "warm_learning_rate", "full_after_days", "full_after_share"}
        left_out |= {"refit", "refit_epochs"}
        left_out |= {name for name in _ADDED if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=left_out)


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from; N tracks, in the order of their track_idx.

    ``train``: csr float32 ones, users x N: the likes a model may learn from;
    ``context`` and ``targets``: csr, early-stopping users x N, rows alike: what they like in training, and
    what was held out of it;
    ``features``: float32[N, 11] in the order of AUDIO_FEATURES, NaN where unknown;
    ``track_artists``: csr bool, N x artists, an empty row where unknown; ``album``: int32[N], -1 unknown;
    ``artists`` and ``albums``: the names of their columns and numbers, by which a later training recognises
    them; needed for a warm start from a model with tags, or for this model to be the parent of one;
    ``plays``: csr int64, users x N: how often users played songs that they like, also those held out of
    ``train``; None where no like has plays.
    """

    train: "csr_matrix"
    context: "csr_matrix"
    targets: "csr_matrix"
    features: NDArray[np.float32]
    track_artists: "csr_matrix"
    album: NDArray[np.int32]
    artists: list[str] = field(default_factory=list)
    albums: list[str] = field(default_factory=list)
    plays: "csr_matrix | None" = None

    @property
    def likes_per_track(self) -> float:
        """The mean number of training likes per track that has any."""
        return float(self.train.nnz / max(len(np.unique(self.train.indices)), 1))


@dataclass(frozen=True)
class TrainedModel(TrainedArrays):
    """All that the scoring rule needs, and how the training went.

    The arrays are those of `TrainedArrays`; ``regularisation``: lambda of the neighbour weights; ``blend``:
    the weights of the parts of a score; ``continuation``: how lists are continued, and ``continued``
    float64[2, moments]: AP@10 of what was liked next, without and with it; ``validation`` float64[m]: AP@10
    of the served rule for each early-stopping user, and ``validation_of_popularity`` that of the most popular
    songs; ``curves``: one report per epoch; ``best_epoch``: the one that was kept; ``tensors``: its weights
    by name; ``reserve``: what the prior of tracks nobody in training likes is below their level.
    """

    regularisation: float
    blend: Blend
    continuation: Continuation
    continued: NDArray[np.float64]
    validation: NDArray[np.float64]
    validation_of_popularity: NDArray[np.float64]
    curves: list[EpochReport]
    best_epoch: int
    tensors: dict[str, NDArray[np.float32]]
    reserve: float

    @property
    def parts(self) -> ScoreParts:
        """What its scores are computed from."""
        from scipy.sparse import csr_matrix

        W = (self.neighbour_weight, self.neighbour_indices, self.neighbour_indptr)
        n_tracks = len(self.prior)
        return ScoreParts(self.embeddings, self.pooling_weight, csr_matrix(W, shape=(n_tracks, n_tracks)))


def train(
    data: TrainingData,
    config: TrainingConfig,
    *,
    start: Start | None = None,
    moments: OrderedRows | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train a model. The same data, settings and seed give the same model, bit for bit, on one machine.

    ``start``: an earlier model to warm start from, for the few epochs and at the low learning rate of a warm
    start; the same start then gives the same model. The neighbour weights, which are solved rather than
    learned, are solved again from the likes of today with the earlier lambda, and the blend is searched
    around the earlier one.

    ``moments``: what was liked next, held out of ``data``, by which the continuation is chosen; None where no
    list has an order.

    After every epoch the state is written to the file ``checkpoint``. A call that finds a checkpoint of the
    same data and settings there resumes from it, to the same result as without the interruption; a checkpoint
    of other data or settings is overwritten. The caller deletes the file. ``on_epoch`` is called after an
    epoch has been written; ``progress`` counts steps. ``engine`` finds the strongest neighbours and solves
    the neighbour weights; epochs run in this process.

    Raises InputError when no user has two likes to learn from, or heads or spaces do not divide the
    dimension; ValueError where ``start`` is of another dimension, or tags have no names to recognise them by.
    """

    _check(data, config, start)
    if start is not None:
        config = config.at(start.regularisation)
    warm = _popularity(data) > 0
    has_content = _has_content(data, config)
    validation = Validation.draw(data.context, data.targets, warm | has_content, config.validation_users)

    def judge(state: _Learning) -> NDArray[np.float64]:
        figures = validation.of_blends(QUICK, state.parts(), prior_of(state.level(), warm))
        best: NDArray[np.float64] = figures[figures.sum(axis=1).argmax()]
        return best

    learned, course = _learn(
        data,
        config,
        start,
        judge,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        engine=engine,
        progress=progress,
    )
    parts = learned.parts()
    placed = _placed(has_content, parts.embeddings)
    validation = replace(validation, recommendable=warm | placed)
    parts = replace(parts, embeddings=_settled(parts.embeddings, placed & ~warm, data, config))
    level = learned.level()
    which, blend, prior, figures = tune_blend(
        validation,
        [replace(parts, weights=W) for W in learned.weights],
        level,
        warm,
        evenly(data.train, config.validation_users),
        around=None if start is None else start.blend,
    )
    parts = replace(parts, weights=learned.weights[which])
    continuation, continued = choose_continuation(moments, parts, prior, validation.recommendable, blend)
    return TrainedModel(
        embeddings=parts.embeddings,
        pooling_weight=parts.pooling_weight,
        **_as_arrays(parts.weights),
        prior=prior,
        placed=placed,
        recommendable=validation.recommendable,
        regularisation=config.regularisations_for(len(warm))[which],
        blend=blend,
        continuation=continuation,
        continued=continued,
        validation=figures,
        validation_of_popularity=validation.of_popularity(_popularity(data)),
        curves=course.curves,
        best_epoch=course.best_epoch,
        tensors=course.best_weights,
        reserve=RESERVE if warm.all() else float((level - prior)[~warm].mean()),
    )


def refit(
    model: TrainedModel,
    data: TrainingData,
    likes: "csr_matrix",
    config: TrainingConfig,
    *,
    from_scratch: bool = True,
    checkpoint: Path | None = None,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> ServedArrays | None:
    """What to serve of a model, once it was judged: the same learned from all ``likes``, csr users x N, also
    from those that were held out of ``data``. None where nothing was.

    The blend, the reserve and whatever else was chosen by held-out likes stay those of ``model``, which is
    not changed. Neighbour weights and pooling weights are computed again. Vectors and biases go on from those
    of the model, tracks that are new to it start as in a warm start, and the neighbours in the encoder are
    those of all likes. The space is turned back onto that of the model.

    ``from_scratch``: whether the model was trained so, by which the number of passes follows. Other
    arguments, determinism and errors as of :func:`train`.
    """
    if likes.nnz == data.train.nnz:
        return None
    give_back_memory()  # of the training, half a GB; the neighbour weights need the most at once
    # Rules that look at the likes per track could have another outcome with a few more likes.
    average = data.likes_per_track
    config = config.at(model.regularisation).model_copy(
        update={
            "temperature": config.temperature_for(average),
            "spaces": config.spaces_for(average),
            "content_likes": config.content_likes_for(average),
            "warm_epochs": config.refit_epochs_for(from_scratch=from_scratch),
        }
    )
    n_artists, n_albums = data.track_artists.shape[1], int(data.album.max(initial=-1)) + 1
    # The tags are the same and in the same rows, so that their numbers will do for names.
    artists, albums = [str(row) for row in range(n_artists)], [str(row) for row in range(n_albums)]
    everything = replace(data, train=likes, artists=artists, albums=albums)
    start = Start(model.tensors, artists, albums, model.blend, model.regularisation, _TURN_OF_REFIT)
    learned, _ = _learn(
        everything,
        config,
        start,
        lambda _: np.zeros(0),  # there is nothing left to judge it by: the last epoch is kept
        checkpoint=checkpoint,
        on_epoch=None,
        engine=engine,
        progress=progress,
        what="learning from all likes",
    )
    parts = learned.parts()
    placed = _placed(_has_content(data, config), parts.embeddings)
    embeddings = _settled(parts.embeddings, placed & ~learned.warm, everything, config)
    return ServedArrays(
        embeddings=turned_onto(embeddings, model.embeddings, np.flatnonzero(model.recommendable)),
        pooling_weight=parts.pooling_weight,
        **_as_arrays(parts.weights),
        prior=prior_of(learned.level(), learned.warm, model.reserve),
        placed=placed,
    )


@dataclass(frozen=True)
class _Learning:
    """A model while and after it learns; ``warm`` bool[N]: the tracks that are liked in training;
    ``weights``: the neighbour weights with each lambda; ``in_blocks``: whether the catalogue is too large to
    be placed at once."""

    encoder: "TrackEncoder"
    temperature: float
    warm: NDArray[np.bool_]
    pooling_weight: NDArray[np.float32]
    weights: "list[csr_matrix]"
    in_blocks: bool

    def parts(self) -> ScoreParts:
        """What scores are computed from, as of now, with the usual lambda; rows of tracks without any input
        are zeros."""
        embeddings = _embeddings(self.encoder, in_blocks=self.in_blocks)
        return ScoreParts(embeddings, self.pooling_weight, self.weights[0])

    def level(self) -> NDArray[np.float32]:
        """How much a track is liked regardless of a person's other likes: float32[N], as a cosine."""
        return np.float32(self.temperature) * self.encoder.bias.detach().numpy().astype(np.float32)


def _learn(
    data: TrainingData,
    config: TrainingConfig,
    start: Start | None,
    judge: Callable[[_Learning], NDArray[np.float64]],
    *,
    checkpoint: Path | None,
    on_epoch: Callable[[EpochReport], None] | None,
    engine: Engine,
    progress: Progress | None,
    what: str = "training",
) -> tuple[_Learning, Course]:
    """Solve the neighbour weights and run the epochs, which ``judge`` ends; arguments as of :func:`train`."""
    warm = _popularity(data) > 0
    pooling_weight = _pooling_weight(data, config)
    # First, because nothing needs as much memory: the encoder is not beside it.
    state = Checkpoint.open(
        checkpoint,
        _fingerprint(data, config, start),
        # Kept with the checkpoint, because solving it again takes as long as an epoch.
        lambda: _to_keep(neighbour_weights(data, config, engine, progress)),
    )
    encoder = _encoder(data, config, _popularity(data), start, engine, progress)
    learning_rate = config.learning_rate if start is None else config.warm_learning_rate
    optimiser = Adam(encoder.parameters(), learning_rate)
    epochs = _Epochs(data, config, encoder, optimiser, pooling_weight, learning_rate, start, progress, what)
    learning = _Learning(
        encoder,
        epochs.temperature,
        warm,
        pooling_weight,
        _matrices(state.kept, len(warm)),
        in_blocks=config.is_sampled(len(warm)),
    )
    course = run_epochs(
        encoder,
        optimiser,
        epochs.run,
        lambda: judge(learning),
        epochs=epochs.most,
        patience=config.patience,
        checkpoint=state,
        on_epoch=on_epoch,
    )
    return learning, course


def _popularity(data: TrainingData) -> NDArray[np.float32]:
    """float32[N]: how many users in training like each track."""
    return np.bincount(data.train.indices, minlength=data.train.shape[1]).astype(np.float32)


def _weighed(data: TrainingData, config: TrainingConfig) -> "csr_matrix":
    """The training likes, with how much each counts as its value."""
    if data.plays is None or not config.play_weights:
        return data.train
    return weighed(data.train, data.plays)


def _pooling_weight(data: TrainingData, config: TrainingConfig) -> NDArray[np.float32]:
    popularity = _popularity(data)
    weights = np.where(popularity > 0, np.maximum(popularity, 1.0) ** -config.popularity_exponent, 1.0)
    return weights.astype(np.float32)


def _placed(has_content: NDArray[np.bool_], embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
    # An artist without a track liked in training says nothing, and alone leaves a row of zeros.
    placed: NDArray[np.bool_] = has_content & (np.linalg.norm(embeddings, axis=1) > 0.5)
    return placed


def _settled(
    embeddings: NDArray[np.float32], cold: NDArray[np.bool_], data: TrainingData, config: TrainingConfig
) -> NDArray[np.float32]:
    """E once it is learned, changed in place: unit length throughout, and tracks without likes that content
    places, ``cold`` bool[N], beside what is alike."""
    if config.content_neighbours and cold.any():
        popularity = _popularity(data)
        tags = content_tags(data.track_artists, data.album) if config.use_tags else None
        features = encode_features(data.features, popularity > 0) if config.use_features else None
        move_beside_alike(
            embeddings, popularity, cold, tags=tags, features=features, neighbours=config.content_neighbours
        )
    return _unit_rows(embeddings, config.seed)


def _as_arrays(W: "csr_matrix") -> dict[str, Any]:
    """W as a model stores it."""
    return {
        "neighbour_indptr": W.indptr.astype(np.int64),
        "neighbour_indices": W.indices.astype(np.int32),
        "neighbour_weight": W.data.astype(np.float32),
    }


def _check(data: TrainingData, config: TrainingConfig, start: Start | None) -> None:
    n_tracks = data.train.shape[1]
    rows = (len(data.features), data.track_artists.shape[0], len(data.album))
    if any(count != n_tracks for count in rows):
        raise ValueError(f"likes of {n_tracks} tracks, but features, artists and albums of {rows}")
    if data.context.shape != data.targets.shape or data.context.shape[1] != n_tracks:
        raise ValueError(
            f"context {data.context.shape} and targets {data.targets.shape} of {n_tracks} tracks"
        )
    if data.plays is not None and data.plays.shape != data.train.shape:
        raise ValueError(f"likes {data.train.shape}, but plays {data.plays.shape}")
    users_to_learn_from(data.train)
    heads = config.heads if config.encoder == "transformer" else None
    for count, what in ((config.spaces, "spaces"), (heads, "heads")):
        if count and config.dimension % count:
            raise InputError(f"{count} {what} do not divide the dimension {config.dimension}; change either")
    if start is None:
        return
    if start.tensors["id"].shape[1] != config.dimension:
        raise ValueError(
            f"the earlier model has {start.tensors['id'].shape[1]} dimensions, not {config.dimension}"
        )
    counts = (data.track_artists.shape[1], int(data.album.max(initial=-1)) + 1)
    if config.use_tags and (len(data.artists), len(data.albums)) != counts:
        raise ValueError(f"{counts} artists and albums, names of {len(data.artists)} and {len(data.albums)}")


def _has_content(data: TrainingData, config: TrainingConfig) -> NDArray[np.bool_]:
    """bool[N]: tracks with an input other than likes."""
    known = np.zeros(len(data.album), dtype=np.bool_)
    if config.use_tags:
        known |= (np.diff(data.track_artists.tocsr().indptr) > 0) | (data.album >= 0)
    if config.use_features:
        known |= np.isfinite(data.features).any(axis=1)
    return known


def _encoder(
    data: TrainingData,
    config: TrainingConfig,
    popularity: NDArray[np.float32],
    start: Start | None,
    engine: Engine,
    progress: Progress | None,
) -> "TrackEncoder":
    import torch

    from tunegraph_pipeline.models.encoder import TrackEncoder, propagation_graph, spectral_start

    warm = popularity > 0
    spaces = config.spaces_for(data.likes_per_track)
    features = None
    if config.use_features and np.isfinite(data.features).any():
        features = encode_features(data.features, warm)
    k = config.transformer_neighbours if config.encoder == "transformer" else config.graph_neighbours
    neighbours = strongest_neighbours(data.train, k, engine=engine, progress=progress)
    if start is None:
        one_space = spectral_start(data.train, config.dimension // spaces, seed=config.seed)
        ids = np.tile(one_space, spaces)
    else:
        ids, known = start.ids(warm, neighbours, config.seed)
    encoder = TrackEncoder(
        ids,
        warm,
        content_tags(data.track_artists, data.album) if config.use_tags else None,
        features,
        propagation_graph(neighbours, k),
        kind=config.encoder,
        layers=config.layers,
        heads=config.heads,
        seed=config.seed,
        spaces=spaces,
        precision=getattr(torch, config.precision_here()),
    )
    if start is not None:
        tensors = tensors_of(encoder)
        tensors |= start.network({name: tensor.shape for name, tensor in tensors.items()})
        tensors["bias"] = start.bias(known, warm)
        if "tag" in tensors:
            tensors["tag"] = start.tags(data.artists, data.albums, tensors["tag"])
        encoder.load_state_dict(as_tensors(tensors))
    return encoder


def neighbour_weights(
    data: TrainingData, config: TrainingConfig, engine: Engine = LOCAL, progress: Progress | None = None
) -> "list[csr_matrix]":
    """W with each lambda of `TrainingConfig.regularisations_for`, csr float32[N, N], entries alike."""
    from scipy.sparse import csr_matrix, vstack

    content = None
    if config.use_tags and config.content_weight:
        content = content_rows(data.track_artists, data.album)
    lists = data.train if content is None else csr_matrix(vstack([data.train, content]))
    return local_ridge(
        _weighed(data, config),
        strongest_neighbours(lists, config.ridge_neighbours, engine=engine, progress=progress),
        regularisations=config.regularisations_for(data.train.shape[1]),
        content=None if content is None else config.content_weight * content,
        memory_mib=config.memory_mib,
        engine=engine,
        progress=progress,
    )


def _to_keep(weights: "list[csr_matrix]") -> Arrays:
    """Matrices whose entries are alike, as `_matrices` takes them; nothing is copied."""
    values = {f"data {number}": W.data for number, W in enumerate(weights)}
    return {"indptr": weights[0].indptr, "indices": weights[0].indices, **values}


def _matrices(kept: Arrays, n_tracks: int) -> "list[csr_matrix]":
    from scipy.sparse import csr_matrix

    indices, indptr = kept["indices"], kept["indptr"]
    values = (kept[f"data {number}"] for number in range(len(kept) - 2))
    return [csr_matrix((data, indices, indptr), shape=(n_tracks, n_tracks)) for data in values]


class _Epochs:
    """Trains ``encoder`` in place, an epoch at a time.

    Everything random follows from seed, epoch and the ``turn`` of the warm start, 0 in a training from
    scratch: with the same splits every day, a chain of warm starts would memorise them. The spaces see the
    users in orders of their own, and split their lists each in its own way.
    """

    def __init__(
        self,
        data: TrainingData,
        config: TrainingConfig,
        encoder: "TrackEncoder",
        optimiser: Adam,
        pooling_weight: NDArray[np.float32],
        learning_rate: float,
        start: Start | None,
        progress: Progress | None,
        what: str,
    ) -> None:
        self._train, self._config = _weighed(data, config), config
        self._progress, self._what = progress, what
        self._encoder, self._optimiser, self._learning_rate = encoder, optimiser, learning_rate
        self._pooling_weight = pooling_weight
        self._turn = 0 if start is None else start.turn
        self._users = users_to_learn_from(data.train)
        self._popularity = np.bincount(data.train.indices, minlength=data.train.shape[1])
        self._sampled = config.is_sampled(len(self._popularity))
        self._probability = np.sqrt(self._popularity) / np.sqrt(self._popularity).sum()
        liked = np.flatnonzero(self._popularity)
        self._liked = None  # the whole catalogue
        if len(liked) < len(self._popularity):
            self._liked = Candidates(liked, np.ones(len(liked), dtype=np.float32))
        self._content_likes = config.content_likes_for(data.likes_per_track)
        self.temperature = config.temperature_for(data.likes_per_track)
        n_users = len(self._users)
        self.most = config.epochs_for(n_users) if start is None else config.warm_epochs_for(n_users)

    def run(self, epoch: int) -> float:
        """One pass over the users; returns the mean loss."""
        import torch

        config, encoder, users = self._config, self._encoder, self._users
        rng = np.random.default_rng([config.seed, epoch, *([self._turn] if self._turn else [])])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch_users = config.batch_for(len(users))
        orders = [rng.permutation(users) for _ in range(encoder.spaces)]
        steps = math.ceil(len(users) / batch_users)
        width = config.sampled_tracks if self._sampled else len(self._popularity)
        scratch = ScoreMemory.of(min(batch_users, len(users)), width, getattr(torch, config.precision_here()))
        total = 0.0
        with kept_memory() if self._sampled else nullcontext():
            for step in range(steps):
                rate = 0.5 * (1 + math.cos(math.pi * ((epoch - 1) * steps + step) / (self.most * steps)))
                self._optimiser.rate = self._learning_rate * rate
                self._optimiser.zero_grad()
                chosen = slice(step * batch_users, (step + 1) * batch_users)
                total += self._step([np.sort(order[chosen]) for order in orders], scratch, rng, generator)
                self._optimiser.step()
                if self._progress is not None:
                    self._progress(f"{self._what}, epoch {epoch} of at most {self.most}", step + 1, steps)
        return total / len(users)

    def _step(
        self,
        batches: list[NDArray[np.int64]],
        scratch: ScoreMemory,
        rng: np.random.Generator,
        generator: "torch.Generator",
    ) -> float:
        """Set the gradients of a step on one batch of users per space; returns the summed loss."""
        import torch

        from tunegraph_pipeline.models.placing import Drawn, Placed, gradient_of_rows

        encoder = self._encoder
        size = self._config.dimension // encoder.spaces
        stretch = math.sqrt(encoder.spaces)  # scales a track to unit length within a space
        cold = drawn_as_cold(self._popularity, self._content_likes, generator)
        draws = [self._draw(batch, size, rng, generator) for batch in batches]
        bias, rows = encoder.bias.detach(), None
        if self._sampled:
            rows = np.unique(np.concatenate([draw.tracks for draw in draws]))
            draws = [draw.among(rows) for draw in draws]
            bias = bias[torch.from_numpy(rows)]
            placed = encoder.place(rows, cold, Drawn(self._config.sampled_neighbours, rng))
        else:
            placed = Placed(encoder(cold), [])
        gradient = torch.empty_like(placed.embeddings)
        bias_gradient = torch.zeros_like(bias)
        total = 0.0
        for space, draw in enumerate(draws):
            columns = slice(space * size, (space + 1) * size)
            found = set_contrastive(
                placed.embeddings.detach()[:, columns] * stretch,
                draw.context,
                draw.targets,
                self.temperature,
                bias=bias,
                keep=draw.keep,
                candidates=draw.candidates,
                sampled=self._sampled,
                scratch=scratch,
            )
            gradient[:, columns] = found.embeddings * stretch
            bias_gradient += found.bias / encoder.spaces
            total += found.loss * len(batches[space]) / encoder.spaces
        placed.set_gradients(gradient)
        if rows is not None:
            bias_gradient = gradient_of_rows(torch.from_numpy(rows), bias_gradient, len(encoder.bias))
        encoder.bias.grad = bias_gradient
        return total

    def _draw(
        self, batch: NDArray[np.int64], size: int, rng: np.random.Generator, generator: "torch.Generator"
    ) -> "_Draw":
        import torch

        config = self._config
        context, targets = split_lists(self._train[batch], self._pooling_weight, rng)
        candidates, keep = self._liked, None
        if config.dropout:
            keep = torch.rand(len(batch), size, generator=generator).ge_(config.dropout)
            keep.div_(1 - config.dropout)
        if self._sampled:
            candidates = draw_candidates(self._probability, config.sampled_tracks, rng)
        return _Draw(context, targets, keep, candidates)


class _Draw(NamedTuple):
    """What `set_contrastive` takes of a batch of users in a space."""

    context: "csr_matrix"
    targets: "csr_matrix"
    keep: "torch.Tensor | None"
    candidates: Candidates | None

    @property
    def tracks(self) -> NDArray[np.int64]:
        """The tracks that take part."""
        drawn = [] if self.candidates is None else [self.candidates.columns]
        return np.concatenate([self.context.indices, self.targets.indices, *drawn])

    def among(self, rows: NDArray[np.int64]) -> "_Draw":
        """The same over a catalogue of ``rows`` alone, ascending, among which all of its tracks are."""
        candidates = self.candidates
        if candidates is not None:
            candidates = Candidates(np.searchsorted(rows, candidates.columns), candidates.weight)
        return _Draw(
            over_columns(self.context, rows), over_columns(self.targets, rows), self.keep, candidates
        )


def _embeddings(encoder: "TrackEncoder", *, in_blocks: bool) -> NDArray[np.float32]:
    """E, float32[N, d]; ``in_blocks`` bounds the memory beside it, and may round differently."""
    import torch

    with torch.no_grad():
        if not in_blocks:
            whole: NDArray[np.float32] = encoder().numpy()
            return whole
        embeddings = np.empty(encoder.id.shape, dtype=np.float32)
        for start in range(0, len(embeddings), _TRACKS_A_BLOCK):
            rows = np.arange(start, min(start + _TRACKS_A_BLOCK, len(embeddings)))
            embeddings[rows] = encoder.place(rows).embeddings.numpy()
    return embeddings


def _unit_rows(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Give rows of zeros, of tracks without any input, a direction that follows from seed and row."""
    empty = np.flatnonzero(np.linalg.norm(embeddings, axis=1) < 0.5)
    for row in empty:
        direction = np.random.default_rng([seed, int(row)]).standard_normal(embeddings.shape[1])
        embeddings[row] = direction / np.linalg.norm(direction)
    return embeddings


def _fingerprint(data: TrainingData, config: TrainingConfig, start: Start | None) -> str:
    """A digest of everything the result depends on."""
    more = config.precision_here().encode()
    if start is not None:
        more += start.fingerprint() + repr((data.artists, data.albums)).encode()
    matrices = (data.train, data.context, data.targets, data.track_artists.tocsr())
    arrays = [data.features, data.album]
    if data.plays is not None and config.play_weights:
        arrays.append(_weighed(data, config).data)
    return fingerprint(config.model_dump_json(), matrices, arrays, more)
