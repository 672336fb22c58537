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
    NEUTRAL,
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
    rated: bool = False


def read_opinions(
    table: pl.DataFrame,
    opinions: Sequence[str],
    basis: Basis,
    rules: Rules,
    where: str,
    counts: Counter[str],
    scale: int | None = None,
) -> Opinions:
    """What each row of ``table`` says, from its roles ``plays`` and ``played_ms`` and from the columns
    ``opinions``, which have the names that the file gives them.

    - An opinion column decides by its words, or by -1, 0 and 1; other numbers are ratings.
    - A rating is a like from LIKED_SHARE of the scale on: ``scale`` where the format has one, else 5, 10 or
      100, whichever holds the highest. A low rating is no dislike.
    - Plays are plays, and only count where no opinion does, or if ``rules.min_plays`` asks for them.

    Raises InputError for a column whose values are not understood, naming it and the options.
    """
    reader = _ColumnReader(rules, where, counts, scale)
    said = [one for name in opinions if (one := reader.says(table[name], name)) is not None]
    if said:
        says = _together(said)
        if rules.min_plays is None and says.is_in([LIKE, DISLIKE, UNLIKE, UNDISLIKE]).any():
            says = says.set(says == PLAY, NOTHING)  # where people say what they like, plays say less
        plays = _long_enough(table, where, counts) if (says == PLAY).any() else None
        if rules.min_plays is not None and "plays" in table.columns:
            plays = _plays(table, where, counts)
            says = says.set(says.is_in([NOTHING, NEUTRAL]) & (plays > 0), PLAY)
        return Opinions(says, plays, reader.sentences, reader.rated)
    if "plays" in table.columns:
        return Opinions(_constant(len(table), PLAY), _plays(table, where, counts), reader.sentences)
    if basis == "list" and rules.min_plays is None:
        return Opinions(_constant(len(table), LIKE), None, reader.sentences)
    return Opinions(_constant(len(table), PLAY), _long_enough(table, where, counts), reader.sentences)


def _constant(length: int, value: int) -> pl.Series:
    return pl.repeat(value, length, dtype=pl.Int8, eager=True)


