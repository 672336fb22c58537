"""The neighbour probability in worlds where the truth is known."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.recommend.calibration import neighbour_probability
from tunegraph_pipeline.training.calibration import MAX_LIST, Calibration, calibrate

N_TRACKS, N_GENRES = 400, 8
GENRE = np.arange(N_TRACKS) % N_GENRES
POPULARITY = (2000 / (1 + np.arange(N_TRACKS) // N_GENRES)).astype(np.int64)


def genre_embeddings(seed: int = 0, noise: float = 0.4) -> NDArray[np.float32]:
    """Tracks of a genre point the same way, but for noise."""
    rng = np.random.default_rng(seed)
    raw = np.eye(N_GENRES)[GENRE] + noise * rng.standard_normal((N_TRACKS, N_GENRES))
    unit: NDArray[np.float32] = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return unit


def panel(n_users: int, seed: int, *, by_genre: bool = True) -> csr_matrix:
    """Users who like 8 tracks, the popular ones more often, all of one genre or of any."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((n_users, N_TRACKS), dtype=np.float32)
    for user in range(n_users):
        weight = POPULARITY * (user % N_GENRES == GENRE) if by_genre else POPULARITY
        dense[user, rng.choice(N_TRACKS, 8, replace=False, p=weight / weight.sum())] = 1
    return csr_matrix(dense)


@pytest.fixture(scope="module")
def informative() -> Calibration:
    return calibrate(genre_embeddings(), POPULARITY, panel(100, 1), panel(100, 2))


def test_a_cosine_that_knows_the_genre_passes(informative: Calibration) -> None:
    assert informative.status == "fitted"
    assert informative.passes
    served, reference = informative.judgements[informative.served], informative.judgements["popularity"]
    assert served.skill > reference.skill + 0.05
    assert served.auc > max(0.85, reference.auc + 0.05)


def test_the_probability_holds_overall_and_in_every_band_of_popularity(informative: Calibration) -> None:
    base_rate = informative.judged_neighbours / informative.judged_pairs
    assert informative.judgements[informative.served].calibration_error < 0.2 * base_rate
    assert [band.name for band in informative.bands] == [
        "least popular third",
        "middle third",
        "most popular third",
    ]
    for band in informative.bands:
        assert band.predicted == pytest.approx(band.observed, rel=0.35)
    observed = [band.observed for band in informative.bands]
    assert observed == sorted(observed)


def test_in_every_band_of_popularity_the_cosine_knows_more_than_popularity(informative: Calibration) -> None:
    for band in informative.bands:
        assert set(band.judgements) == {informative.served, "popularity"}
        served, popularity = band.judgements[informative.served], band.judgements["popularity"]
        assert served.auc > popularity.auc + 0.1
        assert served.skill > popularity.skill
        assert served.calibration_error == pytest.approx(band.calibration_error, abs=0.01)


