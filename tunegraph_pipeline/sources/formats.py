"""The formats that can be imported: one declared table, and finding the one that a file has.

Here: FORMATS, what each is recognised by, what its rows mean, and whose they are. Not here: cutting files
into tables (`raw_tables`), documents that are no tables (`documents`), what columns mean by their names
(`columns`), or Spotify's account export (`account_export`).

The order decides: the first format that fits is taken, and the three at the end fit any table that names its
columns. docs/importing.md shows this table.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunegraph_pipeline.lake.schemas import AUDIO_FEATURES
from tunegraph_pipeline.sources.columns import Columns
from tunegraph_pipeline.sources.names import letters
from tunegraph_pipeline.sources.raw_tables import RawTable

Means = Literal["likes", "dislikes", "unlikes", "undislikes", "plays", "library", "catalogue"]
"""What a row says unless a column of it says more. The songs of a ``library`` are likes if nothing in it is
rated or loved. A ``catalogue`` describes songs."""

Whose = Literal["one person", "its users"]
"""Whose the rows are: one person's, whom --user-id names, or those of the users that a column names."""


@dataclass(frozen=True)
class Format:
    """A format of tables or documents.

    A table has it if it has all ``columns`` (their letters) of one entry, and the name of the file or sheet
    matches ``file``; without a header, if its cells match ``cells``, one pattern for each column. ``roles``
    maps roles to columns, by letters or, without a header, by position from "1"; the role ``pair`` holds
    "Artist - Title". A table that lacks the column ``without`` needs no ``file``. ``scale`` is the
    highest rating. Documents have none of these; `documents` recognises them.
    """

    name: str
    title: str
    seen_by: str
    means: Means
    whose: Whose
    columns: tuple[str, ...] = ()
    file: str = ""
    cells: tuple[str, ...] = ()
    separator: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    literal: bool = False
    without: str = ""
    scale: int | None = None

    def fits(self, table: RawTable, file_name: str | None) -> bool:
        """Whether a table has this format; without a name of the file, whether its columns do."""
        names = {letters(name) for name in table.names}
        start = rf"(?:^|[^a-z])(?:{self.file})"
        named = not self.file or file_name is None or re.search(start, file_name, re.IGNORECASE)
        if not named and (not self.without or self.without in names):
            return False
        if table.header:
            return any(set(entry.split()) <= names for entry in self.columns)
        return bool(self.cells) and self._cells_match(table)

    def _cells_match(self, table: RawTable) -> bool:
        if len(table.names) != len(self.cells):
            return False
        rows = table.sample.rows()
        patterns = [re.compile(cell) for cell in self.cells]
        matched = sum(
            all(pattern.fullmatch(cell or "") for pattern, cell in zip(patterns, row, strict=True))
            for row in rows
        )
        return matched >= 0.9 * len(rows) > 0


_HASH40, _UUID = r"[0-9a-f]{40}", r"[0-9a-fA-F-]{36}|"
_ANY, _SOME, _NUMBER, _WHOLE = r"(?s).*", r"(?s).+", r"-?[\d.]+(?:[eE][+-]?\d+)?", r"\d+"
_EPOCH = r"1\d{9}|[89]\d{8}"

