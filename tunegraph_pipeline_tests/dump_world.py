"""A small invented ListenBrainz, its dumps, and what has to come of them, counted by plain Python."""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tunegraph_pipeline.simulator.dumps.listens import ListensConfig, ListenWorld
from tunegraph_pipeline.song_ids import name_id

SERVED = "pub/musicbrainz/listenbrainz"
FULL = date(2026, 9, 1)
TODAY = date(2026, 9, 4)
SINCE = datetime(2026, 8, 1, tzinfo=UTC)
"""Where the window of one month begins."""

Plays = Counter[tuple[str, str, date]]


def make_world() -> ListenWorld:
    return ListenWorld(
        ListensConfig(
            n_users=40,
            n_songs=200,
            start=date(2026, 7, 15),
            first_full=FULL,
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
