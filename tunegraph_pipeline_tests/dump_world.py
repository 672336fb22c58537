"""A small invented ListenBrainz, its dumps, and what has to come of them, counted by plain Python."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.catalogue import read_catalogue
from tunegraph_pipeline.simulator.dumps.listens import ListensConfig, ListenWorld
from tunegraph_pipeline.song_ids import name_id

SERVED = "pub/musicbrainz/listenbrainz"
FULL = date(2026, 9, 1)
TODAY = date(2026, 9, 4)
SINCE = datetime(2026, 8, 1, tzinfo=UTC)
"""Where the window of one month begins."""

UNKNOWN = ("Nobody Known", "Not There")
"""Artist and title of a song that no dump has."""

Plays = Counter[tuple[str, str, date]]


def make_world(first_full: date = FULL, full_days: tuple[int, ...] = (1, 15)) -> ListenWorld:
    return ListenWorld(
        ListensConfig(
            n_users=40,
            n_songs=200,
            start=first_full - timedelta(days=48),
            first_full=first_full,
            full_days=full_days,
            listens_a_day=150,
            history=300,
            bots=0,
            shared_accounts=0,
            member_rows=1_000,
            row_group_rows=400,
        )
    )


def archive_of(folder: Path, day: date) -> Path:
    """The archive of the dump of a day below a published folder."""
    (found,) = folder.glob(f"{SERVED}/*/*/*-{day:%Y%m%d}-*.tar")
    return found


def number_of(folder: Path, day: date) -> int:
    """The number of the dump of a day."""
    return int(archive_of(folder, day).name.split("-")[3])


def listens(archive: Path) -> Iterator[dict[str, Any]]:
    """All listens of an archive, in its order."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".parquet"):
                content = tar.extractfile(member)
                assert content is not None
                yield from pq.read_table(io.BytesIO(content.read())).to_pylist()


def plays(archive: Path, since: datetime | None = None) -> Plays:
    """How often each user played each track on each day."""
    found: Plays = Counter()
    for listen in listens(archive):
        at = listen["listened_at"]
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        track = listen["recording_mbid"] or name_id(listen["artist_name"], listen["recording_name"])
        if (since is None or at >= since) and track:
            found[f"listenbrainz:{listen['user_id']}", track, at.date()] += 1
    return found


def reseal(archive: Path) -> None:
    """Publish the checksum that an archive has now."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    archive.with_name(f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")


def account_export(lake: Lake, path: Path, days: Sequence[date]) -> tuple[Path, set[str]]:
    """An account export that was played on ``days``: the songs of somebody in the dumps, by name, and one
    that nobody knows; and the ids of the songs."""
    likes = lake.read("current_likes", lake.current_version("current_likes"))
    known = read_catalogue(lake).drop_nulls(["name", "artists"])
    theirs = likes.join(known.select("track_id", "name", "artists"), on="track_id")
    listener = theirs["user_id"].value_counts(sort=True)["user_id"][0]
    songs = theirs.filter(user_id=listener).sort("track_id").head(8)
    named = [(", ".join(artists), name.upper()) for name, artists in songs.select("name", "artists").rows()]
    played = [
        {"endTime": f"{day} 10:00", "artistName": by, "trackName": name, "msPlayed": 200_000}
        for by, name in [*named, UNKNOWN]
        for day in days
    ]
    with zipfile.ZipFile(path, "w") as export:
        export.writestr("Spotify Account Data/StreamingHistory_music_0.json", json.dumps(played))
    return path, {*songs["track_id"]}
