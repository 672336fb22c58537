"""The query as a person puts it: ids in; songs with names, scores and reasons out.

Here: looking ids up, what happens to unknown ones, and the answers. Not here: the scoring rule (`ranking`) or
the files (`bundle`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.arrays import StringColumn
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.calibration import neighbour_probability
from tunegraph_pipeline.recommend.ranking import Progress, Ranker, Rankings


# Named tuples: ten frozen dataclasses cost a query ten times as long to make.
class Recommendation(NamedTuple):
    """A song to listen to, and the liked song that contributed most to its score.

    Texts are "" where unknown. ``because_*`` are None where no liked song speaks for it.
    """

    track_id: str
    track_idx: int
    score: float
    because_track_id: str | None
    because_name: str | None
    name: str
    artists: str
    image_url: str
    preview_url: str


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Songs, best first; the given ids nobody knows, each once; and, in words, why these are not personal.

    ``degraded`` is None for a personal answer. Otherwise the songs are the most popular ones, and their
    scores are their numbers of likes.
    """

    items: list[Recommendation]
    unknown: list[str]
    degraded: str | None


class SimilarTrack(NamedTuple):
    """A song near another one.

    ``probability`` that the two are neighbours, see `neighbour_probability`; None in a bundle not calibrated.
    """

    track_id: str
    track_idx: int
    cosine: float
    probability: float | None
    name: str
    artists: str
    image_url: str
    preview_url: str


