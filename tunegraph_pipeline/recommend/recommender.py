"""Recommendations by ids: track or user ids in; songs with names, scores and reasons out.

Here: looking up ids, handling unknown ones, and building the answers. Not here: the scoring rule (`ranking`),
the files (`bundle`), or following the live bundle (`live`).
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypedDict, TypeVar, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.errors import InputError, LibraryMissingError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.arrays import StringColumn
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.calibration import neighbour_probability
from tunegraph_pipeline.recommend.filters import Filters, Passing
from tunegraph_pipeline.recommend.genres import Genres, GenresOfSongs
from tunegraph_pipeline.recommend.index import CandidateIndex
from tunegraph_pipeline.recommend.links import Links, best_link
from tunegraph_pipeline.recommend.ranking import Progress, QuerySpec, Ranker, Rankings
from tunegraph_pipeline.song_ids import SERVICES

if TYPE_CHECKING:
    from tunegraph_pipeline.recommend.lookup import Lookup

USERS_A_BLOCK = 4096
"""How many users are ranked together where everyone is."""

Mode = Literal["mix", "continue"]
MODES: tuple[Mode, ...] = get_args(Mode)
MOST_RECENCY = 10.0
"""At it, the newest song of a list weighs a thousand times as much as the one before."""
SONGS_OF_AN_ARTIST = 20
"""So many songs of an artist, the most liked ones, stand for them in a query."""

_log = logging.getLogger(__name__)
_no_tracks = np.zeros(0, dtype=np.int32)


class UnknownSongsError(InputError):
    """The bundle has none of the songs that an answer needs."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request for recommendations, for a list of liked songs, a stored user, or both.

    The likes of a stored user are added to ``likes``, their dislikes to ``dislikes``. Disliked songs are
    never in the answer and lower the scores of similar songs; songs in ``exclude`` are only left out. A song
    both liked and disliked counts as disliked.

    ``familiarity`` goes from 0, discovery, to 1, well-known songs; 0.5 leaves the model's scores unchanged.
    ``diversity``, from 0 to 1, avoids songs that are similar to each other. At most ``max_per_artist`` songs
    have the same first artist. ``explicit`` False leaves out songs marked explicit, but not unmarked ones.

    ``links`` is the service (`song_ids.SERVICES`) that songs are linked to where they have an id there; by
    default that of the list.

    ``mode`` "mix" takes the likes as a set. With "continue" their order counts: the last of ``likes`` is the
    newest, all of them are newer than the stored ones, and newer ones weigh more, ``(1 + age)**-recency``
    where the age is the number of newer likes. ``recency`` goes from 0, all count alike, to `MOST_RECENCY`;
    by default it is what the bundle found best. None is "continue" for a stored user whose list has an order
    where the bundle found that better, else "mix". A stored list without an order is taken as a set.
    ``artists``, by id, link or name, are liked: their `SONGS_OF_AN_ARTIST` most liked songs count as liked.
    Songs of ``not_artists`` are left out. ``surprise``, from 0 to 1, draws songs among the best instead of
    taking those, with the same result for the same ``seed``; 0 leaves the ranking.
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
    links: str | None = None
    filters: Filters | None = None
    mode: Mode | None = None
    recency: float | None = None
    artists: Sequence[str] = ()
    not_artists: Sequence[str] = ()
    surprise: float = 0.0
    seed: int = 0


class QueryOptions(TypedDict, total=False):
    """The fields of a :class:`Query` that `recommend` takes by name, with its defaults."""

    dislikes: Sequence[str]
    exclude: Sequence[str]
    familiarity: float
    diversity: float
    max_per_artist: int | None
    explicit: bool
    links: str | None
    filters: Filters | None
    mode: Mode | None
    recency: float | None
    artists: Sequence[str]
    not_artists: Sequence[str]
    surprise: float
    seed: int


