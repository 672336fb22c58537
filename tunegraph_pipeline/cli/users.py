"""`tunegraph users`: list the users of a lake, and join several ids of one person.

Here: the command, its options and what it prints. Not here: the users and their aliases (`pipeline.users`).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

import typer

from tunegraph_pipeline.cli.lake_access import open_lake, writing
from tunegraph_pipeline.cli.options import MAIN_LAKE, JsonOption, LakeOption
from tunegraph_pipeline.cli.show import answers, notes, print_json, refresh_of
from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.words import counted


def users(
    search: Annotated[
        str, typer.Argument(metavar="TEXT", help="Only users with this text in an id.", show_default=False)
    ] = "",
    lake: LakeOption = MAIN_LAKE,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=0, help="How many to show; 0 for all.")
    ] = 50,
    sort: Annotated[str, typer.Option(metavar="BY", help="id, or likes for the longest lists first.")] = "id",
    as_json: JsonOption = False,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Join two ids of one person: OLD counts as NEW. Repeatable."),
    ] = None,
    unalias: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD", help="Make an alias a user of its own again. Repeatable."),
    ] = None,
) -> None:
    """List users, and join several ids of one person.

    Shows their likes, who named them, when their list was last seen, and their aliases. Counts what was
    received since the last refresh too. With --alias, lists, dislikes and feedback of OLD count as those of
    NEW from the next refresh on, past and future ones, as if NEW had given them. To forget either id is to
    forget the person: all ids go.
    """
    from tunegraph_pipeline.pipeline.users import join_users, lake_users, matching_users

    if sort not in ("id", "likes"):
        raise InputError(f"--sort {sort}: choose id or likes")
    home, today = open_lake(lake), datetime.now(UTC).date()
    if alias or unalias:
        pairs = [_pair(text) for text in alias or ()]
        with writing(home, "tunegraph users") as home:
            lines = join_users(home, pairs, today, separate=unalias or ())
        for line in lines:
            answers.print(line, soft_wrap=True)
        notes.print(f"next: {refresh_of(home.root)}", soft_wrap=True)
        return
    everybody = lake_users(home, today)
    found = matching_users(everybody, search, by_likes=sort == "likes")
    shown = found.head(limit or len(found))
    if as_json:
        rows = [{**row, "last_observed": _text(row["last_observed"])} for row in shown.iter_rows(named=True)]
        print_json({"users": rows, "found": len(found), "total": len(everybody)})
        return
    table = [("user", "likes", "sources", "last seen", "aliases")]
    for user_id, likes, sources, seen, aliases in shown.iter_rows():
        cells = (user_id, f"{likes:,}", ", ".join(sources), _text(seen) or "never", ", ".join(aliases))
        table.append(cells)
    answers.print(_columns(table), soft_wrap=True)
    counts = f"{counted(len(everybody), 'user')} in all"
    if search:
        counts += f", {len(found):,} of them with {search!r} in an id"
    if len(shown) < len(found):
        counts += f"; the first {len(shown):,} are shown, --limit 0 shows all"
    answers.print(counts, soft_wrap=True)


def _pair(text: str) -> tuple[str, str]:
    alias, equals, user_id = text.partition("=")
    if not equals or "=" in user_id:
        raise InputError(f"--alias {text}: give OLD=NEW, two ids with one = between them")
    return alias, user_id


def _columns(lines: Sequence[tuple[str, ...]]) -> str:
    """Lines of cells, each column as wide as its longest cell: a rich table of 50,000 rows takes a minute."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
