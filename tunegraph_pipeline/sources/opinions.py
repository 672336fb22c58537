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

Basis = Literal["list", "plays"]
"""What the rows of a table are if no column says so: each a like, or each a play."""


@dataclass(frozen=True)
class Rules:
    """The options that decide what a row says; None for those not given. ``like_when`` maps columns to the
    values that are likes. ``keep_plays``: one person's plays stay plays, unless ``min_plays`` is given."""

    min_plays: int | None = None
    min_rating: float | None = None
    like_when: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keep_plays: bool = False

    @property
    def takes_plays(self) -> bool:
        """Whether plays are wanted also where likes are known."""
        return self.keep_plays or self.min_plays is not None


@dataclass
class Opinions:
    """What rows say, with one entry a row.

    ``says``: int8, one of LIKE, DISLIKE, NOTHING, PLAY, UNLIKE, UNDISLIKE and NEUTRAL. ``plays``: float64,
    how often the song was played where a row says PLAY; None if each such row is one play. ``rules`` are
    sentences for people. ``rated``: some column says what people like, and not only what they played.
    """

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
    """What each row of ``table`` says, from its roles ``plays``, ``played_ms`` and ``played_s`` and from the
    columns ``opinions``, which have the names that the file gives them.

    - An opinion column decides by its words, or by -1, 0 and 1; other numbers are ratings.
    - A rating is a like from LIKED_SHARE of the scale on: ``scale`` if the format has one, else 5, 10 or 100,
      whichever first holds the highest. A low rating is no dislike.
    - Plays count only if no opinion column says what people like, or if ``rules.min_plays`` asks for them.

    Adds what is left out to ``counts``. Raises InputError for a column whose values are not understood,
    naming it and the options.
    """
    reader = _ColumnReader(rules, where, counts, scale)
    columns = [one for name in opinions if (one := reader.says(table[name], name)) is not None]
    if columns:
        says = _combined(columns)
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
    """How often each song was played, float64; 0 if the cell gives no positive number."""
    plays = as_numbers(table["plays"], "plays", where, counts).fill_nan(None)
    none = ~(plays > 0).fill_null(value=False)
    counts["rows without plays"] += int(none.sum())
    return plays.set(none, 0.0)


