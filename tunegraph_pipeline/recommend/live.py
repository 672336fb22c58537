"""Following what is live: a recommender that moves to the next bundle while queries go on.

Here: noticing a new ``CURRENT``, checking the bundle it names, and changing over. Not here: answering
(`recommender`), or deciding what is live (`publication`).
"""

import threading
from collections.abc import Collection
from pathlib import Path

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current, version_folder
from tunegraph_pipeline.recommend.recommender import Recommender


class LiveRecommender:
    """The recommender over whatever bundle is live. Threads may share it.

    Take :attr:`current` once for a query and keep to it: it goes on answering from its own mapped files after
    a change, even when they are deleted. A new bundle is opened and its checksums compared before it takes
    over; one that is not as its manifest says is refused, ``problem`` says why, and the old one stays.

    >>> live = LiveRecommender(lake / "serving")  # doctest: +SKIP
    >>> live.refresh(), live.current.recommend(["4uLU6hMCjMI75M1A2tKUQC"])  # doctest: +SKIP
    """

    def __init__(
        self,
        serving_folder: Path,
        *,
        blocked_tracks: Collection[str] = (),
        blocked_artists: Collection[str] = (),
        version: str | None = None,
        verified: bool = False,
    ) -> None:
        """Open the live bundle, or begin with another ``version``; compare its checksums if ``verified``.

        Raises BundleError where there is none to use.
        """
        self.serving_folder = serving_folder
        self.problem: str | None = None
        self._blocked = (tuple(blocked_tracks), tuple(blocked_artists))
        self._refreshing = threading.Lock()
        self._refused: tuple[str, int] | None = None
        folder = read_current(serving_folder) if version is None else version_folder(serving_folder, version)
        self.current = self._over(Bundle.verified(folder) if verified else Bundle.open(folder))

    def refresh(self) -> bool:
        """Change over to the bundle that ``CURRENT`` names, if it is another one and sound; True if changed.

        Reads one small file where nothing changed. Where another thread is at it already, returns at once.
        """
        if not self._refreshing.acquire(blocking=False):
            return False
        try:
            return self._refresh()
        finally:
            self._refreshing.release()

    def _refresh(self) -> bool:
        try:
            version = current_version(self.serving_folder)
            if version == self.current.bundle.version:
                self.problem = self._refused = None
                return False
            folder = read_current(self.serving_folder)
            # A version that was refused is looked at again once it has been written anew, not every second.
            written = (version, folder.stat().st_mtime_ns)
            if written == self._refused:
                return False
        except (BundleError, OSError) as error:
            self.problem = str(error)
            return False
        try:
            following = self._over(Bundle.verified(folder))
        except (BundleError, OSError) as error:
            self.problem = str(error)
            # What the system refuses, such as one more open file, may be had in a second; damage stays.
            passing = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
            self._refused = None if passing else written
            return False
        self.current = following  # one assignment: a query has the old one or the new one, whole
        self.problem = self._refused = None
        return True

    def _over(self, bundle: Bundle) -> Recommender:
        tracks, artists = self._blocked
        return Recommender(bundle, blocked_tracks=tracks, blocked_artists=artists)
