"""`tunegraph recommend`, `similar` and `search`: ask the live bundle, or another one.

Here: the commands and their options. Not here: the ranking (`recommend/`), the tables (`show.py`), songs
given by name (`songs.py`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunegraph_pipeline.cli.lake_access import import_limits, open_lake, open_served_lake
from tunegraph_pipeline.cli.options import (
    MAIN_LAKE,
    CountOption,
    IdsOption,
    JsonOption,
    LakeOption,
    UserColumnOption,
)
from tunegraph_pipeline.cli.show import (
    answers,
    notes,
    print_json,
    progress_bars,
    show_recommendations,
    song_facts,
    song_name,
    song_table,
    warn,
)
from tunegraph_pipeline.cli.songs import given_song, given_songs
from tunegraph_pipeline.errors import InputError, LakeMissingError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.storage import check_writable
from tunegraph_pipeline.words import counted

GenreOption = Annotated[
    list[str] | None, typer.Option(metavar="NAMES", help="Of one of these genres. Repeatable.")
]
NotGenreOption = Annotated[list[str] | None, typer.Option(metavar="NAMES", help="Of none of these.")]
YearOption = Annotated[
    str | None, typer.Option(metavar="RANGE", help="Released then: 1990-1999, 1990.. or ..1999.")
]
MoodOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMES", help="Calm, energetic, happy, sad, danceable, acoustic, instrumental."),
]
UnknownOption = Annotated[
    bool, typer.Option("--allow-unknown", help="Also songs of which what is asked for is unknown.")
]
FeatureOption = Annotated[str | None, typer.Option(metavar="RANGE")]

if TYPE_CHECKING:
    from tunegraph_pipeline.lake.lake import Lake
    from tunegraph_pipeline.pipeline.user_list import UserList
    from tunegraph_pipeline.recommend.filters import Filters
    from tunegraph_pipeline.recommend.matching import Matches
    from tunegraph_pipeline.recommend.recommender import Query, Recommender


def recommend(
    lake: LakeOption = MAIN_LAKE,
    user: Annotated[str | None, typer.Option(metavar="ID", help="A user of the lake, or of --file.")] = None,
    likes: Annotated[
        list[str] | None,
        typer.Option(metavar="SONGS", help="Liked songs: ids or names, separated by commas. Repeatable."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A list of likes, of any format that imports; needs no lake."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Answer from this bundle, or from the live one of this lake.",
        ),
    ] = None,
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a column of user ids.")
    ] = None,
    user_column: UserColumnOption = None,
    k: CountOption = 10,
    dislikes: Annotated[
        list[str] | None, typer.Option(metavar="SONGS", help="Songs to show less of, and less like them.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="SONGS", help="Songs to leave out, whatever the taste.")
    ] = None,
    familiarity: Annotated[
        float, typer.Option(metavar="X", min=0, max=1, help="From discovery (0) to well-known songs (1).")
    ] = 0.5,
    diversity: Annotated[
        float, typer.Option(metavar="X", min=0, max=1, help="From best (0) to most varied (1).")
    ] = 0.0,
    max_per_artist: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most this many per artist.")
    ] = None,
    explicit: Annotated[bool, typer.Option(help="Include songs marked explicit.")] = True,
    links: Annotated[
        str | None,
        typer.Option(
            metavar="SERVICE",
            help="Show links to spotify, apple, youtube, deezer, tidal or musicbrainz; auto: to the service"
            " of the list. Where a song is not known there, to MusicBrainz.",
        ),
    ] = None,
    continued: Annotated[
        bool | None,
        typer.Option(
            "--continue/--mix",
            help="What comes next: the order of the list counts, the last song being the newest. Or the list"
            " as a set. By default what the bundle found best for a --user, and --mix for songs you name.",
        ),
    ] = None,
    recency: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=10, help="With --continue: how much more newer songs count."),
    ] = None,
    genre: GenreOption = None,
    not_genre: NotGenreOption = None,
    year: YearOption = None,
    mood: MoodOption = None,
    unknown: UnknownOption = False,
    acousticness: FeatureOption = None,
    danceability: FeatureOption = None,
    energy: FeatureOption = None,
    instrumentalness: FeatureOption = None,
    key: FeatureOption = None,
    liveness: FeatureOption = None,
    loudness: FeatureOption = None,
    mode: FeatureOption = None,
    speechiness: FeatureOption = None,
    tempo: FeatureOption = None,
    valence: FeatureOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The parquet file to write for --users.")
    ] = None,
    ids: IdsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Recommend songs for a user, for songs you name, or for a file.

    A song is given by id, link or name, with its artist where several songs share the name; quotation marks
    keep a name with a comma whole. A list that was imported since the last refresh, and with --bundle any, is
    read from the lake. Songs of --file are found by id, by ISRC, or by artist and title. Filters leave out
    what does not pass them; features have ranges such as --tempo 90-120 or --energy 0.5..
    """
    from dataclasses import replace

    from tunegraph_pipeline.recommend.recommender import Query

    filters = _filters(
        genre,
        not_genre,
        year,
        mood,
        unknown,
        acousticness=acousticness,
        danceability=danceability,
        energy=energy,
        instrumentalness=instrumentalness,
        key=key,
        liveness=liveness,
        loudness=loudness,
        mode=mode,
        speechiness=speechiness,
        tempo=tempo,
        valence=valence,
    )
    if sum(choice is not None for choice in (user or file, likes, users)) != 1:
        raise InputError("give one of --user ID, --likes SONG,SONG,…, --file FILE and --users FILE")
    if (users is None) != (output is None):
        raise InputError("--users FILE goes with --output FILE.parquet, and only with it")
    if users is not None and bundle is not None:
        raise InputError("--users FILE names users of the lake; leave --bundle out")
    listed = _listed(lake, user, file) if file is not None or (bundle and user) else None
    recommender = _recommender(lake, bundle)
    if user is not None and bundle is None and file is None:
        user = _served_id(open_served_lake(lake), recommender, user)
        if recommender.bundle.users.position(user) < 0:
            # Received since the last refresh: their list is found in the model, as one from elsewhere.
            listed = _listed(lake, user, None)
    query = Query(
        k=k,
        dislikes=given_songs(recommender, dislikes),
        exclude=given_songs(recommender, exclude),
        familiarity=familiarity,
        diversity=diversity,
        max_per_artist=max_per_artist,
        explicit=explicit,
        links=None if links == "auto" else links,
        filters=filters,
        mode=None if continued is None else "continue" if continued else "mix",
        recency=recency,
    )
    if users is not None and output is not None:
        check_writable(output)
        _recommend_for_file(lake, recommender, users, output, query, user_column)
        return
    found = None
    if listed is not None:
        query, found = _found_elsewhere(recommender, query, listed)
    else:
        query = replace(query, user_id=user, likes=given_songs(recommender, likes))
    (answer,) = recommender.answer([query])
    if isinstance(answer, InputError):
        raise answer
    liked = query.likes if query.user_id is None else _liked_by(recommender, query.user_id)
    show_recommendations(recommender, answer, liked, as_json, found, ids=ids, links=links is not None)


