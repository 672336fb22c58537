"""Recordings, their writings, and the truth about which of these belong together."""

import re
import unicodedata
from datetime import date

import polars as pl
import pytest

from tunegraph_pipeline.simulator.dumps.songs import OTHER_RECORDINGS, OTHER_WRITINGS, Songs, make_songs
from tunegraph_pipeline.song_ids import name_id

START = date(2026, 6, 1)


@pytest.fixture(scope="module")
def songs() -> Songs:
    return make_songs(2_000, START, 7, 0.74)


@pytest.fixture(scope="module")
def writings(songs: Songs) -> pl.DataFrame:
    """Every writing with what a listen shows of it."""
    shown = pl.DataFrame(songs.shown.to_pydict())
    return shown.with_columns(
        recording=pl.Series(songs.recording),
        kind=pl.Series(songs.writing_kind),
        number=pl.int_range(pl.len()),
    )


def test_the_same_seed_gives_the_same_songs(songs: Songs) -> None:
    again, other = make_songs(2_000, START, 7, 0.74), make_songs(2_000, START, 8, 0.74)

    assert again.shown.equals(songs.shown)
    assert again.truth.equals(songs.truth)
    assert not other.shown.equals(songs.shown)


def test_the_truth_names_each_id_once_and_has_all_kinds(songs: Songs) -> None:
    truth = songs.truth

    assert truth["track_id"].is_unique().all()
    assert set(truth["writing_kind"]) == {"first", *OTHER_WRITINGS}
    assert set(truth["recording_kind"]) == {"song", *OTHER_RECORDINGS}
    assert truth["recording"].n_unique() == len(songs.weight)


def test_no_two_recordings_have_the_same_names(songs: Songs) -> None:
    keys = songs.truth.with_columns(
        key=pl.struct("artist_name", "recording_name").map_elements(
            lambda row: name_id(row["artist_name"], row["recording_name"]), pl.String
        )
    )

    assert keys.group_by("key").agg(pl.col("recording").n_unique())["recording"].max() == 1


def test_a_renamed_writing_has_the_key_of_the_first(songs: Songs) -> None:
    of_names = pl.col("track_id").str.starts_with("name:")
    renamed = songs.truth.filter(pl.col("writing_kind") == "renamed", of_names)
    firsts = songs.truth.filter(pl.col("writing_kind") == "first")
    pairs = renamed.join(firsts, on="recording", suffix="_first")

    assert pairs.height > 50
    for row in pairs.iter_rows(named=True):
        first = name_id(row["artist_name_first"], row["recording_name_first"])
        assert first == row["track_id"]


def test_a_mapped_writing_shows_the_names_of_musicbrainz(writings: pl.DataFrame, songs: Songs) -> None:
    mapped = writings.filter(pl.col("recording_mbid").is_not_null())
    names = songs.canonical.select(
        canonical_recording_mbid="recording_mbid", artist="artist_credit_name", title="recording_name"
    )
    shown = mapped.join(songs.redirects, on="recording_mbid", how="left").with_columns(
        pl.coalesce("canonical_recording_mbid", "recording_mbid").alias("canonical_recording_mbid")
    )
    joined = shown.join(names, on="canonical_recording_mbid", how="left")

    assert (joined["artist_name"] == joined["artist"]).all()
    assert (joined["recording_name"] == joined["title"]).all()
    unmapped = writings.filter(pl.col("recording_mbid").is_null())
    for column in ("artist_credit_id", "release_mbid", "artist_credit_mbids"):
        assert unmapped[column].is_null().all()
        assert mapped[column].is_not_null().all()


def test_redirects_lead_to_canonical_recordings_which_have_unique_lookups(songs: Songs) -> None:
    known = set(songs.canonical["recording_mbid"])

    assert songs.redirects.height > 20
    assert set(songs.redirects["canonical_recording_mbid"]) <= known
    assert not set(songs.redirects["recording_mbid"]) & known
    assert songs.canonical["combined_lookup"].is_unique().sum() > 0.999 * songs.canonical.height
    assert songs.canonical["combined_lookup"].str.contains("^[a-z0-9]+$").all()


def test_other_letters_have_one_transliteration(writings: pl.DataFrame, songs: Songs) -> None:
    latin = writings.filter((pl.col("kind") == "transliterated") & pl.col("recording_mbid").is_null())
    firsts = writings.filter((pl.col("kind") == "first") & pl.col("recording_mbid").is_not_null())
    pairs = latin.join(firsts, on="recording", suffix="_first").join(
        songs.canonical.select("recording_mbid", "combined_lookup"),
        left_on="recording_mbid_first",
        right_on="recording_mbid",
    )

    assert pairs.height > 10
    for row in pairs.iter_rows(named=True):
        assert not (row["artist_name_first"] + row["recording_name_first"]).isascii()
        plain = unicodedata.normalize("NFKD", row["artist_name"] + row["recording_name"]).lower()
        assert re.sub("[^a-z0-9]", "", plain) == row["combined_lookup"]


def test_shares_of_writings_fill_each_recording(songs: Songs) -> None:
    last = songs.first[1:] - 1

    assert (songs.until[last] == songs.recording[last] + 1).all()
    assert (songs.until > songs.recording).all()
    assert (songs.until[1:] > songs.until[:-1]).all()
