"""Try a kept bundle, live or earlier: recommendations with what each score is made of.

Here: opening a bundle of the lake by its version, a user's list in it, and an answer with the parts of its
scores. Not here: the rule of scores (`recommend.ranking`), or what the service answers to others (`serve`).
"""

from typing import Any

import numpy as np

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.arrays import MANIFEST
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.recommend.bundle import Bundle, read_current, version_folder
from tunegraph_pipeline.recommend.ranking import SCORE_PARTS
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline.serve.blocklist import Blocklist

MOST_CONTRIBUTIONS = 5
"""Liked songs that are shown for a recommended one, those that add most."""
MOST_LISTED = 200
"""Songs of a user's list that are shown."""


class Playground:
    """Recommenders over the bundles of a lake, the last two that were asked for kept open.

    ``blocklist``: what the service never shows is in no answer here.
    """

    def __init__(self, lake: Lake, blocklist: Blocklist) -> None:
        self._serving = lake.serving
        self._blocklist = blocklist
        self._open: dict[str, Recommender] = {}

    def of(self, version: str | None) -> Recommender:
        """That of a bundle, None for the live one. Raises InputError where there is no such bundle, and
        BundleError where it cannot be read."""
        live = read_current(self._serving).name if version is None else version
        folder = version_folder(self._serving, live)
        found = self._open.pop(live, None)
        if not (folder / MANIFEST).is_file():
            raise InputError(f"there is no bundle {live}: it may have been pruned; choose another one")
        if found is None:
            blocked = {"blocked_tracks": self._blocklist.tracks, "blocked_artists": self._blocklist.artists}
            found = Recommender(Bundle.open(folder), **blocked)
        self._open[live] = found
        for oldest in list(self._open)[:-2]:
            del self._open[oldest]
        return found

    def ask(self, query: Query, version: str | None = None) -> dict[str, Any]:
        """The answer as the service gives it (`Recommendations.shown`), with ``parts`` of each score and
        ``contributions``, what liked songs add to it; both are null where the answer is not personal.

        The parts add up to the score; so do all contributions, the prior and familiarity, less what dislikes
        take away. Raises InputError for an unknown user, bundle or filter, or an option out of range.
        """
        recommender = self.of(version)
        (answer,) = recommender.answer([query])
        if isinstance(answer, InputError):
            raise answer
        shown = answer.shown(recommender.bundle.model_version)
        spec = recommender.resolve(query).spec
        tracks = np.array([item.song.track_idx for item in answer.items], dtype=np.int32)
        parts = recommender.ranker.score_parts(spec, tracks)
        personal = answer.degraded is None
        for item, track, row in zip(shown["items"], tracks.tolist(), parts.tolist(), strict=True):
            item["parts"] = dict(zip(SCORE_PARTS, row, strict=True)) if personal else None
            _, liked, added = recommender.ranker.parts(spec, track)
            most = np.argsort(-added, kind="stable")[:MOST_CONTRIBUTIONS]
            songs = recommender.describe(liked[most])
            item["contributions"] = [
                {"track_id": song.track_id, "name": song.name, "artists": song.artists, "contribution": part}
                for song, part in zip(songs, added[most].tolist(), strict=True)
            ]
        return shown

    def user(self, user_id: str, version: str | None = None) -> dict[str, Any]:
        """The list of a user in a bundle: how many likes and dislikes, and the first `MOST_LISTED` of each.
        Raises InputError where the bundle has no such user."""
        recommender = self.of(version)
        bundle = recommender.bundle
        row = bundle.users.position(user_id)
        if row < 0:
            raise InputError(f"bundle {bundle.version} has no user of this id; a refresh adds new ones")
        lists = {"likes": bundle.user_list(row), "dislikes": bundle.user_dislikes(row)}
        return {
            "user_id": user_id,
            "bundle_version": bundle.version,
            **{f"n_{name}": len(tracks) for name, tracks in lists.items()},
            **{
                name: [
                    {"track_id": song.track_id, "name": song.name, "artists": song.artists}
                    for song in recommender.describe(tracks[:MOST_LISTED])
                ]
                for name, tracks in lists.items()
            },
        }
