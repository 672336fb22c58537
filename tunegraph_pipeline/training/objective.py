"""The self-supervised set-contrastive objective: one half of a list has to find the other half.

Here: what a step draws (context and targets, tracks placed as cold, candidates of the sampled softmax), and
the loss with its gradient. Not here: the network behind the embeddings (`models`), the loop (`train.py`).

For a user with context C and targets T the query is q = normalise(sum_{i in C} w_i e_i), the very query that
is served, and the loss is the softmax cross-entropy over the catalogue without the context,

    loss = log Z - mean_{t in T} (q.e_t / tau + b_t),    Z = sum_{j not in C} exp(q.e_j / tau + b_j),

averaged over users. The bias b of a track says how much it is liked regardless of a person's other likes,
which a cosine cannot. The gradient is written out rather than left to autograd: it needs two products with
one matrix of scores that is exponentiated in place, a third of the memory traffic of a taped log-softmax. The
factors of the three large products may be bfloat16; all else, sums included, is float32.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.graph.csr import rows_of, shuffled_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Generator, Tensor, dtype


class Candidates(NamedTuple):
    """The tracks the softmax runs over: int64[S] distinct columns and what each stands for, float32[S].

    A weight of c makes a track count c times in Z.
    """

    columns: NDArray[np.int64]
    weight: NDArray[np.float32]


class LossAndGradient(NamedTuple):
    """The mean ``loss`` over the users and its gradient in the ``embeddings``, float32[N, d], and in the
    ``bias``, float32[N]."""

    loss: float
    embeddings: "Tensor"
    bias: "Tensor"


class ScoreMemory(NamedTuple):
    """Memory for the ``scores`` of users and tracks, float32, and for the same ``rounded`` to the precision
    of the three products with them. In float32 both are one."""

    scores: "Tensor"
    rounded: "Tensor"

    @classmethod
    def of(cls, users: int, tracks: int, precision: "dtype | None" = None) -> "ScoreMemory":
        """Memory for so many; float32 when None."""
        import torch

        scores = torch.empty(users, tracks)
        same = precision is None or precision == scores.dtype
        return cls(scores, scores if same else torch.empty(users, tracks, dtype=precision))


def split_lists(
    likes: "csr_matrix", pooling_weight: NDArray[np.float32], rng: np.random.Generator
) -> "tuple[csr_matrix, csr_matrix]":
    """Split each row of ``likes`` (B x N, at least two likes a row) at random into context and targets.

    The values of ``likes``, above 0, say how much each counts. Half of a row, rounded up, are targets. The
    context holds the pooling weight of each of its tracks, times that; the targets of a row have values in
    proportion to it that add up to one.
    """
    from scipy.sparse import csr_matrix

    row = rows_of(likes)
    shuffled, place = shuffled_rows(likes, rng)
    n_targets = (np.diff(likes.indptr) + 1) // 2
    is_target = place < n_targets[row]
    track, weight = likes.indices[shuffled], likes.data[shuffled]
    context_row, context_track = row[~is_target], track[~is_target]
    target_row, target_track = row[is_target], track[is_target]
    pooled = (pooling_weight[context_track] * weight[~is_target]).astype(np.float32)
    context = csr_matrix((pooled, (context_row, context_track)), shape=likes.shape)
    whole = np.bincount(target_row, weight[is_target], minlength=likes.shape[0])
    share = (weight[is_target] / whole[target_row]).astype(np.float32)
    return context, csr_matrix((share, (target_row, target_track)), shape=likes.shape)


def drawn_as_cold(
    popularity: NDArray[np.integer], content_likes: float, generator: "Generator"
) -> "Tensor | None":
    """Draw the tracks that a step places as if nobody liked them, so content learns to place cold tracks.

    bool[N], each with the chance content_likes / (content_likes + its likes); None where that is always 0.
    DropoutNet (Volkovs et al. 2017) drops the likes of all tracks alike. Here a track with many likes nearly
    always keeps them: content adds little to where they place it, and every step without them would cost it.
    """
    import torch

    if content_likes == 0:
        return None
    chance = content_likes / (content_likes + popularity)
    return torch.rand(len(popularity), generator=generator) < torch.from_numpy(chance)


def draw_candidates(probability: NDArray[np.float64], size: int, rng: np.random.Generator) -> Candidates:
    """Draw ``size`` tracks with replacement from ``probability`` float64[N]; repeated ones are counted.

    The weight is count / (size * probability), the logQ correction of Bengio and Senécal (2008) taken out of
    the exponent: a sum over the catalogue is then estimated without bias.
    """
    drawn = rng.choice(len(probability), size=size, p=probability)
    columns, count = np.unique(drawn, return_counts=True)
    return Candidates(columns.astype(np.int64), (count / (size * probability[columns])).astype(np.float32))


def set_contrastive(
    embeddings: "Tensor",
    context: "csr_matrix",
    targets: "csr_matrix",
    temperature: float,
    *,
    bias: "Tensor | None" = None,
    keep: "Tensor | None" = None,
    candidates: Candidates | None = None,
    sampled: bool = False,
    scratch: "ScoreMemory | None" = None,
) -> LossAndGradient:
    """Return the mean loss over the B users and its gradient.

    ``embeddings`` float32[N, d], rows of at most unit length; ``context`` and ``targets`` as `split_lists`
    makes them; ``bias`` float32[N], zeros when None; ``keep`` float32[B, d]: the dropout mask that
    multiplies q. ``candidates``: the tracks Z runs over, the whole catalogue when None. With ``sampled`` they
    are a draw: the targets then enter Z exactly and are removed from the draw, as the context always is
    (accidental hits). ``scratch``, for at least B x candidates: memory for the scores, which is costly to
    allocate in every step, and the precision; float32 when None.
    """
    import torch
    from scipy.sparse import csr_matrix

    with torch.no_grad():
        E = embeddings.detach()
        b = E.new_zeros(len(E)) if bias is None else bias.detach()
        table = E.numpy()
        n_users = context.shape[0]
        pooled = torch.from_numpy(context @ table)
        length = pooled.norm(dim=1, keepdim=True).clamp_min(1e-12)
        direction = pooled / length
        q = direction if keep is None else direction * keep

        pool, pool_bias = E, b
        if candidates is not None:
            columns = torch.from_numpy(candidates.columns)
            pool, pool_bias = E[columns], b[columns]
        room = ScoreMemory.of(n_users, len(pool)) if scratch is None else scratch
        scores = room.scores[:n_users, : len(pool)]
        rounded = scores if room.rounded is room.scores else room.rounded[:n_users, : len(pool)]
        factor = pool.to(rounded.dtype)
        torch.mm(q.to(rounded.dtype), factor.T, out=rounded)
        if rounded is not scores:
            scores.copy_(rounded)
        # No cosine passes 1 / tau by more than dropout's rescaling, and a bias, whose exp is how many times
        # as much a track is liked, is of the order of one: one constant keeps exp in range.
        scores.sub_(1.0).div_(temperature).add_(pool_bias).exp_()
        if candidates is not None:
            scores.mul_(torch.from_numpy(candidates.weight))
        _zero(scores, context, candidates)

        target_row = rows_of(targets)
        logit = np.einsum("nd,nd->n", q.numpy()[target_row], table[targets.indices]) / temperature
        logit += b.numpy()[targets.indices]
        hit = float((targets.data * logit).sum(dtype=np.float64))
        pull = -targets.data
        Z = scores.sum(dim=1)
        if sampled:
            _zero(scores, targets, candidates)
            exact = np.exp(logit - 1.0 / temperature)
            Z = scores.sum(dim=1) + torch.from_numpy(
                np.bincount(target_row, exact, minlength=n_users).astype(np.float32)
            )
            pull = pull + exact / Z.numpy()[target_row]
        Z.clamp_min_(1e-30)
        loss = (float((Z.log() + 1.0 / temperature).sum()) - hit) / n_users

        step = 1.0 / (temperature * n_users)
        attract = csr_matrix((pull.astype(np.float32), targets.indices, targets.indptr), shape=targets.shape)
        if rounded is not scores:
            rounded.copy_(scores)
        grad_q = (rounded @ factor).float().div_(Z[:, None])
        grad_q.add_(torch.from_numpy(attract @ table)).mul_(step)
        if keep is not None:
            grad_q.mul_(keep)
        grad_pooled = (grad_q - direction * (direction * grad_q).sum(dim=1, keepdim=True)) / length

        grad = (rounded.T @ (q * (step / Z)[:, None]).to(rounded.dtype)).float()
        grad_bias = scores.T @ (1.0 / (n_users * Z))
        if candidates is not None:
            grad = torch.zeros_like(E).index_copy_(0, columns, grad)
            grad_bias = torch.zeros_like(b).index_copy_(0, columns, grad_bias)
        grad += torch.from_numpy(attract.T @ (q.numpy() * np.float32(step)))
        grad += torch.from_numpy(context.T @ grad_pooled.numpy())
        grad_bias += torch.from_numpy(np.asarray(attract.sum(axis=0), dtype=np.float32).ravel() / n_users)
    return LossAndGradient(loss, grad, grad_bias)


def _zero(scores: "Tensor", entries: "csr_matrix", candidates: Candidates | None) -> None:
    """Set the stored ``entries`` of ``scores`` to zero, where their column is among the candidates."""
    import torch

    row, column = rows_of(entries), entries.indices.astype(np.int64)
    if candidates is not None:
        at = np.minimum(np.searchsorted(candidates.columns, column), len(candidates.columns) - 1)
        found = candidates.columns[at] == column
        row, column = row[found], at[found]
    scores[torch.from_numpy(row), torch.from_numpy(column)] = 0.0
