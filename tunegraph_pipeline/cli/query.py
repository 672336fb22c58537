"""`tunegraph recommend` and `similar`: ask the live bundle, or another one.

Here: the commands and their options. Not here: the ranking (`recommend/`), the tables (`show.py`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tunegraph_pipeline.cli.lake_access import open_lake
from tunegraph_pipeline.cli.options import MAIN_LAKE, CountOption, JsonOption, LakeOption, UserColumnOption
from tunegraph_pipeline.cli.show import (
    answers,
    notes,
    print_json,
    progress_bars,
    show_recommendations,
    song_facts,
    song_name,
)
from tunegraph_pipeline.errors import InputError, LakeMissingError
from tunegraph_pipeline.lake.storage import check_writable

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.pipeline.user_list import UserList
    from tunegraph_pipeline.recommend.matching import Matches
    from tunegraph_pipeline.recommend.recommender import Query, Recommender


def recommend(
    lake: LakeOption = MAIN_LAKE,
    user: Annotated[str | None, typer.Option(help="A user of the lake, or of --file.")] = None,
    likes: Annotated[str | None, typer.Option(help="Liked track ids, separated by commas.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A list of likes that need not be in a lake: any file that imports.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Answer from this bundle, or from the live one of this lake. Default: that of --lake."
        ),
    ] = None,
    users: Annotated[Path | None, typer.Option(help="A file with a column of user ids.")] = None,
    user_column: UserColumnOption = None,
    k: CountOption = 10,
    dislikes: Annotated[
        str | None, typer.Option(help="Track ids to show less of, and of their like.")
    ] = None,
    exclude: Annotated[str | None, typer.Option(help="Track ids to leave out.")] = None,
    familiarity: Annotated[
        float, typer.Option(min=0, max=1, help="From discovery (0) to well-known songs (1).")
    ] = 0.5,
    diversity: Annotated[float, typer.Option(min=0, max=1, help="From best (0) to most varied (1).")] = 0.0,
    max_per_artist: Annotated[int | None, typer.Option(min=1, help="At most this many per artist.")] = None,
    explicit: Annotated[bool, typer.Option(help="Include songs marked explicit.")] = True,
    output: Annotated[Path | None, typer.Option(help="The parquet file to write for --users.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend songs: for a user, for a list of songs, for a file of likes, or for a file of users.

    With --bundle, the list of --user is read from the lake, which needs no model and no refresh. Songs of a
    list from elsewhere are found by id, by ISRC, or by artist and title.
    """
    from dataclasses import replace

    from tunegraph_pipeline.recommend.recommender import Query

    if sum(choice is not None for choice in (user or file, likes, users)) != 1:
        raise InputError("give one of --user ID, --likes ID,ID,…, --file FILE and --users FILE")
    if (users is None) != (output is None):
        raise InputError("--users FILE goes with --output FILE.parquet, and only with it")
    if users is not None and bundle is not None:
        raise InputError("--users FILE names users of the lake; leave --bundle out")
    listed = _listed(lake, user, file) if file is not None or (bundle and user) else None
    recommender = _recommender(lake, bundle)
    if user is not None and bundle is None and file is None:
        user = _served_id(open_lake(lake), recommender, user)
    query = Query(
        k=k,
        dislikes=_ids(dislikes),
        exclude=_ids(exclude),
        familiarity=familiarity,
        diversity=diversity,
        max_per_artist=max_per_artist,
        explicit=explicit,
    )
    if users is not None and output is not None:
        check_writable(output)
        _recommend_for_file(recommender, users, output, query, user_column)
        return
    found = None
    if listed is not None:
        query, found = _found_elsewhere(recommender, query, listed)
    else:
        query = replace(query, user_id=user, likes=_ids(likes))
    (answer,) = recommender.answer([query])
    if isinstance(answer, InputError):
        raise answer
    liked = query.likes if query.user_id is None else _liked_by(recommender, query.user_id)
    show_recommendations(recommender, answer, liked, as_json, found)


