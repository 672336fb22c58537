"""Files as a source to crawl: those named in `lake.json` are read again on every day.

Here: files behind the protocol of `source`. Not here: their formats (`files`, `formats`), or `tunegraph
import`, which keeps a file once as a raw batch.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tunegraph_pipeline.lake.raw import RawBatch, empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.sources.source import (
    FeatureProvider,
    Features,
    Like,
    LikedList,
    Track,
    UserGone,
    UserPrivate,
)


class FileSource:
    """A source over files, read when it is made.

    Several files that name a user say together what they like. Raises InputError as `read_files` does.
    """

    name = "files"
    batch_size = describe_size = 5_000

    def __init__(self, paths: Sequence[str | Path], batches: Sequence[RawBatch] | None = None) -> None:
        read = read_files([Path(path) for path in paths]) if batches is None else batches
        self._users = _joined(read, "users")
        self._states = dict(self._users.select("user_id", "state").iter_rows())
        likes = _joined(read, "likes").sort("user_id", "track_id", "liked_at", nulls_last=True)
        self._likes = likes.unique(["user_id", "track_id"], keep="first", maintain_order=True)
        lengths = self._likes["user_id"].rle().struct.unnest()
        ends = lengths["len"].cum_sum()
        self._rows = dict(
            zip(lengths["value"], zip(ends - lengths["len"], lengths["len"], strict=True), strict=True)
        )
        self._tracks = _joined(read, "tracks").unique("track_id", keep="first", maintain_order=True)
        features = _joined(read, "features")
        self._features = features.unique("track_id", keep="first", maintain_order=True)

    def start_users(self) -> list[str]:
        """Everybody in the files: nobody leads to anybody else."""
        return list(dict.fromkeys([*self._states, *self._rows]))

    def discover(self, user_id: str) -> list[str]:
        self._check(user_id)
        return []

    def liked_list(self, user_id: str) -> LikedList:
        self._check(user_id)
        start, length = self._rows.get(user_id, (0, 0))
        rows = self._likes.slice(start, length).select("track_id", "liked_at").iter_rows()
        return LikedList([Like(*row) for row in rows])

    def describe(self, track_ids: Sequence[str]) -> list[Track]:
        found = self._tracks.filter(pl.col("track_id").is_in(list(track_ids)))
        return [Track(*row) for row in found.iter_rows()]

    def feature_providers(self) -> list[FeatureProvider]:
        return [self]

    def audio_features(self, track_ids: Sequence[str]) -> dict[str, Features]:
        found = self._features.filter(pl.col("track_id").is_in(list(track_ids)))
        return {
            row["track_id"]: {name: row[name] for name in AUDIO_FEATURES}
            for row in found.iter_rows(named=True)
        }

    def close(self) -> None:
        """Nothing: the files were read and closed."""

    def _check(self, user_id: str) -> None:
        if user_id not in self._rows and user_id not in self._states:
            raise UserGone(user_id)
        if self._states.get(user_id) == "failed" and user_id not in self._rows:
            raise UserPrivate(user_id)  # the file says that their list is not known


def _joined(batches: Sequence[RawBatch], part: str) -> pl.DataFrame:
    return pl.concat([empty_frame(part), *(batch.parts()[part] for batch in batches)])
