"""The query as a person puts it: ids in; songs with names, scores and reasons out.

Here: looking ids up, what happens to unknown ones, and the answers. Not here: the scoring rule (`ranking`),
the files (`bundle`), or following what is live (`live`).
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError, LibraryMissingError
from tunegraph_pipeline.lake.arrays import StringColumn
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.calibration import neighbour_probability
from tunegraph_pipeline.recommend.index import CandidateIndex
from tunegraph_pipeline.recommend.ranking import Progress, QuerySpec, Ranker, Rankings
from tunegraph_pipeline.recommend.song_view import SongView

_log = logging.getLogger(__name__)
_no_tracks = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Query:
    """One question: who likes these songs, or is this stored user, may like which others?

    The likes of a stored user are added to ``likes``, what they turned down to ``dislikes``. Disliked songs
    push what is like them away and are never in the answer; ``exclude`` is left out without saying anything
    about taste. A song that is liked and disliked is disliked.

    ``familiarity`` goes from discovery, 0, to what everybody knows, 1; at one half songs are ranked as the
    model scores them. ``diversity`` from 0 to 1 keeps songs apart that are much alike. At most
    ``max_per_artist`` songs have the same first artist. ``explicit`` False leaves out songs marked explicit;
    one of which that is not known stays.
    """

    likes: Sequence[str] = ()
    user_id: str | None = None
    k: int = 10
    dislikes: Sequence[str] = ()
    exclude: Sequence[str] = ()
    familiarity: float = 0.5
    diversity: float = 0.0
    max_per_artist: int | None = None
    explicit: bool = True


class QueryOptions(TypedDict, total=False):
    """The fields of a :class:`Query` that may be given by name; its defaults hold for those that are not."""

    dislikes: Sequence[str]
    exclude: Sequence[str]
    familiarity: float
    diversity: float
    max_per_artist: int | None
    explicit: bool


# Named tuples: ten frozen dataclasses cost a query ten times as long to make.
class Reason(NamedTuple):
    """A liked song that speaks for a recommended one, and how many stored users like both."""

    track_id: str
    name: str
    artists: str
    listeners: int


class Recommendation(NamedTuple):
    """A song to listen to, with at most two liked songs that speak for it, the strongest first."""

    song: SongView
    score: float
    reasons: tuple[Reason, ...]


class SimilarTrack(NamedTuple):
    """A song near another one, and how many stored users like both.

    ``probability`` that the two are neighbours, see `neighbour_probability`; None in a bundle not calibrated.
    """

    song: SongView
    cosine: float
    probability: float | None
    listeners: int


class Contribution(NamedTuple):
    """What one liked song adds to the score of another one, how near the two are, and who likes both."""

    track_id: str
    name: str
    artists: str
    contribution: float
    cosine: float
    listeners: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a song has its score: what every liked song adds, the largest first, and the song's own prior.

    ``score`` is the sum of the contributions and the prior. ``unknown`` are the given ids nobody knows.
    """

    track: SongView
    score: float
    prior: float
    contributions: list[Contribution]
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Songs, best first; the given ids nobody knows, each once; and, in words, why these are not personal.

    ``degraded`` is None for a personal answer. Otherwise the songs are the most popular ones, and their
    scores are their numbers of likes.
    """

    items: list[Recommendation]
    unknown: list[str]
    degraded: str | None
    bundle_version: str

    def shown(self, model_version: str) -> dict[str, Any]:
        """The answer for JSON, as the service and the Lambda function give it."""
        return {
            "bundle_version": self.bundle_version,
            "model_version": model_version,
            "items": [
                {
                    "rank": rank,
                    **item.song.shown(),
                    "score": item.score,
                    "reasons": [reason._asdict() for reason in item.reasons],
                }
                for rank, item in enumerate(self.items, 1)
            ],
            "unknown": self.unknown,
            "degraded": self.degraded,
        }


class Asked(NamedTuple):
    """A query looked up: its spec in track_idx, the unknown ids, and why the answer is not personal."""

    spec: QuerySpec
    unknown: list[str]
    degraded: str | None


class Recommender:
    """Answers queries from an open bundle. Nothing in it changes after construction: threads may share it.

    ``blocked_tracks`` (ids) and songs of ``blocked_artists`` (an id, or a name in any case) are in no answer;
    ``unknown_blocked`` are those of them that the bundle does not know, ``blocked`` int32 the tracks it does,
    ascending.

    Where the bundle has an index, queries are answered with it. ``index_problem`` says why it cannot be used,
    None where nothing is wrong: queries are then answered exactly, which takes longer; a warning is logged.

    >>> recommender = Recommender.open(lake / "serving")  # doctest: +SKIP
    >>> recommender.recommend(["4uLU6hMCjMI75M1A2tKUQC"], k=3).items[0].song.name  # doctest: +SKIP
    'Together Forever'
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        blocked_tracks: Collection[str] = (),
        blocked_artists: Collection[str] = (),
    ) -> None:
        self.bundle = bundle
        blocked, self.unknown_blocked = _blocked(bundle, blocked_tracks, blocked_artists)
        self.blocked: NDArray[np.int32] = np.unique(blocked)
        index, self.index_problem = _usable_index(bundle)
        self.ranker = Ranker(bundle, self.blocked, index=index)

    @classmethod
    def open(cls, serving_folder: Path) -> Self:
        """Over the live bundle of a serving folder. Raises BundleError where there is none to use."""
        return cls(Bundle.open(read_current(serving_folder)))

    def recommend(
        self, likes: Sequence[str], k: int = 10, **options: Unpack[QueryOptions]
    ) -> Recommendations:
        """The best k songs for somebody who likes these, their own and the excluded ones left out.

        The options are those of :class:`Query`. A recording may be given by any of its ids, and is answered
        by one of them, the same everywhere. Unknown ids are reported in the answer. Where no given song is
        known, the most popular ones are returned, and ``degraded`` says so. Raises InputError for an option
        out of its range.
        """
        return self._one(Query(likes, None, k, **options))

    def recommend_user(self, user_id: str, k: int = 10, **options: Unpack[QueryOptions]) -> Recommendations:
        """The same for a stored user. Raises InputError where they are unknown, too."""
        return self._one(Query((), user_id, k, **options))

    def answer(self, queries: Sequence[Query]) -> list[Recommendations | InputError]:
        """Many queries at once, with one product for all; each is answered as it is alone, to the last bit.

        A query that cannot be answered has its error in the place of the answer; the others are not affected.
        """
        asked: list[Asked | InputError] = []
        for query in queries:
            try:
                asked.append(self.ask(query))
            except InputError as error:
                asked.append(error)
        valid = [one for one in asked if isinstance(one, Asked)]
        ks = [query.k for query, one in zip(queries, asked, strict=True) if isinstance(one, Asked)]
        best = self.ranker.answer([one.spec for one in valid], ks)
        items = iter(self._items(best))
        return [
            one
            if isinstance(one, InputError)
            else Recommendations(next(items), one.unknown, one.degraded, self.bundle.version)
            for one in asked
        ]

    def similar(self, track_id: str, k: int = 10) -> list[SimilarTrack]:
        """The k songs nearest to one, by the cosine of their embeddings, itself left out under all its ids.

        Raises InputError where the bundle does not know the track, or k is below 1.
        """
        _check_k(k)
        track = self._known(track_id)
        found, cosines = self.ranker.nearest(track, k)
        probabilities = self._probabilities(track, found, cosines)
        listeners = self.ranker.listeners_of_both(np.full(len(found), track, dtype=np.int32), found)
        return list(
            map(SimilarTrack, self.describe(found), cosines.tolist(), probabilities, listeners.tolist())
        )

    def explain(self, likes: Sequence[str], track_id: str) -> Explanation:
        """Why a song has the score it has for somebody with these likes. Raises InputError where the bundle
        does not know the song."""
        track = self._known(track_id)
        liked, unknown = self._look_up(likes)
        score, liked, contributions = self.ranker.parts(QuerySpec(liked), track)
        order = np.argsort(-contributions, kind="stable")
        liked, contributions = liked[order], contributions[order]
        embeddings = self.bundle.embeddings
        cosines = (embeddings[liked].astype(np.float64) * embeddings[track]).sum(axis=1)
        listeners = self.ranker.listeners_of_both(np.full(len(liked), track, dtype=np.int32), liked)
        return Explanation(
            self.describe(np.array([track], dtype=np.int32))[0],
            score,
            float(self.bundle.prior[track]),
            [
                Contribution(*row)
                for row in zip(
                    _read(self.bundle.tracks.ids, liked),
                    _read(self.bundle.names, liked),
                    _read(self.bundle.artists, liked),
                    contributions.tolist(),
                    cosines.tolist(),
                    listeners.tolist(),
                    strict=True,
                )
            ],
            unknown,
        )

    def track(self, track_id: str) -> SongView | None:
        """The song of this id, None where the bundle does not know it."""
        position = self.bundle.tracks.position(track_id)
        if position < 0:
            return None
        return self.describe(self.bundle.canonical[[position]])[0]

    def describe(self, tracks: NDArray[np.int32]) -> list[SongView]:
        """The songs at these indices."""
        bundle = self.bundle
        named = (_read(column, tracks) for column in (bundle.tracks.ids, bundle.names, bundle.artists))
        return self._views(tracks, *named)

    def _views(
        self, tracks: NDArray[np.int32], ids: list[str], names: list[str], artists: list[str]
    ) -> list[SongView]:
        # Columns become tuples in C; a loop over the songs in Python costs a query more than its ranking.
        bundle = self.bundle
        return list(
            map(
                SongView,
                ids,
                tracks.tolist(),
                names,
                artists,
                _read(bundle.image_urls, tracks),
                _read(bundle.preview_urls, tracks),
                bundle.popularity[tracks].tolist(),
                _marks(bundle.explicit[tracks]),
                *bundle.layout[tracks].T.tolist(),
            )
        )

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
        """Rank for many lists of track_idx: what evaluation judges. Of a recording under several ids they
        hold the canonical one, as stored lists and the like graph do."""
        _check_k(k)
        return self.ranker.rank(lists, k, explain=explain, progress=progress)

    def rank_everyone(self, k: int = 10, *, progress: Progress | None = None) -> Rankings:
        """For all stored users what :meth:`recommend_user` answers: the table for everyone is made of it."""
        _check_k(k)
        bundle = self.bundle
        specs = [
            QuerySpec(bundle.user_list(user), bundle.user_dislikes(user)) for user in range(bundle.n_users)
        ]
        return self.ranker.rank_specs(specs, k, explain=True, progress=progress)

    def _one(self, query: Query) -> Recommendations:
        (answer,) = self.answer([query])
        if isinstance(answer, InputError):
            raise answer
        return answer

    def ask(self, query: Query) -> Asked:
        """Look a query up. Raises InputError for an unknown user or an option out of its range."""
        _check_options(query)
        liked, unknown = self._look_up(query.likes)
        n_unknown = len(unknown)
        disliked = excluded = _no_tracks
        if query.dislikes:
            disliked, more = self._look_up(query.dislikes)
            unknown += more
        if query.exclude:
            excluded, more = self._look_up(query.exclude)
            unknown += more
        if query.user_id is not None:
            user = self.bundle.users.position(query.user_id)
            if user < 0:
                raise InputError(
                    f"user {_shown(query.user_id)} is not in bundle {self.bundle.version};"
                    " import their likes and refresh, or give songs with --likes"
                )
            stored, turned_down = self.bundle.user_list(user), self.bundle.user_dislikes(user)
            liked = np.concatenate([liked, stored]) if liked.size else stored
            if turned_down.size:
                # What they like now, in this very query, they have come to like.
                kept = turned_down[np.isin(turned_down, liked, invert=True)]
                disliked = np.concatenate([disliked, kept])
        spec = QuerySpec(
            liked,
            disliked,
            excluded,
            query.familiarity,
            query.diversity,
            query.max_per_artist,
            query.explicit,
        )
        if disliked.size:
            liked = liked[np.isin(liked, disliked, invert=True)]
        degraded = None if liked.size else _degraded(query, n_unknown)
        return Asked(spec, list(dict.fromkeys(unknown)) if unknown else unknown, degraded)

    def _known(self, track_id: str) -> int:
        track = self.bundle.tracks.position(track_id)
        if track < 0:
            raise InputError(f"track {_shown(track_id)} is not in bundle {self.bundle.version}")
        return int(self.bundle.canonical[track])

    def _look_up(self, track_ids: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """The canonical track of each known id, and the unknown ids, each once."""
        found = self.bundle.tracks.find(track_ids)
        if not found.size or found.min() >= 0:
            return self.bundle.canonical[found], []
        missing = dict.fromkeys(track_ids[slot] for slot in np.flatnonzero(found < 0).tolist())
        return self.bundle.canonical.take(found[found >= 0]), list(missing)

    def _items(self, best: list[Rankings]) -> list[list[Recommendation]]:
        """Every ranking's songs in words. The texts of all are read together, which costs less."""
        bundle = self.bundle
        if not best:
            return []
        tracks = np.concatenate([one.indices for one in best])
        because = np.concatenate([one.because for one in best])
        place, rank = np.nonzero(because >= 0)
        liked = because[place, rank]
        named = np.concatenate([tracks, liked])
        ids, names, artists = (
            _read(column, named) for column in (bundle.tracks.ids, bundle.names, bundle.artists)
        )
        n = len(tracks)
        both = self.ranker.listeners_of_both(liked, tracks[place]).tolist()
        spoken = map(Reason, ids[n:], names[n:], artists[n:], both)
        reasons: list[tuple[Reason, ...]] = [()] * len(tracks)
        for at, reason in zip(place.tolist(), spoken, strict=True):
            reasons[at] += (reason,)
        scores = np.concatenate([one.scores for one in best]).tolist()
        songs = self._views(tracks, ids[:n], names[:n], artists[:n])
        items = list(map(Recommendation, songs, scores, reasons))
        if len(best) == 1:
            return [items]
        ends = np.cumsum([len(one.indices) for one in best]).tolist()
        return [items[end - len(one.indices) : end] for one, end in zip(best, ends, strict=True)]

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


def _usable_index(bundle: Bundle) -> tuple[CandidateIndex | None, str | None]:
    """The bundle's index, if it has one that can be used here, and in words why it cannot."""
    try:
        return CandidateIndex.open(bundle), None
    except LibraryMissingError as error:
        problem = f"bundle {bundle.version} is answered exactly, which takes longer: {error}"
        _log.warning(problem)
        return None, problem


def _blocked(
    bundle: Bundle, track_ids: Collection[str], artists: Collection[str]
) -> tuple[NDArray[np.int32], list[str]]:
    """The tracks that these keep out of every answer, and those of these that the bundle does not know."""
    asked = list(dict.fromkeys(track_ids))
    found = bundle.tracks.find(asked)
    unknown = [track for track, at in zip(asked, found.tolist(), strict=True) if at < 0]
    blocked = bundle.canonical[found[found >= 0]]
    if not artists:
        return blocked, unknown
    places: dict[str, list[int]] = {}
    for texts in (bundle.artist_ids, bundle.artist_names):
        for place, text in enumerate(texts.tolist()):
            places.setdefault(text.casefold(), []).append(place)
    unknown += [artist for artist in dict.fromkeys(artists) if artist.casefold() not in places]
    makers = sorted({place for artist in artists for place in places.get(artist.casefold(), [])})
    credited = np.isin(bundle.artist_indices, makers)
    owners = np.repeat(np.arange(bundle.n_tracks, dtype=np.int32), np.diff(bundle.artist_indptr))
    return np.union1d(blocked, owners[credited]).astype(np.int32), unknown


def _degraded(query: Query, n_unknown: int) -> str:
    if query.user_id is not None:
        return "this user likes no song at present, so these are the most popular ones"
    if query.likes and n_unknown:
        return f"none of the {n_unknown} given songs is known, so these are the most popular ones"
    return "no liked songs were given, so these are the most popular ones"


def _read(column: StringColumn, positions: NDArray[np.int32]) -> list[str]:
    """Many strings of a column at once; one at a time costs as much again for each bound."""
    data = column.bytes.data
    if not data.nbytes:  # no track has one, as with the links of most sources
        return [""] * len(positions)
    offsets = column.offsets.data  # plain integers out of the buffer, at a fraction of numpy's fixed cost
    return [str(data[offsets[at] : offsets[at + 1]], "utf-8") for at in positions.tolist()]


def _marks(explicit: NDArray[np.int8]) -> list[bool | None]:
    return [None if mark < 0 else mark > 0 for mark in explicit.tolist()]


def _check_options(query: Query) -> None:
    _check_k(query.k)
    for name in ("familiarity", "diversity"):
        value = getattr(query, name)
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; it goes from 0 to 1")
    if query.max_per_artist is not None and query.max_per_artist < 1:
        raise InputError(f"max_per_artist is {query.max_per_artist}; ask for at least one song of an artist")


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"-k is {k}; ask for at least one song")


def _shown(text: str) -> str:
    """An id as a message can bear it: quoted, and cut where it is absurdly long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