def _plays(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.Series:
    plays = as_numbers(table["plays"], "plays", where, counts).fill_nan(None)
    none = ~(plays > 0).fill_null(value=False)
    counts["rows without plays"] += int(none.sum())
    return plays.set(none, 0.0)


def _long_enough(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.Series | None:
    """One play for each row, none where it was shorter than SHORTEST_PLAY_MS."""
    lengths = [
        (role, factor) for role, factor in (("played_ms", 1.0), ("played_s", 1000.0)) if role in table.columns
    ]
    if not lengths:
        return None
    [(role, factor), *_] = lengths
    played = as_numbers(table[role], role, where, counts) * factor
    short = (played < SHORTEST_PLAY_MS).fill_null(value=False)
    counts["plays shorter than 30 seconds"] += int(short.sum())
    return pl.repeat(1.0, len(table), dtype=pl.Float64, eager=True).set(short, 0.0)


def _together(said: Sequence[pl.Series]) -> pl.Series:
    """What a row says in several columns: a dislike before a like, and either before a play or nothing."""
    frame = pl.DataFrame({str(number): one for number, one in enumerate(said)})
    if frame.width == 1:
        return frame.to_series()
    order = (DISLIKE, LIKE, UNLIKE, UNDISLIKE, PLAY, NEUTRAL)
    said_so = [pl.any_horizontal(pl.all() == says).fill_null(value=False) for says in order]
    chosen = [pl.when(so).then(pl.lit(says, pl.Int8)) for so, says in zip(said_so, order, strict=True)]
    return frame.select(pl.coalesce(*chosen, pl.lit(NOTHING, pl.Int8))).to_series()


@dataclass
class _ColumnReader:
    """Reads columns of opinions; ``sentences`` and ``rated`` gather what was decided."""

    rules: Rules
    where: str
    counts: Counter[str]
    scale: int | None
    sentences: list[str] = field(default_factory=list)
    rated: bool = False

    def says(self, column: pl.Series, name: str) -> pl.Series | None:
        """What a column says in each row; None if it is empty."""
        if column.dtype.is_nested():
            raise InputError(
                f"{self.where}: column {name} holds lists or objects; write one value a row, or leave the"
                f" column"
                f" out with --ignore-column '{name}'"
            )
        text = column.cast(pl.String, strict=False).str.strip_chars()
        text = text.set(text.is_in([*MISSING, "n/a", "-", "–"]).fill_null(value=False), None)
        wanted = {letters(one): values for one, values in self.rules.like_when.items()}
        if (likes := wanted.get(letters(name))) is not None:
            return self._as_told(text, name, likes)
        values = text.drop_nulls().unique().sort()
        if values.is_empty():
            return None
        if (numbers := values.cast(pl.Float64, strict=False)).null_count() == 0:
            return self._numbers(text.cast(pl.Float64, strict=False), numbers, None, name)
        known = {value: SAYS.get(word_of(value)) for value in values.to_list()}
        if None not in known.values():
            return self._words(text, {value: says or NOTHING for value, says in known.items()}, name)
        if all(_DATED.match(value) for value in known):
            back = letters(name).startswith(("un", "removed", "deleted"))
            self.sentences.append(f"{name}: a date {'takes the like back' if back else 'is a like'}")
            self.rated = True
            dated = text.is_not_null()
            if back:
                return _constant(len(text), LIKE).set(dated, NEUTRAL)
            return dated.cast(pl.Int8)
        ratings = {value: one for value in known if (one := rated(value)) is not None}
        # Beside ratings, a word such as "unrated" says that there is none.
        silent = [
            value for value, says in known.items() if says in {NEUTRAL, NOTHING} and value not in ratings
        ]
        if len(ratings) + len(silent) < len(known):
            unknown = [value for value, says in known.items() if says is None]
            raise InputError(
                f"{self.where}: column {name} says {shown(unknown)}, which is not understood; name the values"
                f" that are likes with --like-when '{name}=VALUE,VALUE', or leave the column out with"
                f" --ignore-column '{name}'"
            )
        scales = {scale for _, scale in ratings.values()}
        as_written = {value: number for value, (number, _) in ratings.items()}
        return self._numbers(
            text.replace_strict(as_written, default=None, return_dtype=pl.Float64),
            pl.Series(list(as_written.values()), dtype=pl.Float64).unique(),
            scales.pop() if len(scales) == 1 else None,
            name,
        )

    def _as_told(self, text: pl.Series, name: str, values: frozenset[str]) -> pl.Series:
        wanted = [value.lower() for value in values]
        likes = text.str.to_lowercase().is_in(wanted).fill_null(value=False)
        numbers = [float(value) for value in wanted if re.fullmatch(r"-?\d+(\.\d+)?", value)]
        likes |= text.cast(pl.Float64, strict=False).is_in(numbers).fill_null(value=False)
        if not likes.any():
            raise InputError(
                f"{self.where}: no row has {shown(sorted(values))} in column {name}; check --like-when"
            )
        self.sentences.append(f"{name}: {', '.join(sorted(values))} is a like, anything else says nothing")
        self.rated = True
        return likes.cast(pl.Int8)

    def _words(self, text: pl.Series, known: dict[str, int], name: str) -> pl.Series:
        negative = NEGATIVE.search(letters(name)) and not {DISLIKE, UNLIKE, UNDISLIKE} & set(known.values())
        meant = {value: DISLIKE if negative and says == LIKE else says for value, says in known.items()}
        self.sentences.append(f"{name}: {_in_words(meant)}")
        self.counts[f"rows without a value in {name}"] += text.null_count()
        self.rated |= bool({LIKE, DISLIKE, UNLIKE, UNDISLIKE} & set(meant.values()))
        return text.replace_strict(meant, default=NOTHING, return_dtype=pl.Int8)

    def _numbers(self, numbers: pl.Series, values: pl.Series, told_scale: int | None, name: str) -> pl.Series:
        """What a column of numbers says: signs, or ratings. ``values`` are the distinct ones."""
        highest, lowest = values.max(), values.min()
        assert isinstance(highest, float)
        assert isinstance(lowest, float)
        rating = is_rating(name)
        told_scale = told_scale or scale_of(name) or (self.scale if rating else None)
        # One star of five looks like a sign; only a negative one tells a rating from it.
        signs = set(values.to_list()) <= {-1.0, 0.0, 1.0} and (lowest < 0 or not rating)
        if signs and told_scale is None and self.rules.min_rating is None:
            return self._signs(numbers, values, name)
        scale = told_scale or next((scale for scale in _SCALES if highest <= scale), None)
        if rating and told_scale is None and highest <= 1 and _measured(values):
            scale = 1
        unclear = scale is None or lowest < 0 or highest > scale or (scale != 1 and _measured(values))
        if self.rules.min_rating is None and (
            unclear or (told_scale is None and scale == _SCALES[0] and highest <= 1)
        ):
            raise InputError(
                f"{self.where}: column {name} holds numbers from {lowest:g} to {highest:g}, of a scale that"
                f" is"
                " not clear; say from which number on it is a like with --min-rating, or leave the column out"
                f" with --ignore-column '{name}'"
            )
        least = LIKED_SHARE * (scale or 0) if self.rules.min_rating is None else self.rules.min_rating
        liked = (numbers >= least).fill_null(value=False)
        of = f" of {scale}" if self.rules.min_rating is None else ""
        self.sentences.append(f"{name}: {least:g} and more{of} is a like (--min-rating), less says nothing")
        self.counts[f"rows rated below {least:g}"] += int((~liked).sum()) - numbers.null_count()
        self.counts["rows without a rating"] += numbers.null_count()
        self.rated = True
        low = ~liked & numbers.is_not_null()
        return liked.cast(pl.Int8).set(low, NEUTRAL)

    def _signs(self, numbers: pl.Series, values: pl.Series, name: str) -> pl.Series:
        sign = -1 if NEGATIVE.search(letters(name)) else 1
        meaning = {1.0: LIKE, -1.0: DISLIKE, 0.0: NEUTRAL}
        meant = {value: meaning[value * sign] for value in values.to_list()}
        self.sentences.append(f"{name}: {_in_words({f'{value:g}': says for value, says in meant.items()})}")
        self.rated |= bool({LIKE, DISLIKE} & set(meant.values()))
        return numbers.replace_strict(meant, default=NOTHING, return_dtype=pl.Int8)


_DATED = re.compile(r"\d{4}-\d\d-\d\d")
_IN_WORDS = {
    LIKE: "a like",
    DISLIKE: "a dislike",
    PLAY: "a play",
    UNLIKE: "takes a like back",
    UNDISLIKE: "takes a dislike back",
    NEUTRAL: "neither",
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


def _measured(values: pl.Series) -> bool:
    """Whether numbers were measured rather than chosen: ratings are whole, or halves or quarters."""
    return not ((values * 4).round(0) == values * 4).all()