# Named tuples, because frozen dataclasses take ten times as long to create.
class SongView(NamedTuple):
    """A song of the catalogue. ``popularity`` is the number of users who like it.

    Texts are "" and ``explicit`` is None if unknown. ``x`` and ``y``, from 0 to 1, are its position on the
    map. ``year`` is that of its release, None if unknown; ``link`` leads to a page about it, "" without one.
    ``genres`` are at most three, those of most songs first; ``links`` the pages about it by service.
    """

    track_id: str
    track_idx: int
    name: str
    artists: str
    image_url: str
    preview_url: str
    popularity: int
    explicit: bool | None
    x: float
    y: float
    year: int | None = None
    link: str = ""
    genres: tuple[str, ...] = ()
    links: Mapping[str, str] = {}

    def shown(self) -> dict[str, Any]:
        """The fields in every answer, for JSON: all but the popularity and the index, which depends on the
        bundle."""
        fields = self._asdict()
        del fields["track_idx"], fields["popularity"]
        return fields


class Reason(NamedTuple):
    """A liked song as a reason for a recommended one, and how many stored users like both."""

    track_id: str
    name: str
    artists: str
    listeners: int


class Recommendation(NamedTuple):
    """A recommended song, with at most two liked songs as reasons, the strongest first."""

    song: SongView
    score: float
    reasons: tuple[Reason, ...]


class SimilarTrack(NamedTuple):
    """A song near another, and how many stored users like both.

    ``probability`` is that of the two being neighbours, see `neighbour_probability`; None in an uncalibrated
    bundle.
    """

    song: SongView
    cosine: float
    probability: float | None
    listeners: int


class Contribution(NamedTuple):
    """What a liked song adds to the score of another, the cosine of the two, and how many users like both."""

    track_id: str
    name: str
    artists: str
    contribution: float
    cosine: float
    listeners: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of a song's score: the contribution of each liked song, largest first, and the song's prior.

    ``score`` is the sum of the contributions and the prior. ``unknown`` are the given ids not in the bundle.
    """

    track: SongView
    score: float
    prior: float
    contributions: list[Contribution]
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Songs, best first, and the given ids that are not in the bundle, each once.

    ``degraded`` is None for a personal answer. Otherwise it says why there is no song, or why the songs are
    the most popular ones instead; their scores are then their numbers of likes. ``found`` is how many of the
    liked songs the bundle has, ``passing`` how many songs of the catalogue pass the filters, None without.
    """

    items: list[Recommendation]
    unknown: list[str]
    degraded: str | None
    bundle_version: str
    found: int = 0
    passing: int | None = None

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
            "found": self.found,
            "passing": self.passing,
            "unknown": self.unknown,
            "degraded": self.degraded,
        }


class ResolvedQuery(NamedTuple):
    """A query with its ids looked up, the unknown ids, why its answer is not personal, the service to link
    to, and how many of the liked songs the bundle has."""

    spec: QuerySpec
    unknown: list[str]
    degraded: str | None
    service: str | None
    found: int


class Ranked(NamedTuple):
    """A query and its best songs, which are described when they are written: numbers alone, so that many
    queries are ranked together. ``listeners`` int64[k, REASONS]: how many stored users like both a song and
    each of its reasons, 0 where it has none."""

    query: ResolvedQuery
    best: Rankings
    listeners: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> "Ranked":
        """The same query with the songs at these places alone, in this order."""
        indices, scores, because = self.best
        best = Rankings(indices[places], scores[places], because[places])
        return Ranked(self.query, best, self.listeners[places])


_Rows = TypeVar("_Rows", list[Recommendation], NDArray[np.int64])


