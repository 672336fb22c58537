"""The formats that can be imported, as one declared table.

Here: FORMATS, what each format is recognised by, what its rows mean, and whose they are; the values of
--format. Not here: finding the format of a table (`find_format`), cutting files into tables (`raw_tables`,
`delimited_text`), recognising documents (`documents`), or what columns mean by their names (`columns`).

The order decides: the first format that fits is taken, and the last three fit any table that names its
columns. docs/formats.md shows this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Means = Literal["likes", "dislikes", "unlikes", "undislikes", "plays", "library", "catalogue"]
"""What a row says unless one of its columns says more. If nothing in a ``library`` is rated or loved, all its
songs are likes. A ``catalogue`` describes songs."""

Whose = Literal["one person", "its users"]
"""Whose the rows are: one person's, whom --user-id names, or those of the users in a column."""


@dataclass(frozen=True)
class Format:
    """A format of tables or documents; `find_format.fits` says when a table has it.

    ``title`` and ``seen_by`` are for people. A table with a header is recognised by ``columns``: each entry
    is a set of names, by their letters. One without a header is cut at ``separator`` (or tabs) and recognised
    by ``cells``, a pattern for each column. ``file`` is a pattern that the name of the file or sheet must
    also match, unless the table lacks the column ``without``. ``roles`` maps roles to columns, by letters or,
    without a header, by position from "1"; the role ``pair`` holds "Artist - Title". ``literal``: quotation
    marks are ordinary characters. ``scale`` is the highest rating. Of these, documents have only ``scale``.
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
        "taste-profile",
        "Echo Nest Taste Profile",
        "train_triplets.txt: hash of a user, song, plays",
        "plays",
        "its users",
        cells=(_HASH40, r"SO[A-Z0-9]{16}", _WHOLE),
        separator="\t",
        roles={"user_id": "1", "track_id": "2", "plays": "3"},
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
        "musicbrainz-canonical",
        "MusicBrainz canonical data",
        "musicbrainz-canonical-dump-*.tar.zst, of which what the lake knows is read",
        "catalogue",
        "its users",
    ),
    Format(
        "acousticbrainz",
        "AcousticBrainz",
        "acousticbrainz-*.tar.zst: documents, or the tables rhythm and tonal, of which what the lake knows is"
        " read",
        "catalogue",
        "its users",
    ),
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


BY_NAME: dict[str, Format] = {one.name: one for one in FORMATS}

CONTAINERS = ("csv", "tsv", "xlsx", "parquet", "json", "ndjson")
"""Values of --format that name a container: the format is found by its columns."""

FORMAT_NAMES = ("auto", *CONTAINERS, *BY_NAME)
"""The values of --format. ``csv`` is delimited text of any separator, ``tsv`` of tabs."""

ENDINGS = {
    ".csv", ".tsv", ".txt", ".dat", ".inter", ".json", ".ndjson", ".jsonl", ".parquet", ".gz", ".bz2", ".xz",
    ".zst", ".xlsx", ".xml", ".xspf", ".jspf", ".m3u", ".m3u8", ".idomaar", ".log",
}  # fmt: skip
"""Endings of the files that importing a folder reads, besides zips of a person's data."""

SEED_FILES = ("user_like.json", "id_map.json", "id_map.csv")
