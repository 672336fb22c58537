"""The scoring rule over the arrays of a bundle: for liked tracks, the best k and the reasons for each.

Here: arithmetic on track indices, for one list or many, with results equal to the last bit. Not here: ids,
names and the answers shown to people (`recommender`), or storing the arrays (`bundle`). The file is long
because the steps of a query share one state, `_Question`, and are read together.

A list L of n > 0 liked tracks is queried with ``q = normalise(sum_{i in L} pooling_weight[i] E[i])``, and

    score[j] = blend.embedding * E[j].q  +  blend.neighbour * n**-blend.length_exponent * sum_{i in L} W[i, j]
               + prior[j]

In a list whose order counts, each term of the first sum is multiplied by ``(1 + age[i])**-recency``, each of
the second by ``(1 + age[i])**-neighbour_recency``, where the age of a track is the number of liked ones that
are newer; and the blend is another (`models.blend.Continuation`).

Disliked tracks D are a list of their own, of whose first two terms ``DISLIKE`` times is subtracted (Rocchio
1971). A familiarity f adds ``(2 f - 1) * FAMILIARITY * blend.embedding * popularity[j]``, where popularity is
the standardised logarithm of the likes (see `bundle`); at 0.5 the score is the model's. Liked, disliked and
excluded tracks and those that are not recommendable are left out; on ties the smaller index comes first. A
diversity above zero selects tracks one by one by maximal marginal relevance (Carbonell and Goldstein 1998).
A surprise s above zero draws from the best, without repeats, with weights ``exp(relevance / (s SURPRISE))``:
the relevance of a track plus noise decides (Gumbel top-k), and the noise is a function of seed and track.

Every track is considered, but most are read only in part. A product with the bundle's ``screen`` bounds every
score from above: the coordinates in the screen are exact, and the others add at most the product of two
lengths. The true scores of the tracks with the highest bounds give a bar; tracks bounded below it are done.

Two ways of multiplying the same matrices differ in the last bits of a float32, and with them the order of
nearly equal tracks. So BLAS only gives a shortlist, wide enough that rounding cannot exclude a winner. The
few tracks on it are scored again in float64, with an order of summation that depends on nothing else, and
ranked by that score rounded to float32. So a list ranks the same alone and among 50,000 others, with any
BLAS, block size or number of threads.

In a large catalogue even one product takes milliseconds. With the bundle's index only candidates are scored
(see `candidates`). For thousands of lists it is searched at once, and finds the same. Only tracks that the
index misses are lost; scores are those of the exact ranking.
"""

from __future__ import annotations  # or those of the functions within others are evaluated in every query

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.models.blend import Blend, Continuation
from tunegraph_pipeline.recommend.bundle import LEFT_OUT, SCREEN_EXTRAS, Bundle
from tunegraph_pipeline.recommend.candidates import (
    MOST_REQUESTED,
    CandidateQuery,
    CandidateSearch,
    Scratch,
    TooFewError,
    first_request,
)
from tunegraph_pipeline.recommend.csr_rows import row_places
from tunegraph_pipeline.recommend.filters import MOST_ROWS_BYTES, Filters, Passing, SongFilter
from tunegraph_pipeline.recommend.index import CandidateIndex
from tunegraph_pipeline.recommend.list_search import Found

Progress = Callable[[str, int, int], None]

REASONS = 2
"""Maximum number of liked tracks given as reasons of a recommendation."""
DISLIKE = 0.5
"""Weight of disliked tracks relative to liked ones."""
SURPRISE = 0.5
"""The temperature of a draw with full surprise, as a share of the range of scores that is drawn from."""
FAMILIARITY = 0.15
"""At both ends of familiarity, a standard deviation of popularity counts as much as this cosine."""

_EPSILON = float(np.finfo(np.float32).eps)
_DOTS_BLOCK = 4096
_GROUP = 64  # bounds in a group, of which only the largest is compared, see `_bar`
_SEARCHED, _FEW = 4096, 256  # queries that the index is searched for at once, and the fewest
_LOOSE = 20  # times k tracks reach the bar if bounds are loose
_POOL = 100  # minimum number of tracks to diversify among
_UNIT = 2.0**26
"""To choose diverse tracks, embeddings are rounded to whole multiples of 1 / _UNIT. The products of two of
length 1 then stay below 2**53 in whole numbers, and add up to the same float64 in any order, so BLAS may."""
_TOGETHER = 12  # queries from which one product for all costs less than one for each
_AT_ONCE = 8  # queries of a product whose result stays in the cache
_MOST_UNPACKED = 1_000_000
"""Multiplications of a product up to which OpenBLAS uses its matrices as they are. Beyond it, it copies them
first, which takes longer than a product of a few queries."""
_MOST_TURNED = 64 << 20  # bytes
_LONG = 256  # rows of neighbours from which they are added up in float64
_ALLOWED = float(LEFT_OUT) / 2  # tracks with a bound below this are left out

_WORD = 2**64 - 1

_no_tracks = np.zeros(0, dtype=np.int32)