def similar(
    track: Annotated[str, typer.Argument(help="A track id.")],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    as_json: JsonOption = False,
) -> None:
    """List the songs nearest to a song, with the probability that a user likes both."""
    from tunegraph_pipeline.pipeline.alone import open_live

    recommender = open_live(open_lake(lake))
    found = recommender.similar(track, k)
    if as_json:
        figures = ("cosine", "probability", "listeners")
        print_json([song_facts(item) | {name: getattr(item, name) for name in figures} for item in found])
        return
    calibration = recommender.bundle.facts["calibration"]
    table = Table(
        "", "song", "artists", "cosine", "neighbours", title=f"near {escape(song_name(recommender, track))}"
    )
    for rank, item in enumerate(found, 1):
        chance = "unknown" if item.probability is None else f"{item.probability:.1%}"
        song, artists = escape(item.song.name or item.song.track_id), escape(item.song.artists)
        table.add_row(str(rank), song, artists, f"{item.cosine:.3f}", chance)
    if calibration is not None:
        table.caption = (
            f"neighbours: probability that at least one of {calibration['panel_users']} listeners likes both"
        )
    answers.print(table)


def _recommend_for_file(
    recommender: "Recommender", users: Path, output: Path, query: "Query", user_column: str | None
) -> None:
    from tunegraph_pipeline.pipeline.evaluate import recommend_for_users
    from tunegraph_pipeline.sources.user_ids import read_user_ids

    asked = read_user_ids(users, user_column)
    with progress_bars() as progress:
        unknown = recommend_for_users(recommender, asked, output, query, progress=progress)
    notes.print(f"{output}: {query.k} songs for each of {len(asked) - unknown:,} users")
    if unknown:
        notes.print(
            f"[yellow]{unknown:,} of {len(asked):,} users are not in the lake and have no rows[/yellow]"
        )


def _served_id(lake: "Lake", recommender: "Recommender", user: str) -> str:
    """The id under which the live bundle has a user: for an alias that it does not have, the user's."""
    from tunegraph_pipeline.lake.aliases import Aliases

    user_id = Aliases.of(lake.root).user_id(user)
    if user_id == user or recommender.bundle.users.position(user) >= 0:
        return user
    notes.print(f"{escape(user)} is an alias of {escape(user_id)}", soft_wrap=True)
    return user_id


def _listed(lake: Path, user: str | None, file: Path | None) -> "UserList":
    """The list of a user of the lake, or of the person of a file."""
    from tunegraph_pipeline.pipeline.user_list import list_in_files, list_in_lake
    from tunegraph_pipeline.sources.files import read_files

    if file is None:
        assert user is not None
        return list_in_lake(open_lake(lake), user)
    batches = read_files([file])
    for batch in batches:
        for what, count in batch.counts.items():
            notes.print(escape(f"{batch.origin}: {count:,} {what}"))
    return list_in_files(batches, user)


def _recommender(lake: Path, bundle: Path | None) -> "Recommender":
    """Over ``bundle``, which may be a lake with a live one; by default over the live one of ``lake``."""
    from tunegraph_pipeline.lake.arrays import MANIFEST
    from tunegraph_pipeline.pipeline.alone import open_live
    from tunegraph_pipeline.recommend.bundle import Bundle
    from tunegraph_pipeline.recommend.recommender import Recommender

    if bundle is not None and (bundle / MANIFEST).is_file():
        return Recommender(Bundle.open(bundle))
    try:
        return open_live(open_lake(bundle or lake))
    except LakeMissingError:
        if bundle is None:
            raise
        raise InputError(
            f"--bundle {bundle} is neither a bundle nor a lake; give the folder of one"
        ) from None


def _found_elsewhere(
    recommender: "Recommender", query: "Query", listed: "UserList"
) -> "tuple[Query, Matches]":
    """The query for a list from elsewhere, and how its likes were found."""
    from dataclasses import replace

    from tunegraph_pipeline.recommend.matching import match

    liked, disliked = match(recommender.bundle, listed.likes), match(recommender.bundle, listed.dislikes)
    asked = replace(
        query,
        likes=[*liked.ids, *liked.unknown],
        dislikes=[*query.dislikes, *disliked.ids],
        exclude=[*query.exclude, *liked.also, *disliked.also],
    )
    return asked, liked


def _ids(given: str | None) -> list[str]:
    return [part.strip() for part in (given or "").split(",") if part.strip()]


def _liked_by(recommender: "Recommender", user: str) -> list[str]:
    position = recommender.bundle.users.position(user)
    return [recommender.bundle.tracks[int(idx)] for idx in recommender.bundle.user_list(position)]
