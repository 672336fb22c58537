"""What rows say: a like, a dislike, a play, or nothing.

Here: the words and numbers of opinion columns, ratings, plays, and logs in which opinions change. Not here:
which columns these are (`columns`), or ids, names and times (`rows`).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.cells import MISSING, as_numbers
from tunegraph_pipeline.sources.names import letters, shown
from tunegraph_pipeline.sources.opinion_words import (
    DISLIKE,
    LIKE,
    NEGATIVE,
    NOTHING,
    PLAY,
    SAYS,
    UNDISLIKE,
    UNLIKE,
    is_rating,
    rated,
    scale_of,
    word_of,
)

LIKED_SHARE = 0.8
"""A rating counts as a like from this share of the scale on."""

DEFAULT_PLAYS = 5
"""Plays that make a song of one person's history a liked one."""

SHORTEST_PLAY_MS = 30_000
"""A shorter play does not count."""

_SCALES = (5, 10, 100)


@dataclass(frozen=True)
class Rules:
    """The options that decide what a row says; None where they were not given. ``like_when`` is column ->
    the values that are likes."""

    min_plays: int | None = None
    min_rating: float | None = None
    like_when: Mapping[str, frozenset[str]] = field(default_factory=dict)


Basis = Literal["list", "plays"]
"""What the rows of a table are where no column says: each a like, or each a play."""


@dataclass
class Opinions:
    """``says``: int8 for each row, one of LIKE, DISLIKE, NOTHING, PLAY, UNLIKE, UNDISLIKE; ``plays``:
    float64, how often the song was played where PLAY. ``rules`` are sentences for people."""

    says: pl.Series
    plays: pl.Series | None
    rules: list[str]


def read_opinions(
    table: pl.DataFrame,
    opinions: Sequence[str],
    basis: Basis,
    rules: Rules,
    where: str,
    counts: Counter[str],
) -> Opinions:
    """What each row of ``table`` says, from its roles ``plays`` and ``played_ms`` and from the columns
    ``opinions``, which have the names that the file gives them.

    - An opinion column decides by its words, or by -1, 0 and 1; other numbers are ratings.
    - A rating is a like from LIKED_SHARE of the scale on: 5, 10 or 100, whichever holds the highest. A low
      rating is no dislike.
    - Plays are plays, and only count where no opinion does, or if ``rules.min_plays`` asks for them.

    Raises InputError for a column whose values are not understood, naming it and the options.
    """
    said: list[pl.Series] = []
    sentences: list[str] = []
    for name in opinions:
        if (one := _column_says(table[name], name, rules, where, counts, sentences)) is not None:
            said.append(one)
    if said:
        says = _together(said)
        if rules.min_plays is None and says.is_in([LIKE, DISLIKE, UNLIKE, UNDISLIKE]).any():
            says = says.set(says == PLAY, NOTHING)  # where people say what they like, plays say less
        if rules.min_plays is None or "plays" not in table.columns:
            return Opinions(says, None, sentences)
        plays = _plays(table, where, counts)
        says = says.set((says == NOTHING) & (plays > 0), PLAY)
        return Opinions(says, plays, sentences)
    if "plays" in table.columns:
        plays = _plays(table, where, counts)
        return Opinions(_constant(len(table), PLAY), plays, sentences)
    if basis == "list" and rules.min_plays is None:
        return Opinions(_constant(len(table), LIKE), None, sentences)
    return Opinions(_constant(len(table), PLAY), _long_enough(table, where, counts), sentences)


def _constant(length: int, value: int) -> pl.Series:
    return pl.repeat(value, length, dtype=pl.Int8, eager=True)