def similar(
    song: Annotated[str, typer.Argument(metavar="SONG", help="The song: an id, a link or a name.")],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    genre: GenreOption = None,
    not_genre: NotGenreOption = None,
    year: YearOption = None,
    mood: MoodOption = None,
    unknown: UnknownOption = False,
    acousticness: FeatureOption = None,
    danceability: FeatureOption = None,
    energy: FeatureOption = None,
    instrumentalness: FeatureOption = None,
    key: FeatureOption = None,
    liveness: FeatureOption = None,
    loudness: FeatureOption = None,
    mode: FeatureOption = None,
    speechiness: FeatureOption = None,
    tempo: FeatureOption = None,
    valence: FeatureOption = None,
    ids: IdsOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the songs nearest to a song.

    Each with its cosine, and the probability that somebody likes both. Filters are those of recommend.
    """
    from tunegraph_pipeline.pipeline.alone import open_live

    recommender = open_live(open_served_lake(lake))
    track = given_song(recommender, song)
    found = recommender.similar(
        track,
        k,
        _filters(
            genre,
            not_genre,
            year,
            mood,
            unknown,
            acousticness=acousticness,
            danceability=danceability,
            energy=energy,
            instrumentalness=instrumentalness,
            key=key,
            liveness=liveness,
            loudness=loudness,
            mode=mode,
            speechiness=speechiness,
            tempo=tempo,
            valence=valence,
        ),
    )
    if as_json:
        figures = ("cosine", "probability", "listeners")
        print_json([song_facts(item) | {name: getattr(item, name) for name in figures} for item in found])
        return
    calibration = recommender.bundle.facts.get("calibration")
    chances = [item.probability for item in found]
    table = song_table(
        [item.song for item in found],
        {
            "cosine": [f"{item.cosine:.3f}" for item in found],
            "neighbours": ["unknown" if chance is None else f"{chance:.1%}" for chance in chances],
        },
        ids=ids,
    )
    table.title = f"near {song_name(recommender, track)}"
    table.caption = "cosine: likeness, at most 1"
    if calibration is not None:
        panel = calibration["panel_users"]
        table.caption += f"; neighbours: probability that at least one of {panel} listeners likes both"
    answers.print(table)


def search(
    words: Annotated[
        list[str],
        typer.Argument(metavar="WORDS", help="A name, artists, or both; errors of typing do not matter."),
    ],
    lake: LakeOption = MAIN_LAKE,
    k: CountOption = 10,
    ids: IdsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find songs by name and artist, the best match first.

    Other commands take these names, and the ids that --ids shows.
    """
    import numpy as np

    from tunegraph_pipeline.recommend.search import TrackSearch

    recommender = _recommender(lake, None)
    text = " ".join(words)
    found = np.array(TrackSearch(recommender.bundle).find(text, k), dtype=np.int32)
    songs = recommender.describe(found)
    if as_json:
        print_json([{**song.shown(), "listeners": song.popularity} for song in songs])
        return
    if not songs:
        notes.print(f"no song is called {text}, or anything near it", soft_wrap=True)
        return
    answers.print(song_table(songs, {"listeners": [f"{song.popularity:,}" for song in songs]}, ids=ids))


def _filters(
    genres: list[str] | None,
    not_genres: list[str] | None,
    year: str | None,
    moods: list[str] | None,
    allow_unknown: bool,
    **features: str | None,
) -> "Filters | None":
    """What these options ask for, None if nothing. Raises InputError for what is no range."""
    from tunegraph_pipeline.recommend.filters import read_filters

    filters = read_filters(
        genres=_named(genres),
        not_genres=_named(not_genres),
        year=year,
        moods=_named(moods),
        features=features,
        unknown="allow" if allow_unknown else "exclude",
    )
    return None if filters.asks_nothing else filters


def _named(options: list[str] | None) -> list[str]:
    """The names in options that may be repeated, and separate names by commas."""
    return [name for option in options or () for name in map(str.strip, option.split(",")) if name]


def _recommend_for_file(
    lake: Path, recommender: "Recommender", users: Path, output: Path, query: "Query", user_column: str | None
) -> None:
    from tunegraph_pipeline.pipeline.evaluate import recommend_for_users
    from tunegraph_pipeline.sources.user_ids import read_user_ids

    with import_limits(lake):
        asked = read_user_ids(users, user_column)
    with progress_bars() as progress:
        unknown = recommend_for_users(recommender, asked, output, query, progress=progress)
    notes.print(f"{output}: {counted(query.k, 'song')} for each of {counted(len(asked) - unknown, 'user')}")
    if unknown:
        warn(f"not in the lake, so without rows: {unknown:,} of {counted(len(asked), 'user')}")


def _served_id(lake: "Lake", recommender: "Recommender", user: str) -> str:
    """The id under which the live bundle has a user: for an alias that it does not have, the user's."""
    from tunegraph_pipeline.lake.aliases import Aliases

    user_id = Aliases.of(lake.root).user_id(composed(user))
    if user_id == composed(user) or recommender.bundle.users.position(user) >= 0:
        return user
    notes.print(f"{user} is an alias of {user_id}", soft_wrap=True)
    return user_id


def _listed(lake: Path, user: str | None, file: Path | None) -> "UserList":
    """The list of a user of the lake, or of the person of a file."""
    from tunegraph_pipeline.pipeline.user_list import list_in_files, list_in_lake
    from tunegraph_pipeline.sources.files import read_files

    if file is None:
        assert user is not None
        return list_in_lake(open_lake(lake), user)
    with import_limits(lake):
        batches = read_files([file])
    for batch in batches:
        for what, count in batch.counts.items():
            notes.print(f"{batch.origin}: {what}: {count:,}")
    return list_in_files(batches, user)


def _recommender(lake: Path, bundle: Path | None) -> "Recommender":
    """Over ``bundle``, which may be a lake with a live one; by default over the live one of ``lake``."""
    from tunegraph_pipeline.lake.arrays import MANIFEST
    from tunegraph_pipeline.pipeline.alone import open_live
    from tunegraph_pipeline.recommend.bundle import Bundle
    from tunegraph_pipeline.recommend.recommender import Recommender

    if bundle is not None and (bundle / MANIFEST).is_file():
        return Recommender(Bundle.verified(bundle))
    try:
        return open_live(open_served_lake(bundle or lake))
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

    from tunegraph_pipeline.recommend.links import usual_service
    from tunegraph_pipeline.recommend.matching import match

    liked, disliked = match(recommender.bundle, listed.likes), match(recommender.bundle, listed.dislikes)
    # The bundle may know the songs by ids of other services than the list does.
    own = usual_service([song.track_id for song in listed.likes])
    if query.mode == "continue" and not listed.is_ordered:
        query = replace(query, mode="mix", recency=None)  # as a stored list without an order
    asked = replace(
        query,
        links=query.links or own,
        likes=[*liked.ids, *liked.unknown],
        dislikes=[*query.dislikes, *disliked.ids],
        exclude=[*query.exclude, *liked.also, *disliked.also],
    )
    return asked, liked


def _liked_by(recommender: "Recommender", user: str) -> list[str]:
    position = recommender.bundle.users.position(user)
    return [recommender.bundle.tracks[int(idx)] for idx in recommender.bundle.user_list(position)]
