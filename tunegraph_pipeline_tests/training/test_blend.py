"""The blend follows the part that knows, and its MAP@10 is the one of the served rule."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tunegraph_pipeline.models.blend import Blend
from tunegraph_pipeline.training.blend import (
    EVEN,
    RESERVE,
    ScoreParts,
    Tuned,
    Validation,
    fair_reserve,
    ndcg_at_100,
    pooled_queries,
    tune_blend,
)

N = 40


def pairs(rows: list[list[int]]) -> csr_matrix:
    dense = np.zeros((len(rows), N), dtype=np.float32)
    for user, tracks in enumerate(rows):
        dense[user, tracks] = 1
    return csr_matrix(dense)


def validation(context: list[list[int]], targets: list[list[int]]) -> Validation:
    return Validation.draw(pairs(context), pairs(targets), np.ones(N, dtype=np.bool_), 100)


def nothing() -> csr_matrix:
    return csr_matrix(np.zeros((N, N), dtype=np.float32))


def flat() -> np.ndarray:
    return np.zeros(N, dtype=np.float32)


def all_warm() -> np.ndarray:
    return np.ones(N, dtype=np.bool_)


def speaks(pairs: dict[int, int]) -> csr_matrix:
    dense = np.zeros((N, N), dtype=np.float32)
    for liked, candidate in pairs.items():
        dense[liked, candidate] = 1
    return csr_matrix(dense)


def tuned(
    judge: Validation,
    parts: list[ScoreParts],
    level: np.ndarray,
    warm: np.ndarray,
    around: Blend | None = None,
) -> Tuned:
    return tune_blend(judge, parts, level, warm, judge.context, around)


def test_map_of_a_ranking_by_hand() -> None:
    # Track 0 speaks for 5 and more weakly for 7; both held out with 30, which ranks below the ties 1..9.
    weights = nothing().tolil()
    weights[0, 6], weights[0, 5], weights[0, 7] = 3, 2, 1
    judge = validation([[0]], [[5, 7, 30]])
    zeros, ones = np.zeros((N, 2), dtype=np.float32), np.ones(N, dtype=np.float32)
    value = judge.of_blends([EVEN], ScoreParts(zeros, ones, csr_matrix(weights)), flat())
    assert value.item() == pytest.approx((1 / 2 + 2 / 3) / 3)


def test_liked_tracks_are_left_out_and_ties_go_to_the_smaller_index() -> None:
    zeros, ones = np.zeros((N, 2), dtype=np.float32), np.ones(N, dtype=np.float32)
    judge = validation([[0, 1]], [[3]])
    value = judge.of_blends([EVEN], ScoreParts(zeros, ones, nothing()), flat())
    assert value.item() == pytest.approx(1 / 2)  # 2 comes first, then 3


def test_what_is_not_recommendable_takes_no_place() -> None:
    recommendable = np.ones(N, dtype=np.bool_)
    recommendable[2] = False
    judge = Validation.draw(pairs([[0, 1]]), pairs([[3]]), recommendable, 100)
    zeros, ones = np.zeros((N, 2), dtype=np.float32), np.ones(N, dtype=np.float32)
    assert judge.of_blends([EVEN], ScoreParts(zeros, ones, nothing()), flat()).item() == pytest.approx(1.0)


def test_popularity_is_judged_alike() -> None:
    popularity = np.zeros(N, dtype=np.float32)
    popularity[[9, 8]] = [5, 4]
    assert validation([[0]], [[8]]).of_popularity(popularity) == pytest.approx(1 / 2)


def test_the_part_that_knows_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    users = range(12)
    judge = validation([[u] for u in users], [[20 + u] for u in users])
    ones = np.ones(N, dtype=np.float32)
    noise = rng.standard_normal((N, 8)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    right = noise.copy()
    right[20:32] = right[:12]
    known = speaks({u: 20 + u for u in users})
    wrong = speaks({u: 12 + u % 8 for u in users})

    _, by_embedding, _, value = tuned(judge, [ScoreParts(right, ones, wrong)], flat(), all_warm())
    assert value == pytest.approx(1.0)
    assert by_embedding.neighbour < by_embedding.embedding
    against = noise.copy()
    against[20:32] = -against[:12]
    _, by_neighbour, _, value = tuned(judge, [ScoreParts(against, ones, known)], flat(), all_warm())
    assert value == pytest.approx(1.0)
    assert by_neighbour.neighbour > by_neighbour.embedding


def test_other_neighbour_weights_are_taken_only_where_they_are_clearly_better() -> None:
    users = range(12)
    judge = validation([[u] for u in users], [[20 + u] for u in users])
    zeros, ones = np.zeros((N, 2), dtype=np.float32), np.ones(N, dtype=np.float32)
    wrong, right = speaks({u: 12 + u % 8 for u in users}), speaks({u: 20 + u for u in users})
    lucky = speaks({0: 20} | {u: 12 + u % 8 for u in users if u})

    def among(*weights: csr_matrix) -> Tuned:
        return tuned(judge, [ScoreParts(zeros, ones, W) for W in weights], flat(), all_warm())

    better = among(wrong, right)
    assert better.parts == 1
    np.testing.assert_array_equal(better.figures, 1)
    assert among(right, wrong).parts == 0
    assert among(right, right).parts == 0
    assert among(wrong, lucky).parts == 0  # better for one user of twelve


def test_ndcg_by_hand() -> None:
    targets = pairs([[3, 5], [0], list(range(30))])
    ranks = np.array([1, 4, 101, *range(1, 31)])
    by_hand = (1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(ndcg_at_100(ranks, targets), [by_hand, 0, 1])


def test_around_an_earlier_blend_only_what_is_next_to_it_is_tried_and_it_stays_unless_clearly_beaten() -> (
    None
):
    context, targets = [[u] for u in range(8)], [[u + 10] for u in range(8)]
    embeddings = np.zeros((N, 9), dtype=np.float32)
    embeddings[:, 8] = 1
    for u in range(8):  # the cosine of what was held out is 0.8, of another track 1
        embeddings[u] = embeddings[u + 20] = np.eye(9)[u]
        embeddings[u + 10] = 0.8 * np.eye(9)[u] + 0.6 * np.eye(9)[8]
    judge, ones = validation(context, targets), np.ones(N, dtype=np.float32)
    known = speaks({u: u + 10 for u in range(8)}) * 0.16
    around = Blend(embedding=1.0, neighbour=1.0, length_exponent=0.25)
    _, blend, _, value = tuned(
        judge, [ScoreParts(embeddings, ones, known)], flat(), all_warm(), around=around
    )
    assert value == pytest.approx(1.0)
    assert blend == replace(around, neighbour=2**0.5)
    far = replace(around, neighbour=0.25)
    _, blend, _, value = tuned(judge, [ScoreParts(embeddings, ones, known)], flat(), all_warm(), around=far)
    assert value == pytest.approx(0.5)
    assert blend == far
    one_part = Blend(embedding=1.0, neighbour=0.0, length_exponent=0.0)
    assert (
        tuned(judge, [ScoreParts(embeddings, ones, 9 * known)], flat(), all_warm(), around=one_part).blend
        == EVEN
    )


def test_with_nobody_to_choose_by_both_parts_count_alike() -> None:
    empty = Validation.draw(nothing(), nothing(), np.ones(N, dtype=np.bool_), 100)
    zeros, ones = np.zeros((N, 2), dtype=np.float32), np.ones(N, dtype=np.float32)
    _, blend, prior, value = tuned(empty, [ScoreParts(zeros, ones, nothing())], flat(), all_warm())
    np.testing.assert_array_equal(prior, 0)
    assert blend == Blend(1.0, 1.0, 0.0)
    assert not len(value)
    earlier = Blend(1.0, 2.0, 0.25)
    assert (
        tuned(empty, [ScoreParts(zeros, ones, nothing())], flat(), all_warm(), around=earlier).blend
        == earlier
    )


def test_at_most_so_many_users_are_judged_and_only_those_with_both() -> None:
    context = pairs([[0], [], [1], [2], [3]])
    targets = pairs([[9], [9], [], [8], [7]])
    assert Validation.draw(context, targets, np.ones(N, dtype=np.bool_), 100).n_users == 3
    assert Validation.draw(context, targets, np.ones(N, dtype=np.bool_), 2).n_users == 2


def test_tracks_nobody_likes_are_held_back_as_far_as_validation_asks_for() -> None:
    # Track 9, liked by nobody in training, is placed nearer to track 0 than track 8 is, and 8 was held out.
    embeddings = np.zeros((N, 2), dtype=np.float32)
    embeddings[:, 1] = 1
    embeddings[0] = embeddings[9] = [1, 0]
    embeddings[8] = [0.7, 0.51**0.5]
    warm = np.arange(N) != 9
    judge, ones = validation([[0]], [[8]]), np.ones(N, dtype=np.float32)
    _, _, prior, value = tuned(judge, [ScoreParts(embeddings, ones, nothing())], flat(), warm)
    assert value == pytest.approx(1.0)
    assert prior[9] < -0.2
    np.testing.assert_array_equal(prior[warm], 0)
    wanted = validation([[0]], [[9]])
    _, _, prior, value = tuned(wanted, [ScoreParts(embeddings, ones, nothing())], flat(), warm)
    assert value == pytest.approx(1.0)
    assert prior[9] == 0  # somebody clearly wants it: it is not held back


def shown(cold: np.ndarray, reserve: float, seed: int = 0) -> tuple[float, float]:
    """What `fair_reserve` finds in a random space, and the share of the places that ``reserve`` gives to
    ``cold`` tracks there (the found one where that is NaN), ranked in the slow and obvious way."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((N, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    weights = csr_matrix(rng.random((N, N)).astype(np.float32) * ~cold * (rng.random((N, N)) < 0.2))
    liked = [rng.choice(np.flatnonzero(~cold), 3, replace=False).tolist() for _ in range(400)]
    judge, ones = validation(liked, [[0 if 0 not in one else 1] for one in liked]), np.ones(N, np.float32)
    judge = replace(judge, recommendable=np.arange(N) != N - 1)
    blend = Blend(embedding=1.0, neighbour=0.5, length_exponent=0.25)
    parts = ScoreParts(embeddings, ones, weights)
    found = fair_reserve(judge.context, judge.recommendable, blend, parts, flat(), ~cold)
    reserve = found if np.isnan(reserve) else reserve
    scores = pooled_queries(judge.context, embeddings, ones) @ embeddings.T
    scores = scores + 0.5 * 3**-0.25 * (judge.context @ weights).toarray() - reserve * cold
    scores[judge.context.nonzero()] = scores[:, ~judge.recommendable] = -np.inf
    places = np.argsort(-scores, axis=1)[:, :10]
    return found, float(cold[places].mean())