def _long_enough(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.Series | None:
    """A play for each row, float64, and 0 for one shorter than SHORTEST_PLAY_MS; None if no column gives
    lengths."""
    units = {"played_ms": 1.0, "played_s": 1000.0}
    role = next((one for one in units if one in table.columns), None)
    if role is None:
        return None
    played = as_numbers(table[role], role, where, counts) * units[role]
    short = (played < SHORTEST_PLAY_MS).fill_null(value=False)
    counts["plays shorter than 30 seconds"] += int(short.sum())
    return pl.repeat(1.0, len(table), dtype=pl.Float64, eager=True).set(short, 0.0)


_PRECEDENCE = (DISLIKE, LIKE, UNLIKE, UNDISLIKE, PLAY, NEUTRAL)


def _combined(columns: Sequence[pl.Series]) -> pl.Series:
    """What a row says in several columns: the first of _PRECEDENCE that one of them says, else nothing."""
    frame = pl.DataFrame({str(number): one for number, one in enumerate(columns)})
    if frame.width == 1:
        return frame.to_series()
    chosen = [
        pl.when(pl.any_horizontal(pl.all() == says).fill_null(value=False)).then(pl.lit(says, pl.Int8))
        for says in _PRECEDENCE
    ]
    return frame.select(pl.coalesce(*chosen, pl.lit(NOTHING, pl.Int8))).to_series()


# --- one column --------------------------------------------------------------------------------------------

_BLANK = (*MISSING, "n/a", "-", "–")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_OPINIONS = {LIKE, DISLIKE, UNLIKE, UNDISLIKE}


@dataclass
class _ColumnReader:
    """Reads columns of opinions; ``sentences`` and ``rated`` collect what was decided."""

    rules: Rules
    where: str
    counts: Counter[str]
    scale: int | None
    sentences: list[str] = field(default_factory=list)
    rated: bool = False

    def says(self, column: pl.Series, name: str) -> pl.Series | None:
        """What a column says in each row, int8; None if it is empty. Raises InputError if it is not
        understood."""
        if column.dtype.is_nested():
            raise InputError(
                f"{self.where}: column {name} holds lists or objects; write one value a row, or leave the"
                f" column out with --ignore-column '{name}'"
            )
        text = column.cast(pl.String, strict=False).str.strip_chars()
        text = text.set(text.is_in(_BLANK).fill_null(value=False), None)
        likes = {letters(one): values for one, values in self.rules.like_when.items()}.get(letters(name))
        if likes is not None:
            return self._like_when(text, name, likes)
        values = text.drop_nulls().unique().sort()
        if values.is_empty():
            return None
        numbers = values.cast(pl.Float64, strict=False)
        if not numbers.has_nulls():
            return self._numbers(text.cast(pl.Float64, strict=False), numbers, None, name)
        known = {value: SAYS.get(word_of(value)) for value in values.to_list()}
        understood = {value: says for value, says in known.items() if says is not None}
        if len(understood) == len(known):
            return self._words(text, understood, name)
        if all(map(_DATE.match, known)):
            return self._dates(text, name)
        return self._written_ratings(text, known, name)

    def _like_when(self, text: pl.Series, name: str, values: frozenset[str]) -> pl.Series:
        """Likes where the option --like-when says so, as text or as an equal number."""
        wanted = [value.lower() for value in values]
        likes = text.str.to_lowercase().is_in(wanted).fill_null(value=False)
        numbers = [float(value) for value in wanted if re.fullmatch(r"-?\d+(\.\d+)?", value)]
        likes |= text.cast(pl.Float64, strict=False).is_in(numbers).fill_null(value=False)
        if not likes.any():
            raise InputError(
                f"{self.where}: no row has {shown(sorted(values))} in column {name}; check --like-when"
            )
        self.sentences.append(f"{name}: {' or '.join(sorted(values))} is a like, anything else says nothing")
        self.rated = True
        return likes.cast(pl.Int8)

    def _words(self, text: pl.Series, known: Mapping[str, int], name: str) -> pl.Series:
        """What words say; a yes in a column of dislikes is a dislike."""
        negative = NEGATIVE.search(letters(name)) and not {DISLIKE, UNLIKE, UNDISLIKE} & set(known.values())
        meant = {value: DISLIKE if negative and says == LIKE else says for value, says in known.items()}
        self.sentences.append(f"{name}: {_in_words(meant)}")
        self.counts[f"rows without a value in {name}"] += text.null_count()
        self.rated |= bool(_OPINIONS & set(meant.values()))
        return text.replace_strict(meant, default=NOTHING, return_dtype=pl.Int8)

    def _dates(self, text: pl.Series, name: str) -> pl.Series:
        """A date says when a song was liked, or when the like was taken back."""
        taken_back = letters(name).startswith(("un", "removed", "deleted"))
        self.sentences.append(f"{name}: a date {'takes the like back' if taken_back else 'is a like'}")
        self.rated = True
        dated = text.is_not_null()
        return _constant(len(text), LIKE).set(dated, NEUTRAL) if taken_back else dated.cast(pl.Int8)

    def _written_ratings(self, text: pl.Series, known: Mapping[str, int | None], name: str) -> pl.Series:
        """What ratings such as 4/5 or ★★★★☆ say. ``known`` are the distinct values, and what they say as
        words."""
        ratings = {value: one for value in known if (one := rated(value)) is not None}
        # Beside ratings, a word such as "unrated" says that there is none.
        if any(value not in ratings and says not in {NEUTRAL, NOTHING} for value, says in known.items()):
            unknown = [value for value, says in known.items() if says is None]
            raise InputError(
                f"{self.where}: column {name} says {shown(unknown)}, which is not understood; name the values"
                f" that are likes with --like-when '{name}=VALUE,VALUE', or leave the column out with"
                f" --ignore-column '{name}'"
            )
        scales = {scale for _, scale in ratings.values()}
        numbers = {value: number for value, (number, _) in ratings.items()}
        return self._numbers(
            text.replace_strict(numbers, default=None, return_dtype=pl.Float64),
            pl.Series(list(numbers.values()), dtype=pl.Float64).unique(),
            scales.pop() if len(scales) == 1 else None,
            name,
        )

    def _numbers(self, numbers: pl.Series, values: pl.Series, scale: int | None, name: str) -> pl.Series:
        """What a column of numbers says: signs, or ratings. ``values`` are the distinct numbers, ``scale`` is
        the one that the cells give."""
        if self.rules.min_rating is not None:
            return self._ratings(numbers, self.rules.min_rating, "", name)
        is_rated = is_rating(name)
        given = scale or scale_of(name) or (self.scale if is_rated else None)
        if given is None and _are_signs(values, is_rated):
            return self._signs(numbers, values, name)
        scale = _clear_scale(values, given, is_rated)
        if scale is None:
            lowest, highest = _range_of(values)
            raise InputError(
                f"{self.where}: column {name} holds numbers from {lowest:g} to {highest:g}, of a scale that"
                " is not clear; say from which number on it is a like with --min-rating, or leave the column"
                f" out with --ignore-column '{name}'"
            )
        return self._ratings(numbers, LIKED_SHARE * scale, f" of {scale}", name)

    def _ratings(self, numbers: pl.Series, least: float, of_scale: str, name: str) -> pl.Series:
        """Likes from ``least`` on; a lower rating is neutral."""
        liked = (numbers >= least).fill_null(value=False)
        self.sentences.append(
            f"{name}: {least:g} and more{of_scale} is a like (--min-rating), less says nothing"
        )
        self.counts[f"rows rated below {least:g}"] += int((~liked).sum()) - numbers.null_count()
        self.counts["rows without a rating"] += numbers.null_count()
        self.rated = True
        return liked.cast(pl.Int8).set(~liked & numbers.is_not_null(), NEUTRAL)

    def _signs(self, numbers: pl.Series, values: pl.Series, name: str) -> pl.Series:
        """What -1, 0 and 1 say; in a column of dislikes, 1 is a dislike."""
        sign = -1 if NEGATIVE.search(letters(name)) else 1
        meaning = {1.0: LIKE, -1.0: DISLIKE, 0.0: NEUTRAL}
        meant = {value: meaning[value * sign] for value in values.to_list()}
        self.sentences.append(f"{name}: {_in_words({f'{value:g}': says for value, says in meant.items()})}")
        self.rated |= bool(_OPINIONS & set(meant.values()))
        return numbers.replace_strict(meant, default=NOTHING, return_dtype=pl.Int8)


# --- numbers and words -------------------------------------------------------------------------------------


def _range_of(values: pl.Series) -> tuple[float, float]:
    lowest, highest = values.min(), values.max()
    assert isinstance(lowest, float)
    assert isinstance(highest, float)
    return lowest, highest


def _are_signs(values: pl.Series, is_rated: bool) -> bool:
    """Whether numbers are signs. One star of five looks like a sign too, so in a column of ratings only a
    negative one proves them."""
    return set(values.to_list()) <= {-1.0, 0.0, 1.0} and (_range_of(values)[0] < 0 or not is_rated)


_SCALES = (5, 10, 100)


def _clear_scale(values: pl.Series, given: int | None, is_rated: bool) -> int | None:
    """The scale of ratings: the ``given`` one, else the first of _SCALES that holds the highest, or 1 for
    fractions; None if it is not clear."""
    lowest, highest = _range_of(values)
    measured = _are_measured(values)
    if given is not None:
        scale = given
    elif highest <= 1:
        if not (is_rated and measured):
            return None  # each may be one star of five, or a yes
        scale = 1
    elif highest <= _SCALES[-1]:
        scale = next(scale for scale in _SCALES if highest <= scale)
    else:
        return None
    unclear = lowest < 0 or highest > scale or (measured and scale != 1)
    return None if unclear else scale


def _are_measured(values: pl.Series) -> bool:
    """Whether numbers were measured rather than chosen: ratings are whole, or halves or quarters."""
    return not ((values * 4).round(0) == values * 4).all()


_IN_WORDS = {
    LIKE: "is a like",
    DISLIKE: "is a dislike",
    PLAY: "is a play",
    UNLIKE: "takes a like back",
    UNDISLIKE: "takes a dislike back",
    NEUTRAL: "is neither",
    NOTHING: "is nothing",
}


def _in_words(meant: Mapping[str, int]) -> str:
    """A sentence on what values say, at most four of each kind."""
    parts = []
    for says, words in _IN_WORDS.items():
        values = [value for value, one in meant.items() if one == says]
        if values:
            parts.append(f"{' and '.join(values[:4])} {words}")
    return ", ".join(parts)
