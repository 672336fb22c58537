"""Lists whose order counts: scores by hand, what follows from recency 0, the same answer everywhere."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import BundleError, InputError
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.ranking import QuerySpec, Ranker
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.recommend.conftest import golden_content, random_content

CONTINUATION: dict[str, Any] = {
    "blend": {"embedding": 2.0, "neighbour": 3.0, "length_exponent": 1.0},
    "recency": 1.0,
    "neighbour_recency": 2.0,
    "for_users": False,
}


def continued(content: BundleContent, seed: int | None = None, **other: Any) -> BundleContent:
    """The same with a continuation. ``seed``: and random ages for some of its lists."""
    facts = content.facts | {"continuation": CONTINUATION | other}
    if seed is None:
        return dataclasses.replace(content, facts=facts)
    rng = np.random.default_rng(seed)
    lengths = np.diff(content.user_indptr)
    ages = [
        rng.integers(0, 3, n) if n % 3 == 0 else rng.permutation(n) if n % 3 == 1 else np.zeros(n)
        for n in lengths.tolist()
    ]
    return dataclasses.replace(content, facts=facts, user_ages=np.concatenate([*ages, []]).astype(np.uint16))


def opened(folder: Path, content: BundleContent) -> Recommender:
    write_bundle(folder, content)
    return Recommender(Bundle.open(folder))


@pytest.fixture
def golden_next(tmp_path: Path) -> Recommender:
    return opened(tmp_path / "v1", continued(golden_content()))


def test_the_scores_of_an_ordered_list_are_those_worked_out_on_paper(golden_next: Recommender) -> None:
    # a, then b: a is of age 1. Pooled = 1/2 * 1*(1,0) + 2*(0,1) = (0.5,2), of length sqrt 4.25; a's row
    # counts a quarter.
    # c: 2*(0.6*0.5 + 0.8*2)/sqrt4.25 + 3/2*(0.5/4 + 0.25) + 0.1
    # d: 2*(0.8*0.5 - 0.6*2)/sqrt4.25 + 3/2*(1.0/4) + 0.2
    root = math.sqrt(4.25)
    answer = golden_next.recommend(["a", "b"], mode="continue")
    assert [item.song.track_id for item in answer.items] == ["c", "d"]
    expected = [3.8 / root + 0.6625, -1.6 / root + 0.575]
    np.testing.assert_allclose([item.score for item in answer.items], expected, rtol=1e-6)
    assert [reason.track_id for reason in answer.items[0].reasons] == ["b", "a"]
    why = golden_next.explain(["a", "b"], "c", "continue")
    assert why.score == pytest.approx(expected[0])
    parts = {part.track_id: part.contribution for part in why.contributions}
    assert parts == pytest.approx({"b": 3.2 / root + 0.375, "a": 0.6 / root + 0.1875})
    # One exponent for both parts: at 1 the row of a counts 1/2.
    once = golden_next.recommend(["a", "b"], mode="continue", recency=1.0)
    assert once.items[0].score == pytest.approx(3.8 / root + 0.85)


def test_a_song_is_as_new_as_its_last_place_and_unknown_ones_have_none(golden_next: Recommender) -> None:
    plain = golden_next.recommend(["a", "b"], mode="continue").items
    for likes in (["b", "a", "b"], ["x", "a", "a", "y", "b", "z"]):
        assert golden_next.recommend(likes, mode="continue").items == plain
    assert golden_next.recommend(["b", "a"], mode="continue").items != plain
    assert golden_next.recommend([], mode="continue").degraded is not None


def test_options_of_the_mode_are_checked(golden_next: Recommender) -> None:
    for options, complaint in (
        ({"mode": "next"}, "mode is 'next'; choose one of mix, continue"),
        ({"recency": 1.0}, "recency is an option of mode continue"),
        ({"mode": "mix", "recency": 0.0}, "recency is an option of mode continue"),
        ({"mode": "continue", "recency": -0.1}, "recency is -0.1; it goes from 0 to 10"),
        ({"mode": "continue", "recency": math.nan}, "recency is nan"),
    ):
        with pytest.raises(InputError, match=complaint):
            golden_next.recommend(["a"], **options)
    with pytest.raises(InputError, match="recency is 11"):
        golden_next.explain(["a"], "c", "continue", 11)


def test_songs_of_a_query_are_newer_than_stored_ones(tmp_path: Path) -> None:
    content = dataclasses.replace(continued(golden_content()), user_ages=np.array([1, 0], dtype=np.uint16))
    music = opened(tmp_path / "v1", content)  # ann liked a, then b
    both = music.recommend(["a", "b"], mode="continue").items
    assert music.recommend_user("ann", mode="continue").items == both
    turned = music.recommend(["b", "a"], mode="continue").items
    assert music.answer([Query(["a"], "ann", mode="continue")])[0].items == turned  # type: ignore[union-attr]
    more = music.answer([Query(["d"], "ann", mode="continue")])[0]
    assert more.items == music.recommend(["a", "b", "d"], mode="continue").items  # type: ignore[union-attr]
    assert music.recommend_user("ann").items == music.recommend(["a", "b"]).items


@pytest.mark.parametrize("wrong", [{"recency": math.inf}, {"blend": {"embedding": 1.0}}, {"recency": "much"}])
def test_a_continuation_that_cannot_be_served_is_not_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="continuation is"):
        write_bundle(tmp_path / "v1", continued(golden_content(), **wrong))
    short = dataclasses.replace(golden_content(), user_ages=np.zeros(1, dtype=np.uint16))
    with pytest.raises(BundleError, match="1 ages of 2 likes"):
        write_bundle(tmp_path / "v1", short)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Recommender]:
    """Random bundles some of whose lists have an order, served by it."""
    root, kept = tmp_path_factory.mktemp("ordered"), dict[int, Recommender]()

    def make(seed: int) -> Recommender:
        if seed not in kept:
            content = continued(random_content(seed), seed, for_users=True)
            kept[seed] = opened(root / str(seed), content)
        return kept[seed]

    return make


many = settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(seed=st.integers(0, 3), data=st.data())
def test_with_recency_0_the_order_does_not_matter_and_in_a_mix_never_does(
    ordered: Callable[[int], Recommender], seed: int, data: st.DataObject
) -> None:
    music = ordered(seed)
    ids = music.bundle.track_ids.tolist()
    likes = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=12, unique=True))
    other = data.draw(st.permutations(likes))
    assert music.recommend(likes).items == music.recommend(other).items
    plain = music.recommend(likes, mode="continue", recency=0.0)
    assert plain.items == music.recommend(other, mode="continue", recency=0.0).items
    # Where the blend is that of sets, the answer is that of the set, to the last bit.
    liked, ages = music.bundle.tracks.find(likes), np.arange(len(likes), dtype=np.int32)
    ranker = Ranker(music.bundle)
    ranker.continuation = dataclasses.replace(ranker.continuation, blend=ranker.blend)
    as_set, as_list = ranker.answer([QuerySpec(liked), QuerySpec(liked, ages=ages, recency=0.0)], [10, 10])
    for one, two in zip(as_set, as_list, strict=True):
        np.testing.assert_array_equal(one, two)


@many
@given(seed=st.integers(0, 3), data=st.data())
def test_the_score_is_the_sum_of_its_explanation(
    ordered: Callable[[int], Recommender], seed: int, data: st.DataObject
) -> None:
    music = ordered(seed)
    ids = music.bundle.track_ids.tolist()
    likes = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=12))
    for item in music.recommend(likes, 3, mode="continue").items:
        why = music.explain(likes, item.song.track_id, "continue")
        assert why.score == pytest.approx(item.score, rel=1e-5, abs=1e-6)
        assert why.score == pytest.approx(
            why.prior + sum(part.contribution for part in why.contributions), rel=1e-6, abs=1e-6
        )


@pytest.mark.parametrize("seed", range(4))
def test_everyone_is_ranked_as_their_own_query_and_lists_without_an_order_as_sets(
    ordered: Callable[[int], Recommender], seed: int
) -> None:
    music, bundle = ordered(seed), ordered(seed).bundle
    users = [bundle.user_ids[user] for user in range(bundle.n_users)]
    alone = [music.recommend_user(user, 5) for user in users]
    assert music.answer([Query((), user, 5) for user in users]) == alone
    for size in (1, 7):
        rows = [
            (tracks[tracks >= 0].tolist(), scores[tracks >= 0].tolist())
            for block in music.rank_everyone(5, users_a_block=size)
            for tracks, scores in zip(block.indices, block.scores, strict=True)
        ]
        assert rows == [
            ([item.song.track_idx for item in one.items], [item.score for item in one.items]) for one in alone
        ]
    assert any(bundle.user_order(user) is not None for user in range(bundle.n_users))
    for place, user in enumerate(users):
        mode = "mix" if bundle.user_order(place) is None else "continue"
        assert music.recommend_user(user, 5, mode=mode) == alone[place]  # type: ignore[arg-type]
        assert music.recommend_user(user, 5, mode="continue") == alone[place]
