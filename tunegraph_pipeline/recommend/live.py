"""A recommender that switches to each newly published bundle while queries continue.

Here: noticing a new ``CURRENT``, verifying its bundle, and switching to it. Not here: answering
(`recommender`), or making a bundle live (`publication`).
"""

import threading
from collections.abc import Collection
from pathlib import Path

from tunegraph_pipeline.errors import BundleError, ShortageError
from tunegraph_pipeline.recommend.bundle import Bundle, current_version, read_current, version_folder
from tunegraph_pipeline.recommend.recommender import Recommender


class LiveRecommender:
    """The recommender over the live bundle. Threads may share it.

    Read :attr:`current` once per query: it keeps answering from its own mapped files after a switch, even if
    they are deleted. A new bundle is opened and verified before the switch. One that does not match its
    manifest is refused, ``problem`` says why, and the old one stays.

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
        """Open the live bundle, or ``version``; if ``verified``, compare its checksums.

        Raises BundleError if there is no usable bundle.
        """
        self.serving_folder = serving_folder
        self.problem: str | None = None
        self._blocked = (tuple(blocked_tracks), tuple(blocked_artists))
        self._refreshing = threading.Lock()
        self._refused: tuple[str, int] | None = None
        folder = read_current(serving_folder) if version is None else version_folder(serving_folder, version)
        self.current = self._recommender(Bundle.verified(folder) if verified else Bundle.open(folder))

    def refresh(self) -> bool:
        """Switch to the bundle that ``CURRENT`` names if it is new and valid; returns whether it switched.

        Only reads one small file if nothing changed. Returns at once if another thread is refreshing.
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
            # A refused version is checked again only after it has been rewritten, not every second.
            written = (version, folder.stat().st_mtime_ns)
            if written == self._refused:
                return False
        except (BundleError, ShortageError, OSError) as error:
            self.problem = str(error)
            return False
        try:
            new = self._recommender(Bundle.verified(folder))
        except (BundleError, ShortageError, OSError) as error:
            self.problem = str(error)
            # System errors, such as too many open files, may be temporary; damage is not.
            temporary = isinstance(error, OSError | ShortageError) or isinstance(error.__cause__, OSError)
            self._refused = None if temporary else written
            return False
        self.current = new  # a single assignment, so a query sees either the old or the new one
        self.problem = self._refused = None
        return True

    def _recommender(self, bundle: Bundle) -> Recommender:
        tracks, artists = self._blocked
        return Recommender(bundle, blocked_tracks=tracks, blocked_artists=artists)
