"""Songs for several listeners at once, fair to the one who gets least.

Here: choosing among what is recommended to each of them. Not here: recommending to one (`recommender`), or
the blend of embedding and neighbour weights within a score (`models.blend`).

Whoever has got least so far chooses next, and chooses the song that is best for them. A song is worth
``1 / log2(1 + rank)`` to a listener, by its rank among what is recommended to them; to everybody whose list
has it, not only to the one who chose it. No song that one of them likes already is in the answer.
"""

from collections.abc import Sequence
from itertools import chain
from math import log2
from typing import NamedTuple, Unpack

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.recommender import Query, QueryOptions, Recommender, SongView

_DEPTH = 4
"""So many times the wanted songs are recommended to each listener, for lists to meet."""
MOST_LISTENERS = 50


class BlendedSong(NamedTuple):
    """A song for several listeners: ``chosen_by`` is the place of the one who chose it in the given lists,
    ``ranks`` its rank for each of them, from 1; None where it is not among what is recommended to them."""

    song: SongView
    chosen_by: int
    ranks: tuple[int | None, ...]


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
    if not 2 <= len(lists) <= MOST_LISTENERS:
        raise InputError(f"a blend is of 2 to {MOST_LISTENERS} lists, and this one of {len(lists)}")
    if k < 1:
        raise InputError(f"k is {k}; ask for at least one song")
    options["exclude"] = list(dict.fromkeys(chain(*lists, options.get("exclude", ()))))
    queries = [Query(likes, None, _DEPTH * k, **options) for likes in lists]
    ranked: list[list[SongView]] = []
    for answer in recommender.answer(queries):
        if isinstance(answer, InputError):
            raise answer
        ranked.append([item.song for item in answer.items] if answer.found else [])
    if not any(ranked):
        raise InputError(f"bundle {recommender.bundle.version} has no song for any of these lists")
    return _take_turns(ranked, k)


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
        for one, rank in enumerate(of_song):
            got[one] += 0.0 if rank is None else 1 / log2(1 + rank)
        blended.append(BlendedSong(song, listener, of_song))
    return blended
