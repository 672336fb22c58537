"""The users of a lake, and joining several ids of one person.

Here: a row for each user, as the next refresh will have them, which ids the lake does not know, and which
pairs of ids may be joined. Not here: the file of aliases (`lake.aliases`), or removing users (`forgetting`).
"""

from collections.abc import Iterable, Sequence
from datetime import date
from difflib import get_close_matches

import polars as pl

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.aliases import Aliases
from tunegraph_pipeline.lake.daily import Preview
from tunegraph_pipeline.lake.feedback_spool import users_among
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.raw import is_pruned
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.lake.tombstones import Tombstones
from tunegraph_pipeline.pipeline.current_likes import read_current_lists
from tunegraph_pipeline.pipeline.deletion_requests import check_user_id
from tunegraph_pipeline.pipeline.stale_versions import users_of_built


def lake_users(lake: Lake, today: date) -> pl.DataFrame:
    """Every user whom a source has named up to ``today``, also on days that are not refreshed yet.

    Returns user_id, likes (length of the current list), sources (who named the user), last_observed (when the
    whole list was last seen; null for never) and aliases, sorted by id. Raises LakeError.
    """
    coming = Preview(lake, today)
    lists = read_current_lists(coming, today)
    named = _named(coming, today).group_by("user_id").agg(sources=pl.col("source").sort())
    likes = lists.likes.group_by("user_id").agg(likes=pl.len())
    seen = lists.observed.group_by("user_id").agg(last_observed=pl.col("seen").max())
    return (
        named.join(likes, on="user_id", how="left")
        .join(seen, on="user_id", how="left")
        .join(_aliases(Aliases.of(lake.root)), on="user_id", how="left")
        .select(
            "user_id",
            pl.col("likes").fill_null(0),
            "sources",
            "last_observed",
            pl.col("aliases").fill_null([]),
        )
        .sort("user_id")
    )


def matching_users(users: pl.DataFrame, search: str, *, by_likes: bool = False) -> pl.DataFrame:
    """The rows of :func:`lake_users` with a text in the id or an alias, whatever its case; sorted by id, or
    the longest lists first."""
    ids = pl.concat_list(pl.concat_list("user_id"), "aliases").list.join("\n").str.to_lowercase()
    found = users.filter(ids.str.contains(composed(search).lower(), literal=True))
    return found.sort("likes", descending=True, maintain_order=True) if by_likes else found


def unknown_users(lake: Lake, user_ids: Iterable[str], today: date) -> dict[str, str | None]:
    """Those of ``user_ids`` whom nothing in the lake names and nobody forgot, each with the id of a user that
    is spelt almost so, if there is one. Raises LakeError."""
    tombstones, aliases = Tombstones.of(lake.root), Aliases.of(lake.root)
    left = {user_id for user_id in map(composed, user_ids) if not tombstones.buries_one(user_id)}
    known = {
        *_named(Preview(lake, today), today)["user_id"].unique(),
        *aliases.links,
        *aliases.links.values(),
    }
    known.update(
        user_id for section in lake.file.settings.values() for user_id in section.get("start_users", [])
    )
    known = {*map(composed, known | users_of_built(lake)), *users_among(lake, left)}
    unknown, among = sorted(left - known), sorted(known)
    return {user_id: next(iter(get_close_matches(user_id, among, n=1)), None) for user_id in unknown}


def join_users(
    lake: Lake, pairs: Sequence[tuple[str, str]], today: date, *, separate: Iterable[str] = ()
) -> list[str]:
    """Have the first id of each pair count as the second, after ending that for the aliases ``separate``.

    Needs the lake's lock. Returns lines for a person. Raises InputError, and changes nothing, for an id that
    is blank or of a forgotten user, one that is no alias, and for what `Aliases.joined` refuses.
    """
    before, tombstones = Aliases.of(lake.root), Tombstones.of(lake.root)
    aliases, lines = before, []
    for alias in map(composed, separate):
        if alias not in aliases.links:
            raise InputError(f"{alias!r} is not an alias; `tunegraph users` shows the aliases of each user")
        aliases = Aliases({one: to for one, to in aliases.links.items() if one != alias})
        lines.append(f"{alias!r} is a user of its own again")
    if lines and any(is_pruned(lake.raw, day) for day in lake.raw_days()):
        lines.append("days whose raw batches were pruned stay as they are")
    met = {before.user_id(user_id) for user_id in _named(Preview(lake, today), today)["user_id"].unique()}
    for alias, user_id in ((composed(alias), composed(user_id)) for alias, user_id in pairs):
        for one in (alias, user_id):
            _check(one, tombstones)
        aliases = aliases.joined(alias, user_id)
        lines.append(f"{alias!r} counts as {aliases.user_id(user_id)!r}")
        unknown = [repr(one) for one in (alias, user_id) if before.user_id(one) not in met]
        if unknown:
            lines.append(f"the lake has not met {' or '.join(unknown)} yet; check the spelling")
    if aliases != before:
        aliases.write(lake.root)
    return lines


def _check(user_id: str, tombstones: Tombstones) -> None:
    check_user_id(user_id, "an id to join")
    if tombstones.buries_one(user_id):
        raise InputError(f"{user_id!r} was forgotten, and cannot be joined to another id")


def _named(lake: Lake, today: date) -> pl.DataFrame:
    """Who was named by which source up to ``today``: user_id, source."""
    columns = ["user_id", "source"]
    named = empty_table("users").select(columns)
    for day in lake.days_until("users", today):
        named = pl.concat([named, lake.read("users", day, columns)]).unique()
    return named


def _aliases(aliases: Aliases) -> pl.DataFrame:
    """The aliases of each user who has any: user_id, aliases."""
    pairs = pl.DataFrame(
        list(aliases.user_ids.items()), schema={"alias": pl.String, "user_id": pl.String}, orient="row"
    )
    return pairs.group_by("user_id").agg(aliases=pl.col("alias").sort())
