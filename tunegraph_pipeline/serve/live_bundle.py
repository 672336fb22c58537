"""The bundle that a worker serves, and the thread that reloads it.

Here: what belongs to one version (recommender, search, the rendered map) and is swapped together, and the
thread that polls for a new one. Not here: opening and checking a bundle (`recommend.live`).
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tunegraph_pipeline.errors import BundleError
from tunegraph_pipeline.recommend.bundle import is_withdrawn
from tunegraph_pipeline.recommend.live import LiveRecommender
from tunegraph_pipeline.recommend.recommender import Query, Recommender
from tunegraph_pipeline.recommend.search import TrackSearch
from tunegraph_pipeline.serve.access_log import note
from tunegraph_pipeline.serve.blocklist import Blocklist
from tunegraph_pipeline.serve.problem_details import unavailable
from tunegraph_pipeline.words import counted

_LAST_SERVED = "last_served"


@dataclass(frozen=True)
class ServedBundle:
    """One open bundle and what is built from it. A request takes one and uses it to its end."""

    recommender: Recommender
    search: TrackSearch
    maps: dict[str, bytes] = field(default_factory=dict)
    """Rendered maps by their form."""

    @property
    def bundle_version(self) -> str:
        return self.recommender.bundle.version


class LiveBundle:
    """Follows ``CURRENT`` in a thread, from :meth:`start` to :meth:`stop`.

    Workers of one service share a ``run_folder``, where they record the version they serve. A worker that
    replaces a killed one starts with that version and switches to ``CURRENT`` as the others do, only after
    verifying it. When it can open neither, it serves nothing, reports why, and tries again.

    A bundle is withdrawn when it names a forgotten user and no other bundle replaces it. The worker then
    stops serving it, and verifies the next bundle before it serves that.

    ``served`` is the bundle that is served, None if none is; ``problem`` is why the newest one is not served,
    None if it is.
    """

    def __init__(
        self,
        serving: Path,
        blocklist: Blocklist,
        *,
        every_seconds: float,
        run_folder: Path | None,
        reloaded: Callable[..., None],
    ) -> None:
        self._serving = serving
        self._blocklist = blocklist
        self._every = every_seconds
        self._shared = None if run_folder is None else run_folder / _LAST_SERVED
        self._reloaded = reloaded
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="live-bundle", daemon=True)
        self._live: LiveRecommender | None = None
        self.served: ServedBundle | None = None
        self.problem: str | None = None
        self._withdrew = False

    @property
    def current(self) -> ServedBundle:
        """The bundle that is served now. Raises Problem 503 if none is."""
        served = self.served
        if served is None:
            raise unavailable(f"no bundle can be served: {self.problem}", name="no-bundle", retry_after=5)
        return served

    def start(self) -> None:
        self._reload()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self._reload()
            except Exception as error:  # noqa: BLE001  # the bundle that is served stays
                self._report(f"the newest bundle cannot be loaded ({type(error).__name__})")

    def _reload(self) -> None:
        """Switch to the newest bundle if it is new and valid, and log that."""
        if is_withdrawn(self._serving):
            self._unload()
            return
        try:
            if self._live is None:
                self._live = self._open_first()
            self._live.refresh()
            problem = self._live.problem
            recommender = self._live.current
            if self.served is None or recommender is not self.served.recommender:
                _warm_up(recommender)
                search = TrackSearch(recommender.bundle)
                first = self.served is None and not self._withdrew
                self.served = ServedBundle(recommender, search)
                self._remember_version(recommender.bundle.version)
                if recommender.unknown_blocked:
                    unmatched = sorted(recommender.unknown_blocked)
                    entries = counted(len(unmatched), "entry", "entries")
                    note(f"no song matches {entries} of the blocklist: {', '.join(unmatched[:5])}")
                if not first:
                    self._reloaded(refused=False)
                    note(f"serving bundle {recommender.bundle.version}")
        except BundleError as error:
            problem = str(error)
        self._report(problem)

    def _unload(self) -> None:
        served, self._live, self.served = self.served, None, None
        self.problem = f"no bundle is live in {self._serving}; `tunegraph refresh` publishes one"
        if served is not None:
            self._withdrew = True
            note(f"bundle {served.bundle_version} was withdrawn and is no longer served: {self.problem}")

    def _open_first(self) -> LiveRecommender:
        """With the version that other workers serve, or else with the one that ``CURRENT`` names."""
        open_version = partial(
            LiveRecommender,
            self._serving,
            blocked_tracks=self._blocklist.tracks,
            blocked_artists=self._blocklist.artists,
            verified=self._withdrew,
        )
        if self._shared is not None and not self._withdrew:
            with suppress(OSError, BundleError):  # not recorded yet, or pruned since
                return open_version(version=self._shared.read_text().strip())
        return open_version()

    def _remember_version(self, version: str) -> None:
        if self._shared is None:
            return
        draft = self._shared.with_name(f"{_LAST_SERVED}.{threading.get_native_id()}")
        with suppress(OSError):
            draft.write_text(version)
            draft.replace(self._shared)

    def _report(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            self._reloaded(refused=True)
            served = self.served
            stays = f"; bundle {served.bundle_version} is still served" if served is not None else ""
            note(f"refused: {problem}{stays}")
        self.problem = problem


def _warm_up(recommender: Recommender) -> None:
    """Get ready for many queries, and run one, since the first of a process over a bundle takes longest.

    Raises BundleError when it fails: a bundle may match its manifest and still be unusable.
    """
    bundle = recommender.bundle
    try:
        recommender.ranker.prepare()
        recommender.answer([Query(likes=[bundle.tracks[int(track)] for track in bundle.popular_order[:3]])])
    except Exception as error:
        raise BundleError(f"{bundle.folder} does not answer a query ({type(error).__name__})") from error