FORMATS: tuple[Format, ...] = (
    # --- one person's, from a service ---
    Format(
        "spotify-export",
        "Spotify account export",
        "the zip as downloaded, or YourLibrary.json, Streaming_History_Audio_*.json, endsong_*.json,"
        " StreamingHistory*.json",
        "library",
        "one person",
    ),
    Format(
        "spotify-api",
        "Spotify Web API",
        "JSON: `items` with `track`, one page or a list of pages",
        "likes",
        "one person",
    ),
    Format(
        "spotify-plays",
        "Spotify history under another name",
        "JSON or CSV: ms_played and spotify_track_uri, or msPlayed, artistName and trackName",
        "plays",
        "one person",
        columns=("msplayed spotifytrackuri", "msplayed artistname trackname"),
        roles={
            "track_id": "spotifytrackuri",
            "name": "mastermetadatatrackname",
            "artists": "mastermetadataalbumartistname",
            "liked_at": "ts",
            "played_ms": "msplayed",
        },
    ),
    Format(
        "youtube-takeout",
        "YouTube and YouTube Music (Takeout)",
        "CSV: a video id and when it was added, in any language; music library songs",
        "likes",
        "one person",
        columns=("videoid",),
        roles={"youtube": "videoid"},
    ),
    Format(
        "youtube-api",
        "YouTube Data API, ytmusicapi",
        "JSON: items with a video id, or tracks with videoId",
        "likes",
        "one person",
    ),
    Format(
        "youtube-history",
        "YouTube Music history (Takeout)",
        "watch-history.json; only YouTube Music counts",
        "plays",
        "one person",
    ),
    Format(
        "apple-likes",
        "Apple Music likes",
        "CSV: Item Description, Preference",
        "likes",
        "one person",
        columns=("itemdescription preference",),
        roles={"pair": "itemdescription", "apple": "itemreference", "liked_at": "created"},
    ),
    Format(
        "apple-library",
        "Apple Music library",
        "JSON: Track Identifier, Title, Artist",
        "library",
        "one person",
        columns=("trackidentifier title",),
        roles={"name": "title", "artists": "artist", "apple": "applemusictrackidentifier"},
        scale=100,
    ),
    Format(
        "apple-daily-tracks",
        "Apple Music play history",
        "CSV: Date Played, Track Description, Play Count",
        "plays",
        "one person",
        columns=("dateplayed trackdescription playcount",),
        roles={
            "pair": "trackdescription",
            "apple": "trackidentifier",
            "liked_at": "dateplayed",
            "plays": "playcount",
        },
    ),
    Format(
        "apple-track-plays",
        "Apple Music track play history",
        "CSV: Track Name, Last Played Date",
        "plays",
        "one person",
        columns=("trackname lastplayeddate isuserinitiated",),
        roles={"pair": "trackname", "liked_at": "lastplayeddate"},
    ),
    Format(
        "apple-plays",
        "Apple Music play activity",
        "CSV: Song Name, Artist Name, Event Start Timestamp",
        "plays",
        "one person",
        columns=(
            "songname eventstarttimestamp",
            "contentname eventstarttimestamp",
            "songname eventtimestamp",
        ),
        roles={
            "name": "songname",
            "artists": "artistname",
            "liked_at": "eventstarttimestamp",
            "played_ms": "playdurationmilliseconds",
        },
    ),
    Format(
        "itunes-xml",
        "iTunes and Music.app library",
        "XML or binary plist with Tracks",
        "library",
        "one person",
        scale=100,
    ),
    Format(
        "itunes-text",
        "iTunes playlist as text",
        "text with tabs: Name, Artist, Kind, My Rating, Location",
        "library",
        "one person",
        columns=("name artist kind bitrate", "名前 アーティスト 種類"),
        scale=100,
    ),
    Format(
        "deezer-export",
        "Deezer account export",
        "xlsx: sheet favoriteSong",
        "likes",
        "one person",
        columns=("songtitle isrc", "songtitle artist", "songtitle artists"),
        file=r"favoriteSong",
    ),
    Format(
        "deezer-dislikes",
        "Deezer account export, dislikes",
        "xlsx: sheet dislikedTracks",
        "dislikes",
        "one person",
        columns=("songtitle isrc", "songtitle artist", "songtitle artists"),
        file=r"dislikedTracks",
    ),
    Format(
        "deezer-plays",
        "Deezer account export, plays",
        "xlsx: sheet listeningHistory",
        "plays",
        "one person",
        columns=("songtitle listeningtime", "songtitle platformname"),
        roles={"liked_at": "date"},
    ),
    Format(
        "tidal-plays",
        "Tidal streaming history",
        "CSV: artist_name, track_title, entry_date",
        "plays",
        "one person",
        columns=("artistname tracktitle entrydate",),
        roles={"liked_at": "entrydate", "played_ms": "streamdurationms", "kind": "producttype"},
    ),
    Format(
        "lastfmstats",
        "lastfmstats.com",
        "CSV: Artist, Album, Track, Date#NAME; or JSON with scrobbles",
        "plays",
        "one person",
        columns=("artist album albumid track",),
        roles={"name": "track"},
    ),
    Format(
        "lastfm-loved",
        "Last.fm loved tracks",
        "CSV of lastfm.ghan.nl named lovedtracks-…, or without albums; JSON with lovedtracks",
        "likes",
        "one person",
        columns=("uts utctime artist track",),
        file="loved",
        without="album",
        roles={"name": "track", "track_id": "trackmbid", "liked_at": "uts"},
    ),
    Format(
        "lastfm-plays",
        "Last.fm plays",
        "CSV of lastfm.ghan.nl: uts, utc_time, artist, track; JSON or XML with recenttracks",
        "plays",
        "one person",
        columns=("uts utctime artist track",),
        roles={"name": "track", "track_id": "trackmbid", "liked_at": "uts"},
    ),
    Format(
        "lastfm-banned",
        "Last.fm banned tracks",
        "TSV named banned: unixtime, track, artist; JSON or XML with bannedtracks",
        "dislikes",
        "one person",
        columns=("unixtime track artist",),
        file="banned",
        roles={"name": "track", "track_id": "trackmbid", "liked_at": "unixtime"},
    ),
    Format(
        "lastfm-archive-loved",
        "Last.fm archive, loved tracks",
        "TSV named loved: unixtime, track, artist",
        "likes",
        "one person",
        columns=("unixtime track artist",),
        file="loved",
        roles={"name": "track", "track_id": "trackmbid", "liked_at": "unixtime"},
    ),
    Format(
        "lastfm-archive",
        "Last.fm archive, plays",
        "TSV: unixtime, track, artist",
        "plays",
        "one person",
        columns=("unixtime track artist",),
        roles={"name": "track", "track_id": "trackmbid", "liked_at": "unixtime"},
    ),
    Format(
        "lastfm-to-csv",
        "benjaminbenben/lastfm-to-csv",
        "CSV without a header: artist, album, title, 31 Jan 2021 23:36",
        "plays",
        "one person",
        cells=(_SOME, _ANY, _SOME, r"\d{1,2} \w{3,} \d{4},? \d\d:\d\d|"),
        separator=",",
        roles={"artists": "1", "name": "3", "liked_at": "4"},
    ),
    Format(
        "scrobbler-log",
        "Scrobbler log of players",
        "#AUDIOSCROBBLER, then text with tabs",
        "plays",
        "one person",
    ),
    Format(
        "listenbrainz-feedback",
        "ListenBrainz feedback",
        "feedback.jsonl, JSON with feedback, or the export's zip: score 1 and -1",
        "likes",
        "one person",
        columns=("recordingmsid score", "recordingmbid recordingmsid score"),
        roles={"track_id": "recordingmbid", "liked_at": "created"},
    ),
    Format(
        "listenbrainz-plays",
        "ListenBrainz listens",
        "JSON lines or a list: listened_at, track_metadata",
        "plays",
        "one person",
        columns=("listenedat trackmetadata",),
    ),
    Format("maloja", "Maloja export", "JSON: scrobbles with time and track", "plays", "one person"),
    Format(
        "panoscrobbler",
        "Pano Scrobbler",
        "JSON lines: timeMs, track, artist, event",
        "plays",
        "one person",
        columns=("timems track artist mediaplayerpackage",),
        roles={"name": "track", "liked_at": "timems"},
    ),
    Format(
        "shazam",
        "Shazam library",
        "CSV: TagTime, Title, Artist, TrackKey",
        "likes",
        "one person",
        columns=("tagtime title artist trackkey",),
        roles={"liked_at": "tagtime"},
    ),
    Format(
        "subsonic",
        "Navidrome and other Subsonic servers",
        "JSON: subsonic-response with starred2",
        "likes",
        "one person",
    ),
    Format(
        "jellyfin",
        "Jellyfin and Emby",
        "JSON: Items with UserData; favourites are likes",
        "likes",
        "one person",
    ),
    # --- one person's, from programs and transfer tools ---
    Format(
        "exportify",
        "Exportify",
        "CSV: Track URI, Track Name, Artist Name(s), Added At, in 15 languages",
        "likes",
        "one person",
    ),
    Format(
        "tunemymusic",
        "TuneMyMusic",
        "CSV: Track name, Artist name, Playlist name, Type; albums and artists are left out",
        "likes",
        "one person",
        columns=("trackname artistname playlistname type",),
    ),
    Format(
        "soundiiz",
        "Soundiiz",
        "CSV: title, artist, album, isrc",
        "likes",
        "one person",
        columns=("title artist album isrc",),
    ),
    Format(
        "beets",
        "beets",
        "CSV or JSON: title, artist, mb_trackid",
        "library",
        "one person",
        columns=("title artist mbtrackid",),
    ),
    Format("rhythmbox", "Rhythmbox", "rhythmdb.xml", "library", "one person", scale=5),
    Format("jspf", "JSPF playlist", "JSON: playlist with track", "likes", "one person"),
    Format("xspf", "XSPF playlist", "XML: playlist with trackList", "likes", "one person"),
    Format("m3u", "M3U playlist", "#EXTINF: Artist - Title, or links to songs", "likes", "one person"),
    Format(
        "links",
        "Lines of links",
        "a line, or a cell of a single column, for each link, URI or ISRC of a song",
        "likes",
        "one person",
    ),
    # --- data sets of many users ---
    Format("mpd", "Million Playlist slices", "JSON: playlists with pid and tracks", "likes", "its users"),
    Format(
        "hetrec",
        "HetRec Last.fm",
        "userID, artistID, weight; its items are artists",
        "plays",
        "its users",
        columns=("userid artistid weight",),
        roles={"track_id": "artistid"},
    ),
    Format(
        "lastfm1k",
        "Last.fm-1K",
        "text with tabs: user, time, artist id, artist, track id, title",
        "plays",
        "its users",
        cells=(
            r"user_\d+",
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
            r"[\w-]*",
            _ANY,
            r"[\w-]*",
            _ANY,
        ),
        separator="\t",
        literal=True,
        roles={
            "user_id": "1",
            "liked_at": "2",
            "artist_ids": "3",
            "artists": "4",
            "track_id": "5",
            "name": "6",
        },
    ),
    Format(
        "lastfm360k",
        "Last.fm-360K",
        "text with tabs: hash of a user, artist id, artist, plays; its items are artists",
        "plays",
        "its users",
        cells=(_HASH40, _UUID, _ANY, _NUMBER),
        separator="\t",
        literal=True,
        roles={"user_id": "1", "track_id": "2", "name": "3", "plays": "4"},
    ),
    Format(
        "lfm1b",
        "LFM-1b",
        "LEs.txt: user, artist, album, track, time",
        "plays",
        "its users",
        file=r"LEs?\b",
        cells=(_WHOLE, r"-?\d+", r"-?\d+", _WHOLE, _EPOCH),
        separator="\t",
        roles={"user_id": "1", "track_id": "4", "liked_at": "5"},
    ),
    Format(
        "movielens",
        "MovieLens",
        "user, item, rating, time, cut at :: or tabs, or ratings.csv",
        "likes",
        "its users",
        columns=("userid movieid rating",),
        cells=(_WHOLE, _WHOLE, r"[0-5](?:\.[05])?", _EPOCH),
        roles={"user_id": "1", "track_id": "2", "rating": "3", "liked_at": "4"},
        scale=5,
    ),
    Format(
        "kkbox",
        "KKBox",
        "msno, song_id, target: 1 is a like",
        "likes",
        "its users",
        columns=("msno songid target",),
    ),
    Format(
        "yambda",
        "Yambda events",
        "multi_event.parquet: uid, item_id, timestamp, event_type; the last event on a song counts",
        "likes",
        "its users",
        columns=("uid itemid timestamp eventtype",),
    ),
    Format(
        "yambda-dislikes",
        "Yambda dislikes",
        "dislikes.parquet: uid, item_id, timestamp",
        "dislikes",
        "its users",
        columns=("uid itemid timestamp isorganic",),
        file="dislikes",
    ),
    Format(
        "yambda-unlikes",
        "Yambda unlikes",
        "unlikes.parquet; alone they say nothing",
        "unlikes",
        "its users",
        columns=("uid itemid timestamp isorganic",),
        file="unlikes",
    ),
    Format(
        "yambda-undislikes",
        "Yambda undislikes",
        "undislikes.parquet; alone they say nothing",
        "undislikes",
        "its users",
        columns=("uid itemid timestamp isorganic",),
        file="undislikes",
    ),
    Format(
        "yambda-listens",
        "Yambda listens",
        "uid, item_id, played_ratio_pct without event_type",
        "plays",
        "its users",
        columns=("uid itemid playedratiopct",),
    ),
    Format(
        "yambda-likes",
        "Yambda likes",
        "likes.parquet: uid, item_id, timestamp",
        "likes",
        "its users",
        columns=("uid itemid timestamp isorganic",),
    ),
    Format("30music", "30Music", "lines of events or preferences with JSON (.idomaar)", "plays", "its users"),
    Format("seed", "The 2022 seed project", "user_like.json, id_map.json, id_map.csv", "likes", "its users"),
    Format(
        "adjacency",
        "Adjacency text",
        "lines of a user and their items, all of them ids",
        "likes",
        "its users",
    ),
    # --- any table that names its columns ---
    Format(
        "table",
        "Table of users and songs",
        "columns of users and of songs, by name or by option; any container",
        "likes",
        "its users",
    ),
    Format(
        "list",
        "List of songs",
        "artist and title, or ids and when they were added, without users",
        "likes",
        "one person",
    ),
    Format(
        "catalogue",
        "Catalogue of songs",
        "ids with names, or audio features, without users",
        "catalogue",
        "its users",
    ),
)