def _plays(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.Series:
    plays = as_numbers(table["plays"], "plays", where, counts).fill_nan(None)
    none = ~(plays > 0).fill_null(value=False)
    counts["rows without plays"] += int(none.sum())
    return plays.set(none, 0.0)


def _long_enough(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.Series | None:
    """One play for each row, none where it was shorter than SHORTEST_PLAY_MS."""
    if "played_ms" not in table.columns:
        return None
    short = (as_numbers(table["played_ms"], "played_ms", where, counts) < SHORTEST_PLAY_MS).fill_null(
        value=False
    )
    counts["plays shorter than 30 seconds"] += int(short.sum())
    return pl.repeat(1.0, len(table), dtype=pl.Float64, eager=True).set(short, 0.0)


def _together(said: Sequence[pl.Series]) -> pl.Series:
    """What a row says in several columns: a dislike before a like, and either before a play or nothing."""
    frame = pl.DataFrame({str(number): one for number, one in enumerate(said)})
    if frame.width == 1:
        return frame.to_series()
    values = [
        pl.any_horizontal(pl.all() == says).fill_null(value=False)
        for says in (DISLIKE, LIKE, UNLIKE, UNDISLIKE, PLAY)
    ]
    chosen = pl.when(values[0]).then(DISLIKE).when(values[1]).then(LIKE).when(values[2]).then(UNLIKE)
    return frame.select(
        chosen.when(values[3]).then(UNDISLIKE).when(values[4]).then(PLAY).otherwise(NOTHING).cast(pl.Int8)
    ).to_series()


def _column_says(
    column: pl.Series, name: str, rules: Rules, where: str, counts: Counter[str], sentences: list[str]
) -> pl.Series | None:
    """What a column says in each row; None if it is empty."""
    given = next(
        (values for wanted, values in rules.like_when.items() if letters(wanted) == letters(name)), None
    )
    text = (
        column.cast(pl.String, strict=False).str.strip_chars()
        if column.dtype != pl.String
        else column.str.strip_chars()
    )
    text = text.set(text.is_in(MISSING).fill_null(value=False), None)
    if given is not None:
        likes = text.str.to_lowercase().is_in([value.lower() for value in given]).fill_null(value=False)
        if not likes.any():
            raise InputError(
                f"{where}: no row has {shown(sorted(given))} in column {name}; check --like-when"
            )
        sentences.append(f"{name}: {', '.join(sorted(given))} is a like, anything else says nothing")
        return likes.cast(pl.Int8)
    values = text.drop_nulls().unique().sort()
    if values.is_empty():
        return None
    if (numbers := values.cast(pl.Float64, strict=False)).null_count() == 0:
        given_numbers = text.cast(pl.Float64, strict=False)
        return _numbers_say(given_numbers, numbers, None, name, rules, where, counts, sentences)
    known = {value: SAYS.get(word_of(value)) for value in values.to_list()}
    if None in known.values() and all(_DATED.match(value) for value in known):
        sentences.append(f"{name}: a date is a like")
        return text.is_not_null().cast(pl.Int8)
    ratings = {value: rated(value) for value in known} if None in known.values() else {}
    if ratings and None not in ratings.values():
        given_ratings = {value: one for value, one in ratings.items() if one is not None}
        scales = {one[1] for one in given_ratings.values()}
        as_written = {value: one[0] for value, one in given_ratings.items()}
        numbers = pl.Series(list(as_written.values()), dtype=pl.Float64).unique()
        scale = scales.pop() if len(scales) == 1 else None
        given_numbers = text.replace_strict(as_written, default=None, return_dtype=pl.Float64)
        return _numbers_say(given_numbers, numbers, scale, name, rules, where, counts, sentences)
    unknown = [value for value, says in known.items() if says is None]
    if unknown:
        raise InputError(
            f"{where}: column {name} says {shown(unknown)}, which is not understood; name the values that are"
            f" likes with --like-when '{name}=VALUE,VALUE', or leave the column out with --ignore-column"
            f" '{name}'"
        )
    negative = bool(NEGATIVE.search(letters(name))) and not any(
        says in {DISLIKE, UNLIKE, UNDISLIKE} for says in known.values()
    )
    meant = {
        value: DISLIKE if negative and says == LIKE else says or NOTHING for value, says in known.items()
    }
    sentences.append(f"{name}: {_in_words(meant)}")
    counts[f"rows without a value in {name}"] += text.null_count()
    return text.replace_strict(meant, default=NOTHING, return_dtype=pl.Int8)


_DATED = re.compile(r"\d{4}-\d\d-\d\d")
_IN_WORDS = {
    LIKE: "a like",
    DISLIKE: "a dislike",
    PLAY: "a play",
    UNLIKE: "takes a like back",
    UNDISLIKE: "takes a dislike back",
    NOTHING: "nothing",
}


def _in_words(meant: Mapping[str, int]) -> str:
    parts = []
    for says, words in _IN_WORDS.items():
        values = [value for value, one in meant.items() if one == says]
        if values:
            parts.append(
                f"{' and '.join(values[:4])} {'is ' if not words.startswith('takes') else ''}{words}"
            )
    return ", ".join(parts)


def _numbers_say(
    numbers: pl.Series,
    values: pl.Series,
    told_scale: int | None,
    name: str,
    rules: Rules,
    where: str,
    counts: Counter[str],
    sentences: list[str],
) -> pl.Series:
    """What a column of numbers says: signs, or ratings. ``values`` are the distinct ones."""
    highest, lowest = values.max(), values.min()
    assert isinstance(highest, float)
    assert isinstance(lowest, float)
    told_scale = told_scale or scale_of(name)
    of_ones = lowest == highest == 1.0
    signs = set(values.to_list()) <= {-1.0, 0.0, 1.0} and told_scale is None
    # One star of five for every song looks like a sign; only a second value tells them apart.
    if signs and rules.min_rating is None and not (is_rating(name) and of_ones):
        sign = -1 if NEGATIVE.search(letters(name)) else 1
        meant = {
            f"{value:g}": {1: LIKE, -1: DISLIKE, 0: NOTHING}[int(value) * sign] for value in values.to_list()
        }
        sentences.append(f"{name}: {_in_words(meant)}")
        return (numbers * sign).fill_null(0).cast(pl.Int8)
    scale = told_scale or next((scale for scale in _SCALES if highest <= scale), None)
    if is_rating(name) and highest <= 1 and _measured(values):
        scale = 1
    unclear = scale is None or lowest < 0 or highest > scale or (scale != 1 and _measured(values))
    if rules.min_rating is None and (unclear or (of_ones and told_scale is None)):
        raise InputError(
            f"{where}: column {name} holds numbers from {lowest:g} to {highest:g}, of a scale that is not"
            " clear; say from which number on it is a like with --min-rating, or leave the column out with"
            f" --ignore-column '{name}'"
        )
    least = rules.min_rating if rules.min_rating is not None else LIKED_SHARE * (scale or 0)
    liked = (numbers >= least).fill_null(value=False)
    of = "" if rules.min_rating is not None else f" of {scale}"
    sentences.append(f"{name}: {least:g} and more{of} is a like (--min-rating), less says nothing")
    counts[f"rows rated below {least:g}"] += int((~liked).sum()) - numbers.null_count()
    counts["rows without a rating"] += numbers.null_count()
    return liked.cast(pl.Int8)


def _measured(values: pl.Series) -> bool:
    """Whether numbers were measured rather than chosen: ratings are whole, or halves or quarters."""
    return not ((values * 4).round(0) == values * 4).all()
