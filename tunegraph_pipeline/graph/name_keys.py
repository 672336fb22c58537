"""The keys by which names of songs are compared, for millions of songs at once.

Here: for every track the exact key of its names, and the looser one that ignores remarks, guests and
scripts. Not here: what is a remark (`song_names`), the exact key of one name (`song_ids`), or which tracks
are then one recording (`recordings`).

Every step is done once for each distinct title and credit, and as a column: a letter is always replaced by
the same ones, so all names can be one text while their letters are. Names in ASCII, which most are, take none
of what other letters need.
"""

import re
import unicodedata
from collections.abc import Callable

import polars as pl
from anyascii import anyascii

from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.song_ids import LETTERS, NAME_PREFIX
from tunegraph_pipeline.song_names import NOBODY, REMARK, UNTITLED, plain_credit, plain_title

_END = "\0"
"""Between names in one text."""
_ASCII_APOSTROPHES = "'`"
_AND = r"\b(?:and|x|vs)\b"
"""Words between two names of a credit, and how "&" is also written; signs are no part of any key."""


def exact_keys(names: pl.Series) -> pl.Series:
    """`song_ids.name_key` of each of ``names``, all at once; nulls stay."""
    plain = _changed(
        names.str.to_lowercase(), lambda text: unicodedata.normalize("NFKD", text).casefold(), names
    )
    return _changed(letters := _of_letters(plain), composed, letters)


def song_keys(tracks: pl.DataFrame) -> pl.DataFrame:
    """The keys of tracks, from their columns track (any number), track_id, name and artists.

    Returns track and, each null where the names name no song:

    - ``exact``: the artists together and the title, in the form of `song_ids.name_id`. An id that is made of
      names is its own.
    - ``loose``: the leading artist and the title in ASCII letters and digits, without remarks and guests.
    - ``credited``: every word of artists and guests, sorted.
    - ``of_all``: those words and the title as in ``loose``, whoever leads.
    - ``plain``: whether there was nothing to leave out or to transliterate.
    """
    of_names = pl.col("track_id").str.starts_with(NAME_PREFIX)
    parts = (
        pl.col("track_id").str.strip_prefix(NAME_PREFIX).str.extract_groups("(?s)^(?<by>.*)/(?<called>.*)$")
    )
    rows = tracks.with_columns(
        title=pl.coalesce("name", pl.when(of_names).then(parts.struct["called"])),
        artists=pl.coalesce("artists", pl.when(of_names).then(pl.concat_list(parts.struct["by"]))),
    ).select(
        "track",
        "title",
        lead=pl.col("artists").list.first(),
        credit=pl.col("artists").list.join(" "),
        own=pl.when(of_names).then(pl.col("track_id").str.strip_prefix(NAME_PREFIX)),
    )
    joined = rows.join(_titles(rows["title"]), on="title", how="left", maintain_order="left").join(
        _credits(rows.select("lead", "credit")), on=["lead", "credit"], how="left", maintain_order="left"
    )
    words = pl.concat_str(["credited words", "guests"], separator=" ").str.split(" ")
    return joined.with_columns(
        credited=words.list.unique().list.sort().list.join(" ").str.strip_chars()
    ).select(
        "track",
        exact=pl.coalesce("own", pl.format("{}/{}", "credit key", "title key")),
        loose=pl.format("{}/{}", "lead key", "loose title"),
        of_all=pl.when(pl.col("lead key").is_not_null()).then(pl.format("{}/{}", "credited", "loose title")),
        credited="credited",
        plain=pl.col("plain title") & pl.col("plain credit"),
    )


def _titles(names: pl.Series) -> pl.DataFrame:
    """Of each distinct title: title, ``title key``, ``loose title``, ``guests`` (words), ``plain title``."""
    titles = pl.DataFrame({"title": names.unique().drop_nulls()})
    key = exact_keys(titles["title"])
    plain = _without_remarks(titles["title"], plain_title)
    loose = _letters(plain["name"])
    return titles.with_columns(
        pl.when(~_is_whole(key, UNTITLED)).then(key).alias("title key"),
        pl.when(loose != "").then(loose).otherwise(key).alias("loose title"),
        guests=_words(plain["guests"]),
    ).with_columns(
        pl.when(pl.col("title key").is_not_null()).then("loose title").alias("loose title"),
        (loose == key.str.replace_all(" ", "")).alias("plain title"),
    )