class Rankings(NamedTuple):
    """The best tracks of m lists, best first, padded where fewer than k could be recommended.

    ``indices`` int32[m, k], -1 where padded; ``scores`` float32[m, k], -inf where padded; ``because``
    int32[m, k, REASONS], the liked tracks that contributed most, strongest first, -1 if there are none or
    reasons were not requested. For a single list, all lack the first axis and nothing is padded.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    because: NDArray[np.int32]


class QuerySpec(NamedTuple):
    """One query in track_idx int32, in any order, possibly with repeats.

    A track both liked and disliked is disliked. ``excluded`` tracks are only left out; ``explicit`` False
    leaves out tracks marked explicit. At most ``max_per_artist`` tracks have the same first artist, if it is
    known. ``familiarity`` and ``diversity`` go from 0 to 1. ``passing``: the tracks that may be recommended,
    if these are not all. ``surprise``, from 0 to 1, draws among the best with the ``seed``.

    ``ages`` int32, for each entry of ``liked``: how many others are newer; equal ones are as new as each
    other, and of repeats the newest counts. None: the list is a set. ``recency`` replaces both exponents of
    the bundle, for a list with ages.
    """

    liked: NDArray[np.int32]
    disliked: NDArray[np.int32] = _no_tracks
    excluded: NDArray[np.int32] = _no_tracks
    familiarity: float = 0.5
    diversity: float = 0.0
    max_per_artist: int | None = None
    explicit: bool = True
    passing: Passing | None = None
    ages: NDArray[np.int32] | None = None
    recency: float | None = None
    surprise: float = 0.0
    seed: int = 0


class _Aim(NamedTuple):
    """The part of a `_Question` that the index is searched by, its parts as there. ``blend``: that of the
    list; ``ages``: those of the liked tracks, if their order counts; ``length``: that of the sum of the liked
    tracks, before normalising."""

    blend: Blend
    liked: NDArray[np.int32]
    ages: NDArray[np.int32] | None
    disliked: NDArray[np.int32]
    named: NDArray[np.int32]
    pooling: NDArray[np.float32]
    rows: NDArray[np.float32]
    direction: NDArray[np.float64]
    length: float
    familiarity: float


class _Question(NamedTuple):
    """A `QuerySpec` as vectors over the bundle's arrays."""

    liked: NDArray[np.int32]  # ascending and distinct
    named: NDArray[np.int32]  # the liked, disliked and excluded tracks
    left_out: NDArray[np.int32]  # those, blocked tracks, and explicit ones unless allowed
    pooling: NDArray[np.float32]  # [n], what each liked track weighs in the direction
    rows: NDArray[np.float32]  # [n, d], the embeddings of the liked tracks
    direction: NDArray[np.float64]  # [d]: dot product with an embedding is the embedding part of a score
    probe: NDArray[np.float32]  # [w]: dot product with a row of the screen is the bound
    like_scale: float  # times pooling weight and cosine: what a liked track adds to the embedding part
    columns: NDArray[np.intp]  # the cached rows of liked, then disliked tracks, concatenated,
    weights: NDArray[np.float64]  # their weights,
    ends: NDArray[np.int64]  # and where the row of each track ends
    familiarity: float  # times popularity: what it adds to a score
    rounding: float  # bound of float32 errors, in units of its epsilon, except 8 units of the score
    passing: Passing | None


SCORE_PARTS = ("embedding", "neighbours", "prior", "familiarity")
"""What a score is the sum of."""

_Highest = Callable[[int], tuple[NDArray[np.intp], NDArray[np.float32]]]
"""Given k, returns the k tracks with the highest scores, best first, and their scores."""


