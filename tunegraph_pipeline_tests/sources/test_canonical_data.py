"""MusicBrainz's canonical data as a file to import: what concerns the songs of the lake, and nothing else."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.simulator.dumps.archives import publish_canonical
from tunegraph_pipeline.simulator.dumps.listens import ListensConfig, ListenWorld
from tunegraph_pipeline.sources import recording_archives
from tunegraph_pipeline.sources.canonical_data import NAMES, REDIRECTS, read_canonical_data
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline.sources.recording_archives import KnownSongs
from tunegraph_pipeline_tests.sources.tar_zst import write_tar_zst

ONE, OTHER, GONE, NEW = (f"{n}0000000-0000-4000-8000-000000000000" for n in "1234")
NAMES_CSV = (
    "id,artist_credit_id,artist_mbids,artist_credit_name,release_mbid,release_name,recording_mbid,"
    "recording_name,combined_lookup,score\n"
    f'1,1,{ONE},"The Lanterns, Ltd.",{NEW},First,{ONE},"Blue ""Harbour""",thelanternsltdblueharbour,5\n'
    f'2,2,"{ONE},{OTHER}",A & B,{NEW},Second,{OTHER},Night,abnight,6\n'
)
REDIRECTS_CSV = (
    "recording_mbid,canonical_recording_mbid,canonical_release_mbid\n"
    f"{GONE},{ONE},{NEW}\n{NEW},{OTHER},{NEW}\n"
)


def archive(path: Path, **tables: str) -> Path:
    return write_tar_zst(path, {f"dump/canonical/{name}.csv": text for name, text in tables.items()})


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    tables = {NAMES.removesuffix(".csv"): NAMES_CSV, REDIRECTS.removesuffix(".csv"): REDIRECTS_CSV}
    return archive(tmp_path / "musicbrainz-canonical-dump-20260717-080003.tar.zst", **tables)


def songs(*ids: str) -> pl.Series:
    return pl.Series(ids, dtype=pl.String)


def test_names_and_redirects_of_the_songs_asked_for(dump: Path) -> None:
    found = read_canonical_data(dump, songs(ONE, GONE, "spotify", "name:a/b", NEW[:-1] + "9"))
    shown = found.tracks.select("track_id", "name", "artists", "artist_ids", "album_id", "album").rows()
    names = ('Blue "Harbour"', ["The Lanterns, Ltd."], [ONE], NEW, "First")
    assert shown == [(ONE, *names), (GONE, *names)]
    assert found.redirects.rows() == [(GONE, ONE)], "that of a song to come is kept with the one it leads to"
    assert found.counts == {"songs of MusicBrainz that it does not have": 1}
    assert read_canonical_data(dump, songs(OTHER)).redirects.rows() == [(NEW, OTHER)]


def test_all_artists_of_a_credit_are_named_where_it_can_be_told_apart(tmp_path: Path) -> None:
    rows = (
        f'1,1,"{{{ONE},{OTHER}}}",Ann feat. Bo,{NEW},First,{ONE},Night,annfeatbonight,5\n'
        f'2,2,"{{{ONE},{OTHER}}}",Ann meets Bo,{NEW},First,{OTHER},Day,annmeetsboday,5\n'
    )
    names = NAMES_CSV.partition("\n")[0] + "\n" + rows
    path = archive(
        tmp_path / "x.tar.zst", canonical_musicbrainz_data=names, canonical_recording_redirect=REDIRECTS_CSV
    )
    found = read_canonical_data(path, songs(ONE, OTHER)).tracks
    assert found["artists"].to_list() == [["Ann", "Bo"], ["Ann meets Bo"]]
    assert found["artist_ids"].to_list() == [[ONE, OTHER]] * 2


def test_small_blocks_give_the_same(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_canonical_data(dump, songs(ONE, OTHER, GONE))
    monkeypatch.setattr(recording_archives, "_BLOCK_BYTES", 200)
    parts = read_canonical_data(dump, songs(ONE, OTHER, GONE))
    assert parts.tracks.equals(whole.tracks)
    assert parts.redirects.equals(whole.redirects)


def test_the_published_archive_describes_every_recording_it_has(tmp_path: Path) -> None:
    world = ListenWorld(
        ListensConfig(n_users=20, n_songs=300, listens_a_day=200, history=50, bots=0, shared_accounts=0)
    )
    folder = publish_canonical(world, tmp_path, date(2026, 9, 1))
    (path,) = folder.glob("*.tar.zst")
    found = read_canonical_data(path, world.songs.truth["track_id"])
    published = pl.concat([world.songs.canonical["recording_mbid"], world.songs.redirects["recording_mbid"]])
    asked = world.songs.truth["track_id"]
    assert set(found.tracks["track_id"]) == set(asked.filter(asked.is_in(published.implode())))


def test_songs_of_the_other_files_count_as_known(dump: Path, tmp_path: Path) -> None:
    likes = tmp_path / "likes.csv"
    likes.write_text(f"user_id,track_id\nann,{ONE}\n")
    imports = import_files([dump, likes], known_songs=lambda: KnownSongs(songs(OTHER)))
    assert [one.format.name for one in imports] == ["table", "musicbrainz-canonical"]
    assert imports[1].batch.tracks["track_id"].to_list() == [ONE, OTHER]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"canonical_musicbrainz_data": NAMES_CSV}, "has no canonical_recording_redirect.csv"),
        (
            {"canonical_musicbrainz_data": NAMES_CSV, "canonical_recording_redirect": "a,b\n1,2\n"},
            "has other columns than expected",
        ),
    ],
)
def test_an_archive_without_what_is_needed_is_refused(
    tables: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.tar.zst", **tables)
    with pytest.raises(InputError, match=message) as refused:
        import_files([path], known_songs=lambda: KnownSongs(songs(ONE)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_damaged(kept: float, dump: Path) -> None:
    content = dump.read_bytes()
    dump.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"is damaged|has no canonical") as refused:
        read_canonical_data(dump, songs(ONE))
    assert "\n" not in str(refused.value)


def test_it_is_for_a_lake_that_has_songs_of_musicbrainz(dump: Path) -> None:
    with pytest.raises(InputError, match="add it with tunegraph import"):
        import_files([dump])
    with pytest.raises(InputError, match="the lake has no song with one"):
        import_files([dump], known_songs=lambda: KnownSongs(songs("spotify")))
    with pytest.raises(InputError, match="holds no likes, only tracks"):
        import_files([dump], kind="likes", known_songs=lambda: KnownSongs(songs(ONE)))
