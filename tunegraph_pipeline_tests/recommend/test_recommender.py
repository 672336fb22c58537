import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.ranking import Rankings
from tunegraph_pipeline.recommend.recommender import Query, Reason, Recommendation, Recommender, SongView

Golden = Callable[..., BundleContent]


@pytest.fixture
def recommender(golden_bundle: Bundle) -> Recommender:
    return Recommender(golden_bundle)


def test_a_recommendation_names_the_song_and_the_liked_song_behind_it(recommender: Recommender) -> None:
    answer = recommender.recommend(["a", "b"], k=1)
    score = answer.items[0].score
    assert score == pytest.approx(4.4 / 5**0.5 + 1.225)
    assert answer.items == [
        Recommendation(
            SongView(
                track_id="c",
                track_idx=2,
                name="Sång C",
                artists="Cem, Dee",
                image_url="https://example.org/c.jpg",
                preview_url="https://example.org/c.mp3",
                popularity=7,
                explicit=None,
                x=0.5,
                y=0.5,
                genres=("Jazz", "Hip-Hop"),
            ),
            score,
            (Reason("b", "Song B", "Ben", 0), Reason("a", "Song A", "Ann", 0)),
        )
    ]
    assert (answer.unknown, answer.degraded) == ([], None)


def test_unknown_ids_are_reported_once_each_and_do_not_change_the_answer(recommender: Recommender) -> None:
    answer = recommender.recommend(["x", "a", "y" * 10_000, "b", "x"])
    assert answer.unknown == ["x", "y" * 10_000]
    assert answer.items == recommender.recommend(["a", "b"]).items
    assert answer.degraded is None


def test_an_empty_list_gets_popular_songs_and_is_told_so(recommender: Recommender) -> None:
    answer = recommender.recommend([], k=2)
    assert [item.song.track_id for item in answer.items] == ["b", "c"]
    assert [item.reasons for item in answer.items] == [(), ()]
    assert answer.degraded == "no liked songs were given, so these are the most popular ones"


def test_a_wholly_unknown_list_gets_popular_songs_and_is_told_so(recommender: Recommender) -> None:
    answer = recommender.recommend(["x", "y"], k=2)
    assert [item.song.track_id for item in answer.items] == ["b", "c"]
    assert answer.unknown == ["x", "y"]
    assert answer.degraded == "no given song is known, so these are the most popular ones"


def test_excluded_songs_are_left_out_known_or_not(recommender: Recommender) -> None:
    answer = recommender.recommend(["a", "b"], exclude=["c", "nobody knows"])
    assert [item.song.track_id for item in answer.items] == ["d"]
    popular = recommender.recommend([], exclude=["b"])
    assert [item.song.track_id for item in popular.items] == ["c", "d", "a"]


def test_an_empty_answer_says_why(recommender: Recommender) -> None:
    for answer in (
        recommender.recommend(["a", "b", "c", "d"]),
        recommender.recommend([], exclude=["a", "b", "c", "d"]),
    ):
        assert answer.items == []
        assert answer.degraded is not None
        assert answer.degraded.startswith("no song is left: all that may be recommended are in the list")


def test_a_stored_user_is_answered_as_their_list(recommender: Recommender) -> None:
    assert recommender.recommend_user("ann", 5) == recommender.recommend(["a", "b"], 5)


def test_a_stored_user_without_likes_gets_popular_songs_and_is_told_so(recommender: Recommender) -> None:
    answer = recommender.recommend_user("no likes")
    assert [item.song.track_id for item in answer.items] == [
        "b",
        "c",
        "d",
    ]  # and not a: turned down
    assert answer.degraded is not None
    assert "likes no song" in answer.degraded


def test_an_unknown_user_and_an_unknown_track_are_named(recommender: Recommender) -> None:
    with pytest.raises(InputError, match="user 'bob' is not in bundle v1"):
        recommender.recommend_user("bob")
    with pytest.raises(InputError, match="track 'x' is not in bundle v1"):
        recommender.similar("x")
    with pytest.raises(InputError) as error:
        recommender.similar("x" * 10_000)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("k", [0, -1])
def test_less_than_one_song_cannot_be_asked_for(recommender: Recommender, k: int) -> None:
    for ask in (
        lambda: recommender.recommend(["a"], k),
        lambda: recommender.recommend_user("ann", k),
        lambda: recommender.similar("a", k),
        lambda: recommender.rank_everyone(k),
    ):
        with pytest.raises(InputError, match=f"-k is {k}"):
            ask()


