"""Keys of many names at once are those of each alone."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.graph.name_keys import exact_keys, song_keys
from tunegraph_pipeline.song_ids import NAME_PREFIX, name_id, name_key

letters = st.sampled_from("abcXYZ 09'`-!&()/é\u00b4\u3042\u30ab\u3099ßŒſΣ.\t\n\x1c\x1f_\u0130\ufb01²")
names = st.one_of(st.text(letters, max_size=8), st.text(max_size=8))


@given(st.lists(st.none() | names, max_size=20))
def test_the_exact_key_of_each_name_is_that_of_the_name_alone(some: list[str | None]) -> None:
    found = exact_keys(pl.Series(some, dtype=pl.String)).to_list()
    # Names are free of the sign that stands between them in one text.
    assert found == [None if one is None else name_key(one.replace("\0", " ")) for one in some]


def keys_of(track_id: str, name: str | None, artists: list[str] | None) -> dict[str, object]:
    schema = pl.Schema({"track_id": pl.String(), "name": pl.String(), "artists": pl.List(pl.String)})
    rows = pl.DataFrame([(track_id, name, artists)], schema, orient="row").with_row_index("track")
    return song_keys(rows).row(0, named=True)


def test_the_keys_of_a_song() -> None:
    found = keys_of("x", "Rock & Röll (feat. Bo) - Remastered", ["Ann ft. Cy", "Dee"])
    assert found == {
        "track": 0,
        "exact": "ann ft cy dee/rock roll feat bo remastered",
        "loose": "ann/rockroll",
        "of_all": "ann bo cy dee/rockroll",
        "credited": "ann bo cy dee",
        "plain": False,
    }
    assert keys_of("x", "Группа крови", ["Кино"])["loose"] == "kino/gruppakrovi"
    assert keys_of("x", "!!!", ["Ann"])["loose"] == "ann/!!!"
    assert keys_of("x", "Home", ["Ann"])["plain"] is True


def test_an_id_that_is_made_of_names_is_its_own_key_and_has_names_without_a_row() -> None:
    track_id = name_id("Áine/Bo", "Home (Mono)")
    assert track_id is not None
    found = keys_of(track_id, None, None)
    assert found["exact"] == track_id.removeprefix(NAME_PREFIX)
    assert found["loose"] == "ainebo/homemono", "its remarks are no longer told from its name"


def test_names_that_name_nothing_have_no_key() -> None:
    for name, artists in (
        ("Home", ["Various Artists"]),
        ("Track 3", ["Ann"]),
        (None, ["Ann"]),
        ("Home", None),
    ):
        found = keys_of("x", name, artists)
        assert (found["exact"], found["loose"], found["of_all"]) == (None, None, None)
