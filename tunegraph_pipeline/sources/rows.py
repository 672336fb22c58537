"""Turn the rows of a table whose columns are known into likes, dislikes, plays, tracks and audio features.

Here: the id of each row's song, what each user says of it, and one row for each track. Not here: cleaning
single cells (`cells`), what a row says (`opinions`), or which columns there are (`columns`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.raw import empty_frame
from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES, EARLIEST
from tunegraph_pipeline.song_ids import isrc_id, name_id
from tunegraph_pipeline.sources.cells import (
    as_duration,
    as_ids,
    as_list,
    as_numbers,
    as_text,
    as_times,
    as_truth,
    as_year,
    bare_ids,
    set_null,
    without_controls,
    without_long_ids,
    without_other_links,
)
from tunegraph_pipeline.sources.formats import Means
from tunegraph_pipeline.sources.names import letters
from tunegraph_pipeline.sources.opinion_words import (
    DISLIKE,
    LIKE,
    NEUTRAL,
    NOTHING,
    PLAY,
    SAYS,
    UNDISLIKE,
    UNLIKE,
    word_of,
)
from tunegraph_pipeline.sources.opinions import Basis, Rules, read_opinions
from tunegraph_pipeline.words import counted

Part = Literal["likes", "dislikes", "plays", "tracks", "features"]


@dataclass(frozen=True)
class Table:
    """A table whose columns are named by role, beside the columns ``opinions``, which keep the file's names.

    ``means``: what its rows say if no opinion does. ``kinds``: the column that tells songs from albums and
    artists. ``default_plays``: from how many plays on a song is liked if no option says; None for any.
    ``split_artists``: a cell may hold several artists. ``decided``: options change nothing any more.
    ``scale``: the highest rating. ``may_be_plays``: its rows are plays if an option counts them;
    ``plays_if_repeated``: also if songs repeat at several times.
    """

    rows: pl.DataFrame
    means: Means
    opinions: tuple[str, ...] = ()
    kinds: str | None = None
    default_plays: int | None = None
    split_artists: bool = False
    decided: bool = False
    scale: int | None = None
    may_be_plays: bool = False
    plays_if_repeated: bool = False

    @property
    def counts_plays(self) -> bool:
        """Whether it has plays that --min-plays could count."""
        if self.means == "plays" or self.may_be_plays or "plays" in self.rows.columns:
            return True
        return any(_says_plays(self.rows[name]) for name in self.opinions)

    @property
    def has_opinions(self) -> bool:
        """Whether it has columns of opinions, which --min-rating could judge if they hold numbers."""
        return bool(self.opinions)


def _says_plays(column: pl.Series) -> bool:
    """Whether a column of opinions has a word for plays, perhaps in lists."""
    flat = column.explode() if column.dtype.is_nested() else column
    if flat.dtype.is_nested():
        return False
    values = flat.unique().cast(pl.String, strict=False).drop_nulls().to_list()
    return any(SAYS.get(word_of(value)) == PLAY for value in values)


@dataclass(frozen=True)
class Parts:
    """The parts of a raw batch. ``likes``: as `lake.raw` declares them; ``dislikes``: the same,
    ``liked_at`` being when the song was disliked; ``plays``, ``tracks`` and ``features``: as `lake.raw`
    declares them. ``rules`` are sentences on what counted as what."""

    frames: Mapping[Part, pl.DataFrame]
    rules: list[str]


def read_rows(table: Table, parts: Iterable[Part], rules: Rules, where: str, counts: Counter[str]) -> Parts:
    """The rows of ``parts``, clean and without duplicates.

    - A song's id is that of the column ``track_id``, else of a service, its ISRC, or else its artist and
      title (`song_ids.name_id`). Rows of episodes, local files, artists and albums are skipped, as are those
      without a song; one without a user still describes its song.
    - likes and dislikes: distinct pairs, ``liked_at`` the earliest time given (UTC), ``position`` the first
      place in the list. Of several opinions of one user on one song the last counts.
    - plays: of each user and song by day (UTC), where ``rules.keep_plays`` keeps them.
    - tracks, features: one row per track with the first non-null value of each column. Feature values that
      are infinite or out of range become null, as do keys of -1 (not detected).

    Adds what is skipped or changed to ``counts``. Raises InputError if a whole column has the wrong type, or
    says what is not understood.
    """
    asked = list(parts)
    rows = without_controls(_songs_only(table, counts), counts)
    if "skipped" in rows.columns:
        skipped = as_truth(rows["skipped"]).fill_null(value=False)
        counts["plays that were skipped"] += int(skipped.sum())
        rows = rows.filter(~skipped)
    if "pair" in rows.columns:
        rows = _split_pair(rows)
    if isinstance(rows.schema.get("track_id"), pl.List):
        rows = _one_song_a_row(rows, table, where)
    rows = _with_ids(rows, table, where, counts)
    sentences: list[str] = []
    frames: dict[Part, pl.DataFrame] = {}
    if {"likes", "dislikes", "plays"} & {*asked}:
        opinions = _opinions(rows, table, rules, where, counts, sentences)
        frames["likes"], frames["dislikes"], frames["plays"] = opinions
    if "tracks" in asked:
        frames["tracks"] = _tracks(rows, counts)
    if "features" in asked:
        frames["features"] = _features(rows, where, counts)
    return Parts({part: frames[part] for part in asked}, sentences)


# --- which song --------------------------------------------------------------------------------------------

_SONG_KINDS = frozenset({"song", "songs", "track", "tracks", "audio"})

_OTHER_KINDS = frozenset({
    "artist", "artists", "album", "albums", "podcast", "podcasts", "episode", "episodes", "audiobook",
    "audiobooks", "show", "shows", "station", "movie", "movies", "tvshow", "video", "musicvideo", "book",
    "books", "container",
})  # fmt: skip
"""What columns of types call things that are no songs."""


def _songs_only(table: Table, counts: Counter[str]) -> pl.DataFrame:
    """The rows of songs, if a column tells them from albums, artists and episodes; else all rows."""
    if table.kinds is None:
        return table.rows
    kinds = table.rows[table.kinds].cast(pl.String, strict=False)
    values = kinds.drop_nulls().unique()
    plain = {value: letters(value) for value in values.to_list()}
    songs = [value for value, kind in plain.items() if kind in _SONG_KINDS]
    others = [value for value, kind in plain.items() if kind in _OTHER_KINDS]
    if songs and table.kinds != "kind":
        others += [value for value, kind in plain.items() if value not in songs and kind == "playlist"]
    left_out = kinds.is_in(others).fill_null(value=False)
    for value in others:
        counts[f"rows of type {value}"] += int((kinds == value).sum())
    return table.rows.filter(~left_out)


def _one_song_a_row(rows: pl.DataFrame, table: Table, where: str) -> pl.DataFrame:
    """A row for each song of a list, with the times and opinions of lists beside it."""
    beside = ("track_id", "liked_at", "plays", "played_ms", *table.opinions)
    lists = [name for name in beside if isinstance(rows.schema.get(name), pl.List)]
    try:
        return rows.explode(lists)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{where} has lists of songs and of their times of different lengths") from error


def _split_pair(rows: pl.DataFrame) -> pl.DataFrame:
    """ "Artist - Title" in one cell as two; without a dash it is a title alone."""
    cut = rows["pair"].cast(pl.String, strict=False).str.splitn(" - ", 2).struct.unnest()
    has_both = cut["field_1"].is_not_null()
    return rows.with_columns(
        pl.when(has_both).then(cut["field_0"]).alias("artists"),
        pl.when(has_both).then(cut["field_1"]).otherwise(cut["field_0"]).alias("name"),
    )


def _with_ids(rows: pl.DataFrame, table: Table, where: str, counts: Counter[str]) -> pl.DataFrame:
    """The rows of known songs, with clean ``track_id`` and ``user_id``."""
    if table.split_artists and rows.schema.get("artists") == pl.String:
        rows = rows.with_columns(_split_artists(rows))
    no_songs: Counter[str] = Counter()
    rows = rows.with_columns(_track_ids(rows, where, no_songs).alias("track_id"))
    if "user_id" in rows.columns:
        rows = rows.with_columns(as_ids(rows["user_id"], "user_id", where, counts))
    # A row is counted once: by why its id is left out, or here.
    counts.update(no_songs)
    without = rows["track_id"].is_null()
    missing = max(int(without.sum()) - no_songs.total(), 0)
    titles = int((without & as_text(rows["name"]).is_not_null()).sum()) if "name" in rows.columns else 0
    titles = min(missing, titles)
    counts["titles without an artist, which name no song"] += titles
    counts["rows without a track"] += missing - titles
    return rows.filter(~without)


def _track_ids(rows: pl.DataFrame, where: str, no_songs: Counter[str]) -> pl.Series:
    """The id of each row's song: by its column, else by a service, its ISRC, or artist and title; null if
    it has none. Ids of what is no song are null, and counted in ``no_songs``."""
    written = rows["track_id"] if "track_id" in rows.columns else None
    if written is None:
        own = pl.repeat(None, len(rows), dtype=pl.String, eager=True).alias("track_id")
    else:
        own = as_ids(written, "track_id", where, no_songs)
    track = own
    for name in rows.columns:
        if name.startswith("service:"):
            track = _filled(track, _service_ids(rows[name], name.removeprefix("service:")))
    if "isrc" in rows.columns and track.has_nulls():
        track = _filled(track, _isrc_ids(rows["isrc"]))
    if track.has_nulls() and {"name", "artists"} <= set(rows.columns):
        track = _filled(track, _name_ids(rows["artists"], rows["name"], track.is_null()))
    if written is not None and no_songs:
        # What is no song by its id is none by its names.
        track = track.set(own.is_null() & as_text(written).is_not_null(), None)
    return without_long_ids(track, no_songs)


def _filled(track: pl.Series, others: pl.Series) -> pl.Series:
    """The ids, with those of ``others`` in place of nulls."""
    both = pl.DataFrame({"track_id": track, "other": others})
    return both.select(pl.coalesce("track_id", "other")).to_series()


def _service_ids(column: pl.Series, service: str) -> pl.Series:
    """The ids of a service with its prefix, from its bare ids, URIs or links; null for a blank or a zero."""
    text = as_text(column).str.replace(r"\.0$", "")
    text = text.set((text == "0").fill_null(value=False), None)
    bare = text.str.contains(r"^[\w-]+$").fill_null(value=False)
    linked = as_ids(text.set(bare, None), "track_id", service, Counter())
    return _filled(linked, (f"{service}:" + text).set(~bare, None))


def _isrc_ids(column: pl.Series) -> pl.Series:
    """The ids of songs by their ISRCs; null for text that is none."""
    text = as_text(column)
    written = text.drop_nulls().unique().to_list()
    return text.replace_strict(
        written, [isrc_id(one) for one in written], default=None, return_dtype=pl.String
    )


def _name_ids(artists: pl.Series, names: pl.Series, wanted: pl.Series) -> pl.Series:
    """The ids of songs by the first artist and the title, where ``wanted``."""
    first = as_list(artists).list.first() if isinstance(artists.dtype, pl.List) else as_text(artists)
    pairs = pl.DataFrame({"artist": first, "title": as_text(names)})
    distinct = pairs.filter(wanted).unique().drop_nulls()
    keys = [name_id(artist, title) for artist, title in distinct.iter_rows()]
    known = distinct.with_columns(pl.Series("id", keys, dtype=pl.String))
    return pairs.join(known, on=["artist", "title"], how="left", maintain_order="left")["id"]


def _split_artists(rows: pl.DataFrame) -> pl.Series:
    """The artists of each song as a list. Exportify joins them by ``;`` or, in older files, by commas; a
    comma of a name may be escaped. In a column that has a semicolon anywhere and no escape, commas belong to
    names, as they do where a song has a single artist id."""
    column = rows["artists"].cast(pl.String, strict=False)
    kept = column.str.replace_all("\\,", "\x00", literal=True)
    has_mark = column.str.contains(";", literal=True)
    if has_mark.any() and (kept == column).all():
        return column.str.split(";").alias("artists")
    lists = (
        pl.DataFrame({"kept": kept, "mark": has_mark})
        .select(pl.when("mark").then(pl.col("kept").str.split(";")).otherwise(pl.col("kept").str.split(",")))
        .to_series()
    )
    if "artist_ids" in rows.columns:
        ids = rows["artist_ids"].cast(pl.String, strict=False).str.split(",").list.len()
        lists = (
            pl.DataFrame({"lists": lists, "whole": kept, "ids": ids})
            .select(pl.when(pl.col("ids") == 1).then(pl.concat_list("whole")).otherwise("lists"))
            .to_series()
        )
    return lists.list.eval(pl.element().str.replace_all("\x00", ",", literal=True)).alias("artists")


# --- what users say of it ----------------------------------------------------------------------------------

_SAID_BY_TABLE = {"dislikes": DISLIKE, "unlikes": UNLIKE, "undislikes": UNDISLIKE}
"""What each row of a table says by what the table means, if no column says more."""


def _opinions(
    rows: pl.DataFrame, table: Table, rules: Rules, where: str, counts: Counter[str], sentences: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The likes, the dislikes and the plays of rows with users."""
    counts["rows without a user"] += rows["user_id"].null_count()
    rows = rows.filter(pl.col("user_id").is_not_null())
    if table.decided:
        rules = Rules()
    elif not table.counts_plays:
        rules = replace(rules, min_plays=None)
    says, plays = _says(rows, table, rules, where, counts, sentences)
    written, liked_at = _times(rows, counts)
    if table.plays_if_repeated and (says == LIKE).all() and _repeats(rows, liked_at):
        sentences.append("songs repeat at several times, so the rows are plays")
        says = says.set(says == LIKE, PLAY)
    pairs = rows.select("user_id", "track_id", _positions(rows)).with_columns(liked_at, says.alias("says"))
    if plays is not None:
        pairs = pairs.with_columns(plays.alias("plays"))
    played = empty_frame("plays")
    if rules.keep_plays and rules.min_plays is None and table.default_plays is not None:
        dated = "plays" not in rows.columns or _repeats(rows, liked_at)
        played = _by_day(pairs.filter(pl.col("says") == PLAY), dated=dated)
        pairs = pairs.filter(pl.col("says") != PLAY)
        written = None if written is None else written.filter(says != PLAY)
        if len(played):
            sentences.append("plays stay plays: songs that were played often enough become likes")
    least = rules.min_plays if rules.min_plays is not None else table.default_plays
    return *_likes_and_dislikes(pairs, written, least, counts, sentences), played