def test_the_bins_hold_every_judged_pair_once(informative: Calibration) -> None:
    for points in (informative.reliability, *(band.reliability for band in informative.bands)):
        assert [point.predicted for point in points] == sorted(point.predicted for point in points)
    assert sum(point.n_pairs for point in informative.reliability) == informative.judged_pairs
    in_bands = sum(point.n_pairs for band in informative.bands for point in band.reliability)
    assert in_bands == informative.judged_pairs
    hits = sum(point.observed * point.n_pairs for point in informative.reliability)
    assert hits == pytest.approx(informative.judged_neighbours)


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_or_shuffled_cosine_does_not_pass(seed: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings = genre_embeddings(seed)
    for meaningless in (np.tile(embeddings[:1], (N_TRACKS, 1)), embeddings[rng.permutation(N_TRACKS)]):
        found = calibrate(meaningless, POPULARITY, panel(100, 10 + seed), panel(100, 20 + seed), seed=seed)
        assert found.status == "fitted"
        assert not found.passes
        assert found.facts() is None


def test_a_cosine_that_restates_popularity_does_not_pass() -> None:
    # The angle to the most popular track grows as popularity falls, and taste is the same for all.
    angle = np.log(POPULARITY.max() / POPULARITY) / 8
    embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    lists = [panel(100, seed, by_genre=False) for seed in (1, 2)]
    found = calibrate(embeddings, POPULARITY, lists[0], lists[1])
    assert found.judgements["cosine"].auc > 0.55
    assert not found.passes


def test_too_few_users_are_said_to_be_too_few() -> None:
    for n_users in (0, 1, 6):
        found = calibrate(genre_embeddings(), POPULARITY, panel(50, 1), panel(n_users, 2))
        assert found.status.startswith("not fitted: too few users are set aside")
        assert (found.passes, found.coefficients, found.judgements) == (False, {}, {})
        assert found.facts() is None


def test_a_panel_where_everybody_is_a_neighbour_has_nothing_to_tell_apart() -> None:
    everyone_alike = csr_matrix(np.ones((10, 40), dtype=np.float32))
    found = calibrate(genre_embeddings()[:40], POPULARITY[:40], everyone_alike, everyone_alike)
    assert found.status.startswith("not fitted")
    assert found.judged_neighbours == found.judged_pairs == 40 * 39 // 2


def test_a_panel_too_small_to_halve_is_too_small() -> None:
    # Two users each: pairs enough, but half a panel is one user, all of whose pairs are neighbours.
    lists = csr_matrix(np.repeat(np.eye(2, dtype=np.float32), 40, axis=1))
    found = calibrate(genre_embeddings()[:80], POPULARITY[:80], lists, lists)
    assert found.status.startswith("not fitted")
    assert found.status.endswith("needed in each half of the first")


def test_a_collector_counts_with_a_part_of_their_list() -> None:
    lists = panel(100, 1).toarray()
    lists[0] = 1
    found = calibrate(genre_embeddings(), POPULARITY, csr_matrix(lists), panel(100, 2))
    plain = calibrate(genre_embeddings(), POPULARITY, panel(100, 1), panel(100, 2))
    assert found.fit_neighbours <= plain.fit_neighbours + MAX_LIST * (MAX_LIST - 1) // 2
    assert found.fit_neighbours > plain.fit_neighbours + MAX_LIST


def test_both_panels_have_the_same_number_of_users() -> None:
    found = calibrate(genre_embeddings(), POPULARITY, panel(160, 1), panel(100, 2))
    assert found.panel_users == 100
    assert found.fit_neighbours < 1.2 * found.judged_neighbours


def test_the_same_seed_gives_the_same_result() -> None:
    one, other = (
        calibrate(genre_embeddings(), POPULARITY, panel(60, 1), panel(60, 2), seed=3) for _ in range(2)
    )
    assert one == other


def test_a_large_panel_is_judged_on_a_draw_of_its_tracks_at_the_same_rate(
    monkeypatch: pytest.MonkeyPatch, informative: Calibration
) -> None:
    monkeypatch.setattr("tunegraph_pipeline.training.calibration.MAX_TRACKS", 150)
    monkeypatch.setattr("tunegraph_pipeline.training.calibration.MAX_OTHERS", 3000)
    drawn = calibrate(genre_embeddings(), POPULARITY, panel(100, 1), panel(100, 2))
    assert drawn.judged_pairs == 150 * 149 // 2
    whole_rate = informative.judged_neighbours / informative.judged_pairs
    assert drawn.judged_neighbours / drawn.judged_pairs == pytest.approx(whole_rate, rel=0.4)
    # Others are one in three in the fit, and weighted back: the probability still meets the natural rate.
    for band in drawn.bands[1:]:
        assert band.predicted == pytest.approx(band.observed, rel=0.5)
    assert drawn.passes


def test_what_is_served_is_what_was_judged(informative: Calibration) -> None:
    """The query's own formula, given the coefficients, meets the share of neighbours in a third panel."""
    facts = informative.facts()
    assert facts is not None
    assert json.loads(json.dumps(facts)) == facts
    lists, embeddings = panel(100, 3), genre_embeddings()
    tracks = np.unique(lists.indices)
    i, j = (tracks[side] for side in np.triu_indices(tracks.size, 1))
    cosine = np.einsum("nd,nd->n", embeddings[i], embeddings[j])
    probability = neighbour_probability(facts, cosine, POPULARITY[i], POPULARITY[j])
    neighbours = (lists.T @ lists).toarray()[i, j] > 0
    brier = np.mean((probability - neighbours) ** 2)
    assert brier == pytest.approx(informative.judgements[informative.served].brier, rel=0.1)
    assert probability.mean() == pytest.approx(neighbours.mean(), rel=0.15)


def test_the_report_is_plain_json(informative: Calibration) -> None:
    told = json.loads(json.dumps(asdict(informative)))
    assert told["served"] in told["judgements"]
    assert len(told["bands"]) == 3
    assert asdict(informative)["coefficients"] == told["coefficients"]