def _credits(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each distinct pair of leading artist and whole credit: lead, credit, ``credit key``, ``lead key``,
    ``credited words``, ``plain credit``."""
    pairs = rows.unique().drop_nulls()
    key = exact_keys(pairs["credit"])
    lead = _without_remarks(pairs["lead"], plain_credit)
    loose = _letters(lead["name"])
    somebody = ~(_is_whole(key, NOBODY) | _is_whole(exact_keys(lead["name"]), NOBODY))
    return pairs.with_columns(
        pl.when(somebody).then(key).alias("credit key"),
        pl.when(somebody).then(pl.when(loose != "").then(loose).otherwise(key)).alias("lead key"),
        _words(pairs["credit"].str.replace_all(r"(?i)\b(?:feat|featuring|ft|with)\b", " ")).alias(
            "credited words"
        ),
        (loose == key.str.replace_all(" ", "")).alias("plain credit"),
    )


def _is_whole(names: pl.Series, pattern: "re.Pattern[str]") -> pl.Series:
    return names.str.contains(f"^(?:{pattern.pattern})$")


def _without_remarks(names: pl.Series, plain: Callable[[str], tuple[str, str]]) -> pl.DataFrame:
    """``name`` and ``guests`` of each of ``names``, which have no nulls."""
    places = names.str.contains(REMARK).arg_true()
    found = [plain(name) for name in names.gather(places)]
    return pl.DataFrame(
        {
            "name": names.scatter(places, pl.Series([one[0] for one in found], dtype=pl.String)),
            "guests": pl.repeat("", len(names), dtype=pl.String, eager=True).scatter(
                places, pl.Series([one[1] for one in found], dtype=pl.String)
            ),
        }
    )


def _letters(names: pl.Series) -> pl.Series:
    """Names as ASCII letters and digits alone, without blanks and the word "and"."""
    return _words(names).str.replace_all(" ", "")


def _words(names: pl.Series) -> pl.Series:
    """The ASCII words of names with a blank between them, without those that only join names."""
    words = _of_letters(_changed(names, _by_letter(anyascii), names).str.to_lowercase())
    joined = words.str.replace_all(_AND, " ").str.replace_all(" +", " ").str.strip_chars()
    return pl.select(pl.when(joined != "").then(joined).otherwise(words)).to_series()


def _of_letters(plain: pl.Series) -> pl.Series:
    """The letters and digits of names that are in lower case, one blank between words; all of a name without
    any."""
    of_ascii = plain.str.replace_all(f"[{_ASCII_APOSTROPHES}]", "").str.replace_all("[^0-9a-z]+", " ")
    words = _one_blank(_changed(of_ascii, _by_letter(lambda one: LETTERS[ord(one)]), plain), " ")
    bare = (words == "").arg_true()
    return words.scatter(bare, _one_blank(plain.gather(bare), ""))


def _one_blank(names: pl.Series, blank: str) -> pl.Series:
    return names.str.replace_all(r"[\s\x1c-\x1f]+", blank).str.strip_chars()


def _by_letter(of_letter: Callable[[str], str]) -> Callable[[str], str]:
    """A function that puts ``of_letter`` in place of each letter, asked once for each that occurs."""

    def translate(text: str) -> str:
        letters = {ord(one): of_letter(one) for one in set(text) - {_END}}
        return text.translate(letters)

    return translate


def _changed(of_ascii: pl.Series, change: Callable[[str], str], names: pl.Series) -> pl.Series:
    """``of_ascii``, and where one of ``names`` has other letters, that name changed by a function that works
    letter by letter: it is called once, with all of them in one text."""
    plain = of_ascii.str.replace_all(_END, " ", literal=True)
    places = (names.str.len_bytes() > names.str.len_chars()).arg_true()
    if places.is_empty():
        return plain
    text = _END.join(names.gather(places).str.replace_all(_END, " ", literal=True))
    return plain.scatter(places, pl.Series(change(text).split(_END)))