class Ranker:
    """Ranks the whole catalogue of a bundle. Threads may share it.

    ``blocked`` tracks, by index, are never recommended. They may still be liked. ``filter`` finds the tracks
    that a query may be limited to. ``allowed`` bool[N] are the tracks that may be recommended. With the
    bundle's ``index``, queries are answered from candidates if it is known to find enough; other queries rank
    all tracks.
    """

    def __init__(
        self,
        bundle: Bundle,
        blocked: NDArray[np.int32] = _no_tracks,
        *,
        index: CandidateIndex | None = None,
    ) -> None:
        self.bundle = bundle
        self.blend = Blend.from_facts(bundle.facts["blend"])
        self.continuation = Continuation.from_facts(bundle.facts)
        self._blocked = np.unique(blocked)
        self.allowed = bundle.recommendable
        if self._blocked.size:
            self.allowed = self.allowed.copy()
            self.allowed[self._blocked] = False
        self._explicit = np.flatnonzero(bundle.explicit == 1).astype(np.int32)
        self._coordinates = bundle.screen.shape[1] - SCREEN_EXTRAS
        self._whole = self._coordinates == bundle.dimension
        self._largest_prior = float(np.abs(bundle.prior).max(initial=0))
        self.filter = SongFilter(bundle, self.allowed)
        self._prepared = False
        self._turned: NDArray[np.float32] | None = None
        """The screen, float32[w, N], each coordinate of all tracks in a row; None until it is prepared."""
        self._scratch = Scratch(bundle.n_tracks)
        self._candidates = (
            None if index is None else CandidateSearch(bundle, index, self.allowed, self._scratch)
        )

    def prepare(self) -> None:
        """Get ready for many queries. With an index, those that are limited to many tracks are then answered
        from candidates too. Without one, single queries take a fifth less time, and a few that wait together
        a third less; that takes as much memory as the bundle's screen, and is left out where it is large."""
        if self._candidates is not None:
            self._candidates.index.prepare()
        elif self.bundle.screen.nbytes <= _MOST_TURNED:
            self._turned = np.ascontiguousarray(self.bundle.screen.T)
        self._prepared = True

    def _searches_index(self, passing: Passing | None) -> bool:
        """Whether the index is searched for queries that are limited to these tracks."""
        return self._candidates is not None and (
            passing is None or (self._prepared and not self._few(passing))
        )

    def is_new(self, filters: Filters) -> bool:
        """Whether the catalogue is large, and it takes long to find which of its tracks pass these."""
        return self._candidates is not None and not (filters.asks_nothing or self.filter.is_ready(filters))

    def rank(
        self,
        lists: Sequence[NDArray[np.int32]],
        k: int,
        *,
        explain: bool = False,
        block_bytes: int = 32 << 20,
        progress: Progress | None = None,
    ) -> Rankings:
        """The best k tracks for each list of liked track_idx, in any order, possibly with repeats.

        An empty list gets the most popular tracks, with their numbers of likes as scores.
        """
        specs = [QuerySpec(liked) for liked in lists]
        return self.rank_specs(specs, k, explain=explain, block_bytes=block_bytes, progress=progress)

    def rank_specs(
        self,
        specs: Sequence[QuerySpec],
        k: int,
        *,
        explain: bool = False,
        block_bytes: int = 32 << 20,
        progress: Progress | None = None,
    ) -> Rankings:
        """The same for specs. Works in blocks whose bounds take about ``block_bytes`` bytes."""
        rankings = Rankings(
            np.full((len(specs), k), -1, dtype=np.int32),
            np.full((len(specs), k), -np.inf, dtype=np.float32),
            np.full((len(specs), k, REASONS), -1, dtype=np.int32),
        )
        per_block = max(1, block_bytes // max(1, 4 * self.bundle.n_tracks))
        searched: list[Found | None] = []
        for start in range(0, len(specs), per_block):
            block = specs[start : start + per_block]
            if len(searched) < len(block):
                following = start + len(searched)
                searched += self._searched(specs[following : following + max(_SEARCHED, per_block)], k)
            found, searched = searched[: len(block)], searched[len(block) :]
            answers = self._answers(block, [k] * len(block), found, explain=explain)
            for row, best in enumerate(answers, start):
                for table, part in zip(rankings, best, strict=True):
                    table[row, : len(part)] = part
            if progress is not None:
                progress("rank users", start + len(block), len(specs))
        return rankings

    def answer(
        self, specs: Sequence[QuerySpec], ks: Sequence[int], *, explain: bool = True
    ) -> list[Rankings]:
        """The best ``ks[i]`` tracks for each of the specs, from one product for all: for each, three arrays
        without the axis of lists, at most ``ks[i]`` long and never padded.

        Raises IndexError for a track outside of the catalogue.
        """
        return self._answers(specs, ks, [None] * len(specs), explain=explain)

    def _answers(
        self, specs: Sequence[QuerySpec], ks: Sequence[int], found: Sequence[Found | None], *, explain: bool
    ) -> list[Rankings]:
        """The same, given what the index finds first where that is known."""
        questions = [self._question(spec) for spec in specs]
        answers = [
            self._of_candidates(question, spec, k, first, explain=explain)
            for question, spec, k, first in zip(questions, specs, ks, found, strict=True)
        ]
        open_places = [place for place, answer in enumerate(answers) if answer is None]
        bounds = self._bounds([questions[place] for place in open_places])
        for bound, place in zip(bounds, open_places, strict=True):
            question, spec, k = questions[place], specs[place], ks[place]
            highest = self._of_everything(bound, question)
            answers[place] = self._best(highest, question, spec, k, explain=explain)
        return [answer for answer in answers if answer is not None]

    def _bounds(self, questions: Sequence[_Question]) -> list[NDArray[np.float32]]:
        """The bound of each track without neighbours for each question; of those passing where these are
        `_few`, else of all, with `LEFT_OUT` of those not passing."""
        whole = [question.probe for question in questions if not self._few(question.passing)]
        products = iter(self._products(whole))
        bounds: list[NDArray[np.float32]] = []
        for question in questions:
            passing = question.passing
            if passing is not None and self._few(passing):
                bound = passing.rows_of(self.bundle.screen) @ question.probe
            else:
                bound = next(products)
                if passing is not None:
                    bound[~passing.tracks] = LEFT_OUT
            bounds.append(bound)
        return bounds

    def _products(self, probes: list[NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """The product of the screen with each of these."""
        if self._turned is None:
            # Few rows times a transposed table take longer together than one by one.
            table = self.bundle.screen.T
            together = len(probes) >= _TOGETHER
            return list(np.array(probes) @ table) if together else [probe @ table for probe in probes]
        products: list[NDArray[np.float32]] = []
        for start in range(0, len(probes), _AT_ONCE):
            some = np.array(probes[start : start + _AT_ONCE])
            product = np.empty((len(some), self.bundle.n_tracks), dtype=np.float32)
            width = self.bundle.n_tracks if len(some) == 1 else max(1, _MOST_UNPACKED // some.size)
            for first in range(0, self.bundle.n_tracks, width):
                columns = np.s_[:, first : first + width]
                np.matmul(some, self._turned[columns], out=product[columns])
            products += list(product)
        return products

    def _few(self, passing: Passing | None) -> bool:
        """Whether so few tracks pass that their rows of the screen are kept, and they are ranked by
        themselves: half of a small catalogue at most, a tenth of a million."""
        if passing is None:
            return False
        row = self.bundle.screen.itemsize * self.bundle.screen.shape[1]
        return 2 * passing.n_tracks <= self.bundle.n_tracks and passing.n_tracks * row <= MOST_ROWS_BYTES

    def nearest(
        self, track: int, k: int, passing: Passing | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k recommendable tracks nearest to a track, without itself, and their cosines; of those
        ``passing`` where given."""
        row = self.bundle.embeddings[track]
        shortlist = self._near_candidates(track, k, passing)
        if shortlist is None:
            shortlist = self._near_shortlist(track, k, passing)
        exact = _dots(self.bundle.embeddings, shortlist, row.astype(np.float64)).astype(np.float32)
        order = _descending(exact)[:k]
        return shortlist[order].astype(np.int32), exact[order]

    def _near_shortlist(self, track: int, k: int, passing: Passing | None) -> NDArray[np.intp]:
        """Indices, ascending, of all tracks that may be among the k nearest to this one."""
        row = self.bundle.embeddings[track]
        known = self._coordinates
        probe = np.zeros(self.bundle.screen.shape[1], dtype=np.float32)
        probe[:known] = row[:known]
        probe[-3] = np.linalg.norm(row[known:])
        itself = np.array([track])
        if passing is not None and self._few(passing):
            bound = passing.rows_of(self.bundle.screen) @ probe
            bound[_places_in(passing.indices, itself[passing.tracks[itself]])] = LEFT_OUT
            shortlist = self._shortlist(bound, row, probe[-3], k, row.size + 8.0, passing)
            return passing.indices[shortlist]
        bound = self.bundle.screen @ probe
        bound[~(self.allowed if passing is None else passing.tracks)] = LEFT_OUT
        bound[track] = LEFT_OUT
        return self._shortlist(bound, row, probe[-3], k, row.size + 8.0)

    def _near_candidates(self, track: int, k: int, passing: Passing | None) -> NDArray[np.intp] | None:
        """The same from the index and the track's cached neighbours; None if these are not enough."""
        search, bundle = self._candidates, self.bundle
        probes = None if search is None else search.index.probes.similar
        if search is None or probes is None or not self._searches_index(passing):
            return None
        chosen = None if passing is None else passing.chosen_in(search.index)
        allowed = self.allowed if passing is None else passing.tracks
        row = bundle.embeddings[track]
        cached = bundle.neighbour_indices[bundle.neighbour_indptr[track] : bundle.neighbour_indptr[track + 1]]
        requested = 2 * k + 1
        while requested <= MOST_REQUESTED:
            found = search.index.search(row, 0.0, 0.0, requested, probes, chosen)
            candidates: NDArray[np.intp] = np.union1d(found.tracks, cached)
            candidates = candidates[allowed[candidates] & (candidates != track)]
            if len(candidates) >= k:
                cosines = bundle.embeddings[candidates] @ row
                if np.partition(cosines, len(cosines) - k)[len(cosines) - k] > found.bound:
                    return candidates
            requested *= 4
        return None

    def parts(self, spec: QuerySpec, track: int) -> tuple[float, NDArray[np.int32], NDArray[np.float64]]:
        """The parts of the score of one track: (score, liked int32[n], contribution of each float64[n]).

        The score minus the contributions is the prior plus familiarity minus dislikes. Without liked tracks
        the score is the prior. A track that would be left out has a score too.
        """
        question = self._question(spec)
        winner = np.array([track])
        contributions = self._contributions(question, winner)[0] if question.liked.size else np.zeros(0)
        return float(self._score_parts(question, winner).sum()), question.liked, contributions

    def score_parts(self, spec: QuerySpec, tracks: NDArray[np.int32]) -> NDArray[np.float64]:
        """What the scores of these tracks are the sums of, float64[n, 4]: the embedding part, the neighbour
        part, the prior and familiarity, as in `SCORE_PARTS`. Dislikes are within the first two."""
        return self._score_parts(self._question(spec), tracks)

    def _score_parts(self, question: _Question, tracks: NDArray[np.int32 | np.intp]) -> NDArray[np.float64]:
        near = [question.weights[question.columns == track].sum() for track in tracks.tolist()]
        return np.column_stack(
            [
                _dots(self.bundle.embeddings, tracks.astype(np.intp), question.direction),
                np.array(near, dtype=np.float64),
                self.bundle.prior[tracks].astype(np.float64),
                question.familiarity * self.bundle.screen[tracks, -1].astype(np.float64),
            ]
        )

    def listeners_of_both(self, some: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.int64]:
        """How many stored users like both ``some[i]`` and ``others[i]``: int64 of the same length."""
        pair, these = self._listeners(some)
        _, those = self._listeners(others)
        if not those.size:
            return np.zeros(len(some), dtype=np.int64)
        found = those[np.minimum(those.searchsorted(these), len(those) - 1)] == these
        return np.bincount(pair[found], minlength=len(some))

    def _listeners(self, tracks: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The listeners of these tracks, concatenated: the place of the track, and an ascending number for
        each place and user."""
        places, lengths = row_places(self.bundle.listener_indptr, tracks)
        place = np.arange(len(tracks)).repeat(lengths)
        return place, place * np.int64(self.bundle.n_users) + self.bundle.listeners[places]

    def _searched(self, specs: Sequence[QuerySpec], k: int) -> list[Found | None]:
        """What the index finds first for the best k of each, if that is known before: of hundreds of queries
        it can be found at once. Without the index, or with few queries, it is found one by one."""
        found: list[Found | None] = [None] * len(specs)
        search = self._candidates
        if search is None or len(specs) < _FEW:
            return found
        asked, places, probes, ms = [], [], [], []
        for place, spec in enumerate(specs):
            aim = self._aim(spec)
            most = search.index.probes.of(len(aim.liked), spec.familiarity)
            if most is not None and aim.liked.size and spec.passing is None:
                asked.append(aim)
                places.append(place)
                probes.append(most)
                ms.append(first_request(_pool_of(spec, k), len(aim.named)))
        if len(asked) < _FEW:
            return found
        familiarities = [aim.familiarity for aim in asked]
        many = search.index.search_many([aim.direction for aim in asked], 1.0, familiarities, ms, probes)
        for place, one in zip(places, many or (), strict=False):
            found[place] = one
        return found

    def _aim(self, spec: QuerySpec) -> _Aim:
        blend, recency = self.blend, 0.0
        liked, ages = self._liked(spec)
        disliked = self._checked(spec.disliked)
        if ages is not None:
            blend = self.continuation.blend
            recency = self.continuation.recency if spec.recency is None else spec.recency
        if disliked.size:
            kept = np.isin(liked, disliked, invert=True)
            liked, ages = liked[kept], None if ages is None else ages[kept]
        named = _joined([liked, disliked, self._checked(spec.excluded)])
        pooling = self.bundle.pooling_weight[liked]
        if ages is not None and recency:
            pooling = pooling * _faded(ages, recency).astype(np.float32)
        rows, pooled, length = self._pool(liked, pooling)
        direction = pooled.astype(np.float64)
        direction *= blend.embedding
        if disliked.size and liked.size:
            _, turned_down, _ = self._pool(disliked, self.bundle.pooling_weight[disliked])
            direction -= DISLIKE * blend.embedding * turned_down.astype(np.float64)
        familiarity = (2 * spec.familiarity - 1) * FAMILIARITY * (abs(blend.embedding) or 1.0)
        return _Aim(blend, liked, ages, disliked, named, pooling, rows, direction, length, familiarity)

    def _question(self, spec: QuerySpec) -> _Question:
        bundle = self.bundle
        blend, liked, ages, disliked, named, pooling, rows, direction, length, familiarity = self._aim(spec)
        left_out = _joined([named, self._blocked, _no_tracks if spec.explicit else self._explicit])
        lists: list[NDArray[np.int32]] = [liked]
        scales: list[float | NDArray[np.float64]] = [_neighbour_scale(blend, len(liked))]
        if ages is not None:
            recency = self.continuation.neighbour_recency if spec.recency is None else spec.recency
            if recency:
                scales[0] *= _faded(ages, recency)
        if disliked.size and liked.size:
            lists.append(disliked)
            scales.append(-DISLIKE * _neighbour_scale(blend, len(disliked)))
        columns, weights, ends = self._neighbours(lists, scales)
        known = self._coordinates
        probe = np.empty(known + SCREEN_EXTRAS, dtype=np.float32)
        probe[:known] = direction[:known]
        rest = direction[known:]
        probe[known:] = (math.sqrt(rest @ rest), 1.0, familiarity)
        # The d products of a unit vector with the direction, and the sum of the other parts.
        size = (1 + DISLIKE) * abs(blend.embedding)
        rounding = 2 * size * (bundle.dimension + 8) + 8 * self._largest_prior + 64 * abs(familiarity)
        if weights.size:
            rounding += 2 * len(ends) * float(np.abs(weights).max()) * (min(len(ends), _LONG) + 8)
        return _Question(
            liked,
            named,
            left_out,
            pooling,
            rows,
            direction,
            probe,
            blend.embedding / length if length > 0 else 0.0,
            columns,
            weights,
            ends,
            familiarity,
            rounding,
            spec.passing,
        )

    def _liked(self, spec: QuerySpec) -> tuple[NDArray[np.int32], NDArray[np.int32] | None]:
        """The liked tracks, ascending and distinct, and their ages if their order counts."""
        if spec.ages is None:
            return self._checked(spec.liked), None
        order = np.lexsort((spec.ages, spec.liked))
        liked = spec.liked[order]
        first = np.ones(len(liked), dtype=np.bool_)
        first[1:] = liked[1:] != liked[:-1]
        return self._checked(liked[first]), spec.ages[order][first]

    def _checked(self, tracks: NDArray[np.int32]) -> NDArray[np.int32]:
        """The same tracks, ascending and distinct. Raises IndexError for one outside of the catalogue."""
        if tracks.size < 2 or (tracks[1:] > tracks[:-1]).all():  # as stored lists are
            distinct = tracks
        else:
            tracks = np.sort(tracks)
            first = np.ones(len(tracks), dtype=np.bool_)
            np.not_equal(tracks[1:], tracks[:-1], out=first[1:])
            distinct = tracks[first]
        if distinct.size and not 0 <= distinct[0] <= distinct[-1] < self.bundle.n_tracks:
            raise IndexError(f"tracks {distinct[0]}..{distinct[-1]} of {self.bundle.n_tracks}")
        return distinct

    def _pool(
        self, tracks: NDArray[np.int32], pooling: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """The embeddings of these tracks, their mean direction weighted by ``pooling``, and its length before
        normalising.

        The direction is of unit length, or zero if the tracks cancel out.
        """
        rows = self.bundle.embeddings[tracks]
        # einsum instead of BLAS, so that the sum does not depend on the number of BLAS threads.
        pooled = np.einsum("i,ij->j", pooling, rows)
        length = math.sqrt(np.einsum("j,j->", pooled, pooled))
        return rows, pooled / np.float32(length) if length > 0 else pooled, length

    def taste(self, liked: NDArray[np.int32]) -> NDArray[np.float32]:
        """The direction of the liked tracks, float32[d] of unit length, or zero if they cancel out."""
        tracks = self._checked(liked)
        return self._pool(tracks, self.bundle.pooling_weight[tracks])[1]

    def _neighbours(
        self, lists: list[NDArray[np.int32]], scales: list[float | NDArray[np.float64]]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
        """The concatenated cached rows of these tracks: columns, weights, and where each row ends. A scale is
        one number for the tracks of a list, or one for each."""
        tracks = lists[0] if len(lists) == 1 else np.concatenate(lists)
        if not tracks.size:
            nothing = np.zeros(0, dtype=np.int64)
            return nothing, nothing.astype(np.float64), nothing
        places, lengths = row_places(self.bundle.neighbour_indptr, tracks)
        columns = self.bundle.neighbour_indices[places].astype(np.intp)
        scale = scales[0]
        if len(lists) > 1 or isinstance(scale, np.ndarray):
            of_each = [np.broadcast_to(one, len(some)) for one, some in zip(scales, lists, strict=True)]
            scale = np.repeat(np.concatenate(of_each), lengths)
        return (
            columns,
            np.multiply(self.bundle.neighbour_weight[places], scale, dtype=np.float64),
            lengths.cumsum(),
        )

    def _of_everything(self, bound: NDArray[np.float32], question: _Question) -> _Highest:
        """A function that finds the highest scores of the catalogue, or of the `_few` that pass, given the
        bound of each without neighbours, which is overwritten."""
        columns, weights = question.columns, question.weights
        left_out: NDArray[Any] = question.left_out
        few = question.passing if self._few(question.passing) else None
        if few is not None:
            inside = few.tracks[columns]
            columns, weights = _places_in(few.indices, columns[inside]), weights[inside]
            left_out = _places_in(few.indices, left_out[few.tracks[left_out]])
        if len(question.ends) < _LONG:
            # In float32, which `rounding` accounts for; a pass over the catalogue would cost more.
            np.add.at(bound, columns, weights.astype(np.float32))
        else:
            bound += np.bincount(columns, weights, minlength=bound.size)
        bound[left_out] = LEFT_OUT
        return partial(self._highest, bound, question, few)

    def _best(
        self, highest: _Highest, question: _Question, spec: QuerySpec, k: int, *, explain: bool
    ) -> Rankings:
        """The best k, given a function that finds the tracks with the highest scores."""
        if not question.liked.size:
            winners = self._popular(question, spec, k)
            scores = self.bundle.popularity[winners].astype(np.float32)
            return Rankings(winners, scores, np.full((len(winners), REASONS), -1, dtype=np.int32))
        plain = _is_plain(spec)
        wanted = _pool_of(spec, k)
        while True:
            pool, scores = highest(wanted)
            chosen = np.arange(len(pool)) if plain else self._chosen(pool, scores, spec, k)
            if len(chosen) == k or len(pool) < wanted:
                break
            wanted *= 4  # one artist filled the pool
        winners = pool[chosen].astype(np.int32)
        if explain:
            because = self._because(question, winners)
        else:
            because = np.full((len(winners), REASONS), -1, dtype=np.int32)
        return Rankings(winners, scores[chosen], because)

    def _of_candidates(
        self, question: _Question, spec: QuerySpec, k: int, found: Found | None, *, explain: bool
    ) -> Rankings | None:
        """The best k of the candidates; None if these are not enough. ``found``: what the index finds first,
        if that is known."""
        search = self._candidates
        if search is None or not self._searches_index(spec.passing):
            return None
        probes = search.index.probes.of(len(question.liked), spec.familiarity)
        if probes is None:
            return None
        query = CandidateQuery(
            question.direction,
            question.familiarity,
            question.columns,
            question.weights,
            question.named,
            spec.explicit,
            spec.passing,
            partial(_lowered, rounding=question.rounding),
            found,
        )

        def highest(wanted_tracks: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
            shortlist, near = search.shortlist(query, probes, wanted_tracks)
            return self._in_order(question, shortlist, near, wanted_tracks)

        try:
            return self._best(highest, question, spec, k, explain=explain)
        except TooFewError:
            return None

    def _popular(self, question: _Question, spec: QuerySpec, k: int) -> NDArray[np.int32]:
        """The most popular tracks that are not left out, with at most ``max_per_artist`` per artist."""
        drawn = _pool_of(spec, k) if spec.surprise > 0 else k
        order, wanted = self.bundle.popular_order, drawn + len(question.left_out)
        while True:
            pool = order[:wanted]
            pool = pool[np.isin(pool, question.left_out, invert=True)]
            if spec.passing is not None:
                pool = pool[spec.passing.tracks[pool]]
            chosen = np.arange(min(k, len(pool)))
            if spec.max_per_artist is not None or spec.surprise > 0:
                scores = self.bundle.popularity[pool].astype(np.float32)
                chosen = self._chosen(pool, scores, spec._replace(diversity=0.0), k)
            if len(chosen) == k or wanted >= len(order):
                return pool[chosen]
            wanted *= 4

    def _highest(
        self, bound: NDArray[np.float32], question: _Question, few: Passing | None, k: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The k tracks with the highest scores, best first, and their exact scores; of the ``few`` whose
        bounds are given, if these are not all."""
        rest = float(question.probe[-3])
        direction = question.direction.astype(np.float32)
        shortlist = self._shortlist(bound, direction, rest, k, question.rounding, few)
        if few is not None:
            shortlist = few.indices[shortlist]
        hits = self._hits(question, shortlist)
        at = shortlist.searchsorted(question.columns[hits])
        # bincount adds in input order, in float64, so that a list has the same sums wherever it is computed.
        near = np.bincount(at, question.weights[hits], minlength=len(shortlist))
        return self._in_order(question, shortlist, near, k)

    def _hits(self, question: _Question, tracks: NDArray[Any]) -> NDArray[np.intp]:
        """The places of the cached entries whose columns are among these tracks."""
        marked = self._scratch.marked
        marked[tracks] = True
        (hits,) = marked[question.columns].nonzero()
        marked[tracks] = False
        return hits

    def _in_order(
        self, question: _Question, shortlist: NDArray[np.intp], near: NDArray[Any], k: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The best k of these ascending tracks and their exact scores, given what neighbours add."""
        exact = _dots(self.bundle.embeddings, shortlist, question.direction)
        exact += near
        exact += self.bundle.prior[shortlist]
        if question.familiarity:
            exact += question.familiarity * self.bundle.screen[shortlist, -1]
        rounded = exact.astype(np.float32)
        order = _descending(rounded)[:k]
        return shortlist[order], rounded[order]

    def _shortlist(
        self,
        bound: NDArray[np.float32],
        direction: NDArray[np.float32],
        rest: float,
        k: int,
        rounding: float,
        few: Passing | None = None,
    ) -> NDArray[np.intp]:
        """Indices of bounds, ascending, of all tracks that may be among the best k. ``few``: the tracks that
        the bounds are of, if these are not all.

        The true score of a track is its bound, minus the length ``rest`` of the direction times its own, plus
        the dot product of the coordinates that the screen lacks.
        """
        bar, reached = _bar(bound, k, rounding)
        if self._whole or bar is None or rest == 0:
            return reached(bar)
        known = self._coordinates

        def true_scores(places: NDArray[np.intp]) -> NDArray[np.float32]:
            tracks = places if few is None else few.indices[places]
            scores: NDArray[np.float32] = self.bundle.embeddings[tracks, known:] @ direction[known:]
            scores += bound[places] - np.float32(rest) * self.bundle.screen[tracks, known]
            return scores

        # The tracks with the highest bounds include most winners; the k-th best of them is a bar for all.
        pilot = reached(bar)
        if len(pilot) > 4 * k + _GROUP:
            pilot = pilot[np.argpartition(bound[pilot], -4 * k)[-4 * k :]]
        scores = true_scores(pilot)
        bar = _lowered(float(np.partition(scores, len(scores) - k)[len(scores) - k]), rounding)
        candidates = reached(bar)
        if few is not None and self._candidates is not None and len(candidates) > _LOOSE * k:
            # Their embeddings lie far apart in a large catalogue.
            closer = few.rest_of(self.bundle.embeddings, known)
            bounds = bound[candidates] - closer.less_than(candidates, direction[known:])
            candidates = candidates[bounds >= np.float32(bar)]
        if len(candidates) <= 4 * k + _GROUP:
            return candidates
        scores = true_scores(candidates)
        bar = _lowered(float(np.partition(scores, len(scores) - k)[len(scores) - k]), rounding)
        return candidates[scores >= np.float32(bar)]

    def _chosen(
        self, pool: NDArray[Any], scores: NDArray[np.float32], spec: QuerySpec, k: int
    ) -> NDArray[np.intp]:
        """The same as `_choose`, but of a pool that surprise has shuffled. Without diversity the answer is in
        descending order of score."""
        if spec.surprise <= 0:
            return self._choose(pool, scores, spec, k)
        spread = float(scores[0] - scores[-1]) if len(pool) else 0.0
        relevance = (scores.astype(np.float64) - scores[-1:]) / spread if spread > 0 else np.zeros(len(pool))
        drawn = relevance + spec.surprise * SURPRISE * _gumbel(pool, spec.seed)
        order = np.argsort(-drawn, kind="stable")
        chosen = order[self._choose(pool[order], drawn[order].astype(np.float32), spec, k)]
        return chosen if spec.diversity > 0 else np.sort(chosen)

    def _choose(
        self, pool: NDArray[Any], scores: NDArray[np.float32], spec: QuerySpec, k: int
    ) -> NDArray[np.intp]:
        """Places in ``pool``, which is in descending order of score, of at most k tracks, chosen one by one.

        The next one has the largest ``(1 - diversity) * relevance - diversity * similarity``: its score as a
        share of the pool's range, and its highest cosine with those chosen before.
        """
        quota = spec.max_per_artist
        artists = self._first_artists(pool) if quota is not None else []
        counts: dict[int, int] = {}
        chosen: list[int] = []
        if spec.diversity > 0 and len(pool):
            spread = float(scores[0] - scores[-1])
            relevance = (scores - scores[-1]) / spread if spread > 0 else np.zeros_like(scores)
            value = (1 - spec.diversity) * relevance.astype(np.float64)
            rows = np.rint(self.bundle.embeddings[pool] * np.float64(_UNIT))
            nearest = np.full(len(pool), -1.0)
        for following in range(len(pool)):
            if len(chosen) == k:
                break
            place = following
            if spec.diversity > 0:
                place = int((value - spec.diversity * nearest if chosen else value).argmax())
                value[place] = -np.inf
            if quota is not None and artists[place] >= 0:
                if counts.get(artists[place], 0) >= quota:
                    continue
                counts[artists[place]] = counts.get(artists[place], 0) + 1
            chosen.append(place)
            if spec.diversity > 0:
                np.maximum(nearest, (rows @ rows[place]) * _UNIT**-2, out=nearest)
        return np.array(chosen, dtype=np.intp)

    def _first_artists(self, tracks: NDArray[Any]) -> list[int]:
        """The first artist of each track, -1 if unknown."""
        starts = self.bundle.artist_indptr[tracks]
        known = self.bundle.artist_indptr[tracks + 1] > starts
        first = np.full(len(tracks), -1, dtype=np.int64)
        first[known] = self.bundle.artist_indices[starts[known]]
        answer: list[int] = first.tolist()
        return answer

    def _because(self, question: _Question, winners: NDArray[np.int32]) -> NDArray[np.int32]:
        """The liked tracks with the largest contributions to each winner, -1 if none is above zero."""
        contributions = self._contributions(question, winners).reshape(-1)
        because = np.full((len(winners), REASONS), -1, dtype=np.int32)
        n = len(question.liked)
        starts = np.arange(0, len(contributions), n)
        for rank in range(min(REASONS, n)):
            strongest = contributions.reshape(-1, n).argmax(axis=1)
            cells = starts + strongest
            speaks = contributions[cells] > 0
            because[:, rank] = np.where(speaks, question.liked[strongest], -1)
            contributions[cells] = -np.inf
        return because

    def _contributions(self, question: _Question, winners: NDArray[Any]) -> NDArray[np.float64]:
        """What each liked track adds to the score of each winner: float64[winners, n].

        Liked track i adds ``blend.embedding * pooling[i] * E[i].E[j] / length`` plus its neighbour weight to
        the score of j.
        """
        liked = question.liked
        cosines = self.bundle.embeddings[winners] @ question.rows.T
        contributions: NDArray[np.float64] = cosines.astype(np.float64)
        contributions *= question.pooling * question.like_scale
        hits = self._hits(question, winners)
        owners = question.ends.searchsorted(hits, side="right")
        if len(question.ends) > len(liked):  # rows of disliked tracks come after those
            likes = owners < len(liked)
            hits, owners = hits[likes], owners[likes]
        order = winners.argsort()
        at = order[winners[order].searchsorted(question.columns[hits])]
        cells = at * len(liked) + owners
        np.add.at(contributions.reshape(-1), cells, question.weights[hits])
        return contributions


def _is_plain(spec: QuerySpec) -> bool:
    """Whether the best tracks are the answer, without a choice among them."""
    return spec.diversity <= 0 and spec.max_per_artist is None and spec.surprise <= 0


def _pool_of(spec: QuerySpec, k: int) -> int:
    """How many of the best tracks the best k are chosen among, at first."""
    return k if _is_plain(spec) else max(_POOL, 4 * k)


def _neighbour_scale(blend: Blend, n: int) -> float:
    return blend.neighbour * n**-blend.length_exponent if n else 0.0


def _faded(ages: NDArray[np.int32], recency: float) -> NDArray[np.float64]:
    """What tracks of these ages weigh beside the newest."""
    weights: NDArray[np.float64] = np.power(1.0 + ages, -recency, dtype=np.float64)
    return weights


def _gumbel(tracks: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Gumbel noise for each track, the same for the same seed: SplitMix64 of both, as a uniform number."""
    with np.errstate(over="ignore"):
        mixed = np.uint64(seed & _WORD) * np.uint64(0x9E3779B97F4A7C15) + tracks.astype(np.uint64)
        for _ in range(2):
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _joined(some: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    some = [tracks for tracks in some if tracks.size]
    return some[0] if len(some) == 1 else np.concatenate([_no_tracks, *some])


def _places_in(tracks: NDArray[np.intp], some: NDArray[Any]) -> NDArray[np.intp]:
    """The place of each of some tracks in an ascending list that has them."""
    return tracks.searchsorted(some)


def _lowered(bar: float, rounding: float) -> float:
    """The bar lowered so far that no rounding error can move a score across it."""
    return bar - 2 * _EPSILON * (rounding + 8 * abs(bar))


def _bar(
    bound: NDArray[np.float32], k: int, rounding: float
) -> tuple[float | None, Callable[[float | None], NDArray[np.intp]]]:
    """A bar, lowered by rounding, that at least k bounds reach, or None if everything not left out must be
    taken; and a function that returns the indices, ascending, of all bounds that reach a bar.

    The k-th largest of the maxima of disjoint groups is at most the k-th largest bound, and takes one
    vectorised pass; a selection over all bounds would take many. Only the few groups whose maximum reaches
    the bar are searched.
    """
    width = min(_GROUP, max(1, bound.size // (4 * k)))
    groups = bound.size // width
    table, after = bound[: groups * width].reshape(width, groups), bound[groups * width :]
    maxima = table.max(axis=0) if groups else after[:0]

    def reached(bar: float | None) -> NDArray[np.intp]:
        least = np.float32(_ALLOWED if bar is None else bar)
        (some,) = (maxima >= least).nonzero()
        # Rows of the table are consecutive parts of the catalogue, so the result is in ascending order.
        row, column = (table[:, some] >= least).nonzero()
        found = row * groups + some[column]
        (last,) = (after >= least).nonzero()
        return np.concatenate([found, last + groups * width]) if last.size else found

    if k >= groups:
        return None, reached
    kth = float(np.partition(maxima, groups - k)[groups - k])
    return (_lowered(kth, rounding) if kth > _ALLOWED else None), reached


def _dots(
    embeddings: NDArray[np.float32], tracks: NDArray[np.intp], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Dot product of the embedding of each track with ``direction``: float64, each summed separately.

    In blocks, because a shortlist may be the whole catalogue.
    """
    if len(tracks) <= _DOTS_BLOCK:
        dots: NDArray[np.float64] = (embeddings[tracks] * direction).sum(axis=1)
        return dots
    dots = np.empty(len(tracks))
    for start in range(0, len(tracks), _DOTS_BLOCK):
        block = slice(start, start + _DOTS_BLOCK)
        dots[block] = (embeddings[tracks[block]] * direction).sum(axis=1)
    return dots


def _descending(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """The order of descending scores; equal ones keep their order."""
    return np.argsort(-scores, kind="stable")
