"""The like graph says who likes what, and who may learn from it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import BundleError, InputError, LakeError
from tunegraph_pipeline.graph import like_graph
from tunegraph_pipeline.graph.like_graph import (
    LikeGraph,
    build_like_graph,
    changed_likes,
    spare_the_only,
    update_like_graph,
)
from tunegraph_pipeline.graph.split import EARLY_STOPPING, GATE, TRAIN
from tunegraph_pipeline.lake.arrays import ArrayFolder, write_arrays

names = st.sampled_from("abcdefgh")
pairs = st.sets(st.tuples(names, names), min_size=1, max_size=40)


def graph_of(
    likes: set[tuple[str, str]] | list[tuple[str, str]],
    tracks: str = "hgfedcba",
    *,
    held_out: float = 0.3,
    calibration_share: float = 0.0,
    canonical: list[int] | None = None,
) -> LikeGraph:
    frame = pl.DataFrame(list(likes), schema={"user_id": pl.String, "track_id": pl.String}, orient="row")
    return build_like_graph(
        frame,
        pl.Series("track_id", list(tracks)),
        split_key="key",
        held_out=held_out,
        calibration_share=calibration_share,
        canonical=None if canonical is None else np.array(canonical, dtype=np.int32),
    )


def long_graph(n_users: int = 60, n_tracks: int = 100, **options: float) -> LikeGraph:
    frame = pl.DataFrame({"user_id": [f"u{i}" for i in range(n_users)]}).join(
        pl.DataFrame({"track_id": [f"t{i}" for i in range(n_tracks)]}), how="cross"
    )
    settings = {"held_out": 0.1, "calibration_share": 0.2} | options
    return build_like_graph(
        frame,
        frame["track_id"].unique().sort(),
        split_key="key",
        held_out=settings["held_out"],
        calibration_share=settings["calibration_share"],
    )


@settings(deadline=None)
@given(pairs)
def test_the_graph_holds_every_like_once_users_and_tracks_in_order(likes: set[tuple[str, str]]) -> None:
    graph = graph_of(likes)
    users = graph.user_ids.tolist()

    assert users == sorted({user for user, _ in likes})
    rows = [graph.indices[a:b].tolist() for a, b in zip(graph.indptr, graph.indptr[1:], strict=False)]
    assert all(row == sorted(row) for row in rows)
    assert {(users[u], "hgfedcba"[t]) for u, row in enumerate(rows) for t in row} == likes
    assert graph.matrix().toarray().sum() == len(likes)
    assert graph.track_degrees().tolist() == [sum(t == track for _, t in likes) for track in "hgfedcba"]


@settings(deadline=None)
@given(pairs, st.permutations(range(8)))
def test_neither_the_order_of_rows_nor_of_the_id_map_moves_a_fold(
    likes: set[tuple[str, str]], order: list[int]
) -> None:
    def folds(graph: LikeGraph, tracks: str) -> dict[tuple[str, str], int]:
        user = np.repeat(graph.user_ids.tolist(), np.diff(graph.indptr))
        return {(u, tracks[t]): int(f) for u, t, f in zip(user, graph.indices, graph.fold, strict=True)}

    tracks = "".join("abcdefgh"[i] for i in order)
    assert folds(graph_of(sorted(likes)), "hgfedcba") == folds(
        graph_of(sorted(likes, reverse=True), tracks), tracks
    )


def test_the_folds_part_the_likes() -> None:
    graph = long_graph(calibration_share=0.0)
    parts = [graph.fold_matrix(fold) for fold in (TRAIN, EARLY_STOPPING, GATE)]

    assert all(part.nnz > 100 for part in parts)
    assert np.array_equal(sum(part.toarray() for part in parts), graph.matrix().toarray())
    assert np.array_equal(graph.training_matrix().toarray(), parts[0].toarray())


def test_nothing_of_a_calibration_user_is_trained_on_and_rows_stay_in_place() -> None:
    graph = long_graph()
    training = graph.training_matrix()

    assert 0 < graph.judge.sum() < graph.calibration.sum() < graph.n_users
    assert not (graph.judge & ~graph.calibration).any()
    assert training.shape == (graph.n_users, graph.n_tracks)
    assert np.array_equal(np.diff(training.indptr) == 0, graph.calibration)


def test_a_short_list_trains_nobody_but_stays_in_the_graph() -> None:
    graph = graph_of([("a", "a"), ("a", "b"), ("b", "a")], held_out=0.0)

    assert graph.training_matrix(min_likes=2).toarray().sum(axis=1).tolist() == [2, 0]
    assert graph.matrix().toarray().sum(axis=1).tolist() == [2, 1]


def test_a_long_list_is_cut_to_a_choice_that_hardly_changes_as_it_grows() -> None:
    before, after = long_graph(n_tracks=99), long_graph(n_tracks=100)
    cut = before.training_matrix(max_likes=20)

    lengths = np.diff(cut.indptr)
    assert set(lengths.tolist()) == {0, 20}
    assert np.array_equal(cut.toarray(), before.training_matrix(max_likes=20).toarray())
    assert (cut.multiply(before.fold_matrix(TRAIN)) != cut).nnz == 0
    assert len({tuple(row.indices) for row in cut if row.nnz}) > 1  # each user has a choice of their own
    # "t99" sorts last, so the other tracks keep their index.
    kept = cut.toarray() * after.training_matrix(max_likes=20).toarray()[:, :99]
    assert (kept.sum(axis=1) >= lengths - 1).all()


def test_lists_are_shortened_to_a_choice_that_keeps_what_it_knows_of_each_like() -> None:
    before, after = long_graph(n_tracks=99), long_graph(n_tracks=100)
    short = before.shortened(20)

    assert before.shortened(99) is before
    assert before.shortened(None) is before
    assert set(np.diff(short.indptr).tolist()) == {20}
    folds = csr_matrix((short.fold + 1, short.indices, short.indptr), shape=(60, 99)).toarray()
    whole = csr_matrix((before.fold + 1, before.indices, before.indptr), shape=(60, 99)).toarray()
    assert np.array_equal(folds, np.where(folds > 0, whole, 0))
    later = after.shortened(20).matrix().toarray()[:, :99]
    assert ((folds > 0) * later).sum(axis=1).min() >= 19  # "t99" sorts last


def test_more_users_than_a_graph_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(like_graph, "_MOST_USERS", 2)
    graph_of([("a", "a"), ("b", "b")])
    with pytest.raises(LakeError, match=r"a like graph holds at most 2 users, and there are 3"):
        graph_of([("a", "a"), ("b", "b"), ("c", "c")])


def test_the_graph_comes_back_from_its_folder(tmp_path: Path) -> None:
    graph = long_graph()
    write_arrays(tmp_path / "graph", graph.arrays(), {})
    back = LikeGraph.from_arrays(ArrayFolder.open(tmp_path / "graph"))

    assert back.user_ids.tolist() == graph.user_ids.tolist()
    assert back.n_tracks == graph.n_tracks
    for name in ("indptr", "indices", "fold", "calibration", "judge", "canonical"):
        assert np.array_equal(getattr(back, name), getattr(graph, name))
    assert np.array_equal(back.training_matrix().toarray(), graph.training_matrix().toarray())


def test_a_graph_whose_arrays_contradict_each_other_is_refused(tmp_path: Path) -> None:
    graph = long_graph()
    write_arrays(tmp_path / "graph", {**graph.arrays(), "fold": graph.fold[:-1]}, {})
    with pytest.raises(BundleError, match=r"fold\.npy is \|i1 of shape .*, a like graph needs \|i1 of"):
        LikeGraph.from_arrays(ArrayFolder.open(tmp_path / "graph"))


def test_likes_of_any_id_of_a_recording_go_to_the_first_once() -> None:
    # b is the first track, d and a are other ids of it.
    likes = [("u", "a"), ("u", "c"), ("v", "b"), ("w", "a"), ("w", "b"), ("w", "d")]
    graph = graph_of(likes, "bcda", canonical=[0, 1, 0, 0])
    assert graph.user_ids.tolist() == ["u", "v", "w"]
    assert graph.matrix().toarray().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert graph.track_degrees().tolist() == [3, 1, 0, 0]
    assert graph.canonical.tolist() == [0, 1, 0, 0]
    assert graph.n_tracks == 4


@given(pairs, st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_merging_is_building_from_relabelled_likes(likes: set[tuple[str, str]], draws: list[int]) -> None:
    tracks = "hgfedcba"
    canonical: list[int] = []
    for track, draw in enumerate(draws):
        canonical.append(canonical[draw] if draw < track else track)
    name = dict(zip(tracks, (tracks[first] for first in canonical), strict=True))
    merged = graph_of(likes, canonical=canonical)
    relabelled = graph_of({(user, name[track]) for user, track in likes})
    for part in ("indptr", "indices", "fold", "calibration", "judge"):
        np.testing.assert_array_equal(getattr(merged, part), getattr(relabelled, part))
    assert merged.user_ids.tolist() == relabelled.user_ids.tolist()
    apart, before = graph_of(likes, canonical=list(range(8))), graph_of(likes)
    for part in ("indptr", "indices", "fold", "canonical"):
        np.testing.assert_array_equal(getattr(apart, part), getattr(before, part))


@pytest.mark.parametrize(
    ("likes", "message"),
    [
        ([("a", "a"), ("b", "x")], "1 current like.* id map lacks"),
        ([("a", "a"), ("b", "a"), ("a", "a")], "1 current like.* there twice"),
        ([("a", None)], "without a user or a track"),
    ],
)
def test_likes_that_do_not_fit_are_refused(likes: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(LakeError, match=message):
        graph_of(likes)


@pytest.mark.parametrize("options", [{"min_likes": 0}, {"max_likes": 0}])
def test_a_limit_that_is_none_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="has to be at least 1"):
        graph_of([("a", "a")]).training_matrix(**options)


def test_real_playlists_make_a_graph_of_every_like(shared_data: Path) -> None:
    likes = pl.read_parquet(shared_data / "playlists2018" / "train.parquet").select(
        pl.col("playlist_id").cast(pl.String).alias("user_id"), pl.col("track_id").cast(pl.String)
    )
    tracks = likes["track_id"].unique().sort()
    graph = build_like_graph(likes, tracks, split_key="key", held_out=0.02, calibration_share=0.02)

    assert len(graph.indices) == len(likes)
    assert graph.n_users == likes["user_id"].n_unique()
    assert abs((graph.fold != TRAIN).mean() - 0.02) < 0.001
    assert abs(graph.calibration.mean() - 0.02) < 0.003


def same(left: LikeGraph, right: LikeGraph) -> None:
    for (name, one), other in zip(left.arrays().items(), right.arrays().values(), strict=True):
        if isinstance(one, np.ndarray):
            assert isinstance(other, np.ndarray)
            assert one.dtype == other.dtype, name
            assert np.array_equal(one, other), name
        else:
            assert one.tolist() == other.tolist()


@settings(deadline=None)
@given(pairs, pairs, st.integers(0, 3), st.integers(1, 9))
def test_a_graph_whose_changed_lists_are_replaced_is_that_of_all_likes(
    old: set[tuple[str, str]], new: set[tuple[str, str]], grown: int, a_block: int
) -> None:
    tracks = "hgfedcba"
    later = tracks + "xyz"[:grown]
    new |= {("a", track) for track in later[8:]}
    canonical = [0, 0, *range(2, len(later))]
    changed = {user for user, _ in old ^ new}
    options = {"held_out": 0.3, "calibration_share": 0.4}
    before = graph_of(old, tracks, canonical=canonical[:8], **options)
    now = graph_of({pair for pair in new if pair[0] in changed}, later, canonical=canonical, **options)
    after = graph_of(new, later, canonical=canonical, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(like_graph, "_LIKES_A_BLOCK", a_block)
        updated = update_like_graph(before, pl.Series(sorted(changed), dtype=pl.String), now)

    same(updated, after)
    likes, change = changed_likes(before, updated)
    assert (np.diff(change.indptr) > 0).all()
    assert set(change.data) <= {-1, 1}
    A = np.zeros(change.shape[1])
    A[:8] = before.track_degrees()
    assert (A + np.asarray(change.sum(axis=0)).ravel()).tolist() == after.track_degrees().tolist()
    assert (likes + change).toarray().min(initial=0) >= 0
    assert (likes + change).toarray().max(initial=0) <= 1


def test_the_split_never_takes_the_only_users_or_likes_there_are() -> None:
    likes = [(user, track) for user in "uv" for track in "ab"]
    all_set_aside = graph_of(likes, held_out=0.0, calibration_share=0.999)
    assert all_set_aside.calibration.all()
    spared = spare_the_only(all_set_aside)
    assert not spared.calibration.any()
    assert not spared.judge.any()
    assert np.array_equal(spared.fold, all_set_aside.fold)
    all_held_out = graph_of(likes, held_out=0.999)
    assert not all_held_out.teaches
    spared = spare_the_only(all_held_out)
    assert (spared.fold == TRAIN).all()
    assert spared.training_matrix().nnz == 4


@given(pairs, st.sampled_from([0.0, 0.3, 0.9]), st.sampled_from([0.0, 0.5]))
def test_the_split_is_spared_only_where_nothing_could_be_learnt_from_what_it_leaves(
    likes: set[tuple[str, str]], held_out: float, share: float
) -> None:
    graph = graph_of(likes, held_out=held_out, calibration_share=share)
    spared = spare_the_only(graph)
    nothing_held_out = graph_of(likes, held_out=0.0)
    assert spared.teaches == nothing_held_out.teaches
    assert (spared is graph) == (graph.teaches or not nothing_held_out.teaches)
    trained = graph.training_matrix().toarray()
    assert graph.teaches == bool((trained.sum(axis=1) >= 2).any() and (trained.sum(axis=0) >= 2).any())