def test_a_track_that_may_not_be_recommended_is_in_no_answer(golden: Golden, tmp_path: Path) -> None:
    # Nobody likes c, and nothing but its flag keeps it out of first place.
    flags, likes = np.array([True, True, False, True]), np.array([5, 9, 0, 7], dtype=np.int32)
    write_bundle(tmp_path / "v1", dataclasses.replace(golden(), recommendable=flags, popularity=likes))
    recommender = Recommender(Bundle.open(tmp_path / "v1"))
    assert [item.song.track_id for item in recommender.recommend(["a", "b"]).items] == ["d"]
    assert [item.song.track_id for item in recommender.recommend([]).items] == ["b", "d", "a"]
    assert [item.song.track_id for item in recommender.similar("a")] == ["d", "b"]
    # It may still be liked, and asked about.
    assert [item.song.track_id for item in recommender.recommend(["c"]).items] == ["b", "a", "d"]
    assert [item.song.track_id for item in recommender.similar("c")] == ["b", "a", "d"]


def test_a_track_liked_by_nobody_is_recommended_where_it_is_recommendable(
    golden: Golden, tmp_path: Path
) -> None:
    likes = np.array([5, 9, 0, 7], dtype=np.int32)
    write_bundle(tmp_path / "v1", dataclasses.replace(golden(), popularity=likes))
    recommender = Recommender(Bundle.open(tmp_path / "v1"))
    assert [item.song.track_id for item in recommender.recommend(["a", "b"]).items] == ["c", "d"]


def test_similar_songs_come_with_their_cosine(recommender: Recommender) -> None:
    found = recommender.similar("a", k=2)
    assert [(song.song.track_id, song.song.name) for song in found] == [("d", ""), ("c", "Sång C")]
    assert [song.cosine for song in found] == pytest.approx([0.8, 0.6])
    assert [song.probability for song in found] == [None, None]


def test_a_calibrated_bundle_says_how_likely_similar_songs_are_neighbours(
    golden: Golden, tmp_path: Path
) -> None:
    content = golden()
    calibration = {"kind": "logistic", "coefficients": {"intercept": -1.0, "cosine": 2.0}}
    content.facts["calibration"] = calibration
    write_bundle(tmp_path / "v1", content)
    found = Recommender(Bundle.open(tmp_path / "v1")).similar("a", k=2)
    expected = [1 / (1 + np.exp(1 - 2 * cosine)) for cosine in (0.8, 0.6)]
    assert [song.probability for song in found] == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def two_ids(golden: Golden, tmp_path: Path) -> Recommender:
    """The golden songs and "e", another id of "b"."""
    content = golden()
    again: dict[str, Any] = {
        name: np.concatenate([getattr(content, name), getattr(content, name)[1:2]])
        for name in ("embeddings", "pooling_weight", "prior", "years")
    }
    again["features"] = np.concatenate([content.features, content.features[:, 1:2]], axis=1)
    for name in ("names", "artists", "image_urls", "preview_urls", "isrcs"):
        again[name] = [*getattr(content, name), ""]
    write_bundle(
        tmp_path / "v1",
        dataclasses.replace(
            content,
            **again,
            track_ids=[*content.track_ids, "e"],
            popularity=np.append(content.popularity, np.int32(0)),
            recommendable=np.append(content.recommendable, False),
            neighbour_indptr=np.append(content.neighbour_indptr, 3),
            canonical=np.array([0, 1, 2, 3, 1], dtype=np.int32),
        ),
    )
    return Recommender(Bundle.open(tmp_path / "v1"))


def test_every_id_of_a_recording_gets_the_same_answer(two_ids: Recommender, recommender: Recommender) -> None:
    by_its_own = recommender.recommend(["a", "b"])
    for likes in (["a", "b"], ["a", "e"], ["e", "a", "b", "e"]):
        assert two_ids.recommend(likes) == by_its_own
    assert two_ids.similar("e") == two_ids.similar("b") == recommender.similar("b")
    assert two_ids.recommend(["b"]) == two_ids.recommend(["e"]) == two_ids.recommend(["b", "e"])