def test_tracks_nobody_likes_get_the_share_of_the_places_that_they_are_of_the_catalogue() -> None:
    one = np.arange(N) == 5
    found, share = shown(one, np.nan)
    assert share == pytest.approx(1 / (N - 1), abs=0.002)
    # A little less held back, and they would have more than that.
    assert shown(one, found - 0.05)[1] > 1 / (N - 1) + 0.002


def test_however_many_tracks_nobody_likes_they_do_not_flood_the_lists() -> None:
    half = np.arange(N) % 2 == 0
    found, share = shown(half, np.nan)
    assert 0.045 < share <= 0.05
    assert shown(half, 0.0)[1] > 0.1
    assert found > 0


def test_without_tracks_of_either_kind_the_usual_reserve_stays() -> None:
    assert shown(np.zeros(N, dtype=np.bool_), np.nan)[0] == RESERVE


def test_one_lucky_user_among_many_does_not_move_the_blend() -> None:
    # The embedding finds what one user of twelve holds out; for the others neither part finds anything.
    users = range(12)
    judge = validation([[u] for u in users], [[20 + u] for u in users])
    embeddings = np.zeros((N, 13), dtype=np.float32)
    embeddings[np.arange(12), np.arange(12)] = 1
    embeddings[12:, 12] = 1
    embeddings[20] = embeddings[0]
    away = speaks({0: 30})
    _, blend, _, value = tuned(
        judge, [ScoreParts(0.9 * embeddings, np.ones(N, np.float32), away)], flat(), all_warm()
    )
    assert blend == EVEN
    assert value.mean() == pytest.approx(1 / 2 / 12)