@dataclass(frozen=True)
class NoLikes:
    """A table that people have and that says nothing of what somebody likes: all its ``columns``, the
    ``file`` name if it takes that to know it, what it is, and what to give in its place."""

    columns: str
    what: str
    instead: str
    file: str = ""

    def fits(self, names: Collection[str], file_name: str) -> bool:
        named = not self.file or re.search(self.file, file_name, re.IGNORECASE)
        return bool(named) and set(self.columns.split()) <= set(names)


_LATER = (
    r"watch[ _-]?later|später ansehen|à regarder plus tard|ver más tarde|assistir mais tarde|guarda più tardi"
)
NO_LIKES: tuple[NoLikes, ...] = (
    NoLikes("videoid", "the list to watch later", "give Liked videos.csv", _LATER),
    NoLikes("commentid videoid", "a table of comments", "give Liked videos.csv"),
    NoLikes("playlistid playlisttitleoriginal", "the index of playlists", "give the file of a playlist"),
    NoLikes("albumuri albumname savedat", "a table of saved albums", "export a playlist or the liked songs"),
    NoLikes("artist name scrobbles rank", "a table of albums", "export lastfmstats-NAME.csv", "album"),
    NoLikes("id name url pictureurl", "a table of artists", "give user_artists.dat"),
    NoLikes("recordingmsid blurbcontent", "a list of pinned recordings", "give feedback.jsonl, or the zip"),
    NoLikes("name tracks scrobbles rank", "a table of artists", "export lastfmstats-NAME.csv"),
    NoLikes(
        "position trackname artistname streams", "a chart, which is nobody's list", "give a list of likes"
    ),
    NoLikes("rank trackname artistnames streams", "a chart, which is nobody's list", "give a list of likes"),
)