def test_a_recording_is_in_no_answer_twice_nor_where_it_is_liked_or_excluded(two_ids: Recommender) -> None:
    assert [item.song.track_id for item in two_ids.recommend(["e"]).items] == ["c", "a", "d"]
    assert [item.song.track_id for item in two_ids.recommend([]).items] == ["b", "c", "d", "a"]
    assert [item.song.track_id for item in two_ids.recommend([], exclude=["e"]).items] == ["c", "d", "a"]
    assert [item.song.track_id for item in two_ids.recommend(["a"], exclude=["e"]).items] == ["d", "c"]
    assert [item.song.track_id for item in two_ids.similar("a")] == ["d", "c", "b"]
    assert "b" not in {item.song.track_id for item in two_ids.recommend_user("ann").items}


# ---- options, batches, explanations


def test_options_out_of_their_range_are_named(recommender: Recommender) -> None:
    for options, complaint in (
        ({"familiarity": 1.1}, "familiarity is 1.1; it goes from 0 to 1"),
        ({"diversity": float("nan")}, "diversity is nan"),
        ({"max_per_artist": 0}, "max_per_artist is 0; ask for at least one song"),
    ):
        with pytest.raises(InputError, match=complaint):
            recommender.recommend(["a"], **options)


def test_a_disliked_song_is_in_no_answer_and_an_unknown_one_is_reported(recommender: Recommender) -> None:
    answer = recommender.recommend(["b"], dislikes=["c", "x"], exclude=["y", "x"])
    assert "c" not in {item.song.track_id for item in answer.items}
    assert answer.unknown == ["x", "y"]


def test_a_stored_user_who_likes_in_this_query_what_they_turned_down_is_believed(
    recommender: Recommender,
) -> None:
    (answer,) = recommender.answer([Query(["a"], user_id="no likes")])
    assert answer == recommender.recommend(["a"])
    (with_more,) = recommender.answer([Query(["b"], user_id="no likes")])
    assert with_more == recommender.recommend(["b"], dislikes=["a"])


def test_a_batch_answers_each_query_as_alone_and_an_error_is_its_own(recommender: Recommender) -> None:
    queries = [
        Query(["a", "b"], k=1),
        Query(user_id="bob"),
        Query([], k=2),
        Query(["a"], k=0),
        Query(user_id="ann", familiarity=0.1, diversity=0.4, max_per_artist=1),
        Query(["b"], dislikes=["a"], explicit=False),
    ]
    answers = recommender.answer(queries)
    assert isinstance(answers[1], InputError)
    assert isinstance(answers[3], InputError)
    for query, answer in zip(queries, answers, strict=True):
        if not isinstance(answer, InputError):
            assert recommender.answer([query]) == [answer]
    assert recommender.answer([]) == []


def test_explicit_songs_are_left_out_on_request_and_marked_otherwise(golden: Golden, tmp_path: Path) -> None:
    explicit = np.array([0, -1, 1, -1], dtype=np.int8)
    write_bundle(tmp_path / "v1", dataclasses.replace(golden(), explicit=explicit))
    recommender = Recommender(Bundle.open(tmp_path / "v1"))
    answer = recommender.recommend(["a", "b"])
    assert [(item.song.track_id, item.song.explicit) for item in answer.items] == [("c", True), ("d", None)]
    clean = recommender.recommend(["a", "b"], explicit=False)
    assert [item.song.track_id for item in clean.items] == ["d"]
    assert "c" not in {item.song.track_id for item in recommender.recommend([], explicit=False).items}


def test_blocked_songs_and_artists_are_in_no_answer(golden: Golden, tmp_path: Path) -> None:
    makers = Artists.of_lists([["1"], ["2"], ["3", "4"], []], [["Ann"], ["Ben"], ["Cem", "DEE"], []])
    write_bundle(tmp_path / "v1", dataclasses.replace(golden(), by=makers))
    bundle = Bundle.open(tmp_path / "v1")
    for blocked in (["dee"], ["4"], ["Cem"]):
        recommender = Recommender(bundle, blocked_artists=[*blocked, "nobody"])
        assert [item.song.track_id for item in recommender.recommend(["a", "b"]).items] == ["d"]
        assert "c" not in {item.song.track_id for item in recommender.recommend([]).items}
        assert "c" not in {item.song.track_id for item in recommender.similar("a")}
        assert recommender.unknown_blocked == ["nobody"]
    recommender = Recommender(bundle, blocked_tracks=["d", "x"])
    assert [item.song.track_id for item in recommender.recommend(["a", "b"]).items] == ["c"]
    assert recommender.unknown_blocked == ["x"]
    assert [item.song.track_id for item in recommender.recommend(["d"]).items]  # a like is no recommendation


