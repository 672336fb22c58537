"""AcousticBrainz's last dump as a file to import: how songs of the lake sound, and nothing else."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.licences import ACOUSTICBRAINZ
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.sources.acousticbrainz import read_acousticbrainz
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline.sources.recording_archives import KnownSongs
from tunegraph_pipeline_tests.sources.tar_zst import write_tar_zst

ONE, OTHER, OLD, STRANGE = (f"{n}0000000-0000-4000-8000-000000000000" for n in "1234")
NO_REDIRECTS = empty_frame("redirects")


def highlevel(**tags: Any) -> dict[str, Any]:
    """A document as the dump has it, shortened."""

    def classifier(label: str, share: float) -> dict[str, Any]:
        others = {label: share, f"not_{label}": 1 - share}
        return {
            "all": others,
            "probability": max(share, 1 - share),
            "value": max(others, key=others.__getitem__),
        }

    return {
        "highlevel": {
            "danceability": classifier("danceable", 0.75),
            "mood_acoustic": classifier("acoustic", 0.25),
            "mood_happy": classifier("happy", 0.5),
            "voice_instrumental": {"all": {"instrumental": 0.125, "voice": 0.875}, "value": "voice"},
            "genre_rosamerica": classifier("roc", 0.9),
        },
        "metadata": {
            "audio_properties": {"length": 240.5, "replay_gain": -8.5},
            "tags": {"musicbrainz_recordingid": [ONE], "artist": ["Ann"], **tags},
        },
    }


def archive(path: Path, files: dict[str, str]) -> Path:
    folder = path.name.partition(".")[0]
    return write_tar_zst(path, {f"{folder}/{name}": text for name, text in files.items()})


def documents(folder: Path, given: dict[str, Any]) -> Path:
    files = {
        f"highlevel/{name[:2]}/{name[2]}/{name}.json": one if isinstance(one, str) else json.dumps(one)
        for name, one in given.items()
    }
    return archive(folder / "acousticbrainz-highlevel-json-20220623-0.tar.zst", files)


def table(folder: Path, kind: str, *lines: str) -> Path:
    name = f"acousticbrainz-lowlevel-features-20220623-{kind}"
    return archive(folder / f"{name}.tar.zst", {f"{name}.csv": "\r\n".join([*lines, ""])})


def songs(*ids: str) -> pl.Series:
    return pl.Series(ids, dtype=pl.String)


def known(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {
        row.pop("track_id"): {name: value for name, value in row.items() if value is not None}
        for row in frame.to_dicts()
    }


def test_documents_say_how_sure_a_classifier_is_the_year_and_the_genre_of_the_tags(tmp_path: Path) -> None:
    path = documents(
        tmp_path,
        {
            f"{ONE}-0": highlevel(date=["1999-01-02"], originaldate=["1971"], genre=["Folk\trock"]),
            f"{OTHER}-0": highlevel(date=["May 2001"], genre=["(17)"]),
            f"{STRANGE}-0": highlevel(),
        },
    )
    found = read_acousticbrainz(path, songs(ONE, OTHER, "spotify"), NO_REDIRECTS)
    heard = {"danceability": 0.75, "acousticness": 0.25, "valence": 0.5, "instrumentalness": 0.125}
    assert known(found.features) == {ONE: heard, OTHER: heard}
    assert known(found.tracks) == {ONE: {"year": 1971, "genre": "Folk rock"}}


def test_tables_have_tempo_key_and_mode(tmp_path: Path) -> None:
    rhythm = table(
        tmp_path,
        "rhythm",
        "mbid,submission_offset,bpm,bpm_histogram_first_peak_bpm_mean,danceability,onset_rate",
        f"{ONE},1,60.5,120,0.99,2.8",
        f"{ONE},0,121.0,120,0.99,2.8",
        f"{OTHER},0,nan,120,0.99,2.8",
        f"{STRANGE},0,100,120,0.99,2.8",
    )
    tonal = table(
        tmp_path,
        "tonal",
        "mbid,submission_offset,key_key,key_scale,tuning_frequency,tuning_equal_tempered_deviation",
        f"{ONE},0,Eb,minor,440,0.1",
        f"{OTHER},0,C,major,440,0.1",
    )
    asked = songs(ONE, OTHER)
    found = read_acousticbrainz(rhythm, asked, NO_REDIRECTS)
    assert known(found.features) == {ONE: {"tempo": 121.0}}, "the first submission counts"
    assert found.counts == {"further submissions of a recording, left out": 1}
    assert known(read_acousticbrainz(tonal, asked, NO_REDIRECTS).features) == {
        ONE: {"key": 3, "mode": 0},
        OTHER: {"key": 0, "mode": 1},
    }


def test_the_first_submission_counts_in_any_order(tmp_path: Path) -> None:
    path = documents(
        tmp_path,
        {
            f"{ONE}-2": highlevel(date=["2002"]),
            f"{ONE}-1": highlevel(date=["2001"]),
            f"{ONE}-10": highlevel(date=["2010"]),
        },
    )
    found = read_acousticbrainz(path, songs(ONE), NO_REDIRECTS)
    assert known(found.tracks) == {ONE: {"year": 2001}}
    assert found.counts == {"further submissions of a recording, left out": 2}


def test_what_is_told_of_an_id_that_leads_to_a_known_song_is_kept_under_that_id(tmp_path: Path) -> None:
    path = documents(tmp_path, {f"{OLD}-0": highlevel(), f"{STRANGE}-0": highlevel()})
    redirects = pl.DataFrame({"track_id": [OLD, STRANGE], "recording_id": [ONE, OTHER]})
    found = read_acousticbrainz(path, songs(ONE), redirects)
    assert found.features["track_id"].to_list() == [OLD]


@pytest.mark.parametrize(
    "document",
    [{}, {"highlevel": [], "metadata": {"tags": {"date": [], "genre": [None]}}, "rhythm": {"bpm": True}}],
)
def test_a_document_that_says_nothing_leaves_everything_unknown(document: Any, tmp_path: Path) -> None:
    found = read_acousticbrainz(documents(tmp_path, {f"{ONE}-0": document}), songs(ONE), NO_REDIRECTS)
    assert not len(found.tracks)
    assert not len(found.features)


def test_documents_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    path = documents(tmp_path, {f"{ONE}-0": "{", f"{OTHER}-0": highlevel()})
    found = read_acousticbrainz(path, songs(ONE, OTHER), NO_REDIRECTS)
    assert found.features["track_id"].to_list() == [OTHER]
    assert found.counts == {"documents that cannot be read, left out": 1}


def test_it_is_recognised_by_what_is_in_it(tmp_path: Path) -> None:
    path = documents(tmp_path, {f"{ONE}-0": highlevel(date=["1999"])})
    path = path.rename(tmp_path / "sounds.tar.zst")
    (one,) = import_files([path], known_songs=lambda: KnownSongs(songs(ONE)))
    assert one.format.name == "acousticbrainz"
    assert one.batch.licence == ACOUSTICBRAINZ
    assert (len(one.batch.tracks), len(one.batch.features)) == (1, 1)
    (one,) = import_files([path], kind="features", known_songs=lambda: KnownSongs(songs(ONE)))
    assert (len(one.batch.tracks), len(one.batch.features)) == (0, 1)


def test_what_cannot_be_of_use_is_one_line(tmp_path: Path) -> None:
    timbre = table(tmp_path, "lowlevel", "mbid,submission_offset,average_loudness", f"{ONE},0,0.9")
    with pytest.raises(InputError, match="has nothing that songs are described by"):
        import_files([timbre], known_songs=lambda: KnownSongs(songs(ONE)))
    other = archive(tmp_path / "other.tar.zst", {"README": "nothing"})
    with pytest.raises(InputError, match="no archive that is known"):
        import_files([other], known_songs=lambda: KnownSongs(songs(ONE)))
    path = documents(tmp_path, {f"{ONE}-0": highlevel()})
    with pytest.raises(InputError, match="holds no likes, only features and tracks"):
        import_files([path], kind="likes", known_songs=lambda: KnownSongs(songs(ONE)))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="is damaged") as refused:
        import_files([path], known_songs=lambda: KnownSongs(songs(ONE)))
    assert "\n" not in str(refused.value)