def test_the_reserve_is_that_of_everybody_and_not_of_those_with_much_held_out() -> None:
    # Half of the songs have no likes. Neighbour weights speak for the others, the more the longer the list.
    cold = np.arange(N) % 2 == 0
    rng = np.random.default_rng(3)
    embeddings = rng.standard_normal((N, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    weights = csr_matrix(rng.random((N, N)).astype(np.float32) * ~cold)
    parts = ScoreParts(embeddings, np.ones(N, dtype=np.float32), weights)
    liked = np.flatnonzero(~cold)
    short = pairs([rng.choice(liked, 1).tolist() for _ in range(400)])
    long = validation([rng.choice(liked, 8, replace=False).tolist() for _ in range(100)], [[0]] * 100)
    found = [
        fair_reserve(lists, long.recommendable, EVEN, parts, flat(), ~cold) for lists in (short, long.context)
    ]
    assert found[0] > found[1] + 0.5
    judge = replace(long, targets=pairs([[int(liked[0])]] * 100))
    _, blend, prior, _ = tune_blend(judge, [parts], flat(), ~cold, short)
    scores = parts.scorer(short)(blend, prior)
    scores[short.nonzero()] = -np.inf
    places = np.argsort(-scores, axis=1)[:, :10]
    assert cold[places].mean() == pytest.approx(0.05, abs=0.005)