class Recommender:
    """Answers queries from an open bundle. Nothing in it changes after construction: threads may share it.

    >>> recommender = Recommender.open(lake / "serving")  # doctest: +SKIP
    >>> recommender.recommend(["4uLU6hMCjMI75M1A2tKUQC"], k=3).items[0].name  # doctest: +SKIP
    'Together Forever'
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.ranker = Ranker(bundle)

    @classmethod
    def open(cls, serving_folder: Path) -> Self:
        """Over the live bundle of a serving folder. Raises BundleError where there is none to use."""
        return cls(Bundle.open(read_current(serving_folder)))

    def recommend(self, likes: Sequence[str], k: int = 10, *, exclude: Sequence[str] = ()) -> Recommendations:
        """The best k songs for somebody who likes these, their own and the excluded ones left out.

        A recording may be given by any of its ids, and is answered by one of them, the same everywhere.
        Unknown ids are reported in the answer. Where no given song is known, the most popular ones are
        returned, and ``degraded`` says so. Raises InputError for a k below 1.
        """
        _check_k(k)
        known, unknown = self._look_up(likes)
        if likes:
            degraded = f"none of the {len(unknown)} given songs is known, so these are the most popular ones"
        else:
            degraded = "no liked songs were given, so these are the most popular ones"
        return self._answer(known, k, exclude, unknown, degraded)

    def recommend_user(self, user_id: str, k: int = 10, *, exclude: Sequence[str] = ()) -> Recommendations:
        """The same for a stored user. Raises InputError where they are unknown, or k is below 1."""
        _check_k(k)
        user = self.bundle.users.position(user_id)
        if user < 0:
            raise InputError(
                f"user {_shown(user_id)} is not in bundle {self.bundle.version};"
                " import their likes and refresh, or give songs with --likes"
            )
        degraded = "this user likes no song at present, so these are the most popular ones"
        return self._answer(self.bundle.user_list(user), k, exclude, [], degraded)

    def similar(self, track_id: str, k: int = 10) -> list[SimilarTrack]:
        """The k songs nearest to one, by the cosine of their embeddings, itself left out under all its ids.

        Raises InputError where the bundle does not know the track, or k is below 1.
        """
        _check_k(k)
        track = self.bundle.tracks.position(track_id)
        if track < 0:
            raise InputError(f"track {_shown(track_id)} is not in bundle {self.bundle.version}")
        track = int(self.bundle.canonical[track])
        found, cosines = self.ranker.nearest(track, k)
        probabilities = self._probabilities(track, found, cosines)
        ids, names, artists, images, previews = self._texts(found)
        return [
            SimilarTrack(
                ids[place],
                idx,
                cosine,
                probabilities[place],
                names[place],
                artists[place],
                images[place],
                previews[place],
            )
            for place, (idx, cosine) in enumerate(zip(found.tolist(), cosines.tolist(), strict=True))
        ]

    def rank_users(
        self, lists: Sequence[Sequence[str]], k: int = 10, *, explain: bool = False
    ) -> tuple[Rankings, NDArray[np.int32]]:
        """Rank for many lists of track ids; also how many different unknown ids each had, int32[m].

        Row by row what :meth:`recommend` answers, in the form of :class:`~.ranking.Rankings`.
        """
        _check_k(k)
        looked_up = [self._look_up(likes) for likes in lists]
        rankings = self.ranker.rank([known for known, _ in looked_up], k, explain=explain)
        return rankings, np.array([len(unknown) for _, unknown in looked_up], dtype=np.int32)

    def rank_indices(
        self,
        lists: Sequence[NDArray[np.int32]],
        k: int = 10,
        *,
        explain: bool = False,
        progress: Progress | None = None,
    ) -> Rankings:
        """Rank for many lists of track_idx: what evaluation judges and the table for everyone is made of.
        Of a recording under several ids they hold the canonical one, as stored lists and the like graph do.

        For all stored users: ``rank_indices([bundle.user_list(u) for u in range(bundle.n_users)])``.
        """
        _check_k(k)
        return self.ranker.rank(lists, k, explain=explain, progress=progress)

    def _look_up(self, track_ids: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """The canonical track of each known id, and the unknown ids, each once."""
        found = self.bundle.tracks.find(track_ids)
        missing = dict.fromkeys(track_ids[slot] for slot in np.flatnonzero(found < 0).tolist())
        return self.bundle.canonical.take(found[found >= 0]), list(missing)

    def _answer(
        self,
        liked: NDArray[np.int32],
        k: int,
        exclude: Sequence[str],
        unknown: list[str],
        if_empty: str,
    ) -> Recommendations:
        excluded = self._look_up(exclude)[0] if exclude else None
        best = self.ranker.rank_one(liked, k, exclude=excluded)
        ids, names, artists, images, previews = self._texts(best.indices)
        # Where no song speaks for the place, its -1 reads as an empty text, which is not shown.
        reason_ids = _read(self.bundle.tracks.ids, best.because)
        reason_names = _read(self.bundle.names, best.because)
        items = [
            Recommendation(
                ids[place],
                idx,
                score,
                None if because < 0 else reason_ids[place],
                None if because < 0 else reason_names[place],
                names[place],
                artists[place],
                images[place],
                previews[place],
            )
            for place, (idx, score, because) in enumerate(
                zip(*(column.tolist() for column in best), strict=True)
            )
        ]
        return Recommendations(items, unknown, None if liked.size else if_empty)

    def _texts(
        self, tracks: NDArray[np.int32]
    ) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
        """Ids, names, artists, image and preview links of these tracks."""
        bundle = self.bundle
        return (
            _read(bundle.tracks.ids, tracks),
            _read(bundle.names, tracks),
            _read(bundle.artists, tracks),
            _read(bundle.image_urls, tracks),
            _read(bundle.preview_urls, tracks),
        )

    def _probabilities(
        self, track: int, others: NDArray[np.int32], cosines: NDArray[np.float32]
    ) -> Sequence[float | None]:
        calibration = self.bundle.facts.get("calibration")
        if calibration is None:
            return [None] * len(others)
        popularity = self.bundle.popularity
        probabilities = neighbour_probability(calibration, cosines, popularity[track], popularity[others])
        answer: list[float | None] = probabilities.tolist()
        return answer


def _read(column: StringColumn, positions: NDArray[np.int32]) -> list[str]:
    """Many strings of a column at once; one at a time costs as much again for each bound."""
    data = column.bytes.data
    if not data.nbytes:  # no track has one, as with the links of most sources
        return [""] * len(positions)
    offsets = column.offsets.data  # plain integers out of the buffer, at a fraction of numpy's fixed cost
    return [str(data[offsets[at] : offsets[at + 1]], "utf-8") for at in positions.tolist()]


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"-k is {k}; ask for at least one song")


def _shown(text: str) -> str:
    """An id as a message can bear it: quoted, and cut where it is absurdly long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