BY_NAME: dict[str, Format] = {one.name: one for one in FORMATS}

CONTAINERS = ("csv", "tsv", "xlsx", "parquet", "json", "ndjson")
"""Values of --format that name a container: the format is found by its columns."""

FORMAT_NAMES = ("auto", *CONTAINERS, *BY_NAME)
"""The values of --format. ``csv`` is delimited text of any separator, ``tsv`` of tabs."""

ENDINGS = {
    ".csv", ".tsv", ".txt", ".dat", ".inter", ".json", ".ndjson", ".jsonl", ".parquet", ".gz", ".bz2", ".xz",
    ".zst", ".xlsx", ".xml", ".xspf", ".jspf", ".m3u", ".m3u8", ".idomaar", ".log",
}  # fmt: skip
"""Files of a folder that are imported with it; of its zips, those of a person's data."""

SEED_FILES = ("user_like.json", "id_map.json", "id_map.csv")


def format_of(table: RawTable, columns: Columns, file_name: str) -> Format | None:
    """The format of a table with these columns; None where nothing says what its rows are."""
    for one in FORMATS:
        if (one.columns or one.cells) and one.fits(table, file_name):
            return one
    if not table.header and "user_id" not in columns:
        return None
    if "youtube" in columns.services and "user_id" not in columns:
        return BY_NAME["youtube-takeout"]
    if _is_exportify(table, columns):
        return BY_NAME["exportify"]
    if "user_id" in columns:
        return BY_NAME["table"]
    if _is_list(table, columns):
        return BY_NAME["list"]
    return BY_NAME["catalogue"] if "track_id" in columns or columns.services else None