def _by_day(pairs: pl.DataFrame, *, dated: bool) -> pl.DataFrame:
    """The plays of each user and song on each day (UTC). Where they are not ``dated``, a row gives the total
    of a song, and its time something else, such as the last play."""
    day = pl.col("liked_at").dt.date() if dated else pl.lit(None, pl.Date)
    times = pl.col("plays").sum().floor() if "plays" in pairs.columns else pl.len()
    return (
        pairs.with_columns(day.alias("played_on"))
        .group_by("user_id", "track_id", "played_on", maintain_order=True)
        .agg(times.clip(0, 2**31 - 1).cast(pl.Int32).alias("plays"))
        .filter(pl.col("plays") > 0)
        .cast(pl.Schema(empty_frame("plays").schema))
    )


def _says(
    rows: pl.DataFrame, table: Table, rules: Rules, where: str, counts: Counter[str], sentences: list[str]
) -> tuple[pl.Series, pl.Series | None]:
    """What each row says, and how often it was played, as in `opinions.Opinions`, by its columns or else by
    what the table means."""
    basis: Basis = "plays" if table.means == "plays" else "list"
    opinions = read_opinions(rows, table.opinions, basis, rules, where, counts, table.scale)
    sentences += opinions.rules
    says = opinions.says
    if table.means in _SAID_BY_TABLE and not table.opinions:
        says = pl.repeat(_SAID_BY_TABLE[table.means], len(rows), dtype=pl.Int8, eager=True)
    if table.means == "library" and table.opinions and not opinions.rated:
        says = says.set(says.is_in([NOTHING, NEUTRAL]), LIKE)
        sentences.append("nothing in the library is rated or loved, so each of its songs is a like")
    return says, opinions.plays


