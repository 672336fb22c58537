"""Every baseline has to solve a puzzle with a known answer, and to equal its formula written out densely."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines import ALL, baselines
from tunegraph_pipeline.evaluation.baselines.closed_form import CoLike, DecayedPopularity, Ease, Popularity
from tunegraph_pipeline.evaluation.baselines.common import Baseline, BaselineConfig, top_k
from tunegraph_pipeline.evaluation.baselines.factors import Als, LightGcn
from tunegraph_pipeline.evaluation.baselines.neighbourhood import ItemKnn, Rp3Beta
from tunegraph_pipeline.evaluation.metrics import user_metrics
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.evaluation.recommender_contract import NOT_PERSONAL

CONFIG = BaselineConfig(
    ease_lambda=3.0, als_factors=8, lightgcn_dimension=8, lightgcn_epochs=30, lightgcn_batch=100
)


def random_likes(n_users: int, n_tracks: int, seed: int, density: float = 0.2) -> csr_matrix:
    rng = np.random.default_rng(seed)
    return csr_matrix((rng.random((n_users, n_tracks)) < density).astype(np.float32))


def ranked_by(scores: NDArray[np.floating], likes: csr_matrix, k: int) -> NDArray[np.int32]:
    """The slow and obvious ranking of a dense score matrix."""
    scores = np.where(likes.toarray() > 0, -np.inf, scores)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, best, axis=1) == -np.inf, -1, best).astype(np.int32)


def every_baseline() -> list[Baseline]:
    return [make(CONFIG) for make in ALL.values()]


def fit(model: Baseline, train: csr_matrix) -> None:
    """Fit to likes that are all of today."""
    model.fit(train, ages=np.zeros(train.nnz))


@pytest.mark.parametrize(
    "model",
    [model for model in every_baseline() if model.name not in NOT_PERSONAL],
    ids=lambda model: model.name,
)
def test_the_missing_track_of_a_checkerboard_comes_first(model: Baseline) -> None:
    # User u likes the tracks of their own parity; one of them is withheld and has to be found.
    n = 20
    full = (np.add.outer(np.arange(n), np.arange(n)) % 2 == 0).astype(np.float32)
    shown = full - np.eye(n, dtype=np.float32)
    fit(model, csr_matrix(shown))
    assert model.rank(csr_matrix(shown), 1)[:, 0].tolist() == list(range(n))
    if isinstance(model, LightGcn):
        assert model.rank_known(np.arange(n), csr_matrix(shown), 1)[:, 0].tolist() == list(range(n))


@pytest.mark.parametrize("model", every_baseline(), ids=lambda model: model.name)
def test_nobody_is_recommended_what_they_like_and_short_catalogues_are_padded(model: Baseline) -> None:
    train = random_likes(30, 12, seed=1)
    fit(model, train)
    ranked = model.rank(train, 15)
    assert ranked.shape == (30, 15)
    assert ranked.dtype == np.int32
    for user, row in enumerate(ranked.tolist()):
        liked = set(train[user].indices.tolist())
        assert sorted(row[: 12 - len(liked)]) == sorted(set(range(12)) - liked)
        assert row[12 - len(liked) :] == [-1] * (3 + len(liked))


@pytest.mark.parametrize("model", every_baseline(), ids=lambda model: model.name)
def test_many_users_at_once_are_ranked_as_each_alone(model: Baseline) -> None:
    train = random_likes(40, 25, seed=2)
    fit(model, train)
    together = model.rank(train, 5)
    assert [model.rank(train[user], 5)[0].tolist() for user in range(40)] == together.tolist()


@pytest.mark.parametrize("model", every_baseline(), ids=lambda model: model.name)
def test_a_newcomer_gets_what_is_popular_and_ties_go_to_the_smaller_index(model: Baseline) -> None:
    likes = np.array([[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)
    fit(model, csr_matrix(likes))
    assert model.rank(csr_matrix(np.zeros((1, 4), dtype=np.float32)), 4).tolist() == [[2, 0, 3, 1]]


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_lists(name: str) -> None:
    train = random_likes(40, 25, seed=6)
    lists = []
    for _ in range(2):
        model = ALL[name](CONFIG)
        fit(model, train)
        lists.append(model.rank(train, 10).tolist())
    assert lists[0] == lists[1]


THREE_USERS = csr_matrix(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=np.float32))


def test_decayed_popularity_counts_a_like_of_a_half_life_ago_half() -> None:
    # Track 0 has three likes of 20 days ago, a quarter each, track 1 one of today, track 2 one of 10 days ago
    # and two without a time, which are taken to be as old as the oldest, track 3 none. So tracks 1 and 2 are
    # equal, and the one with more likes comes first.
    likes = csr_matrix(np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0]], dtype=np.float32))
    ages = np.array([20.0, 0.0, 10.0, 20.0, np.nan, 20.0, np.nan])
    newcomer = csr_matrix(np.zeros((1, 4), dtype=np.float32))
    for half_life, order in ((10.0, [2, 1, 0, 3]), (1e6, [2, 0, 1, 3]), (1.0, [1, 2, 0, 3])):
        model = DecayedPopularity(BaselineConfig(decayed_popularity_half_life=half_life))
        model.fit(likes, ages=ages)
        assert model.rank(newcomer, 4).tolist() == [order]
        # Everybody gets that list, without what they like.
        assert model.rank(likes[0], 2).tolist() == [[3, -1]]


def test_decayed_popularity_is_refused_where_no_time_is_known() -> None:
    for ages in (None, np.full(THREE_USERS.nnz, np.nan)):
        with pytest.raises(InputError, match="when songs were liked"):
            DecayedPopularity(CONFIG).fit(THREE_USERS, ages=ages)


def test_item_knn_worked_out_by_hand() -> None:
    # Every track has two likes; 0 and 1 share both, 2 shares one with either. With a shrink of 1 the
    # similarities are 2/3 and 1/3, and each candidate keeps its nearest track alone, the smaller on a tie.
    model = ItemKnn(BaselineConfig(item_knn_k=1, item_knn_shrink=1.0))
    model.fit(THREE_USERS)
    assert np.allclose(model.weights.toarray(), np.array([[0, 2, 1], [2, 0, 0], [0, 0, 0]]) / 3)
    assert model.rank(csr_matrix(np.array([[1, 0, 0]], dtype=np.float32)), 2).tolist() == [[1, 2]]


def test_rp3beta_worked_out_by_hand() -> None:
    # From track 0 (2 users) to user 0 (2 likes) and user 1 (3): 1/2 (1/2 + 1/3) = 5/12 arrive at track 1,
    # 1/6 at track 2; the likes of the end, 2, divide both.
    model = Rp3Beta(BaselineConfig(rp3beta_alpha=1.0, rp3beta_beta=1.0, rp3beta_k=2))
    model.fit(THREE_USERS)
    expected = np.array([[0, 5, 2], [5, 0, 2], [2, 2, 0]]) / 24
    assert np.allclose(model.weights.toarray(), expected)
    cut = Rp3Beta(BaselineConfig(rp3beta_alpha=1.0, rp3beta_beta=1.0, rp3beta_k=1))
    cut.fit(THREE_USERS)
    assert np.allclose(cut.weights.toarray(), [[0, 5 / 24, 0], [5 / 24, 0, 0], [1 / 12, 0, 0]])


@settings(max_examples=examples(20))
@given(st.integers(0, 1000))
def test_neighbourhoods_are_their_formulas(seed: int) -> None:
    train = random_likes(25, 12, seed)
    a = train.toarray().astype(np.float64)
    likes, lists = np.maximum(a.sum(0), 1), np.maximum(a.sum(1), 1)
    knn = ItemKnn(BaselineConfig(item_knn_k=12, item_knn_shrink=2.5))
    cosine = (a.T @ a) / (np.sqrt(np.outer(a.sum(0), a.sum(0))) + 2.5)
    rp3 = Rp3Beta(BaselineConfig(rp3beta_alpha=0.7, rp3beta_beta=0.3, rp3beta_k=12))
    walks = (a / likes**0.7).T @ (a / lists[:, np.newaxis] ** 0.7) / likes**0.3
    for model, expected in ((knn, cosine), (rp3, walks)):
        model.fit(train)
        np.fill_diagonal(expected, 0)
        assert np.allclose(model.weights.toarray(), expected, atol=1e-5)


def test_als_solves_for_a_user_it_has_never_seen() -> None:
    train, users = random_likes(60, 15, seed=8), random_likes(5, 15, seed=9, density=0.4)
    config = BaselineConfig(als_factors=6, als_regularisation=0.5, als_alpha=4.0)
    model = Als(config)
    model.fit(train)
    y = model.tracks.astype(np.float64)
    scores = np.empty((5, 15))
    for user, row in enumerate(users.toarray()):
        confidence = np.where(row > 0, config.als_alpha, 1.0)
        normal = y.T @ (confidence[:, np.newaxis] * y) + config.als_regularisation * np.eye(y.shape[1])
        scores[user] = y @ np.linalg.solve(normal, y.T @ (confidence * row))
    assert model.rank(users, 15).tolist() == ranked_by(scores, users, 15).tolist()
    assert users.max() == 1


def test_als_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(InputError, match=r"pip install 'tunegraph-pipeline\[als\]'"):
        Als(CONFIG).fit(THREE_USERS)


def test_lightgcn_is_its_formula_for_users_it_knows_and_for_others() -> None:
    train, users = random_likes(12, 7, seed=2, density=0.7), random_likes(4, 7, seed=3, density=0.5)
    assert min(np.diff(train.indptr).min(), np.diff(users.indptr).min()) > 0
    # A step too small to move anything leaves the embeddings where they start.
    config = BaselineConfig(
        lightgcn_dimension=4, lightgcn_layers=2, lightgcn_epochs=1, lightgcn_learning_rate=1e-12
    )
    model = LightGcn(config)
    model.fit(train)
    start = np.random.default_rng(0).standard_normal((19, 4), dtype=np.float32).astype(np.float64) * 0.1
    a = train.toarray().astype(np.float64)
    both = np.block([[np.zeros((12, 12)), a], [a.T, np.zeros((7, 7))]])
    root = 1 / np.sqrt(np.maximum(both.sum(1), 1))
    both *= np.outer(root, root)
    layers = [start, both @ start, both @ both @ start]
    nodes = sum(layers) / 3
    assert np.allclose(model.users, nodes[:12], atol=1e-6)
    assert np.allclose(model.tracks, nodes[12:], atol=1e-6)
    known = np.arange(12)
    scores = nodes[:12] @ nodes[12:].T
    assert model.rank_known(known, train, 7).tolist() == ranked_by(scores, train, 7).tolist()
    row = users.toarray().astype(np.float64)
    spread = row / np.sqrt(row.sum(1, keepdims=True)) * root[12:]
    scores = spread @ (layers[0][12:] + layers[1][12:]) / 3 @ nodes[12:].T
    assert model.rank(users, 7).tolist() == ranked_by(scores, users, 7).tolist()


def test_lightgcn_learns() -> None:
    model = LightGcn(CONFIG)
    model.fit(random_likes(40, 25, seed=6))
    assert model.losses[-1] < 0.8 * model.losses[0]


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_co_like_is_its_formula(seed: int) -> None:
    train, users = random_likes(15, 9, seed), random_likes(6, 9, seed + 1, density=0.4)
    users = users[np.flatnonzero(np.diff(users.indptr))]
    a = train.toarray().astype(np.float64)
    track = np.diag(np.where(a.sum(0) > 0, 1 / np.sqrt(np.maximum(a.sum(0), 1)), 0))
    user = np.diag(np.where(a.sum(1) > 0, 1 / np.sqrt(np.maximum(a.sum(1), 1)), 0))
    scores = users.toarray() @ track @ a.T @ user @ a @ track
    model = CoLike(CONFIG)
    model.fit(train)
    ranked = model.rank(users, 9)
    # Rounding may swap near-equal tracks, so the scores have to fall, and the set that is ranked is the same.
    for row, expected, full in zip(ranked, ranked_by(scores, users, 9), scores, strict=True):
        assert sorted(row) == sorted(expected)
        assert np.allclose(full[row[row >= 0]], full[expected[expected >= 0]], atol=1e-6)


def test_ease_is_its_formula() -> None:
    train = random_likes(200, 30, seed=3)
    a = train.toarray().astype(np.float64)
    precision = np.linalg.inv(a.T @ a + CONFIG.ease_lambda * np.eye(30))
    weights = -precision / np.diag(precision)
    np.fill_diagonal(weights, 0)
    model = Ease(CONFIG)
    model.fit(train)
    assert np.allclose(model.precision, precision, atol=1e-6)
    assert model.rank(train, 5).tolist() == ranked_by(a @ weights, train, 5).tolist()


def test_blocks_of_rows_and_tiles_leave_no_seam() -> None:
    # More tracks than one tile of the mirroring, and a score budget that holds a few rows of the Gram matrix.
    train = random_likes(60, 2100, seed=4, density=0.02)
    model = Ease(BaselineConfig(ease_lambda=5.0, score_bytes=1 << 20))
    model.fit(train)
    gram = (train.T @ train).toarray() + 5.0 * np.eye(2100)
    assert np.array_equal(model.precision, model.precision.T)
    assert np.allclose(model.precision @ gram, np.eye(2100), atol=1e-4)


def test_too_large_a_catalogue_leaves_ease_out_and_says_so() -> None:
    small = BaselineConfig(ease_max_tracks=10)
    chosen, left_out = baselines(11, small)
    assert [model.name for model in chosen] == ["popularity", "co_like"]
    assert "11 tracks are more than the 10" in left_out["ease"]
    assert [model.name for model in baselines(10, small)[0]] == ["popularity", "co_like", "ease"]
    with pytest.raises(ValueError, match="11 tracks"):
        Ease(small).fit(random_likes(5, 11, seed=5))


@settings(deadline=None)
@given(
    st.integers(0, 6), st.integers(1, 12), st.integers(1, 15), st.integers(1, 4), st.integers(0, 2**32 - 1)
)
def test_top_k_is_a_stable_sort_cut_short(m: int, n: int, k: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (m, n)).astype(np.float32)
    scores[rng.random((m, n)) < 0.2] = -np.inf
    expected = np.full((m, k), -1, dtype=np.int32)
    for row in range(m):
        best = [j for j in np.argsort(-scores[row], kind="stable") if scores[row, j] > -np.inf][:k]
        expected[row, : len(best)] = best
    assert top_k(scores, k).tolist() == expected.tolist()


def test_on_real_listening_the_baselines_reach_their_known_levels(shared_data: Path) -> None:
    def likes(name: str) -> NDArray[np.int64]:
        pairs = np.loadtxt(shared_data / "lastfm" / name, usecols=(0, 1)).astype(np.int64) - 1
        return np.unique(pairs, axis=0)

    train, test = likes("lf_train.txt"), likes("lf_test.txt")
    shape = tuple(np.maximum(train.max(0), test.max(0)) + 1)
    known, wanted = (
        csr_matrix((np.ones(len(pairs), dtype=np.float32), pairs.T), shape=shape) for pairs in (train, test)
    )
    rows = np.flatnonzero(np.diff(wanted.indptr))
    reached = {}
    for model in baselines(shape[1], BaselineConfig())[0]:
        model.fit(known)
        ranked = model.rank(known[rows], 20)
        found = user_metrics(ranked, wanted[rows], np.diff(wanted[rows].indptr).astype(np.int64), 20)
        reached[model.name] = round(float(found["recall"].mean()), 2), round(float(found["ndcg"].mean()), 2)
    assert reached == {"popularity": (0.04, 0.02), "co_like": (0.27, 0.21), "ease": (0.26, 0.20)}


@pytest.mark.parametrize("model", [CoLike, ItemKnn, Rp3Beta, Ease, Als], ids=lambda model: model.name)
def test_in_an_ordered_list_newer_likes_count_more_and_at_recency_0_alike(model: type[Baseline]) -> None:
    train = random_likes(40, 15, seed=4)
    ages = train.copy()
    ages.data = np.random.default_rng(5).integers(1, 9, train.nnz).astype(np.float32)
    alike = model(CONFIG.model_copy(update={f"{model.name}_recency": 0.0}))
    fit(alike, train)
    np.testing.assert_array_equal(alike.rank_ordered(ages, 5), alike.rank(train, 5))
    faded = model(CONFIG.model_copy(update={f"{model.name}_recency": 2.0}))
    fit(faded, train)
    weighed = ages.copy()
    weighed.data = weighed.data**-2
    np.testing.assert_array_equal(faded.rank_ordered(ages, 5), faded.rank(weighed, 5))
    assert (faded.rank_ordered(ages, 5) != faded.rank(train, 5)).any()
    assert faded.recency == 2.0


@pytest.mark.parametrize("model", [Popularity, LightGcn], ids=lambda model: model.name)
def test_some_take_every_list_as_a_set(model: type[Baseline]) -> None:
    assert model(CONFIG).recency is None
