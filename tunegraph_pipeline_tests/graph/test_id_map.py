"""The id map only ever grows at its end."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.graph.id_map import extend_track_ids, id_map_fingerprint

ids = st.text(alphabet="abcé0 ", min_size=1, max_size=3)


def column(*values: str | None) -> pl.Series:
    return pl.Series("track_id", values, dtype=pl.String)


def test_new_tracks_follow_the_known_ones_in_sorted_order() -> None:
    grown = extend_track_ids(column("m", "c"), column("z", "c", "a", "z"))

    assert grown.to_list() == ["m", "c", "a", "z"]
    assert grown.name == "track_id"


@settings(deadline=None)
@given(st.lists(st.lists(ids, max_size=8), max_size=6))
def test_whatever_is_seen_an_index_once_given_stays(history: list[list[str]]) -> None:
    known = column()
    for seen in history:
        grown = extend_track_ids(known, column(*seen))
        assert grown.head(len(known)).equals(known)
        assert set(grown) == set(known) | set(seen)
        assert grown.n_unique() == len(grown)
        known = grown


@settings(deadline=None)
@given(st.lists(ids), st.randoms(use_true_random=False))
def test_the_order_in_which_tracks_are_seen_does_not_matter(seen: list[str], random: object) -> None:
    shuffled = sorted(seen, key=lambda _: random.random())  # type: ignore[attr-defined]

    assert extend_track_ids(column(), column(*seen)).equals(extend_track_ids(column(), column(*shuffled)))


@pytest.mark.parametrize(
    ("known", "seen", "message"),
    [
        (column("a", "b", "a"), column(), "holds 'a' twice"),
        (column("a", None), column(), "track id map has 1 empty"),
        (column("a"), column(None, "b", None), "new track ids has 2 empty"),
    ],
)
def test_a_map_that_cannot_be_trusted_is_refused(known: pl.Series, seen: pl.Series, message: str) -> None:
    with pytest.raises(LakeError, match=message):
        extend_track_ids(known, seen)


def test_the_fingerprint_tells_order_and_boundaries_and_finds_the_beginning_again() -> None:
    ids = pl.Series(["a", "bc", "d"])
    assert id_map_fingerprint(ids[:2]) == id_map_fingerprint(pl.Series(["a", "bc"]))
    others = (pl.Series(["bc", "a"]), pl.Series(["ab", "c"]), pl.Series(["a"]), pl.Series(["a", "bc", ""]))
    assert len({id_map_fingerprint(other) for other in (ids[:2], *others)}) == 5