def _is_exportify(table: RawTable, columns: Columns) -> bool:
    if "user_id" in columns or not {"track_id", "name", "artists", "liked_at"} <= columns.roles.keys():
        return False
    ids = table.sample_of(columns.roles["track_id"])
    return letters(columns.roles["track_id"]) in {"trackuri", "spotifyuri", "spotifyid"} or any(
        cell.startswith("spotify:track:") for cell in ids
    )


def _is_list(table: RawTable, columns: Columns) -> bool:
    """Whether a table without users is one person's: it says when songs were added, what somebody thinks of
    them, or how often they were played, knows them by links, or by their names alone. A catalogue has ids,
    and no such thing."""
    if columns.opinions or "rating" in columns or columns.kinds is not None or "plays" in columns:
        return True
    if {"name", "artists"} <= columns.roles.keys() and "track_id" not in columns:
        return True
    features = set(AUDIO_FEATURES) & columns.roles.keys()
    if "track_id" in columns and not features:
        cells = table.sample_of(columns.roles["track_id"])
        if cells and all(":" in cell for cell in cells):
            return True
    return "liked_at" in columns and ("track_id" in columns or bool(columns.services))


def unused(table: RawTable, columns: Columns) -> Sequence[str]:
    """The columns of a table that decide nothing."""
    used = set(columns.used())
    names = [name for name in table.names if name not in used and not name.startswith("(blank ")]
    return names if table.header else []