class Recommender:
    """Answers queries from an open bundle. Immutable: threads may share it.

    ``blocked_tracks`` (ids) and songs of ``blocked_artists`` (ids, or names in any case) are in no answer.
    ``blocked`` int32 are their tracks, ascending; ``unknown_blocked`` are the entries not in the bundle.

    Queries use the index of the bundle if it has one. If the index cannot be used, ``index_problem`` says why
    (else None), a warning is logged, and queries are answered exactly, which takes longer.

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
        self._links = Links(bundle)
        self._continues_users = self.ranker.continuation.for_users

    @classmethod
    def open(cls, serving_folder: Path) -> Self:
        """The recommender over the live bundle, in milliseconds. Raises BundleError if there is no usable
        one."""
        return cls(Bundle.open(read_current(serving_folder)))

    @classmethod
    def verified(cls, serving_folder: Path) -> Self:
        """The same, with every byte of the bundle compared with its checksum: about a second a GB. Raises
        BundleError as well where one differs."""
        return cls(Bundle.verified(read_current(serving_folder)))

    def recommend(
        self, likes: Sequence[str], k: int = 10, **options: Unpack[QueryOptions]
    ) -> Recommendations:
        """The best k songs for somebody who likes these, without their own and the excluded ones.

        ``options`` are the other fields of :class:`Query`. A recording may be given by any of its ids;
        answers always use the canonical one. The answer reports unknown ids. If no given song is known, it
        has the most popular ones, and ``degraded`` says so. Raises InputError for an option out of range.
        """
        return self._answer_one(Query(likes, None, k, **options))

    def recommend_user(self, user_id: str, k: int = 10, **options: Unpack[QueryOptions]) -> Recommendations:
        """The same for a stored user. Also raises InputError for an unknown user."""
        return self._answer_one(Query((), user_id, k, **options))

    def answer(self, queries: Sequence[Query]) -> list[Recommendations | InputError]:
        """Many queries at once, with one product for all; each answer equals that of the query alone, to the
        last bit.

        An invalid query has its error in place of the answer; the others are not affected.
        """
        return self.described(self.ranked(queries))

    def ranked(self, queries: Sequence[Query]) -> list[Ranked | InputError]:
        """The same, not described yet."""
        resolved: list[ResolvedQuery | InputError] = []
        for query in queries:
            try:
                resolved.append(self.resolve(query))
            except InputError as error:
                resolved.append(error)
        valid = [one for one in resolved if isinstance(one, ResolvedQuery)]
        ks = [query.k for query, one in zip(queries, resolved, strict=True) if isinstance(one, ResolvedQuery)]
        best = self.ranker.answer([one.spec for one in valid], ks)
        ranked = iter(map(Ranked, valid, best, self._listeners_of(best)))
        return [one if isinstance(one, InputError) else next(ranked) for one in resolved]

    def described(self, ranked: Sequence[Ranked | InputError]) -> list[Recommendations | InputError]:
        """The answers to queries that were ranked, with all that is known of their songs."""
        items = iter(self._items([one for one in ranked if isinstance(one, Ranked)]))
        return [one if isinstance(one, InputError) else self._answer(one, next(items)) for one in ranked]

    def outline(self, ranked: Ranked) -> Recommendations:
        """The answer without its songs, for a writer that has them already."""
        return self._answer(ranked, [])

    def _answer(self, ranked: Ranked, items: list[Recommendation]) -> Recommendations:
        query = ranked.query
        passing = None if query.spec.passing is None else query.spec.passing.n_tracks
        degraded = query.degraded
        if not len(ranked.best.indices):
            degraded = _NOTHING_PASSES if passing == 0 else _NOTHING_LEFT
        return Recommendations(items, query.unknown, degraded, self.bundle.version, query.found, passing)

    def passing(self, filters: Filters | None) -> Passing | None:
        """The songs that pass the filters, None if these ask for nothing. Raises InputError for a mood or
        feature that does not exist, and NotInBundleError for what the bundle knows of no song."""
        return None if filters is None or filters.asks_nothing else self.ranker.filter.passing(filters)

    def similar(self, track_id: str, k: int = 10, filters: Filters | None = None) -> list[SimilarTrack]:
        """The k songs with the highest cosine to a song, without the song itself under any of its ids; of
        those that pass the filters.

        Raises InputError if the track is not in the bundle or k is below 1, and like :meth:`passing`.
        """
        _check_k(k)
        track = self.known(track_id)
        found, cosines = self.ranker.nearest(track, k, self.passing(filters))
        probabilities: list[float | None] = [None] * len(found)
        if (calibration := self.bundle.facts.get("calibration")) is not None:
            popularity = self.bundle.popularity
            both = neighbour_probability(calibration, cosines, popularity[track], popularity[found])
            probabilities = both.tolist()
        listeners = self.ranker.listeners_of_both(np.full(len(found), track, dtype=np.int32), found)
        songs = self.describe(found, self._links.service_of([track_id], found[:0]))
        return list(map(SimilarTrack, songs, cosines.tolist(), probabilities, listeners.tolist()))

    def explain(
        self, likes: Sequence[str], track_id: str, mode: Mode | None = None, recency: float | None = None
    ) -> Explanation:
        """The parts of a song's score for somebody with these likes, in this mode of a :class:`Query`. Raises
        InputError if the song is not in the bundle, or an option is out of range."""
        _check_options(Query(likes, mode=mode, recency=recency))
        track = self.known(track_id)
        liked, unknown = self.look_up(likes)
        ages = None
        if mode == "continue":
            liked, ages = _newest_first(liked)
        score, liked, contributions = self.ranker.parts(QuerySpec(liked, ages=ages, recency=recency), track)
        order = np.argsort(-contributions, kind="stable")
        liked, contributions = liked[order], contributions[order]
        embeddings = self.bundle.embeddings
        cosines = (embeddings[liked].astype(np.float64) * embeddings[track]).sum(axis=1)
        listeners = self.ranker.listeners_of_both(np.full(len(liked), track, dtype=np.int32), liked)
        numbers = (contributions.tolist(), cosines.tolist(), listeners.tolist())
        return Explanation(
            self.describe(np.array([track], dtype=np.int32))[0],
            score,
            float(self.bundle.prior[track]),
            list(map(Contribution, *self._texts(liked), *numbers)),
            unknown,
        )

    def track(self, track_id: str) -> SongView | None:
        """The song of this id, None if it is not in the bundle."""
        position = self.bundle.tracks.position(track_id)
        if position < 0:
            return None
        return self.describe(self.bundle.canonical[[position]])[0]

    def describe(self, tracks: NDArray[np.int32], service: str | None = None) -> list[SongView]:
        """The songs at these indices, linked to ``service`` where they have an id there, else to that of
        their own id."""
        ids, names, artists = self._texts(tracks)
        return self._views(tracks, ids, names, artists, [service] * len(ids))

    def _texts(self, tracks: NDArray[np.int32]) -> tuple[list[str], list[str], list[str]]:
        """The ids, names and artists of these tracks."""
        bundle = self.bundle
        return _read(bundle.tracks.ids, tracks), _read(bundle.names, tracks), _read(bundle.artists, tracks)

    def _views(
        self,
        tracks: NDArray[np.int32],
        ids: list[str],
        names: list[str],
        artists: list[str],
        services: list[str | None],
    ) -> list[SongView]:
        # `map` builds the tuples in C; a Python loop over the songs would take longer than the ranking.
        bundle = self.bundle
        pages = self._links.of(tracks, ids)
        return list(
            map(
                SongView,
                ids,
                tracks.tolist(),
                names,
                artists,
                _web_links(bundle.image_urls, tracks),
                _web_links(bundle.preview_urls, tracks),
                bundle.popularity[tracks].tolist(),
                [None if mark < 0 else mark > 0 for mark in bundle.explicit[tracks].tolist()],
                *bundle.layout[tracks].T.tolist(),
                [year or None for year in bundle.years[tracks].tolist()],
                map(best_link, ids, pages, services),
                self.genres.of(tracks),
                pages,
            )
        )

    @cached_property
    def genres(self) -> GenresOfSongs:
        """The genres of each song. Built when they are first needed, in milliseconds."""
        bundle = self.bundle
        genres = Genres(bundle.genre_names.tolist(), bundle.genre_indptr, bundle.genre_tracks)
        return GenresOfSongs(genres, bundle.n_tracks)

    def rank_everyone(
        self,
        k: int = 10,
        *,
        users_a_block: int = USERS_A_BLOCK,
        among: range | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Rankings]:
        """Rank for all stored users, or for those ``among`` these rows, a block of them at a time: row by row
        the answers of :meth:`recommend_user`. Memory does not grow with the users. Raises InputError for a
        bad ``k``."""
        _check_k(k)
        everyone = range(self.bundle.n_users)
        return self._ranked_blocks(k, everyone if among is None else among, users_a_block, progress)

    def _ranked_blocks(
        self, k: int, everyone: range, users_a_block: int, progress: Progress | None
    ) -> Iterator[Rankings]:
        bundle = self.bundle
        for start in everyone[::users_a_block]:
            users = range(start, min(start + users_a_block, everyone.stop))
            orders = [bundle.user_order(user) if self._continues_users else None for user in users]
            specs = [
                QuerySpec(
                    bundle.user_list(user),
                    bundle.user_dislikes(user),
                    ages=None if order is None else order.astype(np.int32),
                )
                for user, order in zip(users, orders, strict=True)
            ]
            yield self.ranker.rank_specs(specs, k, explain=True)
            if progress is not None:
                progress("rank users", users.stop - everyone.start, len(everyone))

    def _answer_one(self, query: Query) -> Recommendations:
        (answer,) = self.answer([query])
        if isinstance(answer, InputError):
            raise answer
        return answer

    def resolve(self, query: Query) -> ResolvedQuery:
        """Look up the ids of a query. Raises InputError for an unknown user or an option out of range."""
        _check_options(query)
        liked, unknown = self.look_up(query.likes)
        ages: NDArray[np.int32] | None = None
        if query.mode == "continue" and liked.size:
            liked, ages = _newest_first(liked)
        n_unknown = len(unknown)
        disliked = excluded = _no_tracks
        if query.dislikes:
            disliked, more = self.look_up(query.dislikes)
            unknown += more
        if query.exclude:
            excluded, more = self.look_up(query.exclude)
            unknown += more
        if query.user_id is not None:
            user = self.bundle.users.position(query.user_id)
            if user < 0:
                raise InputError(
                    f"user {_shown(query.user_id)} is not in bundle {self.bundle.version};"
                    " import their likes and refresh, or give songs with --likes"
                )
            stored, stored_dislikes = self.bundle.user_list(user), self.bundle.user_dislikes(user)
            order = None
            if query.mode == "continue" or (query.mode is None and self._continues_users):
                order = self.bundle.user_order(user)
            if order is not None or ages is not None:
                liked, ages = _with_older(*_newest_first(liked), stored, order)
            else:
                liked = np.concatenate([liked, stored]) if liked.size else stored
            if stored_dislikes.size:
                # The likes of the query are newer than the stored dislikes.
                kept = stored_dislikes[np.isin(stored_dislikes, liked, invert=True)]
                disliked = np.concatenate([disliked, kept])
        found = len(set(liked.tolist()))
        if query.artists or query.not_artists:
            of_artists, of_others, more = self._songs_of(query.artists, query.not_artists)
            if ages is not None:  # the songs of an artist are older than all others
                ages = np.concatenate([ages, np.full(len(of_artists), len(ages), dtype=np.int32)])
            liked, excluded = np.concatenate([liked, of_artists]), np.concatenate([excluded, of_others])
            unknown += more
        passing = self.passing(query.filters)
        options = (query.familiarity, query.diversity, query.max_per_artist, query.explicit, passing)
        of_order = (ages, query.recency)
        spec = QuerySpec(liked, disliked, excluded, *options, *of_order, query.surprise, query.seed)
        if disliked.size:
            liked = liked[np.isin(liked, disliked, invert=True)]
        degraded = None if liked.size else _degraded(query, n_unknown)
        service = query.links or self._links.service_of(query.likes, spec.liked)
        return ResolvedQuery(
            spec, list(dict.fromkeys(unknown)) if unknown else unknown, degraded, service, found
        )

    def _songs_of(
        self, artists: Sequence[str], not_artists: Sequence[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], list[str]]:
        """The songs that stand for the first artists, all songs of the others, and the unknown artists."""
        places = {given: self.lookup.artist(given) for given in dict.fromkeys([*artists, *not_artists])}

        def songs(some: Sequence[str], most: int | None) -> NDArray[np.int32]:
            known = [place for given in some if (place := places[given]) is not None]
            return np.concatenate([_no_tracks, *(self.lookup.songs_of(place)[:most] for place in known)])

        unknown = [given for given, place in places.items() if place is None]
        return songs(artists, SONGS_OF_AN_ARTIST), songs(not_artists, None), unknown

    @cached_property
    def lookup(self) -> "Lookup":
        """Songs and artists by the names of other programs. Its parts are built when they are first needed,
        in seconds for millions of songs."""
        from tunegraph_pipeline.recommend.lookup import Lookup  # which most queries do not need

        return Lookup(self.bundle)

    @cached_property
    def popular(self) -> NDArray[np.int32]:
        """All songs that may be recommended, the most liked first: int32."""
        order = self.bundle.popular_order
        shown: NDArray[np.int32] = order[self.ranker.allowed[order]] if self.blocked.size else order
        return shown

    @cached_property
    def artist_songs(self) -> NDArray[np.int64]:
        """How many songs of each artist may be recommended: int64[artists]."""
        return self.lookup.count_songs(self.ranker.allowed)

    def known(self, track_id: str) -> int:
        """The canonical track of an id. Raises InputError if it is not in the bundle."""
        track = self.bundle.tracks.position(track_id)
        if track < 0:
            raise InputError(f"track {_shown(track_id)} is not in bundle {self.bundle.version}")
        return int(self.bundle.canonical[track])

    def first_artist(self, track: int) -> str:
        """The name of the artist named first, "" if unknown."""
        start, end = self.bundle.artist_indptr[track : track + 2].tolist()
        return self.bundle.artist_names[int(self.bundle.artist_indices[start])] if end > start else ""

    def look_up(self, track_ids: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """The canonical track of each known id, and the unknown ids, each once."""
        found = self.bundle.tracks.find(track_ids)
        if not found.size or found.min() >= 0:
            return self.bundle.canonical[found], []
        missing = dict.fromkeys(track_ids[slot] for slot in np.flatnonzero(found < 0).tolist())
        return self.bundle.canonical.take(found[found >= 0]), list(missing)

    def _listeners_of(self, best: list[Rankings]) -> list[NDArray[np.int64]]:
        """How many stored users like both each song and each of its reasons, of many rankings at once."""
        if not best:
            return []
        because = np.concatenate([one.because for one in best])
        place, rank = np.nonzero(because >= 0)
        both = np.zeros(because.shape, dtype=np.int64)
        tracks = np.concatenate([one.indices for one in best])
        both[place, rank] = self.ranker.listeners_of_both(because[place, rank], tracks[place])
        return _parted(both, best)

    def _items(self, ranked: list[Ranked]) -> list[list[Recommendation]]:
        """The songs of all rankings, with reasons, linked to the services of their queries. Their texts are
        read together, which is faster."""
        if not ranked:
            return []
        best = [one.best for one in ranked]
        tracks = np.concatenate([one.indices for one in best])
        because = np.concatenate([one.because for one in best])
        both = np.concatenate([one.listeners for one in ranked])
        place, rank = np.nonzero(because >= 0)
        ids, names, artists = self._texts(np.concatenate([tracks, because[place, rank]]))
        n = len(tracks)
        all_reasons = map(Reason, ids[n:], names[n:], artists[n:], both[place, rank].tolist())
        reasons: list[tuple[Reason, ...]] = [()] * len(tracks)
        for at, reason in zip(place.tolist(), all_reasons, strict=True):
            reasons[at] += (reason,)
        scores = np.concatenate([one.scores for one in best]).tolist()
        services = [one.query.service for one in ranked for _ in one.best.indices]
        songs = self._views(tracks, ids[:n], names[:n], artists[:n], services)
        return _parted(list(map(Recommendation, songs, scores, reasons)), best)


def _parted(rows: _Rows, best: Sequence[Rankings]) -> list[_Rows]:
    """The rows of each of these rankings, which were joined."""
    parts, start = [], 0
    for one in best:
        end = start + len(one.indices)
        parts.append(rows[start:end])
        start = end
    return parts


def _newest_first(liked: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct tracks of a list whose last is the newest, newest first, and their ages. A track that is
    there several times is as new as its last place."""
    turned = liked[::-1]
    _, places = np.unique(turned, return_index=True)
    return turned[np.sort(places)], np.arange(len(places), dtype=np.int32)