def test_an_explanation_says_what_every_liked_song_adds(recommender: Recommender) -> None:
    # b and a speak for c as worked out in test_ranking; the prior of c is 0.1.
    why = recommender.explain(["a", "x", "b"], "c")
    assert [part.track_id for part in why.contributions] == ["b", "a"]
    of_b, of_a = 2 * 2 * 0.8 / 5**0.5 + 1.5 * 0.25, 2 * 0.6 / 5**0.5 + 1.5 * 0.5
    assert [part.contribution for part in why.contributions] == pytest.approx([of_b, of_a])
    assert [part.cosine for part in why.contributions] == pytest.approx([0.8, 0.6])
    assert why.prior == pytest.approx(0.1)
    assert why.score == pytest.approx(of_a + of_b + 0.1)
    assert (why.track.name, why.track.popularity, why.unknown) == ("Sång C", 7, ["x"])
    assert recommender.explain([], "d").contributions == []
    # What has a place among the liked is explained too.
    assert recommender.explain(["a", "b"], "a").score == pytest.approx(2 * 1 / 5**0.5)
    with pytest.raises(InputError, match="track 'x'"):
        recommender.explain(["a"], "x")


def test_a_song_is_described_by_any_of_its_ids(two_ids: Recommender) -> None:
    found = two_ids.track("e")
    assert found is not None
    assert (found.track_id, found.name, found.popularity) == ("b", "Song B", 9)
    assert two_ids.track("x") is None


def test_everyone_is_ranked_as_their_own_query(random_bundle: Callable[..., Bundle]) -> None:
    bundle = random_bundle(6)
    recommender = Recommender(bundle)
    blocks = list(recommender.rank_everyone(5, users_a_block=4))
    assert [len(block.indices) for block in blocks[:-1]] == [4] * (len(blocks) - 1)
    everyone = Rankings(*map(np.concatenate, zip(*blocks, strict=True)))
    assert len(everyone.indices) == bundle.n_users
    for user in range(bundle.n_users):
        items = recommender.recommend_user(bundle.users[user], 5).items
        found = [track for track in everyone.indices[user].tolist() if track >= 0]
        assert found == [item.song.track_idx for item in items]
        assert everyone.scores[user, : len(found)].tolist() == [item.score for item in items]
        assert not set(found) & set(bundle.user_dislikes(user).tolist())


def test_answering_loads_numpy_and_nothing_of_the_machinery_that_trains(golden_bundle: Bundle) -> None:
    program = (
        "import json, sys; from pathlib import Path;"
        "from tunegraph_pipeline.recommend.bundle import Bundle;"
        "from tunegraph_pipeline.recommend.recommender import Recommender;"
        f"items = Recommender(Bundle.open(Path({str(golden_bundle.folder)!r}))).recommend(['a']).items;"
        "print(json.dumps([items[0].song.track_id, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, loaded = json.loads(run.stdout)
    assert first == "d"
    third_party = set(loaded) - set(sys.stdlib_module_names) - {"__main__", "_virtualenv"}
    heavy = {"torch", "polars", "pyarrow", "scipy", "pandas", "dagster", "pydantic", "duckdb", "sklearn"}
    assert not heavy & set(loaded)
    assert {"numpy", "tunegraph_pipeline"} <= third_party


def test_links_of_an_earlier_bundle_lead_to_the_web_alone(tmp_path: Path, golden: Golden) -> None:
    covers = ["javascript:alert(1)", "file:///etc/passwd", "HTTPS://a.example/c.jpg", "httpsx://a"]
    previews = ["data:text/html,x", " https://a.example", "http://a.example/c.mp3", ""]
    write_bundle(tmp_path / "v1", dataclasses.replace(golden(), image_urls=covers, preview_urls=previews))
    songs = Recommender(Bundle.open(tmp_path / "v1")).describe(np.arange(4, dtype=np.int32))
    assert [song.image_url for song in songs] == ["", "", "HTTPS://a.example/c.jpg", ""]
    assert [song.preview_url for song in songs] == ["", "", "http://a.example/c.mp3", ""]
