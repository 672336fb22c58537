"""Songs for several listeners at once, fair to the one who gets least.

Here: choosing among what is recommended to each of them. Not here: recommending to one (`recommender`), or
the blend of embedding and neighbour weights within a score (`models.blend`).

Whoever has got least so far chooses next, and chooses the song that is best for them. A song is worth
``1 / log2(1 + rank)`` to a listener, by its rank among what is recommended to them; to everybody whose list
has it, not only to the one who chose it. No song that one of them likes already is in the answer.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from math import log2
from typing import NamedTuple, Unpack

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.recommender import (
    Query,
    QueryOptions,
    Recommender,
    SongView,
    UnknownSongsError,
)

DEPTH = 4
"""So many times the wanted songs are recommended to each listener, for lists to meet."""
MOST_LISTENERS = 50


class BlendedSong(NamedTuple):
    """A song for several listeners: ``chosen_by`` is the place of the one who chose it in the given lists,
    ``ranks`` its rank for each of them, from 1; None where it is not among what is recommended to them."""

    song: SongView
    chosen_by: int
    ranks: tuple[int | None, ...]

    @property
    def worths(self) -> tuple[float, ...]:
        """What it is worth to each of them, from 0 to 1."""
        return tuple(map(_worth, self.ranks))


class Blend(NamedTuple):
    """The songs of a blend, and for each listener what these are worth to them: the share, from 0 to 1, of
    what as many songs of their own would be worth; None of a listener of whom no song is known."""

    songs: list[BlendedSong]
    shares: list[float | None]


def blend(
    recommender: Recommender, lists: Sequence[Sequence[str]], k: int = 10, **options: Unpack[QueryOptions]
) -> list[BlendedSong]:
    """At most k songs for the listeners who like these lists, in the order in which they were chosen.

    ``options`` are those of `Recommender.recommend`, for each of the listeners. A list of which no song is
    known gets nothing and chooses nothing. Raises InputError for an option out of range, for less than two
    lists or more than `MOST_LISTENERS`, and where no song of any list is known.

    >>> blend(recommender, [["4uLU6hMCjMI75M1A2tKUQC"], ["2Fxmhks0bxGSBdJ92vM42m"]], k=2)  # doctest: +SKIP
    [BlendedSong(song=..., chosen_by=0, ranks=(1, 14)), BlendedSong(song=..., chosen_by=1, ranks=(None, 1))]
    """
    return blend_queries(recommender, [Query(likes, **options) for likes in lists], k).songs


def blend_queries(recommender: Recommender, queries: Sequence[Query], k: int) -> Blend:
    """The same for the listeners who ask these queries, of which each has likes, dislikes and options of its
    own. What one of them likes, dislikes or excludes is in nobody's answer. Raises InputError as `blend`."""
    if not 2 <= len(queries) <= MOST_LISTENERS:
        raise InputError(f"a blend is of 2 to {MOST_LISTENERS} lists, and this one of {len(queries)}")
    if k < 1:
        raise InputError(f"k is {k}; ask for at least one song")
    named = chain.from_iterable((*one.likes, *one.dislikes, *one.exclude) for one in queries)
    exclude = list(dict.fromkeys(named))
    asked = [replace(query, exclude=exclude, k=DEPTH * k) for query in queries]
    ranked: list[list[SongView]] = []
    for answer in recommender.answer(asked):
        if isinstance(answer, InputError):
            raise answer
        ranked.append([item.song for item in answer.items] if answer.found else [])
    if not any(ranked):
        raise UnknownSongsError(f"bundle {recommender.bundle.version} has no song for any of these lists")
    songs = _take_turns(ranked, k)
    most = sum(_worth(rank) for rank in range(1, len(songs) + 1))
    got = [sum(song.worths[listener] for song in songs) for listener in range(len(queries))]
    return Blend(songs, [one / most if mine else None for one, mine in zip(got, ranked, strict=True)])


def _worth(rank: int | None) -> float:
    return 0.0 if rank is None else 1 / log2(1 + rank)


def _take_turns(ranked: Sequence[Sequence[SongView]], k: int) -> list[BlendedSong]:
    """Choose k songs from the rankings of listeners; of two who have got equally much, the first chooses."""
    ranks = [{song.track_idx: rank for rank, song in enumerate(songs, 1)} for songs in ranked]
    got = [0.0] * len(ranked)
    left = [iter(songs) for songs in ranked]
    choosing = [listener for listener, songs in enumerate(ranked) if songs]
    taken: set[int] = set()
    blended: list[BlendedSong] = []
    while choosing and len(blended) < k:
        listener = min(choosing, key=lambda one: got[one])
        song = next((one for one in left[listener] if one.track_idx not in taken), None)
        if song is None:
            choosing.remove(listener)
            continue
        taken.add(song.track_idx)
        of_song = tuple(places.get(song.track_idx) for places in ranks)
        got = [sum(two) for two in zip(got, map(_worth, of_song), strict=True)]
        blended.append(BlendedSong(song, listener, of_song))
    return blended