def _with_older(
    newer: NDArray[np.int32],
    ages: NDArray[np.int32],
    stored: NDArray[np.int32],
    order: NDArray[np.uint16] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The tracks of a list and those of the stored one that are not among them, all of these older."""
    kept = np.isin(stored, newer, invert=True)
    older = stored[kept]
    of_stored = np.zeros(len(older), dtype=np.int32) if order is None else order[kept].astype(np.int32)
    if len(older) < len(stored):
        of_stored = np.searchsorted(np.sort(of_stored), of_stored).astype(np.int32)  # without the newer ones
    return np.concatenate([newer, older]), np.concatenate([ages, len(newer) + of_stored], dtype=np.int32)


def _usable_index(bundle: Bundle) -> tuple[CandidateIndex | None, str | None]:
    """The bundle's index, None if it has none or it cannot be used, and in the latter case why not."""
    try:
        return CandidateIndex.open(bundle), None
    except LibraryMissingError as error:
        problem = f"bundle {bundle.version} is answered exactly, which takes longer: {error}"
        _log.warning(problem)
        return None, problem


def _blocked(
    bundle: Bundle, track_ids: Collection[str], artists: Collection[str]
) -> tuple[NDArray[np.int32], list[str]]:
    """The tracks of the blocklist, and its entries that are not in the bundle."""
    distinct = list(dict.fromkeys(track_ids))
    found = bundle.tracks.find(distinct)
    unknown = [track for track, at in zip(distinct, found.tolist(), strict=True) if at < 0]
    blocked = bundle.canonical[found[found >= 0]]
    if not artists:
        return blocked, unknown
    places: dict[str, list[int]] = {}
    for texts in (bundle.artist_ids, bundle.artist_names):
        for place, text in enumerate(texts.tolist()):
            places.setdefault(composed(text.casefold()), []).append(place)
    keys = {artist: composed(artist.casefold()) for artist in artists}
    unknown += [artist for artist, key in keys.items() if key not in places]
    makers = sorted({place for key in keys.values() for place in places.get(key, [])})
    credited = np.isin(bundle.artist_indices, makers)
    owners = np.repeat(np.arange(bundle.n_tracks, dtype=np.int32), np.diff(bundle.artist_indptr))
    return np.union1d(blocked, owners[credited]).astype(np.int32), unknown


_NOTHING_LEFT = (
    "no song is left: all that may be recommended are in the list, excluded, blocked, or left out by an"
    " option"
)
_NOTHING_PASSES = "no song passes the filters; ask for less"


def _degraded(query: Query, n_unknown: int) -> str:
    if query.user_id is not None:
        return "this user likes no song at present, so these are the most popular ones"
    if query.likes and n_unknown:
        return "no given song is known, so these are the most popular ones"
    return "no liked songs were given, so these are the most popular ones"


def _read(column: StringColumn, positions: NDArray[np.int32]) -> list[str]:
    """Many strings of a column at once, which is faster than one at a time."""
    data = column.bytes.data
    if not data.nbytes:  # a column of empty strings, as for links, which most sources lack
        return [""] * len(positions)
    offsets = column.offsets.data  # indexing the buffer gives plain integers, faster than numpy
    return [str(data[offsets[at] : offsets[at + 1]], "utf-8") for at in positions.tolist()]


def _web_links(column: StringColumn, positions: NDArray[np.int32]) -> list[str]:
    """The links of the web among many strings of a column, and "" in place of any other, which a page would
    follow too."""
    links = _read(column, positions)
    return [link if link[:8].lower().startswith(("https://", "http://")) else "" for link in links]


def _check_options(query: Query) -> None:
    _check_k(query.k)
    for name in ("familiarity", "diversity", "surprise"):
        value = getattr(query, name)
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; it goes from 0 to 1")
    if query.links is not None and query.links not in SERVICES:
        raise InputError(f"links is {_shown(query.links)}; choose one of {', '.join(SERVICES)}")
    if query.mode is not None and query.mode not in MODES:
        raise InputError(f"mode is {_shown(query.mode)}; choose one of {', '.join(MODES)}")
    if query.recency is not None:
        if query.mode != "continue":
            raise InputError("recency is an option of mode continue, in which the order of a list counts")
        if not 0 <= query.recency <= MOST_RECENCY:
            raise InputError(f"recency is {query.recency}; it goes from 0 to {MOST_RECENCY:g}")
    if query.max_per_artist is not None and query.max_per_artist < 1:
        raise InputError(f"max_per_artist is {query.max_per_artist}; ask for at least one song of an artist")


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"-k is {k}; ask for at least one song")


def _shown(text: str) -> str:
    """An id for a message: quoted, and shortened if it is very long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