def _likes_and_dislikes(
    pairs: pl.DataFrame,
    written: pl.Series | None,
    least: int | None,
    counts: Counter[str],
    sentences: list[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The likes and dislikes that stand, and as likes the songs played ``least`` times that nobody rated.
    ``pairs``: user_id, track_id, liked_at, says and perhaps plays; ``written``: the times in the file."""
    says = pairs["says"]
    if (says == LIKE).all():
        return _distinct(pairs, counts), _as_pairs(pairs[:0])
    if (says == PLAY).all():
        return _played(pairs, least, counts, sentences), _as_pairs(pairs[:0])
    stated = pairs.with_columns(_order(written, pairs["liked_at"])).filter(
        says.is_in([LIKE, DISLIKE, UNLIKE, UNDISLIKE, NEUTRAL])
    )
    likes, dislikes = _last_opinions(stated, counts)
    counts["rows that say nothing of liking"] += int(says.is_in([NOTHING, NEUTRAL]).sum())
    if (says == PLAY).any():
        played = _played(pairs.filter(says == PLAY), least, counts, sentences)
        known = pl.concat([likes, dislikes])
        further = played.join(known, on=["user_id", "track_id"], how="anti", maintain_order="left")
        likes = pl.concat([likes, further])
    return likes, dislikes


def _repeats(rows: pl.DataFrame, liked_at: pl.Series) -> bool:
    """Whether users name a song at several times, as they do in a history of plays."""
    dated = rows.select("user_id", "track_id").with_columns(liked_at).drop_nulls().unique()
    return len(dated) > dated.select("user_id", "track_id").n_unique()


def _times(rows: pl.DataFrame, counts: Counter[str]) -> tuple[pl.Series | None, pl.Series]:
    """The times as they are written, None without such a column, and as they are stored."""
    if "liked_at" not in rows.columns:
        return None, pl.repeat(None, len(rows), dtype=pl.Datetime("us", "UTC"), eager=True).alias("liked_at")
    column = rows["liked_at"]
    if "time_of_day" in rows.columns:
        parts = [as_text(rows[role]) for role in ("liked_at", "time_of_day")]
        column = rows.select(pl.concat_str(parts, separator=" ", ignore_nulls=True)).to_series()
    return column, as_times(column, counts).alias("liked_at")


def _positions(rows: pl.DataFrame) -> pl.Series:
    """The places in the list, int32; null where they are unknown or no whole numbers."""
    if "position" not in rows.columns:
        return pl.repeat(None, len(rows), dtype=pl.Int32, eager=True).alias("position")
    text = as_text(rows["position"]).str.strip_chars().str.replace(r"\.0$", "")
    return text.cast(pl.Int32, strict=False).alias("position")


def _order(written: pl.Series | None, times: pl.Series) -> pl.Series:
    """The order of the rows in time, float64: by times, or by the numbers in the file if some of them are no
    times, since they may be relative. All are null without times."""
    if (
        times.null_count()
        and written is not None
        and (written.dtype.is_numeric() or written.dtype == pl.String)
    ):
        numbers = written.cast(pl.Float64, strict=False)
        if numbers.null_count() < len(numbers):
            return numbers.alias("order")
    return times.to_physical().cast(pl.Float64).alias("order")


def _codes(pairs: pl.DataFrame) -> pl.Series:
    """A number for each pair of user and track, uint64: two 32-bit codes in one, ten times faster to compare
    than pairs of strings."""
    codes = [
        pl.col(name).cast(pl.Categorical).to_physical().cast(pl.UInt64) for name in ("user_id", "track_id")
    ]
    return pairs.select((codes[0] * 2**32 + codes[1]).alias("pair")).to_series()


def _as_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """user_id and track_id as text, liked_at and position."""
    return pairs.select(pl.col("user_id", "track_id").cast(pl.String), *EARLIEST)


def _distinct(pairs: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """Distinct pairs in the order of their first rows, each with its earliest time and first position."""
    pairs = pairs.with_columns(_codes(pairs))
    first = pairs["pair"].is_first_distinct()
    repeated = len(pairs) - int(first.sum())
    counts["repeated likes"] += repeated
    if repeated and any(pairs[name].null_count() < len(pairs) for name in EARLIEST):
        pairs = pairs.group_by("pair", maintain_order=True).agg(
            pl.col("user_id", "track_id").first(), pl.col(EARLIEST).min()
        )
    elif repeated:
        pairs = pairs.filter(first)
    return _as_pairs(pairs)


def _last_opinions(pairs: pl.DataFrame, counts: Counter[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The likes and dislikes that stand: of each user and song the last one, unless it was taken back.
    ``pairs`` have a column ``order``."""
    pairs = pairs.with_columns(_codes(pairs))
    several = pairs["pair"].is_duplicated()
    alone = pairs.filter(~several)
    # Rows that agree need no order, only their earliest time.
    agreed = [alone.filter(pl.col("says") == says) for says in (LIKE, DISLIKE)]
    if not several.any():
        return _as_pairs(agreed[0]), _as_pairs(agreed[1])
    last = _last_of_several(pairs.filter(several), counts)
    likes, dislikes = (
        pl.concat([_as_pairs(one), _as_pairs(last.filter(pl.col("last") == says))])
        for one, says in zip(agreed, (LIKE, DISLIKE), strict=True)
    )
    return likes, dislikes


def _last_of_several(pairs: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """user_id, track_id, ``last``, LIKE or DISLIKE, ``liked_at``, the time of the first such opinion, and the
    first position, for each pair whose last opinion stands."""
    place = pl.int_range(pl.len())
    ordered = pairs.sort("order", nulls_last=False, maintain_order=True).with_columns(place.alias("place"))
    stated = pl.col("says").is_in([LIKE, DISLIKE, NEUTRAL])
    back = [
        pl.col("place").filter(pl.col("says") == says).max().alias(f"back {of}")
        for says, of in ((UNLIKE, LIKE), (UNDISLIKE, DISLIKE))
    ]
    times = [
        pl.col("liked_at").filter(pl.col("says") == says).min().alias(f"at {says}")
        for says in (LIKE, DISLIKE)
    ]
    of_pair = ordered.group_by("pair", maintain_order=True).agg(
        pl.col("user_id", "track_id").first(),
        pl.col("says").filter(stated).last().alias("last"),
        pl.col("place").filter(stated).max().alias("stated"),
        pl.len().alias("rows"),
        pl.col("position").min(),
        *back,
        *times,
    )
    taken = pl.when(pl.col("last") == LIKE).then(f"back {LIKE}").otherwise(f"back {DISLIKE}")
    at = pl.when(pl.col("last") == LIKE).then(f"at {LIKE}").otherwise(f"at {DISLIKE}")
    stands = pl.col("last").is_in([LIKE, DISLIKE]) & (taken.is_null() | (taken < pl.col("stated")))
    standing = of_pair.filter(stands.fill_null(value=False))
    counts["likes and dislikes that were taken back"] += len(of_pair) - len(standing)
    counts["repeated or changed opinions"] += int((standing["rows"] - 1).sum())
    return standing.select("user_id", "track_id", "last", at.alias("liked_at"), "position")


def _played(
    pairs: pl.DataFrame, least: int | None, counts: Counter[str], sentences: list[str]
) -> pl.DataFrame:
    """The songs that each user played ``least`` times, dated by the first play that counts."""
    if "plays" in pairs.columns:
        pairs = pairs.filter(pl.col("plays") > 0)
    plays = pl.col("plays").sum() if "plays" in pairs.columns else pl.len()
    often = (
        pairs.select(
            "liked_at",
            *({"plays"} & set(pairs.columns)),
            _codes(pairs),
            row=pl.int_range(pl.len(), dtype=pl.UInt32),
        )
        .group_by("pair")
        .agg(pl.col("row").min(), pl.col("liked_at").min(), plays.alias("times"))
        .sort("row")
    )
    if least is None:
        sentences.append("plays: a song that was played at all is a like (--min-plays)")
        counts["repeated plays"] += len(pairs) - len(often)
        liked = often
    else:
        sentences.append(f"plays: a song played {counted(least, 'time')} or more is a like (--min-plays)")
        liked = often.filter(pl.col("times") >= least)
        counts[f"songs played fewer than {counted(least, 'time')}"] += len(often) - len(liked)
    who = pairs.select("user_id", "track_id", "position")[liked["row"]]
    return _as_pairs(who.with_columns(liked["liked_at"]))


# --- what is known of it -----------------------------------------------------------------------------------

_FEATURE_RANGES = {
    **dict.fromkeys(AUDIO_FEATURES, (0.0, 1.0)),
    "key": (0.0, 11.0),
    "loudness": (-100.0, 20.0),
    "tempo": (0.0, 500.0),
}


def _tracks(table: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    columns = {"track_id": table["track_id"]}
    for role in ("name", "isrc", "genre", "image_url", "preview_url", "album"):
        if role in table.columns:
            columns[role] = as_text(table[role])
    if "album_id" in table.columns:
        columns["album_id"] = bare_ids(as_text(table["album_id"]))
    for role in ("artists", "artist_ids"):
        if role in table.columns:
            lists = as_list(table[role])
            columns[role] = bare_ids(lists) if role == "artist_ids" else lists
    for role, scale in (("duration", None), ("duration_s", 1000.0), ("duration_ms", 1.0)):
        if role in table.columns:
            columns["duration_ms"] = as_duration(table[role], role, scale, counts)
    if "year" in table.columns:
        columns["year"] = as_year(table["year"])
    if "explicit" in table.columns:
        columns["explicit"] = as_truth(table["explicit"])
    return _first_known(without_other_links(pl.DataFrame(columns), counts), "tracks")


def _features(table: pl.DataFrame, where: str, counts: Counter[str]) -> pl.DataFrame:
    columns = {"track_id": table["track_id"]}
    for name in AUDIO_FEATURES:
        if name in table.columns:
            values = as_numbers(table[name], name, where, counts).fill_nan(None)
            if name == "key":
                values = set_null(values, values == -1, "keys not detected", counts)
            wrong = ~values.is_between(*_FEATURE_RANGES[name])
            columns[name] = set_null(values, wrong, "feature values out of range", counts)
    return _first_known(pl.DataFrame(columns), "features")


def _first_known(table: pl.DataFrame, part: Literal["tracks", "features"]) -> pl.DataFrame:
    """One row per track, with the declared columns and types; tracks without any value are left out."""
    known = [name for name in table.columns if name != "track_id"]
    table = table.filter(~pl.all_horizontal(pl.col(known).is_null())) if known else table[:0]
    if table["track_id"].n_unique() < len(table):
        table = table.group_by("track_id", maintain_order=True).agg(pl.col(known).drop_nulls().first())
    empty = empty_frame(part)
    return table.select(
        pl.col(name).cast(kind) if name in table.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in empty.schema.items()
    )
